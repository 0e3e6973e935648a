//! One segment of a log: a run of whole batches from a base offset on, with its side file and indexes.
//!
//! Written by one thread, read by many. What readers may see is one `Extent`, published under a short lock after the
//! bytes are written: a file's own length is never asked while the segment lives. Files are opened when first needed;
//! the pool that they are of closes them again. Positional reads, never a memory map. Knows nothing of other segments, epochs or producers.
//!
//! - `files`: the files, and what syncing them means.  - `lookup`: finding and reading.  - `write`: what only the
//!   log's one writer does.

mod files;
mod lookup;
mod write;

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use vltava_model::Offset;
use vltava_model::batch::{BatchHeader, HEADER_BYTES as BATCH_HEADER_BYTES};
use vltava_storage::StorageFile;

pub(crate) use files::{SegmentFiles, remove_files};
pub(crate) use lookup::Span;

use super::check::{self, CheckEntry, CheckSeed, ENTRY_BYTES};
use super::damage::{Damage, SegmentError};
use super::error::too_new;
use super::home::{FileKind, Home};
use super::index::{Coverage, SparseIndex, decode_summary};

/// Check entries that are read at once when looking for a batch.
const LOOKUP_ENTRIES: u32 = 128;

/// How much of a segment is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Extent {
    pub batches: u32,
    pub bytes: u32,
    /// The offset after the last batch.
    pub end: Offset,
    /// The largest timestamp of any record, -1 as long as there is none; `None` until somebody asks.
    pub max_timestamp: Option<i64>,
    /// When the first batch was appended; meaningless in an empty segment.
    pub created_ms: i64,
    /// When the last batch was appended, as far as is known; meaningless in an empty segment.
    pub last_append_ms: i64,
}

impl Extent {
    const fn empty(base: Offset) -> Self {
        Self { batches: 0, bytes: 0, end: base, max_timestamp: Some(-1), created_ms: 0, last_append_ms: 0 }
    }

    const fn coverage(&self) -> Coverage {
        Coverage { batches: self.batches, bytes: self.bytes }
    }
}

struct State {
    /// `None` until a sealed segment is first used.
    extent: Option<Extent>,
    /// `None` until somebody looks for something. Where there is an index, the extent's largest timestamp is known.
    index: Option<SparseIndex>,
    /// Whether the files were created.
    on_disk: bool,
}

/// One segment.
pub(crate) struct Segment {
    home: Arc<Home>,
    base: Offset,
    seed: CheckSeed,
    files: Mutex<Option<Arc<SegmentFiles>>>,
    names_synced: Arc<AtomicBool>,
    state: RwLock<State>,
    /// Where a sealed segment found on disk must end.
    must_end: Option<Offset>,
}

impl Segment {
    fn with(home: Arc<Home>, base: Offset, state: State, synced: bool, must_end: Option<Offset>) -> Self {
        Self {
            seed: CheckSeed::new(home.partition, base),
            home,
            base,
            files: Mutex::new(None),
            names_synced: Arc::new(AtomicBool::new(synced)),
            state: RwLock::new(state),
            must_end,
        }
    }

    /// A segment to be; its files are created by the first append.
    pub(crate) fn fresh(home: Arc<Home>, base: Offset) -> Self {
        let state =
            State { extent: Some(Extent::empty(base)), index: Some(SparseIndex::default()), on_disk: false };
        Self::with(home, base, state, false, None)
    }

    /// A segment below the recovery point: not looked at until it is used.
    pub(crate) fn sealed(home: Arc<Home>, base: Offset, end: Offset) -> Self {
        Self::with(home, base, State { extent: None, index: None, on_disk: true }, true, Some(end))
    }

    /// A segment that recovery has gone through.
    pub(crate) fn recovered(home: Arc<Home>, base: Offset, extent: Extent, files: Arc<SegmentFiles>) -> Self {
        let index = (extent.batches == 0).then(SparseIndex::default);
        let mut segment =
            Self::with(home, base, State { extent: Some(extent), index, on_disk: true }, false, None);
        segment.names_synced = files.names_synced();
        segment.files = Mutex::new(Some(files));
        segment
    }

    pub(crate) const fn base(&self) -> Offset {
        self.base
    }

    /// Whether it has files; an active segment without a batch may not.
    pub(crate) fn is_on_disk(&self) -> bool {
        self.read_state().on_disk
    }

    /// Describes damage in one of this segment's files.
    pub(crate) fn damage(
        &self,
        kind: FileKind,
        position: u64,
        offset: Offset,
        reason: &'static str,
    ) -> Damage {
        Damage { file: self.home.path(self.base, kind), position, offset, reason }
    }

    fn read_state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_state(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_files(&self) -> MutexGuard<'_, Option<Arc<SegmentFiles>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The files, which must be there. No lock is held while they are opened: that may wait for others to be closed, and synced
    /// before.
    pub(crate) fn files(&self) -> Result<Arc<SegmentFiles>, SegmentError> {
        if let Some(files) = &*self.lock_files() {
            return Ok(files.clone());
        }
        let files = match SegmentFiles::open(&self.home, self.base, self.names_synced.clone()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let has_log = self.home.storage.exists(&self.home.path(self.base, FileKind::Log))?;
                let missing = if has_log { FileKind::Check } else { FileKind::Log };
                return Err(self.damage(missing, 0, self.base, "the file is missing").into());
            }
            files => files?,
        };
        Ok(self.lock_files().get_or_insert(files).clone())
    }

    /// Forgets what can be loaded again.
    pub(crate) fn release(&self) {
        let mut state = self.write_state();
        if state.on_disk {
            state.index = None;
        }
    }

    /// How much is there; of a sealed segment, this opens and checks it the first time.
    pub(crate) fn extent(&self) -> Result<Extent, SegmentError> {
        if let Some(extent) = self.read_state().extent {
            return Ok(extent);
        }
        let loaded = self.load_extent()?;
        Ok(*self.write_state().extent.get_or_insert(loaded))
    }

    fn load_extent(&self) -> Result<Extent, SegmentError> {
        let files = self.files()?;
        let (log_len, check_len) = (files.log.len()?, files.check.len()?);
        let mut header = [0u8; check::HEADER_BYTES];
        let read = files.check.read_at(0, &mut header)?;
        if let Some(version) = check::newer_version(&header[..read]) {
            return Err(too_new(&self.home.path(self.base, FileKind::Check), version).into());
        }
        let created_ms = check::decode_header(&header[..read], self.home.partition, self.base)
            .ok_or_else(|| self.damage(FileKind::Check, 0, self.base, "the header is not this segment's"))?;
        let batches = check_len.saturating_sub(check::ENTRIES_AT) / ENTRY_BYTES as u64;
        let whole =
            u32::try_from(batches).ok().filter(|batches| check::entry_position(*batches) == check_len);
        let (Some(batches @ 1..), Ok(bytes)) = (whole, u32::try_from(log_len)) else {
            return Err(self
                .damage(FileKind::Check, check_len, self.base, "the length is impossible")
                .into());
        };
        let last = self.read_entry(&files, batches - 1)?;
        let (header, _) = self.header_of(&files, &last)?;
        let position = u64::from(last.position);
        if header.end_offset() != self.base.checked_add(u64::from(last.last) + 1).unwrap_or(Offset::MAX)
            || position + header.length as u64 != log_len
        {
            let reason = "the length does not agree with the check file";
            return Err(self.damage(FileKind::Log, position, header.base_offset, reason).into());
        }
        let end = header.end_offset();
        if self.must_end.is_some_and(|must_end| must_end != end) {
            return Err(self.damage(FileKind::Log, log_len, end, "the next segment begins elsewhere").into());
        }
        let coverage = Coverage { batches, bytes };
        let summary = match self.read_whole(FileKind::TimeIndex) {
            Ok(times) => decode_summary(self.seed, coverage, &times),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        // Without its time index the time of the last append is lost; the creation stands for it, or the newest
        // timestamp if that is later.
        let (max_timestamp, last_append_ms) = summary
            .map_or((None, created_ms), |summary| (Some(summary.max_timestamp), summary.last_append_ms));
        Ok(Extent { batches, bytes, end, max_timestamp, created_ms, last_append_ms })
    }

    fn read_whole(&self, kind: FileKind) -> io::Result<Vec<u8>> {
        let file = self.home.storage.open(&self.home.path(self.base, kind))?;
        let mut bytes = vec![0; usize::try_from(file.len()?).map_err(|_| io::ErrorKind::InvalidData)?];
        let read = file.read_at(0, &mut bytes)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Reads the entry of one batch.
    pub(crate) fn read_entry(&self, files: &SegmentFiles, ordinal: u32) -> Result<CheckEntry, SegmentError> {
        let mut found = None;
        self.each_entry(files, ordinal, ordinal + 1, |_, entry| {
            found = Some(entry);
            true
        })?;
        found.ok_or_else(|| self.entry_damage(ordinal, "the entry is missing").into())
    }

    fn entry_damage(&self, ordinal: u32, reason: &'static str) -> Damage {
        self.damage(FileKind::Check, check::entry_position(ordinal), self.base, reason)
    }

    /// Walks the entries `from..to`, verifying each and their order, until `visit` says false.
    pub(crate) fn each_entry(
        &self,
        files: &SegmentFiles,
        from: u32,
        to: u32,
        mut visit: impl FnMut(u32, CheckEntry) -> bool,
    ) -> Result<(), SegmentError> {
        let mut previous: Option<CheckEntry> = None;
        let mut next = from;
        while next < to {
            let many = (to - next).min(if next == from { LOOKUP_ENTRIES } else { 16 * LOOKUP_ENTRIES });
            let mut bytes = vec![0; many as usize * ENTRY_BYTES];
            let read = files.check.read_at(check::entry_position(next), &mut bytes)?;
            for (at, chunk) in bytes.chunks_exact(ENTRY_BYTES).enumerate() {
                let ordinal = next + at as u32;
                let whole = (at + 1) * ENTRY_BYTES <= read;
                let entry = whole.then(|| CheckEntry::decode(self.seed, ordinal, chunk)).flatten();
                let Some(entry) = entry else {
                    return Err(self.entry_damage(ordinal, "the entry's checksum does not match").into());
                };
                if previous.is_some_and(|p| p.last >= entry.last || p.position >= entry.position) {
                    return Err(self.entry_damage(ordinal, "the entries are out of order").into());
                }
                previous = Some(entry);
                if !visit(ordinal, entry) {
                    return Ok(());
                }
            }
            next += many;
        }
        Ok(())
    }

    /// The header of the batch that an entry describes, verified against the entry.
    pub(crate) fn header_of(
        &self,
        files: &SegmentFiles,
        entry: &CheckEntry,
    ) -> Result<(BatchHeader, u32), SegmentError> {
        let mut bytes = [0u8; BATCH_HEADER_BYTES];
        let position = u64::from(entry.position);
        let read = files.log.read_at(position, &mut bytes)?;
        let header = BatchHeader::peek(&bytes[..read]).ok().flatten();
        match header {
            Some(header) if self.seed.batch_sum(&header) == entry.batch_sum => {
                let end = u64::from(entry.position) + header.length as u64;
                let end = u32::try_from(end).map_err(|_| {
                    self.damage(FileKind::Log, position, header.base_offset, "the batch is too long")
                })?;
                Ok((header, end))
            }
            _ => {
                let reason = "the batch's header does not agree with the check file";
                Err(self.damage(FileKind::Log, position, self.base, reason).into())
            }
        }
    }
}
