//! Disks that are gone for ever: a broker comes back with nothing, a controller as another voter.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;

use super::{Fallible, Fault, Field, Struck, Wound};
use crate::cluster::Role;
use crate::eyes::Eyes;

/// A broker's disk is replaced by an empty one.
#[derive(Default)]
pub struct WipeBroker {
    node: Option<u32>,
}

impl Fault for WipeBroker {
    fn strike(&mut self, field: &mut Field, rng: &mut StdRng) -> Fallible<Option<Struck>> {
        if field.is_wounded(Role::Broker) {
            return Ok(None);
        }
        let Some(node) = field.claim(Some(Role::Broker), "wipe", rng) else { return Ok(None) };
        self.node = Some(node);
        field.cluster.kill(node)?;
        let lost = field.cluster.node(node).disk.used();
        field.cluster.node_mut(node).disk.wipe()?;
        field.wounds.push(Wound::Broker { node, seen: false });
        Ok(Some(Struck::new(vec![node], format!("{} KiB gone", lost / 1024))))
    }

    fn heal(&mut self, field: &mut Field, _: &mut StdRng) -> Fallible<()> {
        if let Some(node) = self.node.take() {
            field.cluster.start(node)?;
            field.release(node);
        }
        Ok(())
    }
}

/// A controller's disk is replaced; an operator takes the old vote away and gives it a new one.
#[derive(Default)]
pub struct ReplaceController {
    node: Option<(u32, Vec<u8>)>,
}

/// How often the operator tries.
const PATIENCE: Duration = Duration::from_millis(700);

impl Fault for ReplaceController {
    fn strike(&mut self, field: &mut Field, rng: &mut StdRng) -> Fallible<Option<Struck>> {
        let Ok(quorum) = field.eyes.quorum() else { return Ok(None) };
        if field.is_wounded(Role::Controller)
            || quorum.voters.len() != field.cluster.ids(Role::Controller).len()
        {
            return Ok(None);
        }
        let Some(node) = field.claim(Some(Role::Controller), "replace", rng) else { return Ok(None) };
        let Some(voter) = quorum.voters.iter().find(|voter| voter.id == node) else {
            field.release(node);
            return Ok(None);
        };
        self.node = Some((node, voter.directory_id.to_vec()));
        field.cluster.kill(node)?;
        field.cluster.node_mut(node).disk.wipe()?;
        field.wounds.push(Wound::Controller { node, replaced: Arc::new(AtomicBool::new(false)) });
        let active = if quorum.leader_id == Some(node) { "it was active" } else { "" };
        Ok(Some(Struck::new(vec![node], active)))
    }

    fn heal(&mut self, field: &mut Field, _: &mut StdRng) -> Fallible<()> {
        let Some((node, old)) = self.node.take() else { return Ok(()) };
        field.cluster.start(node)?;
        field.release(node);
        let wounds = field.wounds.iter();
        let mut replaced = wounds.filter_map(|wound| match wound {
            Wound::Controller { node: of, replaced } if *of == node => Some(replaced.clone()),
            _ => None,
        });
        let Some(replaced) = replaced.next_back() else { return Ok(()) };
        let address = field.cluster.net.addresses(node).controller.1;
        let (eyes, over) = (field.eyes.clone(), field.over.clone());
        std::thread::spawn(move || {
            while !over.load(Ordering::SeqCst) && !replaced.load(Ordering::SeqCst) {
                match give_vote(&eyes, node, &old, &address) {
                    Ok(done) => replaced.store(done, Ordering::SeqCst),
                    // Between two leaders nothing can be decided: try again.
                    Err(_) => std::thread::sleep(PATIENCE),
                }
            }
        });
        Ok(())
    }
}

/// The next step of what `vltava quorum remove` and `vltava quorum add` do; whether that was the last.
fn give_vote(eyes: &Eyes, node: u32, old: &[u8], address: &str) -> Result<bool, String> {
    let quorum = eyes.quorum()?;
    let voter = quorum.voters.iter().find(|voter| voter.id == node);
    match voter {
        Some(voter) if voter.directory_id == old => eyes.remove_voter(node, old).map(|()| false),
        Some(_) => Ok(true),
        None => eyes.add_voter(node, address).map(|()| false),
    }
}
