//! A Raft log in memory: the plain twin that the durable one is compared with, and what simulations run on.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::meta_log::{LogBounds, LogEntry, LogError, MAX_ENTRY_BYTES, MetaLog};
use crate::types::{Position, VoteRecord};

/// A [`MetaLog`] that keeps everything in memory. A clone is what a crash at that moment would leave.
#[derive(Clone, Debug, Default)]
pub struct MemoryLog {
    entries: BTreeMap<u64, LogEntry>,
    purged: Option<Position>,
    vote: Option<VoteRecord>,
    committed: Option<Position>,
}

impl MetaLog for MemoryLog {
    fn append(&mut self, entries: &[LogEntry]) -> Result<(), LogError> {
        let mut last = self.bounds().last;
        for entry in entries {
            let position = entry.position;
            let follows = last.is_none_or(|l| position.index == l.index + 1 && position.term >= l.term);
            if !follows || entry.bytes.len() > MAX_ENTRY_BYTES {
                return Err(LogError::Refused(format!(
                    "entry {position} does not follow {last:?} or is too large"
                )));
            }
            last = Some(position);
        }
        self.entries.extend(entries.iter().map(|e| (e.position.index, e.clone())));
        Ok(())
    }

    fn truncate_from(&mut self, index: u64) -> Result<(), LogError> {
        let fixed = self.purged.max(self.committed);
        if fixed.is_some_and(|fixed| index <= fixed.index) {
            return Err(LogError::Refused(format!("truncation from {index}, which is purged or committed")));
        }
        self.entries.split_off(&index);
        Ok(())
    }

    fn purge_up_to(&mut self, upto: Position) -> Result<(), LogError> {
        if self.purged.is_some_and(|purged| purged.index >= upto.index) {
            return Ok(());
        }
        if self.entries.first_key_value().is_some_and(|(first, _)| upto.index + 1 < *first) {
            return Err(LogError::Refused(format!("purge up to {upto}, before the first entry")));
        }
        self.purged = Some(self.entries.get(&upto.index).map_or(upto, |e| e.position));
        self.entries.retain(|index, _| *index > upto.index);
        Ok(())
    }

    fn save_vote(&mut self, vote: VoteRecord) -> Result<(), LogError> {
        self.vote = Some(vote);
        Ok(())
    }

    fn read_vote(&self) -> Option<VoteRecord> {
        self.vote
    }

    fn note_committed(&mut self, committed: Option<Position>) {
        self.committed = committed;
    }

    fn save_committed(&mut self) -> Result<(), LogError> {
        Ok(())
    }

    fn read_committed(&self) -> Option<Position> {
        self.committed
    }

    fn read(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<LogEntry>, LogError> {
        let mut bytes = 0;
        let mut entries: Vec<LogEntry> = Vec::new();
        for entry in self.entries.values().filter(|e| range.contains(&e.position.index)) {
            bytes += entry.bytes.len();
            if bytes > max_bytes && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        Ok(entries)
    }

    fn bounds(&self) -> LogBounds {
        let last = self.entries.last_key_value().map(|(_, e)| e.position).or(self.purged);
        LogBounds { purged: self.purged, last }
    }
}
