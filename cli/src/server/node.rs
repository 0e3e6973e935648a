//! One node, put together: listeners, HTTP, controller, broker, and their end in the opposite order.
//!
//! `server` runs one of these, `dev` several. Everything that a part needs is handed to it here.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use vltava_broker::{Broker, BrokerHandle};
use vltava_controller::{Controller, ControllerHandle};
use vltava_model::NodeId;
use vltava_node::bind::{self, BindError};
use vltava_node::config::{Config, ListenerName, Listeners};
use vltava_node::fatal::FatalHandler;
use vltava_node::health::{Component, Health, Readiness};
use vltava_node::http::{self, Pages};
use vltava_node::limits::Descriptors;
use vltava_node::metrics::Metrics;
use vltava_node::shutdown::Stages;
use vltava_node::watchdog::Watchdog;
use vltava_storage::{FilePool, RealStorage};

use super::{figures, options};

/// How often a part that is not ready is asked whether it is.
const HEALTH_INTERVAL: Duration = Duration::from_millis(100);
/// How often one that is ready is asked whether it still is.
const HEALTH_INTERVAL_READY: Duration = Duration::from_millis(500);
/// How long a broker may take to close after its leaderships are handed over.
const CLOSE_BROKER: Duration = Duration::from_secs(30);
/// How long a controller may take to close.
const CLOSE_CONTROLLER: Duration = Duration::from_secs(20);
/// How long pages that are being read keep the HTTP listener.
const CLOSE_HTTP: Duration = Duration::from_secs(2);

/// A node that did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener could not be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A listener could not be used, or a thread not be started.
    #[error("a listener cannot be used, or a thread not be started: {0}")]
    Listener(#[from] io::Error),
    /// The controller did not start.
    #[error("the controller did not start: {0}")]
    Controller(#[from] vltava_controller::StartError),
    /// The broker did not start.
    #[error("the broker did not start: {0}")]
    Broker(#[from] vltava_broker::StartError),
    /// The broker's start broke off.
    #[error("the broker did not start: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
}

/// A part that others look at until it is taken away to be stopped.
struct Part<T>(Arc<Mutex<Option<T>>>);

impl<T> Clone for Part<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Part<T> {
    fn new(part: Option<T>) -> Self {
        Self(Arc::new(Mutex::new(part)))
    }

    fn look<R>(&self, look: impl FnOnce(&T) -> R) -> Option<R> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(look)
    }

    fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A running node.
pub struct NodeHandle {
    id: NodeId,
    listeners: Listeners,
    health: Health,
    components: Vec<Component>,
    watchers: Vec<JoinHandle<()>>,
    controller: Part<ControllerHandle>,
    broker: Part<BrokerHandle>,
    http: Option<HttpServer>,
    hand_over_limit: Duration,
    /// Watches as long as the node runs.
    _watchdog: Watchdog,
}

struct HttpServer {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Starts a node, which keeps to its share of file descriptors. Its listeners are open when this returns; `health()` tells when it does its work.
///
/// # Errors
/// See [`StartError`].
pub async fn run_node(
    mut config: Config,
    descriptors: Descriptors,
    fatal: FatalHandler,
) -> Result<NodeHandle, StartError> {
    for warning in &config.warnings {
        tracing::warn!(node = %config.node_id, "{warning}");
    }
    // All listeners first: a port in use should be said before anything is opened.
    let http = open(&mut config, ListenerName::Http).await?;
    let grpc = open(&mut config, ListenerName::Grpc).await?;
    let control = open(&mut config, ListenerName::Controller).await?;
    let health = Health::new();
    let metrics = Metrics::new();
    let watchdog = Watchdog::start(&Handle::current(), &metrics)?;
    let pages = Pages { health: health.clone(), metrics: metrics.clone() };
    let http = http.map(|listener| serve_http(listener, pages));
    let mut components = Vec::new();
    let mut watchers = Vec::new();

    let files = FilePool::new(RealStorage::shared(), descriptors.files, std::thread::sleep);
    let controller = Part::new(match control {
        None => None,
        Some(listener) => {
            let options = options::controller(&config, files.storage(), listener, &fatal)?;
            Some(Controller::start(options).await?)
        }
    });
    if controller.look(|_| ()).is_some() {
        let component = health.component("controller");
        components.push(component.clone());
        let (watched, counted) = (controller.clone(), controller.clone());
        watchers.push(watch(component, move || watched.look(ControllerHandle::readiness)));
        metrics.source(move || counted.look(figures::controller).unwrap_or_default());
    }

    let broker = Part::new(match grpc {
        None => None,
        Some(listener) => {
            let options = options::broker(&config, files, descriptors.connections, &fatal);
            // Reading journals blocks.
            Some(tokio::task::spawn_blocking(move || Broker::start(options, listener)).await??)
        }
    });
    if broker.look(|_| ()).is_some() {
        let component = health.component("broker");
        components.push(component.clone());
        let (watched, counted) = (broker.clone(), broker.clone());
        watchers.push(watch(component, move || watched.look(BrokerHandle::ready)));
        metrics.source(move || counted.look(figures::broker).unwrap_or_default());
    }

    for listener in config.listeners.iter().filter(|listener| listener.name != ListenerName::Kafka) {
        tracing::info!(node = %config.node_id, "listening on {listener}");
    }
    Ok(NodeHandle {
        id: config.node_id,
        listeners: config.listeners,
        health,
        components,
        watchers,
        controller,
        broker,
        http,
        hand_over_limit: config.broker.controlled_shutdown_timeout,
        _watchdog: watchdog,
    })
}

/// Opens a listener that the config has, and notes the port where the system was to choose one.
async fn open(config: &mut Config, name: ListenerName) -> Result<Option<TcpListener>, BindError> {
    let Some(asked) = config.listeners.get(name).cloned() else {
        return Ok(None);
    };
    let listener = bind::bind(name, &asked).await?;
    let bound = bind::bound_address(&asked, &listener);
    if config.advertised.get(name) == Some(&asked) {
        config.advertised.set(name, bound.clone());
    }
    config.listeners.set(name, bound);
    Ok(Some(listener))
}

fn serve_http(listener: TcpListener, pages: Pages) -> HttpServer {
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(async move {
        let stopped = async {
            // A sender that was dropped means the same as one that was used.
            let _ = stopped.await;
        };
        if let Err(error) = http::serve(listener, pages, stopped).await {
            tracing::error!(%error, "the HTTP listener failed");
        }
    });
    HttpServer { stop, task }
}

/// Reports what a part says of itself, until the part is gone.
fn watch(
    component: Component,
    ask: impl Fn() -> Option<Result<(), String>> + Send + 'static,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            let pause = match ask() {
                Some(Ok(())) => {
                    component.set(Readiness::Ready);
                    HEALTH_INTERVAL_READY
                }
                Some(Err(reason)) => {
                    component.set(Readiness::NotReady(reason));
                    HEALTH_INTERVAL
                }
                None => return,
            };
            tokio::time::sleep(pause).await;
        }
    })
}

impl NodeHandle {
    /// The node's number.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Where it listens.
    pub fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    /// Which of its parts are ready.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Stops its broker: leaderships are handed over first. The node is not ready from here on.
    pub async fn stop_broker(&mut self) {
        self.watchers.drain(..).for_each(|watcher| watcher.abort());
        self.components.iter().for_each(|component| component.not_ready("stopping"));
        let Some(broker) = self.broker.take() else { return };
        let limit = self.hand_over_limit + CLOSE_BROKER;
        // Whether all was handed over was logged; it ends either way.
        let close = async move { _ = broker.shutdown().await };
        Stages::new().then("handing over and closing the broker", limit, close).run().await;
    }

    /// Stops it: the broker, then the controller, then HTTP.
    pub async fn stop(mut self) {
        self.stop_broker().await;
        let mut stages = Stages::new();
        if let Some(controller) = self.controller.take() {
            stages = stages.then("closing the controller", CLOSE_CONTROLLER, controller.shutdown());
        }
        if let Some(HttpServer { stop, task }) = self.http.take() {
            stages = stages.then("closing HTTP", CLOSE_HTTP, async {
                let _ = stop.send(());
                let _ = task.await;
            });
        }
        stages.run().await;
    }
}
