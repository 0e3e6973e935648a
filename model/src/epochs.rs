//! Where each leader epoch begins in a partition's log: what truncation by epoch (KIP-101, KIP-279) asks.
//!
//! Pure bookkeeping; it does not know files. It must always equal what a scan of the log would give.

use crate::seeded::{SeededBug, seeded};
use crate::{LeaderEpoch, Offset};

/// Why a change or a list of epochs is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EpochsError {
    /// Neither epochs nor their starts may repeat or go back.
    #[error("epoch {epoch} at offset {start} does not follow epoch {latest} at offset {latest_start}")]
    OutOfOrder {
        /// The epoch that was to be added.
        epoch: LeaderEpoch,
        /// Where it was to begin.
        start: Offset,
        /// The newest epoch known before.
        latest: LeaderEpoch,
        /// Where that one begins.
        latest_start: Offset,
    },
}

/// The end of an epoch in one replica's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    /// The largest epoch known that is not above the one asked for.
    pub epoch: LeaderEpoch,
    /// The first offset behind it: the start of the next epoch, or the log end.
    pub end: Offset,
}

/// The leader epochs of one log with the offset at which each begins, both strictly increasing.
///
/// An entry may begin at the log end: a leader that has written nothing yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LeaderEpochs {
    entries: Vec<(LeaderEpoch, Offset)>,
}

impl LeaderEpochs {
    /// No epoch is known: an empty log.
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Takes a list, such as one read from a checkpoint.
    ///
    /// # Errors
    /// When epochs or starts do not strictly increase.
    pub fn from_entries(entries: Vec<(LeaderEpoch, Offset)>) -> Result<Self, EpochsError> {
        for pair in entries.windows(2) {
            let ((latest, latest_start), (epoch, start)) = (pair[0], pair[1]);
            if epoch <= latest || start <= latest_start {
                return Err(EpochsError::OutOfOrder { epoch, start, latest, latest_start });
            }
        }
        Ok(Self { entries })
    }

    /// All epochs, oldest first.
    pub fn entries(&self) -> &[(LeaderEpoch, Offset)] {
        &self.entries
    }

    /// Notes that `epoch` begins at `start`, and says whether that changed anything.
    ///
    /// The latest epoch may be assigned again at or behind its start: nothing changes. A newer epoch removes every
    /// entry that begins at or behind `start`: those epochs hold no record that is left.
    ///
    /// # Errors
    /// When `epoch` is older than the latest one, or is the latest one but begins before its known start.
    pub fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> Result<bool, EpochsError> {
        if let Some(&(latest, latest_start)) = self.entries.last() {
            if epoch < latest || (epoch == latest && start < latest_start) {
                return Err(EpochsError::OutOfOrder { epoch, start, latest, latest_start });
            }
            if epoch == latest {
                return Ok(false);
            }
        }
        self.truncate_to(start);
        self.entries.push((epoch, start));
        Ok(true)
    }

    /// The newest epoch.
    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|(epoch, _)| *epoch)
    }

    /// The epoch under which the record at `offset` was (or, at the log end, would be) written; `None` below the first
    /// known start.
    pub fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.entries.partition_point(|(_, start)| *start <= offset);
        self.entries[..after].last().map(|(epoch, _)| *epoch)
    }

    /// The largest known epoch that is not above `epoch`, and where it ends in a log that ends at `log_end`.
    ///
    /// `None` when every known epoch is newer: nothing here is shared with a log whose last epoch is `epoch`, except
    /// what lies below the first entry's start.
    pub fn end_of(&self, epoch: LeaderEpoch, log_end: Offset) -> Option<EpochEnd> {
        let after = self.entries.partition_point(|(known, _)| *known <= epoch);
        let (epoch, _) = *self.entries[..after].last()?;
        let end = self.entries.get(after).map_or(log_end, |(_, start)| *start);
        Some(EpochEnd { epoch, end })
    }

    /// The log now ends at `end`: drops the entries that begin there or behind, and says whether there were any.
    ///
    /// To be called even when the log was not longer than `end`: a leader that wrote nothing leaves an entry at the log
    /// end, which the next leader's records must not be taken for.
    pub fn truncate_to(&mut self, end: Offset) -> bool {
        let kept = self.entries.partition_point(|(_, start)| {
            *start < end || (seeded(SeededBug::KeepsEmptyEpochs) && *start == end)
        });
        let changed = kept < self.entries.len();
        self.entries.truncate(kept);
        changed
    }

    /// The log now begins at `log_start`: drops the epochs that end at or before it and lets the one that covers it
    /// begin there. Says whether anything changed.
    ///
    /// The newest epoch is never dropped, so that an emptied log still knows its last epoch.
    pub fn advance_start(&mut self, log_start: Offset) -> bool {
        let begun = self.entries.partition_point(|(_, start)| *start <= log_start);
        let Some(covering) = begun.checked_sub(1) else { return false };
        let changed = self.entries[covering].1 != log_start;
        self.entries.drain(..covering);
        self.entries[0].1 = log_start;
        changed || covering > 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn epoch(value: u32) -> LeaderEpoch {
        LeaderEpoch::new(value)
    }

    fn at(value: u64) -> Offset {
        Offset::new(value)
    }

    fn epochs(list: &[(u32, u64)]) -> LeaderEpochs {
        LeaderEpochs::from_entries(list.iter().map(|(e, s)| (epoch(*e), at(*s))).collect()).unwrap()
    }

    #[test]
    fn assigning_again_changes_nothing_and_going_back_is_refused() {
        let mut cache = epochs(&[(1, 0), (4, 10)]);
        assert_eq!(cache.assign(epoch(4), at(10)), Ok(false));
        assert_eq!(cache.assign(epoch(4), at(12)), Ok(false));
        assert!(cache.assign(epoch(3), at(20)).is_err());
        assert!(cache.assign(epoch(4), at(9)).is_err());
        assert_eq!(cache, epochs(&[(1, 0), (4, 10)]));
    }

    #[test]
    fn a_newer_epoch_removes_those_that_hold_nothing_any_more() {
        let mut cache = epochs(&[(1, 0), (2, 10), (3, 20)]);
        assert_eq!(cache.assign(epoch(5), at(10)), Ok(true));
        assert_eq!(cache, epochs(&[(1, 0), (5, 10)]));
        // A leader that wrote nothing is replaced by the next one at the same offset.
        assert_eq!(cache.assign(epoch(6), at(10)), Ok(true));
        assert_eq!(cache, epochs(&[(1, 0), (6, 10)]));
    }

    #[test]
    fn ends_of_epochs_follow_kip_279() {
        let cache = epochs(&[(2, 5), (4, 10), (7, 30)]);
        let end =
            |asked| cache.end_of(epoch(asked), at(44)).map(|found| (found.epoch.get(), found.end.get()));
        assert_eq!(end(1), None);
        assert_eq!(end(2), Some((2, 10)));
        assert_eq!(end(3), Some((2, 10)));
        assert_eq!(end(6), Some((4, 30)));
        assert_eq!(end(7), Some((7, 44)));
        assert_eq!(end(9), Some((7, 44)));
        assert_eq!(LeaderEpochs::new().end_of(epoch(3), at(0)), None);
    }

    #[test]
    fn truncation_drops_an_epoch_without_records() {
        let mut cache = epochs(&[(1, 0), (2, 10)]);
        assert!(!cache.truncate_to(at(11)));
        assert!(cache.truncate_to(at(10)));
        assert_eq!(cache.latest(), Some(epoch(1)));
        assert!(cache.truncate_to(at(0)));
        assert_eq!(cache.latest(), None);
    }

    #[test]
    fn the_covering_epoch_moves_with_the_log_start() {
        let mut cache = epochs(&[(1, 0), (2, 10), (3, 20)]);
        assert!(!cache.advance_start(at(0)));
        assert!(cache.advance_start(at(15)));
        assert_eq!(cache, epochs(&[(2, 15), (3, 20)]));
        assert!(cache.advance_start(at(20)));
        assert_eq!(cache, epochs(&[(3, 20)]));
        assert!(cache.advance_start(at(99)));
        assert_eq!(cache, epochs(&[(3, 99)]));
        assert!(!epochs(&[(3, 20)]).advance_start(at(5)));
    }

    #[test]
    fn lists_that_do_not_increase_are_refused() {
        for list in [[(1, 0), (1, 5)], [(2, 0), (1, 5)], [(1, 5), (2, 5)], [(1, 5), (2, 4)]] {
            let entries = list.iter().map(|(e, s)| (epoch(*e), at(*s))).collect();
            assert!(LeaderEpochs::from_entries(entries).is_err());
        }
    }

    /// What a log would say of itself: the epoch of each record, by offset.
    #[derive(Default)]
    struct Log {
        start: u64,
        epochs: Vec<u32>,
    }

    impl Log {
        fn end(&self) -> u64 {
            self.start + self.epochs.len() as u64
        }

        fn scan(&self) -> LeaderEpochs {
            let mut cache = LeaderEpochs::new();
            for (i, value) in self.epochs.iter().enumerate() {
                cache.assign(epoch(*value), at(self.start + i as u64)).unwrap();
            }
            cache
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Append { raise: u32, records: usize },
        Truncate { keep: u64 },
        Advance { by: u64 },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0u32..3, 1usize..5).prop_map(|(raise, records)| Step::Append { raise, records }),
            (0u64..12).prop_map(|keep| Step::Truncate { keep }),
            (0u64..6).prop_map(|by| Step::Advance { by }),
        ]
    }

    proptest! {
        #![proptest_config(crate::testing::same_every_run())]

        /// The cache equals a full scan of the log after any appends, truncations and moves of the log start (I8),
        /// except for the last epoch of a log that was emptied from its start, which it remembers.
        #[test]
        fn the_cache_equals_a_scan(steps in prop::collection::vec(step(), 1..40)) {
            let (mut log, mut cache, mut current) = (Log::default(), LeaderEpochs::new(), 0);
            for step in steps {
                match step {
                    Step::Append { raise, records } => {
                        current += raise;
                        cache.assign(epoch(current), at(log.end())).unwrap();
                        log.epochs.extend(std::iter::repeat_n(current, records));
                    }
                    Step::Truncate { keep } => {
                        log.epochs.truncate(keep as usize);
                        cache.truncate_to(at(log.end()));
                    }
                    Step::Advance { by } => {
                        let by = by.min(log.epochs.len() as u64);
                        log.start += by;
                        log.epochs.drain(..by as usize);
                        cache.advance_start(at(log.start));
                    }
                }
                if log.epochs.is_empty() {
                    prop_assert!(cache.entries().len() <= 1);
                } else {
                    prop_assert_eq!(&cache, &log.scan());
                    for (i, value) in log.epochs.iter().enumerate() {
                        prop_assert_eq!(cache.epoch_of(at(log.start + i as u64)), Some(epoch(*value)));
                    }
                }
                for asked in 0..=current {
                    let last = log.epochs.iter().rposition(|value| *value <= asked);
                    if let (Some(last), Some(found)) = (last, cache.end_of(epoch(asked), at(log.end()))) {
                        prop_assert_eq!(found.end, at(log.start + last as u64 + 1));
                        prop_assert_eq!(found.epoch, epoch(log.epochs[last]));
                    }
                }
            }
        }
    }
}
