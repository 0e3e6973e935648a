//! Batches and places for tests.

use std::sync::Arc;

use vltava_model::batch::{Batch, BatchBuilder, Compression};
use vltava_model::{LeaderEpoch, Offset, PartitionIndex, TopicId, TopicPartition};

use super::{LogPlace, TailBudget};
use vltava_storage::{FilePool, Storage};

/// A batch of `records` records at `base`.
pub(crate) fn batch_at(base: u64, epoch: u32, records: u32) -> Batch {
    let mut builder = BatchBuilder::new(Compression::None);
    for n in 0..u64::from(records) {
        builder
            .append(1000 + (base + n) as i64, None, Some(format!("{}", base + n).as_bytes()), &[])
            .unwrap();
    }
    positioned(builder, base, epoch)
}

/// What a builder holds, at `base`.
pub(crate) fn positioned(builder: BatchBuilder, base: u64, epoch: u32) -> Batch {
    Batch::parse(builder.build()).unwrap().with_position(Offset::new(base), LeaderEpoch::new(epoch))
}

/// A partition's log on some storage.
pub(crate) fn place(storage: Arc<dyn Storage>) -> LogPlace {
    place_with(storage, 1000)
}

/// The same, with so few files open at once.
pub(crate) fn place_with(storage: Arc<dyn Storage>, open_files: usize) -> LogPlace {
    LogPlace {
        files: FilePool::new(storage, open_files, std::thread::sleep),
        dir: "/logs/topic-0".into(),
        partition: TopicPartition::new(TopicId::new(77), PartitionIndex::new(0)),
        topic_name: "topic".into(),
        tail_budget: TailBudget::new(1 << 20),
    }
}
