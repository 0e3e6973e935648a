//! Processes that end: killed, without power, without a word, or in order.

use rand::RngExt;

use super::{Fault, Field, Struck};
use crate::host::HostId;
use crate::machine::{End, Excuse};

/// How a process ends.
#[derive(Clone, Copy, Debug)]
pub enum How {
    /// SIGKILL.
    Kill,
    /// Its machine loses its power.
    PowerCut,
    /// Its machine loses its power and comes back at once, but what the others believe to be connections to it are dead for
    /// ever, and nothing tells them.
    Vanish,
}

/// One process ends, and comes back.
pub struct Ends {
    how: How,
}

impl Ends {
    /// One that ends so.
    pub fn new(how: How) -> Self {
        Self { how }
    }
}

impl Fault for Ends {
    fn strike(&mut self, field: &mut Field<'_>) -> Option<Struck> {
        let host = field.anybody()?;
        let mode = field.crash_mode();
        let (end, rest) = match self.how {
            How::Kill => (End::Kill, field.length),
            How::PowerCut => (End::PowerCut(mode), field.length),
            How::Vanish => (End::Vanish(mode), field.random.random_range(1..500)),
        };
        field.world.end(host, end, Some(rest));
        Some(Struck::one(host, format!("{end:?}, back after {rest} ms")))
    }

    fn heal(&mut self, _: &mut Field<'_>) {}
}

/// All machines of the cluster lose their power at once.
pub struct Blackout;

impl Fault for Blackout {
    fn strike(&mut self, field: &mut Field<'_>) -> Option<Struck> {
        let hosts = field.world.cluster();
        for host in hosts.clone() {
            let mode = field.crash_mode();
            let rest = field.length + field.random.random_range(0..2000);
            field.world.end(host, End::PowerCut(mode), Some(rest));
        }
        Some(Struck { hosts, detail: String::new() })
    }

    fn heal(&mut self, _: &mut Field<'_>) {}
}

/// SIGTERM; and SIGKILL when the process has not ended when the fault is over.
#[derive(Default)]
pub struct CleanStop {
    /// The process, as machine and start.
    told: Option<(HostId, u32)>,
}

impl Fault for CleanStop {
    fn strike(&mut self, field: &mut Field<'_>) -> Option<Struck> {
        let host = field.victim(|machine| !machine.excuses().contains(&Excuse::Told))?;
        let machine = field.world.machine(host);
        machine.excuse(Excuse::Told);
        machine.ask_to_end();
        self.told = Some((host, machine.starts));
        Some(Struck::one(host, ""))
    }

    fn heal(&mut self, field: &mut Field<'_>) {
        let Some((host, start)) = self.told else { return };
        let machine = field.world.machine(host);
        machine.excuse_no_more(Excuse::Told);
        if machine.starts == start && machine.is_up() {
            let rest = field.random.random_range(1..3000);
            field.world.end(host, End::Kill, Some(rest));
        }
    }
}
