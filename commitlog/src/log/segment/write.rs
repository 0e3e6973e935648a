//! How a segment grows, is cut and is sealed: for the log's one writer only.
//!
//! Readers see a change when its extent is published, never before its bytes are written.

use std::io::{self, IoSlice};
use std::sync::Arc;

use vltava_model::batch::Batch;
use vltava_model::{LeaderEpoch, Offset};

use super::files::{SegmentFiles, remove_if_there};
use super::{Extent, Segment, State};
use crate::log::check::{self, CheckEntry, ENTRY_BYTES};
use crate::log::cuts::{Cut, Cuts};
use crate::log::damage::SegmentError;
use crate::log::home::FileKind;
use crate::log::index::{SparseIndex, TimeSummary};
use vltava_storage::StorageFile;

impl Segment {
    /// Writes batches behind the last one, without syncing, and lets readers see them: one write for all of them, and one
    /// for their entries in the side file.
    ///
    /// On an error nothing has changed for readers; when there were no descriptors, nothing at all has. `cuts` is what a new side file notes.
    pub(crate) fn append(
        &self,
        batches: &[Batch],
        now_ms: i64,
        cuts: &Cuts,
    ) -> Result<Arc<SegmentFiles>, SegmentError> {
        let extent = self.extent()?;
        let files = if self.read_state().on_disk { self.files()? } else { self.begin(now_ms, cuts)? };
        files.ready()?;
        let (mut bytes, mut end) = (extent.bytes, extent.end);
        let mut slices = Vec::with_capacity(batches.len());
        let mut entries = Vec::with_capacity(batches.len());
        let mut encoded = Vec::with_capacity(batches.len() * ENTRY_BYTES);
        for (ordinal, batch) in (extent.batches..).zip(batches) {
            let entry = CheckEntry::of(self.seed, self.base, bytes, batch.header());
            encoded.extend_from_slice(&entry.encode(self.seed, ordinal));
            entries.push(entry);
            slices.push(IoSlice::new(batch.bytes()));
            bytes += batch.header().length as u32;
            end = batch.header().end_offset();
        }
        files.log.write_all_at(u64::from(extent.bytes), &slices)?;
        files.check.write_all_at(check::entry_position(extent.batches), &[IoSlice::new(&encoded)])?;
        let mut state = self.write_state();
        // A reader may have found out about the timestamps since.
        let mut max_timestamp = state.extent.and_then(|extent| extent.max_timestamp);
        for (ordinal, (batch, entry)) in (extent.batches..).zip(batches.iter().zip(&entries)) {
            max_timestamp = max_timestamp.map(|max| max.max(batch.header().max_timestamp));
            if let (Some(index), Some(max_timestamp)) = (&mut state.index, max_timestamp) {
                index.add(ordinal, entry, max_timestamp, self.home.index_interval_bytes);
            }
        }
        state.extent = Some(Extent {
            batches: extent.batches + batches.len() as u32,
            bytes,
            end,
            max_timestamp,
            created_ms: if extent.batches == 0 { now_ms } else { extent.created_ms },
            last_append_ms: now_ms,
        });
        Ok(files)
    }

    fn begin(&self, now_ms: i64, cuts: &Cuts) -> io::Result<Arc<SegmentFiles>> {
        let files = SegmentFiles::create(&self.home, self.base, now_ms, cuts, self.names_synced.clone())?;
        *self.lock_files() = Some(files.clone());
        self.write_state().on_disk = true;
        Ok(files)
    }

    /// Takes back what a failed append may have written behind the last batch.
    pub(crate) fn undo_append(&self) -> Result<(), SegmentError> {
        let extent = self.extent()?;
        if self.read_state().on_disk {
            let files = self.files()?;
            files.log.set_len(u64::from(extent.bytes))?;
            files.check.set_len(check::entry_position(extent.batches))?;
        }
        Ok(())
    }

    /// Makes this the log's last segment and keeps its first `batches` batches, durably; gives the new end. No reader
    /// may be at work, and the log must get shorter by it, here or behind.
    ///
    /// The note of the cut is durable before anything is gone, so that no claim to have synced more is believed after
    /// a crash.
    pub(crate) fn truncate(
        &self,
        batches: u32,
        cuts: &mut Cuts,
        epoch: LeaderEpoch,
        now_ms: i64,
    ) -> Result<Offset, SegmentError> {
        let extent = self.extent()?;
        assert!(batches <= extent.batches, "a truncation never makes a segment longer");
        let files = self.files()?;
        let position = match batches {
            all if all == extent.batches => extent.bytes,
            _ => self.read_entry(&files, batches)?.position,
        };
        let end = self.end_after(batches)?;
        self.remove_indexes()?;
        cuts.push(Cut::new(end, epoch));
        self.note_cuts(cuts)?;
        files.check.sync_data()?;
        files.log.set_len(u64::from(position))?;
        files.check.set_len(check::entry_position(batches))?;
        files.sync_data()?;
        let kept =
            Extent { batches, bytes: position, end, max_timestamp: None, last_append_ms: now_ms, ..extent };
        let is_empty = batches == 0;
        *self.write_state() = State {
            extent: Some(Extent { max_timestamp: is_empty.then_some(-1), ..kept }),
            index: is_empty.then(SparseIndex::default),
            on_disk: true,
        };
        Ok(end)
    }

    /// Where the log would end behind the segment's first `batches` batches.
    pub(crate) fn end_after(&self, batches: u32) -> Result<Offset, SegmentError> {
        let files = self.files()?;
        match batches.checked_sub(1) {
            Some(last) => Ok(self.end_of(&self.read_entry(&files, last)?)),
            None => Ok(self.base),
        }
    }

    /// Writes, without syncing, where the log was cut lately.
    pub(crate) fn note_cuts(&self, cuts: &Cuts) -> Result<(), SegmentError> {
        if self.read_state().on_disk {
            let note = check::encode_cuts(self.seed, cuts);
            self.files()?.check.write_all_at(check::HEADER_BYTES as u64, &[IoSlice::new(&note)])?;
        }
        Ok(())
    }

    /// Writes the index files of a segment that will not grow any more.
    pub(crate) fn write_indexes(&self) -> Result<(), SegmentError> {
        let (offsets, times) = self.with_index(|index, extent| {
            let max_timestamp = extent.max_timestamp.unwrap_or(-1);
            let summary = TimeSummary { max_timestamp, last_append_ms: extent.last_append_ms };
            (
                index.encode_offsets(self.seed, extent.coverage()),
                index.encode_times(self.seed, extent.coverage(), summary),
            )
        })?;
        for (kind, bytes) in [(FileKind::OffsetIndex, offsets), (FileKind::TimeIndex, times)] {
            let file = self.home.storage.create(&self.home.path(self.base, kind))?;
            file.write_all_at(0, &[IoSlice::new(&bytes)])?;
            file.set_len(bytes.len() as u64)?;
        }
        Ok(())
    }

    /// Removes the index files; what they hold can be rebuilt.
    pub(crate) fn remove_indexes(&self) -> io::Result<()> {
        for kind in [FileKind::OffsetIndex, FileKind::TimeIndex] {
            remove_if_there(&self.home, self.base, kind)?;
        }
        Ok(())
    }

    /// How long the offset index would be as a file; 0 as long as nobody needed it.
    pub(crate) fn index_bytes(&self) -> usize {
        self.read_state().index.as_ref().map_or(0, SparseIndex::offset_file_bytes)
    }
}
