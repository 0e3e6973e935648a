//! The Raft log as a write-ahead log of our own, in files behind `Storage`.
//!
//! Everything that happens to the log, be it an entry, a truncation, a purge, the vote or how far entries are
//! committed, is a record behind the one before. One call is one group: one write and one sync, into room that was
//! zeroed ahead, so that no metadata changes. The group is written twice in that one sync, behind the group before it and
//! into one of two slots at the file's front: damage to either copy is mended from the other, and so a newest group
//! of which no copy is whole was never acknowledged. `reading.rs` says what is made of what a stop leaves.
//!
//! A file that is full names the next one, which begins with the state as of then, so files whose entries are all
//! purged can go. Files lie in `wal/`; beside it, `wal.origin` says that there is a log.

mod file;
mod format;
mod open;
mod origin;
mod reading;
mod state;

use std::collections::VecDeque;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vltava_storage::{Storage, StorageLock};

use crate::error::OpenError;
use crate::meta_log::{LogBounds, LogEntry, LogError, MetaLog, check_follows};
use crate::types::{Position, VoteRecord};
use file::{WalFile, is_short};
use format::{
    Change, FileHeader, FileNumber, Group, RECORD_HEAD_BYTES, ROLL_BYTES, Record, groups_start, padded,
    read_record,
};
pub(crate) use open::WalCopy;
pub(crate) use origin::FILE as ORIGIN;
pub(crate) use reading::DIRECTORY;
use state::State;

/// The largest body of a group, in bytes. openraft appends far less at once.
const GROUP_BYTES_MAX: usize = 1 << 30;

/// How a write-ahead log is laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WalOptions {
    /// The length of a file, in bytes, unless one group needs more. Room is zeroed a file at a time.
    pub file_bytes: u64,
    /// The length of a slot, in bytes, rounded up to a multiple of 512. A larger group costs a second sync.
    pub slot_bytes: u32,
    /// Names a log that is begun: random, so that nothing of one log is ever taken for another's.
    pub log_id: u64,
}

impl WalOptions {
    /// The usual layout.
    pub const fn new(log_id: u64) -> Self {
        Self { file_bytes: 4 << 20, slot_bytes: 64 << 10, log_id }
    }
}

/// A Raft log and vote in one directory.
pub struct WalLog {
    storage: Arc<dyn Storage>,
    /// The directory of the files.
    directory: PathBuf,
    options: WalOptions,
    /// Oldest first, without gaps in their numbers; the last one is written.
    files: VecDeque<WalFile>,
    /// Where the next group goes.
    position: u64,
    state: State,
    noted: Option<Position>,
    failed: Option<String>,
    _lock: Box<dyn StorageLock>,
}

impl std::fmt::Debug for WalLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WalLog")
            .field("directory", &self.directory)
            .field("state", &self.state.record)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

impl WalLog {
    /// Opens the log in the Raft directory `directory`, or begins one where there is none. Reads and checks all of it.
    ///
    /// # Errors
    /// See [`OpenError`]. Whatever a crash leaves opens: damage, a newer format and a disk that says no do not.
    pub fn open(storage: Arc<dyn Storage>, directory: &Path, options: WalOptions) -> Result<Self, OpenError> {
        open::open(storage, directory, options)
    }

    /// Makes one change durable. An error is final.
    fn commit(&mut self, mut records: Vec<Record>) -> Result<(), LogError> {
        if let Some(why) = &self.failed {
            return Err(LogError::Failed(why.clone()));
        }
        if self.noted != self.state.record.committed {
            records.push(Record::Committed(self.noted));
        }
        let written = self.write(&records);
        written.inspect_err(|e| self.failed = Some(e.to_string()))
    }

    fn write(&mut self, records: &[Record]) -> Result<(), LogError> {
        let length: usize = records.iter().map(Record::len).sum();
        if length > GROUP_BYTES_MAX {
            return Err(LogError::Refused(format!("{length} bytes at once: more than {GROUP_BYTES_MAX}")));
        }
        if !self.current().fits(self.position, padded(length) + ROLL_BYTES as u64) {
            self.roll(length)?;
        }
        let group = self.group(records);
        let current = self.current();
        current
            .write_group(self.position, &group.head, &group.bytes)
            .map_err(|source| LogError::Io { action: "write the log", source })?;
        let number = current.header.number;
        take(&mut self.state, &group, number, self.position)?;
        self.position += group.bytes.len() as u64;
        Ok(())
    }

    fn current(&self) -> &WalFile {
        self.files.back().expect("an open log has a file")
    }

    fn group(&self, records: &[Record]) -> Group {
        let salt = self.current().header.salt();
        Group::new(salt, self.state.next_change(), self.state.record.chain, records)
    }

    /// Goes on in a new file that has room for a group with a body of `length` bytes.
    ///
    /// The new file is durable before the current one names it: if the name is there, a missing file is damage.
    fn roll(&mut self, length: usize) -> Result<(), LogError> {
        let io = |source| LogError::Io { action: "go on in a new file of the log", source };
        let current = self.current();
        let number = current.header.number.next();
        let (log_id, full) = (current.header.log_id, current.header.number);
        let group = self.group(&[Record::Roll(number)]);
        take(&mut self.state, &group, full, self.position)?;
        let header = FileHeader {
            log_id,
            number,
            capacity: capacity(&self.options, length),
            slot_bytes: slot_bytes(&self.options),
            state: self.state.record,
        };
        let next = WalFile::create(&*self.storage, &self.directory, header).map_err(io)?;
        self.current().write_group(self.position, &group.head, &group.bytes).map_err(io)?;
        self.position = header.groups_start();
        self.files.push_back(next);
        Ok(())
    }

    /// Removes the files before the oldest one that still counts: one after the other, each durably, so that no crash
    /// leaves a gap.
    fn remove_unneeded(&mut self) -> Result<(), LogError> {
        let io = |source| LogError::Io { action: "remove a file of the log", source };
        let needed = self.state.oldest_file().unwrap_or(self.current().header.number);
        while let Some(oldest) = self.files.front().filter(|file| file.header.number < needed) {
            self.storage.remove(&oldest.path).map_err(io)?;
            self.storage.sync_dir(&self.directory).map_err(io)?;
            self.files.pop_front();
        }
        Ok(())
    }

    /// Reads one entry, of which the log says that it is there.
    fn read_entry(&self, index: u64) -> Result<LogEntry, LogError> {
        let damaged = || LogError::Damaged(format!("entry {index} is not what was written"));
        let place = self.state.place(index).ok_or_else(damaged)?;
        let first = self.files.front().map_or(FileNumber::FIRST, |file| file.header.number);
        let at = place.file.0.checked_sub(first.0).and_then(|at| usize::try_from(at).ok());
        let file = at.and_then(|at| self.files.get(at)).ok_or_else(damaged)?;
        read_entry(file, place, index)
    }
}

/// Reads and checks the entry with this index off its place.
fn read_entry(file: &WalFile, place: &state::EntryPlace, index: u64) -> Result<LogEntry, LogError> {
    let damaged = || LogError::Damaged(format!("entry {index} is not what was written"));
    let length = RECORD_HEAD_BYTES + place.length as usize;
    let bytes = file.read(place.offset, length).map_err(|source| match is_short(&source) {
        true => damaged(),
        false => LogError::Io { action: "read the log", source },
    })?;
    let position = Position { term: place.term, index };
    let record = read_record(&bytes, place.before, 0).map_err(|_| damaged())?;
    if record.change != Change::Entry(position) || record.place.chain != place.chain {
        return Err(damaged());
    }
    let payload = bytes::Bytes::from(bytes).slice(RECORD_HEAD_BYTES..);
    Ok(LogEntry { position, bytes: payload })
}

/// Brings the state to where it is after a group of our own making that lies at `position` of a file.
fn take(state: &mut State, group: &Group, file: FileNumber, position: u64) -> Result<(), LogError> {
    for (change, place) in &group.changes {
        state.apply(*change, *place, file, file::body(position)).map_err(LogError::Refused)?;
    }
    state.end_group(&group.head);
    Ok(())
}

/// The length of a file that shall hold a group with a body of `length` bytes, and the one that names the next file.
fn capacity(options: &WalOptions, length: usize) -> u64 {
    let needed = groups_start(slot_bytes(options)) + padded(length) + ROLL_BYTES as u64;
    options.file_bytes.max(needed).next_multiple_of(format::HEADER_BYTES as u64)
}

fn slot_bytes(options: &WalOptions) -> u32 {
    let sector = format::SECTOR_BYTES as u32;
    options.slot_bytes.clamp(sector, 1 << 30).next_multiple_of(sector)
}

impl MetaLog for WalLog {
    fn append(&mut self, entries: &[LogEntry]) -> Result<(), LogError> {
        let mut last = self.state.record.last;
        for entry in entries {
            check_follows(last, entry)?;
            last = Some(entry.position);
        }
        if entries.is_empty() {
            Ok(())
        } else {
            self.commit(entries.iter().cloned().map(Record::Entry).collect())
        }
    }

    fn truncate_from(&mut self, index: u64) -> Result<(), LogError> {
        let record = self.state.record;
        if record.purged.is_some_and(|purged| index <= purged.index) {
            return Err(LogError::Refused(format!("truncation from {index}, which is purged")));
        }
        if self.noted.is_some_and(|committed| index <= committed.index) {
            return Err(LogError::Refused(format!("truncation from {index}, which is committed")));
        }
        let Some((first, last)) = record.first.zip(record.last) else { return Ok(()) };
        if last.index < index {
            return Ok(());
        }
        let from = index.max(first);
        let last = from
            .checked_sub(1)
            .filter(|_| from > first)
            .and_then(|index| self.state.place(index).map(|place| Position { term: place.term, index }));
        self.commit(vec![Record::Truncate { from, last }])
    }

    fn purge_up_to(&mut self, upto: Position) -> Result<(), LogError> {
        let record = self.state.record;
        if record.purged.is_some_and(|purged| purged.index >= upto.index) {
            return Ok(());
        }
        if let Some(first) = record.first.filter(|first| upto.index.saturating_add(1) < *first) {
            return Err(LogError::Refused(format!("purge up to {upto}, but the log starts at {first}")));
        }
        let there =
            self.state.place(upto.index).map(|place| Position { term: place.term, index: upto.index });
        self.commit(vec![Record::Purge(there.unwrap_or(upto))])?;
        self.remove_unneeded().inspect_err(|e| self.failed = Some(e.to_string()))
    }

    fn save_vote(&mut self, vote: VoteRecord) -> Result<(), LogError> {
        self.commit(vec![Record::Vote(vote)])
    }

    fn read_vote(&self) -> Option<VoteRecord> {
        self.state.record.vote
    }

    fn note_committed(&mut self, committed: Option<Position>) {
        self.noted = committed;
    }

    fn save_committed(&mut self) -> Result<(), LogError> {
        if self.noted == self.state.record.committed { Ok(()) } else { self.commit(Vec::new()) }
    }

    fn read_committed(&self) -> Option<Position> {
        self.noted
    }

    fn read(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<LogEntry>, LogError> {
        let Some((first, last)) = self.state.record.first.zip(self.state.record.last) else {
            return Ok(Vec::new());
        };
        let mut entries: Vec<LogEntry> = Vec::new();
        let mut bytes = 0;
        for index in range.start.max(first)..range.end.min(last.index + 1) {
            let entry = self.read_entry(index)?;
            bytes += entry.bytes.len();
            if bytes > max_bytes && !entries.is_empty() {
                break;
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    fn bounds(&self) -> LogBounds {
        LogBounds { purged: self.state.record.purged, last: self.state.record.last }
    }
}

#[cfg(test)]
mod tests;
