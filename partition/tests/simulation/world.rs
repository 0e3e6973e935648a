//! The simulated world: nodes, network, controller and clients on one queue of happenings, all drawn from one seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use vltava_model::{DirectoryId, ErrorCode, NodeId};
use vltava_partition::{Ability, Durability, Event, IsrOutcome, ProposalId, Settings, Standing, Time, Token};

use crate::controller::{AlterIsr, Controller};
use crate::disk::Record;
use crate::faults::Faults;
use crate::network::{Message, Network, StreamId};
use crate::node::Node;
use crate::oracle::{Checked, Oracle};

/// Microseconds of simulated time.
pub type Micros = u64;

pub const MS: Micros = 1_000;

/// More than this happens in no run: far above what the busiest seeds need.
const HAPPENINGS_MAX: u64 = 1_000_000;

/// For how long a request of a leader may wait for a controller; a leader relies on it.
pub const PROPOSAL_LIFETIME: Micros = 480 * MS;

/// Names a process: what is meant for an earlier one of the same node is dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Process {
    pub node: NodeId,
    pub life: u64,
}

/// Something that will happen.
#[derive(Clone, Debug)]
pub enum Happening {
    /// A process starts.
    Start(NodeId),
    /// It hears of the metadata that are newer than what it knows.
    Metadata(Process),
    /// It has caught up.
    Unfence(Process),
    /// Its session times out, whether it lives or not.
    Fence(NodeId),
    /// A sync is done.
    Synced { process: Process, ops: usize },
    /// The machine wanted to be woken.
    Tick(Process),
    /// Its disk is full, or has room again.
    Room { process: Process, ability: Ability },
    /// It ends, after its disk failed.
    End(Process),
    /// A message arrives.
    Message { stream: StreamId, message: Message },
    /// The follower's end of a stream notices that it is gone.
    StreamLost { process: Process, event: Event },
    /// The leader's end does.
    FollowerGone { process: Process, follower: NodeId, subscription: Token },
    /// A proposal arrives at a controller, perhaps at one that was deposed without knowing.
    AlterIsr { process: Process, proposal: ProposalId, request: AlterIsr, sent: Micros },
    /// Its answer arrives.
    IsrAnswered { process: Process, proposal: ProposalId, outcome: IsrOutcome },
    /// A client sends something.
    Client,
    /// The leadership moves, if it can.
    Prefer(NodeId),
    /// A disk is slow.
    Slow(NodeId),
    /// No disk and no link is slow any more.
    Hasten,
    /// Something breaks.
    Fault,
}

/// What differs from seed to seed but not within a run.
#[derive(Clone, Debug)]
pub struct Setup {
    pub replicas: Vec<NodeId>,
    pub settings: Settings,
}

/// See the module.
pub struct World {
    pub rng: StdRng,
    pub now: Micros,
    pub setup: Setup,
    pub nodes: BTreeMap<NodeId, Node>,
    pub controller: Controller,
    pub network: Network,
    pub oracle: Oracle,
    pub faults: Faults,
    pub clients_send: bool,
    pub numbers: u64,
    /// A digest of all that happened.
    pub trace: u64,
    pub happened: u64,
    /// Whether all that happens is printed.
    pub prints: bool,
    queue: BinaryHeap<Reverse<(Micros, u64)>>,
    waiting: BTreeMap<u64, Happening>,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let count = if rng.random_bool(0.7) { 3 } else { rng.random_range(2..=5) };
        let replicas: Vec<_> = (1..=count).map(NodeId::new).collect();
        let min_insync = if rng.random_bool(0.7) { 2 } else { rng.random_range(1..=3) };
        let durability = if rng.random_bool(0.75) { Durability::Synced } else { Durability::Relaxed };
        let stall_time_max = *[60, 150, 300].choose(&mut rng).expect("three");
        let settings = Settings {
            stall_time_max: Duration::from_millis(stall_time_max),
            proposal_timeout: Duration::from_millis(500),
            max_waiting_acks: if rng.random_bool(0.1) { 3 } else { 1_000 },
            ..Settings::new(min_insync, Duration::from_millis(300), durability)
        };
        let mut world = Self {
            now: 0,
            nodes: replicas.iter().map(|node| (*node, Node::new(*node))).collect(),
            controller: Controller::new(&replicas, min_insync as usize),
            network: Network::default(),
            oracle: Oracle::default(),
            faults: Faults::draw(&mut rng),
            setup: Setup { replicas: replicas.clone(), settings },
            rng,
            clients_send: true,
            numbers: 0,
            trace: 0,
            happened: 0,
            prints: std::env::var_os("VLTAVA_SIM_TRACE").is_some(),
            queue: BinaryHeap::new(),
            waiting: BTreeMap::new(),
        };
        for node in replicas {
            world.later(5 * MS, Happening::Start(node));
        }
        world.later(50 * MS, Happening::Client);
        world.later(100 * MS, Happening::Fault);
        world
    }

    pub fn time(&self) -> Time {
        Time::new(Duration::from_micros(self.now))
    }

    /// A number that was never given out before.
    pub fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub fn directory(&mut self) -> DirectoryId {
        DirectoryId::new(self.number().into())
    }

    /// Something between nothing and `most`, more often little than much.
    pub fn delay(&mut self, most: Micros) -> Micros {
        let most = self.rng.random_range(1..=most);
        self.rng.random_range(0..=most)
    }

    /// Lets something happen within the next `within`.
    pub fn later(&mut self, within: Micros, happening: Happening) {
        let at = self.now + self.delay(within);
        self.at(at, happening);
    }

    /// Lets something happen at a point of time.
    pub fn at(&mut self, at: Micros, happening: Happening) {
        let number = self.number();
        self.queue.push(Reverse((at.max(self.now), number)));
        self.waiting.insert(number, happening);
    }

    /// Lets everything happen that happens before `end`.
    pub fn run(&mut self, end: Micros) -> Checked {
        while let Some(Reverse((at, number))) = self.queue.peek().copied() {
            if at >= end {
                break;
            }
            self.queue.pop();
            self.now = at;
            self.happened += 1;
            if self.happened > HAPPENINGS_MAX {
                return Err(format!(
                    "{HAPPENINGS_MAX} happenings, and no end: something goes round in circles"
                ));
            }
            let happening = self.waiting.remove(&number).expect("every place in the queue has its happening");
            self.digest(&happening);
            self.happen(happening)?;
        }
        self.now = self.now.max(end);
        Ok(())
    }

    fn digest(&mut self, happening: &Happening) {
        if self.prints {
            eprintln!("{:>9} {happening:?}", self.now);
        }
        let word = self.now ^ (std::mem::size_of_val(happening) as u64) ^ self.numbers.rotate_left(32);
        self.trace = (self.trace ^ word).wrapping_mul(0x0100_0000_01b3);
    }

    /// Whether a process is still the one that runs on its node.
    pub fn lives(&self, process: Process) -> bool {
        self.nodes[&process.node].process() == Some(process)
    }

    fn happen(&mut self, happening: Happening) -> Checked {
        match happening {
            Happening::Start(node) => self.start(node),
            Happening::Fault => self.fault(),
            Happening::Client => self.client(),
            Happening::Fence(node) => {
                if self.controller.fence(node) {
                    self.metadata_changed()?;
                    // A process that lives asks to be let in again.
                    if let Some(process) = self.nodes[&node].process() {
                        self.later(200 * MS, Happening::Unfence(process));
                    }
                }
                Ok(())
            }
            Happening::Prefer(node) => {
                self.controller.prefer(node);
                self.metadata_changed()
            }
            Happening::Slow(node) => {
                self.faults.slow_disk = Some(node).filter(|_| self.faults.are_on);
                Ok(())
            }
            Happening::Hasten => {
                self.faults.slow_disk = None;
                self.network.slow.clear();
                Ok(())
            }
            Happening::Message { stream, message } => self.message(stream, message),
            Happening::AlterIsr { process, proposal, request, sent } => {
                self.alter_isr(process, proposal, request, sent)
            }
            Happening::Metadata(process)
            | Happening::Unfence(process)
            | Happening::Synced { process, .. }
            | Happening::Tick(process)
            | Happening::Room { process, .. }
            | Happening::End(process)
            | Happening::StreamLost { process, .. }
            | Happening::FollowerGone { process, .. }
            | Happening::IsrAnswered { process, .. }
                if !self.lives(process) =>
            {
                Ok(())
            }
            Happening::End(process) => {
                self.end(process);
                Ok(())
            }
            Happening::Room { process, ability } => {
                self.nodes.get_mut(&process.node).expect("known").ability = ability;
                self.step(process.node, Event::Ability(ability), Vec::new())
            }
            Happening::Metadata(process) => self.metadata(process),
            Happening::Unfence(process) => self.unfence(process),
            Happening::Synced { process, ops } => self.synced(process, ops),
            Happening::Tick(process) => {
                self.nodes.get_mut(&process.node).expect("known").tick_at = None;
                self.step(process.node, Event::Tick, Vec::new())
            }
            Happening::StreamLost { process, event } => self.step(process.node, event, Vec::new()),
            Happening::FollowerGone { process, follower, subscription } => {
                self.nodes.get_mut(&process.node).expect("known").subscribers.remove(&subscription);
                self.step(process.node, Event::FollowerGone { follower, subscription }, Vec::new())
            }
            Happening::IsrAnswered { process, proposal, outcome } => {
                self.step(process.node, Event::IsrAnswered { proposal, outcome }, Vec::new())
            }
        }
    }

    fn alter_isr(&mut self, from: Process, proposal: ProposalId, request: AlterIsr, sent: Micros) -> Checked {
        let stale = self.faults.are_on && self.rng.random_bool(self.faults.stale_controller);
        let outcome = if stale {
            let version = self.controller.version();
            let known = self.rng.random_range(version.saturating_sub(3)..=version);
            self.controller.alter_isr_stale(&request, known)
        } else {
            self.controller.alter_isr(&request)
        };
        self.metadata_changed()?;
        let is_unknown = outcome == IsrOutcome::Failed(ErrorCode::NotController);
        let answer = Happening::IsrAnswered { process: from, proposal, outcome };
        let lost = self.faults.are_on && self.rng.random_bool(self.faults.loss);
        if self.faults.are_on && (lost || is_unknown) && self.rng.random_bool(0.5) {
            // It waits somewhere else, and is executed again; never after it was refused.
            let at = self.now + self.delay((sent + PROPOSAL_LIFETIME).saturating_sub(self.now).max(1));
            self.at(at, Happening::AlterIsr { process: from, proposal, request, sent });
        }
        if lost {
            return Ok(());
        }
        if self.faults.are_on && self.rng.random_bool(self.faults.duplication) {
            self.later(400 * MS, answer.clone());
        }
        self.later(60 * MS, answer);
        Ok(())
    }

    /// After each change of the metadata: tells all processes, some later than others, and looks whether it was a good one.
    pub fn metadata_changed(&mut self) -> Checked {
        if self.prints {
            eprintln!("          metadata {}: {:?}", self.controller.version(), self.controller.now());
        }
        let processes: Vec<_> = self.nodes.values().filter_map(Node::process).collect();
        for process in processes {
            let slow = self.faults.are_on && self.rng.random_bool(0.1);
            self.later(if slow { 800 * MS } else { 20 * MS }, Happening::Metadata(process));
        }
        self.check_members()
    }

    /// Everybody who may be elected has everything that is committed.
    pub fn check_members(&self) -> Checked {
        let meta = self.controller.now();
        let disks = self.nodes.iter().map(|(node, known)| (*node, &known.disk)).collect();
        let members: Vec<_> = meta.state.isr.iter().chain(&meta.state.elr).copied().collect();
        self.oracle.members(&members, self.setup.settings.durability, &disks)
    }

    /// The leader counts for no member of the ISR what it does not have.
    pub fn check_counted(&self, id: NodeId) -> Checked {
        let (state, leader) = (&self.controller.now().state, &self.nodes[&id]);
        let Some(machine) = &leader.machine else { return Ok(()) };
        let is_newest =
            matches!(machine.standing(), Standing::Leading { epoch, .. } if epoch == state.leader_epoch);
        if !is_newest {
            return Ok(());
        }
        let known = machine.followers().into_iter().filter(|known| state.isr.contains(&known.node));
        // Of a lost disk nobody knows yet.
        for known in known.filter(|known| !self.oracle.wiped.contains(&known.node)) {
            let disk = &self.nodes[&known.node].disk;
            let (counted, log) = match self.setup.settings.durability {
                Durability::Synced => (known.durable_end, &disk.stable),
                Durability::Relaxed => (known.log_end, &disk.written),
            };
            if let Some(counted) = counted {
                self.oracle.counted(known.node, counted, &leader.disk.written, log)?;
            }
        }
        Ok(())
    }

    /// The records that a leader's message carries.
    pub fn records(&self, node: NodeId, from: vltava_model::Offset, to: vltava_model::Offset) -> Vec<Record> {
        self.nodes[&node].disk.written.range(from, to)
    }
}
