//! Turns committed metadata into what this broker does: opens, promotes, demotes, closes and deletes partitions, and only
//! then shows the new image to requests.
//!
//! The one writer of the visible image, the partitions and the configs. Nothing is shown before this broker has caught up
//! with what was committed when it registered.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use vltava_metadata::{BrokerState as Standing, Delta, Image, LocalChanges, LocalPartition, PartitionImage};
use vltava_model::configs::TopicConfig;
use vltava_model::{BrokerEpoch, MetadataOffset, NodeId, TopicId, TopicPartition};
use vltava_proto::v1::{MetadataRecord, MetadataSnapshot};

use crate::configs;
use crate::options::FatalReason;
use crate::shard::Shards;
use crate::shard::command::{Assign, Command};
use crate::shard::handle::PartitionHandle;
use crate::shard::shared::PartitionShared;
use crate::state::BrokerState;

/// How many entries of the feed may wait; the session ends when there are more.
pub const FEED_QUEUE: usize = 4096;

/// What the session passes on.
pub enum FeedEvent {
    /// A session began; what was committed then must be applied before anything is shown.
    Registered {
        /// How many records were committed.
        high_watermark: MetadataOffset,
    },
    /// The next records.
    Records {
        /// How many records lie before them.
        base: MetadataOffset,
        /// The facts.
        records: Vec<MetadataRecord>,
    },
    /// The whole state.
    Snapshot(MetadataSnapshot),
}

/// Whether the image has been shown yet.
enum Phase {
    /// Not yet: it is behind what was committed at the registration.
    CatchingUp {
        /// How far it must come; unknown before the first registration.
        target: Option<MetadataOffset>,
    },
    /// It follows entry by entry.
    Following,
}

/// See the module.
pub struct Reconciler {
    state: Arc<BrokerState>,
    shards: Shards,
    image: Image,
    phase: Phase,
    moved: mpsc::UnboundedSender<Vec<TopicPartition>>,
}

impl Reconciler {
    /// Starts from nothing. Replicas whose directory the cluster does not know are named on `moved`.
    pub fn new(
        state: Arc<BrokerState>,
        shards: Shards,
        moved: mpsc::UnboundedSender<Vec<TopicPartition>>,
    ) -> Self {
        Self { state, shards, image: Image::empty(), phase: Phase::CatchingUp { target: None }, moved }
    }

    /// Runs until the session's end is dropped. A record that can't be replayed ends the process: going on would mean to
    /// act on something that was never committed.
    pub async fn run(mut self, mut feed: mpsc::Receiver<FeedEvent>) {
        while let Some(event) = feed.recv().await {
            if let Err(error) = self.take(event).await {
                let reason = FatalReason::Metadata;
                (self.state.options.fatal)(reason, format!("cannot follow the metadata log: {error}"));
                return;
            }
        }
    }

    async fn take(&mut self, event: FeedEvent) -> Result<(), String> {
        match event {
            FeedEvent::Registered { high_watermark } => {
                if let Phase::CatchingUp { target } = &mut self.phase {
                    *target = Some(high_watermark);
                }
            }
            FeedEvent::Records { base, records } => {
                // After a new session the first records may overlap what was received before.
                let known = self.image.offset().get().saturating_sub(base.get());
                let Some(fresh) = usize::try_from(known).ok().and_then(|known| records.get(known..)) else {
                    return Ok(());
                };
                let base = MetadataOffset::new(base.get() + known);
                let delta = self.image.apply(base, fresh).map_err(|error| error.to_string())?;
                self.follow(delta).await;
            }
            FeedEvent::Snapshot(snapshot) => {
                if snapshot.offset <= self.image.offset().get() {
                    return Ok(());
                }
                let delta = self.image.load_snapshot(&snapshot).map_err(|error| error.to_string())?;
                self.follow(delta).await;
            }
        }
        self.maybe_show().await;
        Ok(())
    }

    async fn follow(&mut self, delta: Delta) {
        if matches!(self.phase, Phase::Following) {
            self.reconcile(&delta).await;
            self.publish(&delta);
        }
    }

    async fn maybe_show(&mut self) {
        let Phase::CatchingUp { target: Some(target) } = self.phase else { return };
        if self.image.offset() < target {
            return;
        }
        let all = Delta::between(Image::empty(), self.image.clone());
        self.reconcile(&all).await;
        self.state.directories.remove_strays(&self.image, self.state.node_id).await;
        self.state.directories.replay_done();
        self.publish(&all);
        self.phase = Phase::Following;
        tracing::info!(
            metadata_offset = %self.image.offset(),
            partitions = self.state.partitions().len(),
            "caught up with the metadata log"
        );
    }

    async fn reconcile(&mut self, delta: &Delta) {
        let changes = delta.local_changes(self.state.node_id);
        self.remove(&changes).await;
        let assigns = self.assigns(delta, &changes);
        let held: Vec<TopicPartition> = assigns.iter().map(|assign| assign.partition).collect();
        self.assign(assigns).await;
        let unknown: Vec<_> = held.into_iter().filter(|of| self.directory_is_news(*of)).collect();
        if !unknown.is_empty() {
            // The receiver lives as long as the broker.
            let _ = self.moved.send(unknown);
        }
    }

    fn directory_is_news(&self, of: TopicPartition) -> bool {
        let recorded =
            self.image.partition(of).and_then(|partition| partition.directory_of(self.state.node_id));
        self.state.directories.of(of).is_some_and(|actual| recorded != Some(actual))
    }

    async fn remove(&mut self, changes: &LocalChanges) {
        let deleted = changes.deleted.iter().flat_map(|topic| topic.partitions.iter().copied());
        let closed = changes.closed.iter().map(|closed| closed.partition);
        let mut by_shard: BTreeMap<usize, Vec<TopicPartition>> = BTreeMap::new();
        let mut partitions = (*self.state.partitions()).clone();
        for partition in deleted.chain(closed) {
            partitions.remove(&partition);
            by_shard.entry(self.shards.index(partition)).or_default().push(partition);
        }
        if by_shard.is_empty() {
            return;
        }
        self.state.partitions.store(Arc::new(partitions));
        let mut waiting = Vec::new();
        for (shard, partitions) in by_shard {
            let (done, finished) = oneshot::channel();
            self.shards.get(shard).send_patiently(Command::Remove { partitions, done }).await;
            waiting.push(finished);
        }
        wait_all(waiting).await;
    }

    /// What the shards are told: changed replicas, those whose configs changed, and those led here whose followers'
    /// brokers changed.
    fn assigns(&mut self, delta: &Delta, changes: &LocalChanges) -> Vec<Assign> {
        let mut of: BTreeMap<TopicPartition, Arc<PartitionImage>> = BTreeMap::new();
        for LocalPartition { partition, after, .. } in changes.followers.iter().chain(&changes.leaders) {
            of.insert(*partition, after.clone());
        }
        let me = self.state.node_id;
        for topic in changes.reconfigured.iter().filter_map(|id| self.image.topic(*id)) {
            for (index, partition) in topic.partitions().filter(|(_, partition)| partition.has_replica(me)) {
                of.insert(topic.name_partition(index), partition.clone());
            }
        }
        if !delta.brokers().is_empty() {
            for led in self.image.partitions_led_by(me) {
                let Some(partition) = self.image.partition(led) else { continue };
                if delta.brokers().keys().any(|node| partition.has_replica(*node)) {
                    of.insert(led, partition.clone());
                }
            }
        }
        let mut configs: BTreeMap<TopicId, Arc<TopicConfig>> = BTreeMap::new();
        of.into_iter()
            .filter_map(|(partition, image)| self.assign_of(partition, image, &mut configs))
            .collect()
    }

    fn assign_of(
        &self,
        partition: TopicPartition,
        image: Arc<PartitionImage>,
        configs: &mut BTreeMap<TopicId, Arc<TopicConfig>>,
    ) -> Option<Assign> {
        let topic = self.image.topic(partition.topic)?;
        let config = configs
            .entry(topic.id)
            .or_insert_with(|| Arc::new(configs::resolve(&self.image, &self.state.options, topic)))
            .clone();
        let whole = image.replicas.iter().filter(|node| !image.is_damaged(**node));
        let eligible = whole.filter_map(|node| self.eligible(*node)).collect();
        let shared = match self.state.partition(partition) {
            Some(handle) => handle.shared().clone(),
            None => {
                let shard = self.shards.of(partition).clone();
                let hook = Box::new(move |partition, reader, cause, what| {
                    // A full queue may drop the report: the next reader finds the same damage.
                    let _ = shard.send(Command::Damaged { partition, reader, cause, what });
                });
                Arc::new(PartitionShared::new(partition, topic.name.clone(), hook))
            }
        };
        let recorded = image.directory_of(self.state.node_id);
        let directory = self.state.directories.place(partition, recorded);
        Some(Assign { partition, topic_name: topic.name.clone(), image, eligible, config, shared, directory })
    }

    fn eligible(&self, node: NodeId) -> Option<(NodeId, BrokerEpoch)> {
        let broker = self.image.broker(node)?;
        (broker.state == Standing::Active).then_some((node, broker.broker_epoch))
    }

    async fn assign(&mut self, assigns: Vec<Assign>) {
        if assigns.is_empty() {
            return;
        }
        let mut by_shard: BTreeMap<usize, Vec<Assign>> = BTreeMap::new();
        let mut partitions = (*self.state.partitions()).clone();
        for assign in assigns {
            let partition = assign.partition;
            let shard = self.shards.index(partition);
            partitions.insert(
                partition,
                PartitionHandle::new(assign.shared.clone(), self.shards.get(shard).clone()),
            );
            by_shard.entry(shard).or_default().push(assign);
        }
        let mut waiting = Vec::new();
        for (shard, partitions) in by_shard {
            let (done, finished) = oneshot::channel();
            self.shards.get(shard).send_patiently(Command::Assign { partitions, done }).await;
            waiting.push(finished);
        }
        wait_all(waiting).await;
        // Followers may subscribe from here on; clients see the partitions with the image.
        self.state.partitions.store(Arc::new(partitions));
    }

    fn publish(&self, delta: &Delta) {
        let image = &self.image;
        let everything =
            delta.configs().iter().any(|target| !matches!(target, vltava_metadata::ConfigTarget::Topic(_)));
        let mut resolved = (*self.state.configs.load_full()).clone();
        let mut resolve = |id: TopicId| match image.topic(id) {
            Some(topic) => {
                resolved.insert(id, Arc::new(configs::resolve(image, &self.state.options, topic)));
            }
            None => {
                resolved.remove(&id);
            }
        };
        if everything {
            image.topics().for_each(|topic| resolve(topic.id));
        }
        delta.topics().keys().copied().for_each(&mut resolve);
        for target in delta.configs() {
            if let vltava_metadata::ConfigTarget::Topic(name) = target
                && let Some(topic) = image.topic_named(name)
            {
                resolve(topic.id);
            }
        }
        self.state.configs.store(Arc::new(resolved));
        self.state.image.store(Arc::new(image.clone()));
        self.state.published.send_replace(image.offset());
    }
}

/// Waits for shards; one that is gone has nothing left to do.
async fn wait_all(waiting: Vec<oneshot::Receiver<()>>) {
    for finished in waiting {
        let _ = finished.await;
    }
}
