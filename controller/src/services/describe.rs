//! Descriptions from the image alone: a controller knows no offsets of partitions and no broker's config file.

use vltava_metadata::{BrokerImage, ConfigTarget, DamagedReplica, Image, PartitionImage, TopicImage};
use vltava_model::{ErrorCode, NodeId, PartitionIndex};
use vltava_proto::status;
use vltava_proto::v1::{
    BrokerMetadata, ConfigDescription, ConfigEntry, ConfigSource, DescribeClusterResponse,
    DescribeConfigsRequest, DescribeConfigsResponse, DescribeTopicsRequest, DescribeTopicsResponse,
    PartitionDescription, PartitionMetadata, TopicDescription,
};

/// The cluster.
pub(super) fn cluster(image: &Image, controller: Option<NodeId>) -> DescribeClusterResponse {
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    DescribeClusterResponse {
        cluster_id: image.cluster_id().map(|id| id.to_bytes().to_vec().into()).unwrap_or_default(),
        controller_id: controller.map(NodeId::get),
        brokers: image.brokers().map(|broker| self::broker(broker)).collect(),
        features: image.features().iter().map(|(name, level)| (name.to_owned(), level)).collect(),
        metadata_offset: image.offset().get(),
        topic_count: count(image.topic_count()),
        partition_count: count(image.partition_count()),
    }
}

fn broker(broker: &BrokerImage) -> BrokerMetadata {
    BrokerMetadata {
        node_id: broker.node_id.get(),
        endpoints: broker.endpoints.iter().map(vltava_metadata::Endpoint::to_proto).collect(),
        rack: broker.rack.clone(),
        state: broker.state.to_proto().into(),
        broker_epoch: broker.broker_epoch.get(),
    }
}

/// Topics, without the offsets that only brokers know.
pub(super) fn topics(image: &Image, request: &DescribeTopicsRequest) -> DescribeTopicsResponse {
    let topics = if request.names.is_empty() {
        image.topics().map(|it| topic(image, it)).collect()
    } else {
        request.names.iter().map(|name| named(image, name)).collect()
    };
    DescribeTopicsResponse { topics }
}

fn named(image: &Image, name: &str) -> TopicDescription {
    match image.topic_named(name) {
        Some(it) => topic(image, it),
        None => {
            let error =
                status::detail(ErrorCode::UnknownTopicOrPartition, format!("topic {name} does not exist"));
            TopicDescription { name: name.to_owned(), error: Some(error), ..TopicDescription::default() }
        }
    }
}

fn topic(image: &Image, topic: &TopicImage) -> TopicDescription {
    let target = ConfigTarget::Topic(topic.name.clone());
    TopicDescription {
        name: topic.name.to_string(),
        topic_id: topic.id.to_bytes().to_vec().into(),
        replication_factor: topic.replication_factor(),
        configs: image
            .configs()
            .of(&target)
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        partitions: topic.partitions().map(|(index, it)| partition(index, it)).collect(),
        error: None,
    }
}

fn partition(index: PartitionIndex, partition: &PartitionImage) -> PartitionDescription {
    let raw = |nodes: &[NodeId]| nodes.iter().map(|node| node.get()).collect();
    let metadata = PartitionMetadata {
        partition: index.get(),
        leader: partition.leader.map(NodeId::get),
        leader_epoch: partition.leader_epoch.get(),
        replicas: raw(&partition.replicas),
        isr: raw(&partition.isr),
        elr: raw(&partition.elr),
    };
    let damaged_replicas = partition.damaged.iter().map(DamagedReplica::to_proto).collect();
    PartitionDescription { metadata: Some(metadata), damaged_replicas, ..PartitionDescription::default() }
}

/// Values that were set; defaults and config files only brokers know.
pub(super) fn configs(image: &Image, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let describe = |asked: vltava_proto::v1::ConfigTarget| {
        let target = ConfigTarget::from_proto(asked.resource, &asked.name);
        let (entries, error) = match &target {
            Ok(target) => (entries(image, target), None),
            Err(fault) => (Vec::new(), Some(status::detail(ErrorCode::InvalidRequest, fault.to_string()))),
        };
        ConfigDescription { target: Some(asked), entries, error }
    };
    DescribeConfigsResponse { targets: request.targets.into_iter().map(describe).collect() }
}

fn entries(image: &Image, target: &ConfigTarget) -> Vec<ConfigEntry> {
    let source = match target {
        ConfigTarget::Topic(_) => ConfigSource::Topic,
        ConfigTarget::Broker(_) => ConfigSource::Broker,
        ConfigTarget::Cluster => ConfigSource::Cluster,
    };
    let entry = |(name, value): (&str, &str)| ConfigEntry {
        name: name.to_owned(),
        value: value.to_owned(),
        source: source.into(),
        documentation: String::new(),
    };
    image.configs().of(target).map(entry).collect()
}
