//! What a log knows of idempotent producers: which batches it has, so that a retried one is appended once.
//!
//! A pure structure: a function of the batches in the log (and of the times at which they were appended, for expiry). It
//! is never dropped because the log's start moves: a retry may come after `delete-records`. Knows no files, no clock.

use std::collections::{BTreeMap, VecDeque};

use vltava_model::batch::{BatchHeader, ProducerStamp};
use vltava_model::{Offset, ProducerEpoch, ProducerId, Sequence};

/// How many batches of a producer are remembered: as many as Kafka's producer keeps in flight.
pub const REMEMBERED_BATCHES: usize = 5;

/// What is to be done with a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProducerCheck {
    /// It is the next one (or no idempotent producer's): append it.
    Append,
    /// It is in the log already: answer with where.
    Duplicate {
        /// The offset of its first record.
        base_offset: Offset,
        /// The offset of its last record.
        last_offset: Offset,
        /// Its largest timestamp.
        timestamp_ms: i64,
    },
    /// Batches before it are missing, or it is older than what is remembered. The two are not told apart: an old batch
    /// may have been refused while a later one, of a producer not yet known, was taken.
    OutOfOrder {
        /// The sequence number that should come next; `None` where a new producer or epoch must begin at 0.
        expected: Option<Sequence>,
    },
    /// A newer incarnation of the producer has written.
    Fenced {
        /// Its epoch.
        current: ProducerEpoch,
    },
}

/// One remembered batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducedBatch {
    /// The sequence number of its first record.
    pub base_sequence: Sequence,
    /// The sequence number of its last record.
    pub last_sequence: Sequence,
    /// The offset of its first record.
    pub base_offset: Offset,
    /// The offset of its last record.
    pub last_offset: Offset,
    /// Its largest timestamp.
    pub timestamp_ms: i64,
}

/// One producer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProducerState {
    /// Its newest incarnation.
    pub epoch: ProducerEpoch,
    /// The last batches of that incarnation, oldest first; at least one, at most [`REMEMBERED_BATCHES`].
    pub batches: VecDeque<ProducedBatch>,
    /// When the last of them was appended here, by this broker's clock.
    pub last_append_ms: i64,
}

/// All producers that a log remembers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Producers {
    by_id: BTreeMap<ProducerId, ProducerState>,
}

impl Producers {
    /// Nobody has written.
    pub const fn new() -> Self {
        Self { by_id: BTreeMap::new() }
    }

    /// What is to be done with a batch that a client sends to the leader. Changes nothing.
    pub fn check(&self, header: &BatchHeader) -> ProducerCheck {
        let Some(stamp) = header.producer else { return ProducerCheck::Append };
        // A producer that is not known may go on anywhere: its state may have expired, its records may be deleted.
        let Some(state) = self.by_id.get(&stamp.id) else { return ProducerCheck::Append };
        if stamp.epoch < state.epoch {
            return ProducerCheck::Fenced { current: state.epoch };
        }
        if stamp.epoch > state.epoch {
            return match stamp.base_sequence {
                Sequence::ZERO => ProducerCheck::Append,
                _ => ProducerCheck::OutOfOrder { expected: None },
            };
        }
        state.check_sequence(&stamp, stamp.last_sequence(header.record_count.max(1)))
    }

    /// Takes note of a batch that was appended.
    pub fn update(&mut self, header: &BatchHeader, append_ms: i64) {
        let Some(stamp) = header.producer else { return };
        let state = self.by_id.entry(stamp.id).or_insert_with(|| ProducerState {
            epoch: stamp.epoch,
            batches: VecDeque::with_capacity(REMEMBERED_BATCHES),
            last_append_ms: append_ms,
        });
        if state.epoch != stamp.epoch {
            state.epoch = stamp.epoch;
            state.batches.clear();
        }
        if state.batches.len() == REMEMBERED_BATCHES {
            state.batches.pop_front();
        }
        state.batches.push_back(ProducedBatch {
            base_sequence: stamp.base_sequence,
            last_sequence: stamp.last_sequence(header.record_count.max(1)),
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            timestamp_ms: header.max_timestamp,
        });
        state.last_append_ms = append_ms;
    }

    /// Forgets the producers whose last batch was appended at or before `oldest_ms`.
    pub fn expire(&mut self, oldest_ms: i64) {
        self.by_id.retain(|_, state| state.last_append_ms > oldest_ms);
    }

    /// Whether anything is known of a producer.
    pub fn knows(&self, id: ProducerId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// Every producer.
    pub fn iter(&self) -> impl Iterator<Item = (ProducerId, &ProducerState)> {
        self.by_id.iter().map(|(id, state)| (*id, state))
    }

    /// How many producers are remembered.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether no producer is remembered.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Puts in one that was read from a snapshot.
    pub(crate) fn restore(&mut self, id: ProducerId, state: ProducerState) {
        self.by_id.insert(id, state);
    }
}

impl ProducerState {
    fn check_sequence(&self, stamp: &ProducerStamp, last_sequence: Sequence) -> ProducerCheck {
        let same = |batch: &&ProducedBatch| {
            batch.base_sequence == stamp.base_sequence && batch.last_sequence == last_sequence
        };
        if let Some(batch) = self.batches.iter().find(same) {
            return ProducerCheck::Duplicate {
                base_offset: batch.base_offset,
                last_offset: batch.last_offset,
                timestamp_ms: batch.timestamp_ms,
            };
        }
        let expected = self.batches.back().map(|newest| newest.last_sequence.advance(1));
        if stamp.base_sequence == expected.unwrap_or(Sequence::ZERO) {
            return ProducerCheck::Append;
        }
        ProducerCheck::OutOfOrder { expected }
    }
}

#[cfg(test)]
mod tests;
