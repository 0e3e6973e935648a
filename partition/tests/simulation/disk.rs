//! A log without bytes, of which a power cut leaves only what was synced, and perhaps some of the rest.

use std::collections::VecDeque;

use rand::RngExt;
use rand::rngs::StdRng;
use vltava_model::epochs::LeaderEpochs;
use vltava_model::{DirectoryId, LeaderEpoch, Offset};

/// One record: which value it is, and under which leadership it was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    pub epoch: LeaderEpoch,
    pub value: u64,
}

/// A change of a log.
#[derive(Clone, Debug)]
pub enum Op {
    Append(Vec<Record>),
    Truncate(Offset),
    StartAt(Offset),
    AssignEpoch(LeaderEpoch, Offset),
    AdvanceStart(Offset),
}

/// A log at one moment.
#[derive(Clone, Debug, Default)]
pub struct LogImage {
    start: Offset,
    records: Vec<Record>,
    epochs: LeaderEpochs,
}

impl LogImage {
    pub fn start(&self) -> Offset {
        self.start
    }

    pub fn end(&self) -> Offset {
        self.start.checked_add(self.records.len() as u64).expect("a short log")
    }

    pub fn epochs(&self) -> &LeaderEpochs {
        &self.epochs
    }

    pub fn get(&self, offset: Offset) -> Option<Record> {
        let index = offset.get().checked_sub(self.start.get())?;
        self.records.get(index as usize).copied()
    }

    pub fn range(&self, from: Offset, to: Offset) -> Vec<Record> {
        (from.get()..to.get())
            .map(|offset| self.get(Offset::new(offset)).expect("a range of the log"))
            .collect()
    }

    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::Append(records) => {
                for record in records {
                    self.epochs.assign(record.epoch, self.end()).expect("epochs never go back in a log");
                    self.records.push(*record);
                }
            }
            Op::Truncate(to) => {
                assert!(
                    *to >= self.start && *to <= self.end(),
                    "cut at {to} of {}..{}",
                    self.start,
                    self.end()
                );
                self.records.truncate(to.since(self.start) as usize);
                self.epochs.truncate_to(*to);
            }
            Op::StartAt(offset) => *self = Self { start: *offset, ..Self::default() },
            Op::AssignEpoch(epoch, start) => {
                assert_eq!(*start, self.end());
                self.epochs.assign(*epoch, *start).expect("a new leader's epoch is the newest");
            }
            Op::AdvanceStart(to) => {
                self.records.drain(..to.since(self.start) as usize);
                self.start = *to;
                self.epochs.advance_start(*to);
            }
        }
    }

    /// What a scan of the records finds.
    fn scanned_epochs(&self) -> LeaderEpochs {
        let mut epochs = LeaderEpochs::new();
        for (index, record) in self.records.iter().enumerate() {
            let at = Offset::new(self.start.get() + index as u64);
            epochs.assign(record.epoch, at).expect("epochs never go back in a log");
        }
        epochs
    }
}

/// How a process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crash {
    /// `kill -9`: what was written stays written.
    Kill,
    /// The power goes: what was not synced may be gone.
    PowerCut,
}

/// One log directory.
#[derive(Debug)]
pub struct Disk {
    pub directory: DirectoryId,
    pub written: LogImage,
    pub stable: LogImage,
    unsynced: VecDeque<Op>,
    /// The last high watermark that was put into a checkpoint.
    pub checkpoint: Offset,
}

impl Disk {
    pub fn new(directory: DirectoryId) -> Self {
        Self {
            directory,
            written: LogImage::default(),
            stable: LogImage::default(),
            unsynced: VecDeque::new(),
            checkpoint: Offset::ZERO,
        }
    }

    pub fn write(&mut self, op: Op) {
        self.written.apply(&op);
        self.unsynced.push_back(op);
    }

    /// How much there is to sync.
    pub fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// The oldest `ops` changes are on stable storage.
    pub fn synced(&mut self, ops: usize) {
        for op in self.unsynced.drain(..ops) {
            self.stable.apply(&op);
        }
    }

    /// The process ends and what it left is recovered.
    pub fn crash(&mut self, how: Crash, rng: &mut StdRng) {
        let kept = match how {
            Crash::Kill => self.unsynced.len(),
            Crash::PowerCut => rng.random_range(0..=self.unsynced.len()),
        };
        self.synced(kept);
        self.unsynced.clear();
        // An epoch without records is known from the checkpoint only, which may be lost.
        if rng.random_bool(0.5) {
            self.stable.epochs = self.stable.scanned_epochs();
        }
        self.written = self.stable.clone();
        if rng.random_bool(0.3) {
            self.checkpoint = Offset::ZERO;
        }
    }
}
