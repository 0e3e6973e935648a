//! Disks that refuse, fill up, slow down, hang or rot.

use std::path::Path;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

use super::{Fallible, Fault, Field, Struck, Wound};
use crate::cluster::Role;
use crate::disk::{Hang, Loss, Slow};

/// What ails a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sickness {
    /// Writes, syncs or both fail with EIO. Afterwards the node is started as after a reboot: what failed to be synced is not
    /// there any more.
    Errors,
    /// There is no room.
    Full,
    /// It is slow.
    Slow,
    /// Syncs, or syncs and writes, do not return.
    Hangs,
}

/// See the module.
pub struct Sick {
    sickness: Sickness,
    node: Option<u32>,
}

impl Sick {
    /// One that brings this.
    pub fn new(sickness: Sickness) -> Self {
        Self { sickness, node: None }
    }
}

fn errors(field: &mut Field, node: u32, rng: &mut StdRng) -> String {
    let (syncs, writes, words) = match rng.random_range(0..3) {
        0 => (true, false, "syncs fail"),
        1 => (false, true, "writes fail"),
        _ => (true, true, "writes and syncs fail"),
    };
    field.dying.insert(node, format!("its disk failed: {words}"));
    field.cluster.node(node).disk.ail(|ailments| {
        ailments.fail_syncs = syncs;
        ailments.fail_writes = writes;
    });
    words.to_owned()
}

fn full(field: &mut Field, node: u32, rng: &mut StdRng) -> String {
    let left = rng.random_range(0..2 << 20);
    field.dying.insert(node, "its disk was full".to_owned());
    let disk = &field.cluster.node(node).disk;
    let room = disk.used() + left;
    disk.ail(|ailments| ailments.room = Some(room));
    format!("{} KiB left", left / 1024)
}

fn slow(field: &Field, node: u32, rng: &mut StdRng) -> String {
    let slow = Slow {
        sync: Duration::from_millis(rng.random_range(20..1_500)),
        bytes_per_second: rng.random_range(200_000..4_000_000),
    };
    field.cluster.node(node).disk.ail(|ailments| ailments.slow = Some(slow));
    format!("{} ms a sync, {} bytes/s", slow.sync.as_millis(), slow.bytes_per_second)
}

fn hangs(field: &Field, node: u32, rng: &mut StdRng) -> String {
    let (hang, words) = match rng.random_bool(0.5) {
        true => (Hang::Syncs, "syncs hang"),
        false => (Hang::Writes, "writes and syncs hang"),
    };
    field.cluster.node(node).disk.ail(|ailments| ailments.hang = Some(hang));
    words.to_owned()
}

impl Fault for Sick {
    fn strike(&mut self, field: &mut Field, rng: &mut StdRng) -> Fallible<Option<Struck>> {
        let Some(node) = field.claim(None, "disk", rng) else { return Ok(None) };
        self.node = Some(node);
        let detail = match self.sickness {
            Sickness::Errors => errors(field, node, rng),
            Sickness::Full => full(field, node, rng),
            Sickness::Slow => slow(field, node, rng),
            Sickness::Hangs => hangs(field, node, rng),
        };
        Ok(Some(Struck::new(vec![node], detail)))
    }

    fn heal(&mut self, field: &mut Field, rng: &mut StdRng) -> Fallible<()> {
        let Some(node) = self.node.take() else { return Ok(()) };
        field.cluster.node(node).disk.ail(|ailments| *ailments = Default::default());
        if self.sickness == Sickness::Errors {
            field.cluster.kill(node)?;
            let loss = if rng.random_bool(0.5) { Loss::Everything } else { Loss::Torn };
            field.cluster.node_mut(node).disk.cut(loss, rng)?;
        }
        // It may have ended just now, unseen yet.
        let ended = field.cluster.deaths()?;
        field.notice(ended);
        field.dying.remove(&node);
        field.cluster.start(node)?;
        field.release(node);
        Ok(())
    }
}

/// A bit of a segment that is no longer written turns over while its node is down.
#[derive(Default)]
pub struct BitFlip {
    node: Option<u32>,
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log") && path.starts_with("log")
}

impl Fault for BitFlip {
    fn strike(&mut self, field: &mut Field, rng: &mut StdRng) -> Fallible<Option<Struck>> {
        if field.is_wounded(Role::Broker) {
            return Ok(None);
        }
        let Some(node) = field.claim(Some(Role::Broker), "bit flip", rng) else { return Ok(None) };
        self.node = Some(node);
        field.cluster.kill(node)?;
        let flipped = field.cluster.node_mut(node).disk.flip_bit(is_segment, rng)?;
        let detail = match flipped {
            Some(rot) => {
                let detail = format!("bit {} of byte {} of {}", rot.bit, rot.at, rot.path.display());
                field.wounds.push(Wound::Rot { node, rot });
                detail
            }
            None => "nothing to flip".to_owned(),
        };
        Ok(Some(Struck::new(vec![node], detail)))
    }

    fn heal(&mut self, field: &mut Field, _: &mut StdRng) -> Fallible<()> {
        if let Some(node) = self.node.take() {
            field.cluster.start(node)?;
            field.release(node);
        }
        Ok(())
    }
}
