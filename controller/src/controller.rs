//! A controller as a whole: start, stop, and what the process may ask of it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::storage::RaftLogStorage;
use rand::RngExt;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use vltava_model::{DirectoryId, IncarnationId, MetadataOffset, NodeId};
use vltava_raft_store::{LogCloser, OpenError, Opened, RaftOptions, StoreOptions, VoterId, raft_config};

use crate::feed::Feed;
use crate::identity::{Identity, IdentityError};
use crate::listener::{self, Services};
use crate::liveness::Patience;
use crate::machine::{Machine, Published};
use crate::options::{ControllerOptions, ControllerSettings, FatalHook, Listen};
use crate::queue::Queue;
use crate::raft::elections::{self, Link};
use crate::raft::leadership::{self, Heard, Leadership, Situation};
use crate::raft::local::Local;
use crate::raft::membership::Members;
use crate::raft::network::Network;
use crate::raft::peers::Peers;
use crate::raft::{Metrics, Raft, forming};
use crate::services::admin::AdminService;
use crate::services::controller::ControllerService;
use crate::services::raft::Server as RaftServer;
use crate::session::Sessions;
use crate::upkeep;
use crate::writer::Writer;

/// How long connections get to end by themselves at a stop.
const DRAIN: Duration = Duration::from_millis(500);
/// How long the log may take to be closed.
const CLOSE: Duration = Duration::from_secs(10);
/// The part of a snapshot that one message to a follower holds, in bytes.
const SNAPSHOT_CHUNK: u64 = 1 << 20;

/// Why a controller does not start. Nothing was changed that another start could not go on from.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The metadata directory does not open.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The metadata directory is not this node's, or does not know whose it is.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The Raft log and the identity contradict each other.
    #[error(
        "{} is damaged: {what}. This controller must not vote again as the one it was. With a quorum of other controllers \
         alive: run `vltava quorum remove` for this node on one of them, delete the directory, start this node, then run \
         `vltava quorum add`",
        directory.display()
    )]
    Damaged {
        /// `metadata.log.dir`.
        directory: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// The operating system said no.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// Its words.
        source: io::Error,
    },
    /// The settings contradict each other.
    #[error("the controller's settings can not work: {0}")]
    Settings(String),
    /// Raft did not start.
    #[error("Raft did not start: {0}")]
    Raft(String),
}

/// Starts controllers.
#[derive(Debug)]
pub struct Controller;

/// A running controller. Dropping it is a crash: connections break, nothing is handed over.
pub struct ControllerHandle {
    local: Arc<Local>,
    address: SocketAddr,
    /// Gone once this controller has stopped.
    raft: Option<Raft>,
    raft_metrics: watch::Receiver<Metrics>,
    queue: Queue,
    situation: watch::Receiver<Situation>,
    stop: watch::Sender<bool>,
    cut: watch::Sender<bool>,
    listener: Option<JoinHandle<()>>,
    tasks: Vec<JoinHandle<()>>,
    closer: Option<LogCloser>,
}

impl fmt::Debug for ControllerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControllerHandle")
            .field("voter", &self.local.voter)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Figures of a controller at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ControllerMetrics {
    /// The Raft term.
    pub term: u64,
    /// The active controller, where it is known.
    pub leader: Option<NodeId>,
    /// Whether that is this one.
    pub active: bool,
    /// The last index of the Raft log.
    pub last_log_index: Option<u64>,
    /// The last index that was applied.
    pub last_applied_index: Option<u64>,
    /// How many metadata records were applied.
    pub metadata_offset: MetadataOffset,
    /// How many controllers vote.
    pub voters: usize,
    /// How many requests wait to be decided.
    pub queue_depth: usize,
    /// Registered brokers.
    pub brokers: usize,
    /// Registered brokers that may lead.
    pub active_brokers: usize,
    /// Topics.
    pub topics: usize,
    /// Partitions.
    pub partitions: usize,
    /// Partitions without a leader.
    pub leaderless_partitions: usize,
}

/// What was opened from the metadata directory.
struct Home {
    opened: Opened<Machine>,
    identity: Identity,
    published: Published,
    feed: Arc<Feed>,
}

impl Controller {
    /// Starts a controller. It forms its cluster, or joins it, in the background: see [`ControllerHandle::readiness`].
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(options: ControllerOptions) -> Result<ControllerHandle, StartError> {
        let (listener, address) = listen(options.listen).await?;
        let settings = options.settings;
        let home = open_home(options.directory.clone(), options.node_id, settings.feed_bytes).await?;
        let Home { opened, identity, published, feed } = home;
        let local = Arc::new(Local {
            voter: VoterId::new(options.node_id.get(), identity.directory.get()),
            incarnation: IncarnationId::new(rand::rng().random()),
            address: options.advertised,
            configured_cluster: options.cluster_id,
            published: published.clone(),
        });
        let Opened { log, machine, failure, closer } = opened;
        let config = config(&settings)?;
        let raft = Raft::new(local.voter, Arc::new(config), Network::new(local.clone()), log, machine)
            .await
            .map_err(|error| StartError::Raft(error.to_string()))?;

        let peers = Peers::new(local.clone());
        let members = Members::new(raft.clone(), local.clone(), peers.clone());
        let heard = Heard::default();
        let identity = Arc::new(Mutex::new(identity));
        let start = Situation { term: 0, leadership: Leadership::Unknown };
        let (situation_sender, situation) = watch::channel(start);
        let (tenure_sender, tenure) = watch::channel(None);
        let (jobs_sender, jobs) = mpsc::channel(settings.queue_capacity.max(1));
        let queue =
            Queue::new(jobs_sender, tenure, situation.clone(), local.node(), settings.request_timeout);
        let patience = Patience { session: settings.broker_session, closed: settings.closed_session_grace };
        let writer = Writer {
            raft: raft.clone(),
            published: published.clone(),
            jobs,
            situation: situation.clone(),
            tenure: tenure_sender,
            settings: settings.decisions.clone(),
            patience,
            local: local.clone(),
            peers: peers.clone(),
        };
        let sessions = Arc::new(Sessions {
            local: local.clone(),
            published: published.clone(),
            feed,
            queue: queue.clone(),
            heartbeat_interval: settings.broker_heartbeat,
            session_timeout: settings.broker_session,
        });
        let (health_reporter, health) = tonic_health::server::health_reporter();
        drop(health_reporter);
        let services = Services {
            raft: RaftServer {
                raft: raft.clone(),
                local: local.clone(),
                heard: heard.clone(),
                identity: identity.clone(),
                fatal: options.fatal.clone(),
            },
            controller: ControllerService {
                sessions,
                raft: raft.clone(),
                members: members.clone(),
                situation: situation.clone(),
            },
            admin: AdminService {
                me: local.node(),
                queue: queue.clone(),
                published: published.clone(),
                members: members.clone(),
            },
            health,
        };
        let (stop, mut stopping) = watch::channel(false);
        let (cut, cutting) = watch::channel(false);
        let fatal = options.fatal;
        let serving = listener::serve(
            services,
            listener,
            async move {
                let _ = stopping.wait_for(|stop| *stop).await;
            },
            cutting,
        );
        let listener = tokio::spawn({
            let fatal = fatal.clone();
            async move {
                if let Err(error) = serving.await {
                    fatal(format!("the CONTROLLER listener failed: {error}"));
                }
            }
        });

        let (link_sender, link) = watch::channel(Link::Unknown);
        let election = settings.election_timeout;
        let mark = before_first_write(identity, fatal.clone());
        let tasks = vec![
            tokio::spawn(watch_failure(failure, fatal.clone())),
            tokio::spawn(observe(raft.clone(), heard, election, situation_sender, fatal.clone())),
            tokio::spawn(elections::watch_leader(raft.clone(), local.clone(), link_sender)),
            tokio::spawn(elections::stand(raft.clone(), local.clone(), peers.clone(), election, link)),
            tokio::spawn(forming::form(raft.clone(), local.clone(), peers, options.voters, mark)),
            tokio::spawn(writer.run()),
            tokio::spawn(upkeep::run(queue.clone(), members, settings.rebalance_interval)),
            tokio::spawn(check_cluster(local.clone(), fatal)),
        ];
        tracing::info!(voter = %local.voter, %address, "the controller runs");
        let (listener, closer) = (Some(listener), Some(closer));
        let raft_metrics = raft.metrics();
        let raft = Some(raft);
        Ok(ControllerHandle {
            local,
            address,
            raft,
            raft_metrics,
            queue,
            situation,
            stop,
            cut,
            listener,
            tasks,
            closer,
        })
    }
}

async fn listen(listen: Listen) -> Result<(TcpListener, SocketAddr), StartError> {
    let io = |what: String| move |source| StartError::Io { what, source };
    let listener = match listen {
        Listen::Address(address) => {
            TcpListener::bind(address).await.map_err(io(format!("could not listen on {address}")))?
        }
        Listen::Bound(socket) => {
            socket.set_nonblocking(true).map_err(io("could not use the CONTROLLER socket".into()))?;
            TcpListener::from_std(socket).map_err(io("could not use the CONTROLLER socket".into()))?
        }
    };
    let address = listener.local_addr().map_err(io("the CONTROLLER listener has no address".into()))?;
    Ok((listener, address))
}

/// Opens the Raft directory and finds out who it is.
async fn open_home(directory: PathBuf, node: NodeId, feed_bytes: usize) -> Result<Home, StartError> {
    let published = Published::default();
    let feed = Arc::new(Feed::new(feed_bytes));
    let machine = Machine::new(published.clone(), feed.clone());
    let path = directory.clone();
    let opening = tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&path).map_err(|source| StartError::Io {
            what: format!("could not create {}", path.display()),
            source,
        })?;
        // The store's lock comes first: two processes must not both choose an identity.
        let opened = vltava_raft_store::open(&StoreOptions::new(&path), machine)?;
        let identity = Identity::read(&path, node)?;
        Ok::<_, StartError>((opened, identity))
    });
    let (mut opened, identity) = opening.await.map_err(|error| StartError::Raft(error.to_string()))??;
    let empty = is_empty(&mut opened).await.map_err(StartError::Raft)?;
    let damaged = |what| StartError::Damaged { directory: directory.clone(), what };
    let identity = match identity {
        Some(identity) if identity.used && empty => {
            return Err(damaged("it took part in the quorum, but its Raft log is gone"));
        }
        Some(identity) => identity,
        None if !empty => return Err(damaged("it has a Raft log, but its identity file is gone")),
        None => Identity::create(&directory, node, DirectoryId::new(rand::rng().random()))?,
    };
    Ok(Home { opened, identity, published, feed })
}

async fn is_empty(opened: &mut Opened<Machine>) -> Result<bool, String> {
    let state = opened.log.get_log_state().await.map_err(|error| error.to_string())?;
    let vote = opened.log.read_vote().await.map_err(|error| error.to_string())?;
    Ok(state.last_log_id.is_none() && vote.is_none())
}

fn config(settings: &ControllerSettings) -> Result<openraft::Config, StartError> {
    let options = RaftOptions {
        heartbeat: settings.heartbeat,
        election_min: settings.election_timeout / 2,
        // openraft's lease is this: nobody votes against a leader that it heard of within it.
        election_max: settings.election_timeout,
        snapshot_every: settings.entries_between_snapshots,
        keep_entries: settings.entries_kept,
        ..RaftOptions::default()
    };
    let config = raft_config(&options).map_err(|error| StartError::Settings(error.to_string()))?;
    // `raft/elections.rs` decides when to stand.
    Ok(openraft::Config { enable_elect: false, snapshot_max_chunk_size: SNAPSHOT_CHUNK, ..config })
}

fn before_first_write(identity: Arc<Mutex<Identity>>, fatal: FatalHook) -> impl Fn() -> bool + Send {
    move || {
        let mut identity = identity.lock().unwrap_or_else(PoisonError::into_inner);
        match identity.mark_used() {
            Ok(()) => true,
            Err(error) => {
                fatal(format!("the metadata directory can not be written: {error}"));
                false
            }
        }
    }
}

async fn watch_failure(mut failure: vltava_raft_store::Failure, fatal: FatalHook) {
    let why = failure.wait().await;
    fatal(format!("the metadata log failed: {why}"));
}

async fn observe(
    raft: Raft,
    heard: Heard,
    election_timeout: Duration,
    situation: watch::Sender<Situation>,
    fatal: FatalHook,
) {
    if let Some(why) = leadership::observe(raft, heard, election_timeout, situation).await {
        fatal(format!("Raft stopped: {why}"));
    }
}

/// Dies when the cluster that this controller finds itself in is not the configured one.
async fn check_cluster(local: Arc<Local>, fatal: FatalHook) {
    let Some(configured) = local.configured_cluster else { return };
    let mut offsets = local.published.offsets();
    loop {
        match local.published.image().cluster_id() {
            Some(found) if found != configured => {
                return fatal(format!(
                    "the metadata directory belongs to cluster {found}, but `cluster.id` is {configured}"
                ));
            }
            Some(_) => return,
            None => {}
        }
        if offsets.changed().await.is_err() {
            return;
        }
    }
}

impl ControllerHandle {
    /// Where the CONTROLLER listener is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// This controller's number.
    pub fn node_id(&self) -> NodeId {
        self.local.node()
    }

    /// The id of its metadata directory.
    pub fn directory_id(&self) -> DirectoryId {
        self.local.directory()
    }

    /// The committed and applied state of this node.
    pub fn published(&self) -> &Published {
        &self.local.published
    }

    /// The single writer's queue, for the process that the controller runs in.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Ready when the quorum can commit, as far as this controller can know: it leads with a quorum behind it, or heard of
    /// the leader within the election timeout.
    ///
    /// # Errors
    /// Why it is not.
    pub fn readiness(&self) -> Result<(), String> {
        let situation = self.situation.borrow();
        match situation.leadership {
            Leadership::Unknown => Err("no leader of the controller quorum is known".into()),
            Leadership::Following { .. } | Leadership::Leading if self.cluster_is_formed() => Ok(()),
            Leadership::Following { .. } | Leadership::Leading => Err("the cluster is not formed yet".into()),
        }
    }

    /// See [`Self::readiness`].
    pub fn is_ready(&self) -> bool {
        self.readiness().is_ok()
    }

    fn cluster_is_formed(&self) -> bool {
        self.local.published.image().cluster_id().is_some()
    }

    /// Figures.
    pub fn metrics(&self) -> ControllerMetrics {
        let raft = self.raft_metrics.borrow().clone();
        let situation = self.situation.borrow().clone();
        let image = self.local.published.image();
        ControllerMetrics {
            term: situation.term,
            leader: situation.leader(self.node_id()),
            active: self.queue.active().is_ok(),
            last_log_index: raft.last_log_index,
            last_applied_index: raft.last_applied.map(|id| id.index),
            metadata_offset: image.offset(),
            voters: raft.membership_config.voter_ids().count(),
            queue_depth: self.queue.depth(),
            brokers: image.brokers().count(),
            active_brokers: image.active_brokers().count(),
            topics: image.topic_count(),
            partitions: image.partition_count(),
            leaderless_partitions: image.leaderless_partitions().count(),
        }
    }

    /// Stops: takes no more requests, ends sessions so that brokers look for the next active controller, closes the log.
    pub async fn shutdown(mut self) {
        if let Some(raft) = &self.raft {
            // It fails only when it has stopped already.
            let _ = raft.shutdown().await;
        }
        self.stop.send_replace(true);
        if let Some(listener) = &mut self.listener {
            // Streams that peers keep open end when their connection is cut.
            let _ = tokio::time::timeout(DRAIN, listener).await;
        }
        self.end().await;
    }

    /// Stops as a killed process does, and waits until its files are closed. For tests.
    pub async fn kill(mut self) {
        self.end().await;
    }

    async fn end(&mut self) {
        self.break_off();
        if let Some(listener) = self.listener.take() {
            let _ = listener.await;
        }
        for task in self.tasks.drain(..) {
            let _ = task.await;
        }
        if let Some(raft) = self.raft.take() {
            let _ = raft.shutdown().await;
        }
        let Some(closer) = self.closer.take() else { return };
        // Tasks of connections that were cut still hold parts of the log for a moment.
        let closing = tokio::task::spawn_blocking(move || closer.wait());
        if tokio::time::timeout(CLOSE, closing).await.is_err() {
            tracing::warn!("the metadata log is still in use while this controller stops");
        }
    }

    fn break_off(&mut self) {
        self.cut.send_replace(true);
        self.stop.send_replace(true);
        for task in self.tasks.iter().chain(&self.listener) {
            task.abort();
        }
    }
}

impl Drop for ControllerHandle {
    fn drop(&mut self) {
        self.break_off();
    }
}
