//! A running controller, as its process sees it: figures, readiness, stop.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use vltava_model::{DirectoryId, MetadataOffset, NodeId};
use vltava_raft_store::{LogCloser, Position};

use crate::machine::Published;
use crate::queue::Queue;
use crate::raft::leadership::{Leadership, Situation};
use crate::raft::local::Local;
use crate::raft::{Metrics, Raft};

/// How long connections get to end by themselves at a stop.
const DRAIN: Duration = Duration::from_millis(500);
/// How long the log may take to be closed.
const CLOSE: Duration = Duration::from_secs(10);

/// A running controller. Dropping it is a crash: connections break, nothing is handed over.
pub struct ControllerHandle {
    pub(crate) local: Arc<Local>,
    pub(crate) address: SocketAddr,
    /// Gone once this controller has stopped.
    pub(crate) raft: Option<Raft>,
    pub(crate) raft_metrics: watch::Receiver<Metrics>,
    pub(crate) queue: Queue,
    pub(crate) situation: watch::Receiver<Situation>,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) cut: watch::Sender<bool>,
    pub(crate) listener: Option<JoinHandle<()>>,
    pub(crate) tasks: Vec<JoinHandle<()>>,
    pub(crate) closer: Option<LogCloser>,
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
    /// Partitions with fewer in-sync replicas than replicas.
    pub under_replicated_partitions: usize,
}

/// What a controller's Raft says of itself at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QuorumView {
    /// Its term.
    pub term: u64,
    /// Whether it leads in that term, though perhaps without a quorum behind it.
    pub leads: bool,
    /// The last index of its log.
    pub last_index: Option<u64>,
    /// The last entry that it applied.
    pub applied: Option<Position>,
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
            under_replicated_partitions: image.under_replicated_partitions().count(),
        }
    }

    /// What Raft says of itself.
    pub fn quorum(&self) -> QuorumView {
        let raft = self.raft_metrics.borrow();
        QuorumView {
            term: raft.current_term,
            leads: raft.state.is_leader(),
            last_index: raft.last_log_index,
            applied: raft.last_applied.map(Position::from),
        }
    }

    /// Stops: takes no more requests, ends sessions so that brokers look for the next active controller, closes the log.
    pub async fn shutdown(mut self) {
        if let Some(raft) = &self.raft {
            // It fails only when it has stopped already.
            let _ = raft.shutdown().await;
        }
        self.stop.send_replace(true);
        if let Some(mut listener) = self.listener.take() {
            // Streams that peers keep open end when their connection is cut.
            if tokio::time::timeout(DRAIN, &mut listener).await.is_err() {
                self.listener = Some(listener);
            }
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
        let closing = vltava_threads::offload_waiting(move || closer.wait());
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use std::path::Path;

    use bytes::Bytes;
    use prost::Message;
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use vltava_proto::v1::MetadataEntry;
    use vltava_raft_store::{Command, LogEngine};
    use vltava_storage::{CrashMode, MemoryStorage, RealStorage, Storage};

    use super::*;
    use crate::machine::Outcome;
    use crate::{ConfiguredVoter, Controller, ControllerOptions, ControllerSettings, Listen};

    async fn alone(directory: &tempfile::TempDir) -> (ControllerHandle, Arc<Mutex<Vec<String>>>) {
        alone_on(RealStorage::shared(), directory.path(), None).await
    }

    async fn alone_on(
        storage: Arc<dyn Storage>,
        directory: &Path,
        log_engine: Option<LogEngine>,
    ) -> (ControllerHandle, Arc<Mutex<Vec<String>>>) {
        let deaths = Arc::new(Mutex::new(Vec::new()));
        let sink = deaths.clone();
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let options = ControllerOptions {
            node_id: NodeId::new(1),
            storage,
            directory: directory.to_owned(),
            log_engine,
            cluster_id: None,
            voters: vec![ConfiguredVoter { node: NodeId::new(1), address: address.clone() }],
            listen: Listen::Bound(socket),
            advertised: address,
            settings: ControllerSettings::default(),
            fatal: Arc::new(move |why| sink.lock().unwrap().push(why)),
        };
        let handle = Controller::start(options).await.unwrap();
        until(|| handle.metrics().active).await;
        (handle, deaths)
    }

    async fn until(mut is: impl FnMut() -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while !is() {
            assert!(tokio::time::Instant::now() < deadline, "in vain");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stale_proposal_is_refused_and_the_controller_serves_on() {
        let directory = tempfile::tempdir().unwrap();
        let (handle, deaths) = alone(&directory).await;
        let before = handle.published().image().offset();
        let stale = MetadataEntry { base_offset: 0, records: vec![vltava_metadata::record::feature("f", 1)] };
        let raft = handle.raft.clone().unwrap();
        let written = raft.client_write(Command(stale.encode_to_vec().into())).await.unwrap();
        assert_eq!(Outcome::from_bytes(&written.data.outcome), Outcome::Stale);
        assert_eq!(handle.published().image().offset(), before);
        let decided = handle.queue().decide(|_| Ok(crate::decide::Decision::unchanged(7))).await.unwrap();
        assert_eq!((decided.response, decided.offset), (7, before));
        drop(raft);
        handle.shutdown().await;
        assert!(deaths.lock().unwrap().is_empty());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_entry_that_can_not_be_applied_ends_the_process() {
        let directory = tempfile::tempdir().unwrap();
        let (handle, deaths) = alone(&directory).await;
        let raft = handle.raft.clone().unwrap();
        let written = raft.client_write(Command(Bytes::from_static(b"\xff\xff"))).await;
        assert!(written.is_err());
        until(|| !deaths.lock().unwrap().is_empty()).await;
        until(|| !handle.metrics().active).await;
        assert!(!handle.is_ready());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_controller_on_a_disk_in_memory_survives_that_disk_s_power_cuts() {
        let directory = Path::new("/metadata");
        let mut storage = MemoryStorage::new();
        let mut id = None;
        for life in 0..4u64 {
            let disk = Arc::new(storage.clone());
            let (handle, deaths) = alone_on(disk, directory, Some(LogEngine::Wal)).await;
            let voter = handle.local.voter;
            assert_eq!(*id.get_or_insert(voter), voter, "life {life}: it is who it was");
            let image = handle.published().image();
            for before in 0..life {
                assert_eq!(image.features().level(&format!("f{before}")), Some(1), "life {life}");
            }
            let records = vec![vltava_metadata::record::feature(&format!("f{life}"), 1)];
            let decided =
                handle.queue().decide(move |_| Ok(crate::decide::Decision { response: (), records }));
            decided.await.unwrap();
            assert!(deaths.lock().unwrap().is_empty());
            let mode = CrashMode::ALL[life as usize];
            let survivor = storage.crash(&mut StdRng::seed_from_u64(life), mode);
            handle.kill().await;
            storage = survivor;
        }
    }
}
