//! The fixed front part of a record batch, byte for byte Kafka's format 2.
//!
//! ```text
//!  0 base offset      i64   not covered by the checksum: set by the leader
//!  8 length           i32   bytes after this field
//! 12 leader epoch     i32   not covered by the checksum: set by the leader
//! 16 magic            i8    2
//! 17 checksum         u32   CRC-32C of everything from 21 to the end
//! 21 attributes       i16   0-2 compression, 3 timestamp type, 4 transactional, 5 control
//! 23 last offset delta i32
//! 27 base timestamp   i64   ms
//! 35 max timestamp    i64   ms
//! 43 producer id      i64   -1 for none
//! 51 producer epoch   i16
//! 53 base sequence    i32
//! 57 record count     i32
//! 61 records
//! ```
//!
//! Knows nothing of what the records hold.

use super::{BatchError, Compression};
use crate::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

/// The size of a batch without any record.
pub const HEADER_BYTES: usize = 61;
/// The part of a batch that its own length field does not count: base offset and length.
pub const PREFIX_BYTES: usize = 12;
/// The only format version that is read or written.
pub const MAGIC: i8 = 2;

pub(super) const LEADER_EPOCH_AT: usize = 12;
pub(super) const CRC_AT: usize = 17;
/// Where the bytes begin that the checksum covers.
pub(super) const CRC_COVERS_FROM: usize = 21;
pub(super) const ATTRIBUTES_AT: usize = 21;
pub(super) const MAX_TIMESTAMP_AT: usize = 35;

const LENGTH_AT: usize = 8;
const MAGIC_AT: usize = 16;
const LAST_OFFSET_DELTA_AT: usize = 23;
const BASE_TIMESTAMP_AT: usize = 27;
const PRODUCER_ID_AT: usize = 43;
const PRODUCER_EPOCH_AT: usize = 51;
const BASE_SEQUENCE_AT: usize = 53;
const RECORD_COUNT_AT: usize = 57;

const COMPRESSION_MASK: u16 = 0b111;
pub(super) const LOG_APPEND_TIME_BIT: u16 = 1 << 3;
const TRANSACTIONAL_BIT: u16 = 1 << 4;
const CONTROL_BIT: u16 = 1 << 5;

/// Whose clock the timestamps of a batch are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// Each record has the time that its producer gave it.
    CreateTime,
    /// Every record has the time at which the leader appended the batch: its max timestamp.
    LogAppendTime,
}

/// What an idempotent producer puts on its batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProducerStamp {
    /// Who wrote the batch.
    pub id: ProducerId,
    /// In which of its incarnations.
    pub epoch: ProducerEpoch,
    /// The number of the first record; each further record has the next number, with 0 after 2^31 - 1.
    pub base_sequence: Sequence,
}

impl ProducerStamp {
    /// The number of the last of `record_count` records; `record_count` is at least 1.
    pub const fn last_sequence(&self, record_count: u32) -> Sequence {
        self.base_sequence.advance(record_count.saturating_sub(1))
    }
}

/// The fields of a batch's header. All of them are what the bytes say: only a [`super::Batch`] has had its checksum
/// verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of the first record (0 as a rule while a producer holds it).
    pub base_offset: Offset,
    /// The size of the whole batch in bytes, the 12 of the prefix included.
    pub length: usize,
    /// The epoch of the leader that appended it; `None` before a leader has.
    pub leader_epoch: Option<LeaderEpoch>,
    /// CRC-32C of everything behind the checksum field.
    pub crc: u32,
    /// How the records are compressed.
    pub compression: Compression,
    /// What the timestamps mean.
    pub timestamp_type: TimestampType,
    /// Part of a transaction.
    pub is_transactional: bool,
    /// Holds a marker of a transaction instead of a client's records.
    pub is_control: bool,
    /// The last record's offset less the base offset, also where compaction removed that record.
    pub last_offset_delta: u32,
    /// What the timestamps of the records are relative to, in ms since 1970.
    pub base_timestamp: i64,
    /// The newest timestamp of all records, in ms since 1970; -1 when the producer set none.
    pub max_timestamp: i64,
    /// Set by idempotent producers. Control batches have no sequence and hence no stamp.
    pub producer: Option<ProducerStamp>,
    /// How many records the batch holds.
    pub record_count: u32,
}

impl BatchHeader {
    /// Reads the header at the front of `bytes`; `None` when there are not enough bytes for one yet.
    ///
    /// Nothing behind the header need be there, and no checksum is verified.
    ///
    /// # Errors
    /// When no writer can have written such a header.
    pub fn peek(bytes: &[u8]) -> Result<Option<Self>, BatchError> {
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        Self::read(header).map(Some)
    }

    fn read(header: &[u8; HEADER_BYTES]) -> Result<Self, BatchError> {
        let magic = i8::from_be_bytes(field(header, MAGIC_AT));
        if magic != MAGIC {
            return Err(BatchError::Magic(magic));
        }
        let length = read_length(header)?;
        let attributes = u16::from_be_bytes(field(header, ATTRIBUTES_AT));
        let is_control = attributes & CONTROL_BIT != 0;
        let base_offset = Offset::from_wire(i64::from_be_bytes(field(header, 0)))
            .ok_or(BatchError::Malformed("the base offset is negative"))?;
        let last_offset_delta =
            unsigned(field(header, LAST_OFFSET_DELTA_AT), "the last offset delta is negative")?;
        if base_offset.checked_add(u64::from(last_offset_delta) + 1).is_none() {
            return Err(BatchError::Malformed("the offsets run past the largest one"));
        }
        let record_count = unsigned(field(header, RECORD_COUNT_AT), "the record count is negative")?;
        if u64::from(record_count) > u64::from(last_offset_delta) + 1 {
            return Err(BatchError::Malformed("there are more records than offsets"));
        }
        Ok(Self {
            base_offset,
            length,
            leader_epoch: read_leader_epoch(header)?,
            crc: u32::from_be_bytes(field(header, CRC_AT)),
            compression: Compression::from_number((attributes & COMPRESSION_MASK) as u8)?,
            timestamp_type: if attributes & LOG_APPEND_TIME_BIT == 0 {
                TimestampType::CreateTime
            } else {
                TimestampType::LogAppendTime
            },
            is_transactional: attributes & TRANSACTIONAL_BIT != 0,
            is_control,
            last_offset_delta,
            base_timestamp: i64::from_be_bytes(field(header, BASE_TIMESTAMP_AT)),
            max_timestamp: i64::from_be_bytes(field(header, MAX_TIMESTAMP_AT)),
            producer: if is_control { None } else { read_producer(header)? },
            record_count,
        })
    }

    /// The offset of the last record.
    pub const fn last_offset(&self) -> Offset {
        // Reading refuses a header whose offsets run past the largest one.
        Offset::new(self.base_offset.get() + self.last_offset_delta as u64)
    }

    /// The offset after the last record: the next batch's base offset.
    pub const fn end_offset(&self) -> Offset {
        self.last_offset().next()
    }

    /// Writes the header; the checksum is written as the field has it.
    pub(super) fn write(&self, header: &mut [u8; HEADER_BYTES]) {
        let mut attributes = u16::from(self.compression.number());
        if self.timestamp_type == TimestampType::LogAppendTime {
            attributes |= LOG_APPEND_TIME_BIT;
        }
        if self.is_transactional {
            attributes |= TRANSACTIONAL_BIT;
        }
        if self.is_control {
            attributes |= CONTROL_BIT;
        }
        let (id, epoch, sequence) = match self.producer {
            Some(stamp) => {
                (stamp.id.get() as i64, stamp.epoch.get() as i16, stamp.base_sequence.get() as i32)
            }
            None => (-1, -1, -1),
        };
        set(header, 0, self.base_offset.to_wire().to_be_bytes());
        set(header, LENGTH_AT, ((self.length - PREFIX_BYTES) as i32).to_be_bytes());
        set(header, LEADER_EPOCH_AT, leader_epoch_to_wire(self.leader_epoch));
        set(header, MAGIC_AT, MAGIC.to_be_bytes());
        set(header, CRC_AT, self.crc.to_be_bytes());
        set(header, ATTRIBUTES_AT, attributes.to_be_bytes());
        set(header, LAST_OFFSET_DELTA_AT, (self.last_offset_delta as i32).to_be_bytes());
        set(header, BASE_TIMESTAMP_AT, self.base_timestamp.to_be_bytes());
        set(header, MAX_TIMESTAMP_AT, self.max_timestamp.to_be_bytes());
        set(header, PRODUCER_ID_AT, id.to_be_bytes());
        set(header, PRODUCER_EPOCH_AT, epoch.to_be_bytes());
        set(header, BASE_SEQUENCE_AT, sequence.to_be_bytes());
        set(header, RECORD_COUNT_AT, (self.record_count as i32).to_be_bytes());
    }
}

/// The leader epoch's field.
pub(super) fn leader_epoch_to_wire(epoch: Option<LeaderEpoch>) -> [u8; 4] {
    let Some(epoch) = epoch else { return (-1i32).to_be_bytes() };
    assert!(epoch.get() <= i32::MAX as u32, "leader epoch {epoch} does not fit Kafka's field");
    epoch.get().to_be_bytes()
}

fn read_leader_epoch(header: &[u8; HEADER_BYTES]) -> Result<Option<LeaderEpoch>, BatchError> {
    match i32::from_be_bytes(field(header, LEADER_EPOCH_AT)) {
        -1 => Ok(None),
        epoch => u32::try_from(epoch)
            .map(|epoch| Some(LeaderEpoch::new(epoch)))
            .map_err(|_| BatchError::Malformed("the leader epoch is negative")),
    }
}

fn read_length(header: &[u8; HEADER_BYTES]) -> Result<usize, BatchError> {
    let length = i32::from_be_bytes(field(header, LENGTH_AT));
    let Some(length) = usize::try_from(length).ok().map(|length| length + PREFIX_BYTES) else {
        return Err(BatchError::Malformed("the length is negative"));
    };
    if length < HEADER_BYTES {
        return Err(BatchError::Malformed("the length is shorter than a header"));
    }
    Ok(length)
}

fn read_producer(header: &[u8; HEADER_BYTES]) -> Result<Option<ProducerStamp>, BatchError> {
    let Ok(id) = u64::try_from(i64::from_be_bytes(field(header, PRODUCER_ID_AT))) else { return Ok(None) };
    let Ok(epoch) = u16::try_from(i16::from_be_bytes(field(header, PRODUCER_EPOCH_AT))) else {
        return Err(BatchError::Malformed("the batch has a producer id, but no producer epoch"));
    };
    let sequence = unsigned(field(header, BASE_SEQUENCE_AT), "the batch has a producer id, but no sequence")?;
    Ok(Some(ProducerStamp {
        id: ProducerId::new(id),
        epoch: ProducerEpoch::new(epoch),
        base_sequence: Sequence::new(sequence),
    }))
}

fn unsigned(bytes: [u8; 4], reason: &'static str) -> Result<u32, BatchError> {
    u32::try_from(i32::from_be_bytes(bytes)).map_err(|_| BatchError::Malformed(reason))
}

fn field<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[at..at + N]);
    bytes
}

fn set<const N: usize>(header: &mut [u8; HEADER_BYTES], at: usize, bytes: [u8; N]) {
    header[at..at + N].copy_from_slice(&bytes);
}
