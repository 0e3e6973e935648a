//! One partition while its history is read: what producers were told, what consumers saw, and what a single answer
//! already shows to be wrong.

use std::collections::HashMap;

use vltava_model::Offset;

use super::log::{Identity, Log, What};
use super::verdict::{Counts, Kind, Violations};
use crate::event::{
    Acks, Alien, Assign, ClientRef, Outcome, Partition, Poll, Produce, Reading, Retention, Seen,
};

/// What a producer was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// Every in-sync replica has it, at this offset.
    Acked(u64),
    /// The leader has it, at this offset.
    AckedByLeader(u64),
    /// Every in-sync replica has it, nobody told where.
    AckedSomewhere,
    /// It was sent, or the leader's answer named no offset.
    Unanswered,
    Unknown,
    Failed,
}

/// Consecutive records of one producer that shared their fate; an offset is the first one's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    pub seq: u64,
    pub count: u32,
    pub event: u32,
    pub fate: Fate,
}

/// Where a consumer went on without having been given what is between.
#[derive(Clone, Copy, Debug)]
pub(super) struct Skip {
    pub consumer: ClientRef,
    pub from: u64,
    pub to: u64,
    pub before: u32,
    pub event: u32,
}

/// A consumer's place.
#[derive(Clone, Copy, Default)]
struct Cursor {
    /// The offset that comes next, when that is known.
    next: Option<u64>,
    event: u32,
    watermark: u64,
}

/// How far the final read came.
#[derive(Clone, Copy, Default)]
pub(super) struct FinalRead {
    pub position: u64,
    pub high_watermark: Option<u64>,
}

impl FinalRead {
    /// Whether what lies at this offset would have been read.
    pub(super) fn covers(&self, offset: u64) -> bool {
        offset < self.position || self.high_watermark.is_some_and(|watermark| watermark <= self.position)
    }
}

/// Everything known of one partition.
pub(super) struct PartitionState {
    pub declared: Partition,
    pub log: Log,
    pub attempts: HashMap<ClientRef, Vec<Attempt>>,
    pub skips: Vec<Skip>,
    pub final_read: Option<FinalRead>,
    /// Records below may be gone rightfully.
    pub trimmed: u64,
    cursors: HashMap<ClientRef, Cursor>,
}

impl PartitionState {
    pub(super) fn new(declared: Partition) -> Self {
        Self {
            declared,
            log: Log::default(),
            attempts: HashMap::new(),
            skips: Vec::new(),
            final_read: None,
            trimmed: 0,
            cursors: HashMap::new(),
        }
    }

    /// What people call it.
    pub(super) fn name(&self) -> String {
        format!("{}-{}", self.declared.name, self.declared.index)
    }

    /// An offset of it, for people.
    pub(super) fn place(&self, offset: u64) -> String {
        format!("{}@{offset}", self.name())
    }

    pub(super) fn trimmed_below(&mut self, before: Offset) {
        self.trimmed = self.trimmed.max(before.get());
    }

    pub(super) fn produced(&mut self, produce: &Produce, event: u32) {
        let fate = match (&produce.outcome, produce.acks) {
            (Outcome::Ok(Some(offset)), Acks::All) => Fate::Acked(offset.get()),
            (Outcome::Ok(Some(offset)), Acks::Leader) => Fate::AckedByLeader(offset.get()),
            (Outcome::Ok(None), Acks::All) => Fate::AckedSomewhere,
            (Outcome::Ok(_), _) => Fate::Unanswered,
            (Outcome::Unknown(_), _) => Fate::Unknown,
            (Outcome::Failed(_), _) => Fate::Failed,
        };
        let attempt = Attempt { seq: produce.seq, count: produce.count, event, fate };
        self.attempts.entry(produce.producer).or_default().push(attempt);
    }

    pub(super) fn assigned(&mut self, assign: &Assign) {
        let cursor = self.cursors.entry(assign.consumer).or_default();
        cursor.next = assign.from.map(Offset::get);
    }

    pub(super) fn polled(
        &mut self,
        poll: &Poll,
        event: u32,
        counts: &mut Counts,
        violations: &mut Violations,
    ) {
        let log_start = poll.log_start.map_or(0, Offset::get);
        if self.declared.retention == Retention::Recent {
            self.trimmed = self.trimmed.max(log_start);
        }
        let watermark = poll.high_watermark.map(Offset::get);
        self.move_watermark(poll.consumer, watermark, counts);
        for seen in &poll.seen {
            let (first, count) = self.look_at(seen, poll.reading, event, violations);
            self.move_cursor(poll.consumer, first, count, event, violations);
            let above = watermark.map_or(0, |watermark| (first + count).saturating_sub(watermark.max(first)));
            violations.add(Kind::UncommittedRead, above, || {
                let mark = watermark.unwrap_or_default();
                let text = format!("{above} records were given out at or above the high watermark {mark}");
                (self.place(first.max(mark)), text, vec![u64::from(event)])
            });
            if poll.reading == Reading::Final {
                let done = self.final_read.get_or_insert_default();
                done.position = done.position.max(first + count);
            }
        }
        if poll.reading == Reading::Final {
            let done = self.final_read.get_or_insert_default();
            done.position = done.position.max(log_start);
            done.high_watermark = done.high_watermark.max(watermark);
        }
    }

    fn move_watermark(&mut self, consumer: ClientRef, watermark: Option<u64>, counts: &mut Counts) {
        let cursor = self.cursors.entry(consumer).or_default();
        if let Some(watermark) = watermark {
            counts.watermark_regressions += u64::from(watermark < cursor.watermark);
            cursor.watermark = watermark;
        }
    }

    /// Notes records; tells the first offset and how many.
    fn look_at(
        &mut self,
        seen: &Seen,
        reading: Reading,
        event: u32,
        violations: &mut Violations,
    ) -> (u64, u64) {
        match seen {
            Seen::Records { offset, producer, seq, count } => {
                let (first, count) = (offset.get(), u64::from(*count));
                for at in 0..count {
                    let identity = Identity { producer: *producer, seq: seq + at };
                    let conflict = self.log.see(first + at, What::Record(identity), reading, event);
                    let Some(conflict) = conflict else { continue };
                    violations.add(Kind::InconsistentOffset, 1, || {
                        let Identity { producer, seq } = conflict.before;
                        let text = format!(
                            "shows producer {}'s record {}, and showed producer {producer}'s record {seq} before",
                            identity.producer, identity.seq
                        );
                        (self.place(first + at), text, vec![u64::from(conflict.event), u64::from(event)])
                    });
                }
                (first, count)
            }
            Seen::Alien { offset, alien } => {
                let first = offset.get();
                let (kind, text) = match &**alien {
                    Alien::Corrupt(reason) => (Kind::Corrupt, format!("bytes that nobody sent: {reason}")),
                    Alien::Misplaced(payload) => (Kind::Misplaced, format!("holds {payload}")),
                    Alien::Foreign(payload) => (Kind::Phantom, format!("of another run: {payload}")),
                };
                violations.add(kind, 1, || (self.place(first), text, vec![u64::from(event)]));
                self.log.see(first, What::Alien, reading, event);
                (first, 1)
            }
        }
    }

    fn move_cursor(
        &mut self,
        consumer: ClientRef,
        first: u64,
        count: u64,
        event: u32,
        violations: &mut Violations,
    ) {
        let cursor = self.cursors.entry(consumer).or_default();
        let before = std::mem::replace(cursor, Cursor { next: Some(first + count), event, ..*cursor });
        let Some(next) = before.next else { return };
        if first > next {
            let skip = Skip { consumer, from: next, to: first, before: before.event, event };
            self.skips.push(skip);
        }
        if first < next {
            violations.add(Kind::NonMonotonicPoll, 1, || {
                let text = format!("consumer {consumer} was given {first} where {next} should come");
                (self.place(first), text, vec![u64::from(before.event), u64::from(event)])
            });
        }
    }
}
