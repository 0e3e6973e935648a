//! openraft's configuration for a controller quorum. Its defaults are made for logs in memory.

use std::time::Duration;

use openraft::{Config, SnapshotPolicy};

/// What a controller sets about its Raft. The defaults suit disks that sync within some 20 ms and a quorum whose round
/// trip is some 10 ms.
#[derive(Clone, Debug)]
pub struct RaftOptions {
    /// Names the cluster in openraft's traces.
    pub cluster_name: String,
    /// How often the leader is heard of.
    pub heartbeat: Duration,
    /// The shortest silence after which a voter stands for election; ten durable appends must fit into it.
    pub election_min: Duration,
    /// The longest one; each voter draws anew in between.
    pub election_max: Duration,
    /// How long sending and installing a whole snapshot may take.
    pub install_snapshot: Duration,
    /// A snapshot is made every so many entries.
    pub snapshot_every: u64,
    /// So many entries before the newest snapshot stay in the log, for followers that lag a little.
    pub keep_entries: u64,
    /// A follower that lags more gets a snapshot. Must be above `snapshot_every`, or followers loop through snapshots.
    pub replication_lag: u64,
    /// The most entries in one message to a follower; [`crate::LogStoreOptions::replication_bytes`] bounds its bytes.
    pub max_payload_entries: u64,
}

impl Default for RaftOptions {
    fn default() -> Self {
        Self {
            cluster_name: "vltava".into(),
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(500),
            election_max: Duration::from_millis(1000),
            install_snapshot: Duration::from_secs(30),
            snapshot_every: 10_000,
            keep_entries: 5_000,
            replication_lag: 20_000,
            max_payload_entries: 512,
        }
    }
}

/// The options contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the Raft options cannot work: {0}")]
pub struct RaftOptionsError(String);

/// The configuration for [`openraft::Raft::new`].
pub fn raft_config(options: &RaftOptions) -> Result<Config, RaftOptionsError> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Config {
        cluster_name: options.cluster_name.clone(),
        heartbeat_interval: millis(options.heartbeat),
        election_timeout_min: millis(options.election_min),
        election_timeout_max: millis(options.election_max),
        install_snapshot_timeout: millis(options.install_snapshot),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(options.snapshot_every),
        max_in_snapshot_log_to_keep: options.keep_entries,
        replication_lag_threshold: options.replication_lag.max(options.snapshot_every.saturating_add(1)),
        max_payload_entries: options.max_payload_entries,
        // A purge is a durable write; it must not happen for every entry.
        purge_batch_size: 1_000,
        ..Config::default()
    }
    .validate()
    .map_err(|e| RaftOptionsError(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_nonsense_is_not() {
        let config = raft_config(&RaftOptions::default()).unwrap();
        assert!(config.replication_lag_threshold > 10_000);
        assert!(
            raft_config(&RaftOptions { election_min: Duration::from_secs(2), ..Default::default() }).is_err()
        );
        assert!(raft_config(&RaftOptions { max_payload_entries: 0, ..Default::default() }).is_err());
    }
}
