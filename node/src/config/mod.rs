//! A node's configuration: TOML with Kafka's property names.
//!
//! [`Config::load`] reads a file and either returns a whole, checked configuration or *all* that is wrong with it.
//! `table.rs` lists every property, `shared.rs` those that a running cluster can change; `source.rs` reads TOML;
//! `property.rs` checks one value; `build.rs` and `network.rs` check how the values fit together. Nothing here starts or
//! opens anything.

mod address;
mod build;
mod error;
mod network;
mod property;
mod reference;
mod shared;
mod source;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use vltava_model::configs::{ClusterConfig, TopicConfig};
use vltava_model::{ClusterId, NodeId};

pub use address::{Address, Listener, ListenerName, Listeners, Voter};
pub use error::{ConfigError, ConfigErrors};
pub use property::{Fallback, Group, Kind, Property, parse_duration, parse_size};
pub use reference::reference_markdown;
pub use source::Setting;
pub use table::properties;

/// The largest config file that is read; a larger one is a mistake.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What a node does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Roles {
    /// It keeps the cluster's metadata.
    Controller,
    /// It keeps partitions.
    Broker,
    /// It does both.
    Both,
}

impl Roles {
    /// Whether it keeps the cluster's metadata.
    pub const fn controller(self) -> bool {
        matches!(self, Self::Controller | Self::Both)
    }

    /// Whether it keeps partitions.
    pub const fn broker(self) -> bool {
        matches!(self, Self::Broker | Self::Both)
    }
}

/// A node's configuration, checked: every part of it is legal, and the parts fit together.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// Where it came from, for messages.
    pub origin: String,
    /// This node.
    pub node_id: NodeId,
    /// What it does.
    pub roles: Roles,
    /// The cluster that it must belong to, if that was said.
    pub cluster_id: Option<ClusterId>,
    /// Where it stands.
    pub rack: Option<String>,
    /// Where it listens. Holds GRPC for a broker and CONTROLLER for a controller, always.
    pub listeners: Listeners,
    /// Under which addresses others reach it: all of `listeners` that others need, none of them a wildcard.
    pub advertised: Listeners,
    /// The controllers that form the cluster; at least one.
    pub voters: Vec<Voter>,
    /// Directories and what happens in them.
    pub storage: StorageConfig,
    /// How the controller quorum behaves.
    pub controller: ControllerConfig,
    /// How a broker behaves.
    pub broker: BrokerConfig,
    /// Bounds.
    pub limits: LimitsConfig,
    /// What the file sets of the configs that a running cluster can change (`vltava_model::configs`), by the names that
    /// they have on brokers, with plain numbers as values: `log.retention.ms` = `86400000`. Those that it does not set
    /// are absent.
    pub shared: BTreeMap<String, String>,
    /// Those about the cluster as the file and the defaults have them, before anything is changed at run time.
    pub cluster: ClusterConfig,
    /// Those about topics, likewise.
    pub topics: TopicConfig,
    /// What is legal and probably not meant: to be logged at start.
    pub warnings: Vec<String>,
}

/// Directories and what happens in them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StorageConfig {
    /// `log.dirs`; at least one, none of them twice.
    pub log_dirs: Vec<PathBuf>,
    /// `metadata.log.dir`.
    pub metadata_dir: PathBuf,
    /// `metadata.log.engine`; `None` leaves an existing log as it is.
    pub metadata_engine: Option<MetadataEngine>,
    /// `log.journal.file.bytes`.
    pub journal_file_bytes: u64,
    /// `log.retention.check.interval.ms`.
    pub retention_check_interval: Duration,
    /// `log.dir.free.bytes.min`.
    pub free_bytes_min: u64,
}

/// On what a controller's metadata log lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MetadataEngine {
    /// A write-ahead log of our own.
    Wal,
    /// The database sled.
    Sled,
}

/// How the controller quorum behaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ControllerConfig {
    /// `controller.quorum.election.timeout.ms`.
    pub election_timeout: Duration,
    /// `controller.quorum.heartbeat.interval.ms`; at most a third of the election timeout.
    pub heartbeat_interval: Duration,
    /// `controller.quorum.request.timeout.ms`.
    pub request_timeout: Duration,
    /// `metadata.log.max.records.between.snapshots`.
    pub changes_between_snapshots: u64,
}

/// How a broker behaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrokerConfig {
    /// `controlled.shutdown.timeout.ms`.
    pub controlled_shutdown_timeout: Duration,
    /// `replica.fetch.response.max.bytes`.
    pub replica_fetch_response_max_bytes: u64,
}

/// Bounds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LimitsConfig {
    /// `num.io.threads`: threads that own partitions, at least 1.
    pub io_threads: usize,
    /// `num.network.threads`: threads that serve connections, at least 1.
    pub network_threads: usize,
    /// `queued.max.requests`: for each thread that owns partitions.
    pub queued_max_requests: usize,
    /// `socket.request.max.bytes`.
    pub request_max_bytes: usize,
}

impl Config {
    /// Reads a file. Relative directories in it are relative to the file.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        Self::load_with(path, Vec::new())
    }

    /// Reads a file and lets `overrides` win over what stands in it.
    pub fn load_with(path: &Path, overrides: Vec<(String, Setting)>) -> Result<Self, ConfigErrors> {
        let origin = path.display().to_string();
        let text = read(path).map_err(|(problem, advice)| {
            ConfigErrors(vec![ConfigError {
                origin: origin.clone(),
                line: None,
                key: None,
                problem,
                advice: advice.into(),
            }])
        })?;
        // Messages and logs name directories: without `..`, and from the root, they can be found.
        let base = path.canonicalize().ok().and_then(|path| path.parent().map(Path::to_path_buf));
        build::from_text(&origin, &base.unwrap_or_default(), &text, overrides)
    }

    /// Reads the text of a file: `origin` names it in messages, relative directories are relative to `base`.
    pub fn parse(origin: &str, base: &Path, text: &str) -> Result<Self, ConfigErrors> {
        build::from_text(origin, base, text, Vec::new())
    }

    /// Makes a configuration from settings by name, with the checks that a file gets.
    pub fn from_settings(
        origin: &str,
        base: &Path,
        settings: Vec<(String, Setting)>,
    ) -> Result<Self, ConfigErrors> {
        build::from_text(origin, base, "", settings)
    }
}

fn read(path: &Path) -> Result<String, (String, &'static str)> {
    let here = "name a config file that exists; deploy/examples/ has some to start from";
    let size = std::fs::metadata(path).map_err(|error| (format!("cannot be read: {error}"), here))?.len();
    if size > MAX_FILE_BYTES {
        return Err((format!("is {size} bytes long"), "name a config file; none is longer than 1 MiB"));
    }
    let bytes = std::fs::read(path).map_err(|error| (format!("cannot be read: {error}"), here))?;
    String::from_utf8(bytes).map_err(|_| ("is not text in UTF-8".into(), "name a TOML file"))
}

#[cfg(test)]
mod tests;
