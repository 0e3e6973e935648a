//! A stopped node's Raft directory, for people: vote, positions, entries, snapshots, and whether it would open.
//!
//! The directory itself is never changed. A write-ahead log is read where it lies; sled cannot open a database without
//! writing to it, so of that one a copy is looked at.

mod read_only;

use std::path::Path;
use std::sync::Arc;

use vltava_storage::Storage;

use crate::codec::decode_entry;
use crate::engine::{self, LogEngine};
use crate::error::OpenError;
use crate::meta_log::{LogEntry, LogError};
use crate::open::SNAPSHOTS;
use crate::record::StateRecord;
use crate::sled_log::{LogCopy, hold};
use crate::snapshot_store::{self, SnapshotFile};
use crate::types::{Position, RaftEntry, VoteRecord};
use crate::wal_log::WalCopy;
use read_only::ReadOnly;

/// What a Raft directory holds.
#[derive(Debug)]
pub struct Inspection {
    /// On what the log lies.
    pub engine: LogEngine,
    /// Why this node would refuse to start, if it would.
    pub damage: Option<String>,
    /// How many durable changes the log has seen.
    pub changes: u64,
    /// The vote.
    pub vote: Option<VoteRecord>,
    /// How far entries are committed, as far as it was written.
    pub committed: Option<Position>,
    /// The last entry that was removed from the front.
    pub purged: Option<Position>,
    /// The index of the first entry present.
    pub first: Option<u64>,
    /// The last entry present, else `purged`.
    pub last: Option<Position>,
    /// The snapshots, newest first.
    pub snapshots: Vec<SnapshotFile>,
    copy: Looked,
}

/// A log as it was found.
#[derive(Debug)]
enum Looked {
    Wal(WalCopy),
    Sled(LogCopy),
}

impl Looked {
    fn take(disk: &Arc<dyn Storage>, directory: &Path, engine: LogEngine) -> Result<Self, OpenError> {
        Ok(match engine {
            LogEngine::Wal => Self::Wal(WalCopy::take(disk.clone(), directory, hold(directory)?)?),
            LogEngine::Sled => Self::Sled(LogCopy::take(directory)?),
        })
    }

    fn record(&self) -> &StateRecord {
        match self {
            Self::Wal(copy) => copy.record(),
            Self::Sled(copy) => copy.record(),
        }
    }

    fn damage(&self) -> Option<&str> {
        match self {
            Self::Wal(copy) => copy.damage(),
            Self::Sled(copy) => copy.damage(),
        }
    }

    fn entries(&self) -> Box<dyn Iterator<Item = Result<LogEntry, LogError>> + '_> {
        match self {
            Self::Wal(copy) => Box::new(copy.entries()),
            Self::Sled(copy) => Box::new(copy.entries().map(|found| found.map(|chained| chained.entry))),
        }
    }
}

/// Looks at the Raft directory of a node that is not running.
pub fn inspect(directory: &Path) -> Result<Inspection, OpenError> {
    let disk: Arc<dyn Storage> = Arc::new(ReadOnly);
    let engine = engine::present(&*disk, directory)?.unwrap_or_default();
    let copy = Looked::take(&disk, directory, engine)?;
    let path = directory.join(SNAPSHOTS);
    let snapshots = snapshot_store::survey(&*disk, &path).map_err(OpenError::io("read", &path))?;
    let covered = snapshots
        .iter()
        .find_map(|file| file.content.as_ref().ok())
        .and_then(|s| s.meta.last_log_id.map(|id| id.index));
    let record = copy.record();
    let uncovered = record.purged.filter(|purged| covered.is_none_or(|covered| covered < purged.index));
    let damage = copy.damage().map(str::to_owned).or_else(|| {
        uncovered.map(|purged| {
            format!("no whole snapshot reaches to the beginning of the log, after entry {purged}")
        })
    });
    Ok(Inspection {
        engine,
        damage,
        changes: record.change,
        vote: record.vote,
        committed: record.committed,
        purged: record.purged,
        first: record.first,
        last: record.last,
        snapshots,
        copy,
    })
}

impl Inspection {
    /// The entries that are there, in order, whether they should be or not; ends after the first that cannot be read.
    pub fn entries(&self) -> impl Iterator<Item = Result<RaftEntry, LogError>> + '_ {
        let mut failed = false;
        let entries = self.copy.entries().map(|found| {
            let entry = found?;
            decode_entry(&entry).map_err(|e| LogError::Damaged(format!("entry {}: {e}", entry.position)))
        });
        entries.take_while(move |entry| !std::mem::replace(&mut failed, entry.is_err()))
    }
}

#[cfg(test)]
mod tests;
