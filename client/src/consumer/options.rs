//! How a consumer behaves; names and meanings are Kafka's where Kafka has them.

use std::time::Duration;

use vltava_model::Offset;

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// With the oldest record.
    Earliest,
    /// With the next record that is written.
    Latest,
    /// With this one.
    Offset(Offset),
    /// With the first whose timestamp (milliseconds since 1970) is at or after this.
    Timestamp(i64),
}

/// `auto.offset.reset`: what to do when the records at a position are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OffsetReset {
    /// Fail: nothing is skipped in silence.
    #[default]
    None,
    /// Go on with the oldest record.
    Earliest,
    /// Go on with the next record that is written.
    Latest,
}

/// How a consumer behaves.
#[derive(Debug, Clone)]
pub struct ConsumerOptions {
    /// `auto.offset.reset`.
    pub offset_reset: OffsetReset,
    /// `max.poll.records`.
    pub max_poll_records: usize,
    /// `max.partition.fetch.bytes`: how many bytes come at once.
    pub max_partition_fetch_bytes: u32,
    /// How many bytes of each partition may be read ahead.
    pub read_ahead_bytes: u64,
    /// `default.api.timeout.ms`: how long looking up an offset may take.
    pub default_api_timeout: Duration,
    /// How long a partition without a leader that answers is tried before the consumer fails.
    pub give_up_after: Duration,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self {
            offset_reset: OffsetReset::None,
            max_poll_records: 10_000,
            max_partition_fetch_bytes: 1024 * 1024,
            read_ahead_bytes: 4 * 1024 * 1024,
            default_api_timeout: Duration::from_secs(60),
            give_up_after: Duration::from_secs(300),
        }
    }
}
