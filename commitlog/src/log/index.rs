//! Sparse indexes of one segment: from an offset, or a timestamp, to the batch where looking should begin.
//!
//! The active segment's lives in memory; a sealed segment's is written as `<base>.index` and `<base>.timeindex` and read
//! back when first needed. An index is a hint and a copy: what it says is checked by whoever follows it, and it can be
//! rebuilt from the check file at any time, so a file that fails its checksum is simply not used.
//!
//! Both files, big-endian: entries, then a trailer: magic, number of batches and of log bytes covered, (`.timeindex`
//! only: largest timestamp and last append time,) crc32c of all before, continued from the segment's identity. An
//! `.index` entry is last offset relative to the base, position, ordinal of the batch; a `.timeindex` entry is largest
//! timestamp so far, last offset relative to the base, ordinal. Knows nothing of files being open.

use super::check::{CheckEntry, CheckSeed};

const OFFSET_MAGIC: &[u8; 4] = b"VIDX";
const TIME_MAGIC: &[u8; 4] = b"VTIX";
const OFFSET_ENTRY_BYTES: usize = 12;
const TIME_ENTRY_BYTES: usize = 16;
const OFFSET_TRAILER_BYTES: usize = 16;
const TIME_TRAILER_BYTES: usize = 32;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct OffsetEntry {
    last: u32,
    position: u32,
    ordinal: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct TimeEntry {
    max_timestamp: i64,
    last: u32,
    ordinal: u32,
}

/// The part of a segment that an index covers; an index file is used only if it covers exactly the segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Coverage {
    pub batches: u32,
    pub bytes: u32,
}

/// What a segment's time index knows besides its entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TimeSummary {
    /// The largest timestamp of any record.
    pub max_timestamp: i64,
    /// By the clock of this broker.
    pub last_append_ms: i64,
}

/// The sparse indexes of one segment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct SparseIndex {
    offsets: Vec<OffsetEntry>,
    times: Vec<TimeEntry>,
}

impl SparseIndex {
    /// Takes note of a batch, if the log has grown by `interval_bytes` since the last note.
    pub(crate) fn add(&mut self, ordinal: u32, entry: &CheckEntry, max_timestamp: i64, interval_bytes: u32) {
        if self.offsets.last().is_some_and(|last| entry.position - last.position < interval_bytes) {
            return;
        }
        self.offsets.push(OffsetEntry { last: entry.last, position: entry.position, ordinal });
        if self.times.last().is_none_or(|last| last.max_timestamp < max_timestamp) {
            self.times.push(TimeEntry { max_timestamp, last: entry.last, ordinal });
        }
    }

    /// The ordinal of a batch at or before the one that holds the offset `relative` to the base.
    pub(crate) fn floor_offset(&self, relative: u32) -> u32 {
        let after = self.offsets.partition_point(|entry| entry.last <= relative);
        after.checked_sub(1).map_or(0, |at| self.offsets[at].ordinal)
    }

    /// The ordinal of a batch at or before the first one with a timestamp of at least `timestamp`.
    pub(crate) fn floor_timestamp(&self, timestamp: i64) -> u32 {
        let after = self.times.partition_point(|entry| entry.max_timestamp < timestamp);
        after.checked_sub(1).map_or(0, |at| self.times[at].ordinal + 1)
    }

    /// How long the offset index would be as a file.
    pub(crate) fn offset_file_bytes(&self) -> usize {
        self.offsets.len() * OFFSET_ENTRY_BYTES
    }

    pub(crate) fn encode_offsets(&self, seed: CheckSeed, coverage: Coverage) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.offset_file_bytes() + OFFSET_TRAILER_BYTES);
        for entry in &self.offsets {
            for word in [entry.last, entry.position, entry.ordinal] {
                bytes.extend_from_slice(&word.to_be_bytes());
            }
        }
        bytes.extend_from_slice(OFFSET_MAGIC);
        finish(bytes, seed, coverage)
    }

    pub(crate) fn encode_times(&self, seed: CheckSeed, coverage: Coverage, summary: TimeSummary) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.times.len() * TIME_ENTRY_BYTES + TIME_TRAILER_BYTES);
        for entry in &self.times {
            bytes.extend_from_slice(&entry.max_timestamp.to_be_bytes());
            bytes.extend_from_slice(&entry.last.to_be_bytes());
            bytes.extend_from_slice(&entry.ordinal.to_be_bytes());
        }
        bytes.extend_from_slice(TIME_MAGIC);
        bytes.extend_from_slice(&summary.max_timestamp.to_be_bytes());
        bytes.extend_from_slice(&summary.last_append_ms.to_be_bytes());
        finish(bytes, seed, coverage)
    }

    /// Reads both files of a segment; `None` if either is damaged or covers something else.
    pub(crate) fn decode(seed: CheckSeed, coverage: Coverage, offsets: &[u8], times: &[u8]) -> Option<Self> {
        let offsets = checked(seed, coverage, offsets)?.strip_suffix(OFFSET_MAGIC)?;
        let (offsets, rest) = offsets.as_chunks::<OFFSET_ENTRY_BYTES>();
        let (times, _) = split_times(seed, coverage, times)?;
        if !rest.is_empty() {
            return None;
        }
        let offsets = offsets.iter().map(|e| OffsetEntry {
            last: word(e, 0),
            position: word(e, 4),
            ordinal: word(e, 8),
        });
        let times = times.iter().map(|e| TimeEntry {
            max_timestamp: long(e, 0),
            last: word(e, 8),
            ordinal: word(e, 12),
        });
        Some(Self { offsets: offsets.collect(), times: times.collect() })
    }
}

/// Reads what a `.timeindex` file knows besides its entries; `None` if it is damaged or covers something else.
pub(crate) fn decode_summary(seed: CheckSeed, coverage: Coverage, times: &[u8]) -> Option<TimeSummary> {
    split_times(seed, coverage, times).map(|(_, summary)| summary)
}

type TimeChunks<'a> = &'a [[u8; TIME_ENTRY_BYTES]];

fn split_times(seed: CheckSeed, coverage: Coverage, bytes: &[u8]) -> Option<(TimeChunks<'_>, TimeSummary)> {
    let bytes = checked(seed, coverage, bytes)?;
    let (bytes, tail) = bytes.split_at_checked(bytes.len().checked_sub(16)?)?;
    let (entries, rest) = bytes.strip_suffix(TIME_MAGIC)?.as_chunks::<TIME_ENTRY_BYTES>();
    let summary = TimeSummary { max_timestamp: long(tail, 0), last_append_ms: long(tail, 8) };
    rest.is_empty().then_some((entries, summary))
}

fn finish(mut bytes: Vec<u8>, seed: CheckSeed, coverage: Coverage) -> Vec<u8> {
    bytes.extend_from_slice(&coverage.batches.to_be_bytes());
    bytes.extend_from_slice(&coverage.bytes.to_be_bytes());
    let sum = seed.sum(&bytes);
    bytes.extend_from_slice(&sum.to_be_bytes());
    bytes
}

/// Cuts off what [`finish`] appended, after checking it.
fn checked(seed: CheckSeed, coverage: Coverage, bytes: &[u8]) -> Option<&[u8]> {
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    let (content, covered) = body.split_at_checked(body.len().checked_sub(8)?)?;
    let fits = seed.sum(body) == word(sum, 0)
        && word(covered, 0) == coverage.batches
        && word(covered, 4) == coverage.bytes;
    fits.then_some(content)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn long(bytes: &[u8], at: usize) -> i64 {
    i64::from(word(bytes, at) as i32) << 32 | i64::from(word(bytes, at + 4))
}

#[cfg(test)]
mod tests {
    use super::*;
    use vltava_model::{Offset, PartitionIndex, TopicId, TopicPartition};

    fn seed() -> CheckSeed {
        CheckSeed::new(TopicPartition::new(TopicId::new(7), PartitionIndex::new(1)), Offset::new(100))
    }

    fn sample() -> SparseIndex {
        let mut index = SparseIndex::default();
        let mut max = i64::MIN;
        for ordinal in 0..50u32 {
            let timestamp = i64::from(ordinal % 7) * 1000 - 2 + i64::from(ordinal);
            max = max.max(timestamp);
            let entry = CheckEntry {
                last: ordinal * 3 + 2,
                position: ordinal * 100,
                max_timestamp: timestamp,
                batch_sum: 0,
            };
            index.add(ordinal, &entry, max, 350);
        }
        index
    }

    #[test]
    fn floors_never_pass_the_target() {
        let index = sample();
        for relative in 0..150 {
            let floor = index.floor_offset(relative);
            assert!(floor <= relative / 3, "{relative} -> {floor}");
            assert!(relative / 3 - floor <= 4);
        }
        for timestamp in -3..7000 {
            let first =
                (0..50u32).find(|o| i64::from(o % 7) * 1000 - 2 + i64::from(*o) >= timestamp).unwrap_or(50);
            assert!(index.floor_timestamp(timestamp) <= first, "{timestamp}");
        }
        assert!(index.floor_timestamp(6000) > 3, "the time index is of some use");
    }

    #[test]
    fn files_read_back_and_every_flipped_bit_is_noticed() {
        let (index, coverage) = (sample(), Coverage { batches: 50, bytes: 5000 });
        let summary = TimeSummary { max_timestamp: -5, last_append_ms: 77 };
        let (offsets, times) =
            (index.encode_offsets(seed(), coverage), index.encode_times(seed(), coverage, summary));
        assert_eq!(SparseIndex::decode(seed(), coverage, &offsets, &times), Some(index));
        assert_eq!(decode_summary(seed(), coverage, &times), Some(summary));
        assert_eq!(
            SparseIndex::decode(seed(), Coverage { batches: 51, bytes: 5000 }, &offsets, &times),
            None
        );
        for bit in 0..offsets.len() * 8 {
            let mut bad = offsets.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SparseIndex::decode(seed(), coverage, &bad, &times), None);
        }
        for bit in 0..times.len() * 8 {
            let mut bad = times.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SparseIndex::decode(seed(), coverage, &offsets, &bad), None);
        }
        for len in 0..offsets.len() {
            assert_eq!(SparseIndex::decode(seed(), coverage, &offsets[..len], &times), None);
        }
    }
}
