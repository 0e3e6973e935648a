//! Compares what producers were told of one partition with what was read of it, once everything is known.

use std::collections::HashMap;

use super::log::{By, Identity, What};
use super::partition::{Attempt, Fate, PartitionState};
use super::verdict::{Counts, Kind, Violations};
use crate::event::ClientRef;

/// What the rest of the history says that matters here.
pub(super) struct Surroundings<'a> {
    /// Whether the topic was deleted, or may have been.
    pub deleted: bool,
    /// Whether a client promised order and no repetition.
    pub idempotent: &'a dyn Fn(ClientRef) -> bool,
}

/// A record that lies in the log.
#[derive(Clone, Copy)]
struct Lying {
    seq: u64,
    offset: u64,
    event: u32,
}

/// Offsets without a record, and how many of them are accounted for otherwise.
struct Hole {
    from: u64,
    to: u64,
    explained: u64,
}

/// One partition's comparison.
struct Settling<'a> {
    partition: &'a PartitionState,
    surroundings: &'a Surroundings<'a>,
    holes: Vec<Hole>,
    counts: &'a mut Counts,
    violations: &'a mut Violations,
}

/// Compares; what was attempted is used up.
pub(super) fn settle(
    partition: &mut PartitionState,
    surroundings: &Surroundings<'_>,
    counts: &mut Counts,
    violations: &mut Violations,
) {
    let mut attempts = std::mem::take(&mut partition.attempts);
    let mut settling = Settling { partition, surroundings, holes: Vec::new(), counts, violations };
    let mut lying = settling.walk();
    let mut producers: Vec<ClientRef> = attempts.keys().chain(lying.keys()).copied().collect();
    producers.sort_unstable();
    producers.dedup();
    for producer in producers {
        let mut attempts = attempts.remove(&producer).unwrap_or_default();
        let mut lying = lying.remove(&producer).unwrap_or_default();
        // Both are nearly in order already.
        attempts.sort_by_key(|attempt| attempt.seq);
        lying.sort_by_key(|lying| (lying.seq, lying.offset));
        settling.stream(producer, &attempts, &lying);
    }
    settling.tell_holes();
    settling.tell_skips();
}

impl Settling<'_> {
    /// Goes through the offsets: tells records that are not there in the end, and sorts the others by producer.
    fn walk(&mut self) -> HashMap<ClientRef, Vec<Lying>> {
        let partition = self.partition;
        let mut lying: HashMap<ClientRef, Vec<Lying>> = HashMap::new();
        let mut next = partition.trimmed;
        let mut uncommitted = Vec::new();
        for (offset, slot) in partition.log.iter() {
            let covered = partition.final_read.is_some_and(|read| read.covers(offset));
            if covered && slot.by == By::Along && offset >= partition.trimmed {
                uncommitted.push(offset);
                let event = slot.event;
                self.violations.add(Kind::UncommittedRead, 1, || {
                    let text = match slot.what {
                        What::Record(Identity { producer, seq }) => {
                            format!(
                                "producer {producer}'s record {seq} was read, and is not there in the end"
                            )
                        }
                        What::Alien => "something was read that is not there in the end".to_owned(),
                    };
                    (partition.place(offset), text, vec![u64::from(event)])
                });
                continue;
            }
            if partition.final_read.is_some() && offset > next {
                self.holes.push(Hole { from: next, to: offset, explained: 0 });
            }
            next = next.max(offset + 1);
            if let What::Record(Identity { producer, seq }) = slot.what {
                lying.entry(producer).or_default().push(Lying { seq, offset, event: slot.event });
            }
        }
        uncommitted.into_iter().for_each(|offset| self.explain(offset));
        lying
    }

    /// Notes that a missing record is told of already.
    fn explain(&mut self, offset: u64) {
        let at = self.holes.partition_point(|hole| hole.to <= offset);
        if let Some(hole) = self.holes.get_mut(at).filter(|hole| hole.from <= offset) {
            hole.explained += 1;
        }
    }

    /// Compares one producer's attempts with its records in the log; both are in the order of their sequence.
    fn stream(&mut self, producer: ClientRef, attempts: &[Attempt], mut lying: &[Lying]) {
        let idempotent = (self.surroundings.idempotent)(producer);
        self.order(producer, idempotent, lying);
        let mut next = 0;
        for attempt in attempts {
            if attempt.seq < next {
                self.malformed(producer, attempt);
            }
            for at in (next.saturating_sub(attempt.seq))..u64::from(attempt.count) {
                let seq = attempt.seq + at;
                let unsent = lying.partition_point_near(|lying| lying.seq < seq);
                let (unsent, rest) = lying.split_at(unsent);
                let (found, rest) = rest.split_at(rest.partition_point_near(|lying| lying.seq == seq));
                lying = rest;
                self.phantoms(producer, unsent);
                self.repeated(producer, idempotent, found, attempt);
                self.judge(producer, attempt, at, found);
            }
            next = next.max(attempt.seq + u64::from(attempt.count));
        }
        self.phantoms(producer, lying);
    }

    fn malformed(&mut self, producer: ClientRef, attempt: &Attempt) {
        self.violations.add(Kind::Malformed, 1, || {
            let text = format!("producer {producer}'s record {} has two outcomes", attempt.seq);
            (self.partition.name(), text, vec![u64::from(attempt.event)])
        });
    }

    /// First appearances must lie in the order of their sequence.
    fn order(&mut self, producer: ClientRef, idempotent: bool, lying: &[Lying]) {
        let mut last: Option<Lying> = None;
        for now in lying {
            let Some(before) = last.filter(|last| last.seq != now.seq) else {
                last = last.or(Some(*now));
                continue;
            };
            last = Some(*now);
            if now.offset > before.offset {
                continue;
            }
            if !idempotent {
                self.counts.reordered += 1;
                continue;
            }
            self.violations.add(Kind::Reorder, 1, || {
                let text = format!(
                    "producer {producer}'s record {} lies before its record {}, which is at {}",
                    now.seq, before.seq, before.offset
                );
                let events = vec![u64::from(before.event), u64::from(now.event)];
                (self.partition.place(now.offset), text, events)
            });
        }
    }

    fn phantoms(&mut self, producer: ClientRef, unsent: &[Lying]) {
        for lying in unsent {
            self.violations.add(Kind::Phantom, 1, || {
                let text = format!("producer {producer} never sent a record {}", lying.seq);
                (self.partition.place(lying.offset), text, vec![u64::from(lying.event)])
            });
        }
    }

    fn repeated(&mut self, producer: ClientRef, idempotent: bool, found: &[Lying], attempt: &Attempt) {
        let [first, again @ ..] = found else { return };
        if !idempotent {
            self.counts.repeated += again.len() as u64;
            return;
        }
        for again in again {
            self.violations.add(Kind::Duplicate, 1, || {
                let text = format!("producer {producer}'s record {} lies at {} too", first.seq, first.offset);
                let events = vec![u64::from(attempt.event), u64::from(first.event), u64::from(again.event)];
                (self.partition.place(again.offset), text, events)
            });
        }
    }

    /// Compares what was told of one record with where it lies.
    fn judge(&mut self, producer: ClientRef, attempt: &Attempt, at: u64, found: &[Lying]) {
        let seq = attempt.seq + at;
        match (attempt.fate, found) {
            (Fate::Acked(base) | Fate::AckedByLeader(base), [_, ..]) => {
                let acked = base + at;
                if found.iter().any(|lying| lying.offset == acked) {
                    self.counts.verified += u64::from(matches!(attempt.fate, Fate::Acked(_)));
                    return;
                }
                self.explain(acked);
                let lying = found[0];
                self.violations.add(Kind::InconsistentOffset, 1, || {
                    let text = format!(
                        "producer {producer}'s record {seq} lies here and was acknowledged at {acked}"
                    );
                    let events = vec![u64::from(attempt.event), u64::from(lying.event)];
                    (self.partition.place(lying.offset), text, events)
                });
            }
            (Fate::Acked(base), []) => self.missing(producer, seq, base + at, attempt),
            (Fate::AckedByLeader(base), []) => {
                self.explain(base + at);
                self.counts.weakly_lost += 1;
            }
            (Fate::AckedSomewhere, [_, ..]) => self.counts.verified += 1,
            (Fate::AckedSomewhere, []) => self.missing_somewhere(producer, seq, attempt),
            (Fate::Unanswered, _) => {}
            (Fate::Unknown, []) => self.counts.unknown_absent += 1,
            (Fate::Unknown, _) => self.counts.unknown_appeared += 1,
            (Fate::Failed, []) => {}
            (Fate::Failed, [lying, ..]) => self.violations.add(Kind::Phantom, 1, || {
                let text =
                    format!("producer {producer} was told that its record {seq} had failed for certain");
                let events = vec![u64::from(attempt.event), u64::from(lying.event)];
                (self.partition.place(lying.offset), text, events)
            }),
        }
    }

    /// An acknowledged record that lies nowhere.
    fn missing(&mut self, producer: ClientRef, seq: u64, acked: u64, attempt: &Attempt) {
        let partition = self.partition;
        let slot = partition.log.get(acked);
        if slot.is_some_and(|slot| slot.what == What::Alien && slot.by == By::Final) {
            self.counts.damaged += 1;
            return;
        }
        if acked < partition.trimmed {
            self.counts.trimmed += 1;
            return;
        }
        match partition.final_read {
            None if self.surroundings.deleted => self.counts.deleted += 1,
            Some(read) if read.covers(acked) => {
                self.explain(acked);
                self.violations.add(Kind::LostWrite, 1, || {
                    let here = match slot.map(|slot| (slot.by, slot.what)) {
                        None | Some((By::Along, _)) => "nothing lies there in the end".to_owned(),
                        Some((By::Final, What::Alien)) => "bytes that nobody sent lie there".to_owned(),
                        Some((By::Final, What::Record(Identity { producer, seq }))) => {
                            format!("producer {producer}'s record {seq} lies there")
                        }
                    };
                    let text = format!("producer {producer}'s record {seq} was acknowledged here; {here}");
                    let read = slot.map(|slot| u64::from(slot.event));
                    let events = [u64::from(attempt.event)].into_iter().chain(read).collect();
                    (partition.place(acked), text, events)
                });
            }
            None | Some(_) => self.counts.unread += 1,
        }
    }

    /// A record that was acknowledged without its offset, and lies nowhere. It may have been trimmed, if anything was.
    fn missing_somewhere(&mut self, producer: ClientRef, seq: u64, attempt: &Attempt) {
        let partition = self.partition;
        match partition.final_read {
            None if self.surroundings.deleted => self.counts.deleted += 1,
            Some(_) if partition.trimmed > 0 => self.counts.trimmed += 1,
            Some(read) if read.covers(u64::MAX) => self.violations.add(Kind::LostWrite, 1, || {
                let text = format!("producer {producer}'s record {seq} was acknowledged and lies nowhere");
                (partition.name(), text, vec![u64::from(attempt.event)])
            }),
            None | Some(_) => self.counts.unread += 1,
        }
    }

    fn tell_holes(&mut self) {
        for hole in &self.holes {
            let missing = (hole.to - hole.from).saturating_sub(hole.explained);
            self.violations.add(Kind::Hole, missing, || {
                let text = format!("nothing lies from here to {}", hole.to - 1);
                (self.partition.place(hole.from), text, Vec::new())
            });
        }
    }

    fn tell_skips(&mut self) {
        let partition = self.partition;
        for skip in &partition.skips {
            let from = skip.from.max(partition.trimmed);
            let there = |slot: By, offset: u64| {
                slot == By::Final || !partition.final_read.is_some_and(|read| read.covers(offset))
            };
            let slots = partition.log.range(from, skip.to);
            let skipped = slots.filter(|(offset, slot)| there(slot.by, *offset)).count() as u64;
            self.violations.add(Kind::SkippedPoll, skipped, || {
                let text = format!(
                    "consumer {} went on with {} and was never given the {skipped} records from here",
                    skip.consumer, skip.to
                );
                (partition.place(from), text, vec![u64::from(skip.before), u64::from(skip.event)])
            });
        }
    }
}

/// Finds a boundary that is close to the front.
trait PartitionPointNear<T> {
    /// Like `partition_point`, in time that grows with the result only.
    fn partition_point_near(&self, holds: impl Fn(&T) -> bool) -> usize;
}

impl<T> PartitionPointNear<T> for [T] {
    fn partition_point_near(&self, holds: impl Fn(&T) -> bool) -> usize {
        self.iter().take_while(|entry| holds(entry)).count()
    }
}
