//! The offsets of one log, and what each change of the log does to them.
//!
//! Knows no roles: who may move what is decided elsewhere.

use vltava_model::epochs::LeaderEpochs;
use vltava_model::seeded::{SeededBug, seeded};
use vltava_model::{LeaderEpoch, Offset};

use crate::event::{Durability, LocalLog};

/// The offsets of one log, in their order.
///
/// ```text
///   log_start ────► high_watermark ────► log_end
///                                          ▲
///                   durable_end ───────────┘  (below, at or above the watermark)
///
///   [log_start, high_watermark)   committed: what consumers may read
///   [high_watermark, log_end)     appended, may yet be cut off
///   [.., durable_end)             on stable storage
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offsets {
    /// The first offset.
    pub log_start: Offset,
    /// One past the last offset that is known to be committed.
    pub high_watermark: Offset,
    /// One past the last offset.
    pub log_end: Offset,
    /// Everything below is on stable storage.
    pub durable_end: Offset,
}

impl Offsets {
    /// # Panics
    /// When the chain is broken: a bug of this crate, or of a caller that moved the log start above the watermark.
    pub(crate) fn check(&self) {
        assert!(
            self.log_start <= self.high_watermark
                && self.high_watermark <= self.log_end
                && self.durable_end <= self.log_end,
            "offsets out of order: {self:?}"
        );
    }

    /// Up to where this log counts as replicated.
    pub(crate) fn replicated(&self, durability: Durability) -> Offset {
        match durability {
            Durability::Synced if !seeded(SeededBug::AcksBeforeSync) => self.durable_end,
            Durability::Synced | Durability::Relaxed => self.log_end,
        }
    }
}

/// A log end, and after how many truncations it was one: so that "durable up to" cannot be taken for other records that
/// were written at the same offsets since.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogPosition {
    pub(crate) generation: u64,
    pub(crate) end: Offset,
}

impl LogPosition {
    /// The log end.
    pub const fn end(self) -> Offset {
        self.end
    }
}

/// One replica's log without its bytes.
#[derive(Clone, Debug)]
pub(crate) struct LogState {
    offsets: Offsets,
    epochs: LeaderEpochs,
    generation: u64,
}

impl LogState {
    pub(crate) fn open(log: LocalLog) -> Self {
        let log_end = log.log_end.max(log.log_start);
        let offsets = Offsets {
            log_start: log.log_start,
            high_watermark: log.high_watermark.clamp(log.log_start, log_end),
            log_end,
            durable_end: log.durable_end.min(log_end),
        };
        Self { offsets, epochs: log.epochs, generation: 0 }
    }

    /// The log turned out to be another than was thought.
    pub(crate) fn reopen(&mut self, log: LocalLog) {
        let log = LocalLog { high_watermark: self.offsets.high_watermark, ..log };
        *self = Self { generation: self.generation + 1, ..Self::open(log) };
    }

    pub(crate) fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    pub(crate) fn epochs(&self) -> &LeaderEpochs {
        &self.epochs
    }

    pub(crate) fn position(&self) -> LogPosition {
        LogPosition { generation: self.generation, end: self.offsets.log_end }
    }

    /// A leadership begins at the log end.
    pub(crate) fn begin_epoch(&mut self, epoch: LeaderEpoch) {
        let begun = self.epochs.assign(epoch, self.offsets.log_end);
        assert!(begun.is_ok(), "the log holds a newer epoch than {epoch}: {:?}", self.epochs);
    }

    /// Batches follow that begin at these offsets with these epochs; `false` (and nothing changed) when an epoch goes back.
    pub(crate) fn append(&mut self, epochs: &[(LeaderEpoch, Offset)], end: Offset) -> bool {
        assert!(end > self.offsets.log_end, "an append must move the log end");
        let known = self.epochs.latest().into_iter();
        if !known.chain(epochs.iter().map(|(epoch, _)| *epoch)).is_sorted() {
            return false;
        }
        for (epoch, start) in epochs {
            let assigned = self.epochs.assign(*epoch, *start);
            assert!(assigned.is_ok(), "{assigned:?} though epochs are sorted and begin at the log end");
        }
        self.offsets.log_end = end;
        true
    }

    /// The leader's own records follow, in the epoch that began last.
    pub(crate) fn extend(&mut self, end: Offset) {
        assert!(end > self.offsets.log_end, "an append must move the log end");
        self.offsets.log_end = end;
    }

    pub(crate) fn truncate(&mut self, to: Offset) {
        let offsets = &mut self.offsets;
        assert!(offsets.log_start <= to && to <= offsets.log_end, "cannot cut at {to}: {offsets:?}");
        offsets.log_end = to;
        offsets.high_watermark = offsets.high_watermark.min(to);
        offsets.durable_end = offsets.durable_end.min(to);
        self.epochs.truncate_to(to);
        self.generation += 1;
    }

    /// Everything is dropped. The new beginning is not on stable storage yet: until it is, a crash brings the old log back.
    pub(crate) fn start_at(&mut self, offset: Offset) {
        let durable_end = self.offsets.durable_end.min(offset);
        self.offsets = Offsets { log_start: offset, high_watermark: offset, log_end: offset, durable_end };
        self.epochs = LeaderEpochs::new();
        self.generation += 1;
    }

    /// `false` when nothing new was said: what was synced was cut off since.
    pub(crate) fn durable(&mut self, up_to: LogPosition) -> bool {
        let is_of_this_log =
            up_to.generation == self.generation || seeded(SeededBug::TrustsSyncsOfCutRecords);
        if !is_of_this_log || up_to.end <= self.offsets.durable_end {
            return false;
        }
        assert!(up_to.end <= self.offsets.log_end, "more was synced than appended: {up_to:?}");
        self.offsets.durable_end = up_to.end;
        true
    }

    /// Raises the watermark, never above the log end; lower values say nothing.
    pub(crate) fn raise_watermark(&mut self, to: Offset) {
        let to = to.min(self.offsets.log_end);
        self.offsets.high_watermark = self.offsets.high_watermark.max(to);
    }

    /// Moves the log start, never back.
    pub(crate) fn advance_start(&mut self, to: Offset) {
        if to > self.offsets.log_start {
            assert!(
                to <= self.offsets.high_watermark,
                "uncommitted records deleted below {to}: {:?}",
                self.offsets
            );
            self.offsets.log_start = to;
            self.epochs.advance_start(to);
        }
    }
}
