//! The life of a broker: directories, shards, session, listener; and the end in the reverse order.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use vltava_metadata::Image;
use vltava_model::{IncarnationId, MetadataOffset};
use vltava_node::metrics::{Sample, Value};
use vltava_proto::v1::DirectoryAssignment;
use vltava_proto::v1::{AssignDirectoriesRequest, log_server};
use vltava_storage::FilePoolMetrics;
use vltava_threads::{Bell, JoinHandle, queue};
use vltava_transport::Listener;

use crate::api::log::{LogService, wall_ms};
use crate::damages::Damages;
use crate::directories::{Directories, OpenError, OpenInput};
use crate::listener;
use crate::metrics::BrokerMetrics;
use crate::options::{BrokerOptions, FatalReason};
use crate::quorum::link::ControllerLink;
use crate::quorum::reconcile::{FEED_QUEUE, Reconciler};
use crate::quorum::session::{self, SessionControl};
use crate::quorum::{damage, isr};
use crate::replication::follower::Followers;
use crate::shard::Shards;
use crate::shard::command::Command;
use crate::shard::handle::ShardHandle;
use crate::shard::worker::Worker;
use crate::state::BrokerState;

/// How often recovery points are saved, relaxed logs synced, and logs asked for the memory that they keep while idle.
const MAINTAIN: Duration = Duration::from_secs(5);

/// How long requests under way get to finish at the end.
const DRAIN: Duration = Duration::from_secs(2);

/// Why a broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its directories can't be used.
    #[error(transparent)]
    Directories(#[from] OpenError),
    /// A thread can't be started.
    #[error("cannot start a shard's thread: {0}")]
    Thread(std::io::Error),
}

/// Starts brokers.
pub struct Broker;

/// What became of a broker's leaderships when it was told to stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HandOver {
    /// The controller gave them, and its places in ISRs, to whoever could take them, and let it go.
    Done,
    /// No controller was there to ask, or none let it go in time: it stopped all the same.
    NotDone,
}

/// A running broker.
pub struct BrokerHandle {
    state: Arc<BrokerState>,
    shards: Shards,
    threads: Vec<JoinHandle>,
    tasks: JoinSet<()>,
    wants_shutdown: watch::Sender<bool>,
    may_shut_down: watch::Receiver<bool>,
    stop_listener: Arc<Notify>,
}

impl Broker {
    /// Opens the directories, starts shards and services, and begins to look for the active controller. Blocks while
    /// journals are read.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(options: BrokerOptions, listener: impl Into<Listener>) -> Result<BrokerHandle, StartError> {
        let directories = Arc::new(Directories::open(&OpenInput {
            files: options.files.clone(),
            paths: &options.log_dirs,
            node: options.node_id,
            cluster: options.cluster_id,
            journal_file_bytes: options.journal_file_bytes,
            min_free_bytes: options.min_free_bytes,
        })?);
        let state = Arc::new(new_state(options, directories)?);
        state.followers.attach(state.clone());
        let mut tasks = JoinSet::new();
        let (proposals, proposed) = mpsc::unbounded_channel();
        tasks.spawn(isr::run(state.clone(), proposed));
        let (shards, threads) = start_shards(&state, &proposals)?;
        let (moved, moves) = mpsc::unbounded_channel();
        tasks.spawn(tell_directories(state.clone(), moves));
        let (feed, fed) = mpsc::channel(FEED_QUEUE);
        tasks.spawn(Reconciler::new(state.clone(), shards.clone(), moved).run(fed));
        let (wants_shutdown, wanted) = watch::channel(false);
        let (allowed, may_shut_down) = watch::channel(false);
        let control = SessionControl { wants_shutdown: wanted, may_shut_down: allowed };
        tasks.spawn(session::run(state.clone(), feed, control));
        tasks.spawn(damage::run(state.clone()));
        tasks.spawn(maintain(state.clone(), shards.clone()));
        tasks.spawn(watch_directories(state.clone(), shards.clone()));
        let stop_listener = Arc::new(Notify::new());
        tasks.spawn(listen(state.clone(), listener.into(), stop_listener.clone()));
        Ok(BrokerHandle { state, shards, threads, tasks, wants_shutdown, may_shut_down, stop_listener })
    }
}

pub(crate) fn new_state(
    options: BrokerOptions,
    directories: Arc<Directories>,
) -> Result<BrokerState, StartError> {
    let known_cluster = OnceLock::new();
    if let Some(cluster) = directories.cluster()?.or(options.cluster_id) {
        known_cluster.get_or_init(|| cluster);
    }
    Ok(BrokerState {
        node_id: options.node_id,
        incarnation: IncarnationId::new(rand::random()),
        clean_epoch: directories.left_cleanly(),
        link: ControllerLink::default(),
        followers: Followers::new(tokio::runtime::Handle::current()),
        producer_ids: Default::default(),
        metrics: BrokerMetrics::default(),
        damages: Damages::default(),
        shard_calls: Default::default(),
        directories,
        known_cluster,
        epoch: AtomicU64::new(0),
        fed: AtomicU64::new(0),
        active: watch::Sender::new(false),
        image: ArcSwap::from_pointee(Image::empty()),
        published: watch::Sender::new(MetadataOffset::ZERO),
        partitions: ArcSwap::default(),
        configs: ArcSwap::default(),
        options,
    })
}

fn start_shards(
    state: &Arc<BrokerState>,
    proposals: &isr::Proposals,
) -> Result<(Shards, Vec<JoinHandle>), StartError> {
    let origin = Instant::now();
    let mut handles = Vec::new();
    let mut threads = Vec::new();
    for index in 0..state.options.shards.max(1) {
        let bell = Bell::new();
        let (sender, commands) = queue::bounded(&bell, state.options.shard_queue.max(1));
        let handle = ShardHandle::new(sender);
        let worker = Worker::new(state.clone(), handle.clone(), proposals.clone(), (bell, commands), origin);
        let own = state.clone();
        let run = move || {
            own.shard_calls.attend();
            worker.run();
        };
        let thread = vltava_threads::spawn(&format!("shard-{index}"), run).map_err(StartError::Thread)?;
        handles.push(handle);
        threads.push(thread);
    }
    Ok((Shards::new(handles), threads))
}

/// Tells the controller where replicas lie, until it knows.
async fn tell_directories(
    state: Arc<BrokerState>,
    mut moves: mpsc::UnboundedReceiver<Vec<vltava_model::TopicPartition>>,
) {
    let mut pending: BTreeSet<vltava_model::TopicPartition> = BTreeSet::new();
    loop {
        if pending.is_empty() {
            match moves.recv().await {
                Some(moved) => pending.extend(moved),
                None => return,
            }
        }
        while let Ok(moved) = moves.try_recv() {
            pending.extend(moved);
        }
        let batch: Vec<_> = pending.iter().take(5_000).copied().collect();
        let assignments = batch.iter().filter_map(|partition| {
            let directory = state.directories.of(*partition)?;
            Some(DirectoryAssignment {
                topic_id: partition.topic.to_bytes().to_vec().into(),
                partition: partition.partition.get(),
                directory_id: directory.to_bytes().to_vec().into(),
            })
        });
        let request = AssignDirectoriesRequest {
            broker_id: state.node_id.get(),
            broker_epoch: state.broker_epoch().get(),
            assignments: assignments.collect(),
        };
        let told = match state.link.controller().await {
            Ok(mut controller) => controller.assign_directories(request).await.map(drop),
            Err(status) => Err(status),
        };
        match told {
            Ok(()) => {
                for partition in batch {
                    pending.remove(&partition);
                }
            }
            Err(status) => {
                tracing::debug!(%status, "the controller does not know yet where replicas lie");
                tokio::time::sleep(Duration::from_millis(500)).await;
                // A topic may be gone by now.
                let image = state.image();
                pending.retain(|partition| image.partition(*partition).is_some());
            }
        }
    }
}

async fn maintain(state: Arc<BrokerState>, shards: Shards) {
    let mut ticks = tokio::time::interval(MAINTAIN);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut retained = Instant::now();
    loop {
        ticks.tick().await;
        let retention = retained.elapsed() >= state.options.retention_interval;
        if retention {
            retained = Instant::now();
        }
        for shard in shards.iter() {
            shard.send_patiently(Command::Maintain { now_ms: wall_ms(), retention }).await;
        }
    }
}

/// Takes partitions of failed directories offline, and ends the process when none is left.
async fn watch_directories(state: Arc<BrokerState>, shards: Shards) {
    let mut failures = state.directories.failures();
    let mut known = BTreeSet::new();
    while failures.changed().await.is_ok() {
        let failed = failures.borrow_and_update().clone();
        for directory in failed.difference(&known) {
            for shard in shards.iter() {
                shard.send_patiently(Command::DirectoryFailed { directory: *directory }).await;
            }
        }
        known = failed;
        if state.directories.working().is_empty() {
            let why = "every log directory has failed: replace the disk, then start again".to_owned();
            (state.options.fatal)(FatalReason::LogDirectories, why);
        }
    }
}

/// Serves; the health service says what it says as long as the broker is active.
async fn listen(state: Arc<BrokerState>, listener: Listener, stop: Arc<Notify>) {
    let (reporter, health) = tonic_health::server::health_reporter();
    let mut activity = state.activity();
    let reporting = tokio::spawn(async move {
        loop {
            let serving = *activity.borrow_and_update();
            if serving {
                reporter.set_serving::<log_server::LogServer<LogService>>().await;
                reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
            } else {
                reporter.set_not_serving::<log_server::LogServer<LogService>>().await;
                reporter.set_service_status("", tonic_health::ServingStatus::NotServing).await;
            }
            if activity.changed().await.is_err() {
                return;
            }
        }
    });
    let fatal = state.options.fatal.clone();
    let served = listener::serve(state, listener, health, async move { stop.notified().await }).await;
    reporting.abort();
    if let Err(error) = served {
        fatal(FatalReason::Listener, error.to_string());
    }
}

impl BrokerHandle {
    /// Whether it serves: caught up with the metadata and let in by the controller; else why not.
    ///
    /// # Errors
    /// The reason, in words.
    pub fn ready(&self) -> Result<(), String> {
        if *self.state.published.borrow() == MetadataOffset::ZERO {
            return Err("not caught up with the metadata log yet".to_owned());
        }
        if self.state.link.node().is_none() {
            return Err("no session with an active controller".to_owned());
        }
        if !self.state.is_active() {
            return Err("fenced by the controller".to_owned());
        }
        Ok(())
    }

    /// What it counts.
    pub fn samples(&self) -> Vec<Sample> {
        let mut samples = self.state.metrics.samples();
        let gauge = |name, help, value| Sample { name, help, value: Value::Gauge(value) };
        let partitions = self.state.partitions();
        let leading = partitions.values().filter(|handle| handle.shared().leader_epoch().is_some()).count();
        samples.push(gauge("vltava_broker_partitions", "Partitions held here.", partitions.len() as f64));
        samples.push(gauge("vltava_broker_leaders", "Partitions led here.", leading as f64));
        let offset = self.state.image().offset().get() as f64;
        samples.push(gauge(
            "vltava_broker_metadata_offset",
            "Metadata records applied and visible here.",
            offset,
        ));
        let depth: usize = self.shards.iter().map(ShardHandle::depth).sum();
        samples.push(gauge("vltava_broker_shard_queue", "Commands that wait for a shard.", depth as f64));
        let failed = self.state.failed_directories().len() as f64;
        samples.push(gauge("vltava_broker_failed_directories", "Log directories that failed.", failed));
        samples.push(gauge(
            "vltava_broker_damaged_replicas",
            "Damaged replicas that are not served and have not begun anew.",
            self.state.damages.count() as f64,
        ));
        samples.extend(file_samples(&self.state.directories.file_metrics()));
        let journals = self.state.directories.journal_metrics();
        let counter = |name, help, value: u64| Sample { name, help, value: Value::Counter(value as f64) };
        let sum = |of: fn(&vltava_commitlog::durability::JournalMetricsSnapshot) -> u64| {
            journals.iter().map(|(_, metrics)| of(metrics)).sum::<u64>()
        };
        samples.push(counter("vltava_journal_groups_total", "Groups made durable.", sum(|m| m.groups)));
        samples.push(counter("vltava_journal_frames_total", "Changes made durable.", sum(|m| m.frames)));
        samples.push(counter("vltava_journal_bytes_total", "Bytes written to journals.", sum(|m| m.bytes)));
        let seconds = sum(|m| m.sync_nanos) as f64 / 1e9;
        samples.push(Sample {
            name: "vltava_journal_sync_seconds_total",
            help: "Time spent in the groups' syncs, in seconds.",
            value: Value::Counter(seconds),
        });
        samples.push(counter(
            "vltava_journal_stalls_total",
            "Groups that waited for room.",
            sum(|m| m.stalls),
        ));
        samples
    }

    /// The parts that its handlers share; for tests of one process.
    pub fn state(&self) -> &Arc<BrokerState> {
        &self.state
    }

    /// Hands over leadership, then stops serving and closes everything.
    pub async fn shutdown(mut self) -> HandOver {
        let handed_over = self.hand_over().await;
        self.stop_listener.notify_one();
        self.state.followers.close();
        let drained = async { while self.tasks.len() > 7 && self.tasks.join_next().await.is_some() {} };
        // Streams that do not end by themselves are cut.
        let _ = tokio::time::timeout(DRAIN, drained).await;
        for shard in self.shards.iter() {
            let (done, closed) = oneshot::channel();
            shard.send_patiently(Command::Close { done }).await;
            let _ = closed.await;
        }
        self.tasks.shutdown().await;
        let (state, threads) = (self.state.clone(), std::mem::take(&mut self.threads));
        let closing = vltava_threads::offload_waiting(move || {
            for thread in threads {
                if thread.join().is_err() {
                    tracing::error!("a shard's thread panicked");
                }
            }
            state.directories.close(Some(state.broker_epoch()));
        });
        if let Err(error) = closing.await {
            tracing::error!(%error, "the directories did not close");
        }
        handed_over
    }

    async fn hand_over(&mut self) -> HandOver {
        if !self.state.is_active() || self.state.link.node().is_none() {
            return HandOver::NotDone;
        }
        self.wants_shutdown.send_replace(true);
        let allowed = self.may_shut_down.wait_for(|allowed| *allowed);
        if tokio::time::timeout(self.state.options.shutdown_timeout, allowed).await.is_err() {
            tracing::warn!("the controller did not take over all leaderships in time: stopping all the same");
            return HandOver::NotDone;
        }
        HandOver::Done
    }
}

fn file_samples(files: &FilePoolMetrics) -> Vec<Sample> {
    let gauge = |name, help, value: u64| Sample { name, help, value: Value::Gauge(value as f64) };
    let counter = |name, help, value: u64| Sample { name, help, value: Value::Counter(value as f64) };
    vec![
        gauge("vltava_files_open", "Files of logs that are open.", files.open),
        gauge("vltava_files_max", "Files of logs that may be open at once.", files.max),
        counter("vltava_files_closed_total", "Files of logs that were closed to open others.", files.closed),
        counter(
            "vltava_files_synced_total",
            "Files that had to be synced before they were closed.",
            files.synced,
        ),
        counter("vltava_files_exhausted_total", "Times that the system gave no descriptor.", files.exhausted),
    ]
}
