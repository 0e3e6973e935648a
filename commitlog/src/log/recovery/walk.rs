//! Goes through a log from the recovery point to its end, checking every batch, repairing what the journal knows.
//!
//! One cursor, always at the offset that comes next. Where a segment begins at that offset, it takes over.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use vltava_model::Offset;
use vltava_model::batch::Batch;
use vltava_model::epochs::LeaderEpochs;

use super::{RecoveryError, RecoveryReport, log_file, remove_segment};
use crate::log::check::{self, CheckEntry, CheckSeed, ENTRY_BYTES};
use crate::log::damage::{Damage, SegmentError};
use crate::log::error::too_new;
use crate::log::home::{FileKind, Home};
use crate::log::producers::Producers;
use crate::log::scan::{Scanned, Scanner};
use crate::log::segment::{Extent, Segment, SegmentFiles};
use crate::log::state_file::{self, LogState};
use vltava_storage::StorageFile;

/// The segment that the cursor is in.
struct Open {
    base: Offset,
    seed: CheckSeed,
    files: Arc<SegmentFiles>,
    scanner: Scanner,
    /// How many batches lie before the first one that was looked at.
    before: u32,
    /// What the side file should say of the batches that were looked at.
    entries: Vec<CheckEntry>,
    /// What it says, from the same batch on.
    on_disk: Vec<u8>,
    /// What stands in front of its entries.
    head: Vec<u8>,
    created_ms: Option<i64>,
    /// Whether the batches differ from what was found.
    was_changed: bool,
    /// Whether bytes of it were written that it may have shown already: then the side file, and both lengths, are to be
    /// written even if they say what they should.
    was_rewritten: bool,
}

enum Found {
    Batch(Batch),
    /// Nothing that follows the batch before.
    Nothing(Damage),
}

/// What is known before a walk begins.
pub(super) struct Known {
    /// Below this, everything must be there.
    pub(super) trusted: Offset,
    /// What a sync that succeeded is known to have made durable. Everything else may be in the page cache alone, also where
    /// it is counted as synced for want of knowledge.
    pub(super) proven: Proven,
    /// Where the log begins and was cut, as the state file is to say before a segment goes that may hold the note of it.
    pub(super) state: LogState,
    /// What an end means behind which something stands that is no part of the log.
    pub(super) torn_end: TornEnd,
    pub(super) segment_bytes: u32,
    pub(super) now_ms: i64,
}

/// See [`Known::torn_end`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TornEnd {
    /// A crash tore what had not been synced.
    IsCut,
    /// What was synced is not known any more, which no crash does: it may have been.
    IsDamage,
}

/// What is proven to be on stable storage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Proven {
    /// All of it: the log was closed cleanly.
    All,
    /// What lies below.
    Below(Offset),
}

impl Proven {
    /// Whether everything below `end` is.
    fn covers(self, end: Offset) -> bool {
        match self {
            Self::All => true,
            Self::Below(proven) => end <= proven,
        }
    }
}

/// A walk in progress.
pub(super) struct Walk {
    home: Arc<Home>,
    known: Known,
    epochs: LeaderEpochs,
    producers: Producers,
    next: Offset,
    current: Option<Open>,
    /// The segments that the cursor has not reached.
    ahead: VecDeque<Offset>,
    segments: Vec<Arc<Segment>>,
    /// Whether the state file says what `known` does.
    is_noted: bool,
    report: RecoveryReport,
}

/// What a walk found.
pub(super) struct Outcome {
    pub(super) end: Offset,
    pub(super) segments: Vec<Arc<Segment>>,
    pub(super) epochs: LeaderEpochs,
    pub(super) producers: Producers,
    /// Whether the state file was made to say what was known before.
    pub(super) is_noted: bool,
    pub(super) report: RecoveryReport,
}

impl Walk {
    /// A walk that goes on from these epochs and producers.
    pub(super) fn new(home: Arc<Home>, known: Known, epochs: LeaderEpochs, producers: Producers) -> Self {
        Self {
            home,
            known,
            epochs,
            producers,
            next: Offset::ZERO,
            current: None,
            ahead: VecDeque::new(),
            segments: Vec::new(),
            is_noted: false,
            report: RecoveryReport::default(),
        }
    }

    /// Removes a segment that is no part of the log.
    fn remove(&mut self, base: Offset) -> io::Result<()> {
        if !self.is_noted && !self.known.state.cuts.is_empty() {
            state_file::write(&self.home, &self.known.state)?;
            self.is_noted = true;
        }
        remove_segment(&self.home, base)
    }

    /// Puts the cursor before the batch that holds `from`.
    pub(super) fn begin(&mut self, bases: &[Offset], from: Offset) -> Result<(), RecoveryError> {
        let at = bases.partition_point(|base| *base <= from);
        for pair in bases[..at].windows(2) {
            self.segments.push(Arc::new(Segment::sealed(self.home.clone(), pair[0], pair[1])));
        }
        self.next = from;
        self.ahead = bases[at..].iter().copied().collect();
        match at.checked_sub(1).map(|within| bases[within]) {
            None => {}
            Some(base) if base == from => self.ahead.push_front(base),
            Some(base) => self.begin_within(base, from)?,
        }
        Ok(())
    }

    /// Opens a segment at the batch that holds `from`, all before which was synced.
    fn begin_within(&mut self, base: Offset, from: Offset) -> Result<(), RecoveryError> {
        let segment = Segment::sealed(self.home.clone(), base, from);
        let mut open = self.open(base)?;
        if open.created_ms.is_none() {
            return Err(segment.damage(FileKind::Check, 0, base, "the header is not this segment's").into());
        }
        let end_of = |entry: &CheckEntry| Offset::new(base.get() + u64::from(entry.last) + 1);
        let many = open.entries_on_disk(0)?;
        // Entries of what was not synced may be torn; those of what was come before them.
        let lies_before = |ordinal: u32| match segment.read_entry(&open.files, ordinal) {
            Ok(entry) => Ok(end_of(&entry) <= from),
            Err(SegmentError::Damaged(_)) => Ok(false),
            Err(SegmentError::Io(error)) => Err(error),
        };
        // After a clean stop it is the end, which costs no search.
        let is_end = many > 0 && lies_before(many - 1)?;
        let (mut low, mut high) = (if is_end { many } else { 0 }, many);
        while low < high {
            let middle = low + (high - low) / 2;
            if lies_before(middle)? { low = middle + 1 } else { high = middle }
        }
        let before = low.checked_sub(1).map(|before| segment.read_entry(&open.files, before)).transpose()?;
        self.next = before.as_ref().map_or(base, end_of);
        let position = match &before {
            Some(before) => u64::from(segment.header_of(&open.files, before)?.1),
            None => 0,
        };
        if position > open.scanner.file_len() || (low == many && self.next < from) {
            return Err(self.damage(base, position, "the log ends before what was synced").into());
        }
        open.start_at(low, position)?;
        self.current = Some(open);
        Ok(())
    }

    fn open(&self, base: Offset) -> Result<Open, RecoveryError> {
        let files = SegmentFiles::open_or_create(&self.home, base)?;
        let mut head = vec![0u8; check::ENTRIES_AT as usize];
        let read = files.check.read_at(0, &mut head)?;
        head.truncate(read);
        if let Some(version) = check::newer_version(&head) {
            return Err(too_new(&self.home.path(base, FileKind::Check), version).into());
        }
        let created_ms = check::decode_header(&head, self.home.partition, base);
        let scanner = Scanner::new(files.log.clone(), 0)?;
        let seed = CheckSeed::new(self.home.partition, base);
        let (entries, on_disk) = (Vec::new(), Vec::new());
        Ok(Open {
            base,
            seed,
            files,
            scanner,
            before: 0,
            entries,
            on_disk,
            head,
            created_ms,
            was_changed: false,
            was_rewritten: false,
        })
    }

    fn open_from_its_start(&self, base: Offset) -> Result<Open, RecoveryError> {
        let mut open = self.open(base)?;
        open.start_at(0, 0)?;
        Ok(open)
    }

    fn damage(&self, base: Offset, position: u64, reason: &'static str) -> Damage {
        Damage { file: log_file(&self.home, base), position, offset: self.next, reason }
    }

    /// Makes sure that the batches of the plan are there.
    pub(super) fn apply(&mut self, batches: Vec<Batch>) -> Result<(), RecoveryError> {
        for batch in batches {
            let base = batch.header().base_offset;
            if batch.header().end_offset() <= self.next {
                continue;
            }
            if self.has_nothing() && base < self.next {
                // The log's start lies within this batch.
                self.next = base;
            }
            while self.next < base {
                match self.look(base)? {
                    Found::Batch(found) => self.keep_unjournaled(found)?,
                    Found::Nothing(_)
                        if self.next < self.known.state.log_start && base <= self.known.state.log_start =>
                    {
                        self.restart_at(base)?
                    }
                    Found::Nothing(damage) => return Err(damage.into()),
                }
            }
            if self.next != base {
                return Err(self.here("the journal's batch begins within one on disk").into());
            }
            self.put(batch)?;
        }
        Ok(())
    }

    fn has_nothing(&self) -> bool {
        self.current.is_none() && self.segments.is_empty() && self.ahead.front() != Some(&self.next)
    }

    /// Removes all segments so far, none of which reaches up to the log's start: what they held was never synced.
    fn restart_at(&mut self, at: Offset) -> io::Result<()> {
        if let Some(open) = self.current.take() {
            self.remove(open.base)?;
        }
        while let Some(segment) = self.segments.pop() {
            self.remove(segment.base())?;
        }
        self.next = at;
        Ok(())
    }

    /// Goes on over what is whole, up to where the log is to be cut; the first thing that is not ends the log.
    pub(super) fn finish(mut self, cut: Option<Offset>) -> Result<Outcome, RecoveryError> {
        let end = loop {
            match self.look(cut.unwrap_or(Offset::MAX))? {
                Found::Batch(batch) => self.keep_unjournaled(batch)?,
                Found::Nothing(damage) => break damage,
            }
        };
        // A batch that the cut goes through goes as a whole.
        let is_cut = cut.is_some() && matches!(self.look(Offset::MAX)?, Found::Batch(_));
        if self.next < self.known.trusted && !is_cut {
            return Err(end.into());
        }
        let has_more = |open: &Open| open.scanner.position() < open.scanner.file_len();
        let leaves_out = self.current.as_ref().is_some_and(has_more) || !self.ahead.is_empty();
        if leaves_out && self.known.torn_end == TornEnd::IsDamage && cut.is_none() {
            return Err(end.into());
        }
        if self.next < self.known.state.log_start {
            self.restart_at(self.known.state.log_start)?;
        }
        if leaves_out {
            tracing::warn!(log = %self.home.dir.display(), topic = %self.home.topic_name, %end, "cut a torn tail");
            self.report.cut = Some(end);
        }
        for base in std::mem::take(&mut self.ahead).into_iter().rev() {
            self.remove(base)?;
        }
        self.close_current()?;
        let ends_there = self.segments.last().is_some_and(|segment| segment.base() <= self.next);
        if self.segments.is_empty() || !ends_there {
            self.segments.push(Arc::new(Segment::fresh(self.home.clone(), self.next)));
        }
        let Self { next, segments, epochs, producers, is_noted, report, .. } = self;
        Ok(Outcome { end: next, segments, epochs, producers, is_noted, report })
    }

    /// What lies at the cursor, none of it reaching beyond `limit`.
    fn look(&mut self, limit: Offset) -> Result<Found, RecoveryError> {
        if self.ahead.front() == Some(&self.next) {
            self.next_segment()?;
        }
        let limit = self.ahead.front().map_or(limit, |ahead| limit.min(*ahead));
        let latest = self.epochs.latest();
        let (next, trusted) = (self.next, self.known.trusted);
        let Some(open) = &mut self.current else {
            return Ok(Found::Nothing(self.here("the segment is missing")));
        };
        let reason = match open.scanner.peek()? {
            Scanned::End => "the log ends here",
            Scanned::Bad(reason) => reason,
            Scanned::Batch(batch) => {
                let header = batch.header();
                let follows = header.base_offset == next && header.end_offset() <= limit;
                if !follows || header.leader_epoch.is_none() || header.leader_epoch < latest {
                    "the batch does not follow the one before"
                } else if let Some(reason) = open.disagrees(&batch, next < trusted) {
                    reason
                } else {
                    return Ok(Found::Batch(batch));
                }
            }
        };
        Ok(Found::Nothing(self.here(reason)))
    }

    fn here(&self, reason: &'static str) -> Damage {
        let open = self.current.as_ref();
        self.damage(
            open.map_or(self.next, |open| open.base),
            open.map_or(0, |open| open.scanner.position()),
            reason,
        )
    }

    /// Passes a batch that was found at the cursor and that the journal has not.
    fn keep_unjournaled(&mut self, batch: Batch) -> Result<(), RecoveryError> {
        if !self.known.proven.covers(batch.header().end_offset()) {
            self.report.unproven_bytes += batch.bytes().len() as u64;
        }
        self.keep(batch)
    }

    /// Passes a batch that was found at the cursor. Unless a sync is known to have made it durable it is written once more:
    /// after one that failed, the page cache shows what the disk has not, and calls it clean.
    fn keep(&mut self, batch: Batch) -> Result<(), RecoveryError> {
        if let Some(open) = &mut self.current
            && !self.known.proven.covers(batch.header().end_offset())
        {
            open.files.log.write_at(open.scanner.position(), batch.bytes())?;
            open.was_rewritten = true;
        }
        self.accept(batch)
    }

    /// Passes a batch that is, or now is, at the cursor.
    fn accept(&mut self, batch: Batch) -> Result<(), RecoveryError> {
        let header = batch.header();
        let bytes = batch.bytes().len() as u64;
        let outside = self.here("the batch lies outside what a segment can hold");
        let Some(open) = &mut self.current else { return Err(outside.into()) };
        let position = u32::try_from(open.scanner.position()).ok();
        let (Some(position), Some(epoch)) = (position, header.leader_epoch) else {
            return Err(outside.into());
        };
        if self.epochs.latest() < Some(epoch) && self.epochs.assign(epoch, header.base_offset).is_err() {
            return Err(outside.into());
        }
        open.entries.push(CheckEntry::of(open.seed, open.base, position, header));
        open.scanner.pass(bytes);
        self.producers.update(header, self.known.now_ms);
        self.report.scanned_bytes += bytes;
        self.next = header.end_offset();
        Ok(())
    }

    /// Makes sure that a batch of the journal's is at the cursor.
    fn put(&mut self, batch: Batch) -> Result<(), RecoveryError> {
        if self.ahead.front() == Some(&self.next) {
            self.next_segment()?;
        }
        let end = batch.header().end_offset();
        let bytes = batch.bytes().clone();
        let is_there = match &mut self.current {
            Some(open) => open.scanner.peek_bytes(bytes.len() as u64)? == bytes,
            None => false,
        };
        if !is_there {
            // A segment that begins within this batch is left over from before a truncation.
            while let Some(base) = self.ahead.pop_front_if(|base| *base < end) {
                self.remove(base)?;
            }
            if !self.fits(&batch) {
                self.close_current()?;
                self.current = Some(self.open_from_its_start(self.next)?);
            }
            self.report.rewritten_bytes += bytes.len() as u64;
        }
        if is_there {
            return self.keep(batch);
        }
        let Some(open) = &mut self.current else { unreachable!("it was just opened") };
        open.files.log.write_at(open.scanner.position(), &bytes)?;
        open.scanner.was_written(bytes.len() as u64);
        open.was_rewritten = true;
        open.was_changed = true;
        self.accept(batch)
    }

    fn fits(&self, batch: &Batch) -> bool {
        let Some(open) = &self.current else { return false };
        let end = open.scanner.position() + batch.bytes().len() as u64;
        let relative = batch.header().last_offset().since(open.base);
        open.scanner.position() == 0
            || (end <= u64::from(self.known.segment_bytes) && relative <= i32::MAX as u64)
    }

    fn next_segment(&mut self) -> Result<(), RecoveryError> {
        let Some(base) = self.ahead.pop_front() else { return Ok(()) };
        if let Some(open) = &self.current
            && open.scanner.position() < open.scanner.file_len()
            && self.next < self.known.trusted
        {
            return Err(self.here("something stands between two segments").into());
        }
        self.close_current()?;
        let open = self.open_from_its_start(base)?;
        if open.created_ms.is_none() && base < self.known.trusted {
            let segment = Segment::sealed(self.home.clone(), base, base);
            return Err(segment.damage(FileKind::Check, 0, base, "the header is not this segment's").into());
        }
        self.current = Some(open);
        Ok(())
    }

    /// Makes the segment that the cursor is in end at the cursor, its side file too.
    fn close_current(&mut self) -> Result<(), RecoveryError> {
        let Some(open) = self.current.take() else { return Ok(()) };
        let bytes = open.scanner.position();
        let batches = open.before + open.entries.len() as u32;
        let was_changed = open.settle(batches, &self.known)?;
        let known = (open.before == 0)
            .then(|| open.entries.iter().map(|entry| entry.max_timestamp).fold(-1, i64::max));
        let extent = Extent {
            batches,
            bytes: u32::try_from(bytes)
                .map_err(|_| self.damage(open.base, bytes, "the segment is too long"))?,
            end: self.next,
            max_timestamp: known,
            created_ms: open.created_ms.unwrap_or(self.known.now_ms),
            last_append_ms: self.known.now_ms,
        };
        let segment = Segment::recovered(self.home.clone(), open.base, extent, open.files);
        if was_changed {
            segment.remove_indexes()?;
        }
        self.segments.push(Arc::new(segment));
        Ok(())
    }
}

impl Open {
    /// How many entries the side file has from the `from`th on.
    fn entries_on_disk(&self, from: u32) -> io::Result<u32> {
        let bytes = self.files.check.len()?.saturating_sub(check::entry_position(from));
        u32::try_from(bytes / ENTRY_BYTES as u64).map_err(|_| io::ErrorKind::InvalidData.into())
    }

    /// Puts the cursor behind the first `before` batches.
    fn start_at(&mut self, before: u32, position: u64) -> io::Result<()> {
        self.before = before;
        self.scanner.pass(position);
        let bytes = self.files.check.len()?.saturating_sub(check::entry_position(before));
        self.on_disk = vec![0; usize::try_from(bytes).map_err(|_| io::ErrorKind::InvalidData)?];
        let read = self.files.check.read_at(check::entry_position(before), &mut self.on_disk)?;
        self.on_disk.truncate(read);
        Ok(())
    }

    /// Why the side file speaks against a batch at the cursor. Where it was `synced`, it must speak for it.
    fn disagrees(&self, batch: &Batch, is_synced: bool) -> Option<&'static str> {
        let position = u32::try_from(self.scanner.position()).ok()?;
        let expected = CheckEntry::of(self.seed, self.base, position, batch.header());
        let at = self.entries.len() * ENTRY_BYTES;
        let bytes = self.on_disk.get(at..at + ENTRY_BYTES);
        match bytes
            .and_then(|bytes| CheckEntry::decode(self.seed, self.before + self.entries.len() as u32, bytes))
        {
            Some(entry) if entry == expected => None,
            Some(_) => Some("the batch is not the one that was written here"),
            None if is_synced => Some("the batch has no entry in the side file"),
            None => None,
        }
    }

    /// Whether the note of cuts in front of the side file may be in the page cache alone: for as long as it matters.
    fn has_unproven_note(&self, proven: Proven) -> bool {
        let note = self.head.get(check::HEADER_BYTES..).unwrap_or_default();
        let cuts = check::decode_cuts(self.seed, note);
        proven != Proven::All && cuts.is_some_and(|cuts| !cuts.is_empty())
    }

    /// Makes both files say what was found, and nothing else, durably; tells whether they did not. What was cut off must
    /// not come back behind what is appended elsewhere.
    fn settle(&self, batches: u32, known: &Known) -> io::Result<bool> {
        let end = self.scanner.position();
        let mut was_changed = self.was_changed;
        let has_unproven_note = self.has_unproven_note(known.proven);
        let is_unproven = self.was_rewritten || has_unproven_note;
        let is_longer = end < self.scanner.file_len();
        if is_longer || is_unproven {
            self.files.log.set_len(end)?;
            was_changed |= is_longer;
        }
        if self.created_ms.is_none() {
            self.files.write_header(self.base, known.now_ms, &known.state.cuts)?;
            was_changed = true;
        } else if is_unproven {
            self.files.check.write_at(0, &self.head)?;
        }
        let mut bytes = Vec::with_capacity(self.entries.len() * ENTRY_BYTES);
        for (at, entry) in self.entries.iter().enumerate() {
            bytes.extend_from_slice(&entry.encode(self.seed, self.before + at as u32));
        }
        if self.on_disk != bytes || is_unproven {
            was_changed |= self.on_disk != bytes;
            self.files.check.write_at(check::entry_position(self.before), &bytes)?;
            self.files.check.set_len(check::entry_position(batches))?;
        }
        if was_changed || has_unproven_note {
            self.files.sync_data()?;
        }
        Ok(was_changed)
    }
}
