//! Which partition lies in which log directory, and how many lie in each.

use std::collections::BTreeMap;

use vltava_model::{DirectoryId, TopicPartition};

/// See the module.
#[derive(Default)]
pub(super) struct Placed {
    of: BTreeMap<TopicPartition, DirectoryId>,
    /// Counted along: thousands of partitions may come at once, each to where fewest are.
    load: BTreeMap<DirectoryId, usize>,
}

impl Placed {
    pub(super) fn of(&self, partition: TopicPartition) -> Option<DirectoryId> {
        self.of.get(&partition).copied()
    }

    /// How many partitions lie in a directory.
    pub(super) fn load(&self, directory: DirectoryId) -> usize {
        self.load.get(&directory).copied().unwrap_or(0)
    }

    /// A partition that lay elsewhere lies there no more.
    pub(super) fn insert(&mut self, partition: TopicPartition, directory: DirectoryId) {
        self.remove(partition);
        self.of.insert(partition, directory);
        *self.load.entry(directory).or_default() += 1;
    }

    pub(super) fn remove(&mut self, partition: TopicPartition) -> Option<DirectoryId> {
        let directory = self.of.remove(&partition)?;
        if let Some(load) = self.load.get_mut(&directory) {
            *load -= 1;
        }
        Some(directory)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (TopicPartition, DirectoryId)> {
        self.of.iter().map(|(partition, directory)| (*partition, *directory))
    }
}

#[cfg(test)]
mod tests {
    use vltava_model::{PartitionIndex, TopicId};

    use super::*;

    #[test]
    fn the_count_of_a_directory_follows_what_lies_in_it() {
        let partition = |index| TopicPartition::new(TopicId::new(7), PartitionIndex::new(index));
        let (one, other) = (DirectoryId::new(1), DirectoryId::new(2));
        let mut placed = Placed::default();
        placed.insert(partition(0), one);
        placed.insert(partition(1), one);
        placed.insert(partition(1), other);
        placed.insert(partition(1), other);
        assert_eq!((placed.load(one), placed.load(other)), (1, 1));
        assert_eq!(placed.iter().collect::<Vec<_>>(), [(partition(0), one), (partition(1), other)]);
        assert_eq!(placed.remove(partition(0)), Some(one));
        assert_eq!(placed.remove(partition(0)), None);
        assert_eq!(
            (placed.load(one), placed.of(partition(0)), placed.of(partition(1))),
            (0, None, Some(other))
        );
    }
}
