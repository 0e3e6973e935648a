//! Small constructors of records, so that nobody spells out oneofs and byte fields.

use vltava_model::{BrokerEpoch, ClusterId, NodeId, ProducerId, TopicId, TopicPartition};
use vltava_proto::v1::{
    BrokerRemovedRecord, ClusterRecord, ConfigRecord, FeatureRecord, MetadataRecord, ProducerIdsRecord,
    TopicRecord, TopicRemovedRecord, metadata_record::Record,
};

use crate::image::{BrokerImage, ConfigTarget, PartitionImage};

fn wrap(record: Record) -> MetadataRecord {
    MetadataRecord { record: Some(record) }
}

/// The cluster's identity.
pub fn cluster(id: ClusterId) -> MetadataRecord {
    wrap(Record::Cluster(ClusterRecord { cluster_id: id.to_bytes().to_vec().into() }))
}

/// A feature's level; 0 switches it off.
pub fn feature(name: &str, level: u32) -> MetadataRecord {
    wrap(Record::Feature(FeatureRecord { name: name.into(), level }))
}

/// A broker's state, whole.
pub fn broker(broker: &BrokerImage) -> MetadataRecord {
    wrap(Record::Broker(broker.to_record()))
}

/// A broker is forgotten.
pub fn broker_removed(node: NodeId, epoch: BrokerEpoch) -> MetadataRecord {
    wrap(Record::BrokerRemoved(BrokerRemovedRecord { node_id: node.get(), broker_epoch: epoch.get() }))
}

/// A topic exists.
pub fn topic(id: TopicId, name: &str) -> MetadataRecord {
    wrap(Record::Topic(TopicRecord { topic_id: id.to_bytes().to_vec().into(), name: name.into() }))
}

/// A topic exists no more.
pub fn topic_removed(id: TopicId) -> MetadataRecord {
    wrap(Record::TopicRemoved(TopicRemovedRecord { topic_id: id.to_bytes().to_vec().into() }))
}

/// A partition's state, whole.
pub fn partition(of: TopicPartition, image: &PartitionImage) -> MetadataRecord {
    wrap(Record::Partition(image.to_record(of)))
}

/// A configuration value; `None` clears it.
pub fn config(target: &ConfigTarget, name: &str, value: Option<&str>) -> MetadataRecord {
    let (resource, resource_name) = target.to_proto();
    wrap(Record::Config(ConfigRecord {
        resource: resource.into(),
        resource_name,
        name: name.into(),
        value: value.map(str::to_owned),
    }))
}

/// Producer ids below `next` were given out, the last ones to this broker.
pub fn producer_ids(node: NodeId, epoch: BrokerEpoch, next: ProducerId) -> MetadataRecord {
    wrap(Record::ProducerIds(ProducerIdsRecord {
        node_id: node.get(),
        broker_epoch: epoch.get(),
        next_producer_id: next.get(),
    }))
}
