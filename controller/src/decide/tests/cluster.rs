//! A controller of its own for tests: an image, sessions and a clock that stands still unless told.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use vltava_metadata::{BrokerState, Image, PartitionImage};
use vltava_model::{BrokerEpoch, ClusterId, IncarnationId, NodeId, PartitionIndex, TopicId, TopicPartition};
use vltava_proto::v1::{
    AlterPartition, AlterPartitionsRequest, CreateTopicsRequest, Heartbeat, IsrMember, MetadataRecord,
    NewTopic, RegisterBroker,
};

use crate::decide::heartbeat::Sender;
use crate::decide::register_broker::Registration;
use crate::decide::*;
use crate::liveness::Liveness;

pub(super) const CLUSTER: ClusterId = ClusterId::new(77);

pub(super) struct Cluster {
    pub(super) image: Image,
    pub(super) settings: Settings,
    pub(super) liveness: Liveness,
    pub(super) now: Duration,
    pub(super) seed: Cell<u64>,
}

impl Cluster {
    /// A formed cluster without brokers.
    pub(super) fn new() -> Self {
        let mut cluster = Self {
            image: Image::empty(),
            settings: Settings::default(),
            liveness: Liveness::default(),
            now: Duration::ZERO,
            seed: Cell::new(1),
        };
        let formed = bootstrap::decide(&cluster.view(), CLUSTER).unwrap();
        cluster.take(formed);
        cluster
    }

    /// A cluster of these brokers, all active.
    pub(super) fn of(nodes: &[u32]) -> Self {
        let mut cluster = Self::new();
        for node in nodes {
            cluster.start(*node, 1);
        }
        cluster
    }

    pub(super) fn view(&self) -> View<'_> {
        self.seed.set(self.seed.get() + 1);
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.seed.get().to_le_bytes());
        View { image: &self.image, settings: &self.settings, liveness: &self.liveness, now: self.now, seed }
    }

    /// Applies a decision and gives its response.
    pub(super) fn take<T>(&mut self, decision: Decision<T>) -> T {
        self.apply(&decision.records);
        decision.response
    }

    pub(super) fn apply(&mut self, records: &[MetadataRecord]) {
        self.image.apply(self.image.offset(), records).unwrap();
    }

    /// Registers a process and lets it catch up.
    pub(super) fn start(&mut self, node: u32, incarnation: u32) -> Registration {
        let registered =
            self.take(register_broker::decide(&self.view(), &registration(node, incarnation)).unwrap());
        self.beat(node, Heartbeat { metadata_offset: self.image.offset().get(), ..Heartbeat::default() });
        registered
    }

    pub(super) fn beat(&mut self, node: u32, heartbeat: Heartbeat) -> heartbeat::Outcome {
        let broker_epoch = self.epoch(node);
        let sender = Sender { node: NodeId::new(node), broker_epoch, caught_up_at: self.image.offset() };
        let decision = heartbeat::decide(&self.view(), &sender, &heartbeat).unwrap();
        self.take(decision)
    }

    pub(super) fn fence(&mut self, node: u32) {
        let decision = fence_broker::decide(&self.view(), NodeId::new(node));
        self.take(decision);
    }

    pub(super) fn unfence(&mut self, node: u32) {
        let decision = unfence_broker::decide(&self.view(), NodeId::new(node));
        self.take(decision);
    }

    pub(super) fn epoch(&self, node: u32) -> BrokerEpoch {
        self.image.broker(NodeId::new(node)).unwrap().broker_epoch
    }

    pub(super) fn state(&self, node: u32) -> BrokerState {
        self.image.broker(NodeId::new(node)).unwrap().state
    }

    /// Creates a topic with these assignments and configs.
    pub(super) fn topic(&mut self, name: &str, assignments: &[&[u32]], configs: &[(&str, &str)]) -> TopicId {
        let request =
            CreateTopicsRequest { topics: vec![new_topic(name, assignments, configs)], validate_only: false };
        let response = self.take(create_topics::decide(&self.view(), &request).unwrap());
        assert_eq!(response.topics[0].error, None);
        TopicId::from_slice(&response.topics[0].topic_id).unwrap()
    }

    pub(super) fn partition(&self, topic: TopicId, index: u32) -> Arc<PartitionImage> {
        self.image.partition(TopicPartition::new(topic, PartitionIndex::new(index))).unwrap().clone()
    }

    /// What a partition is about: leader, ISR, ELR, leader epoch.
    pub(super) fn gist(&self, topic: TopicId) -> (Option<u32>, Vec<u32>, Vec<u32>, u32) {
        let image = self.partition(topic, 0);
        (image.leader.map(NodeId::get), raw(&image.isr), raw(&image.elr), image.leader_epoch.get())
    }

    /// A request of a partition's leader for another ISR, right in everything.
    pub(super) fn alter(&self, leader: u32, topic: TopicId, isr: &[u32]) -> AlterPartitionsRequest {
        let image = self.partition(topic, 0);
        let member = |node: &u32| IsrMember {
            broker_id: *node,
            broker_epoch: self.image.broker(NodeId::new(*node)).map_or(0, |broker| broker.broker_epoch.get()),
        };
        AlterPartitionsRequest {
            broker_id: leader,
            broker_epoch: self.epoch(leader).get(),
            partitions: vec![AlterPartition {
                topic_id: topic.to_bytes().to_vec().into(),
                partition: 0,
                leader_epoch: image.leader_epoch.get(),
                partition_epoch: image.partition_epoch.get(),
                new_isr: isr.iter().map(member).collect(),
                leader_recovery: 0,
            }],
        }
    }

    /// Changes an ISR, which must succeed.
    pub(super) fn set_isr(&mut self, leader: u32, topic: TopicId, isr: &[u32]) {
        let decision = alter_partitions::decide(&self.view(), &self.alter(leader, topic, isr)).unwrap();
        let response = self.take(decision);
        assert_eq!(response.partitions[0].error, None);
    }
}

pub(super) fn raw(nodes: &[NodeId]) -> Vec<u32> {
    nodes.iter().map(|node| node.get()).collect()
}

/// The registration of a process with one directory that is the node's own.
pub(super) fn registration(node: u32, incarnation: u32) -> RegisterBroker {
    RegisterBroker {
        cluster_id: CLUSTER.to_bytes().to_vec().into(),
        node_id: node,
        incarnation_id: incarnation_of(node, incarnation).to_bytes().to_vec().into(),
        directories: vec![directory(node, 0)],
        features: [(bootstrap::METADATA_VERSION.to_owned(), 1)].into(),
        ..RegisterBroker::default()
    }
}

pub(super) fn incarnation_of(node: u32, incarnation: u32) -> IncarnationId {
    IncarnationId::new((u128::from(node) << 64) + u128::from(incarnation))
}

pub(super) fn directory(node: u32, number: u32) -> bytes::Bytes {
    let id = (u128::from(node) << 64) + u128::from(number) + 1;
    id.to_be_bytes().to_vec().into()
}

pub(super) fn new_topic(name: &str, assignments: &[&[u32]], configs: &[(&str, &str)]) -> NewTopic {
    use vltava_proto::v1::ReplicaAssignment;
    NewTopic {
        name: name.into(),
        configs: configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        assignments: assignments
            .iter()
            .map(|brokers| ReplicaAssignment { brokers: brokers.to_vec() })
            .collect(),
        ..NewTopic::default()
    }
}

/// The name of a detail's error.
pub(super) fn error_of(detail: &Option<vltava_proto::v1::ErrorDetail>) -> &str {
    detail.as_ref().map_or("NONE", |detail| &detail.name)
}
