//! What the parts of a broker share: who it is, the metadata image, its partitions, and the way to the controller.
//!
//! The image is written by the reconciler alone, partitions by it too; everything else reads snapshots.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use tokio::sync::watch;
use vltava_metadata::Image;
use vltava_model::configs::TopicConfig;
use vltava_model::{
    BrokerEpoch, ClusterId, DirectoryId, ErrorCode, IncarnationId, MetadataOffset, NodeId, PartitionIndex,
    TopicId, TopicPartition,
};
use vltava_proto::status;
use vltava_proto::v1::ErrorDetail;

use crate::api::producer_ids::ProducerIds;
use crate::damages::Damages;
use crate::directories::Directories;
use crate::metrics::BrokerMetrics;
use crate::options::BrokerOptions;
use crate::quorum::link::ControllerLink;
use crate::replication::follower::Followers;
use crate::shard::handle::PartitionHandle;
use crate::standstill::ShardCalls;

/// The name of the listener that clients and peers use.
pub const GRPC: &str = "GRPC";

/// All partitions that this broker holds.
pub type Partitions = imbl::OrdMap<TopicPartition, PartitionHandle>;

/// Resolved configs of all topics.
pub type Configs = imbl::OrdMap<TopicId, Arc<TopicConfig>>;

/// See the module.
pub struct BrokerState {
    /// `node.id`.
    pub node_id: NodeId,
    /// This process.
    pub incarnation: IncarnationId,
    /// What it was started with.
    pub options: BrokerOptions,
    /// The registration under which all directories were closed cleanly, if they were.
    pub clean_epoch: Option<BrokerEpoch>,
    /// The way to the active controller.
    pub link: ControllerLink,
    /// The streams on which it follows.
    pub followers: Followers,
    /// Producer ids to give out.
    pub producer_ids: ProducerIds,
    /// What it counts.
    pub metrics: BrokerMetrics,
    /// Its damaged replicas.
    pub damages: Damages,
    /// The disk calls that its shards are at.
    pub shard_calls: ShardCalls,
    /// Its log directories.
    pub directories: Arc<Directories>,
    pub(crate) known_cluster: OnceLock<ClusterId>,
    pub(crate) epoch: AtomicU64,
    pub(crate) fed: AtomicU64,
    pub(crate) active: watch::Sender<bool>,
    pub(crate) image: ArcSwap<Image>,
    pub(crate) published: watch::Sender<MetadataOffset>,
    pub(crate) partitions: ArcSwap<Partitions>,
    pub(crate) configs: ArcSwap<Configs>,
}

impl BrokerState {
    /// The cluster. Known since the first registration, before which no request is served.
    pub fn cluster_id(&self) -> ClusterId {
        self.known_cluster.get().copied().unwrap_or_default()
    }

    /// The cluster, if this broker has ever belonged to one.
    pub fn known_cluster_id(&self) -> Option<ClusterId> {
        self.known_cluster.get().copied()
    }

    /// The current registration.
    pub fn broker_epoch(&self) -> BrokerEpoch {
        BrokerEpoch::new(self.epoch.load(Ordering::Acquire))
    }

    /// Takes note of a registration and makes the cluster id durable in every directory.
    ///
    /// # Errors
    /// When the controller belongs to another cluster, or the identity can't be written: in words.
    pub async fn registered(&self, cluster: ClusterId, epoch: BrokerEpoch) -> Result<(), String> {
        let known = *self.known_cluster.get_or_init(|| cluster);
        if known != cluster {
            return Err(format!(
                "the log directories belong to cluster {known}, the controller to cluster {cluster}: check \
                 controller.quorum.voters and log.dirs"
            ));
        }
        self.directories.adopt(cluster).await?;
        self.epoch.store(epoch.get(), Ordering::Release);
        Ok(())
    }

    /// The metadata that requests see.
    pub fn image(&self) -> Arc<Image> {
        self.image.load_full()
    }

    /// How many metadata records were received.
    pub fn fed_offset(&self) -> MetadataOffset {
        MetadataOffset::new(self.fed.load(Ordering::Acquire))
    }

    /// Takes note of what was received.
    pub fn fed(&self, offset: MetadataOffset) {
        self.fed.store(offset.get(), Ordering::Release);
    }

    /// Watches how far the visible metadata has come.
    pub fn metadata_published(&self) -> watch::Receiver<MetadataOffset> {
        self.published.subscribe()
    }

    /// Waits until requests see at least `offset` records.
    pub async fn wait_for_metadata(&self, offset: MetadataOffset) {
        // The sender lives as long as this state, so waiting can't fail.
        let _ = self.published.subscribe().wait_for(|published| *published >= offset).await;
    }

    /// Whether the controller lets this broker lead and follow.
    pub fn is_active(&self) -> bool {
        *self.active.borrow()
    }

    /// Takes note of what the controller says.
    pub fn set_active(&self, active: bool) {
        self.active.send_if_modified(|now| std::mem::replace(now, active) != active);
    }

    /// Watches whether the controller lets this broker lead and follow.
    pub fn activity(&self) -> watch::Receiver<bool> {
        self.active.subscribe()
    }

    /// A partition held here.
    pub fn partition(&self, partition: TopicPartition) -> Option<PartitionHandle> {
        self.partitions.load().get(&partition).cloned()
    }

    /// All partitions held here.
    pub fn partitions(&self) -> Arc<Partitions> {
        self.partitions.load_full()
    }

    /// A topic's config; the built-in one for a topic that has just gone.
    pub fn topic_config(&self, topic: TopicId) -> Arc<TopicConfig> {
        self.configs.load().get(&topic).cloned().unwrap_or_default()
    }

    /// `HOST:PORT` of a broker's gRPC listener.
    pub fn broker_address(&self, node: NodeId) -> Option<String> {
        let image = self.image.load();
        let endpoint = image.broker(node)?.endpoint(GRPC)?;
        Some(format!("{}:{}", endpoint.host, endpoint.port))
    }

    /// Directories that work.
    pub fn working_directories(&self) -> Vec<DirectoryId> {
        self.directories.working()
    }

    /// Directories that failed since the start.
    pub fn failed_directories(&self) -> Vec<DirectoryId> {
        self.directories.failed()
    }

    /// Finds the partition that a request names by topic id, name or both. An id is never taken for another topic of the name.
    ///
    /// # Errors
    /// The detail for the client when it is unknown or held elsewhere.
    pub fn resolve(
        &self,
        topic_id: &[u8],
        name: &str,
        partition: u32,
    ) -> Result<PartitionHandle, ErrorDetail> {
        let image = self.image.load();
        let topic = if topic_id.is_empty() {
            image.topic_named(name).ok_or_else(|| {
                let message = format!("no topic is named '{name}': see `vltava topics list`");
                status::detail(ErrorCode::UnknownTopicOrPartition, message)
            })?
        } else {
            let id = TopicId::from_slice(topic_id)
                .ok_or_else(|| status::detail(ErrorCode::InvalidRequest, "a topic id has 16 bytes"))?;
            let topic = image
                .topic(id)
                .ok_or_else(|| status::detail(ErrorCode::UnknownTopicId, format!("no topic has id {id}")))?;
            if !name.is_empty() && *topic.name != *name {
                let message = format!("the topic with id {id} is named '{}', not '{name}'", topic.name);
                return Err(status::detail(ErrorCode::InconsistentTopicId, message));
            }
            topic
        };
        let key = TopicPartition::new(topic.id, PartitionIndex::new(partition));
        if let Some(handle) = self.partition(key) {
            return Ok(handle);
        }
        if image.partition(key).is_some() {
            return Err(self.explain(key, ErrorCode::NotLeaderOrFollower));
        }
        let message = format!("topic '{}' has no partition {partition}", topic.name);
        Err(status::detail(ErrorCode::UnknownTopicOrPartition, message))
    }

    /// An error about a partition in words, with the leader where that helps.
    pub fn explain(&self, partition: TopicPartition, code: ErrorCode) -> ErrorDetail {
        let image = self.image.load();
        let leader = image.partition(partition).and_then(|partition| partition.leader);
        let name =
            image.topic(partition.topic).map_or_else(|| partition.topic.to_string(), |t| t.name.to_string());
        let what = format!("{name}-{}", partition.partition);
        let message = match code {
            ErrorCode::NotLeaderOrFollower => match leader {
                Some(leader) => format!("{what} is led by node {leader}, not by node {}", self.node_id),
                None => format!("{what} has no leader now"),
            },
            ErrorCode::NotEnoughReplicas => {
                format!("{what} has fewer in-sync replicas than min.insync.replicas: nothing was written")
            }
            ErrorCode::NotEnoughReplicasAfterAppend => {
                format!(
                    "{what} lost in-sync replicas while the batch was replicated: it may or may not survive"
                )
            }
            ErrorCode::RequestTimedOut => {
                format!("{what} was not replicated in time: the batch may or may not survive")
            }
            ErrorCode::KafkaStorageError if let Some(damage) = self.damages.what(partition) => {
                format!("{what} is damaged on node {} and not served there: {damage}", self.node_id)
            }
            ErrorCode::KafkaStorageError => {
                format!(
                    "node {} cannot use {what} now: its disk failed or is full, or no more files can be opened",
                    self.node_id
                )
            }
            ErrorCode::OutOfOrderSequenceNumber => format!("{what}: the batch's sequence leaves a gap"),
            ErrorCode::InvalidProducerEpoch => format!("{what}: a newer incarnation of this producer exists"),
            _ => what,
        };
        ErrorDetail { leader_id: leader.map(NodeId::get), ..status::detail(code, message) }
    }
}
