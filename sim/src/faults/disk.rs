//! Disks that are slow, refuse or are full, while processes run on them.

use std::io::ErrorKind;

use rand::RngExt;
use vltava_storage::{Fault as Refusal, FaultPoint};

use super::{Fault, Field, Struck};
use crate::disk::{Ailments, Pace};
use crate::host::HostId;
use crate::machine::{End, Excuse, Machine};

/// Syncs take long.
#[derive(Default)]
pub struct Slow {
    host: Option<HostId>,
}

impl Fault for Slow {
    fn strike(&mut self, field: &mut Field<'_>) -> Option<Struck> {
        let host = field.anybody()?;
        let slow_max = field.random.random_range(20..3000);
        field.world.machine(host).disk.set_pace(Pace { slow_permille: 900, slow_max });
        self.host = Some(host);
        Some(Struck::one(host, format!("up to {slow_max} ms")))
    }

    fn heal(&mut self, field: &mut Field<'_>) {
        if let Some(host) = self.host {
            let pace = field.world.pace;
            field.world.machine(host).disk.set_pace(pace);
        }
    }
}

/// Nothing ails its disk so far.
fn is_well(machine: &Machine) -> bool {
    let excuses = machine.excuses();
    !excuses.contains(&Excuse::DiskErrors) && !excuses.contains(&Excuse::DiskFull)
}

/// Writes, syncs or changes of names fail, once, some times or always. What could not be synced is gone with the process:
/// the machine is started anew, too.
#[derive(Default)]
pub struct Errors {
    host: Option<HostId>,
}

impl Fault for Errors {
    fn strike(&mut self, field: &mut Field<'_>) -> Option<Struck> {
        let host = field.victim(is_well)?;
        let points: &[FaultPoint] = match field.random.random_range(0..4) {
            0 => &[FaultPoint::SyncData],
            1 => &[FaultPoint::Write],
            2 => &[FaultPoint::SyncDir, FaultPoint::Name],
            _ => &[FaultPoint::SyncData, FaultPoint::SyncDir, FaultPoint::Write, FaultPoint::Name],
        };
        let times = [1, field.random.random_range(2..6), u64::MAX][field.random.random_range(0..3)];
        let after = field.random.random_range(0..20);
        let refusal =
            |at: &FaultPoint| Refusal { at: *at, path: String::new(), after, times, error: ErrorKind::Other };
        let faults = points.iter().map(refusal).collect();
        let machine = field.world.machine(host);
        machine.excuse(Excuse::DiskErrors);
        machine.disk.set_ailments(Ailments { faults, room: None });
        self.host = Some(host);
        Some(Struck::one(host, format!("{points:?} fail {times} times after {after}")))
    }

    fn heal(&mut self, field: &mut Field<'_>) {
        let Some(host) = self.host else { return };
        let mode = field.crash_mode();
        let rest = field.random.random_range(1..2000);
        let machine = field.world.machine(host);
        machine.excuse_no_more(Excuse::DiskErrors);
        machine.disk.set_ailments(Ailments::default());
        field.world.end(host, End::PowerCut(mode), Some(rest));
    }
}

/// There is no more room than a little; later there is again.
#[derive(Default)]
pub struct Full {
    host: Option<HostId>,
}

impl Fault for Full {
    fn strike(&mut self, field: &mut Field<'_>) -> Option<Struck> {
        let host = field.victim(is_well)?;
        let left_max = [1 << 10, 16 << 10, 256 << 10][field.random.random_range(0..3)];
        let left = field.random.random_range(0..left_max);
        let machine = field.world.machine(host);
        machine.excuse(Excuse::DiskFull);
        let room = Some(machine.disk.used() + left);
        machine.disk.set_ailments(Ailments { faults: Vec::new(), room });
        self.host = Some(host);
        Some(Struck::one(host, format!("{left} bytes left")))
    }

    fn heal(&mut self, field: &mut Field<'_>) {
        let Some(host) = self.host else { return };
        let machine = field.world.machine(host);
        machine.excuse_no_more(Excuse::DiskFull);
        machine.disk.set_ailments(Ailments::default());
    }
}
