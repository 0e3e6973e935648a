//! What a shard gathers in one turn for each journal, and what comes back when it is durable.

use std::collections::{BTreeMap, VecDeque};

use vltava_commitlog::durability::{JournalEntry, SubmitError};
use vltava_commitlog::log::SyncPoint;
use vltava_model::{DirectoryId, TopicPartition};
use vltava_partition::{LogPosition, Token};
use vltava_threads::queue::Sender;

use crate::directories::Directories;

/// Up to where a partition is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durable {
    /// Which partition.
    pub partition: TopicPartition,
    /// Where its log ended when the group was handed over.
    pub up_to: LogPosition,
}

/// News from the journal's threads.
pub enum Completion {
    /// A group.
    Group {
        /// Of which directory.
        directory: DirectoryId,
        /// What it made durable, or why the directory failed.
        outcome: Result<Vec<Durable>, String>,
    },
    /// A sync of a relaxed log.
    Sync {
        /// Of which directory.
        directory: DirectoryId,
        /// Which log.
        partition: TopicPartition,
        /// Of which host: another may have taken its place.
        host: Token,
        /// What was synced.
        point: SyncPoint,
        /// Where the log ended by then.
        up_to: LogPosition,
        /// Whether it worked.
        outcome: Result<(), String>,
    },
}

/// So many entries of one directory are handed over without waiting for the turn to end.
const ENTRIES_MAX: usize = 4096;

/// Entries of one turn, by directory.
#[derive(Default)]
pub struct Groups {
    by_directory: BTreeMap<DirectoryId, Group>,
}

#[derive(Default)]
struct Group {
    entries: Vec<JournalEntry>,
    durable: BTreeMap<TopicPartition, Durable>,
}

impl Groups {
    /// Adds a change; says whether it is the group's first of that partition.
    pub fn add(&mut self, directory: DirectoryId, entry: JournalEntry, durable: Durable) -> bool {
        let group = self.by_directory.entry(directory).or_default();
        group.entries.push(entry);
        group.durable.insert(durable.partition, durable).is_none()
    }

    /// Whether a group is as large as it should get.
    pub fn are_large(&self) -> bool {
        self.by_directory.values().any(|group| group.entries.len() >= ENTRIES_MAX)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.by_directory.is_empty()
    }

    /// Hands all groups to their journals; what a full journal refuses stays for the next turn.
    pub fn submit(&mut self, directories: &Directories, done: &Sender<Completion>) {
        let mut refused = BTreeMap::new();
        for (directory, group) in std::mem::take(&mut self.by_directory) {
            let Group { entries, durable } = group;
            let failed = |reason: String| {
                // A shard that is gone needs no news.
                let _ = done.send(Completion::Group { directory, outcome: Err(reason) });
            };
            let Some(journal) = directories.journal(directory) else {
                failed("the log directory is offline".to_owned());
                continue;
            };
            let marks: Vec<Durable> = durable.values().copied().collect();
            let tell = done.clone();
            let submitted = journal.submit(
                entries,
                Box::new(move |result| {
                    let outcome = result.map(|()| marks).map_err(|error| error.to_string());
                    let _ = tell.send(Completion::Group { directory, outcome });
                }),
            );
            if let Err(back) = submitted {
                match back.error {
                    SubmitError::Full => {
                        refused.insert(directory, Group { entries: back.entries, durable });
                    }
                    error @ (SubmitError::TooManyEntries { .. } | SubmitError::Failed(_)) => {
                        failed(error.to_string())
                    }
                }
            }
        }
        self.by_directory = refused;
    }
}

/// Takes the marks of one partition out of what was put aside: how many there were. `None` when a group failed.
pub fn take_marks(stash: &mut VecDeque<Completion>, partition: TopicPartition) -> Option<u32> {
    let mut taken = 0;
    for completion in stash {
        match completion {
            Completion::Group { outcome: Ok(marks), .. } => {
                let before = marks.len();
                marks.retain(|mark| mark.partition != partition);
                taken += u32::try_from(before - marks.len()).unwrap_or(u32::MAX);
            }
            Completion::Group { outcome: Err(_), .. } => return None,
            Completion::Sync { .. } => {}
        }
    }
    Some(taken)
}

#[cfg(test)]
mod tests {
    use vltava_model::epochs::LeaderEpochs;
    use vltava_model::{BrokerEpoch, NodeId, Offset, PartitionIndex, TopicId};
    use vltava_partition::{Durability, LocalLog, Partition, ReplicaIdentity, Settings};

    use super::*;

    fn mark(partition: u32) -> Durable {
        let local = ReplicaIdentity {
            node: NodeId::new(1),
            broker_epoch: BrokerEpoch::ZERO,
            directory: DirectoryId::new(1),
        };
        let log = LocalLog {
            log_start: Offset::ZERO,
            log_end: Offset::ZERO,
            durable_end: Offset::ZERO,
            high_watermark: Offset::ZERO,
            epochs: LeaderEpochs::new(),
        };
        let settings = Settings::new(1, std::time::Duration::from_secs(1), Durability::Synced);
        let up_to = Partition::new(local, log, settings).log_position();
        Durable { partition: of(partition), up_to }
    }

    fn of(partition: u32) -> TopicPartition {
        TopicPartition::new(TopicId::new(1), PartitionIndex::new(partition))
    }

    #[test]
    fn what_one_partition_put_aside_is_found_by_the_next() {
        let group = |outcome| Completion::Group { directory: DirectoryId::new(1), outcome };
        let mut stash = VecDeque::from([group(Ok(vec![mark(1), mark(2)])), group(Ok(vec![mark(2)]))]);
        assert_eq!(take_marks(&mut stash, of(1)), Some(1));
        assert_eq!(take_marks(&mut stash, of(2)), Some(2));
        assert_eq!(take_marks(&mut stash, of(2)), Some(0));
        stash.push_back(group(Err("the disk failed".to_owned())));
        assert_eq!(take_marks(&mut stash, of(1)), None);
    }
}
