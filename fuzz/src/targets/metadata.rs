//! The cluster's metadata: entries of its log and snapshots, as records that may contradict each other.
//!
//! Input: a byte (even: a snapshot; odd: entries one after the other, each behind its length in two bytes), then those.

use bytes::Bytes;
use prost::Message;
use vltava_metadata::{ConfigTarget, Image, record};
use vltava_model::{ClusterId, DirectoryId, MetadataOffset, NodeId, TopicId};
use vltava_proto::v1::metadata_record::Record;
use vltava_proto::v1::{
    BrokerRecord, BrokerState, Endpoint, MetadataEntry, MetadataRecord, MetadataSnapshot, PartitionRecord,
    ProducerIdsRecord,
};

use crate::damage::Script;

pub(super) fn run(input: &[u8]) {
    let Some((&how, bytes)) = input.split_first() else { return };
    if how % 2 == 0 {
        let Ok(snapshot) = MetadataSnapshot::decode(bytes) else { return };
        if let Ok(image) = Image::from_snapshot(&snapshot) {
            look_at(&image);
        }
        return;
    }
    let mut image = Image::empty();
    let mut script = Script::new(bytes);
    while !script.is_over() {
        let length = script.short();
        let Ok(entry) = MetadataEntry::decode(script.bytes(length)) else { continue };
        let before = image.clone();
        match image.apply(MetadataOffset::new(entry.base_offset), &entry.records) {
            Err(_) => assert!(image.to_snapshot() == before.to_snapshot(), "what is refused changes nothing"),
            Ok(delta) => {
                for node in 0..4 {
                    let _ = delta.local_changes(NodeId::new(node));
                }
            }
        }
    }
    look_at(&image);
}

/// An image and its snapshot are the same, and its indexes say what its partitions say.
fn look_at(image: &Image) {
    let snapshot = image.to_snapshot();
    let bytes = snapshot.encode_to_vec();
    let decoded = MetadataSnapshot::decode(&bytes[..]).expect("what was encoded can be decoded");
    let again = Image::from_snapshot(&decoded).expect("an image's snapshot is consistent");
    assert!(again.to_snapshot().encode_to_vec() == bytes, "and gives the same image");
    assert_eq!(image.partitions().count(), image.partition_count());
    for node in 0..4 {
        let node = NodeId::new(node);
        let held = image.partitions().filter(|(_, partition)| partition.has_replica(node)).count();
        assert_eq!(held, image.replica_count(node));
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let records = good_records();
    let all = MetadataSnapshot { offset: 30, records: records.clone() };
    if let Err(error) = Image::from_snapshot(&all) {
        panic!("the records of the seeds are good: {error}");
    }
    let snapshot = all.encode_to_vec();
    let mut entries = vec![1];
    let mut base = 0;
    for chunk in records.chunks(3) {
        let entry = MetadataEntry { base_offset: base, records: chunk.to_vec() }.encode_to_vec();
        base += chunk.len() as u64;
        entries.extend(u16::try_from(entry.len()).expect("entries are small").to_be_bytes());
        entries.extend(entry);
    }
    let mut seeds = vec![[&[0][..], &snapshot].concat(), entries];
    seeds.extend(records.iter().map(|record| {
        let snapshot = MetadataSnapshot { offset: 1, records: vec![record.clone()] };
        [&[0][..], &snapshot.encode_to_vec()].concat()
    }));
    seeds
}

/// Records that build a small cluster.
fn good_records() -> Vec<MetadataRecord> {
    let directory = |node: u32| Bytes::copy_from_slice(&DirectoryId::new(u128::from(node)).to_bytes());
    let broker = |node: u32| {
        Record::Broker(BrokerRecord {
            node_id: node,
            broker_epoch: u64::from(node) + 3,
            incarnation_id: directory(9),
            endpoints: vec![Endpoint { listener: "GRPC".to_owned(), host: "host".to_owned(), port: 7092 }],
            rack: None,
            directories: vec![directory(node)],
            state: BrokerState::Active.into(),
        })
    };
    let topic = TopicId::new(7);
    let partition = |index: u32| {
        Record::Partition(PartitionRecord {
            topic_id: Bytes::copy_from_slice(&topic.to_bytes()),
            partition: index,
            replicas: vec![1, 2],
            isr: vec![1, 2],
            leader: Some(1),
            leader_epoch: 1,
            partition_epoch: 1,
            directories: vec![directory(1), directory(2)],
            ..PartitionRecord::default()
        })
    };
    let producers =
        Record::ProducerIds(ProducerIdsRecord { node_id: 1, broker_epoch: 4, next_producer_id: 1000 });
    let own = |record| MetadataRecord { record: Some(record) };
    vec![
        record::cluster(ClusterId::new(3)),
        record::feature("metadata.version", 1),
        own(broker(1)),
        own(broker(2)),
        own(partition(0)),
        own(partition(1)),
        record::topic(topic, "orders"),
        record::config(&ConfigTarget::Topic("orders".into()), "retention.ms", Some("1h")),
        own(producers),
        record::topic_removed(topic),
    ]
}
