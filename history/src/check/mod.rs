//! What must hold of a history, checked in one pass over it and one over what was read: time grows with the records,
//! memory with some tens of bytes a record.
//!
//! Knows no cluster: a history is all it gets. The classes follow Jepsen's Kafka checker; what is promised is in
//! [`Kind`]. Topics are told apart by id, so a recreated topic is another one.

mod explain;
mod figures;
mod liveness;
mod log;
mod partition;
mod settle;
mod verdict;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use vltava_model::TopicId;

pub use figures::{Figures, Histogram, Second};
pub use liveness::{Gap, Liveness, Recovery};
pub use verdict::{Counts, FaultSpan, Judgement, Kind, Verdict, Violation, Violations};

use crate::event::{
    Acks, Action, Admin, At, Begin, Client, ClientRef, Event, FaultBegins, FaultRef, Outcome, PartitionRef,
    Poll, Produce, Reading, Role, Seen,
};
use crate::format::{ReadError, Reader};
use partition::PartitionState;

/// How strictly to check.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// For how long after the end of a fault unavailability is excused.
    pub settle: Duration,
    /// A longer time without an ack, while no fault is at work, is a violation.
    pub unavailable: Option<Duration>,
    /// How many violations of each kind are told in full.
    pub told: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { settle: Duration::from_secs(10), unavailable: None, told: 20 }
    }
}

/// Checks a file.
///
/// # Errors
/// When it can't be read. A torn end is no error: the verdict is then inconclusive at best.
pub fn check_file(path: &Path, options: Options) -> Result<Verdict, ReadError> {
    let mut checker = Checker::new(options);
    for event in Reader::open(path)? {
        checker.observe(&event?);
    }
    let mut verdict = checker.finish();
    if verdict.violations.total() > 0 {
        // A second pass finds the operations that the violations name by number.
        let mut explain = explain::Explain::new(&verdict.violations);
        for event in Reader::open(path)? {
            explain.observe(&event?);
        }
        explain.finish(&mut verdict.violations);
    }
    Ok(verdict)
}

/// Checks events in memory.
pub fn check_events(events: &[Event], options: Options) -> Verdict {
    let mut checker = Checker::new(options);
    events.iter().for_each(|event| checker.observe(event));
    let mut verdict = checker.finish();
    let mut explain = explain::Explain::new(&verdict.violations);
    events.iter().for_each(|event| explain.observe(event));
    explain.finish(&mut verdict.violations);
    verdict
}

/// Takes a history event by event.
pub struct Checker {
    options: Options,
    begin: Option<Begin>,
    last: At,
    ended: Option<At>,
    clients: HashMap<ClientRef, Client>,
    partitions: BTreeMap<PartitionRef, PartitionState>,
    deleted: HashSet<TopicId>,
    counts: Counts,
    violations: Violations,
    watch: liveness::Watch,
    figures: Figures,
    faults: Vec<FaultSpan>,
    open_faults: HashMap<FaultRef, usize>,
}

impl Checker {
    /// Has seen nothing yet.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            begin: None,
            last: At::default(),
            ended: None,
            clients: HashMap::new(),
            partitions: BTreeMap::new(),
            deleted: HashSet::new(),
            counts: Counts::default(),
            violations: Violations::new(options.told),
            watch: liveness::Watch::default(),
            figures: Figures::default(),
            faults: Vec::new(),
            open_faults: HashMap::new(),
        }
    }

    /// Takes the next event.
    pub fn observe(&mut self, event: &Event) {
        match event {
            Event::Begin(begin) => self.begin = Some(begin.clone()),
            Event::Client(client) => {
                self.clients.insert(client.client, client.clone());
            }
            Event::Partition(declared) => {
                self.partitions.insert(declared.partition, PartitionState::new(declared.clone()));
            }
            Event::Produce(produce) => self.produced(produce),
            Event::Poll(poll) => self.polled(poll),
            Event::Assign(assign) => {
                self.at(assign.at);
                match self.partitions.get_mut(&assign.partition) {
                    Some(partition) => partition.assigned(assign),
                    None => self.malformed(format!("partition {} is not declared", assign.partition)),
                }
            }
            Event::Admin(admin) => self.administered(admin),
            Event::FaultBegins(fault) => self.fault_begins(fault),
            Event::FaultEnds(fault) => {
                self.at(fault.at);
                match self.open_faults.remove(&fault.fault) {
                    Some(open) => self.faults[open].end = Some(fault.at),
                    None => self.malformed(format!("fault {} ends and never began", fault.fault)),
                }
            }
            Event::End { at } => {
                self.at(*at);
                self.ended = Some(*at);
            }
        }
        self.counts.events += 1;
    }

    fn at(&mut self, at: At) {
        self.last = self.last.max(at);
    }

    /// The number by which violations name the event that is being observed.
    fn event(&self) -> u32 {
        u32::try_from(self.counts.events).unwrap_or(u32::MAX)
    }

    fn malformed(&mut self, text: String) {
        let event = self.counts.events;
        self.violations.add(Kind::Malformed, 1, || (String::new(), text, vec![event]));
    }

    fn produced(&mut self, produce: &Produce) {
        self.at(produce.completed);
        let event = self.event();
        if !self.clients.contains_key(&produce.producer) {
            self.malformed(format!("producer {} is not declared", produce.producer));
        }
        let Some(partition) = self.partitions.get_mut(&produce.partition) else {
            return self.malformed(format!("partition {} is not declared", produce.partition));
        };
        partition.produced(produce, event);
        self.watch.produced(produce);
        let count = u64::from(produce.count);
        let total = match (&produce.outcome, produce.acks) {
            (Outcome::Failed(_), _) => &mut self.counts.failed,
            (Outcome::Unknown(_), _) => &mut self.counts.unknown,
            (Outcome::Ok(_), Acks::All) => &mut self.counts.acked,
            (Outcome::Ok(_), Acks::Leader) => &mut self.counts.acked_weakly,
            (Outcome::Ok(_), Acks::None) => &mut self.counts.unanswered,
        };
        *total += count;
        let second = self.figures.second(produce.completed.get());
        if !matches!(produce.outcome, Outcome::Ok(_)) {
            second.unacked += count;
        } else if produce.acks != Acks::None {
            second.acked += count;
            second.latency.add(produce.completed.since(produce.invoked), produce.count);
        }
    }

    fn polled(&mut self, poll: &Poll) {
        self.at(poll.completed);
        let event = self.event();
        let Some(partition) = self.partitions.get_mut(&poll.partition) else {
            return self.malformed(format!("partition {} is not declared", poll.partition));
        };
        partition.polled(poll, event, &mut self.counts, &mut self.violations);
        let read: u64 = poll
            .seen
            .iter()
            .map(|seen| match seen {
                Seen::Records { count, .. } => u64::from(*count),
                Seen::Alien { .. } => 1,
            })
            .sum();
        self.counts.polls += 1;
        match poll.reading {
            Reading::Along => {
                self.counts.read_along += read;
                self.figures.second(poll.completed.get()).read += read;
            }
            Reading::Final => self.counts.read_finally += read,
        }
    }

    fn administered(&mut self, admin: &Admin) {
        self.at(admin.completed);
        self.counts.admin += 1;
        if matches!(admin.outcome, Outcome::Failed(_)) {
            return;
        }
        match &admin.action {
            Action::DeleteTopic { topic } => {
                self.deleted.insert(*topic);
            }
            Action::DeleteRecords { partition, before } => match self.partitions.get_mut(partition) {
                Some(partition) => partition.trimmed_below(*before),
                None => self.malformed(format!("partition {partition} is not declared")),
            },
            Action::CreateTopic { .. } | Action::Other(_) => {}
        }
    }

    fn fault_begins(&mut self, fault: &FaultBegins) {
        self.at(fault.at);
        self.counts.faults += 1;
        self.watch.fault(fault);
        self.open_faults.insert(fault.fault, self.faults.len());
        self.faults.push(FaultSpan {
            kind: fault.kind.clone(),
            nodes: fault.nodes.iter().map(|node| node.get()).collect(),
            detail: fault.detail.clone(),
            begin: fault.at,
            end: None,
        });
    }

    /// Compares what was told with what was read. The operations of violations are known by number only.
    pub fn finish(mut self) -> Verdict {
        let idempotent = |client: ClientRef| {
            self.clients.get(&client).is_some_and(|client| client.role == Role::IdempotentProducer)
        };
        for partition in self.partitions.values_mut() {
            let deleted = self.deleted.contains(&partition.declared.topic);
            let surroundings = settle::Surroundings { deleted, idempotent: &idempotent };
            settle::settle(partition, &surroundings, &mut self.counts, &mut self.violations);
        }
        let gone = |partition: PartitionRef| {
            let state = self.partitions.get(&partition);
            state.is_some_and(|state| self.deleted.contains(&state.declared.topic))
        };
        let mut liveness = self.watch.finish(&self.faults, self.options.settle, gone);
        liveness.names =
            self.partitions.iter().map(|(partition, state)| (*partition, state.name())).collect();
        if let Some(limit) = self.options.unavailable {
            for gap in liveness.gaps.iter().filter(|gap| gap.healthy > limit) {
                self.violations.add(Kind::Unavailable, 1, || {
                    let place = liveness.names.get(&gap.partition).cloned().unwrap_or_default();
                    let text = format!(
                        "no ack from {} to {}, for {:.1?} of that without any fault; allowed are {limit:.1?}",
                        gap.from, gap.to, gap.healthy
                    );
                    (place, text, Vec::new())
                });
            }
        }
        Verdict {
            begin: self.begin,
            last: self.last,
            ended: self.ended,
            counts: self.counts,
            violations: self.violations,
            liveness,
            figures: self.figures,
            faults: self.faults,
        }
    }
}
