//! The Raft log on sled 0.34, made durable and tamper-evident. Nobody above it may know that it is sled.
//!
//! What sled does not give, and what is done about it:
//! - `flush()` is no fsync on Linux: after it, `db` is synced through a descriptor of our own;
//! - its background flusher would swallow errors: it is off, one owner makes every write;
//! - leaves above some 128 KiB go to `blobs/`, unsynced: values are chunks of 4 KiB, and a file in `blobs/` is an error;
//! - damage makes it forget a tail, hang or panic: `witness.rs` knows the tail, and it is opened on a thread that may die;
//! - a half-written `snap.*.generating` makes every later open fail: such files go first.
//!
//! What stays: a change that crosses from one of sled's segments into the next relies on sled's own write order, which
//! `sync_file_range` does not force on a device with a volatile cache. A power cut in that moment can make sled forget
//! everything. The witness notices, so it is a refusal to start and never a silent loss.

mod copy;
mod layout;
mod open;

mod witness;

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::error::OpenError;
use crate::meta_log::{LogBounds, LogEntry, LogError, MetaLog, check_follows};
use crate::record::StateRecord;
use crate::types::{Position, VoteRecord};
pub(crate) use copy::{LogCopy, hold};
use layout::{EntryScan, Op, STATE_KEY, sled_error};
pub(crate) use open::SLED as DIRECTORY;
pub(crate) use witness::FILE as WITNESS;
use witness::{Slot, WitnessWriter};

/// How many entries one durable step removes; a step is one sled batch and one slot of the witness.
const REMOVAL_STEP: u64 = 1000;

/// A Raft log and vote in one directory.
#[derive(Debug)]
pub struct SledLog {
    // Declared, and so dropped, before the lock that guards it.
    db: sled::Db,
    db_file: File,
    blobs: PathBuf,
    witness: WitnessWriter,
    record: StateRecord,
    noted: Option<Position>,
    failed: Option<String>,
    _lock: File,
}

impl SledLog {
    /// Opens the log in `directory`, or starts an empty one where there is nothing. Reads and checks all of it.
    ///
    /// `cache_bytes` bounds sled's page cache.
    pub fn open(directory: &Path, cache_bytes: u64) -> Result<Self, OpenError> {
        open::open(directory, cache_bytes)
    }

    /// Makes one change durable, in sled and in the witness. An error is final.
    fn commit(&mut self, ops: Vec<Op>, mut next: StateRecord) -> Result<(), LogError> {
        if let Some(why) = &self.failed {
            return Err(LogError::Failed(why.clone()));
        }
        next.change = self.record.change + 1;
        next.committed = self.noted;
        match self.write(&ops, &next) {
            Ok(()) => self.record = next,
            Err(e) => {
                self.failed = Some(e.to_string());
                return Err(e);
            }
        }
        Ok(())
    }

    fn write(&self, ops: &[Op], next: &StateRecord) -> Result<(), LogError> {
        let witness_error = |source| LogError::Io { action: "write the witness", source };
        match Slot::with_ops(next, ops) {
            Some(slot) => {
                self.witness.start(slot).map_err(witness_error)?;
                let written = self.write_sled(ops, next);
                self.witness.finish().map_err(witness_error)?;
                written
            }
            None => {
                // The witness could not make this change again, so it must not know of it before sled has it.
                self.write_sled(ops, next)?;
                self.witness.start(Slot::without_ops(next)).map_err(witness_error)?;
                self.witness.finish().map_err(witness_error)
            }
        }
    }

    fn write_sled(&self, ops: &[Op], next: &StateRecord) -> Result<(), LogError> {
        self.db.apply_batch(batch(ops, next)).map_err(|e| sled_error("write to sled", e))?;
        sync(&self.db, &self.db_file)?;
        check_blobs(&self.blobs)
    }

    fn scan(&self, range: Range<u64>) -> EntryScan {
        EntryScan::new(&self.db, range.start, range.end)
    }

    /// The position and the chain of a present entry.
    fn link(&self, index: u64) -> Result<(Position, u32), LogError> {
        match self.scan(index..index.saturating_add(1)).next() {
            Some(Ok(found)) if found.entry.position.index == index => Ok((found.entry.position, found.chain)),
            Some(Err(e)) => Err(e),
            _ => Err(LogError::Damaged(format!("entry {index} is missing"))),
        }
    }

    /// What removes all chunks of the entries in `range`.
    fn removals(&self, range: Range<u64>) -> Result<Vec<Op>, LogError> {
        let keys = self.db.range(layout::key(range.start, 0)..layout::key(range.end, 0)).keys();
        keys.map(|key| key.map(|k| Op::Delete(k.to_vec())).map_err(|e| sled_error("read the log", e)))
            .collect()
    }

    /// The state with no entry present.
    fn emptied(&self, purged: Option<Position>) -> StateRecord {
        StateRecord { first: None, last: purged, purged, chain: 0, ..self.record }
    }
}

impl MetaLog for SledLog {
    fn append(&mut self, entries: &[LogEntry]) -> Result<(), LogError> {
        let mut next = self.record;
        let mut ops = Vec::with_capacity(entries.len());
        for entry in entries {
            check_follows(next.last, entry)?;
            next.chain = layout::put_entry(&mut ops, entry, next.chain);
            next.first = next.first.or(Some(entry.position.index));
            next.last = Some(entry.position);
        }
        if ops.is_empty() { Ok(()) } else { self.commit(ops, next) }
    }

    fn truncate_from(&mut self, index: u64) -> Result<(), LogError> {
        if self.record.purged.is_some_and(|purged| index <= purged.index) {
            return Err(LogError::Refused(format!("truncation from {index}, which is purged")));
        }
        if self.noted.is_some_and(|committed| index <= committed.index) {
            return Err(LogError::Refused(format!("truncation from {index}, which is committed")));
        }
        while let (Some(first), Some(last)) = (self.record.first, self.record.last)
            && last.index >= index
        {
            let from = index.max(first).max((last.index + 1).saturating_sub(REMOVAL_STEP));
            let next = if from == first {
                self.emptied(self.record.purged)
            } else {
                let (position, chain) = self.link(from - 1)?;
                StateRecord { last: Some(position), chain, ..self.record }
            };
            self.commit(self.removals(from..last.index + 1)?, next)?;
        }
        Ok(())
    }

    fn purge_up_to(&mut self, upto: Position) -> Result<(), LogError> {
        while self.record.purged.is_none_or(|purged| purged.index < upto.index) {
            let Some((first, last)) = self.record.first.zip(self.record.last) else {
                self.commit(Vec::new(), self.emptied(Some(upto)))?;
                continue;
            };
            if upto.index < first {
                // Right before the first entry there is nothing to remove, only to remember.
                if upto.index + 1 == first {
                    return self.commit(Vec::new(), StateRecord { purged: Some(upto), ..self.record });
                }
                return Err(LogError::Refused(format!("purge up to {upto}, but the log starts at {first}")));
            }
            let to = upto.index.min(last.index).min(first.saturating_add(REMOVAL_STEP - 1));
            let next = if to == last.index {
                let purged = if to == upto.index { upto } else { last };
                self.emptied(Some(purged))
            } else {
                let (purged, _) = self.link(to)?;
                StateRecord { first: Some(to + 1), purged: Some(purged), ..self.record }
            };
            self.commit(self.removals(first..to + 1)?, next)?;
        }
        Ok(())
    }

    fn save_vote(&mut self, vote: VoteRecord) -> Result<(), LogError> {
        self.commit(Vec::new(), StateRecord { vote: Some(vote), ..self.record })
    }

    fn read_vote(&self) -> Option<VoteRecord> {
        self.record.vote
    }

    fn note_committed(&mut self, committed: Option<Position>) {
        self.noted = committed;
    }

    fn save_committed(&mut self) -> Result<(), LogError> {
        if self.noted == self.record.committed { Ok(()) } else { self.commit(Vec::new(), self.record) }
    }

    fn read_committed(&self) -> Option<Position> {
        self.noted
    }

    fn read(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<LogEntry>, LogError> {
        let (Some(first), Some(last)) = (self.record.first, self.record.last) else { return Ok(Vec::new()) };
        let range = range.start.max(first)..range.end.min(last.index + 1);
        let mut entries: Vec<LogEntry> = Vec::new();
        let mut bytes = 0;
        for (index, found) in range.clone().zip(self.scan(range.clone())) {
            let entry = found?.entry;
            if entry.position.index != index {
                return Err(LogError::Damaged(format!("entry {index} is missing")));
            }
            bytes += entry.bytes.len();
            if bytes > max_bytes && !entries.is_empty() {
                return Ok(entries);
            }
            entries.push(entry);
        }
        if (entries.len() as u64) < range.end.saturating_sub(range.start) {
            return Err(LogError::Damaged(format!(
                "of the entries {range:?} only {} are there",
                entries.len()
            )));
        }
        Ok(entries)
    }

    fn bounds(&self) -> LogBounds {
        LogBounds { purged: self.record.purged, last: self.record.last }
    }
}

fn batch(ops: &[Op], next: &StateRecord) -> sled::Batch {
    let mut batch = sled::Batch::default();
    for op in ops {
        match op {
            Op::Put(key, value) => batch.insert(key.as_slice(), value.as_slice()),
            Op::Delete(key) => batch.remove(key.as_slice()),
        }
    }
    batch.insert(STATE_KEY, next.encode());
    batch
}

/// Puts on stable storage what sled has been given: its `flush` writes, our descriptor syncs.
fn sync(db: &sled::Db, db_file: &File) -> Result<(), LogError> {
    db.flush().map_err(|e| sled_error("flush sled", e))?;
    db_file.sync_data().map_err(|source| LogError::Io { action: "sync sled's file", source })
}

fn check_blobs(blobs: &Path) -> Result<(), LogError> {
    let error = |source| LogError::Io { action: "list sled's blobs", source };
    match fs::read_dir(blobs) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(error(e)),
        Ok(mut files) => match files.next() {
            None => Ok(()),
            Some(_) => Err(LogError::Refused("sled wrote a blob file, which it does not sync".into())),
        },
    }
}

#[cfg(test)]
mod tests;
