//! Everything that configs say about one topic, typed. Knows nothing of text but the layers that it is read from.

use super::{ConfigError, ConfigValue, Layer, Resolver, table};
use crate::batch::TimestampType;

/// The values that hold for one topic. `cleanup.policy` and `compression.type` are missing: they have one value yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicConfig {
    /// `retention.ms`; `None` keeps records for ever.
    pub retention_ms: Option<u64>,
    /// `retention.bytes`; `None` sets no bound.
    pub retention_bytes: Option<u64>,
    /// `segment.bytes`.
    pub segment_bytes: u64,
    /// `segment.ms`.
    pub segment_ms: u64,
    /// `segment.index.bytes`.
    pub segment_index_bytes: u64,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u64,
    /// `file.delete.delay.ms`.
    pub file_delete_delay_ms: u64,
    /// `preallocate`.
    pub preallocate: bool,
    /// `max.message.bytes`: the largest batch.
    pub max_message_bytes: u64,
    /// `min.insync.replicas` as it was set; see [`Self::min_in_sync`].
    pub min_insync_replicas: u32,
    /// `flush.messages`; see [`Self::is_synced`].
    pub flush_messages: u64,
    /// `flush.ms`; holds where `flush_messages` is larger than 1.
    pub flush_ms: u64,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: u64,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: u64,
    /// `unclean.leader.election.enable`.
    pub unclean_leader_election: bool,
}

impl TopicConfig {
    /// The values that hold when these were set: on the topic itself (by topic names), then on brokers (by `log.*`
    /// names, most specific first: one broker, the cluster, the config file).
    ///
    /// # Errors
    /// When a value that was set is none: only values that [`super::validate`] accepted should be recorded.
    pub fn resolve<'l, 'v>(topic: Layer<'l, 'v>, brokers: &'l [Layer<'l, 'v>]) -> Result<Self, ConfigError> {
        Self::from_layers(&Resolver { topic: Some(topic), brokers })
    }

    fn from_layers(layers: &Resolver<'_, '_>) -> Result<Self, ConfigError> {
        // A later version may have recorded what this one does not know: it must not pass for what it is not.
        layers.value(&table::CLEANUP_POLICY)?;
        layers.value(&table::COMPRESSION_TYPE)?;
        Ok(Self {
            retention_ms: layers.limit(&table::RETENTION_MS)?,
            retention_bytes: layers.limit(&table::RETENTION_BYTES)?,
            segment_bytes: layers.integer(&table::SEGMENT_BYTES)?,
            segment_ms: layers.integer(&table::SEGMENT_MS)?,
            segment_index_bytes: layers.integer(&table::SEGMENT_INDEX_BYTES)?,
            index_interval_bytes: layers.integer(&table::INDEX_INTERVAL_BYTES)?,
            file_delete_delay_ms: layers.integer(&table::FILE_DELETE_DELAY_MS)?,
            preallocate: layers.boolean(&table::PREALLOCATE)?,
            max_message_bytes: layers.integer(&table::MAX_MESSAGE_BYTES)?,
            min_insync_replicas: layers.count(&table::MIN_INSYNC_REPLICAS)?,
            flush_messages: layers.integer(&table::FLUSH_MESSAGES)?,
            flush_ms: layers.integer(&table::FLUSH_MS)?,
            timestamp_type: match layers.value(&table::MESSAGE_TIMESTAMP_TYPE)? {
                ConfigValue::Word("LogAppendTime") => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            timestamp_before_max_ms: layers.integer(&table::MESSAGE_TIMESTAMP_BEFORE_MAX_MS)?,
            timestamp_after_max_ms: layers.integer(&table::MESSAGE_TIMESTAMP_AFTER_MAX_MS)?,
            unclean_leader_election: layers.boolean(&table::UNCLEAN_LEADER_ELECTION_ENABLE)?,
        })
    }

    /// How many replicas must be in sync for a write with `acks=all`: what was set, but never more than there are.
    pub fn min_in_sync(&self, replicas: usize) -> usize {
        replicas.min(self.min_insync_replicas as usize)
    }

    /// Whether every acknowledged record is on stable storage. Else the topic is relaxed, as Kafka's are by default.
    pub const fn is_synced(&self) -> bool {
        self.flush_messages == 1
    }

    /// Whether a producer may set this timestamp (in ms since 1970) when the broker's clock shows `now_ms`. A record
    /// without one (-1) is judged as any other, as in Kafka.
    pub fn accepts_timestamp(&self, timestamp_ms: i64, now_ms: i64) -> bool {
        if timestamp_ms <= now_ms {
            timestamp_ms.abs_diff(now_ms) <= self.timestamp_before_max_ms
        } else {
            timestamp_ms.abs_diff(now_ms) <= self.timestamp_after_max_ms
        }
    }
}

impl Default for TopicConfig {
    /// The values that hold where nobody set any.
    fn default() -> Self {
        Self::from_layers(&Resolver { topic: None, brokers: &[] }).expect("a test reads every default")
    }
}
