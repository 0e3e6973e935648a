//! Finding batches in a segment and reading them, verified.
//!
//! Every answer comes from one extent; nothing beyond it is looked at.

use bytes::{Bytes, BytesMut};
use vltava_model::Offset;
use vltava_model::batch::Batch;
use vltava_model::seeded::{SeededBug, seeded};
use vltava_storage::StorageFile;

use super::Segment;
use crate::log::check::CheckEntry;
use crate::log::damage::SegmentError;
use crate::log::home::FileKind;
use crate::log::index::SparseIndex;
use crate::log::segment::Extent;

/// Consecutive batches of one segment.
#[derive(Debug)]
pub(crate) struct Span {
    pub position: u32,
    pub bytes: u32,
    pub first: Offset,
    pub end: Offset,
    pub entries: Vec<CheckEntry>,
}

/// An index as it was read, of so many batches.
struct Loaded {
    index: SparseIndex,
    max_timestamp: i64,
    batches: u32,
}

impl Segment {
    /// Runs `look` on the index, loading it if need be, together with the extent that it belongs to.
    pub(super) fn with_index<R>(&self, look: impl Fn(&SparseIndex, Extent) -> R) -> Result<R, SegmentError> {
        let extent = self.extent()?;
        {
            let state = self.read_state();
            if let (Some(index), Some(extent)) = (&state.index, state.extent) {
                return Ok(look(index, extent));
            }
        }
        let mut loaded = self.load_index(extent)?;
        loop {
            let mut state = self.write_state();
            let extent = state.extent.expect("an extent that is known stays known");
            if let Some(index) = &state.index {
                // Another thread was quicker.
                return Ok(look(index, extent));
            }
            if loaded.batches == extent.batches {
                let extent = Extent { max_timestamp: Some(loaded.max_timestamp), ..extent };
                state.extent = Some(extent);
                return Ok(look(state.index.insert(loaded.index), extent));
            }
            drop(state);
            // It grew meanwhile, by less than it had. It is not cut while somebody reads.
            assert!(loaded.batches < extent.batches, "a segment was cut while its index was read");
            self.load_further(&mut loaded, extent.batches)?;
        }
    }

    /// The largest timestamp of any record, -1 if there is none.
    pub(crate) fn max_timestamp(&self) -> Result<i64, SegmentError> {
        match self.extent()?.max_timestamp {
            Some(max_timestamp) => Ok(max_timestamp),
            None => self.with_index(|_, extent| extent.max_timestamp.unwrap_or(-1)),
        }
    }

    /// Loads the index. No lock is held meanwhile: see [`Self::files`].
    fn load_index(&self, extent: Extent) -> Result<Loaded, SegmentError> {
        let (offsets, times) = (self.read_whole(FileKind::OffsetIndex), self.read_whole(FileKind::TimeIndex));
        if let (Ok(offsets), Ok(times), Some(max_timestamp)) = (offsets, times, extent.max_timestamp)
            && let Some(index) = SparseIndex::decode(self.seed, extent.coverage(), &offsets, &times)
        {
            return Ok(Loaded { index, max_timestamp, batches: extent.batches });
        }
        let mut loaded = Loaded { index: SparseIndex::default(), max_timestamp: -1, batches: 0 };
        self.load_further(&mut loaded, extent.batches)?;
        Ok(loaded)
    }

    /// Goes on with an index, up to so many batches.
    fn load_further(&self, loaded: &mut Loaded, batches: u32) -> Result<(), SegmentError> {
        let Loaded { index, max_timestamp, .. } = loaded;
        self.each_entry(&*self.files()?, loaded.batches, batches, |ordinal, entry| {
            *max_timestamp = (*max_timestamp).max(entry.max_timestamp);
            index.add(ordinal, &entry, *max_timestamp, self.home.index_interval_bytes);
            true
        })?;
        loaded.batches = batches;
        Ok(())
    }

    /// The ordinal of the batch that holds `offset`, or of the next one; the number of batches when there is none.
    pub(crate) fn ordinal_of(&self, offset: Offset) -> Result<u32, SegmentError> {
        let relative = u32::try_from(offset.since(self.base)).unwrap_or(u32::MAX);
        let (from, extent) = self.with_index(|index, extent| (index.floor_offset(relative), extent))?;
        let mut found = extent.batches;
        self.each_entry(&*self.files()?, from, extent.batches, |ordinal, entry| {
            if entry.last >= relative {
                found = ordinal;
            }
            entry.last < relative
        })?;
        Ok(found)
    }

    /// The batches from the one that holds `from`, at most `bytes_max` of them but at least one, none that reaches
    /// beyond `limit`.
    pub(crate) fn locate(
        &self,
        from: Offset,
        bytes_max: usize,
        limit: Offset,
    ) -> Result<Option<Span>, SegmentError> {
        let relative = u32::try_from(from.since(self.base)).unwrap_or(u32::MAX);
        let (floor, extent) = self.with_index(|index, extent| (index.floor_offset(relative), extent))?;
        let span = self.locate_behind(floor, extent, relative, bytes_max, limit.min(extent.end))?;
        if span.as_ref().is_some_and(|span| span.first > from) {
            return Err(self
                .damage(FileKind::Log, 0, from, "the batch that holds this offset is missing")
                .into());
        }
        Ok(span)
    }

    fn locate_behind(
        &self,
        floor: u32,
        extent: Extent,
        relative: u32,
        bytes_max: usize,
        limit: Offset,
    ) -> Result<Option<Span>, SegmentError> {
        let files = self.files()?;
        let mut first = self.base;
        let mut entries: Vec<CheckEntry> = Vec::new();
        let mut stop = extent.bytes;
        let mut previous = match floor.checked_sub(1) {
            Some(before) => Some(self.read_entry(&files, before)?),
            None => None,
        };
        self.each_entry(&files, floor, extent.batches, |_, entry| {
            if let Some(start) = entries.first() {
                // The batch before this one ends here.
                if (entry.position - start.position) as usize >= bytes_max || self.end_of(&entry) > limit {
                    stop = entry.position;
                    return false;
                }
                entries.push(entry);
            } else if entry.last >= relative {
                if self.end_of(&entry) > limit {
                    return false;
                }
                first = previous.map_or(self.base, |previous| self.end_of(&previous));
                entries.push(entry);
            }
            previous = Some(entry);
            true
        })?;
        // Only what follows a batch tells its length, so the last one may have passed the maximum.
        if let [start, .., last] = entries[..]
            && (stop - start.position) as usize > bytes_max
        {
            stop = last.position;
            entries.pop();
        }
        let (Some(start), Some(last)) = (entries.first(), entries.last()) else { return Ok(None) };
        let (position, end) = (start.position, self.end_of(last));
        if stop <= last.position {
            return Err(self.damage(FileKind::Check, 0, first, "an entry lies beyond the log's end").into());
        }
        Ok(Some(Span { position, bytes: stop - position, first, end, entries }))
    }

    pub(super) fn end_of(&self, entry: &CheckEntry) -> Offset {
        Offset::new(self.base.get() + u64::from(entry.last) + 1)
    }

    /// Reads the batches of a span and verifies every one.
    pub(crate) fn read(&self, span: &Span) -> Result<Bytes, SegmentError> {
        let files = self.files()?;
        let mut bytes = BytesMut::zeroed(span.bytes as usize);
        let read = files.log.read_at(u64::from(span.position), &mut bytes)?;
        if read < bytes.len() {
            let position = u64::from(span.position) + read as u64;
            return Err(self.damage(FileKind::Log, position, span.first, "the file is too short").into());
        }
        let bytes = bytes.freeze();
        self.verify(span, &bytes)?;
        Ok(bytes)
    }

    fn verify(&self, span: &Span, bytes: &Bytes) -> Result<(), SegmentError> {
        let mut expected = span.first;
        for (at, entry) in span.entries.iter().enumerate() {
            let begin = (entry.position - span.position) as usize;
            let end =
                span.entries.get(at + 1).map_or(bytes.len(), |next| (next.position - span.position) as usize);
            let problem = match Batch::parse(bytes.slice(begin..end)) {
                Err(_) => Some("the batch's checksum or form is wrong"),
                Ok(batch)
                    if self.seed.batch_sum(batch.header()) != entry.batch_sum
                        && !seeded(SeededBug::IgnoresSideChecksums) =>
                {
                    Some("the batch is not the one that was written here")
                }
                Ok(batch)
                    if batch.header().base_offset != expected
                        || batch.header().end_offset() != self.end_of(entry) =>
                {
                    Some("the batch's offsets do not follow those before")
                }
                Ok(_) => None,
            };
            if let Some(reason) = problem {
                return Err(self.damage(FileKind::Log, u64::from(entry.position), expected, reason).into());
            }
            expected = self.end_of(entry);
        }
        Ok(())
    }

    /// The offset of the first batch from `from` on that holds a timestamp of at least `timestamp`.
    pub(crate) fn find_timestamp(
        &self,
        timestamp: i64,
        from: Offset,
    ) -> Result<Option<Offset>, SegmentError> {
        let (floor, extent) = self.with_index(|index, extent| (index.floor_timestamp(timestamp), extent))?;
        let files = self.files()?;
        let mut first = match floor.checked_sub(1) {
            Some(before) => self.end_of(&self.read_entry(&files, before)?),
            None => self.base,
        };
        let mut found = None;
        self.each_entry(&files, floor, extent.batches, |_, entry| {
            if entry.max_timestamp >= timestamp && self.end_of(&entry) > from {
                found = Some(first);
                return false;
            }
            first = self.end_of(&entry);
            true
        })?;
        Ok(found)
    }
}
