//! One node, put together: listeners, HTTP, controller, broker, and their end in the opposite order.
//!
//! `server` runs one of these, `dev` several. Everything that a part needs is handed to it here.

use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use vltava_model::NodeId;
use vltava_node::bind::{self, BindError};
use vltava_node::config::{Config, ListenerName, Listeners};
use vltava_node::fatal::FatalHandler;
use vltava_node::health::Health;
use vltava_node::http::{self, Pages};
use vltava_node::metrics::Metrics;
use vltava_node::shutdown::Stages;

/// A node that did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener could not be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// A running node.
pub struct NodeHandle {
    id: NodeId,
    listeners: Listeners,
    health: Health,
    http: Option<HttpServer>,
}

struct HttpServer {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Starts a node. Its listeners are open when this returns; `health()` tells when it does its work.
pub async fn run_node(mut config: Config, _fatal: FatalHandler) -> Result<NodeHandle, StartError> {
    for warning in &config.warnings {
        tracing::warn!(node = %config.node_id, "{warning}");
    }
    let health = Health::new();
    let metrics = Metrics::new();
    let http = open(&mut config, ListenerName::Http).await?;
    let http =
        http.map(|listener| serve_http(listener, Pages { health: health.clone(), metrics: metrics.clone() }));
    for listener in config.listeners.iter() {
        tracing::info!(node = %config.node_id, "listening on {listener}");
    }
    Ok(NodeHandle { id: config.node_id, listeners: config.listeners, health, http })
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

    /// Stops it: leadership is handed over first, then the broker, the controller and HTTP end.
    pub async fn stop(self) {
        let Self { http, .. } = self;
        let ends = Stages::new().then("closing HTTP", Duration::from_secs(2), async {
            if let Some(HttpServer { stop, task }) = http {
                let _ = stop.send(());
                let _ = task.await;
            }
        });
        ends.run().await;
    }
}
