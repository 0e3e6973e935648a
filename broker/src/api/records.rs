//! Between plain records and batches, and what a batch must satisfy to be taken.

use bytes::Bytes;
use vltava_model::batch::{
    Batch, BatchBuilder, BatchError, Compression, ProducerStamp, RecordHeader, TimestampType,
};
use vltava_model::configs::TopicConfig;
use vltava_model::{ErrorCode, Offset, ProducerEpoch, ProducerId, Sequence};
use vltava_proto::plain::PlainError;
use vltava_proto::v1::{self, PlainRecords};

/// Why records are not taken.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// The bytes are no sound batch.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The bytes are no records.
    #[error(transparent)]
    Plain(#[from] PlainError),
    /// So many small records that the batch would be much larger than what was sent.
    #[error("{count} records in {bytes} bytes make too large a batch: send fewer at once")]
    TooSmall {
        /// How many there are.
        count: usize,
        /// How many bytes they take on the wire.
        bytes: usize,
    },
    /// No records at all.
    #[error("a batch must hold at least one record")]
    Empty,
    /// An unknown compression.
    #[error("compression {0} is none of 0 to 4")]
    Compression(i32),
    /// A producer's epoch that can't be one.
    #[error("producer epoch {0} is above 32,767")]
    ProducerEpoch(u32),
    /// A timestamp outside of what the topic takes.
    #[error(
        "timestamp {timestamp_ms} is outside of what message.timestamp.before.max.ms and .after.max.ms allow"
    )]
    Timestamp {
        /// The offender, in milliseconds since 1970.
        timestamp_ms: i64,
    },
    /// Transactions are not served.
    #[error("transactional batches are not supported")]
    Transactional,
}

impl RecordsError {
    /// The code for the client.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Batch(error) => error.code(),
            Self::Empty | Self::Transactional => ErrorCode::InvalidRecord,
            Self::Compression(_) | Self::ProducerEpoch(_) | Self::Plain(_) => ErrorCode::InvalidRequest,
            Self::TooSmall { .. } => ErrorCode::MessageTooLarge,
            Self::Timestamp { .. } => ErrorCode::InvalidTimestamp,
        }
    }
}

/// How many bytes a batch may have beyond the records' bytes on the wire.
const GROWTH_MAX: usize = 512 * 1024;

/// Makes a batch of plain records; those without a timestamp get `now_ms`. Takes no more memory than twice the records'
/// bytes and 1 MiB.
///
/// # Errors
/// When the records can't form a batch.
pub fn encode(plain: &PlainRecords, now_ms: i64) -> Result<Bytes, RecordsError> {
    if plain.is_empty() {
        return Err(RecordsError::Empty);
    }
    let compression = u8::try_from(plain.compression)
        .ok()
        .and_then(|number| Compression::from_number(number).ok())
        .ok_or(RecordsError::Compression(plain.compression))?;
    let mut builder = BatchBuilder::new(compression);
    if let Some(id) = plain.producer_id {
        let epoch = u16::try_from(plain.producer_epoch)
            .ok()
            .filter(|epoch| *epoch <= i16::MAX as u16)
            .ok_or(RecordsError::ProducerEpoch(plain.producer_epoch))?;
        builder = builder.producer(ProducerStamp {
            id: ProducerId::new(id),
            epoch: ProducerEpoch::new(epoch),
            base_sequence: Sequence::new(plain.base_sequence),
        });
    }
    for record in plain.records() {
        let record = record?;
        let headers: Vec<RecordHeader> =
            record.headers.into_iter().map(|header| RecordHeader::new(header.key, header.value)).collect();
        let timestamp = record.timestamp_ms.unwrap_or(now_ms);
        builder.append(timestamp, record.key.as_deref(), record.value.as_deref(), &headers)?;
        if builder.encoded_len_estimate() > plain.bytes() + GROWTH_MAX {
            return Err(RecordsError::TooSmall { count: plain.len(), bytes: plain.bytes() });
        }
    }
    Ok(builder.build())
}

/// The plain records of whole batches from `from` on.
///
/// # Errors
/// When a batch can't be decoded.
pub fn decode(batches: Bytes, from: Offset) -> Result<Vec<v1::Record>, RecordsError> {
    let mut plain = Vec::new();
    for batch in Batch::split(batches, usize::MAX)? {
        if batch.header().is_control {
            continue;
        }
        for record in batch.records()? {
            let record = record?;
            if record.offset < from {
                continue;
            }
            plain.push(v1::Record {
                key: record.key,
                value: record.value,
                headers: record
                    .headers
                    .into_iter()
                    .map(|header| v1::Header { key: header.key, value: header.value })
                    .collect(),
                timestamp_ms: (record.timestamp_ms >= 0).then_some(record.timestamp_ms),
                offset: record.offset.get(),
            });
        }
    }
    Ok(plain)
}

/// Holds a client's batch against the topic's rules; stamps it where the topic wants the broker's time. Returns that time.
///
/// # Errors
/// When the batch breaks a rule.
pub fn admit(batch: Batch, config: &TopicConfig, now_ms: i64) -> Result<(Batch, Option<i64>), RecordsError> {
    if batch.header().is_transactional {
        return Err(RecordsError::Transactional);
    }
    let summary = batch.validate_records()?;
    if config.timestamp_type == TimestampType::LogAppendTime {
        return Ok((batch.with_append_time(now_ms), Some(now_ms)));
    }
    let earliest = now_ms.saturating_sub_unsigned(config.timestamp_before_max_ms);
    let latest = now_ms.saturating_add_unsigned(config.timestamp_after_max_ms);
    // -1 is Kafka's mark of a record without a timestamp.
    if summary.oldest_timestamp != -1 && summary.oldest_timestamp < earliest {
        return Err(RecordsError::Timestamp { timestamp_ms: summary.oldest_timestamp });
    }
    if summary.newest_timestamp > latest {
        return Err(RecordsError::Timestamp { timestamp_ms: summary.newest_timestamp });
    }
    Ok((batch, None))
}

/// The code for a batch that can't be parsed.
pub fn code_of(error: &BatchError) -> ErrorCode {
    error.code()
}
