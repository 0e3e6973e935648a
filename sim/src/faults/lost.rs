//! Disks whose contents are gone: empty ones in their place, or what they held some time ago.

use rand::RngExt;
use vltava_model::NodeId;

use super::wounds::{self, Harm, Side};
use super::{Fault, Field, Struck};
use crate::host::HostId;
use crate::machine::{End, Role};

/// A broker that runs and whose disk may be harmed now.
fn harmable(field: &mut Field<'_>) -> Option<HostId> {
    let may = field.wounds.harmable(field.world, Side::Brokers);
    field.victim(|machine| may.contains(&machine.id))
}

/// A broker's disk is replaced by an empty one.
pub struct WipeBroker;

impl Fault for WipeBroker {
    fn strike(&mut self, field: &mut Field<'_>) -> Option<Struck> {
        let host = harmable(field)?;
        wounds::replace(field, host);
        Some(Struck::one(host, ""))
    }

    fn heal(&mut self, _: &mut Field<'_>) {}
}

/// A controller's disk is replaced by an empty one, and the operator gives it another vote.
pub struct ReplaceController;

impl Fault for ReplaceController {
    fn strike(&mut self, field: &mut Field<'_>) -> Option<Struck> {
        if !field.wounds.is_free(Side::Controllers) {
            return None;
        }
        let host = field.victim(|machine| {
            Side::of(machine) == Some(Side::Controllers) && machine.directory().is_some()
        })?;
        wounds::replace(field, host);
        Some(Struck::one(host, ""))
    }

    fn heal(&mut self, _: &mut Field<'_>) {}
}

/// A broker that is down comes back with what its disk held some time ago.
///
/// Nobody can tell such a disk from the newest: so it is put in place only where the broker is fenced and no partition counts
/// on it any more, as operators have to do it.
#[derive(Default)]
pub struct RollBack {
    /// The machine, its node, and how often it had been started.
    down: Option<(HostId, NodeId, u32)>,
}

impl Fault for RollBack {
    fn strike(&mut self, field: &mut Field<'_>) -> Option<Struck> {
        if !field.wounds.is_free(Side::Brokers) {
            return None;
        }
        let host = harmable(field)?;
        let machine = field.world.machine(host);
        let (Role::Broker(node), starts) = (machine.role, machine.starts) else { return None };
        if !field.wounds.snapshots.contains_key(&host) {
            // What it refused to sync is in no snapshot.
            let snapshot = machine.disk.snapshot(field.random);
            field.wounds.snapshots.insert(host, snapshot);
            return None;
        }
        field.world.end(host, End::Kill, None);
        field.wounds.note(field.world, host, Harm::ToCome);
        self.down = Some((host, NodeId::new(node), starts));
        Some(Struck::one(host, ""))
    }

    fn heal(&mut self, field: &mut Field<'_>) {
        let Some((host, node, starts)) = self.down.take() else { return };
        let machine = field.world.machine(host);
        let was_down = !machine.is_up() && machine.starts == starts;
        // Another disk may be in its place meanwhile.
        if !field.wounds.is_to_come(host) {
            return;
        }
        let rest = field.random.random_range(1..3000);
        if !was_down || !wounds::nobody_counts_on(field, node) {
            field.wounds.forget(field.world, host);
            return field.world.machine(host).come_back();
        }
        if let Some(snapshot) = field.wounds.snapshots.remove(&host) {
            field.world.replace_disk(host, snapshot, rest);
            field.wounds.note(field.world, host, Harm::Lost { start: starts });
        }
    }
}
