//! Appending a batch, and beginning a new segment when it is time.
//!
//! Knows nothing of who sent the batch: what a client may send is checked before.

use std::sync::Arc;

use bytes::Bytes;
use vltava_model::batch::Batch;
use vltava_model::{LeaderEpoch, Offset};

use super::config::millis;
use super::damage::SegmentError;
use super::error::{AppendError, LogError, is_disk_full};
use super::log::Log;
use super::reader::View;
use super::segment::Segment;
use vltava_storage::{StorageFile, is_out_of_descriptors};

/// The largest offset within a segment, relative to its base, as in Kafka.
const RELATIVE_MAX: u64 = i32::MAX as u64;

/// A batch that is in the log, not yet durable; just what the journal wants to know.
#[derive(Clone)]
pub struct Appended {
    /// Its base offset.
    pub base: Offset,
    /// The offset after its last record.
    pub end: Offset,
    /// Its bytes, as they are in the segment.
    pub bytes: Bytes,
    /// The segment; syncing it makes the batch durable together with all before it in the same segment.
    pub segment: Arc<dyn StorageFile>,
    /// Whether the batch is the first one of a new segment.
    pub rolled: bool,
}

/// Batches that are in the log, not yet durable, all in one segment.
pub struct AppendedRun {
    /// How many of those that were to be appended.
    pub batches: usize,
    /// See [`Appended::segment`].
    pub segment: Arc<dyn StorageFile>,
    /// Whether the first one is the first one of a new segment.
    pub rolled: bool,
}

impl AppendedRun {
    /// One of its batches, for the journal.
    pub fn appended(&self, batch: &Batch) -> Appended {
        Appended {
            base: batch.header().base_offset,
            end: batch.header().end_offset(),
            bytes: batch.bytes().clone(),
            segment: self.segment.clone(),
            rolled: false,
        }
    }
}

impl Log {
    /// Writes a batch, whose base offset and leader epoch are set, behind the last one, without syncing. Readers can see
    /// it when this returns.
    ///
    /// # Errors
    /// After [`AppendError::Failed`] the log is done; the others change nothing.
    pub fn append(&mut self, batch: &Batch, now_ms: i64) -> Result<Appended, AppendError> {
        let run = self.append_run(std::slice::from_ref(batch), now_ms)?;
        Ok(Appended { rolled: run.rolled, ..run.appended(batch) })
    }

    /// As [`Self::append`] for as many of `batches`, from the first one on, as go into one segment: two writes, however
    /// many they are. At least one is appended, unless it is an error.
    ///
    /// # Errors
    /// As [`Self::append`]; none of them is appended then.
    ///
    /// # Panics
    /// Without a batch.
    pub fn append_run(&mut self, batches: &[Batch], now_ms: i64) -> Result<AppendedRun, AppendError> {
        if self.is_failed {
            return Err(LogError::FailedBefore.into());
        }
        self.check_next(&batches[0], self.log_end(), self.epochs.latest())?;
        let rolled = self.must_roll(&batches[0], now_ms);
        if rolled {
            self.change(Self::roll)?;
        }
        let segment = self.active();
        let batches = &batches[..self.fitting(&segment, batches)];
        let files = match segment.append(batches, now_ms, &self.cuts) {
            Ok(files) => files,
            Err(error) => return Err(self.take_back(&segment, error)),
        };
        for batch in batches {
            let header = batch.header();
            if let Some(epoch) = header.leader_epoch
                && Some(epoch) > self.epochs.latest()
            {
                let assigned = self.epochs.assign(epoch, header.base_offset);
                assert!(assigned.is_ok(), "a newer epoch at the log's end is in order");
            }
            self.producers.update(header, now_ms);
            self.shared.tail().push(header.base_offset, header.end_offset(), batch.bytes().clone());
        }
        Ok(AppendedRun { batches: batches.len(), segment: files, rolled })
    }

    /// Whether a batch may come behind a log that ends at `end` in epoch `latest`.
    fn check_next(&self, batch: &Batch, end: Offset, latest: Option<LeaderEpoch>) -> Result<(), AppendError> {
        let header = batch.header();
        if header.base_offset != end {
            return Err(AppendError::NotNext { end, found: header.base_offset });
        }
        if header.leader_epoch.is_none() || header.leader_epoch < latest {
            return Err(AppendError::StaleEpoch { latest, found: header.leader_epoch });
        }
        let offsets = header.end_offset().since(header.base_offset);
        if batch.bytes().len() > i32::MAX as usize || offsets > RELATIVE_MAX {
            return Err(AppendError::TooLarge { bytes: batch.bytes().len(), offsets });
        }
        Ok(())
    }

    /// How many of the batches go into the active segment, of which the first one does. One that is in error stays out,
    /// to be refused when it is the first.
    fn fitting(&self, segment: &Segment, batches: &[Batch]) -> usize {
        let mut bytes = u64::from(self.active_extent().bytes) + batches[0].bytes().len() as u64;
        let fits = |(before, batch): (&Batch, &Batch)| {
            bytes += batch.bytes().len() as u64;
            let before = before.header();
            bytes <= u64::from(self.config.segment_bytes)
                && batch.header().last_offset().since(segment.base()) <= RELATIVE_MAX
                && self.check_next(batch, before.end_offset(), before.leader_epoch).is_ok()
        };
        1 + batches.iter().zip(&batches[1..]).map(fits).take_while(|fits| *fits).count()
    }

    /// A full disk is no failure if the part that was written can be cut off again; nor are files that can't be opened, before
    /// anything was written.
    fn take_back(&mut self, segment: &Segment, error: SegmentError) -> AppendError {
        if let SegmentError::Io(error) = &error
            && is_out_of_descriptors(error)
        {
            return AppendError::NoDescriptors;
        }
        if let SegmentError::Io(error) = &error
            && is_disk_full(error)
            && segment.undo_append().is_ok()
        {
            return AppendError::DiskFull;
        }
        self.is_failed = true;
        LogError::from(error).into()
    }

    fn must_roll(&self, batch: &Batch, now_ms: i64) -> bool {
        let segment = self.active();
        let extent = self.active_extent();
        if extent.batches == 0 {
            // The base of an empty segment is the log's end, so whatever comes fits.
            return false;
        }
        let bytes = u64::from(extent.bytes) + batch.bytes().len() as u64;
        bytes > u64::from(self.config.segment_bytes)
            || batch.header().last_offset().since(segment.base()) > RELATIVE_MAX
            || now_ms.saturating_sub(extent.created_ms) >= millis(self.config.segment_ms)
            || segment.index_bytes() >= self.config.segment_index_bytes as usize
    }

    /// Seals the active segment and puts an empty one behind it, whose files the first append will create.
    pub(super) fn roll(&mut self) -> Result<(), LogError> {
        let sealed = self.active();
        let end = sealed.extent()?.end;
        match sealed.write_indexes() {
            // They can be rebuilt; but half of one must not be in the way.
            Err(SegmentError::Io(error)) if is_disk_full(&error) => sealed.remove_indexes()?,
            written => written?,
        }
        let view = self.shared.view.load_full();
        let mut segments = view.segments.clone();
        segments.push(Arc::new(Segment::fresh(self.home.clone(), end)));
        self.shared.view.store(Arc::new(View { log_start: view.log_start, segments }));
        self.save_producers(end)
    }
}
