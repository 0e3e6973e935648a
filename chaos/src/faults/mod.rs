//! What can be done to a cluster. Each fault is a small file that strikes and heals; what they share is here.
//!
//! A new fault: a file that implements [`Fault`], and a line in [`KINDS`].

mod clean_stop;
mod clock;
mod disk;
mod half_open;
mod kill;
mod partition;
mod pause;
mod power;
mod replace;
mod slow_net;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::rngs::StdRng;

use crate::Fallible;
use crate::cluster::{Cluster, Death, Role};
use crate::disk::{Rot, pick};
use crate::eyes::{Eyes, Seen};
use crate::weather::Weather;

/// What a fault did.
#[derive(Debug)]
pub struct Struck {
    /// To whom.
    pub nodes: Vec<u32>,
    /// In words.
    pub detail: String,
}

impl Struck {
    /// What was done, to whom.
    pub fn new(nodes: Vec<u32>, detail: impl Into<String>) -> Self {
        Self { nodes, detail: detail.into() }
    }
}

/// A fault: made anew for every strike.
pub trait Fault: Send {
    /// Does it. `None` when there is nobody now to do it to.
    ///
    /// # Errors
    /// When this program or the system below fails, which ends the run.
    fn strike(&mut self, field: &mut Field, rng: &mut StdRng) -> Fallible<Option<Struck>>;

    /// Takes it back; what it broke can then recover.
    ///
    /// # Errors
    /// As [`Self::strike`].
    fn heal(&mut self, field: &mut Field, rng: &mut StdRng) -> Fallible<()>;
}

/// A kind of fault.
pub struct Kind {
    /// One of few words, as recorded and as named on the command line.
    pub name: &'static str,
    /// How often it comes beside the others.
    pub weight: u32,
    /// How long it lasts, in milliseconds: the least and the most.
    pub lasts_ms: (u64, u64),
    /// Whether it needs disks that can fail and forget.
    pub lossy: bool,
    /// Whether it happens only when named on the command line.
    pub on_demand: bool,
    /// One of it.
    pub make: fn() -> Box<dyn Fault>,
}

const fn kind(name: &'static str, weight: u32, lasts_ms: (u64, u64), make: fn() -> Box<dyn Fault>) -> Kind {
    Kind { name, weight, lasts_ms, lossy: false, on_demand: false, make }
}

const fn lossy(name: &'static str, weight: u32, lasts_ms: (u64, u64), make: fn() -> Box<dyn Fault>) -> Kind {
    Kind { lossy: true, ..kind(name, weight, lasts_ms, make) }
}

/// All kinds.
pub const KINDS: &[Kind] = &[
    kind("kill", 14, (10, 6_000), || Box::new(kill::Kill::new(kill::Prey::Anyone))),
    kind("kill-leader", 14, (10, 6_000), || Box::new(kill::Kill::new(kill::Prey::Leader))),
    kind("kill-controller", 6, (10, 6_000), || Box::new(kill::Kill::new(kill::Prey::ActiveController))),
    kind("clean-stop", 5, (1_000, 8_000), || Box::new(clean_stop::CleanStop::default())),
    kind("pause", 8, (500, 12_000), || Box::new(pause::Pause::default())),
    kind("partition", 6, (2_000, 12_000), || Box::new(partition::Partition::new(partition::Cut::Split))),
    kind("isolate-leader", 5, (2_000, 12_000), || {
        Box::new(partition::Partition::new(partition::Cut::Leader))
    }),
    kind("one-way", 8, (2_000, 12_000), || Box::new(partition::Partition::new(partition::Cut::OneWay))),
    kind("bridge", 3, (2_000, 10_000), || Box::new(partition::Partition::new(partition::Cut::Bridge))),
    kind("half-open", 4, (3_000, 10_000), || Box::new(half_open::HalfOpen::default())),
    kind("clock", 5, (1_000, 15_000), || Box::new(clock::Step::default())),
    kind("slow-network", 4, (3_000, 12_000), || Box::new(slow_net::SlowNet::default())),
    lossy("power-cut", 8, (10, 5_000), || Box::new(power::PowerCut::new(power::Reach::One))),
    lossy("power-cut-all", 2, (10, 3_000), || Box::new(power::PowerCut::new(power::Reach::All))),
    lossy("disk-error", 5, (500, 5_000), || Box::new(disk::Sick::new(disk::Sickness::Errors))),
    lossy("disk-full", 3, (2_000, 8_000), || Box::new(disk::Sick::new(disk::Sickness::Full))),
    lossy("disk-slow", 5, (2_000, 10_000), || Box::new(disk::Sick::new(disk::Sickness::Slow))),
    Kind {
        on_demand: true,
        ..lossy("disk-hang", 5, (2_000, 15_000), || Box::new(disk::Sick::new(disk::Sickness::Hangs)))
    },
    kind("wipe-broker", 3, (10, 4_000), || Box::new(replace::WipeBroker::default())),
    kind("replace-controller", 2, (10, 3_000), || Box::new(replace::ReplaceController::default())),
    Kind { on_demand: true, ..lossy("bit-flip", 4, (10, 2_000), || Box::new(disk::BitFlip::default())) },
];

/// Something that is gone for ever until it was made again: of each role only one at a time is within the promise.
#[derive(Clone, Debug)]
pub enum Wound {
    /// A broker's replicas are gone or damaged; seen to be missing from in-sync replicas or not.
    Broker {
        /// Whose.
        node: u32,
        /// Whether its absence has been seen since: before that, metadata may be older than the wound.
        seen: bool,
    },
    /// A bit of a broker's disk turned over. Until it is noticed nobody knows, and nothing else of a broker may be lost.
    Rot {
        /// Whose.
        node: u32,
        /// Which.
        rot: Rot,
    },
    /// A controller's vote is gone.
    Controller {
        /// Whose.
        node: u32,
        /// Whether it votes again, as another.
        replaced: Arc<AtomicBool>,
    },
}

/// What faults work on.
pub struct Field {
    /// The nodes.
    pub cluster: Cluster,
    /// What can be seen of them.
    pub eyes: Eyes,
    /// Which nodes' processes a fault has for itself.
    claimed: BTreeMap<u32, &'static str>,
    /// Nodes that may end by themselves, and why.
    pub dying: BTreeMap<u32, String>,
    /// What has yet to be made whole.
    pub wounds: Vec<Wound>,
    /// Nodes behind a narrow line.
    pub slow_links: BTreeSet<u32>,
    /// Nodes whose wall clock is wrong.
    pub stepped_clocks: BTreeSet<u32>,
    /// Set when the run ends, whatever came of it.
    pub over: Arc<AtomicBool>,
    /// Nodes that ended by themselves as they should have.
    pub rightful_deaths: Vec<String>,
    /// Nodes that ended by themselves for no reason that this program knows.
    pub wrongful_deaths: Vec<String>,
}

/// So many nodes of a role may be claimed at once: some must be left to hold against.
const CLAIMED_MAX: [(Role, usize); 2] = [(Role::Controller, 1), (Role::Broker, 2)];

impl Field {
    /// A field without any fault.
    pub fn new(cluster: Cluster, eyes: Eyes) -> Self {
        Self {
            cluster,
            eyes,
            claimed: BTreeMap::new(),
            dying: BTreeMap::new(),
            wounds: Vec::new(),
            slow_links: BTreeSet::new(),
            stepped_clocks: BTreeSet::new(),
            over: Arc::new(AtomicBool::new(false)),
            rightful_deaths: Vec::new(),
            wrongful_deaths: Vec::new(),
        }
    }

    /// Notes processes that ended by themselves.
    pub fn notice(&mut self, deaths: Vec<Death>) {
        for Death { node, status, words } in deaths {
            match self.dying.get(&node) {
                Some(why) => self.rightful_deaths.push(format!("node {node} ended ({status}): {why}")),
                None => {
                    self.wrongful_deaths.push(format!("node {node} ended by itself ({status}):\n{words}"))
                }
            }
        }
    }

    /// Whether something of this role is gone for ever and was not made again yet.
    pub fn is_wounded(&self, role: Role) -> bool {
        self.wounds.iter().any(|wound| match wound {
            Wound::Broker { .. } | Wound::Rot { .. } => role == Role::Broker,
            Wound::Controller { .. } => role == Role::Controller,
        })
    }

    /// Who is away and what is cut.
    pub fn weather(&self) -> Weather {
        let idle = self.cluster.nodes().iter().map(|node| node.id).filter(|id| !self.cluster.works(*id));
        let away = idle.chain(self.claimed.keys().copied()).chain(self.slow_links.iter().copied());
        Weather { away: away.collect(), cuts: self.cluster.net.cuts().collect() }
    }

    /// Nodes that run, are nobody's, and are few enough to be taken away, of a role or of any.
    pub fn free(&self, role: Option<Role>) -> Vec<u32> {
        let claimed =
            |role: Role| self.claimed.keys().filter(|id| self.cluster.node(**id).role == role).count();
        let room = |role: Role| CLAIMED_MAX.iter().any(|(of, most)| *of == role && claimed(role) < *most);
        let nodes = self.cluster.nodes().iter().filter(|node| role.is_none_or(|role| node.role == role));
        nodes
            .filter(|node| {
                room(node.role) && !self.claimed.contains_key(&node.id) && self.cluster.works(node.id)
            })
            .map(|node| node.id)
            .collect()
    }

    /// One of the free nodes, claimed.
    pub fn claim(&mut self, role: Option<Role>, why: &'static str, rng: &mut StdRng) -> Option<u32> {
        let node = *pick(&self.free(role), rng)?;
        self.claimed.insert(node, why);
        Some(node)
    }

    /// A certain node, claimed if it is free.
    pub fn claim_node(&mut self, node: u32, why: &'static str) -> Option<u32> {
        if !self.free(None).contains(&node) {
            return None;
        }
        self.claimed.insert(node, why);
        Some(node)
    }

    /// Gives a node back.
    pub fn release(&mut self, node: u32) {
        self.claimed.remove(&node);
    }

    /// A broker that leads something, as far as can be seen, with what it leads.
    pub fn leader(&self, rng: &mut StdRng) -> Option<(u32, Vec<Seen>)> {
        let leaders: Vec<(u32, Vec<Seen>)> = self.eyes.leaderships().into_iter().collect();
        pick(&leaders, rng).cloned()
    }

    /// Looks whether wounds have healed.
    pub fn look_after_wounds(&mut self) {
        if self.wounds.is_empty() {
            return;
        }
        let partitions = self.eyes.partitions();
        let quorum = self.eyes.quorum();
        self.wounds.retain_mut(|wound| match wound {
            Wound::Broker { node, seen } => {
                let Ok(partitions) = &partitions else { return true };
                *seen |= partitions.iter().any(|p| p.replicas.contains(node) && !p.isr.contains(node));
                !(*seen && partitions.iter().all(Seen::is_whole))
            }
            Wound::Rot { node, rot } => {
                let there = self.cluster.node(*node).disk.has(rot).unwrap_or(true);
                there || !partitions.as_ref().is_ok_and(|all| all.iter().all(Seen::is_whole))
            }
            Wound::Controller { replaced, .. } => {
                let caught_up = quorum.as_ref().is_ok_and(|quorum| {
                    quorum.voters.iter().all(|voter| voter.lag.is_some_and(|lag| lag < LAG_MAX))
                });
                !(replaced.load(Ordering::SeqCst) && caught_up)
            }
        });
    }
}

/// A voter that lacks fewer entries than this has what matters.
const LAG_MAX: u64 = 50;
