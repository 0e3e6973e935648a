//! One violation put into a history that has none.

use std::collections::HashMap;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use vltava_model::{Offset, PartitionIndex, TopicId};

use super::pick;
use crate::check::Kind;
use crate::event::{
    Acks, Alien, Assign, At, ClientRef, Event, Outcome, PartitionRef, Poll, Produce, Reading, Retention,
    Role, RunId, Seen,
};
use crate::payload::Payload;

/// A record that was acknowledged and lies in the end where it was.
#[derive(Clone, Copy)]
struct Record {
    partition: PartitionRef,
    offset: u64,
    producer: ClientRef,
    seq: u64,
    /// Its produce event and its place in that.
    ack: (usize, u32),
}

struct Breaker<'a> {
    events: &'a mut Vec<Event>,
    random: StdRng,
    /// Which of several ways.
    way: u64,
    /// Acknowledged and final, of idempotent producers, in partitions that keep everything.
    records: Vec<Record>,
    ends: HashMap<PartitionRef, u64>,
    last: At,
}

/// Changes a good history so that it shows one violation of this kind and of no other; tells where.
/// `None` when the history has no place for it (it is too short).
pub fn break_history(events: &mut Vec<Event>, kind: Kind, seed: u64) -> Option<String> {
    let mut breaker = Breaker::new(events, seed);
    match kind {
        Kind::LostWrite => breaker.lose(),
        Kind::Duplicate => breaker.duplicate(),
        Kind::Reorder => breaker.reorder(),
        Kind::Phantom => breaker.phantom(),
        Kind::InconsistentOffset => breaker.inconsistent(),
        Kind::SkippedPoll => breaker.skip(),
        Kind::NonMonotonicPoll => breaker.repeat_poll(),
        Kind::UncommittedRead => breaker.read_uncommitted(),
        Kind::Corrupt => {
            breaker.alien(|_| Alien::Corrupt("checksum 00000001, sent with 00000002".to_owned()))
        }
        Kind::Misplaced => breaker.alien(|record| {
            Alien::Misplaced(Payload {
                run: RunId::new(1),
                producer: record.producer,
                seq: record.seq,
                topic: TopicId::new(77),
                partition: PartitionIndex::new(0),
            })
        }),
        Kind::Hole => breaker.hole(),
        Kind::Unavailable => breaker.silence(),
        Kind::Malformed => breaker.repeat_outcome(),
    }
}

impl<'a> Breaker<'a> {
    fn new(events: &'a mut Vec<Event>, seed: u64) -> Self {
        let mut keeps = HashMap::new();
        let mut idempotent = HashMap::new();
        let mut there: HashMap<(PartitionRef, u64), (ClientRef, u64)> = HashMap::new();
        let mut ends = HashMap::new();
        let mut last = At::default();
        for event in events.iter() {
            match event {
                Event::Partition(partition) => {
                    keeps.insert(partition.partition, partition.retention == Retention::Everything);
                }
                Event::Client(client) => {
                    idempotent.insert(client.client, client.role == Role::IdempotentProducer);
                }
                Event::Poll(poll) if poll.reading == Reading::Final => {
                    ends.insert(poll.partition, poll.high_watermark.map_or(0, Offset::get));
                    for seen in &poll.seen {
                        let Seen::Records { offset, producer, seq, count } = seen else { continue };
                        for at in 0..u64::from(*count) {
                            there.insert((poll.partition, offset.get() + at), (*producer, seq + at));
                        }
                    }
                }
                Event::End { at } => last = *at,
                _ => {}
            }
        }
        let mut records = Vec::new();
        for (number, event) in events.iter().enumerate() {
            let Event::Produce(produce) = event else { continue };
            let Outcome::Ok(Some(base)) = produce.outcome else { continue };
            if !(keeps[&produce.partition] && idempotent[&produce.producer]) {
                continue;
            }
            for at in 0..produce.count {
                let (offset, seq) = (base.get() + u64::from(at), produce.seq + u64::from(at));
                let (partition, producer) = (produce.partition, produce.producer);
                if there.get(&(partition, offset)) == Some(&(producer, seq)) {
                    records.push(Record { partition, offset, producer, seq, ack: (number, at) });
                }
            }
        }
        Self { events, random: StdRng::seed_from_u64(seed), way: seed, records, ends, last }
    }

    fn record(&mut self) -> Option<Record> {
        pick(&mut self.random, &self.records)
    }

    /// Every poll of a partition, its records one by one.
    fn polls(&mut self, partition: PartitionRef) -> impl Iterator<Item = &mut Poll> {
        self.events.iter_mut().filter_map(move |event| match event {
            Event::Poll(poll) if poll.partition == partition => {
                explode(poll);
                Some(poll)
            }
            _ => None,
        })
    }

    fn last_poll(&mut self, partition: PartitionRef) -> Option<&mut Poll> {
        let polls = self.polls(partition).filter(|poll| poll.reading == Reading::Final);
        polls.last()
    }

    /// Puts an event before the final reads, which must stay last.
    fn insert(&mut self, event: Event) -> usize {
        let is_final = |event: &Event| matches!(event, Event::Poll(poll) if poll.reading == Reading::Final);
        let at = self.events.iter().position(is_final).unwrap_or(self.events.len());
        // In front of the reader's assignment too.
        let at = at.saturating_sub(1);
        self.events.insert(at, event);
        at
    }

    /// A record of unknown outcome that was never read; to be read where it breaks something.
    fn unknown(&mut self, partition: PartitionRef, producer: ClientRef) -> u64 {
        let seq = 1 + self
            .events
            .iter()
            .filter_map(|event| match event {
                Event::Produce(produce) if (produce.partition, produce.producer) == (partition, producer) => {
                    Some(produce.seq + u64::from(produce.count))
                }
                _ => None,
            })
            .max()
            .unwrap_or(0);
        let outcome = Outcome::Unknown("made up".to_owned());
        let (invoked, completed) = (self.last, self.last);
        let produce =
            Produce { producer, partition, seq, count: 1, acks: Acks::All, invoked, completed, outcome };
        self.insert(Event::Produce(produce));
        seq
    }

    fn lose(&mut self) -> Option<String> {
        let record = self.record()?;
        let truncated = self.way.is_multiple_of(2);
        let gone = |offset: u64| offset == record.offset || truncated && offset > record.offset;
        for poll in self.polls(record.partition) {
            poll.seen.retain(|seen| !gone(offset_of(seen)));
            if truncated && poll.reading == Reading::Final {
                poll.high_watermark = poll.high_watermark.min(Some(Offset::new(record.offset)));
            }
        }
        Some(tell(record))
    }

    /// Reads something more at the end of a partition.
    fn append(&mut self, partition: PartitionRef, producer: ClientRef, seq: u64, skip: u64) -> Option<()> {
        let offset = Offset::new(self.ends[&partition] + skip);
        let poll = self.last_poll(partition)?;
        poll.seen.push(Seen::Records { offset, producer, seq, count: 1 });
        poll.high_watermark = Some(offset.next());
        Some(())
    }

    fn duplicate(&mut self) -> Option<String> {
        let record = self.record()?;
        self.append(record.partition, record.producer, record.seq, 0)?;
        Some(tell(record))
    }

    fn phantom(&mut self) -> Option<String> {
        let record = self.record()?;
        if self.way.is_multiple_of(2) {
            self.append(record.partition, record.producer, record.seq + (1 << 40), 0)?;
        } else if let Event::Produce(produce) = &mut self.events[record.ack.0] {
            produce.outcome = Outcome::Failed("refused".to_owned());
        }
        Some(tell(record))
    }

    fn hole(&mut self) -> Option<String> {
        let record = self.record()?;
        let seq = self.unknown(record.partition, record.producer);
        self.append(record.partition, record.producer, seq, 1)?;
        Some(tell(record))
    }

    /// Swaps two of one producer's records in its partition, wherever they are read or acknowledged.
    fn reorder(&mut self) -> Option<String> {
        let one = self.record()?;
        let like = |other: &&Record| {
            (other.partition, other.producer) == (one.partition, one.producer) && other.seq != one.seq
        };
        let others: Vec<Record> = self.records.iter().filter(like).copied().collect();
        let other = pick(&mut self.random, &others)?;
        for poll in self.polls(one.partition) {
            for seen in &mut poll.seen {
                let Seen::Records { offset, seq, producer, .. } = seen else { continue };
                if offset.get() == one.offset {
                    (*producer, *seq) = (other.producer, other.seq);
                } else if offset.get() == other.offset {
                    (*producer, *seq) = (one.producer, one.seq);
                }
            }
        }
        let mut acks = [(one, other.offset), (other, one.offset)];
        // From the back, so that the numbers of events stay right.
        acks.sort_by_key(|(record, _)| std::cmp::Reverse(record.ack));
        for (record, offset) in acks {
            self.acknowledge(record, offset);
        }
        Some(format!("{} and {}", tell(one), tell(other)))
    }

    /// Lets one record be acknowledged elsewhere.
    fn acknowledge(&mut self, record: Record, offset: u64) {
        let Event::Produce(whole) = self.events[record.ack.0].clone() else { return };
        let Outcome::Ok(Some(base)) = whole.outcome else { return };
        let part = |from: u32, to: u32, base: u64| {
            let outcome = Outcome::Ok(Some(Offset::new(base)));
            let (seq, count) = (whole.seq + u64::from(from), to - from);
            Event::Produce(Produce { seq, count, outcome, ..whole.clone() })
        };
        let at = record.ack.1;
        let mut parts = vec![part(at, at + 1, offset)];
        if at > 0 {
            parts.insert(0, part(0, at, base.get()));
        }
        if at + 1 < whole.count {
            parts.push(part(at + 1, whole.count, base.get() + u64::from(at) + 1));
        }
        self.events.splice(record.ack.0..=record.ack.0, parts);
    }

    fn inconsistent(&mut self) -> Option<String> {
        let record = self.record()?;
        if self.way.is_multiple_of(2) {
            self.acknowledge(record, record.offset + 1);
            return Some(tell(record));
        }
        let poll = self.poll_with(record, Reading::Along)?;
        for seen in &mut poll.seen {
            if let Seen::Records { offset, seq, .. } = seen
                && offset.get() == record.offset
            {
                *seq += 1 << 40;
            }
        }
        Some(tell(record))
    }

    /// A poll that gave out a record.
    fn poll_with(&mut self, record: Record, reading: Reading) -> Option<&mut Poll> {
        let has = |poll: &Poll| poll.seen.iter().any(|seen| offset_of(seen) == record.offset);
        self.polls(record.partition).find(|poll| poll.reading == reading && has(poll))
    }

    fn skip(&mut self) -> Option<String> {
        for _ in 0..100 {
            let record = self.record()?;
            let Some(poll) = self.poll_with(record, Reading::Along) else { continue };
            let at = poll.seen.iter().position(|seen| offset_of(seen) == record.offset)?;
            // Neither the first nor the last of an answer: it is missed at once.
            if at > 0 && at + 1 < poll.seen.len() {
                poll.seen.remove(at);
                return Some(tell(record));
            }
        }
        None
    }

    fn repeat_poll(&mut self) -> Option<String> {
        let polls = self.events.iter().enumerate().filter_map(|(at, event)| match event {
            Event::Poll(poll) if poll.reading == Reading::Along && !poll.seen.is_empty() => Some(at),
            _ => None,
        });
        let polls: Vec<usize> = polls.collect();
        let at = pick(&mut self.random, &polls)?;
        self.events.insert(at, self.events[at].clone());
        Some(format!("poll {at}"))
    }

    fn read_uncommitted(&mut self) -> Option<String> {
        let record = self.record()?;
        if self.way.is_multiple_of(2) {
            let poll = self.poll_with(record, Reading::Along)?;
            poll.high_watermark = Some(Offset::new(record.offset));
            return Some(tell(record));
        }
        let end = Offset::new(self.ends[&record.partition]);
        let seq = self.unknown(record.partition, record.producer);
        let (consumer, partition) = (ClientRef::new(500), record.partition);
        let seen = vec![Seen::Records { offset: end, producer: record.producer, seq, count: 1 }];
        let (at, reading) = (self.last, Reading::Along);
        let (high_watermark, log_start) = (None, None);
        let poll = Poll {
            consumer,
            partition,
            reading,
            invoked: at,
            completed: at,
            high_watermark,
            log_start,
            seen,
        };
        let behind = self.insert(Event::Poll(poll));
        self.events.insert(behind, Event::Assign(Assign { consumer, partition, from: Some(end), at }));
        Some(format!("{partition}@{end}"))
    }

    fn alien(&mut self, alien: impl Fn(Record) -> Alien) -> Option<String> {
        let record = self.record()?;
        let reading = if self.way.is_multiple_of(2) { Reading::Along } else { Reading::Final };
        let poll = self.poll_with(record, reading)?;
        for seen in &mut poll.seen {
            if offset_of(seen) == record.offset {
                *seen = Seen::Alien { offset: Offset::new(record.offset), alien: Box::new(alien(record)) };
            }
        }
        Some(tell(record))
    }

    fn silence(&mut self) -> Option<String> {
        let record = self.record()?;
        let Record { partition, producer, .. } = record;
        let (invoked, completed) = (self.last, self.last.plus(Duration::from_secs(60)));
        let outcome = Outcome::Unknown("no answer in time".to_owned());
        let (seq, acks) = (1 << 50, Acks::All);
        let produce = Produce { producer, partition, seq, count: 1, acks, invoked, completed, outcome };
        self.insert(Event::Produce(produce));
        Some(tell(record))
    }

    fn repeat_outcome(&mut self) -> Option<String> {
        let record = self.record()?;
        let again = self.events[record.ack.0].clone();
        self.events.insert(record.ack.0, again);
        Some(tell(record))
    }
}

fn tell(record: Record) -> String {
    let Record { partition, offset, producer, seq, .. } = record;
    format!("partition {partition}@{offset}, producer {producer}'s record {seq}")
}

fn offset_of(seen: &Seen) -> u64 {
    match seen {
        Seen::Records { offset, .. } | Seen::Alien { offset, .. } => offset.get(),
    }
}

/// Puts every record into an entry of its own.
fn explode(poll: &mut Poll) {
    let mut single = Vec::new();
    for seen in poll.seen.drain(..) {
        let Seen::Records { offset, producer, seq, count } = seen else {
            single.push(seen);
            continue;
        };
        for at in 0..u64::from(count) {
            let offset = Offset::new(offset.get() + at);
            single.push(Seen::Records { offset, producer, seq: seq + at, count: 1 });
        }
    }
    poll.seen = single;
}
