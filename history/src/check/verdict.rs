//! What a check found: counts, violations with their context, and figures. Knows nothing of how they are found.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::check::figures::Figures;
use crate::check::liveness::Liveness;
use crate::event::{At, Begin};

/// Ways in which a history can break what must hold.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// Acknowledged by all in-sync replicas, and not there at the end.
    LostWrite,
    /// A record of an idempotent producer lies at two offsets.
    Duplicate,
    /// A record of an idempotent producer lies before one that it sent earlier.
    Reorder,
    /// Read, but nobody sent it, or its producer was told that it failed for certain.
    Phantom,
    /// An offset shows one record here and another there, or a record lies elsewhere than was acknowledged.
    InconsistentOffset,
    /// A consumer went on past a record that is there.
    SkippedPoll,
    /// A consumer was given an offset that it had passed already.
    NonMonotonicPoll,
    /// A consumer was given a record at or above the high watermark, or one that is not there at the end.
    UncommittedRead,
    /// Bytes were read that no producer sent.
    Corrupt,
    /// A record was read from another topic or partition than it was sent to.
    Misplaced,
    /// An offset between others has no record and never had.
    Hole,
    /// No record was acknowledged for longer than allowed though no fault was at work.
    Unavailable,
    /// The history itself contradicts itself: a bug of whoever recorded it.
    Malformed,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::LostWrite,
        Self::Duplicate,
        Self::Reorder,
        Self::Phantom,
        Self::InconsistentOffset,
        Self::SkippedPoll,
        Self::NonMonotonicPoll,
        Self::UncommittedRead,
        Self::Corrupt,
        Self::Misplaced,
        Self::Hole,
        Self::Unavailable,
        Self::Malformed,
    ];

    /// A short name for people and scripts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LostWrite => "lost write",
            Self::Duplicate => "duplicate",
            Self::Reorder => "reorder",
            Self::Phantom => "phantom",
            Self::InconsistentOffset => "inconsistent offset",
            Self::SkippedPoll => "skipped poll",
            Self::NonMonotonicPoll => "non-monotonic poll",
            Self::UncommittedRead => "uncommitted read",
            Self::Corrupt => "corrupt record",
            Self::Misplaced => "misplaced record",
            Self::Hole => "hole in the log",
            Self::Unavailable => "unavailability",
            Self::Malformed => "malformed history",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One violation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Of which kind.
    pub kind: Kind,
    /// Where: topic, partition and offset, as far as they matter.
    pub place: String,
    /// What is wrong.
    pub text: String,
    /// The operations involved, by their number in the history, from 0.
    pub events: Vec<u64>,
    /// The same in words.
    pub operations: Vec<String>,
}

/// All violations: counted exactly, told up to a number of each kind.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Violations {
    counts: BTreeMap<Kind, u64>,
    told: Vec<Violation>,
    most: u64,
}

impl Violations {
    /// None yet; at most so many of each kind will be told in full.
    pub fn new(most: u64) -> Self {
        Self { most, ..Self::default() }
    }

    /// Counts `count` of them, and tells them as one if there is room.
    pub(crate) fn add(&mut self, kind: Kind, count: u64, tell: impl FnOnce() -> (String, String, Vec<u64>)) {
        if count == 0 {
            return;
        }
        let told = self.told.iter().filter(|told| told.kind == kind).count() as u64;
        *self.counts.entry(kind).or_default() += count;
        if told < self.most {
            let (place, text, mut events) = tell();
            events.dedup();
            self.told.push(Violation { kind, place, text, events, operations: Vec::new() });
        }
    }

    /// How many there are of a kind.
    pub fn count(&self, kind: Kind) -> u64 {
        self.counts.get(&kind).copied().unwrap_or_default()
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// The kinds that occur, with their counts.
    pub fn counts(&self) -> impl Iterator<Item = (Kind, u64)> + '_ {
        self.counts.iter().map(|(kind, count)| (*kind, *count))
    }

    /// Those that are told in full.
    pub fn told(&self) -> &[Violation] {
        &self.told
    }

    pub(crate) fn told_mut(&mut self) -> &mut [Violation] {
        &mut self.told
    }
}

/// How much was checked. Records unless it says otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Events in the history.
    pub events: u64,
    /// Acknowledged with acks=all.
    pub acked: u64,
    /// Of these, read where they were acknowledged.
    pub verified: u64,
    /// Of these, not read because the final read stopped short (or there was none).
    pub unread: u64,
    /// Of these, gone with their topic.
    pub deleted: u64,
    /// Of these, gone because an administrator or retention removed them.
    pub trimmed: u64,
    /// Of these, read as something else (which is a violation of its own).
    pub damaged: u64,
    /// Acknowledged by the leader alone.
    pub acked_weakly: u64,
    /// Of these, gone: allowed.
    pub weakly_lost: u64,
    /// Sent without asking for an answer.
    pub unanswered: u64,
    /// Of unknown outcome.
    pub unknown: u64,
    /// Of these, read.
    pub unknown_appeared: u64,
    /// Of these, not read.
    pub unknown_absent: u64,
    /// Failed for certain.
    pub failed: u64,
    /// Second appearances of records of plain producers: allowed.
    pub repeated: u64,
    /// Records of plain producers that lie before earlier ones: allowed.
    pub reordered: u64,
    /// Answers to consumers.
    pub polls: u64,
    /// Read beside the load, by all consumers together.
    pub read_along: u64,
    /// Read after the load.
    pub read_finally: u64,
    /// Operations of administrators.
    pub admin: u64,
    /// Faults.
    pub faults: u64,
    /// Times that a consumer was told a lower high watermark than before.
    pub watermark_regressions: u64,
}

/// What all of it comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Judgement {
    /// Everything that was promised held, and everything was looked at.
    Pass,
    /// Something did not hold.
    Fail,
    /// Nothing wrong was seen, but not everything was looked at.
    Inconclusive,
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::Inconclusive => "INCONCLUSIVE",
        })
    }
}

/// A fault's time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FaultSpan {
    /// Its kind.
    pub kind: String,
    /// The nodes it hit.
    pub nodes: Vec<u32>,
    /// More about it.
    pub detail: String,
    /// When it began.
    pub begin: At,
    /// When it ended, if it did.
    pub end: Option<At>,
}

/// The result of a check.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The run.
    pub begin: Option<Begin>,
    /// The time of the last event.
    pub last: At,
    /// When the recording was complete; `None` when it was not: the recording process died.
    pub ended: Option<At>,
    /// How much was checked.
    pub counts: Counts,
    /// What was wrong.
    pub violations: Violations,
    /// How soon and how long things worked.
    pub liveness: Liveness,
    /// Throughput and latency over time.
    pub figures: Figures,
    /// All faults, in the order in which they began.
    pub faults: Vec<FaultSpan>,
}

impl Verdict {
    /// What all of it comes to.
    pub fn judgement(&self) -> Judgement {
        if self.violations.total() > 0 {
            Judgement::Fail
        } else if self.ended.is_none() || self.counts.unread > 0 {
            Judgement::Inconclusive
        } else {
            Judgement::Pass
        }
    }

    /// How long the run took.
    pub fn duration(&self) -> Duration {
        self.last.since(At::default())
    }
}
