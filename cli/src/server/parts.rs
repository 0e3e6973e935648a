//! From a config file to what controller and broker are started with. Knows both, and no command.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use vltava_broker::{AdvertisedEndpoint, Broker, BrokerHandle, BrokerOptions};
use vltava_controller::{
    ConfiguredVoter, Controller, ControllerHandle, ControllerOptions, ControllerSettings, Listen, decide,
};
use vltava_node::config::{Config, ListenerName};
use vltava_node::fatal::{Fatal, FatalHandler};

use super::node::StartError;

/// Shards beyond this bring nothing: the journal syncs for all of them.
const SHARDS_MAX: usize = 4;

/// Batches that a leader may have under way to one following broker, in bytes.
const REPLICA_WINDOW: u64 = 16 * 1024 * 1024;

/// Starts the controller of a node.
pub async fn controller(
    config: &Config,
    listener: TcpListener,
    fatal: &FatalHandler,
) -> Result<ControllerHandle, StartError> {
    let voters = config
        .voters
        .iter()
        .map(|voter| ConfiguredVoter { node: voter.id, address: voter.address.to_string() });
    let listener = listener.into_std().map_err(StartError::Socket)?;
    let address =
        config.advertised.get(ListenerName::Controller).or(config.listeners.get(ListenerName::Controller));
    let fatal = fatal.clone();
    let options = ControllerOptions {
        node_id: config.node_id,
        directory: config.storage.metadata_dir.clone(),
        cluster_id: config.cluster_id,
        voters: voters.collect(),
        listen: Listen::Bound(listener),
        advertised: address.map(ToString::to_string).unwrap_or_default(),
        settings: controller_settings(config),
        fatal: Arc::new(move |reason| fatal.die(Fatal::Raft, reason)),
    };
    Ok(Controller::start(options).await?)
}

fn controller_settings(config: &Config) -> ControllerSettings {
    let (controller, cluster) = (&config.controller, &config.cluster);
    let imbalance_check = Duration::from_millis(cluster.leader_imbalance_check_interval_ms);
    ControllerSettings {
        heartbeat: controller.heartbeat_interval,
        election_timeout: controller.election_timeout,
        request_timeout: controller.request_timeout,
        entries_between_snapshots: controller.changes_between_snapshots,
        broker_heartbeat: Duration::from_millis(cluster.broker_heartbeat_interval_ms),
        broker_session: Duration::from_millis(cluster.broker_session_timeout_ms),
        rebalance_interval: cluster.auto_leader_rebalance.then_some(imbalance_check),
        decisions: decide::Settings { file: config.shared.clone(), ..decide::Settings::default() },
        ..ControllerSettings::default()
    }
}

/// Starts the broker of a node. Blocks while journals are read, so it runs beside the runtime's workers.
pub async fn broker(
    config: &Config,
    listener: TcpListener,
    fatal: &FatalHandler,
) -> Result<BrokerHandle, StartError> {
    let options = broker_options(config, fatal);
    let started = tokio::task::spawn_blocking(move || Broker::start(options, listener)).await;
    match started {
        Ok(started) => Ok(started?),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn broker_options(config: &Config, fatal: &FatalHandler) -> BrokerOptions {
    let advertised = config.advertised.iter().map(|listener| AdvertisedEndpoint {
        listener: listener.name.as_str().to_owned(),
        host: listener.address.host.clone(),
        port: listener.address.port,
    });
    let fatal = fatal.clone();
    BrokerOptions {
        node_id: config.node_id,
        cluster_id: config.cluster_id,
        rack: config.rack.clone(),
        log_dirs: config.storage.log_dirs.clone(),
        advertised: advertised.collect(),
        controllers: config.voters.iter().map(|voter| voter.address.to_string()).collect(),
        shards: config.limits.io_threads.clamp(1, SHARDS_MAX),
        shard_queue: config.limits.queued_max_requests,
        max_batch_bytes: config.limits.request_max_bytes,
        replica_lag_max: Duration::from_millis(config.cluster.replica_lag_time_max_ms),
        replica_window_bytes: REPLICA_WINDOW,
        retention_interval: config.storage.retention_check_interval.max(Duration::from_secs(1)),
        min_free_bytes: config.storage.free_bytes_min,
        shutdown_timeout: config.broker.controlled_shutdown_timeout,
        static_configs: config.shared.clone(),
        journal_file_bytes: config.storage.journal_file_bytes,
        fatal: Arc::new(move |reason| fatal.die(Fatal::LogDirs, reason)),
    }
}
