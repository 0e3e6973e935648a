//! What brokers and the controller ask of an image: by name, by id, by broker. Adds no state of its own.

use std::sync::Arc;

use vltava_model::configs::{ClusterConfig, ConfigError, Layer, TopicConfig};
use vltava_model::{BrokerEpoch, ClusterId, NodeId, ProducerId, TopicId, TopicPartition};

use crate::image::{
    BrokerImage, BrokerState, ConfigTarget, ConfigsImage, FeaturesImage, Image, PartitionImage, TopicImage,
};

impl Image {
    /// The cluster's id; `None` before the first record.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.cluster.id()
    }

    /// Features that are on.
    pub fn features(&self) -> &FeaturesImage {
        &self.features
    }

    /// Configuration values that were set.
    pub fn configs(&self) -> &ConfigsImage {
        &self.configs
    }

    /// The first producer id that nobody was given.
    pub fn next_producer_id(&self) -> ProducerId {
        self.producer_ids.next()
    }

    /// A registered broker.
    pub fn broker(&self, node: NodeId) -> Option<&Arc<BrokerImage>> {
        self.brokers.get(node)
    }

    /// All registered brokers, by number.
    pub fn brokers(&self) -> impl Iterator<Item = &Arc<BrokerImage>> {
        self.brokers.iter()
    }

    /// Brokers that may lead, by number.
    pub fn active_brokers(&self) -> impl Iterator<Item = &Arc<BrokerImage>> {
        self.brokers.iter().filter(|broker| broker.state == BrokerState::Active)
    }

    /// Brokers that answer clients: all that are not fenced.
    pub fn live_brokers(&self) -> impl Iterator<Item = &Arc<BrokerImage>> {
        self.brokers.iter().filter(|broker| broker.state != BrokerState::Fenced)
    }

    /// Whether a broker is registered under this very epoch.
    pub fn is_current(&self, node: NodeId, epoch: BrokerEpoch) -> bool {
        self.brokers.get(node).is_some_and(|broker| broker.broker_epoch == epoch)
    }

    /// A topic by its id.
    pub fn topic(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.topics.get(id)
    }

    /// A topic by its name.
    pub fn topic_named(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.get(self.topics.id_of(name)?)
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.topics.iter_by_name()
    }

    /// How many topics there are.
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// How many partitions there are.
    pub fn partition_count(&self) -> usize {
        self.topics.partition_count()
    }

    /// A partition.
    pub fn partition(&self, of: TopicPartition) -> Option<&Arc<PartitionImage>> {
        self.topics.get(of.topic)?.partition(of.partition)
    }

    /// All partitions of all topics, by topic id and number.
    pub fn partitions(&self) -> impl Iterator<Item = (TopicPartition, &Arc<PartitionImage>)> {
        self.topics.iter().flat_map(|topic| {
            topic.partitions().map(|(index, partition)| (topic.name_partition(index), partition))
        })
    }

    /// Partitions with a replica on a broker.
    pub fn partitions_on(&self, node: NodeId) -> impl Iterator<Item = TopicPartition> {
        self.topics.index().held_by(node)
    }

    /// Partitions that a broker leads.
    pub fn partitions_led_by(&self, node: NodeId) -> impl Iterator<Item = TopicPartition> {
        self.topics.index().led_by(node)
    }

    /// How many replicas a broker holds.
    pub fn replica_count(&self, node: NodeId) -> usize {
        self.topics.index().held_count(node)
    }

    /// How many partitions a broker leads.
    pub fn leader_count(&self, node: NodeId) -> usize {
        self.topics.index().led_count(node)
    }

    /// Partitions that have a leader, but not the preferred one.
    pub fn displaced_partitions(&self) -> impl Iterator<Item = TopicPartition> {
        self.topics.index().displaced()
    }

    /// Partitions without a leader.
    pub fn leaderless_partitions(&self) -> impl Iterator<Item = TopicPartition> {
        self.topics.index().leaderless()
    }

    /// Partitions with fewer in-sync replicas than replicas. Looks at every partition: for figures, not for decisions.
    pub fn under_replicated_partitions(&self) -> impl Iterator<Item = TopicPartition> {
        let lacking = |it: &(TopicPartition, &Arc<PartitionImage>)| it.1.isr.len() < it.1.replicas.len();
        self.partitions().filter(lacking).map(|(of, _)| of)
    }

    /// Topics whose partitions were written, but not their own record: left behind by a controller that died.
    pub fn unfinished_topics(&self) -> impl Iterator<Item = TopicId> {
        self.topics.unfinished().map(|(id, _)| id)
    }

    /// What holds for a topic: values set on the topic, then on one broker, then on the cluster, then in the config file.
    /// The topic need not exist. The controller asks without a broker: what it reads cannot be set on a single one.
    ///
    /// # Errors
    /// When a value was recorded that this version does not understand.
    pub fn topic_config<'a>(
        &'a self,
        topic: &str,
        node: Option<NodeId>,
        file: Layer<'_, 'a>,
    ) -> Result<TopicConfig, ConfigError> {
        let target = ConfigTarget::Topic(topic.into());
        let own = |name: &str| self.configs.value(&target, name);
        let of_node = |name: &str| self.configs.value(&ConfigTarget::Broker(node?), name);
        let of_cluster = |name: &str| self.configs.value(&ConfigTarget::Cluster, name);
        TopicConfig::resolve(&own, &[&of_node, &of_cluster, &|name| file(name)])
    }

    /// What holds for the cluster: values set on it, then in the config file.
    ///
    /// # Errors
    /// When a value was recorded that this version does not understand.
    pub fn cluster_config<'a>(&'a self, file: Layer<'_, 'a>) -> Result<ClusterConfig, ConfigError> {
        let of_cluster = |name: &str| self.configs.value(&ConfigTarget::Cluster, name);
        ClusterConfig::resolve(&[&of_cluster, &|name| file(name)])
    }
}
