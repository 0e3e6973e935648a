//! Starts a controller: opens its directory, starts Raft, the single writer and the listener, and ties them together.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::RngExt;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tonic_health::pb::health_server::{Health, HealthServer};
use vltava_model::IncarnationId;
use vltava_raft_store::{Opened, RaftOptions, VoterId, raft_config};
use vltava_storage::calls::{Finding, Standstill};
use vltava_transport::Listener;

use crate::feed::Feed;
use crate::handle::ControllerHandle;
use crate::home::{self, Home, StartError};
use crate::identity::Identity;
use crate::listener::{self, Services};
use crate::liveness::Patience;
use crate::options::{ConfiguredVoter, ControllerOptions, ControllerSettings, FatalHook, Listen};
use crate::queue::{Job, Queue};
use crate::raft::elections::{self, Link};
use crate::raft::leadership::{self, Heard, Leadership, Situation};
use crate::raft::local::Local;
use crate::raft::membership::Members;
use crate::raft::network::Network;
use crate::raft::peers::Peers;
use crate::raft::{Raft, forming, observing};
use crate::services::admin::AdminService;
use crate::services::controller::ControllerService;
use crate::services::raft::Server as RaftServer;
use crate::session::Sessions;
use crate::tenure::Tenure;
use crate::upkeep;
use crate::writer::Writer;

/// The part of a snapshot that one message to a follower holds, in bytes.
const SNAPSHOT_CHUNK: u64 = 1 << 20;

/// Starts controllers.
#[derive(Debug)]
pub struct Controller;

/// What the parts of a controller share.
struct Core {
    raft: Raft,
    local: Arc<Local>,
    identity: Arc<Mutex<Identity>>,
    feed: Arc<Feed>,
    peers: Peers,
    members: Members,
    heard: Heard,
    queue: Queue,
    situation: watch::Receiver<Situation>,
    settings: ControllerSettings,
    fatal: FatalHook,
}

/// The ends of channels that have one owner.
struct Ends {
    situation: watch::Sender<Situation>,
    tenure: watch::Sender<Option<Arc<Tenure>>>,
    jobs: mpsc::Receiver<Box<dyn Job>>,
    failure: vltava_raft_store::Failure,
}

impl Controller {
    /// Starts a controller. It forms its cluster, or joins it, in the background: see [`ControllerHandle::readiness`].
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(options: ControllerOptions) -> Result<ControllerHandle, StartError> {
        let ControllerOptions { node_id, storage, directory, log_engine, cluster_id, .. } = options;
        let ControllerOptions { voters, listen, advertised, settings, fatal, .. } = options;
        let (socket, address) = bind(listen).await?;
        let config = config(&settings)?;
        let place = home::Place { storage, directory, engine: log_engine, node: node_id };
        let Home { opened, identity, published, feed } = home::open(place, settings.feed_bytes).await?;
        let local = Arc::new(Local {
            voter: VoterId::new(node_id.get(), identity.directory.get()),
            incarnation: IncarnationId::new(rand::rng().random()),
            address: advertised,
            configured_cluster: cluster_id,
            published,
        });
        let Opened { log, machine, failure, closer } = opened;
        let raft = Raft::new(local.voter, Arc::new(config), Network::new(local.clone()), log, machine)
            .await
            .map_err(|error| StartError::Raft(error.to_string()))?;

        let (core, ends) = Core::new(raft, local, identity, feed, settings, fatal, failure);
        let (stop, stopping) = watch::channel(false);
        let (cut, cutting) = watch::channel(false);
        let listener = core.serve(socket, stopping, cutting);
        let tasks = core.spawn(ends, voters);
        tracing::info!(voter = %core.local.voter, %address, "the controller runs");
        Ok(ControllerHandle {
            raft_metrics: core.raft.metrics(),
            raft: Some(core.raft),
            local: core.local,
            address,
            queue: core.queue,
            situation: core.situation,
            stop,
            cut,
            listener: Some(listener),
            tasks,
            closer: Some(closer),
        })
    }
}

impl Core {
    fn new(
        raft: Raft,
        local: Arc<Local>,
        identity: Identity,
        feed: Arc<Feed>,
        settings: ControllerSettings,
        fatal: FatalHook,
        failure: vltava_raft_store::Failure,
    ) -> (Self, Ends) {
        let peers = Peers::new(local.clone());
        let members = Members::new(raft.clone(), local.clone(), peers.clone());
        let start = Situation { term: 0, leadership: Leadership::Unknown };
        let (situation_sender, situation) = watch::channel(start);
        let (tenure_sender, tenure) = watch::channel(None);
        let (jobs_sender, jobs) = mpsc::channel(settings.queue_capacity.max(1));
        let timeout = settings.request_timeout;
        let queue = Queue::new(jobs_sender, tenure, situation.clone(), local.node(), timeout);
        let identity = Arc::new(Mutex::new(identity));
        let heard = Heard::default();
        let ends = Ends { situation: situation_sender, tenure: tenure_sender, jobs, failure };
        (Self { raft, local, identity, feed, peers, members, heard, queue, situation, settings, fatal }, ends)
    }

    fn serve(
        &self,
        socket: Listener,
        mut stop: watch::Receiver<bool>,
        cut: watch::Receiver<bool>,
    ) -> JoinHandle<()> {
        let (_, health) = tonic_health::server::health_reporter();
        let stop = async move {
            // Whoever could stop it is gone: that stops it too.
            let _ = stop.wait_for(|stop| *stop).await;
        };
        let serving = listener::serve(self.services(health), socket, stop, cut);
        let fatal = self.fatal.clone();
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                fatal(format!("the CONTROLLER listener failed: {error}"));
            }
        })
    }

    fn services<H: Health>(&self, health: HealthServer<H>) -> Services<HealthServer<H>> {
        let sessions = Sessions {
            local: self.local.clone(),
            published: self.local.published.clone(),
            feed: self.feed.clone(),
            queue: self.queue.clone(),
            heartbeat_interval: self.settings.broker_heartbeat,
            session_timeout: self.settings.broker_session,
        };
        Services {
            raft: RaftServer {
                raft: self.raft.clone(),
                local: self.local.clone(),
                heard: self.heard.clone(),
                identity: self.identity.clone(),
                fatal: self.fatal.clone(),
            },
            controller: ControllerService {
                sessions: Arc::new(sessions),
                raft: self.raft.clone(),
                members: self.members.clone(),
                situation: self.situation.clone(),
            },
            admin: AdminService {
                me: self.local.node(),
                queue: self.queue.clone(),
                published: self.local.published.clone(),
                members: self.members.clone(),
            },
            health,
        }
    }

    fn spawn(&self, ends: Ends, voters: Vec<ConfiguredVoter>) -> Vec<JoinHandle<()>> {
        let Ends { situation, tenure, jobs, failure } = ends;
        let (raft, local, peers, settings) = (&self.raft, &self.local, &self.peers, &self.settings);
        let election = settings.election_timeout;
        let (link_sender, link) = watch::channel(Link::Unknown);
        let mark = home::before_first_write(self.identity.clone(), self.fatal.clone());
        let writer = Writer {
            raft: raft.clone(),
            published: local.published.clone(),
            jobs,
            situation: self.situation.clone(),
            tenure,
            settings: settings.decisions.clone(),
            patience: Patience { session: settings.broker_session, closed: settings.closed_session_grace },
            local: local.clone(),
            peers: peers.clone(),
        };
        let fatal = || self.fatal.clone();
        let upkeep = upkeep::run(self.queue.clone(), self.members.clone(), settings.rebalance_interval);
        vec![
            guard(fatal(), watch_failure(failure, fatal())),
            guard(fatal(), observe(raft.clone(), self.heard.clone(), election, situation, fatal())),
            guard(fatal(), elections::watch_leader(raft.clone(), local.clone(), link_sender)),
            guard(fatal(), elections::stand(raft.clone(), local.clone(), peers.clone(), election, link)),
            guard(fatal(), forming::form(raft.clone(), local.clone(), peers.clone(), voters.clone(), mark)),
            guard(
                fatal(),
                observing::observe(
                    raft.clone(),
                    local.clone(),
                    peers.clone(),
                    voters,
                    self.situation.clone(),
                ),
            ),
            guard(fatal(), writer.run()),
            guard(fatal(), upkeep),
            guard(fatal(), check_cluster(local.clone(), fatal())),
        ]
    }
}

async fn bind(listen: Listen) -> Result<(Listener, SocketAddr), StartError> {
    let io = |what: String| move |source| StartError::Io { what, source };
    let listener = match listen {
        Listen::Address(address) => {
            TcpListener::bind(address).await.map_err(io(format!("could not listen on {address}")))?
        }
        Listen::Bound(socket) => {
            socket.set_nonblocking(true).map_err(io("could not use the CONTROLLER socket".into()))?;
            TcpListener::from_std(socket).map_err(io("could not use the CONTROLLER socket".into()))?
        }
        Listen::Other(address, listener) => return Ok((listener, address)),
    };
    let address = listener.local_addr().map_err(io("the CONTROLLER listener has no address".into()))?;
    Ok((listener.into(), address))
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

/// Aborts a task with its owner.
struct Owned(JoinHandle<()>);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs a task without which nothing works: a controller whose writer panicked must not look as if it lived.
fn guard(fatal: FatalHook, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut task = Owned(tokio::spawn(work));
        if let Err(error) = (&mut task.0).await
            && error.is_panic()
        {
            fatal(format!("a part of the controller panicked: {error}"));
        }
    })
}

/// How long one call of the metadata log's disk may take. A disk that answers later than this is not to be lived with: an active
/// controller would go on sending heartbeats, and decide nothing.
const DISK_ANSWERS: Duration = Duration::from_secs(10);

/// How often it is looked whether it answers.
const LOOK: Duration = Duration::from_secs(1);

async fn watch_failure(mut failure: vltava_raft_store::Failure, fatal: FatalHook) {
    let mut standstill = Standstill::new(DISK_ANSWERS);
    let why = loop {
        match tokio::time::timeout(LOOK, failure.wait()).await {
            Ok(why) => break why,
            Err(_) if standstill.look(failure.disk_call()) == Finding::Stands => {
                break format!("its disk has not answered for {DISK_ANSWERS:?}");
            }
            Err(_) => {}
        }
    };
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
