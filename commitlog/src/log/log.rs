//! The log as its owner holds it: opening, what it knows, what makes it durable, closing.
//!
//! Knows nothing of how a batch is appended (`append`), a log is cut (`cut`) or old segments go (`retention`).

use std::path::PathBuf;
use std::sync::Arc;

use vltava_model::epochs::LeaderEpochs;
use vltava_model::{LeaderEpoch, Offset, TopicPartition};

use super::config::{LogConfig, millis};
use super::cuts::Cuts;
use super::error::{LogError, is_disk_full};
use super::home::{FileKind, Home};
use super::kept_frames;
use super::producers::Producers;
use super::reader::{LogReader, Shared, View};
use super::recovery::{RecoveryError, RecoveryInput, RecoveryReport, recover};
use super::segment::{Extent, Segment};
use super::state_file::{self, LogState};
use super::tail::{Tail, TailBudget};
use super::{leader_epoch_file, producer_snapshot};
use vltava_storage::{FilePool, StorageFile};

/// Where a log lives and whose it is.
#[derive(Clone)]
pub struct LogPlace {
    /// The disk, and the few files of many logs that are open on it.
    pub files: FilePool,
    /// The log's own directory; created if it is not there.
    pub dir: PathBuf,
    /// Whose records it holds: files of another partition are taken for damaged.
    pub partition: TopicPartition,
    /// The topic's name, for messages to people only.
    pub topic_name: String,
    /// The memory that the newest batches of all logs share.
    pub tail_budget: TailBudget,
}

/// What is to be synced so that everything below an offset is on stable storage in the segments.
#[derive(Clone)]
pub struct SyncPoint {
    /// Sync each of them, on any thread.
    pub files: Vec<Arc<dyn StorageFile>>,
    /// Then pass this to [`Log::advance_recovery_point`].
    pub up_to: Offset,
    /// How often the log had been cut.
    pub(crate) cut_count: u64,
}

/// One partition's log. See the module.
pub struct Log {
    pub(super) home: Arc<Home>,
    pub(super) config: LogConfig,
    pub(super) shared: Arc<Shared>,
    pub(super) epochs: LeaderEpochs,
    /// What the epochs' file says.
    saved_epochs: LeaderEpochs,
    pub(super) producers: Producers,
    /// The offsets of the producer snapshots on disk, ascending.
    pub(super) snapshots: Vec<Offset>,
    /// The newest one that is known to be good.
    pub(super) good_snapshot: Option<Offset>,
    pub(super) state: LogState,
    pub(super) recovery_point: Offset,
    /// Where the log was cut lately: goes into new side files.
    pub(super) cuts: Cuts,
    /// How often the recovery point has been advanced since.
    pub(super) advances_since_cut: u32,
    pub(super) cut_count: u64,
    /// Whether frames are kept beside it that it holds by now, not synced yet.
    has_kept_frames: bool,
    pub(super) is_failed: bool,
    report: RecoveryReport,
}

impl Log {
    /// Opens a log, repairing it from what the journal holds. A log that was closed cleanly costs a few small reads.
    ///
    /// What recovery repaired is synced, what it found whole may not be: keep the journal's frames until a [`SyncPoint`] has
    /// been, and append nothing before that unless [`Self::is_kept_by_journal`]. When the log is damaged, and may be restored later, keep the frames beside it
    /// ([`super::keep_frames`]).
    ///
    /// # Errors
    /// See [`RecoveryError`].
    pub fn open(place: LogPlace, config: LogConfig, input: RecoveryInput) -> Result<Self, RecoveryError> {
        let tail = Tail::new(place.tail_budget.clone(), config.tail_bytes_max);
        let home = Arc::new(Home::new(place, config.index_interval_bytes));
        let kept = kept_frames::load(&home)?;
        let has_kept_frames = !kept.is_empty();
        let found = recover(&home, &config, input.behind(kept))?;
        let view = View { log_start: found.state.log_start, segments: found.segments };
        Ok(Self {
            shared: Shared::new(home.clone(), view, tail),
            home,
            config,
            epochs: found.epochs,
            saved_epochs: found.saved_epochs,
            producers: found.producers,
            snapshots: found.snapshots,
            good_snapshot: found.good_snapshot,
            state: found.state,
            recovery_point: found.recovery_point,
            cuts: found.cuts,
            advances_since_cut: 0,
            cut_count: 0,
            has_kept_frames,
            is_failed: false,
            report: found.report,
        })
    }

    /// A handle for reading, on any thread.
    pub fn reader(&self) -> LogReader {
        LogReader::new(self.shared.clone())
    }

    /// Whose records these are.
    pub fn partition(&self) -> TopicPartition {
        self.home.partition
    }

    /// What opening had to do.
    pub fn recovery_report(&self) -> &RecoveryReport {
        &self.report
    }

    /// Whether it must be synced before anything is appended: it was damaged, and holds frames that were kept beside it.
    pub fn has_kept_frames(&self) -> bool {
        self.has_kept_frames
    }

    /// Whether all that it holds is on stable storage in the segments or in the journal, which has to keep it then until
    /// what is above the recovery point is synced. Good for a log that was just opened.
    pub fn is_kept_by_journal(&self) -> bool {
        let RecoveryReport { scanned_bytes: _, rewritten_bytes, unproven_bytes, cut } = &self.report;
        *rewritten_bytes == 0 && *unproven_bytes == 0 && cut.is_none() && !self.has_kept_frames
    }

    /// The settings in force.
    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// Changes the settings; they hold from the next append or retention on.
    pub fn configure(&mut self, config: LogConfig) {
        self.shared.tail().set_bytes_max(config.tail_bytes_max);
        self.config = config;
    }

    /// The first offset that can be read.
    pub fn log_start(&self) -> Offset {
        self.state.log_start
    }

    /// The offset that the next record gets.
    pub fn log_end(&self) -> Offset {
        self.active_extent().end
    }

    /// Everything below is on stable storage in the segments; the owner keeps this where [`RecoveryInput`] comes from.
    pub fn recovery_point(&self) -> Offset {
        self.recovery_point
    }

    /// Where each leader epoch begins.
    pub fn epochs(&self) -> &LeaderEpochs {
        &self.epochs
    }

    /// What is known of idempotent producers.
    pub fn producers(&self) -> &Producers {
        &self.producers
    }

    /// Forgets the producers that have not written for as long as the settings say.
    pub fn expire_producers(&mut self, now_ms: i64) {
        self.producers.expire(now_ms.saturating_sub(millis(self.config.producer_expiration)));
    }

    /// How many bytes the segments have; of those not used since the log was opened, this opens them.
    ///
    /// # Errors
    /// When a segment cannot be looked at.
    pub fn size_bytes(&self) -> Result<u64, LogError> {
        let mut bytes = 0;
        for segment in &self.shared.view.load().segments {
            bytes += u64::from(segment.extent()?.bytes);
        }
        Ok(bytes)
    }

    /// Notes that a leader epoch begins here; for a new leader, before it writes anything.
    ///
    /// # Panics
    /// When the epoch is older than one in the log, or `start` is not the log's end: the owner's own mistake.
    pub fn assign_epoch(&mut self, epoch: LeaderEpoch, start: Offset) {
        assert_eq!(start, self.log_end(), "an epoch begins at the log's end");
        if let Err(error) = self.epochs.assign(epoch, start) {
            panic!("a leader's epoch is newer than all before: {error}");
        }
    }

    /// Gives back the memory that keeps the newest batches.
    pub fn trim_tail(&self) {
        self.shared.tail().clear();
    }

    /// Drops what can be loaded again; for a log that is idle. Its files are closed when others have to be opened.
    pub fn release(&self) {
        self.trim_tail();
        for segment in &self.shared.view.load().segments {
            segment.release();
        }
    }

    pub(super) fn active(&self) -> Arc<Segment> {
        self.shared.view.load().active().clone()
    }

    pub(super) fn active_extent(&self) -> Extent {
        match self.shared.view.load().active().extent() {
            Ok(extent) => extent,
            Err(_) => {
                unreachable!("the active segment's extent is never loaded: recovery or the writer set it")
            }
        }
    }

    /// Runs a change; an error makes it the last one.
    pub(super) fn change<R>(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<R, LogError>,
    ) -> Result<R, LogError> {
        if self.is_failed {
            return Err(LogError::FailedBefore);
        }
        let result = change(self);
        self.is_failed |= result.is_err();
        result
    }
}

/// Durability.
impl Log {
    /// What is to be synced so that everything up to the log's end is on stable storage.
    ///
    /// # Errors
    /// When a file cannot be opened.
    pub fn sync_point(&mut self) -> Result<SyncPoint, LogError> {
        self.change(|log| {
            let view = log.shared.view.load();
            let mut files: Vec<Arc<dyn StorageFile>> = Vec::new();
            for segment in &view.segments {
                // Sealed segments below are not even opened.
                let is_below = view
                    .segments
                    .iter()
                    .any(|next| next.base() > segment.base() && next.base() <= log.recovery_point);
                if !is_below && segment.is_on_disk() && segment.extent()?.end > log.recovery_point {
                    files.push(segment.files()?);
                }
            }
            Ok(SyncPoint { files, up_to: view.active().extent()?.end, cut_count: log.cut_count })
        })
    }

    /// Moves the recovery point to where a [`SyncPoint`] led; ignored if the log was cut since.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn synced(&mut self, point: &SyncPoint) -> Result<(), LogError> {
        if point.cut_count != self.cut_count {
            return Ok(());
        }
        self.advance_recovery_point(point.up_to)
    }

    /// Everything below `to` is on stable storage in the segments: moves the recovery point there (to the log's end if
    /// that is less), and saves what recovery will need from there on.
    ///
    /// The owner persists [`Self::recovery_point`] after each call and before the next.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn advance_recovery_point(&mut self, to: Offset) -> Result<(), LogError> {
        self.change(|log| {
            let end = log.log_end();
            let to = to.min(end);
            if to > log.recovery_point {
                log.save_epochs(to)?;
                log.recovery_point = to;
            }
            if log.has_kept_frames && to == end {
                kept_frames::forget(&log.home)?;
                log.has_kept_frames = false;
            }
            if log.good_snapshot != Some(end) {
                log.save_producers(end)?;
            }
            log.forget_cut()
        })
    }

    /// Whether advancing the recovery point to `to` waits for the disk: the epochs' file is to be written, once for each new
    /// epoch.
    pub fn would_save_epochs(&self, to: Offset) -> bool {
        let to = to.min(self.log_end());
        to > self.recovery_point && self.unsaved_epochs(to)
    }

    fn unsaved_epochs(&self, to: Offset) -> bool {
        let (mut saved, mut epochs) = (self.saved_epochs.clone(), self.epochs.clone());
        saved.advance_start(self.state.log_start);
        saved.truncate_to(to);
        epochs.truncate_to(to);
        saved != epochs
    }

    /// Saves the epochs, unless what is saved says the same about everything below `to`.
    pub(super) fn save_epochs(&mut self, to: Offset) -> Result<(), LogError> {
        if self.unsaved_epochs(to) {
            leader_epoch_file::write(&self.home, &self.epochs)?;
            self.saved_epochs = self.epochs.clone();
        }
        Ok(())
    }

    /// Writes the producers' state as of the log's end, and removes the snapshots that nobody needs any more. A full
    /// disk is no reason to fail: a snapshot only saves time.
    pub(super) fn save_producers(&mut self, end: Offset) -> Result<(), LogError> {
        match producer_snapshot::write(&self.home, end, &self.producers) {
            Err(error) if is_disk_full(&error) => return Ok(()),
            written => written?,
        }
        self.good_snapshot = Some(end);
        if self.snapshots.last() != Some(&end) {
            self.snapshots.push(end);
        }
        let newest_usable = self.snapshots.iter().rfind(|offset| **offset <= self.recovery_point).copied();
        let view = self.shared.view.load();
        let is_base =
            |offset: &Offset| view.segments.binary_search_by_key(offset, |segment| segment.base()).is_ok();
        let keep = |offset: &Offset| Some(*offset) >= newest_usable || is_base(offset);
        let (kept, dropped): (Vec<Offset>, Vec<Offset>) =
            self.snapshots.iter().partition(|offset| keep(offset));
        self.snapshots = kept;
        for offset in dropped {
            self.home.storage.remove(&self.home.path(offset, FileKind::Snapshot))?;
        }
        Ok(())
    }

    /// Whether a claim about what is synced may be left from before a cut: then [`Self::recovery_point`] is to be persisted
    /// before it moves again.
    pub fn remembers_cuts(&self) -> bool {
        !self.cuts.is_empty()
    }

    /// The owner has persisted `point`. Where that is still the recovery point, no claim is left from before a cut, and this one
    /// is believed from now on, though the log may be idle and the cut not be forgotten for long.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn recovery_point_saved(&mut self, point: Offset) -> Result<(), LogError> {
        if point != self.recovery_point || !self.cuts.claims_followed() {
            return Ok(());
        }
        self.change(|log| {
            log.active().note_cuts(&log.cuts)?;
            if !log.state.cuts.is_empty() && !log.active().is_on_disk() {
                log.state.cuts = log.cuts.clone();
                state_file::write(&log.home, &log.state)?;
            }
            Ok(())
        })
    }

    /// A cut need not be remembered once every claim about what is synced is known to be from after it: at the second
    /// advance, since the owner has persisted what the first one gave.
    fn forget_cut(&mut self) -> Result<(), LogError> {
        if self.cuts.is_empty() {
            return Ok(());
        }
        self.advances_since_cut += 1;
        if self.advances_since_cut < 2 {
            return Ok(());
        }
        self.cuts.clear();
        self.active().note_cuts(&self.cuts)?;
        if !self.state.cuts.is_empty() {
            self.state.cuts.clear();
            state_file::write(&self.home, &self.state)?;
        }
        Ok(())
    }

    /// Syncs everything and saves what makes the next opening cheap. Returns the recovery point, the log's end, which the
    /// owner persists together with the proof that all was closed cleanly.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn close_clean(mut self) -> Result<Offset, LogError> {
        let point = self.sync_point()?;
        self.change(|log| {
            for file in &point.files {
                file.sync_data()?;
            }
            log.save_epochs(Offset::MAX)?;
            Ok(())
        })?;
        self.synced(&point)?;
        Ok(self.recovery_point)
    }
}
