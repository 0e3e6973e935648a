//! Which segments have to be synced before a journal file may forget its groups.
//!
//! Knows nothing of the journal's files.

use std::collections::BTreeMap;
use std::sync::Arc;

use vltava_model::{Offset, TopicPartition};

use super::entry::{EntryBody, JournalEntry};
use vltava_storage::StorageFile;

/// What the groups of one journal file left unsynced, by partition.
#[derive(Default)]
pub(super) struct Dirty(BTreeMap<TopicPartition, DirtyPartition>);

/// What one partition left unsynced.
#[derive(Clone, Default)]
pub(super) struct DirtyPartition {
    /// Where the partition's log ended after its last frame; `None` when nothing was appended.
    pub end: Option<Offset>,
    /// Each file once.
    pub segments: Vec<Arc<dyn StorageFile>>,
}

impl Dirty {
    /// Remembers what `entry`, whose batches the journal holds, left unsynced.
    pub fn add(&mut self, entry: &JournalEntry) {
        match &entry.body {
            EntryBody::Append { end_offset, segment, .. } => {
                let partition = self.0.entry(entry.partition).or_default();
                partition.end = Some(*end_offset);
                add_segment(&mut partition.segments, segment);
            }
            EntryBody::Truncate { .. } => self.cut(entry.partition),
            EntryBody::StartOffset { .. } | EntryBody::Delete | EntryBody::Empty | EntryBody::Sync { .. } => {
            }
        }
    }

    /// Remembers segments that hold, unsynced, what the journal held of the partition at the start.
    pub fn keep(&mut self, partition: TopicPartition, end: Offset, segments: Vec<Arc<dyn StorageFile>>) {
        self.0.insert(partition, DirtyPartition { end: Some(end), segments });
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The log is cut: where it ended is not where it ends any more, though its segments are still to be synced. Nor does it
    /// end where the cut is, if that goes through a batch.
    pub fn cut(&mut self, partition: TopicPartition) {
        if let Some(partition) = self.0.get_mut(&partition) {
            partition.end = None;
        }
    }

    pub fn forget(&mut self, partition: TopicPartition) {
        self.0.remove(&partition);
    }

    pub fn get(&self, partition: TopicPartition) -> Option<&DirtyPartition> {
        self.0.get(&partition)
    }

    /// Any partition that is left.
    pub fn next(&self) -> Option<(TopicPartition, DirtyPartition)> {
        self.0.first_key_value().map(|(partition, dirty)| (*partition, dirty.clone()))
    }
}

/// Adds a file to a short list, unless it is there.
pub(super) fn add_segment(segments: &mut Vec<Arc<dyn StorageFile>>, segment: &Arc<dyn StorageFile>) {
    if !segments.iter().any(|known| Arc::ptr_eq(known, segment)) {
        segments.push(Arc::clone(segment));
    }
}
