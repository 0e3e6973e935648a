//! What can be done to the cluster. Each fault is a small thing that strikes and heals; what they share is here.
//!
//! A new fault: a file that implements [`Fault`], and a line in [`KINDS`]. When they strike is not known here.

mod clock;
mod connections;
mod disk;
mod end;
mod leaves;
mod links;
mod lost;
mod operator;
mod pause;
mod quorum;
mod rot;
mod wounds;

use rand::RngExt;
use vltava_storage::CrashMode;

use crate::clock::Millis;
use crate::host::HostId;
use crate::machine::{Machine, Role};
use crate::random::Random;
use crate::world::World;

pub use operator::Operator;
pub use wounds::{Wounds, tend};

/// What a fault did.
#[derive(Debug)]
pub struct Struck {
    /// To whom.
    pub hosts: Vec<HostId>,
    /// In words.
    pub detail: String,
}

impl Struck {
    fn one(host: HostId, detail: impl Into<String>) -> Self {
        Self { hosts: vec![host], detail: detail.into() }
    }
}

/// A fault: made anew for every strike.
pub trait Fault {
    /// Does it. `None` when there is nobody now to do it to.
    fn strike(&mut self, field: &mut Field<'_>) -> Option<Struck>;

    /// Takes it back, when its time is over; what it broke can then recover.
    fn heal(&mut self, field: &mut Field<'_>);
}

/// A kind of fault.
pub struct Kind {
    /// As recorded.
    pub name: &'static str,
    /// One of it.
    pub make: fn() -> Box<dyn Fault>,
}

const fn kind(name: &'static str, make: fn() -> Box<dyn Fault>) -> Kind {
    Kind { name, make }
}

/// The fault that must change nothing.
pub const CLOCK_STEP: &str = "clock step";

/// The fault that nothing undoes.
pub const BROKER_LEAVES: &str = "broker leaves";

/// All kinds: at most 32, since a run's habits name them by bits.
pub const KINDS: &[Kind] = &[
    kind("kill", || Box::new(end::Ends::new(end::How::Kill))),
    kind("power cut", || Box::new(end::Ends::new(end::How::PowerCut))),
    kind("blackout", || Box::new(end::Blackout)),
    kind("clean stop", || Box::new(end::CleanStop::default())),
    kind("half-open connections", || Box::new(end::Ends::new(end::How::Vanish))),
    kind("pause", || Box::new(pause::Pause)),
    kind("isolation", || Box::new(links::Harm::new(links::Cut::Both))),
    kind("one-way partition", || Box::new(links::Harm::new(links::Cut::OneWay))),
    kind("slow network", || Box::new(links::Harm::new(links::Cut::Slow))),
    kind("reset", || Box::new(connections::Reset)),
    kind("stuck connections", || Box::new(connections::Stick::default())),
    kind(CLOCK_STEP, || Box::new(clock::Step)),
    kind("slow disk", || Box::new(disk::Slow::default())),
    kind("disk errors", || Box::new(disk::Errors::default())),
    kind("full disk", || Box::new(disk::Full::default())),
    kind("broker wiped", || Box::new(lost::WipeBroker)),
    kind("broker rolled back", || Box::new(lost::RollBack::default())),
    kind("controller replaced", || Box::new(lost::ReplaceController)),
    kind("broker's bit flips", || Box::new(rot::Flip::new(wounds::Side::Brokers))),
    kind("controller's bit flips", || Box::new(rot::Flip::new(wounds::Side::Controllers))),
    kind("vote taken", || Box::new(quorum::TakeVote::default())),
    kind("read errors", || Box::new(disk::Unreadable::default())),
    kind(BROKER_LEAVES, || Box::new(leaves::Leave)),
];

/// What faults work on.
pub struct Field<'a> {
    /// The machines.
    pub world: &'a mut World,
    /// What faults draw from.
    pub random: &'a mut Random,
    /// Disks that hold less than they did.
    pub wounds: &'a mut Wounds,
    /// Who changes the quorum.
    pub operator: &'a Operator,
    /// How long this fault lasts.
    pub length: Millis,
    /// Whom it finds more often than others, if anybody.
    pub aim: Vec<HostId>,
}

impl Field<'_> {
    /// One of the cluster's machines that run, of those that are wanted.
    fn victim(&mut self, wanted: impl Fn(&Machine) -> bool) -> Option<HostId> {
        let up = |machine: &&Machine| machine.is_up() && machine.role != Role::Client;
        let up = self.world.machines.iter().filter(up).filter(|machine| wanted(machine));
        let up: Vec<HostId> = up.map(|machine| machine.id).collect();
        let aimed: Vec<HostId> = up.iter().copied().filter(|id| self.aim.contains(id)).collect();
        let from = if !aimed.is_empty() && self.random.random_ratio(4, 5) { aimed } else { up };
        if from.is_empty() { None } else { Some(from[self.random.random_range(0..from.len())]) }
    }

    fn anybody(&mut self) -> Option<HostId> {
        self.victim(|_| true)
    }

    fn crash_mode(&mut self) -> CrashMode {
        [CrashMode::LoseUnsynced, CrashMode::Reorder, CrashMode::Tear][self.random.random_range(0..3)]
    }

    fn others(&self, host: HostId) -> Vec<HostId> {
        self.world.everybody().into_iter().filter(|other| *other != host).collect()
    }
}
