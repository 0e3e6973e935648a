//! The side file `<base>.check`: what a batch's own checksum leaves out.
//!
//! Kafka's batch checksum begins at the attributes, so it says nothing of the base offset, the leader epoch and the
//! partition that a batch belongs to: a batch in the wrong place passes it. Beside each `.log` lies a file with a
//! header and one fixed entry per batch, whose first checksum covers exactly those. A second checksum covers the entry
//! and its ordinal, so the file can be trusted without reading the log: it doubles as the dense index from which the
//! sparse ones are rebuilt.
//!
//! Layout, big-endian. Header: magic, version, topic id (16), partition, base offset (8), creation time (8), crc32c of
//! all before. Cuts: four of 1 + offset (8) and leader epoch, 1 + the newest epoch, or zeroes; checksum. Entry: last offset relative to the base, position in the `.log`, largest timestamp (8), batch checksum,
//! entry checksum. Knows nothing of indexes, recovery or files being open.

use vltava_model::batch::BatchHeader;
use vltava_model::{Offset, TopicPartition};

use super::cuts::{CUTS_BYTES, Cuts};

const MAGIC: &[u8; 4] = b"VCHK";
const VERSION: u32 = 1;

/// The length of the file's header.
pub(crate) const HEADER_BYTES: usize = 48;

/// The length of the note of the last cuts, which follows the header.
pub(crate) const NOTE_BYTES: usize = CUTS_BYTES + 4;

/// Where the entries begin.
pub(crate) const ENTRIES_AT: u64 = (HEADER_BYTES + NOTE_BYTES) as u64;

/// The length of an entry.
pub(crate) const ENTRY_BYTES: usize = 24;

/// The checksum of a partition's identity and a segment's base, from which all checksums of that segment continue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CheckSeed(u32);

impl CheckSeed {
    pub(crate) fn new(partition: TopicPartition, base: Offset) -> Self {
        let sum = crc32c::crc32c(&partition.topic.to_bytes());
        let sum = crc32c::crc32c_append(sum, &partition.partition.get().to_be_bytes());
        Self(crc32c::crc32c_append(sum, &base.get().to_be_bytes()))
    }

    /// A checksum of `bytes` that holds for this segment only.
    pub(crate) fn sum(self, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(self.0, bytes)
    }

    /// The checksum over what identifies a batch and its own checksum leaves out.
    pub(crate) fn batch_sum(self, header: &BatchHeader) -> u32 {
        let mut bytes = [0u8; 20];
        bytes[..8].copy_from_slice(&header.base_offset.get().to_be_bytes());
        // A batch without an epoch carries -1, as in Kafka.
        let epoch = header.leader_epoch.map_or(u32::MAX, |epoch| epoch.get());
        bytes[8..12].copy_from_slice(&epoch.to_be_bytes());
        bytes[12..16].copy_from_slice(&(header.length as u32).to_be_bytes());
        bytes[16..].copy_from_slice(&header.crc.to_be_bytes());
        self.sum(&bytes)
    }
}

/// Writes the header of a check file.
pub(crate) fn encode_header(partition: TopicPartition, base: Offset, created_ms: i64) -> [u8; HEADER_BYTES] {
    let mut bytes = [0u8; HEADER_BYTES];
    bytes[..4].copy_from_slice(MAGIC);
    bytes[4..8].copy_from_slice(&VERSION.to_be_bytes());
    bytes[8..24].copy_from_slice(&partition.topic.to_bytes());
    bytes[24..28].copy_from_slice(&partition.partition.get().to_be_bytes());
    bytes[28..36].copy_from_slice(&base.get().to_be_bytes());
    bytes[36..44].copy_from_slice(&created_ms.to_be_bytes());
    let sum = crc32c::crc32c(&bytes[..44]);
    bytes[44..].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// Reads a header; gives the creation time, or `None` when it is damaged or another segment's.
pub(crate) fn decode_header(bytes: &[u8], partition: TopicPartition, base: Offset) -> Option<i64> {
    let created_ms = i64::from_be_bytes(bytes.get(36..44)?.try_into().ok()?);
    (bytes.get(..HEADER_BYTES)? == encode_header(partition, base, created_ms)).then_some(created_ms)
}

/// The version that a whole header of a later release states.
pub(crate) fn newer_version(bytes: &[u8]) -> Option<u32> {
    let (header, sum) = bytes.get(..HEADER_BYTES)?.split_last_chunk::<4>()?;
    let (magic, rest) = header.split_first_chunk::<4>()?;
    let version = u32::from_be_bytes(*rest.first_chunk::<4>()?);
    let is_whole = magic == MAGIC && crc32c::crc32c(header) == u32::from_be_bytes(*sum);
    (is_whole && version > VERSION).then_some(version)
}

/// Writes the note of where the log was cut.
pub(crate) fn encode_cuts(seed: CheckSeed, cuts: &Cuts) -> [u8; NOTE_BYTES] {
    let mut bytes = [0u8; NOTE_BYTES];
    bytes[..CUTS_BYTES].copy_from_slice(&cuts.encode());
    let sum = seed.sum(&bytes[..CUTS_BYTES]);
    bytes[CUTS_BYTES..].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// Reads the note of where the log was cut; `None` when it is damaged or another segment's.
pub(crate) fn decode_cuts(seed: CheckSeed, bytes: &[u8]) -> Option<Cuts> {
    let cuts = Cuts::decode(bytes.first_chunk::<CUTS_BYTES>()?);
    (bytes == encode_cuts(seed, &cuts)).then_some(cuts)
}

/// One batch, as its check file knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CheckEntry {
    /// The batch's last offset, counted from the segment's base.
    pub last: u32,
    /// Where the batch begins in the `.log`.
    pub position: u32,
    /// The largest timestamp within the batch.
    pub max_timestamp: i64,
    /// [`CheckSeed::batch_sum`] of the batch.
    pub batch_sum: u32,
}

impl CheckEntry {
    /// Describes a batch that lies at `position` of the segment that begins at `base`.
    pub(crate) fn of(seed: CheckSeed, base: Offset, position: u32, header: &BatchHeader) -> Self {
        let last = u32::try_from(header.last_offset().since(base)).unwrap_or(u32::MAX);
        Self { last, position, max_timestamp: header.max_timestamp, batch_sum: seed.batch_sum(header) }
    }

    pub(crate) fn encode(&self, seed: CheckSeed, ordinal: u32) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0u8; ENTRY_BYTES];
        bytes[..4].copy_from_slice(&self.last.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.position.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.max_timestamp.to_be_bytes());
        bytes[16..20].copy_from_slice(&self.batch_sum.to_be_bytes());
        let sum = Self::entry_sum(seed, ordinal, &bytes);
        bytes[20..].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    /// Reads the entry of the `ordinal`th batch; `None` when it is damaged or belongs elsewhere.
    pub(crate) fn decode(seed: CheckSeed, ordinal: u32, bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; ENTRY_BYTES] = bytes.try_into().ok()?;
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if Self::entry_sum(seed, ordinal, bytes) != word(20) {
            return None;
        }
        let max_timestamp = i64::from_be_bytes(bytes[8..16].try_into().ok()?);
        Some(Self { last: word(0), position: word(4), max_timestamp, batch_sum: word(16) })
    }

    fn entry_sum(seed: CheckSeed, ordinal: u32, bytes: &[u8; ENTRY_BYTES]) -> u32 {
        crc32c::crc32c_append(seed.sum(&ordinal.to_be_bytes()), &bytes[..20])
    }
}

/// Where the entry of the `ordinal`th batch begins in the check file.
pub(crate) fn entry_position(ordinal: u32) -> u64 {
    ENTRIES_AT + u64::from(ordinal) * ENTRY_BYTES as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::cuts::Cut;
    use vltava_model::{LeaderEpoch, PartitionIndex, TopicId};

    fn partition(topic: u128, index: u32) -> TopicPartition {
        TopicPartition::new(TopicId::new(topic), PartitionIndex::new(index))
    }

    #[test]
    fn headers_cuts_and_entries_read_back_and_every_flipped_bit_is_noticed() {
        let (partition, base) = (partition(7, 3), Offset::new(500));
        let seed = CheckSeed::new(partition, base);
        let header = encode_header(partition, base, -9);
        assert_eq!(decode_header(&header, partition, base), Some(-9));
        for bit in 0..HEADER_BYTES * 8 {
            let mut bad = header;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_header(&bad, partition, base), None);
        }
        assert_eq!(newer_version(&header), None);
        let mut newer = header;
        newer[4..8].copy_from_slice(&7u32.to_be_bytes());
        assert_eq!(newer_version(&newer), None, "damaged");
        let sum = crc32c::crc32c(&newer[..44]);
        newer[44..].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(newer_version(&newer), Some(7));
        let mut cuts = Cuts::default();
        for at in [700, 800] {
            let note = encode_cuts(seed, &cuts);
            assert_eq!(decode_cuts(seed, &note).as_ref(), Some(&cuts));
            for bit in 0..NOTE_BYTES * 8 {
                let mut bad = note;
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(decode_cuts(seed, &bad), None);
            }
            cuts.push(Cut::new(Offset::new(at), LeaderEpoch::new(3)));
        }
        let entry = CheckEntry { last: 9, position: 1000, max_timestamp: -1, batch_sum: 0xfeed };
        let bytes = entry.encode(seed, 4);
        assert_eq!(CheckEntry::decode(seed, 4, &bytes), Some(entry));
        assert_eq!(CheckEntry::decode(seed, 5, &bytes), None);
        for bit in 0..ENTRY_BYTES * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(CheckEntry::decode(seed, 4, &bad), None);
        }
    }

    #[test]
    fn another_partition_or_segment_has_other_checksums() {
        let sums: Vec<u32> = [(1, 0, 0), (2, 0, 0), (1, 1, 0), (1, 0, 5)]
            .map(|(topic, index, base)| CheckSeed::new(partition(topic, index), Offset::new(base)).sum(b"x"))
            .to_vec();
        for (at, sum) in sums.iter().enumerate() {
            assert!(!sums[..at].contains(sum));
        }
    }
}
