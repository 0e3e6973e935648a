//! What a topic's configuration means for one log, already parsed and defaulted.
//!
//! Knows no names of properties as text: who parses them lives above.

use std::time::Duration;

/// The settings of one log; the names are Kafka's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// `segment.bytes`: a segment that would grow beyond this is rolled. A single larger batch gets a segment of its own.
    pub segment_bytes: u32,
    /// `segment.ms`: a segment whose first append is older than this is rolled by the next append.
    pub segment_ms: Duration,
    /// `index.interval.bytes`: the log bytes between two entries of an index.
    pub index_interval_bytes: u32,
    /// `segment.index.bytes`: a segment whose offset index has grown to this is rolled.
    pub segment_index_bytes: u32,
    /// `retention.ms`: how long a record is kept; `None` keeps it for ever.
    pub retention_ms: Option<Duration>,
    /// `retention.bytes`: how many bytes of the log are kept; `None` sets no limit.
    pub retention_bytes: Option<u64>,
    /// How far a record's timestamp may lie ahead of the clock before retention stops believing it.
    pub timestamp_ahead_max: Duration,
    /// `producer.id.expiration.ms`: how long an idempotent producer is remembered after its last batch.
    pub producer_expiration: Duration,
    /// How many bytes of the newest batches one log keeps in memory: what several large batches under way take, so that
    /// followers get them from there.
    pub tail_bytes_max: usize,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            segment_ms: Duration::from_secs(7 * 24 * 3600),
            index_interval_bytes: 4096,
            segment_index_bytes: 10 << 20,
            retention_ms: Some(Duration::from_secs(7 * 24 * 3600)),
            retention_bytes: None,
            timestamp_ahead_max: Duration::from_secs(3600),
            producer_expiration: Duration::from_secs(24 * 3600),
            tail_bytes_max: 8 << 20,
        }
    }
}

/// A duration in the milliseconds that timestamps are counted in; capped, never wrapping.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
