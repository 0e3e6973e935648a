//! Makes record batches.
//!
//! Knows nothing of when a batch is full: the caller has limits, and is told the size.

use bytes::Bytes;

use super::header::{BatchHeader, CRC_AT, CRC_COVERS_FROM, HEADER_BYTES, ProducerStamp, TimestampType};
use super::record::{self, MAX_RECORD_HEADERS, RecordHeader, record_len_bound};
use super::{Batch, BatchError, Compression};
use crate::Offset;

/// What one batch may hold before compression, in bytes: its length must fit Kafka's 31 bits, also where a codec makes
/// the records larger.
const MAX_BUILD_BYTES: usize = 1 << 30;

/// Gathers records and makes one batch of them, with base offset 0 and no leader epoch.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    compression: Compression,
    producer: Option<ProducerStamp>,
    /// Room for the header, then the records as they are before compression.
    buffer: Vec<u8>,
    count: u32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl BatchBuilder {
    /// An empty batch whose records will be compressed so.
    pub fn new(compression: Compression) -> Self {
        Self::with_room(compression, 0)
    }

    /// An empty batch with room for so many bytes before compression; it takes more all the same.
    pub fn with_room(compression: Compression, bytes: usize) -> Self {
        let mut buffer = Vec::with_capacity(bytes.max(HEADER_BYTES));
        buffer.resize(HEADER_BYTES, 0);
        Self { compression, producer: None, buffer, count: 0, base_timestamp: -1, max_timestamp: -1 }
    }

    /// Marks the batch as an idempotent producer's.
    #[must_use]
    pub fn producer(mut self, stamp: ProducerStamp) -> Self {
        self.producer = Some(stamp);
        self
    }

    /// Adds a record. `timestamp_ms` is in milliseconds since 1970, -1 for none; `None` is Kafka's null.
    ///
    /// # Errors
    /// When the record has too many headers, its timestamp is too far from the first record's for 64 bits, or the batch
    /// would pass 1 GiB. The batch is as it was then.
    pub fn append(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[RecordHeader],
    ) -> Result<(), BatchError> {
        if headers.len() > MAX_RECORD_HEADERS {
            return Err(BatchError::InvalidRecord("a record has more than 10,000 headers"));
        }
        let bytes = self.buffer.len().saturating_add(record_len_bound(key, value, headers));
        if bytes > MAX_BUILD_BYTES {
            return Err(BatchError::TooLarge { bytes, limit: MAX_BUILD_BYTES });
        }
        if self.count == 0 {
            self.base_timestamp = timestamp_ms;
            self.max_timestamp = timestamp_ms;
        }
        let Some(timestamp_delta) = timestamp_ms.checked_sub(self.base_timestamp) else {
            return Err(BatchError::InvalidRecord("a timestamp is too far from the batch's first"));
        };
        record::put(&mut self.buffer, (timestamp_delta, self.count), key, value, headers);
        self.max_timestamp = self.max_timestamp.max(timestamp_ms);
        // A record has at least 7 bytes, and there are at most 2^30 of them.
        self.count += 1;
        Ok(())
    }

    /// How many records there are.
    pub const fn record_count(&self) -> u32 {
        self.count
    }

    /// Whether there is no record yet.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The size of the batch in bytes before compression: exact without compression, else an estimate from above that
    /// only incompressible records exceed, and by little.
    pub const fn encoded_len_estimate(&self) -> usize {
        self.buffer.len()
    }

    /// Makes the batch's bytes.
    ///
    /// # Panics
    /// As [`Self::build_batch`].
    pub fn build(self) -> Bytes {
        self.build_batch().into_bytes()
    }

    /// Makes the batch.
    ///
    /// # Panics
    /// When there are no records: no such batch may be sent.
    pub fn build_batch(self) -> Batch {
        assert!(self.count > 0, "a batch without records was built");
        let mut batch = match self.compression {
            Compression::None => self.buffer,
            compression => {
                let mut compressed = vec![0; HEADER_BYTES];
                compression.compress(&self.buffer[HEADER_BYTES..], &mut compressed);
                compressed
            }
        };
        let mut header = BatchHeader {
            base_offset: Offset::ZERO,
            length: batch.len(),
            leader_epoch: None,
            crc: 0,
            compression: self.compression,
            timestamp_type: TimestampType::CreateTime,
            is_transactional: false,
            is_control: false,
            last_offset_delta: self.count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer: self.producer,
            record_count: self.count,
        };
        if let Some(front) = batch.first_chunk_mut() {
            header.write(front);
        }
        header.crc = crc32c::crc32c(&batch[CRC_COVERS_FROM..]);
        batch[CRC_AT..][..4].copy_from_slice(&header.crc.to_be_bytes());
        Batch { header, bytes: Bytes::from(batch) }
    }
}
