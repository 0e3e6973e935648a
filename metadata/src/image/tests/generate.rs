//! Random records that are legal for the image that they are made for.

use vltava_model::{
    BrokerEpoch, ClusterId, DirectoryId, IncarnationId, LeaderEpoch, NodeId, PartitionEpoch, PartitionIndex,
    ProducerId, TopicId, TopicPartition,
};
use vltava_proto::v1::MetadataRecord;

use crate::image::{
    BrokerImage, BrokerState, ConfigTarget, DamagedReplica, Image, LeaderRecovery, PartitionImage,
};
use crate::record;

/// A small deterministic source of numbers.
#[derive(Clone)]
pub(super) struct Source(pub(super) u64);

impl Source {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound.max(1)
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let at = self.below(from.len() as u64) as usize;
        from.get(at).cloned()
    }

    fn subset(&mut self, of: &[NodeId]) -> Vec<NodeId> {
        of.iter().copied().filter(|_| self.below(2) == 0).collect()
    }
}

pub(super) const NODES: u64 = 5;

/// One record, or a few that belong together.
pub(super) fn records(image: &Image, source: &mut Source) -> Vec<MetadataRecord> {
    if image.cluster_id().is_none() {
        return vec![record::cluster(ClusterId::new(9)), record::feature("metadata.version", 1)];
    }
    match source.below(12) {
        0 => vec![broker(image, source)],
        1 => broker_removed(image, source),
        2 => new_topic(image, source),
        3 => unfinished_part(image, source),
        4 => topic_removed(image, source),
        5 => config(image, source),
        6 => vec![record::producer_ids(
            NodeId::new(1),
            BrokerEpoch::new(1),
            ProducerId::new(image.next_producer_id().get() + 1 + source.below(1000)),
        )],
        7 => vec![record::feature(["a", "b"][source.below(2) as usize], source.below(3) as u32)],
        8 => more_partitions(image, source),
        _ => partition_change(image, source),
    }
}

fn broker(image: &Image, source: &mut Source) -> MetadataRecord {
    let node_id = NodeId::new(source.below(NODES) as u32);
    let states = [BrokerState::Fenced, BrokerState::Active, BrokerState::ShuttingDown];
    let state = states[source.below(3) as usize];
    match image.broker(node_id) {
        Some(known) if source.below(3) > 0 => record::broker(&BrokerImage { state, ..(**known).clone() }),
        _ => record::broker(&BrokerImage {
            node_id,
            broker_epoch: BrokerEpoch::new(image.offset().get()),
            incarnation: IncarnationId::new(image.offset().get().into()),
            endpoints: Vec::new(),
            rack: (source.below(2) == 0).then(|| "r".into()),
            directories: vec![DirectoryId::new(1 + u128::from(source.below(9)))],
            state,
        }),
    }
}

fn broker_removed(image: &Image, source: &mut Source) -> Vec<MetadataRecord> {
    let brokers: Vec<_> = image.brokers().map(|it| (it.node_id, it.broker_epoch)).collect();
    source.pick(&brokers).map(|(node, epoch)| record::broker_removed(node, epoch)).into_iter().collect()
}

fn first_partition(source: &mut Source) -> PartitionImage {
    let start = source.below(NODES) as u32;
    let replicas: Vec<_> =
        (0..1 + source.below(3) as u32).map(|i| NodeId::new((start + i) % NODES as u32)).collect();
    PartitionImage {
        isr: replicas.clone(),
        leader: replicas.first().copied(),
        directories: replicas
            .iter()
            .map(|_| Some(source.below(4)).filter(|id| *id > 0).map(|id| DirectoryId::new(id.into())))
            .collect(),
        replicas,
        ..PartitionImage::default()
    }
}

fn new_topic(image: &Image, source: &mut Source) -> Vec<MetadataRecord> {
    let unfinished: Vec<_> = image.unfinished_topics().collect();
    let id = match source.pick(&unfinished) {
        Some(id) if source.below(2) == 0 => id,
        _ => TopicId::new(1 + u128::from(image.offset().get())),
    };
    let name = format!("topic-{}", source.below(6));
    if image.topic_named(&name).is_some() || image.topic(id).is_some() {
        return Vec::new();
    }
    let mut records = Vec::new();
    if !unfinished.contains(&id) {
        for index in 0..source.below(4) as u32 {
            let of = TopicPartition::new(id, PartitionIndex::new(index));
            records.push(record::partition(of, &first_partition(source)));
        }
    }
    records.push(record::topic(id, &name));
    records
}

fn unfinished_part(image: &Image, source: &mut Source) -> Vec<MetadataRecord> {
    let unfinished: Vec<_> =
        image.topics.unfinished().map(|(id, it)| (id, it.partitions().count())).collect();
    let (id, count) = match source.pick(&unfinished) {
        Some(known) if source.below(2) == 0 => known,
        _ => (TopicId::new(1 + u128::from(image.offset().get())), 0),
    };
    let of = TopicPartition::new(id, PartitionIndex::new(count as u32));
    vec![record::partition(of, &first_partition(source))]
}

fn topic_removed(image: &Image, source: &mut Source) -> Vec<MetadataRecord> {
    let ids: Vec<_> = image.topics().map(|topic| topic.id).chain(image.unfinished_topics()).collect();
    source.pick(&ids).map(record::topic_removed).into_iter().collect()
}

fn more_partitions(image: &Image, source: &mut Source) -> Vec<MetadataRecord> {
    let topics: Vec<_> = image.topics().cloned().collect();
    let Some(topic) = source.pick(&topics) else { return Vec::new() };
    let of = topic.name_partition(PartitionIndex::new(topic.partition_count()));
    vec![record::partition(of, &first_partition(source))]
}

fn config(image: &Image, source: &mut Source) -> Vec<MetadataRecord> {
    let topics: Vec<_> = image.topics().map(|topic| topic.name.clone()).collect();
    let target = match source.below(3) {
        0 => ConfigTarget::Cluster,
        1 => ConfigTarget::Broker(NodeId::new(source.below(NODES) as u32)),
        _ => match source.pick(&topics) {
            Some(name) => ConfigTarget::Topic(name),
            None => return Vec::new(),
        },
    };
    let name = ["retention.ms", "flush.ms"][source.below(2) as usize];
    let value = (source.below(3) > 0).then(|| source.below(3).to_string());
    vec![record::config(&target, name, value.as_deref())]
}

fn partition_change(image: &Image, source: &mut Source) -> Vec<MetadataRecord> {
    let partitions: Vec<_> = image.partitions().map(|(of, it)| (of, it.clone())).collect();
    let Some((of, before)) = source.pick(&partitions) else { return Vec::new() };
    let mut after = (*before).clone();
    if source.below(4) == 0 {
        let image = first_partition(source);
        (after.replicas, after.directories) = (image.replicas, image.directories);
    }
    after.isr = source.subset(&after.replicas.clone());
    after.elr = source.subset(&after.replicas.clone());
    after.elr.retain(|node| !after.isr.contains(node));
    let outside: Vec<_> = (after.replicas.iter().copied())
        .filter(|node| !after.isr.contains(node) && !after.elr.contains(node))
        .collect();
    after.damaged = (source.subset(&outside).into_iter())
        .map(|node| DamagedReplica {
            node,
            what: format!("bit {}", source.below(9)).into(),
            was_eligible: source.below(2) == 0,
        })
        .collect();
    after.emptied = source.subset(&outside);
    after.leader = source.pick(&after.isr);
    after.leader_recovery = match source.below(4) {
        0 => LeaderRecovery::Recovering,
        _ => LeaderRecovery::Recovered,
    };
    if after.leader != before.leader || source.below(3) == 0 {
        after.leader_epoch = LeaderEpoch::new(before.leader_epoch.get() + 1);
    }
    after.partition_epoch = PartitionEpoch::new(before.partition_epoch.get() + 1);
    vec![record::partition(of, &after)]
}
