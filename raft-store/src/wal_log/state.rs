//! What the write-ahead log amounts to: the state after its records, and where the entries that count lie.
//!
//! The same code takes a record that was just written and one that is read back at a start. Knows no files.

use std::collections::VecDeque;

use super::format::{Change, FileNumber, GroupHead, RecordPlace};
use crate::record::StateRecord;
use crate::types::Position;

/// Where an entry's record lies, and what it must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct EntryPlace {
    pub term: u64,
    pub file: FileNumber,
    /// Where the record's head begins in the file.
    pub offset: u64,
    /// The length of the entry.
    pub length: u32,
    /// The chain before.
    pub before: u32,
    /// The entry's own.
    pub chain: u32,
}

/// The state after a run of records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct State {
    /// Positions, vote, the number of the last group and its chain.
    pub record: StateRecord,
    /// Where the newest entries lie. There are fewer of them than `record` says only while the files that hold the older
    /// ones have not been read, or are gone.
    entries: VecDeque<EntryPlace>,
}

impl State {
    /// The state that a file begins with, of which nothing before has been read.
    pub(super) fn new(record: StateRecord) -> Self {
        Self { record, entries: VecDeque::new() }
    }

    /// The number of the next group.
    pub(super) fn next_change(&self) -> u64 {
        self.record.change.saturating_add(1)
    }

    /// The entry with this index.
    pub(super) fn place(&self, index: u64) -> Option<&EntryPlace> {
        let first = self.record.first?.checked_add(self.missing())?;
        self.entries.get(usize::try_from(index.checked_sub(first)?).ok()?)
    }

    /// The oldest file that holds an entry that counts.
    pub(super) fn oldest_file(&self) -> Option<FileNumber> {
        self.entries.front().map(|place| place.file)
    }

    /// How many entries should be there whose records were not read.
    pub(super) fn missing(&self) -> u64 {
        self.count() - self.entries.len() as u64
    }

    fn count(&self) -> u64 {
        let length = |(first, last): (u64, Position)| last.index.saturating_add(1).saturating_sub(first);
        self.record.first.zip(self.record.last).map_or(0, length)
    }

    /// Takes one record of the group whose body begins at `body` in `file`. An error says what no record of an unharmed log
    /// says.
    pub(super) fn apply(
        &mut self,
        change: Change,
        place: RecordPlace,
        file: FileNumber,
        body: u64,
    ) -> Result<(), String> {
        let record = &mut self.record;
        match change {
            Change::Entry(position) => {
                let follows = record.last.is_none_or(|l| {
                    l.index.checked_add(1) == Some(position.index) && l.term <= position.term
                });
                if !follows || position.index == u64::MAX {
                    return Err(format!("entry {position} follows {:?}", record.last));
                }
                record.first = record.first.or(Some(position.index));
                record.last = Some(position);
                let RecordPlace { offset, length, before, chain } = place;
                let offset = body + offset as u64;
                self.entries.push_back(EntryPlace {
                    term: position.term,
                    file,
                    offset,
                    length,
                    before,
                    chain,
                });
            }
            Change::Truncate { from, last_term } => self.truncate(from, last_term)?,
            Change::Purge(upto) => self.purge(upto)?,
            Change::Vote(vote) => record.vote = Some(vote),
            Change::Committed(committed) => record.committed = committed,
            Change::Roll(_) => {}
        }
        self.record.chain = place.chain;
        Ok(())
    }

    /// A group has been taken whole.
    pub(super) fn end_group(&mut self, head: &GroupHead) {
        assert_eq!(self.record.chain, head.after, "the group's records were checked");
        self.record.change = head.sequence;
    }

    fn truncate(&mut self, from: u64, last_term: u64) -> Result<(), String> {
        let record = &mut self.record;
        let inside =
            record.first.zip(record.last).filter(|(first, last)| (*first..=last.index).contains(&from));
        let Some((first, last)) = inside else {
            return Err(format!("truncation from {from} of {:?} to {:?}", record.first, record.last));
        };
        let removed = last.index.saturating_add(1) - from;
        let kept = self.entries.len().saturating_sub(usize::try_from(removed).unwrap_or(usize::MAX));
        self.entries.truncate(kept);
        if from == first {
            (record.first, record.last) = (None, record.purged);
        } else {
            record.last = Some(Position { term: last_term, index: from - 1 });
        }
        Ok(())
    }

    fn purge(&mut self, upto: Position) -> Result<(), String> {
        let record = &self.record;
        if record.purged.is_some_and(|purged| purged.index >= upto.index) {
            return Err(format!("purge up to {upto} after {:?}", record.purged));
        }
        let missing = self.missing();
        match record.first.zip(record.last) {
            Some((first, last)) if upto.index < last.index => {
                if upto.index + 1 < first {
                    return Err(format!("purge up to {upto} of a log that begins at {first}"));
                }
                let known = (upto.index + 1 - first).saturating_sub(missing);
                self.entries.drain(..usize::try_from(known).unwrap_or(usize::MAX).min(self.entries.len()));
                self.record.first = Some(upto.index + 1);
            }
            _ => {
                self.entries.clear();
                (self.record.first, self.record.last) = (None, Some(upto));
            }
        }
        self.record.purged = Some(upto);
        Ok(())
    }
}
