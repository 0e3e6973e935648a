//! What the config file means to a controller and to a broker: their options, each from its part of the file.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use vltava_broker::{AdvertisedEndpoint, BrokerOptions, FatalReason};
use vltava_controller::decide;
use vltava_controller::{ConfiguredVoter, ControllerOptions, ControllerSettings, Listen};
use vltava_node::config::{Address, Config, ListenerName, MetadataEngine};
use vltava_node::fatal::{Fatal, FatalHandler};
use vltava_raft_store::LogEngine;
use vltava_storage::{FilePool, Storage};

/// A request carries at most so many of the largest batches: producers of several partitions share a message.
const BATCHES_PER_REQUEST: usize = 4;
/// Shards beyond this bring nothing: the journal syncs for all of them.
const SHARDS_MAX: usize = 4;

/// The options of the node's controller, which serves on `listener`.
pub fn controller(
    config: &Config,
    storage: Arc<dyn Storage>,
    listener: TcpListener,
    fatal: &FatalHandler,
) -> io::Result<ControllerOptions> {
    let fatal = fatal.clone();
    Ok(ControllerOptions {
        node_id: config.node_id,
        storage,
        directory: config.storage.metadata_dir.clone(),
        log_engine: config.storage.metadata_engine.map(|engine| match engine {
            MetadataEngine::Wal => LogEngine::Wal,
            MetadataEngine::Sled => LogEngine::Sled,
        }),
        cluster_id: config.cluster_id,
        voters: config
            .voters
            .iter()
            .map(|voter| ConfiguredVoter { node: voter.id, address: voter.address.to_string() })
            .collect(),
        listen: Listen::Bound(listener.into_std()?),
        advertised: config
            .advertised
            .get(ListenerName::Controller)
            .map(Address::to_string)
            .unwrap_or_default(),
        settings: settings(config),
        fatal: Arc::new(move |why| fatal.die(Fatal::Controller, why)),
    })
}

fn settings(config: &Config) -> ControllerSettings {
    let rebalance = Duration::from_millis(config.cluster.leader_imbalance_check_interval_ms);
    ControllerSettings {
        heartbeat: config.controller.heartbeat_interval,
        election_timeout: config.controller.election_timeout,
        request_timeout: config.controller.request_timeout,
        entries_between_snapshots: config.controller.changes_between_snapshots,
        // Followers that lag less than this need no snapshot.
        entries_kept: config.controller.changes_between_snapshots / 2,
        broker_heartbeat: Duration::from_millis(config.cluster.broker_heartbeat_interval_ms),
        broker_session: Duration::from_millis(config.cluster.broker_session_timeout_ms),
        rebalance_interval: config.cluster.auto_leader_rebalance.then_some(rebalance),
        decisions: decide::Settings { file: config.shared.clone(), ..decide::Settings::default() },
        ..ControllerSettings::default()
    }
}

/// The options of the node's broker, which opens its files from `files` and takes so many connections.
pub fn broker(
    config: &Config,
    files: FilePool,
    connections_max: usize,
    fatal: &FatalHandler,
) -> BrokerOptions {
    let fatal = fatal.clone();
    BrokerOptions {
        node_id: config.node_id,
        cluster_id: config.cluster_id,
        rack: config.rack.clone(),
        files,
        connections_max,
        log_dirs: config.storage.log_dirs.clone(),
        advertised: advertised(config),
        controllers: config.voters.iter().map(|voter| voter.address.to_string()).collect(),
        shards: config.limits.io_threads.min(SHARDS_MAX),
        shard_queue: config.limits.queued_max_requests,
        max_batch_bytes: config.limits.request_max_bytes / BATCHES_PER_REQUEST,
        replica_lag_max: Duration::from_millis(config.cluster.replica_lag_time_max_ms),
        replica_stall_max: Duration::from_millis(config.cluster.replica_stall_time_max_ms),
        replica_window_bytes: config.broker.replica_fetch_response_max_bytes,
        retention_interval: config.storage.retention_check_interval,
        min_free_bytes: config.storage.free_bytes_min,
        shutdown_timeout: config.broker.controlled_shutdown_timeout,
        static_configs: BTreeMap::clone(&config.shared),
        journal_file_bytes: config.storage.journal_file_bytes,
        fatal: Arc::new(move |reason, why| {
            let reason = match reason {
                FatalReason::Metadata => Fatal::MetadataReplay,
                FatalReason::LogDirectories => Fatal::LogDirs,
                FatalReason::ForeignData => Fatal::ForeignData,
                FatalReason::Listener => Fatal::Broker,
            };
            fatal.die(reason, why);
        }),
    }
}

/// What clients and other brokers are told.
fn advertised(config: &Config) -> Vec<AdvertisedEndpoint> {
    let told = |name: &ListenerName| *name == ListenerName::Grpc;
    ListenerName::ALL
        .into_iter()
        .filter(told)
        .filter_map(|name| {
            let address = config.advertised.get(name)?;
            Some(AdvertisedEndpoint {
                listener: name.as_str().to_owned(),
                host: address.host.clone(),
                port: address.port,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use vltava_storage::RealStorage;

    const FILE: &str = r#"
node.id = 2
log.dirs = ["d"]
controller.quorum.voters = ["1@a:7093", "2@127.0.0.1:7093"]
leader.imbalance.check.interval.seconds = 7
log.retention.ms = "1d"
"#;

    #[tokio::test]
    async fn what_the_file_says_arrives() {
        let config = Config::parse("f", Path::new("/base"), FILE).unwrap();
        let fatal = FatalHandler::hook(|_, _| {});
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let files = FilePool::new(RealStorage::shared(), 10, std::thread::sleep);
        let broker = broker(&config, files.clone(), 7, &fatal);
        assert_eq!(broker.node_id.get(), 2);
        assert_eq!(broker.controllers, ["a:7093", "127.0.0.1:7093"]);
        assert_eq!(broker.static_configs["log.retention.ms"], "86400000");
        assert_eq!((broker.advertised[0].listener.as_str(), broker.advertised[0].port), ("GRPC", 7092));
        assert!(broker.max_batch_bytes as u64 >= config.topics.max_message_bytes);
        let controller = controller(&config, files.storage(), listener, &fatal).unwrap();
        assert_eq!(controller.directory, Path::new("/base/d/__metadata"));
        assert_eq!(controller.advertised, "127.0.0.1:7093");
        assert_eq!(controller.settings.rebalance_interval, Some(Duration::from_secs(7)));
        assert_eq!(controller.settings.decisions.file["log.retention.ms"], "86400000");
    }
}
