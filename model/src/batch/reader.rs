//! Reads the records of a batch, and judges those that a client sent.
//!
//! Knows nothing of topics and their limits: the caller compares what it is told here.

use bytes::Bytes;

use super::record::{RawRecord, Record};
use super::varint::Cursor;
use super::{Batch, BatchError, BatchHeader, Compression, HEADER_BYTES, TimestampType};

/// What records may decompress to where the caller names no limit of its own, in bytes.
pub const MAX_DECOMPRESSED_BYTES: usize = 64 << 20;

/// The records of one batch, in order; made by [`Batch::records`]. Ends after the first error.
#[derive(Debug)]
pub struct Records {
    header: BatchHeader,
    /// All records, decompressed.
    bytes: Bytes,
    at: usize,
    read: u32,
    last_delta: Option<u32>,
    ended: bool,
}

/// What [`Batch::validate_records`] found out about the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordsSummary {
    /// The oldest timestamp, in ms since 1970.
    pub oldest_timestamp: i64,
    /// The newest timestamp, in ms since 1970. The header's max timestamp is the client's claim and may differ.
    pub newest_timestamp: i64,
    /// The size of the records when decompressed, in bytes.
    pub decompressed_bytes: usize,
    /// Whether any record has no key, as a compacted topic refuses it.
    pub has_null_key: bool,
}

impl Batch {
    /// The records, decompressed to at most [`MAX_DECOMPRESSED_BYTES`].
    ///
    /// # Errors
    /// When they cannot be decompressed or are too large; an error within a record comes from the iterator.
    pub fn records(&self) -> Result<Records, BatchError> {
        self.records_within(MAX_DECOMPRESSED_BYTES)
    }

    /// The records, decompressed to at most `limit` bytes.
    ///
    /// # Errors
    /// When they cannot be decompressed or are too large; an error within a record comes from the iterator.
    pub fn records_within(&self, limit: usize) -> Result<Records, BatchError> {
        let stored = self.bytes.slice(HEADER_BYTES..);
        let bytes = match self.header.compression {
            Compression::None if stored.len() > limit => {
                return Err(BatchError::DecompressedTooLarge { limit });
            }
            Compression::None => stored,
            compression => Bytes::from(compression.decompress(&stored, limit)?),
        };
        Ok(Records { header: self.header, bytes, at: 0, read: 0, last_delta: None, ended: false })
    }

    /// Checks what a client may send, with at most [`MAX_DECOMPRESSED_BYTES`] of records.
    ///
    /// # Errors
    /// As [`Self::validate_records_within`].
    pub fn validate_records(&self) -> Result<RecordsSummary, BatchError> {
        self.validate_records_within(MAX_DECOMPRESSED_BYTES)
    }

    /// Checks what a client may send: at least one record, not a control batch, offsets that count up from the base
    /// offset without a gap, every record well formed, nothing behind the last, and at most `limit` bytes of records.
    ///
    /// # Errors
    /// Says which rule is broken.
    pub fn validate_records_within(&self, limit: usize) -> Result<RecordsSummary, BatchError> {
        let header = &self.header;
        if header.is_control {
            return Err(BatchError::InvalidRecord("clients may not write control batches"));
        }
        if header.is_transactional && header.producer.is_none() {
            return Err(BatchError::InvalidRecord("a transactional batch has no producer id"));
        }
        if header.record_count == 0 {
            return Err(BatchError::InvalidRecord("the batch has no records"));
        }
        if header.record_count - 1 != header.last_offset_delta {
            return Err(BatchError::InvalidRecord("the record count does not match the last offset delta"));
        }
        let mut records = self.records_within(limit)?;
        let mut summary = RecordsSummary {
            oldest_timestamp: i64::MAX,
            newest_timestamp: i64::MIN,
            decompressed_bytes: records.bytes.len(),
            has_null_key: false,
        };
        // Deltas increase and end at the last one, and there are as many records as deltas: so none is left out.
        while let Some(raw) = records.next_raw() {
            let raw = raw?;
            let timestamp = records.timestamp(&raw)?;
            summary.oldest_timestamp = summary.oldest_timestamp.min(timestamp);
            summary.newest_timestamp = summary.newest_timestamp.max(timestamp);
            summary.has_null_key |= raw.key.is_none();
        }
        Ok(summary)
    }
}

impl Records {
    /// How many records the header promises; more never come.
    pub const fn promised(&self) -> u32 {
        self.header.record_count
    }

    fn next_raw(&mut self) -> Option<Result<RawRecord, BatchError>> {
        if self.ended {
            return None;
        }
        if self.read == self.header.record_count {
            self.ended = true;
            let left = self.bytes.len() - self.at;
            return (left > 0).then_some(Err(BatchError::InvalidRecord("bytes follow the last record")));
        }
        Some(self.read_raw())
    }

    fn read_raw(&mut self) -> Result<RawRecord, BatchError> {
        let mut cursor = Cursor::new(&self.bytes, self.at);
        let raw = RawRecord::read(&mut cursor)?;
        let delta = raw.offset_delta;
        if delta > self.header.last_offset_delta || self.last_delta.is_some_and(|last| delta <= last) {
            return Err(BatchError::InvalidRecord("the offset deltas do not count up to the last one"));
        }
        self.at = cursor.at();
        self.read += 1;
        self.last_delta = Some(delta);
        Ok(raw)
    }

    fn timestamp(&self, raw: &RawRecord) -> Result<i64, BatchError> {
        match self.header.timestamp_type {
            TimestampType::LogAppendTime => Ok(self.header.max_timestamp),
            TimestampType::CreateTime => self
                .header
                .base_timestamp
                .checked_add(raw.timestamp_delta)
                .ok_or(BatchError::InvalidRecord("a timestamp does not fit 64 bits")),
        }
    }

    fn record(&self, raw: &RawRecord) -> Result<Record, BatchError> {
        let slice = |range: &std::ops::Range<usize>| self.bytes.slice(range.clone());
        Ok(Record {
            // The header's reading has seen that the last delta fits, and this one is not above it.
            offset: crate::Offset::new(self.header.base_offset.get() + u64::from(raw.offset_delta)),
            timestamp_ms: self.timestamp(raw)?,
            key: raw.key.as_ref().map(slice),
            value: raw.value.as_ref().map(slice),
            headers: raw.headers(&self.bytes)?,
        })
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = self.next_raw()?.and_then(|raw| self.record(&raw));
        self.ended |= record.is_err();
        Some(record)
    }
}

impl std::iter::FusedIterator for Records {}
