//! Record batches: the unit in which records travel and are stored, byte for byte Kafka's format 2.
//!
//! A batch is checked once where it enters a node and then passed on as it is; only base offset and leader epoch, which
//! lie outside the checksum, are set by the leader. Nothing here panics on bytes, nor reserves memory because some count
//! in them says so.
//!
//! - `header`: the 61 bytes in front.  - `record`, `varint`: one record.  - `reader`: all records of a batch.
//! - `builder`: makes batches.  - `compression`, `lz4`: the codecs.  - `error`: what can be wrong.

mod builder;
mod compression;
mod error;
mod header;
mod lz4;
mod reader;
mod record;
#[cfg(test)]
mod tests;
mod varint;

use bytes::{Bytes, BytesMut};

pub use builder::BatchBuilder;
pub use compression::Compression;
pub use error::BatchError;
pub use header::{BatchHeader, HEADER_BYTES, MAGIC, PREFIX_BYTES, ProducerStamp, TimestampType};
pub use reader::{MAX_DECOMPRESSED_BYTES, Records, RecordsSummary};
pub use record::{MAX_RECORD_HEADERS, Record, RecordHeader, record_len_bound};

use crate::{LeaderEpoch, Offset};

/// No record takes less: a length, attributes, two deltas, two absent values and a count of headers.
const MIN_RECORD_BYTES: usize = 7;

/// One whole batch whose header and checksum have been verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    header: BatchHeader,
    bytes: Bytes,
}

impl Batch {
    /// Takes the bytes of exactly one batch and verifies length, version, checksum and counts.
    ///
    /// The records themselves are not looked at: see [`Self::validate_records`].
    ///
    /// # Errors
    /// Says what is wrong with the bytes.
    pub fn parse(bytes: Bytes) -> Result<Self, BatchError> {
        let header = whole_header(&bytes)?;
        if bytes.len() > header.length {
            return Err(BatchError::TrailingBytes { extra: bytes.len() - header.length });
        }
        let computed = crc32c::crc32c(&bytes[header::CRC_COVERS_FROM..]);
        if computed != header.crc {
            return Err(BatchError::Checksum { stored: header.crc, computed });
        }
        let records = header.length - HEADER_BYTES;
        if header.compression == Compression::None
            && (header.record_count as usize).saturating_mul(MIN_RECORD_BYTES) > records
        {
            return Err(BatchError::Malformed("the record count is larger than the bytes can hold"));
        }
        Ok(Self { header, bytes })
    }

    /// Takes any number of batches one behind the other, each at most `max_batch_bytes` long, and verifies each.
    ///
    /// The batches share the memory of `bytes`.
    ///
    /// # Errors
    /// Says what is wrong with the first bad one; a batch that is cut off at the end is an error.
    pub fn split(bytes: Bytes, max_batch_bytes: usize) -> Result<Vec<Self>, BatchError> {
        // The lengths are walked first, so that what is reserved stays in proportion to the bytes.
        let mut count = 0;
        let mut at = 0;
        while at < bytes.len() {
            let length = whole_header(&bytes[at..])?.length;
            if length > max_batch_bytes {
                return Err(BatchError::TooLarge { bytes: length, limit: max_batch_bytes });
            }
            at += length;
            count += 1;
        }
        let mut batches = Vec::with_capacity(count);
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = whole_header(&rest)?.length;
            batches.push(Self::parse(rest.split_to(length))?);
        }
        Ok(batches)
    }

    /// The header's fields.
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch as it is stored and sent.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The whole batch as it is stored and sent.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// Sets the two fields that the leader decides. Copies the bytes unless nobody else holds them.
    ///
    /// # Panics
    /// When the last record's offset would pass [`Offset::MAX`], or the epoch Kafka's 31 bits: the caller's own numbers.
    #[must_use]
    pub fn with_position(self, base_offset: Offset, leader_epoch: LeaderEpoch) -> Self {
        let end = base_offset.checked_add(u64::from(self.header.last_offset_delta) + 1);
        assert!(end.is_some(), "a batch at {base_offset} would pass the largest offset");
        let mut bytes = writable(self.bytes);
        bytes[..8].copy_from_slice(&base_offset.to_wire().to_be_bytes());
        bytes[header::LEADER_EPOCH_AT..][..4]
            .copy_from_slice(&header::leader_epoch_to_wire(Some(leader_epoch)));
        let header = BatchHeader { base_offset, leader_epoch: Some(leader_epoch), ..self.header };
        Self { header, bytes: bytes.freeze() }
    }

    /// Makes it another producer's, or gives it another number, and a new checksum. Copies the bytes unless nobody else
    /// holds them.
    #[must_use]
    pub fn with_producer(self, stamp: ProducerStamp) -> Self {
        let mut bytes = writable(self.bytes);
        let mut header = BatchHeader { producer: Some(stamp), ..self.header };
        if let Some(front) = bytes.first_chunk_mut() {
            header.write(front);
        }
        header.crc = crc32c::crc32c(&bytes[header::CRC_COVERS_FROM..]);
        bytes[header::CRC_AT..][..4].copy_from_slice(&header.crc.to_be_bytes());
        Self { header, bytes: bytes.freeze() }
    }

    /// Gives every record the time at which the leader appends the batch (`message.timestamp.type=LogAppendTime`), and
    /// the batch a new checksum. Copies the bytes unless nobody else holds them.
    #[must_use]
    pub fn with_append_time(self, now_ms: i64) -> Self {
        let mut bytes = writable(self.bytes);
        // The bit lies in the lower byte of the two.
        bytes[header::ATTRIBUTES_AT + 1] |= header::LOG_APPEND_TIME_BIT as u8;
        bytes[header::MAX_TIMESTAMP_AT..][..8].copy_from_slice(&now_ms.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[header::CRC_COVERS_FROM..]);
        bytes[header::CRC_AT..][..4].copy_from_slice(&crc.to_be_bytes());
        let header = BatchHeader {
            crc,
            timestamp_type: TimestampType::LogAppendTime,
            max_timestamp: now_ms,
            ..self.header
        };
        Self { header, bytes: bytes.freeze() }
    }
}

fn writable(bytes: Bytes) -> BytesMut {
    bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]))
}

/// The header of the batch at the front of `bytes`, all of which must be there.
fn whole_header(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
    let header =
        BatchHeader::peek(bytes)?.ok_or(BatchError::Truncated { have: bytes.len(), need: HEADER_BYTES })?;
    if bytes.len() < header.length {
        return Err(BatchError::Truncated { have: bytes.len(), need: header.length });
    }
    Ok(header)
}
