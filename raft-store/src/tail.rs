//! The newest entries in memory: those that are not durable yet, which only this can serve, and as many of the durable
//! ones as fit, since followers and the state machine ask for the newest.

use std::collections::VecDeque;
use std::ops::Range;

use openraft::EntryPayload;

use crate::types::{RaftEntry, RaftLogId};

/// A run of entries without a gap, ending with the log's last one; empty when nothing was appended yet.
#[derive(Debug)]
pub(crate) struct Tail {
    entries: VecDeque<RaftEntry>,
    bytes: usize,
    max_bytes: usize,
    /// Entries below this index are durable.
    durable_end: u64,
}

impl Tail {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, max_bytes, durable_end: 0 }
    }

    /// Adds entries at the end. A first one that does not follow starts the run anew; the log itself refuses gaps.
    pub(crate) fn push(&mut self, entries: &[RaftEntry]) {
        for entry in entries {
            if self.entries.back().is_some_and(|last| last.log_id.index + 1 != entry.log_id.index) {
                self.clear();
            }
            self.bytes += weight(entry);
            self.entries.push_back(entry.clone());
        }
    }

    /// Everything below `end` is durable: what does not fit may go.
    pub(crate) fn durable(&mut self, end: u64) {
        self.durable_end = self.durable_end.max(end);
        while self.bytes > self.max_bytes
            && let Some(first) = self.entries.front()
            && first.log_id.index < self.durable_end
        {
            self.bytes -= weight(first);
            self.entries.pop_front();
        }
    }

    /// Forgets the entry at `index` and all after it.
    pub(crate) fn truncate_from(&mut self, index: u64) {
        self.durable_end = self.durable_end.min(index);
        while let Some(last) = self.entries.back()
            && last.log_id.index >= index
        {
            self.bytes -= weight(last);
            self.entries.pop_back();
        }
    }

    /// Forgets all entries up to and with `upto`.
    pub(crate) fn purge_up_to(&mut self, upto: RaftLogId) {
        while let Some(first) = self.entries.front()
            && first.log_id.index <= upto.index
        {
            self.bytes -= weight(first);
            self.entries.pop_front();
        }
    }

    /// The entries of `range` that are here, and what of the range lies before them and must be read from the log.
    pub(crate) fn read(&self, range: Range<u64>, max_bytes: usize) -> (Range<u64>, Vec<RaftEntry>) {
        let Some(first) = self.entries.front().map(|e| e.log_id.index) else { return (range, Vec::new()) };
        let before = range.start..range.end.min(first).max(range.start);
        let skip = usize::try_from(before.end.saturating_sub(first)).unwrap_or(usize::MAX);
        let mut found: Vec<RaftEntry> = Vec::new();
        let mut bytes = 0;
        for entry in self.entries.iter().skip(skip).take_while(|e| e.log_id.index < range.end) {
            bytes += weight(entry);
            if bytes > max_bytes && !found.is_empty() {
                break;
            }
            found.push(entry.clone());
        }
        (before, found)
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }
}

/// About what an entry holds in memory and takes on the wire.
pub(crate) fn weight(entry: &RaftEntry) -> usize {
    64 + match &entry.payload {
        EntryPayload::Blank => 0,
        EntryPayload::Normal(command) => command.0.len(),
        // Rare and small; exactness is not worth encoding it.
        EntryPayload::Membership(membership) => membership.nodes().count() * 128,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Command, Position};

    fn entries(range: Range<u64>) -> Vec<RaftEntry> {
        let entry = |index| RaftEntry {
            log_id: Position { term: 1, index }.into(),
            payload: EntryPayload::Normal(Command(vec![0; 36].into())),
        };
        range.map(entry).collect()
    }

    fn indexes(found: &(Range<u64>, Vec<RaftEntry>)) -> (Range<u64>, Vec<u64>) {
        (found.0.clone(), found.1.iter().map(|e| e.log_id.index).collect())
    }

    #[test]
    fn only_durable_entries_are_forgotten() {
        let mut tail = Tail::new(250);
        tail.push(&entries(5..10));
        tail.durable(6);
        assert_eq!(indexes(&tail.read(0..100, 10_000)), (0..6, vec![6, 7, 8, 9]));
        tail.durable(10);
        assert_eq!(indexes(&tail.read(0..100, 10_000)), (0..8, vec![8, 9]));
    }

    #[test]
    fn reads_say_what_lies_before() {
        let mut tail = Tail::new(10_000);
        assert_eq!(indexes(&tail.read(3..7, 10_000)), (3..7, vec![]));
        tail.push(&entries(5..10));
        assert_eq!(indexes(&tail.read(3..7, 10_000)), (3..5, vec![5, 6]));
        assert_eq!(indexes(&tail.read(2..4, 10_000)), (2..4, vec![]));
        assert_eq!(indexes(&tail.read(7..9, 10_000)), (7..7, vec![7, 8]));
        assert_eq!(indexes(&tail.read(7..10, 1)), (7..7, vec![7]));
        tail.truncate_from(8);
        tail.purge_up_to(Position { term: 1, index: 5 }.into());
        assert_eq!(indexes(&tail.read(0..100, 10_000)), (0..6, vec![6, 7]));
        tail.push(&entries(20..21));
        assert_eq!(indexes(&tail.read(0..100, 10_000)), (0..20, vec![20]));
    }

    #[test]
    fn entries_written_again_after_truncation_are_not_durable_yet() {
        let mut tail = Tail::new(0);
        tail.push(&entries(0..3));
        tail.durable(3);
        tail.push(&entries(3..6));
        tail.truncate_from(4);
        tail.push(&entries(4..6));
        tail.durable(4);
        assert_eq!(indexes(&tail.read(0..100, 10_000)), (0..4, vec![4, 5]));
    }
}
