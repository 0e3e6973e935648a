//! What a broker is told at its start. The config file is another crate's concern.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use vltava_model::{ClusterId, NodeId};
use vltava_storage::FilePool;

/// Where one of this broker's listeners can be reached from outside.
#[derive(Clone, Debug)]
pub struct AdvertisedEndpoint {
    /// `GRPC`, `KAFKA`, `HTTP` or `CONTROLLER`.
    pub listener: String,
    /// A host name or address.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

/// Why a broker can't go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FatalReason {
    /// A metadata record could not be replayed.
    Metadata,
    /// No log directory works any more.
    LogDirectories,
    /// Its directories belong to another cluster.
    ForeignData,
    /// The listener failed.
    Listener,
}

/// Ends the process for a named reason, with details in words; injected so that tests can watch it.
pub type FatalHook = Arc<dyn Fn(FatalReason, String) + Send + Sync>;

/// Everything that a broker needs to start.
#[derive(Clone)]
pub struct BrokerOptions {
    /// `node.id`.
    pub node_id: NodeId,
    /// `cluster.id`, when the config file pins it.
    pub cluster_id: Option<ClusterId>,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// The disk that `log_dirs` lie on, and how many of its files may be open.
    pub files: FilePool,
    /// How many connections may be open at once; further ones wait until others are closed.
    pub connections_max: usize,
    /// `log.dirs`: at least one.
    pub log_dirs: Vec<PathBuf>,
    /// What is told to clients and peers.
    pub advertised: Vec<AdvertisedEndpoint>,
    /// `HOST:PORT` of the configured controllers.
    pub controllers: Vec<String>,
    /// How many shard threads own partitions; at least one.
    pub shards: usize,
    /// How many requests may wait in one shard's queue before further ones are refused.
    pub shard_queue: usize,
    /// `message.max.bytes`: the largest record batch, in bytes.
    pub max_batch_bytes: usize,
    /// `replica.lag.time.max.ms`.
    pub replica_lag_max: Duration,
    /// `replica.stall.time.max.ms`.
    pub replica_stall_max: Duration,
    /// How many bytes a leader may have under way to one following broker.
    pub replica_window_bytes: u64,
    /// `log.retention.check.interval.ms`.
    pub retention_interval: Duration,
    /// Below so many free bytes a log directory takes no more records.
    pub min_free_bytes: u64,
    /// How long a controlled shutdown may take before the broker stops all the same.
    pub shutdown_timeout: Duration,
    /// Topic defaults and other configs of the config file, by Kafka's names.
    pub static_configs: BTreeMap<String, String>,
    /// Size of one journal file, in bytes.
    pub journal_file_bytes: u64,
    /// What to do when going on would be wrong.
    pub fatal: FatalHook,
}
