//! A stopped node's Raft directory, for people: vote, positions, entries, snapshots, and whether it would open.
//!
//! sled cannot open a database without writing to it, so this looks at a copy. The directory itself is never changed.

use std::path::Path;

use crate::codec::decode_entry;
use crate::error::OpenError;
use crate::meta_log::LogError;
use crate::open::SNAPSHOTS;
use crate::sled_log::LogCopy;
use crate::snapshot_store::{self, SnapshotFile};
use crate::types::{Position, RaftEntry, VoteRecord};

/// What a Raft directory holds.
#[derive(Debug)]
pub struct Inspection {
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
    copy: LogCopy,
}

/// Looks at the Raft directory of a node that is not running.
pub fn inspect(directory: &Path) -> Result<Inspection, OpenError> {
    let copy = LogCopy::take(directory)?;
    let path = directory.join(SNAPSHOTS);
    let snapshots = snapshot_store::survey(&path).map_err(OpenError::io("read", &path))?;
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
            let entry = found?.entry;
            decode_entry(&entry).map_err(|e| LogError::Damaged(format!("entry {}: {e}", entry.position)))
        });
        entries.take_while(move |entry| !std::mem::replace(&mut failed, entry.is_err()))
    }
}

#[cfg(test)]
mod tests;
