//! What a controller is told at its start. It knows no config file: whoever assembles the process fills this in.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use vltava_model::{ClusterId, NodeId};
use vltava_raft_store::LogEngine;
use vltava_storage::Storage;

use crate::decide;

/// Ends the process for a named reason; injected, so that tests can watch it.
pub type FatalHook = Arc<dyn Fn(String) + Send + Sync>;

/// A controller of `controller.quorum.voters`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfiguredVoter {
    /// `node.id`.
    pub node: NodeId,
    /// `HOST:PORT` of its CONTROLLER listener.
    pub address: String,
}

/// Where the CONTROLLER listener comes from.
#[derive(Debug)]
pub enum Listen {
    /// Bind this address.
    Address(SocketAddr),
    /// Serve on a socket that was bound already, so that its port is known before anything starts.
    Bound(std::net::TcpListener),
    /// Serve what comes from elsewhere, under an address that is only told.
    Other(SocketAddr, vltava_transport::Listener),
}

/// Everything that a controller needs to start.
pub struct ControllerOptions {
    /// `node.id`.
    pub node_id: NodeId,
    /// The disk that `directory` lies on. A log on sled lies on the operating system's files, whatever is said here.
    pub storage: Arc<dyn Storage>,
    /// `metadata.log.dir`: the Raft log, its snapshots and this directory's identity.
    pub directory: PathBuf,
    /// `metadata.log.engine`: on what a Raft log lies; `None` leaves that to what is there, and to the store.
    pub log_engine: Option<LogEngine>,
    /// `cluster.id`, when the config file pins it.
    pub cluster_id: Option<ClusterId>,
    /// `controller.quorum.voters`: who forms the cluster at its first start.
    pub voters: Vec<ConfiguredVoter>,
    /// The CONTROLLER listener.
    pub listen: Listen,
    /// `HOST:PORT` under which the other nodes reach it.
    pub advertised: String,
    /// Intervals, timeouts and bounds.
    pub settings: ControllerSettings,
    /// What to do when going on would be wrong.
    pub fatal: FatalHook,
}

impl fmt::Debug for ControllerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControllerOptions")
            .field("node_id", &self.node_id)
            .field("directory", &self.directory)
            .field("voters", &self.voters)
            .field("advertised", &self.advertised)
            .finish_non_exhaustive()
    }
}

/// Intervals, timeouts and bounds of a controller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ControllerSettings {
    /// `controller.quorum.heartbeat.interval.ms`: how often the leader of the quorum is heard of.
    pub heartbeat: Duration,
    /// `controller.quorum.election.timeout.ms`: so long after its last sign of life a leader is left alone. After it a
    /// voter stands for election; at once where the leader's connection broke, else after another half to whole of it.
    pub election_timeout: Duration,
    /// `controller.quorum.request.timeout.ms`: how long a request waits for its commit before its outcome is called
    /// unknown.
    pub request_timeout: Duration,
    /// How many requests may wait to be decided.
    pub queue_capacity: usize,
    /// `metadata.log.max.records.between.snapshots`, counted in entries of the Raft log.
    pub entries_between_snapshots: u64,
    /// How many entries before the newest snapshot stay in the log, for followers that lag a little.
    pub entries_kept: u64,
    /// How many bytes of recent records are kept for brokers that lag a little; others get a snapshot.
    pub feed_bytes: usize,
    /// `broker.heartbeat.interval.ms`, told to brokers at registration.
    pub broker_heartbeat: Duration,
    /// `broker.session.timeout.ms`.
    pub broker_session: Duration,
    /// How long after its session closed a broker's process may come back before it is fenced.
    pub closed_session_grace: Duration,
    /// `leader.imbalance.check.interval.seconds`; `None` leaves leaderships where they are
    /// (`auto.leader.rebalance.enable=false`).
    pub rebalance_interval: Option<Duration>,
    /// What decisions are told of the config file.
    pub decisions: decide::Settings,
}

impl Default for ControllerSettings {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(200),
            election_timeout: Duration::from_millis(1_000),
            request_timeout: Duration::from_millis(5_000),
            queue_capacity: 1_024,
            entries_between_snapshots: 10_000,
            entries_kept: 5_000,
            feed_bytes: 32 << 20,
            broker_heartbeat: Duration::from_millis(500),
            broker_session: Duration::from_millis(3_000),
            closed_session_grace: Duration::from_millis(150),
            rebalance_interval: Some(Duration::from_secs(5)),
            decisions: decide::Settings::default(),
        }
    }
}
