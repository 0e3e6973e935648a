//! A log directory: whose it is, that it is ours alone, how it was left, what it holds, and whether it still serves.
//!
//! | name | what |
//! |---|---|
//! | `vltava.lock` | locked for as long as a process uses the directory |
//! | `vltava.meta` | cluster id, node id, directory id: a checkpoint |
//! | `clean-shutdown` | the broker epoch of a process that left in order: a checkpoint; gone before anything else is done |
//! | `journal/` | the journal |
//! | `journal.damaged/` | the last one that could not be read |
//! | `<topic id>-<partition>/` | a partition, by the 32 digits of its topic's id |
//! | `<topic id>-<partition>/damaged` | the mark that its bytes are not what was written, in words: a checkpoint |
//! | `<topic id>-<partition>.deleted/` | a partition that is being deleted |
//!
//! Knows nothing of what a partition's directory holds.

mod identity;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use vltava_model::seeded::{SeededBug, seeded};
use vltava_model::{BrokerEpoch, ClusterId, DirectoryId, NodeId, PartitionIndex, TopicPartition};

use vltava_storage::checkpoint::{
    CheckpointError, CheckpointKind, read_checkpoint, remove_checkpoint, write_checkpoint,
};
use vltava_storage::{Storage, StorageLock, create_dir_durably};

pub use identity::{DirectoryError, Identity};

const LOCK: &str = "vltava.lock";
const JOURNAL: &str = "journal";
const CLEAN: &str = "clean-shutdown";
const CLEAN_KIND: CheckpointKind = CheckpointKind(*b"clsh");
const CLEAN_VERSION: u16 = 1;
const DELETED: &str = ".deleted";
const JOURNAL_ASIDE: &str = "journal.damaged";
const DAMAGED: &str = "damaged";
const DAMAGED_KIND: CheckpointKind = CheckpointKind(*b"DMGD");
const DAMAGED_VERSION: u16 = 1;

/// How the process that used a log directory before ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LastEnd {
    /// In order, with this broker epoch.
    Clean(BrokerEpoch),
    /// In any way: there is no mark.
    Unknown,
    /// There is a mark, and it is damaged. No crash does that, so more of what lies here may be.
    Damaged,
}

/// A log directory in use by this process.
pub struct LogDirectory {
    path: PathBuf,
    storage: Arc<dyn Storage>,
    identity: Identity,
    last_end: LastEnd,
    offline: OnceLock<String>,
    _lock: Box<dyn StorageLock>,
}

impl LogDirectory {
    /// Takes the directory at `path` for the node `node` of the cluster `cluster`, if that is known yet. A directory
    /// that is not there or has no identity becomes this node's, under the identity `fresh`.
    ///
    /// The mark of a clean shutdown is read and removed, durably, before this returns: whatever happens from then on,
    /// the next start knows that this one did not end well (yet).
    ///
    /// # Errors
    /// [`DirectoryError`], which says what to do.
    pub fn open(
        storage: Arc<dyn Storage>,
        path: &Path,
        node: NodeId,
        cluster: Option<ClusterId>,
        fresh: DirectoryId,
    ) -> Result<Self, DirectoryError> {
        let disk = |action| move |source| DirectoryError::Io { action, path: path.to_owned(), source };
        create_dir_durably(&*storage, path).map_err(disk("create"))?;
        let Some(lock) = storage.lock(&path.join(LOCK)).map_err(disk("lock"))? else {
            return Err(DirectoryError::InUse { path: path.to_owned() });
        };
        let identity = identity::establish(&*storage, path, node, cluster, fresh)?;
        let last_end = take_clean_mark(&*storage, path).map_err(disk("read"))?;
        for name in storage.list(path).map_err(disk("list"))? {
            if name.strip_suffix(DELETED).and_then(parse_partition).is_some() {
                storage.remove_dir_all(&path.join(name)).map_err(disk("finish a deletion in"))?;
            }
        }
        // Whatever an earlier process made and did not come to sync.
        storage.sync_dir(path).map_err(disk("sync"))?;
        let path = path.to_owned();
        Ok(Self { path, storage, identity, last_end, offline: OnceLock::new(), _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The disk it is on.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// Whose it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Where the journal is.
    pub fn journal_path(&self) -> PathBuf {
        self.path.join(JOURNAL)
    }

    /// The broker epoch of the process that used the directory before, if that one shut down cleanly: the proof that
    /// nothing was lost since. It was removed already, so it is good for this start only.
    pub fn left_cleanly(&self) -> Option<BrokerEpoch> {
        match self.last_end {
            LastEnd::Clean(epoch) => Some(epoch),
            LastEnd::Unknown | LastEnd::Damaged => None,
        }
    }

    /// How the process before ended, as far as the mark tells.
    pub fn last_end(&self) -> LastEnd {
        self.last_end
    }

    /// Binds a directory to its cluster, durably, once that is known; one that is bound must be bound to this one.
    ///
    /// # Errors
    /// [`DirectoryError::OtherCluster`], or what the disk says.
    pub fn bind(&mut self, cluster: ClusterId) -> Result<(), DirectoryError> {
        self.identity = identity::bind(&*self.storage, &self.path, self.identity, cluster)?;
        Ok(())
    }

    /// Leaves the mark of a clean shutdown: the last act, when all logs and the journal are closed. A directory that
    /// went offline gets none.
    ///
    /// # Errors
    /// What the disk says; the next start then counts as one after a crash.
    pub fn mark_clean(&self, epoch: BrokerEpoch) -> io::Result<()> {
        if self.offline().is_some() {
            return Ok(());
        }
        let payload = epoch.get().to_be_bytes();
        write_checkpoint(&*self.storage, &self.path.join(CLEAN), CLEAN_KIND, CLEAN_VERSION, &payload)
    }

    /// The partitions that have a directory here, sorted; names of any other form are left alone.
    ///
    /// # Errors
    /// What the disk says.
    pub fn partitions(&self) -> io::Result<Vec<TopicPartition>> {
        let mut partitions: Vec<_> =
            self.storage.list(&self.path)?.iter().filter_map(|name| parse_partition(name)).collect();
        partitions.sort_unstable();
        Ok(partitions)
    }

    /// Where a partition is, or would be.
    pub fn partition_path(&self, partition: TopicPartition) -> PathBuf {
        self.path.join(partition.to_string())
    }

    /// Makes a partition's directory, durably; it may be there.
    ///
    /// # Errors
    /// What the disk says.
    pub fn create_partition(&self, partition: TopicPartition) -> io::Result<PathBuf> {
        let path = self.partition_path(partition);
        // A name that was there at the start was synced then.
        if !self.storage.exists(&path)? {
            create_dir_durably(&*self.storage, &path)?;
        }
        Ok(path)
    }

    /// Deletes a partition's directory: when this returns it is gone durably, though its bytes may be freed only by
    /// the next start. One that is not there is no error. The journal is told first
    /// ([`crate::durability::EntryBody::Delete`]), or a replay would bring the partition back.
    ///
    /// # Errors
    /// What the disk says.
    pub fn delete_partition(&self, partition: TopicPartition) -> io::Result<()> {
        let path = self.partition_path(partition);
        if !self.storage.exists(&path)? {
            return Ok(());
        }
        let doomed = self.path.join(format!("{partition}{DELETED}"));
        if self.storage.exists(&doomed)? {
            self.storage.remove_dir_all(&doomed)?;
        }
        self.storage.rename(&path, &doomed)?;
        self.storage.sync_dir(&self.path)?;
        self.storage.remove_dir_all(&doomed)
    }

    /// Marks a partition as damaged, durably: it stays so over restarts until it is deleted, or somebody who has restored it
    /// removes the mark.
    ///
    /// # Errors
    /// What the disk says.
    pub fn mark_damaged(&self, partition: TopicPartition, what: &str) -> io::Result<()> {
        let path = self.damage_mark(partition);
        write_checkpoint(&*self.storage, &path, DAMAGED_KIND, DAMAGED_VERSION, what.as_bytes())
    }

    /// What is wrong with a partition that is marked as damaged; `None` when it is not.
    ///
    /// # Errors
    /// What the disk says.
    pub fn damage_of(&self, partition: TopicPartition) -> io::Result<Option<String>> {
        match read_checkpoint(&*self.storage, &self.damage_mark(partition), DAMAGED_KIND) {
            Ok(None) => Ok(None),
            Ok(Some(mark)) => Ok(Some(String::from_utf8_lossy(&mark.payload).into_owned())),
            Err(CheckpointError::Io { source, .. }) => Err(source),
            // Whatever it said: it would not be there if all were well.
            Err(error @ CheckpointError::Corrupt { .. }) => Ok(Some(error.to_string())),
        }
    }

    /// Puts a journal that can't be read aside, durably, in the place of one that was put aside before.
    ///
    /// # Errors
    /// What the disk says.
    pub fn set_journal_aside(&self) -> io::Result<()> {
        let aside = self.path.join(JOURNAL_ASIDE);
        if self.storage.exists(&aside)? {
            self.storage.remove_dir_all(&aside)?;
        }
        self.storage.rename(&self.journal_path(), &aside)?;
        self.storage.sync_dir(&self.path)
    }

    /// The file by which a partition is marked as damaged.
    pub fn damage_mark(&self, partition: TopicPartition) -> PathBuf {
        self.partition_path(partition).join(DAMAGED)
    }

    /// Takes the directory out of service for as long as this process lives. The first reason is kept; says whether
    /// this was it.
    pub fn fail(&self, reason: impl Into<String>) -> bool {
        let reason = reason.into();
        let first = self.offline.set(reason.clone()).is_ok();
        if first {
            tracing::error!(directory = %self.path.display(), reason, "the log directory is offline");
        }
        first
    }

    /// Why the directory is out of service; `None` while it serves.
    pub fn offline(&self) -> Option<&str> {
        self.offline.get().map(String::as_str)
    }
}

/// Reads and removes the mark of a clean shutdown. A mark that cannot be read proves nothing.
fn take_clean_mark(storage: &dyn Storage, dir: &Path) -> io::Result<LastEnd> {
    let path = dir.join(CLEAN);
    let end = match read_checkpoint(storage, &path, CLEAN_KIND) {
        Ok(Some(mark)) if mark.version == CLEAN_VERSION => {
            let epoch = mark.payload.try_into().map(|bytes| BrokerEpoch::new(u64::from_be_bytes(bytes)));
            epoch.map_or(LastEnd::Damaged, LastEnd::Clean)
        }
        Ok(_) => LastEnd::Unknown,
        // A start that found none made it, and was ended before it removed it again.
        Err(_) if storage.open(&path)?.len()? == 0 => LastEnd::Unknown,
        Err(error) => {
            tracing::warn!(%error, "the mark of the last shutdown proves nothing");
            LastEnd::Damaged
        }
    };
    if !seeded(SeededBug::KeepsCleanMark) {
        // Also where there is none: it may be gone in the page cache alone, after a sync of the directory that failed, and
        // the next sync would find nothing to write.
        storage.create(&path)?;
        remove_checkpoint(storage, &path)?;
    }
    Ok(end)
}

/// Reads a partition directory's name; `None` for any other.
fn parse_partition(name: &str) -> Option<TopicPartition> {
    let (topic, partition) = name.split_at_checked(32)?;
    let partition = TopicPartition::new(
        topic.parse().ok()?,
        PartitionIndex::new(partition.strip_prefix('-')?.parse().ok()?),
    );
    // Only the one way to write it: no upper case, no leading zeroes or plus signs.
    (partition.to_string() == name).then_some(partition)
}

#[cfg(test)]
mod tests;
