//! What things cost with 200,000 partitions. Run by hand, in release:
//! `cargo test -p vltava-metadata --release -- --ignored --nocapture scale`.

#![allow(clippy::disallowed_methods)] // It measures time: nothing here is part of the crate.

use std::time::{Duration, Instant};

use prost::Message;
use vltava_model::{LeaderEpoch, NodeId, PartitionIndex, TopicId, TopicPartition};

use crate::image::{Image, PartitionImage};
use crate::record;

const TOPICS: u32 = 2_000;
const PARTITIONS: u32 = 100;
const NODES: u32 = 12;

fn partition(start: u32) -> PartitionImage {
    let replicas: Vec<_> = (0..3).map(|i| NodeId::new((start + i) % NODES)).collect();
    PartitionImage {
        isr: replicas.clone(),
        leader: replicas.first().copied(),
        directories: vec![None; 3],
        replicas,
        ..PartitionImage::default()
    }
}

fn large() -> Image {
    let mut image = Image::empty();
    for topic in 0..TOPICS {
        let id = TopicId::new(u128::from(topic).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
        let mut records: Vec<_> = (0..PARTITIONS)
            .map(|index| TopicPartition::new(id, PartitionIndex::new(index)))
            .map(|of| record::partition(of, &partition(topic + of.partition.get())))
            .collect();
        records.push(record::topic(id, &format!("topic-{topic}")));
        image.apply(image.offset(), &records).unwrap();
    }
    image
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let done = work();
    let took = start.elapsed();
    println!("{what}: {took:?}");
    (done, took)
}

#[test]
#[ignore = "a measurement; meaningful in release only"]
fn scale() {
    let (mut image, _) = timed("build by log", large);
    assert_eq!(image.partition_count(), 200_000);
    let all: Vec<_> = image.partitions().map(|(of, it)| (of, it.clone())).collect();

    const CHANGES: u32 = 1_000;
    let changes: Vec<_> = (0..CHANGES as usize).map(|i| all[i * 197 % all.len()].clone()).collect();
    let mut readers = Vec::new();
    let ((), took) = timed("1,000 changes, each image kept by a reader", || {
        for (of, before) in &changes {
            let mut after = (**before).clone();
            after.leader = after.isr.get(1).copied();
            after.leader_epoch = LeaderEpoch::new(1);
            after.partition_epoch = after.partition_epoch.next();
            let delta = image.apply(image.offset(), &[record::partition(*of, &after)]).unwrap();
            assert_eq!(delta.local_changes(after.leader.unwrap()).leaders.len(), 1);
            readers.push(image.clone());
        }
    });
    assert!(took / CHANGES < Duration::from_micros(50), "one change took {:?}", took / CHANGES);

    let (snapshot, _) = timed("to snapshot", || image.to_snapshot());
    println!("encoded: {} MiB", snapshot.encoded_len() >> 20);
    let (rebuilt, took) = timed("from snapshot", || Image::from_snapshot(&snapshot).unwrap());
    assert_eq!(rebuilt, image);
    assert!(took < Duration::from_secs(1));
    let mut behind = readers.swap_remove(0);
    timed("snapshot over a state", || behind.load_snapshot(&snapshot).unwrap());
    let (held, _) = timed("partitions on one broker", || image.partitions_on(NodeId::new(3)).count());
    assert!(held > 40_000);
}
