//! What a node pays for knowing a large cluster: no processes, just the image that every node keeps.

use std::time::Instant;

use vltava_metadata::{Image, PartitionImage, record};
use vltava_model::{LeaderEpoch, NodeId, PartitionIndex, TopicId, TopicPartition};

use super::Bench;
use crate::Fallible;
use crate::report::{Measure, Row, Target};

const TOPICS: u32 = 2_000;
const PARTITIONS: u32 = 100;
const NODES: u32 = 12;
const CHANGES: usize = 1_000;

pub fn image(bench: &Bench, row: &mut Row) -> Fallible<()> {
    row.setting = format!(
        "{TOPICS} topics of {PARTITIONS} partitions x 3 on {NODES} nodes; mean of {CHANGES} changes, each image kept by a reader"
    );
    row.measures = vec![
        Measure::new("one partition changes", "us", Target::AtMost(50.0)),
        Measure::new("its snapshot loads", "s", Target::AtMost(1.0)),
    ];
    let mut image = large()?;
    for n in 0..bench.repetitions {
        let all: Vec<_> = image.partitions().map(|(of, it)| (of, it.clone())).collect();
        let changes: Vec<_> = (0..CHANGES).map(|i| all[i * 197 % all.len()].clone()).collect();
        let mut readers = Vec::with_capacity(CHANGES);
        let began = Instant::now();
        for (of, before) in &changes {
            let mut after = (**before).clone();
            after.leader = after.isr.get(1).copied();
            after.leader_epoch = LeaderEpoch::new(n + 1);
            after.partition_epoch = after.partition_epoch.next();
            image.apply(image.offset(), &[record::partition(*of, &after)])?;
            readers.push(image.clone());
        }
        row.measures[0].samples.push(began.elapsed().as_secs_f64() * 1e6 / CHANGES as f64);
        let snapshot = image.to_snapshot();
        let began = Instant::now();
        let loaded = Image::from_snapshot(&snapshot)?;
        row.measures[1].samples.push(began.elapsed().as_secs_f64());
        if loaded != image {
            return Err("the snapshot is another image".into());
        }
    }
    Ok(())
}

fn large() -> Fallible<Image> {
    let mut image = Image::empty();
    for topic in 0..TOPICS {
        let id = TopicId::new(u128::from(topic).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
        let mut records: Vec<_> = (0..PARTITIONS)
            .map(|index| {
                let of = TopicPartition::new(id, PartitionIndex::new(index));
                record::partition(of, &partition(topic + index))
            })
            .collect();
        records.push(record::topic(id, &format!("topic-{topic}")));
        image.apply(image.offset(), &records)?;
    }
    Ok(image)
}

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
