//! Making a log shorter: at its end (truncation), at its start, or altogether.
//!
//! Each is durable when it returns, so that no crash brings back what is gone. Knows nothing of why.

use std::sync::{Arc, PoisonError};

use vltava_model::batch::BatchHeader;
use vltava_model::seeded::{SeededBug, seeded};
use vltava_model::{LeaderEpoch, Offset};

use super::cuts::Cut;
use super::error::LogError;
use super::home::FileKind;
use super::log::Log;
use super::producer_snapshot;
use super::producers::Producers;
use super::reader::View;
use super::scan::{Scanned, Scanner};
use super::segment::{Segment, remove_files};
use super::state_file::{self, LogState, Phase};

impl Log {
    /// Removes every batch that holds `offset` or later ones, and every leader epoch that begins there or later, durably.
    /// Returns the new end, which is below `offset` when that lay within a batch; it is the recovery point from then on, which
    /// the owner persists some time. Where the log is not that long, only epochs go.
    ///
    /// `epoch` is the leader epoch in which this is done: everything handed to the journal in it so far must be of the
    /// log that stays.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn truncate_to(
        &mut self,
        offset: Offset,
        epoch: LeaderEpoch,
        now_ms: i64,
    ) -> Result<Offset, LogError> {
        if offset >= self.log_end() {
            return self.change(|log| {
                log.epochs.truncate_to(offset);
                log.cuts.done_in(epoch);
                log.active().note_cuts(&log.cuts)?;
                let end = log.log_end();
                log.sync_what_is_left(end)?;
                Ok(end)
            });
        }
        if offset < self.log_start() {
            self.delete_all_and_start_at(offset, epoch)?;
            return Ok(offset);
        }
        self.change(|log| log.truncate_within(offset, epoch, now_ms))
    }

    fn truncate_within(
        &mut self,
        offset: Offset,
        epoch: LeaderEpoch,
        now_ms: i64,
    ) -> Result<Offset, LogError> {
        let view = self.shared.view.load_full();
        // The last one whose base is not above, so that a segment which begins there is kept, empty.
        let Some(at) = view.position_of(offset) else { unreachable!("a segment holds the log's start") };
        let segment = view.segments[at].clone();
        let batches = segment.ordinal_of(offset)?;
        self.cut_count += 1;
        self.advances_since_cut = 0;
        if view.segments[at + 1..].iter().any(|gone| gone.is_on_disk()) {
            // As long as one of them is there, a start looks for the note there.
            let mut cuts = self.cuts.clone();
            cuts.push(Cut::new(segment.end_after(batches)?, epoch));
            self.state.cuts = cuts;
            state_file::write(&self.home, &self.state)?;
        }
        let gate = self.shared.gate.write().unwrap_or_else(PoisonError::into_inner);
        let end = segment.truncate(batches, &mut self.cuts, epoch, now_ms)?;
        let kept = view.segments[..=at].to_vec();
        self.shared.view.store(Arc::new(View { log_start: view.log_start, segments: kept }));
        self.shared.tail().truncate_to(end);
        drop(gate);
        // From the end backwards and durable one by one, so that a crash leaves no gap.
        for gone in view.segments[at + 1..].iter().rev().filter(|gone| gone.is_on_disk()) {
            remove_files(&self.home, gone.base())?;
            self.home.storage.sync_dir(&self.home.dir)?;
        }
        if end < self.state.log_start {
            // The log's start lay within the batch that was cut.
            let log_start = self.state.log_start;
            self.empty(log_start, epoch)?;
            return Ok(log_start);
        }
        self.recovery_point = self.recovery_point.min(end);
        self.epochs.truncate_to(end);
        self.drop_snapshots_after(end)?;
        self.producers = self.producers_at(end, now_ms)?;
        self.sync_what_is_left(end)?;
        Ok(end)
    }

    /// What the journal will have synced of the log before the cut it tells nobody: without a recovery point of its own, what
    /// is left would never be known to be durable, and damage to it would pass for the end of what was.
    fn sync_what_is_left(&mut self, end: Offset) -> Result<(), LogError> {
        for file in &self.sync_point()?.files {
            file.sync_data()?;
        }
        self.save_epochs(end)?;
        self.recovery_point = end;
        Ok(())
    }

    fn drop_snapshots_after(&mut self, end: Offset) -> Result<(), LogError> {
        self.good_snapshot = self.good_snapshot.filter(|offset| *offset <= end);
        while let Some(offset) = self.snapshots.pop_if(|offset| *offset > end) {
            self.home.storage.remove(&self.home.path(offset, FileKind::Snapshot))?;
        }
        Ok(())
    }

    /// The producers as of `end`, from the newest snapshot and the batches behind it.
    fn producers_at(&self, end: Offset, now_ms: i64) -> Result<Producers, LogError> {
        let mut found = None;
        for offset in self.snapshots.iter().rev().filter(|offset| **offset <= end) {
            if let Some(producers) = producer_snapshot::read(&self.home, *offset)? {
                found = Some((*offset, producers));
                break;
            }
        }
        let (from, mut producers) = found.unwrap_or((Offset::ZERO, Producers::new()));
        let from = from.max(self.state.log_start);
        self.each_batch(from, end, |header| producers.update(header, now_ms))?;
        Ok(producers)
    }

    /// Visits the headers of all batches that hold offsets from `from` up to `end`.
    fn each_batch(
        &self,
        from: Offset,
        end: Offset,
        mut visit: impl FnMut(&BatchHeader),
    ) -> Result<(), LogError> {
        let view = self.shared.view.load_full();
        let mut next = from;
        while next < end {
            let Some(at) = view.position_of(next) else { unreachable!("a segment holds the log's start") };
            let segment = &view.segments[at];
            let Some(span) = segment.locate(next, 1, end)? else { break };
            let mut scanner = Scanner::new(segment.files()?.log.clone(), 0)?;
            scanner.pass(u64::from(span.position));
            let stop = segment.extent()?.end.min(end);
            while next < stop {
                let Scanned::Batch(batch) = scanner.peek()? else {
                    let reason = "the batch's checksum or form is wrong";
                    return Err(segment.damage(FileKind::Log, scanner.position(), next, reason).into());
                };
                visit(batch.header());
                next = batch.header().end_offset();
                scanner.pass(batch.bytes().len() as u64);
            }
        }
        Ok(())
    }

    /// Makes `offset` the log's first one, durably; what lies below goes with the next [`Self::retention`]. Does nothing
    /// when the log begins there already, or later.
    ///
    /// # Panics
    /// When `offset` is above the log's end: it is to be at most the high watermark.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn advance_log_start(&mut self, offset: Offset) -> Result<(), LogError> {
        assert!(offset <= self.log_end(), "the log's start cannot pass its end");
        if offset <= self.state.log_start {
            return Ok(());
        }
        self.change(|log| log.set_log_start(offset, log.shared.view.load_full().segments.clone()))
    }

    /// Lets the log begin at `offset` and consist of `segments`, durably.
    pub(super) fn set_log_start(
        &mut self,
        offset: Offset,
        segments: Vec<Arc<Segment>>,
    ) -> Result<(), LogError> {
        // The segment with the note of the last cuts may be about to go.
        if offset > self.state.log_start || self.state.cuts != self.cuts {
            self.state.log_start = offset;
            self.state.cuts = self.cuts.clone();
            if !seeded(SeededBug::ForgetsLogStart) {
                state_file::write(&self.home, &self.state)?;
            }
            self.epochs.advance_start(offset);
        }
        self.shared.view.store(Arc::new(View { log_start: self.state.log_start, segments }));
        Ok(())
    }

    /// Removes everything, durably, and lets the log begin anew, empty, at `offset`: for a follower whose leader's log
    /// begins behind what this one has. `epoch` is as for [`Self::truncate_to`].
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn delete_all_and_start_at(&mut self, offset: Offset, epoch: LeaderEpoch) -> Result<(), LogError> {
        self.change(|log| log.empty(offset, epoch))
    }

    fn empty(&mut self, offset: Offset, epoch: LeaderEpoch) -> Result<(), LogError> {
        self.cut_count += 1;
        self.advances_since_cut = 0;
        self.cuts.push(Cut::new(offset, epoch));
        self.state = LogState { log_start: offset, cuts: self.cuts.clone(), phase: Phase::Emptying };
        state_file::write(&self.home, &self.state)?;
        let old = self.shared.view.load_full();
        let segments = vec![Arc::new(Segment::fresh(self.home.clone(), offset))];
        self.shared.view.store(Arc::new(View { log_start: offset, segments }));
        self.shared.tail().clear();
        self.wait_for_readers();
        for gone in old.segments.iter().rev().filter(|gone| gone.is_on_disk()) {
            remove_files(&self.home, gone.base())?;
        }
        self.good_snapshot = None;
        for snapshot in self.snapshots.drain(..) {
            self.home.storage.remove(&self.home.path(snapshot, FileKind::Snapshot))?;
        }
        self.home.storage.sync_dir(&self.home.dir)?;
        self.epochs.truncate_to(Offset::ZERO);
        self.producers = Producers::new();
        self.recovery_point = offset;
        // Those of records that are gone must not be held against what comes.
        self.save_epochs(Offset::MAX)?;
        self.state.phase = Phase::Normal;
        Ok(state_file::write(&self.home, &self.state)?)
    }

    /// Returns when no reader uses a view that was replaced before the call.
    pub(super) fn wait_for_readers(&self) {
        drop(self.shared.gate.write().unwrap_or_else(PoisonError::into_inner));
    }
}
