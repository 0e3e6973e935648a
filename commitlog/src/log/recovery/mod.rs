//! How a log comes back when it is opened: what may be torn is read and checked, and the journal's frames are applied.
//!
//! Three kinds of bytes. Below what is known to be synced everything must be there: damage is an error, never cut away
//! in silence. What a journal frame holds must be there too, and is written if it is not. Behind that, whatever is
//! whole and follows stays, and the first thing that is not ends the log. Sealed segments below are not even opened.
//!
//! - `inventory`: the files of a log's directory.  - `walk`: goes through the batches from the recovery point on.
//! - this file: where to begin, and what the log is afterwards. Knows nothing of leaders and followers.

mod inventory;
mod walk;

use std::io;
use std::sync::Arc;

use vltava_model::epochs::LeaderEpochs;
use vltava_model::seeded::{SeededBug, seeded};
use vltava_model::{LeaderEpoch, Offset};

use super::config::LogConfig;
use super::cuts::{Cut, Cuts};
use super::damage::{Damage, SegmentError};
use super::home::{FileKind, Home};
use super::producers::Producers;
use super::replay::Plan;
use super::segment::{Segment, remove_files};
use super::state_file::{self, LogState, Phase};
use super::{leader_epoch_file, producer_snapshot};
use crate::durability::RecoveredFrame;
use inventory::Inventory;
use walk::{Known, Proven, TornEnd, Walk};

/// What is known from elsewhere when a log is opened.
#[derive(Debug, Clone, Default)]
pub struct RecoveryInput {
    /// Below this, all was synced, as the log said when asked last: 0 if it was never asked. `None` when that is not
    /// known any more: then all is read, and a torn end counts as damage, since it may have been synced.
    pub recovery_point: Option<Offset>,
    /// What the journal holds of this log, in order.
    pub frames: Vec<RecoveredFrame>,
    /// The log was closed by [`super::Log::close_clean`], and nothing has been written since.
    pub clean: bool,
    /// How much is read.
    pub scan: Scan,
    /// The time, in milliseconds since 1970.
    pub now_ms: i64,
}

impl RecoveryInput {
    /// The same with frames that come before the journal's.
    pub(crate) fn behind(mut self, mut earlier: Vec<RecoveredFrame>) -> Self {
        if !earlier.is_empty() {
            earlier.append(&mut self.frames);
            self.frames = earlier;
            self.clean = false;
        }
        self
    }
}

/// How much of a log is read and checked when it is opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scan {
    /// What may be torn.
    #[default]
    Needed,
    /// Every batch: the log was damaged, and is said to have been restored.
    All,
}

/// What opening a log had to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// How many bytes of the log were read.
    pub scanned_bytes: u64,
    /// How many bytes were written because the journal had them and the segments had not.
    pub rewritten_bytes: u64,
    /// How many bytes of the log are whole, but not known to be on stable storage anywhere: not in the segments by a sync, and
    /// not in the journal.
    pub unproven_bytes: u64,
    /// Why the log ends where it does, if something stood behind that is no part of it.
    pub cut: Option<Damage>,
}

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// Something that was durable is gone or wrong: this replica is to be built anew from another.
    #[error(transparent)]
    Corrupt(#[from] Damage),
    /// The disk refused; the whole log directory is suspect.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<SegmentError> for RecoveryError {
    fn from(error: SegmentError) -> Self {
        match error {
            SegmentError::Damaged(damage) => Self::Corrupt(damage),
            SegmentError::Io(error) => Self::Io(error),
        }
    }
}

/// A log as recovery found or made it.
pub(crate) struct Recovered {
    /// Where the log begins, and what its state file says.
    pub state: LogState,
    /// At least one; the last one is the active one.
    pub segments: Vec<Arc<Segment>>,
    pub epochs: LeaderEpochs,
    /// What the epochs' file says.
    pub saved_epochs: LeaderEpochs,
    pub producers: Producers,
    /// The offsets of the producer snapshots on disk, ascending.
    pub snapshots: Vec<Offset>,
    /// The newest one that was read and is good.
    pub good_snapshot: Option<Offset>,
    pub recovery_point: Offset,
    /// Where the log was cut lately.
    pub cuts: Cuts,
    pub report: RecoveryReport,
}

/// Brings a log back.
pub(crate) fn recover(
    home: &Arc<Home>,
    config: &LogConfig,
    input: RecoveryInput,
) -> Result<Recovered, RecoveryError> {
    let mut inventory = match Inventory::of(home) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            home.storage.create_dir_all(&home.dir)?;
            Inventory::of(home)?
        }
        found => found?,
    };
    let state = state_file::read(home)?;
    if state.is_some() && !input.clean {
        // A process that was killed before it synced the name of this file, with a later start, has left it to the page cache.
        home.storage.sync_dir(&home.dir)?;
    }
    let mut state = state.unwrap_or_default();
    let mut cuts = inventory.last_cuts(home)?.merge(&state.cuts);
    let mut plan = Plan::of(&input.frames, &cuts).map_err(|_| frame_damage(home))?;
    plan.batches.retain(|_| !seeded(SeededBug::IgnoresJournalFrames));
    let is_void = plan.is_deleted || state.phase == Phase::Emptying;
    if is_void {
        empty(home, &mut inventory, &mut state, plan.is_deleted)?;
    }
    plan.batches.retain(|batch| batch.header().end_offset() > state.log_start);
    let is_later = plan.start.is_some_and(|start| start > state.log_start);
    if is_later || inventory.has_below(state.log_start) {
        // Frames are not kept for ever, nor is the segment with the note of the cuts.
        state.log_start = state.log_start.max(plan.start.unwrap_or_default());
        state.cuts = cuts.clone();
        state_file::write(home, &state)?;
    }
    inventory.remove_below(home, state.log_start)?;

    let recovery_point = match input.recovery_point {
        // A claim from a clean stop is newer than any cut.
        Some(claimed) if input.clean && plan.cut.is_none() => Some(claimed),
        claimed => claimed.map(|claimed| cuts.limit(claimed)),
    };
    let recovery_point = recovery_point.filter(|_| !is_void);
    let recovery_point = recovery_point.map(|point| plan.cut.map_or(point, |cut| point.min(cut.at)));
    // Where nobody knows, sealed segments count as synced: what is damaged in them must not be cut away in silence.
    let trusted = recovery_point.or(inventory.bases.last().copied()).max(plan.durable);
    let proven = match input.clean && input.frames.is_empty() {
        true => Proven::All,
        false => Proven::Below(recovery_point.max(plan.durable).unwrap_or_default()),
    };
    let saved = Saved::load(home, &inventory, state.log_start, (recovery_point, input.scan), &plan)?;
    let known = Known {
        trusted: trusted.unwrap_or_default(),
        proven,
        state: LogState { cuts: cuts.clone(), ..state.clone() },
        torn_end: if input.recovery_point.is_none() && !is_void { TornEnd::IsDamage } else { TornEnd::IsCut },
        segment_bytes: config.segment_bytes,
        now_ms: input.now_ms,
    };
    let mut walk = Walk::new(home.clone(), known, saved.epochs, saved.producers);
    walk.begin(&inventory.bases, saved.scan_from)?;
    walk.apply(plan.batches)?;
    let outcome = walk.finish(plan.cut.map(|cut| cut.at))?;
    if let Some(cut) = plan.cut {
        cuts.push(Cut::new(outcome.end.min(cut.at), cut.epoch));
        state.cuts = cuts.clone();
        state_file::write(home, &state)?;
    } else if outcome.is_noted {
        state.cuts = cuts.clone();
    }

    let mut epochs = outcome.epochs;
    // An epoch in which nothing was written stands at the log's end; no batch tells of it.
    if let Some((epoch, start)) = saved.at_end
        && input.clean
        && start == outcome.end
    {
        let _ = epochs.assign(epoch, start);
    }
    epochs.advance_start(state.log_start);
    inventory.remove_left_over(home, &outcome.segments, saved.scan_from)?;
    Ok(Recovered {
        state,
        segments: outcome.segments,
        saved_epochs: saved.on_disk.unwrap_or_default(),
        epochs,
        producers: outcome.producers,
        snapshots: inventory.snapshots,
        good_snapshot: saved.snapshot,
        recovery_point: recovery_point.unwrap_or_default().min(outcome.end),
        cuts,
        report: outcome.report,
    })
}

fn frame_damage(home: &Home) -> Damage {
    let reason = "a frame of the journal holds no whole batches";
    Damage { file: home.dir.clone(), position: 0, offset: Offset::ZERO, reason }
}

/// Finishes, or does, what [`super::Log::delete_all_and_start_at`] began.
fn empty(
    home: &Home,
    inventory: &mut Inventory,
    state: &mut LogState,
    is_deleted: bool,
) -> Result<(), RecoveryError> {
    inventory.remove_all(home)?;
    // Those of records that are gone must not be held against what comes.
    if leader_epoch_file::read(home)?.is_some_and(|saved| !saved.entries().is_empty()) {
        leader_epoch_file::write(home, &LeaderEpochs::new())?;
    }
    if is_deleted {
        *state = LogState::default();
    }
    state.phase = Phase::Normal;
    Ok(state_file::write(home, state)?)
}

/// What checkpoints say, and from where on the batches themselves have to be asked.
struct Saved {
    scan_from: Offset,
    epochs: LeaderEpochs,
    producers: Producers,
    /// The snapshot that they are from.
    snapshot: Option<Offset>,
    /// The newest epoch, if it begins at the recovery point.
    at_end: Option<(LeaderEpoch, Offset)>,
    on_disk: Option<LeaderEpochs>,
}

impl Saved {
    fn load(
        home: &Home,
        inventory: &Inventory,
        log_start: Offset,
        (recovery_point, scan): (Option<Offset>, Scan),
        plan: &Plan,
    ) -> Result<Self, RecoveryError> {
        let on_disk = leader_epoch_file::read(home)?;
        let mut epochs = on_disk.clone().unwrap_or_default();
        let at_end = epochs.entries().last().copied().filter(|(_, start)| Some(*start) == recovery_point);
        let first_base =
            inventory.bases.iter().rfind(|base| **base <= log_start).copied().unwrap_or(log_start);
        let first_frame = plan.batches.first().map(|batch| batch.header().base_offset);
        let limit = recovery_point.filter(|point| *point >= log_start && scan == Scan::Needed);
        let limit = limit.map(|point| first_frame.map_or(point, |first| point.min(first)));
        if let Some(limit) = limit
            && let Some((snapshot, producers)) = newest_snapshot(home, inventory, limit)?
        {
            let scan_from = snapshot.max(log_start).min(limit);
            if !seeded(SeededBug::TrustsOldEpochFile) {
                epochs.truncate_to(scan_from);
            }
            // Epochs that do not reach down to the start are not those of this log: ask the batches.
            if scan_from <= log_start || epochs.epoch_of(log_start).is_some() {
                return Ok(Self { scan_from, epochs, producers, snapshot: Some(snapshot), at_end, on_disk });
            }
        }
        let (snapshot, producers) = newest_snapshot(home, inventory, first_base)?.unzip();
        let (producers, epochs) = (producers.unwrap_or_default(), LeaderEpochs::new());
        Ok(Self { scan_from: first_base, epochs, producers, snapshot, at_end, on_disk })
    }
}

/// The newest undamaged snapshot that is not after `limit`.
fn newest_snapshot(
    home: &Home,
    inventory: &Inventory,
    limit: Offset,
) -> io::Result<Option<(Offset, Producers)>> {
    for offset in inventory.snapshots.iter().rev().filter(|offset| **offset <= limit) {
        if let Some(producers) = producer_snapshot::read(home, *offset)? {
            return Ok(Some((*offset, producers)));
        }
    }
    Ok(None)
}

/// The file that damage at the end of a log is reported for.
fn log_file(home: &Home, base: Offset) -> std::path::PathBuf {
    home.path(base, FileKind::Log)
}

/// Removes a segment that is no part of the log, on disk at once, so that a crash leaves no gap.
fn remove_segment(home: &Home, base: Offset) -> io::Result<()> {
    remove_files(home, base)?;
    home.storage.sync_dir(&home.dir)
}
