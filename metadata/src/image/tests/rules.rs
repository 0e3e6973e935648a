//! What replay refuses, one rule at a time.

use vltava_model::{
    BrokerEpoch, ClusterId, DirectoryId, IncarnationId, LeaderEpoch, MetadataOffset, NodeId, PartitionEpoch,
    PartitionIndex, ProducerId, TopicId, TopicPartition,
};
use vltava_proto::v1::MetadataRecord;

use crate::error::{Fault, ReplayError};
use crate::image::{
    BrokerImage, BrokerState, ConfigTarget, DamagedReplica, Image, LeaderRecovery, PartitionImage,
};
use crate::record;

const TOPIC: TopicId = TopicId::new(7);

fn node(id: u32) -> NodeId {
    NodeId::new(id)
}

fn of(partition: u32) -> TopicPartition {
    TopicPartition::new(TOPIC, PartitionIndex::new(partition))
}

fn nodes(ids: &[u32]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId::new).collect()
}

fn damaged(ids: &[u32]) -> Vec<DamagedReplica> {
    let damaged =
        |id: &u32| DamagedReplica { node: node(*id), what: "a flipped bit".into(), was_eligible: false };
    ids.iter().map(damaged).collect()
}

fn partition() -> PartitionImage {
    PartitionImage {
        replicas: nodes(&[1, 2, 3]),
        isr: nodes(&[1, 2, 3]),
        leader: Some(node(1)),
        directories: vec![None; 3],
        ..PartitionImage::default()
    }
}

fn broker(id: u32, epoch: u64) -> BrokerImage {
    BrokerImage {
        node_id: node(id),
        broker_epoch: BrokerEpoch::new(epoch),
        incarnation: IncarnationId::new(epoch.into()),
        endpoints: Vec::new(),
        rack: None,
        directories: vec![DirectoryId::new(u128::from(id) + 100)],
        state: BrokerState::Active,
    }
}

/// One topic of two partitions, one broker.
fn image() -> Image {
    let mut image = Image::empty();
    let records = [
        record::cluster(ClusterId::new(1)),
        record::broker(&broker(1, 1)),
        record::partition(of(0), &partition()),
        record::partition(of(1), &partition()),
        record::topic(TOPIC, "t"),
    ];
    image.apply(MetadataOffset::ZERO, &records).unwrap();
    image
}

/// The fault of a record; the image must not move.
fn fault(image: &Image, record: MetadataRecord) -> Fault {
    let mut tried = image.clone();
    let result = tried.apply(image.offset(), &[record::feature("x", 1), record]);
    assert_eq!(&tried, image, "a refused entry leaves nothing behind");
    match result {
        Err(ReplayError::Inconsistent { at, reason }) => {
            assert_eq!(at, image.offset().next());
            reason
        }
        other => panic!("{other:?}"),
    }
}

fn changed(change: impl Fn(&mut PartitionImage)) -> MetadataRecord {
    let mut after = partition();
    after.partition_epoch = PartitionEpoch::new(1);
    change(&mut after);
    record::partition(of(0), &after)
}

#[test]
fn records_must_follow() {
    let mut image = image();
    let base = MetadataOffset::new(3);
    let expected = image.offset();
    assert_eq!(image.apply(base, &[]), Err(ReplayError::WrongBase { expected, given: base }));
    let unknown = MetadataRecord { record: None };
    assert_eq!(image.apply(expected, &[unknown]), Err(ReplayError::UnknownRecord { at: expected }));
}

#[test]
fn epochs_of_a_partition_move_by_one() {
    let image = image();
    let what = |record| match fault(&image, record) {
        Fault::Epoch { what, .. } => what,
        other => panic!("{other}"),
    };
    assert_eq!(what(changed(|it| it.partition_epoch = PartitionEpoch::ZERO)), "partition epoch");
    assert_eq!(what(changed(|it| it.partition_epoch = PartitionEpoch::new(2))), "partition epoch");
    assert_eq!(what(changed(|it| it.leader = Some(node(2)))), "leader epoch");
    assert_eq!(what(changed(|it| it.leader = None)), "leader epoch");
    assert_eq!(what(changed(|it| it.leader_epoch = LeaderEpoch::new(2))), "leader epoch");
    let mut image = image;
    let moved = changed(|it| (it.leader, it.leader_epoch) = (Some(node(2)), LeaderEpoch::new(1)));
    image.apply(image.offset(), &[moved]).unwrap();
    assert_eq!(image.partition(of(0)).unwrap().leader, Some(node(2)));
}

#[test]
fn a_partition_must_not_contradict_itself() {
    let image = image();
    let contradictions: [&dyn Fn(&mut PartitionImage); 14] = [
        &|it| it.replicas.clear(),
        &|it| it.replicas = nodes(&[1, 1, 2]),
        &|it| it.isr = nodes(&[1, 4]),
        &|it| it.isr = nodes(&[1, 1]),
        &|it| it.elr = nodes(&[1]),
        &|it| (it.isr, it.elr) = (nodes(&[1]), nodes(&[4])),
        &|it| it.directories = vec![None],
        &|it| it.adding = nodes(&[9]),
        &|it| it.last_known_elr = nodes(&[2, 2]),
        &|it| it.damaged = damaged(&[4]),
        &|it| it.damaged = damaged(&[2]),
        &|it| (it.isr, it.damaged) = (nodes(&[1]), damaged(&[2, 2])),
        &|it| (it.isr, it.elr, it.emptied) = (nodes(&[1]), nodes(&[2]), nodes(&[2])),
        &|it| {
            (it.isr, it.elr, it.leader) = (nodes(&[2]), nodes(&[3]), Some(node(1)));
            it.leader_epoch = LeaderEpoch::new(1);
        },
    ];
    for (i, contradiction) in contradictions.iter().enumerate() {
        assert!(matches!(fault(&image, changed(contradiction)), Fault::Partition { .. }), "{i}");
    }
    let mut image = image;
    let recovering = changed(|it| {
        (it.isr, it.leader_recovery) = (Vec::new(), LeaderRecovery::Recovering);
    });
    image.apply(image.offset(), &[recovering]).unwrap();
}

#[test]
fn partitions_appear_in_order_and_in_their_first_epochs() {
    let image = image();
    assert!(matches!(fault(&image, record::partition(of(3), &partition())), Fault::Missing(_)));
    let later = PartitionImage { partition_epoch: PartitionEpoch::new(1), ..partition() };
    assert!(matches!(fault(&image, record::partition(of(2), &later)), Fault::Missing(_)));
    let gone = TopicPartition::new(TopicId::new(8), PartitionIndex::ZERO);
    assert!(matches!(fault(&image, record::partition(gone, &later)), Fault::Missing(_)));
}

#[test]
fn topics_are_told_apart() {
    let image = image();
    assert!(matches!(fault(&image, record::topic(TOPIC, "other")), Fault::Exists(_)));
    assert!(matches!(fault(&image, record::topic(TopicId::new(8), "t")), Fault::Exists(_)));
    assert!(matches!(fault(&image, record::topic(TopicId::new(8), "")), Fault::Malformed(_)));
    assert!(matches!(fault(&image, record::topic_removed(TopicId::new(8))), Fault::Missing(_)));
    let target = ConfigTarget::Topic("other".into());
    assert!(matches!(fault(&image, record::config(&target, "retention.ms", Some("1"))), Fault::Missing(_)));
}

#[test]
fn a_topic_is_invisible_until_its_record() {
    let mut image = Image::empty();
    let delta = image.apply(image.offset(), &[record::partition(of(0), &partition())]).unwrap();
    assert!(delta.is_empty() && image.partition(of(0)).is_none() && image.partition_count() == 0);
    assert_eq!(image.unfinished_topics().collect::<Vec<_>>(), [TOPIC]);
    let mut given_up = image.clone();
    given_up.apply(given_up.offset(), &[record::topic_removed(TOPIC)]).unwrap();
    assert_eq!(given_up.unfinished_topics().count(), 0);

    image.apply(image.offset(), &[record::partition(of(1), &partition())]).unwrap();
    let delta = image.apply(image.offset(), &[record::topic(TOPIC, "t")]).unwrap();
    assert_eq!(delta.partitions().len(), 2);
    assert_eq!(delta.local_changes(node(1)).leaders.len(), 2);
    assert_eq!(delta.local_changes(node(2)).followers.len(), 2);
    assert!(delta.local_changes(node(4)).is_empty());
    assert_eq!(image.unfinished_topics().count(), 0);
}

#[test]
fn a_recreated_topic_is_another() {
    let mut image = image();
    let again = TopicId::new(8);
    let records = [
        record::topic_removed(TOPIC),
        record::partition(TopicPartition::new(again, PartitionIndex::ZERO), &partition()),
        record::topic(again, "t"),
    ];
    let changes = image.apply(image.offset(), &records).unwrap().local_changes(node(1));
    assert_eq!(changes.deleted.len(), 1);
    assert_eq!((changes.deleted[0].id, changes.deleted[0].partitions.len()), (TOPIC, 2));
    assert_eq!(changes.leaders.len(), 1);
    assert_eq!(changes.leaders[0].partition.topic, again);
    assert!(changes.leaders[0].before.is_none());
}

#[test]
fn configs_go_with_what_they_belong_to() {
    let mut image = image();
    let topic = ConfigTarget::Topic("t".into());
    let of_broker = ConfigTarget::Broker(node(1));
    let set = |target| record::config(target, "retention.ms", Some("5"));
    let records = [set(&topic), set(&of_broker), set(&ConfigTarget::Cluster)];
    let delta = image.apply(image.offset(), &records).unwrap();
    assert_eq!(delta.local_changes(node(2)).reconfigured, [TOPIC]);
    assert_eq!(image.topic_config("t", None, &|_| None).unwrap().retention_ms, Some(5));
    let records = [record::topic_removed(TOPIC), record::broker_removed(node(1), BrokerEpoch::new(1))];
    image.apply(image.offset(), &records).unwrap();
    assert_eq!(image.configs().targets().collect::<Vec<_>>(), [&ConfigTarget::Cluster]);
}

#[test]
fn layers_of_configs_go_from_special_to_common() {
    let mut image = image();
    let file = |name: &str| (name == "log.retention.ms").then_some("1");
    let retention =
        |image: &Image| image.topic_config("t", Some(node(1)), &|name| file(name)).unwrap().retention_ms;
    assert_eq!(retention(&image), Some(1));
    let layers = [
        (ConfigTarget::Cluster, "log.retention.ms", "2"),
        (ConfigTarget::Broker(node(1)), "log.retention.ms", "3"),
        (ConfigTarget::Topic("t".into()), "retention.ms", "4"),
    ];
    for (target, name, value) in layers {
        image.apply(image.offset(), &[record::config(&target, name, Some(value))]).unwrap();
        assert_eq!(retention(&image).map(|ms| ms.to_string()).as_deref(), Some(value));
    }
}

#[test]
fn broker_epochs_do_not_go_back_and_name_one_process() {
    let mut image = image();
    image.apply(image.offset(), &[record::broker(&broker(1, 5))]).unwrap();
    assert!(matches!(fault(&image, record::broker(&broker(1, 4))), Fault::Epoch { .. }));
    let other = BrokerImage { incarnation: IncarnationId::new(99), ..broker(1, 5) };
    assert!(matches!(fault(&image, record::broker(&other)), Fault::Exists(_)));
    let gone = record::broker_removed(node(1), BrokerEpoch::new(4));
    assert!(matches!(fault(&image, gone), Fault::Missing(_)));
}

#[test]
fn identities_are_fixed_and_producer_ids_grow() {
    let mut image = image();
    assert!(matches!(fault(&image, record::cluster(ClusterId::new(2))), Fault::Exists(_)));
    let ids = |next| record::producer_ids(node(1), BrokerEpoch::new(1), ProducerId::new(next));
    image.apply(image.offset(), &[ids(1000)]).unwrap();
    assert!(matches!(fault(&image, ids(1000)), Fault::Epoch { .. }));
    assert!(matches!(fault(&image, ids(10)), Fault::Epoch { .. }));
}

#[test]
fn an_old_snapshot_is_refused() {
    let mut image = image();
    let mut old = image.to_snapshot();
    old.offset -= 1;
    assert!(matches!(image.load_snapshot(&old), Err(ReplayError::SnapshotBehind { .. })));
    let mut twice = image.to_snapshot();
    twice.records.push(twice.records[0].clone());
    let before = image.clone();
    assert!(matches!(image.load_snapshot(&twice), Err(ReplayError::Inconsistent { .. })));
    assert_eq!(image, before);
}
