//! The processes of the cluster: the real daemons, put together as the binary does it, on what the simulator gives them.

use std::collections::BTreeMap;
use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use vltava_broker::{AdvertisedEndpoint, Broker, BrokerOptions, HandOver};
use vltava_controller::{ConfiguredVoter, Controller, ControllerOptions, ControllerSettings, Listen};
use vltava_model::NodeId;
use vltava_storage::FilePool;
use vltava_threads::simulator;
use vltava_transport::Listener;

use crate::baton;
use crate::host::{self, HostId, Program};
use crate::machine::{Machine, Role, Window};
use crate::net::SimListener;

/// The port of every controller.
pub const CONTROLLER_PORT: u16 = 7093;
/// The port of every broker.
pub const BROKER_PORT: u16 = 7092;

/// The log directory of every broker.
pub const DATA: &str = "/data";

/// What a process says that was told to end and did.
pub const ENDED_IN_ORDER: &str = "ended in order";

/// The same of a broker that the controller let go.
pub const LET_GO: &str = "ended in order, as the controller allowed";

/// How many controllers there are; their nodes are 1, 2, 3.
pub const CONTROLLERS: u32 = 3;
/// How many brokers there are; their nodes are 11, 12, 13.
pub const BROKERS: u32 = 3;

/// The name of the operator's machine.
pub const OPERATOR: &str = "o1";

/// The name of a controller's machine.
pub fn controller_name(node: u32) -> String {
    format!("c{node}")
}

/// The name of a broker's machine.
pub fn broker_name(node: u32) -> String {
    format!("b{node}")
}

/// The brokers' nodes.
pub fn broker_nodes() -> impl Iterator<Item = u32> {
    11..11 + BROKERS
}

/// What clients are told: `HOST:PORT` of all brokers.
pub fn servers() -> String {
    let addresses: Vec<_> =
        broker_nodes().map(|node| format!("{}:{BROKER_PORT}", broker_name(node))).collect();
    addresses.join(",")
}

/// The process of a machine, that ends in order when it is told to by `stop`.
pub fn daemon(machine: &Machine, window: Arc<Mutex<Window>>, stop: Arc<Notify>) -> Program {
    match machine.role {
        Role::Controller(node) => controller(machine, node, window, stop),
        Role::Broker(node) => broker(machine, node, window, stop),
        Role::Client => Box::pin(pending()),
    }
}

/// `HOST:PORT` of a controller.
pub fn controller_address(node: u32) -> String {
    format!("{}:{CONTROLLER_PORT}", controller_name(node))
}

fn voters() -> Vec<ConfiguredVoter> {
    let voter = |node| ConfiguredVoter { node: NodeId::new(node), address: controller_address(node) };
    (1..=CONTROLLERS).map(voter).collect()
}

/// Ends the process that calls it; what it does afterwards has no effect.
fn fatal(host: HostId, why: String) {
    tracing::error!(%why, "the process ends itself");
    host::die(host, why);
}

fn show(window: &Mutex<Window>, change: impl FnOnce(&mut Window)) {
    change(&mut window.lock().unwrap_or_else(PoisonError::into_inner));
}

fn controller(machine: &Machine, node: u32, window: Arc<Mutex<Window>>, stop: Arc<Notify>) -> Program {
    let host = machine.id;
    let storage = Arc::new(machine.disk.clone());
    Box::pin(async move {
        let listener = Listener::Other(Box::new(SimListener::bind(CONTROLLER_PORT)));
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, CONTROLLER_PORT));
        let options = ControllerOptions {
            node_id: NodeId::new(node),
            storage,
            directory: PathBuf::from("/metadata"),
            // sled needs the files of a real system.
            log_engine: Some("wal".parse().expect("an engine has that name")),
            cluster_id: None,
            voters: voters(),
            listen: Listen::Other(address, listener),
            advertised: controller_address(node),
            settings: ControllerSettings {
                entries_between_snapshots: 50,
                entries_kept: 25,
                ..ControllerSettings::default()
            },
            fatal: Arc::new(move |why| fatal(host, why)),
        };
        match Controller::start(options).await {
            Ok(handle) => show(&window, |window| window.controller = Some(handle)),
            Err(error) => return fatal(host, format!("the controller did not start: {error}")),
        }
        stop.notified().await;
        let mut handle = None;
        show(&window, |window| handle = window.controller.take());
        if let Some(handle) = handle {
            handle.shutdown().await;
        }
        host::die(host, ENDED_IN_ORDER.into());
    })
}

/// So many files of its logs a broker has open at once.
const OPEN_FILES: usize = 8;

/// Lets others of the process go on for a while, who sync a file that the caller wants to sync.
fn wait_for_others(pause: Duration) {
    let Some(simulator) = simulator() else { return };
    if baton::is_thread() {
        simulator.park(&|| false, Some(pause));
        return;
    }
    // No time can pass in a runtime's own work.
    let host = host::current();
    let before = baton::resumed(host);
    simulator.park(&|| baton::resumed(host) != before, None);
}

fn broker(machine: &Machine, node: u32, window: Arc<Mutex<Window>>, stop: Arc<Notify>) -> Program {
    let (host, storage) = (machine.id, Arc::new(machine.disk.clone()));
    Box::pin(async move {
        let listener = Listener::Other(Box::new(SimListener::bind(BROKER_PORT)));
        let options = BrokerOptions {
            node_id: NodeId::new(node),
            cluster_id: None,
            rack: None,
            // So few that files are closed and opened again all the time.
            files: FilePool::new(storage, OPEN_FILES, wait_for_others),
            connections_max: 10_000,
            log_dirs: vec![PathBuf::from(DATA)],
            advertised: vec![AdvertisedEndpoint {
                listener: "GRPC".into(),
                host: broker_name(node),
                port: BROKER_PORT,
            }],
            controllers: voters().into_iter().map(|voter| voter.address).collect(),
            shards: 2,
            shard_queue: 256,
            max_batch_bytes: 4 << 20,
            replica_lag_max: Duration::from_secs(10),
            replica_stall_max: Duration::from_secs(2),
            replica_window_bytes: 8 << 20,
            retention_interval: Duration::from_secs(300),
            min_free_bytes: 0,
            shutdown_timeout: Duration::from_secs(10),
            static_configs: BTreeMap::new(),
            journal_file_bytes: 1 << 20,
            fatal: Arc::new(move |reason, why| fatal(host, format!("{reason:?}: {why}"))),
        };
        let handle = match Broker::start(options, listener) {
            Ok(handle) => handle,
            Err(error) => return fatal(host, format!("the broker did not start: {error}")),
        };
        show(&window, |window| window.broker = Some(handle.state().clone()));
        stop.notified().await;
        let ended = match handle.shutdown().await {
            HandOver::Done => LET_GO,
            HandOver::NotDone => ENDED_IN_ORDER,
        };
        show(&window, |window| window.broker = None);
        host::die(host, ended.into());
    })
}
