//! Disks that are slow, refuse, can not be read or are full, while processes run on them.

use std::io::ErrorKind;

use rand::RngExt;
use vltava_storage::{Fault as Refusal, FaultPoint};

use super::wounds::{Harm, Side};
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
    let sick = [Excuse::DiskErrors, Excuse::CachedErrors, Excuse::DiskFull];
    !machine.disk.ails() && !excuses.iter().any(|excuse| sick.contains(excuse))
}

/// Writes, syncs or changes of names fail, once, some times or always. Then either the machine is started anew, and what
/// could not be synced is gone; or only the process is, as a service manager does, on a page cache that still shows it: until
/// some other fault cuts the power. Syncs of directories fail in the first case only: a file system that can't write
/// its own journal takes no more writes before it is mounted again.
#[derive(Default)]
pub struct Errors {
    struck: Option<(HostId, Excuse)>,
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
        let reboots = points.contains(&FaultPoint::SyncDir) || field.random.random_bool(0.3);
        let excuse = if reboots { Excuse::DiskErrors } else { Excuse::CachedErrors };
        let times = [1, field.random.random_range(2..6), u64::MAX][field.random.random_range(0..3)];
        let after = field.random.random_range(0..20);
        let refusal =
            |at: &FaultPoint| Refusal { at: *at, path: String::new(), after, times, error: ErrorKind::Other };
        let faults = points.iter().map(refusal).collect();
        let machine = field.world.machine(host);
        machine.excuse(excuse);
        machine.disk.set_ailments(Ailments { faults, room: None });
        self.struck = Some((host, excuse));
        Some(Struck::one(host, format!("{points:?} fail {times} times after {after}, {excuse:?}")))
    }

    fn heal(&mut self, field: &mut Field<'_>) {
        let Some((host, excuse)) = self.struck else { return };
        let mode = field.crash_mode();
        let rest = field.random.random_range(1..2000);
        let machine = field.world.machine(host);
        machine.excuse_no_more(excuse);
        machine.disk.set_ailments(Ailments::default());
        let end = if excuse == Excuse::DiskErrors { End::PowerCut(mode) } else { End::Kill };
        field.world.end(host, end, Some(rest));
    }
}

/// Reads fail with EIO, once, some times or always: of segments, or of anything.
///
/// A replica that can not be read is given up and copied from a peer, so of all brokers' disks just one may be so, and of all
/// controllers'.
#[derive(Default)]
pub struct Unreadable {
    host: Option<HostId>,
}

impl Fault for Unreadable {
    fn strike(&mut self, field: &mut Field<'_>) -> Option<Struck> {
        let side = if field.random.random_bool(0.7) { Side::Brokers } else { Side::Controllers };
        // What else is wrong with a disk would be forgotten when it can be read again.
        if !field.wounds.is_free(side) {
            return None;
        }
        let may = field.wounds.harmable(field.world, side);
        let host = field.victim(|machine| {
            // Without the directory's id nobody could replace a controller's that it gives up.
            let is_known = side == Side::Brokers || machine.directory().is_some();
            may.contains(&machine.id) && is_well(machine) && is_known
        })?;
        let path = if field.random.random_bool(0.5) { ".log" } else { "" };
        let times = [1, field.random.random_range(2..6), u64::MAX][field.random.random_range(0..3)];
        let after = field.random.random_range(0..20);
        let refusal =
            Refusal { at: FaultPoint::Read, path: path.into(), after, times, error: ErrorKind::Other };
        let machine = field.world.machine(host);
        machine.excuse(Excuse::Unreadable);
        machine.disk.set_ailments(Ailments { faults: vec![refusal], room: None });
        field.wounds.note(field.world, host, Harm::Unreadable);
        self.host = Some(host);
        Some(Struck::one(host, format!("{times} times after {after}, of files like '*{path}*'")))
    }

    fn heal(&mut self, field: &mut Field<'_>) {
        let Some(host) = self.host else { return };
        let machine = field.world.machine(host);
        machine.excuse_no_more(Excuse::Unreadable);
        machine.disk.set_ailments(Ailments::default());
        field.wounds.can_be_read(host);
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
