//! Shards: threads that own partitions.
//!
//! A partition has exactly one writer, its shard. A shard drains its queue, steps the machines, writes what they append,
//! hands all of it to the journal as one group, and goes on while that syncs. Disk I/O never runs on a runtime worker.

pub mod command;
pub mod convert;
pub mod group;
pub mod handle;
pub mod host;
pub mod shared;
pub mod worker;

use std::hash::{DefaultHasher, Hash, Hasher};

use vltava_model::TopicPartition;

use handle::ShardHandle;

/// All shards of a broker.
#[derive(Clone)]
pub struct Shards {
    handles: Vec<ShardHandle>,
}

impl Shards {
    /// Wraps the handles; there is at least one.
    pub(crate) fn new(handles: Vec<ShardHandle>) -> Self {
        assert!(!handles.is_empty(), "a broker has at least one shard");
        Self { handles }
    }

    /// Which shard owns a partition: always the same one within a process.
    pub fn index(&self, partition: TopicPartition) -> usize {
        let mut hasher = DefaultHasher::new();
        partition.hash(&mut hasher);
        (hasher.finish() % self.handles.len() as u64) as usize
    }

    /// The shard that owns a partition.
    pub fn of(&self, partition: TopicPartition) -> &ShardHandle {
        &self.handles[self.index(partition)]
    }

    /// A shard by its number.
    pub fn get(&self, index: usize) -> &ShardHandle {
        &self.handles[index]
    }

    /// All shards.
    pub fn iter(&self) -> impl Iterator<Item = &ShardHandle> {
        self.handles.iter()
    }
}
