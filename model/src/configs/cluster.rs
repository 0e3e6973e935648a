//! Everything that configs say about the cluster itself, typed. The defaults of topics are not here.

use super::{ConfigError, Layer, Resolver, table};

/// The values that hold for the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterConfig {
    /// `num.partitions`.
    pub num_partitions: u32,
    /// `default.replication.factor`.
    pub default_replication_factor: u32,
    /// `auto.create.topics.enable`.
    pub auto_create_topics: bool,
    /// `auto.leader.rebalance.enable`.
    pub auto_leader_rebalance: bool,
    /// `leader.imbalance.check.interval.seconds`, in milliseconds.
    pub leader_imbalance_check_interval_ms: u64,
    /// `replica.lag.time.max.ms`.
    pub replica_lag_time_max_ms: u64,
    /// `replica.stall.time.max.ms`.
    pub replica_stall_time_max_ms: u64,
    /// `broker.session.timeout.ms`.
    pub broker_session_timeout_ms: u64,
    /// `broker.heartbeat.interval.ms`.
    pub broker_heartbeat_interval_ms: u64,
}

impl ClusterConfig {
    /// The values that hold when these were set, most specific layer first: the cluster's, then the config file's.
    ///
    /// # Errors
    /// When a value that was set is none: only values that [`super::validate`] accepted should be recorded.
    pub fn resolve<'l, 'v>(layers: &'l [Layer<'l, 'v>]) -> Result<Self, ConfigError> {
        let layers = Resolver { topic: None, brokers: layers };
        let seconds = layers.integer(&table::LEADER_IMBALANCE_CHECK_INTERVAL_SECONDS)?;
        Ok(Self {
            num_partitions: layers.count(&table::NUM_PARTITIONS)?,
            default_replication_factor: layers.count(&table::DEFAULT_REPLICATION_FACTOR)?,
            auto_create_topics: layers.boolean(&table::AUTO_CREATE_TOPICS_ENABLE)?,
            auto_leader_rebalance: layers.boolean(&table::AUTO_LEADER_REBALANCE_ENABLE)?,
            leader_imbalance_check_interval_ms: seconds.saturating_mul(1000),
            replica_lag_time_max_ms: layers.integer(&table::REPLICA_LAG_TIME_MAX_MS)?,
            replica_stall_time_max_ms: layers.integer(&table::REPLICA_STALL_TIME_MAX_MS)?,
            broker_session_timeout_ms: layers.integer(&table::BROKER_SESSION_TIMEOUT_MS)?,
            broker_heartbeat_interval_ms: layers.integer(&table::BROKER_HEARTBEAT_INTERVAL_MS)?,
        })
    }
}

impl Default for ClusterConfig {
    /// The values that hold where nobody set any.
    fn default() -> Self {
        Self::resolve(&[]).expect("a test reads every default")
    }
}
