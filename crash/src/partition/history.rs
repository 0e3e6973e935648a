//! What one partition's log went through, and which logs a restart may find after a crash.
//!
//! A list of the states that it should have had, each with when it was begun, done and acknowledged, counted in changes of
//! the disk. Knows no files.

use std::fmt;
use std::sync::{Arc, Mutex};

use vltava_model::TopicPartition;
use vltava_model::batch::Batch;

use crate::count::Outcome;

/// Not yet.
pub const NEVER: usize = usize::MAX;

/// What a log holds.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Content {
    /// The batches, the one that holds the start among them.
    pub batches: Vec<Batch>,
    /// Where the log begins.
    pub start: u64,
    /// Where it ends when all batches are cut off.
    pub floor: u64,
}

impl Content {
    /// An empty log that begins at an offset.
    pub fn empty_at(offset: u64) -> Self {
        Self { batches: Vec::new(), start: offset, floor: offset }
    }

    /// Where it ends.
    pub fn end(&self) -> u64 {
        self.batches.last().map_or(self.floor, |last| last.header().end_offset().get()).max(self.start)
    }

    /// What is left when it is cut.
    pub fn cut(&self, to: u64) -> Self {
        if to < self.start {
            return Self::empty_at(to);
        }
        let mut left = self.clone();
        left.batches.retain(|batch| batch.header().end_offset().get() <= to);
        let end = left.batches.last().map_or(self.floor, |last| last.header().end_offset().get());
        if end < self.start {
            // The start lies within a batch that goes.
            return Self::empty_at(self.start);
        }
        left
    }

    /// What is left when it begins later.
    pub fn from(&self, start: u64) -> Self {
        let mut left = self.clone();
        left.start = start;
        left.batches.retain(|batch| batch.header().end_offset().get() > start);
        left.floor = left.batches.first().map_or(self.end(), |first| first.header().base_offset.get());
        left
    }

    fn above(&self, start: u64) -> impl Iterator<Item = &Batch> {
        self.batches.iter().filter(move |batch| batch.header().end_offset().get() > start)
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end())?;
        let of = |batch: &Batch| batch.header().leader_epoch.map_or(0, |epoch| epoch.get());
        let run = |run: &[Batch]| format!("epoch {} from {}", of(&run[0]), run[0].header().base_offset);
        let runs: Vec<_> = self.batches.chunk_by(|a, b| of(a) == of(b)).map(run).collect();
        write!(f, " [{}]", runs.join(", "))
    }
}

/// How a state followed on the one before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// More came behind, durable when it is acknowledged.
    Grew,
    /// Something went, durably when the call returned.
    Shrank,
}

struct Step {
    content: Content,
    change: Change,
    issued: usize,
    done: usize,
}

/// See the module.
pub struct History {
    /// Whose it is.
    pub partition: TopicPartition,
    steps: Vec<Step>,
    /// Acknowledgements: when, and of how many steps.
    acks: Arc<Mutex<Vec<(usize, usize)>>>,
    /// When its deletion was begun and done.
    pub deleted: Option<(usize, usize)>,
}

/// Acknowledges all steps so far of one history.
#[derive(Clone)]
pub struct Ack {
    acks: Arc<Mutex<Vec<(usize, usize)>>>,
    steps: usize,
}

impl Ack {
    /// They are on stable storage after so many changes of the disk.
    pub fn give(&self, operations: usize) {
        self.acks.lock().expect("nobody panics with it").push((operations, self.steps));
    }
}

impl History {
    /// That of a log that a process found, after so many changes of the disk.
    pub fn new(partition: TopicPartition, found: Content, operations: usize) -> Self {
        let first = Step { content: found, change: Change::Shrank, issued: operations, done: operations };
        let acks = Arc::new(Mutex::new(vec![(operations, 1)]));
        Self { partition, steps: vec![first], acks, deleted: None }
    }

    /// What the log should hold.
    pub fn now(&self) -> &Content {
        &self.steps[self.steps.len() - 1].content
    }

    /// When it began.
    pub fn began(&self) -> usize {
        self.steps[0].issued
    }

    /// A change begins.
    pub fn begin(&mut self, content: Content, change: Change, operations: usize) {
        self.steps.push(Step { content, change, issued: operations, done: NEVER });
    }

    /// The change that was begun last is done.
    pub fn done(&mut self, operations: usize) {
        let last = self.steps.len() - 1;
        self.steps[last].done = operations;
        if self.steps[last].change == Change::Shrank {
            // What was begun before was waited for.
            let before = &mut self.steps[..last];
            before.iter_mut().filter(|step| step.done == NEVER).for_each(|step| step.done = operations);
        }
    }

    /// What will acknowledge all that was done so far.
    pub fn ack(&self) -> Ack {
        Ack { acks: self.acks.clone(), steps: self.steps.len() }
    }

    /// Whether it is to be there after a crash behind so many changes of the disk; `None` when either will do.
    pub fn is_there(&self, operations: usize) -> Option<bool> {
        match self.deleted {
            Some((_, done)) if done <= operations => Some(false),
            Some((issued, _)) if issued <= operations => None,
            _ => Some(true),
        }
    }

    /// What is to be made of a log found after a crash behind so many changes of the disk.
    pub fn judge(&self, operations: usize, found: &Content) -> Outcome {
        let last = |is: &dyn Fn(&Step) -> bool| self.steps.iter().rposition(is).unwrap_or(0);
        let acks = self.acks.lock().expect("nobody panics with it");
        let acked = acks.iter().filter(|(when, _)| *when <= operations).map(|(_, steps)| steps - 1).max();
        let promised = acked.unwrap_or(0);
        let done = last(&|step| step.done <= operations);
        let shrunk = last(&|step| step.done <= operations && step.change == Change::Shrank);
        let begun = last(&|step| step.issued <= operations).max(promised);
        let content = |at: usize| &self.steps[at].content;
        // What is being cut off may be gone in part.
        let cut_next = |at: usize| at < begun && self.steps[at + 1].change == Change::Shrank;
        let ends_behind = |at: usize| {
            let last = if cut_next(at) { at + 1 } else { at };
            (promised..=last).map(|step| content(step).end()).min().unwrap_or(0)
        };
        let fits = |at: usize| {
            let mut wanted = content(at).above(found.start);
            let is_prefix = found.batches.iter().all(|batch| wanted.next() == Some(batch));
            is_prefix && found.end() >= ends_behind(at)
        };
        let at = (promised.max(shrunk)..=begun).find(|at| fits(*at));
        let starts_well = (done..=begun).any(|at| content(at).start == found.start);
        let is_exact = found.end() == content(promised).end();
        match at {
            Some(_) if starts_well && is_exact => Outcome::Exact,
            Some(_) if starts_well => Outcome::Ahead,
            _ => Outcome::Lost(format!(
                "{} has {found} instead of {}, after which came {}",
                self.partition.partition,
                content(promised),
                content(begun)
            )),
        }
    }
}

#[cfg(test)]
mod tests;
