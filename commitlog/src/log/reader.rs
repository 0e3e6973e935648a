//! Reading a log, from any thread, while its one writer appends, cuts, rolls and deletes.
//!
//! A reader takes one consistent view (log start and list of segments) and, within a segment, one consistent extent. A
//! cut waits for the readers at work and keeps new ones out; nothing else does. Every batch is verified before it is
//! handed out. What is readable at all (below the watermark, in which epoch) is for the caller to say.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use arc_swap::ArcSwap;
use bytes::Bytes;
use vltava_model::batch::{Batch, BatchError};
use vltava_model::{LeaderEpoch, Offset, TopicPartition};

use super::damage::{Damage, SegmentError};
use super::home::{FileKind, Home};
use super::segment::{Segment, Span};
use super::tail::Tail;
use vltava_storage::StorageFile;

/// Where a log begins and what it consists of, at one moment.
pub(crate) struct View {
    pub log_start: Offset,
    /// At least one; the last one is the active one.
    pub segments: Vec<Arc<Segment>>,
}

impl View {
    pub(crate) fn active(&self) -> &Arc<Segment> {
        &self.segments[self.segments.len() - 1]
    }

    /// The position of the segment whose range holds `offset`.
    pub(crate) fn position_of(&self, offset: Offset) -> Option<usize> {
        self.segments.partition_point(|segment| segment.base() <= offset).checked_sub(1)
    }
}

/// What the writer and all readers of a log share.
pub(crate) struct Shared {
    pub home: Arc<Home>,
    pub view: ArcSwap<View>,
    /// Held for reading while segment files are read, for writing while one is cut.
    pub gate: RwLock<()>,
    tail: Mutex<Tail>,
}

impl Shared {
    pub(crate) fn new(home: Arc<Home>, view: View, tail: Tail) -> Arc<Self> {
        let (view, tail) = (ArcSwap::from_pointee(view), Mutex::new(tail));
        Arc::new(Self { home, view, gate: RwLock::new(()), tail })
    }

    pub(crate) fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whole batches of a log, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadBatches {
    /// The batches, one behind the other, as they are stored.
    pub bytes: Bytes,
    /// The base offset of the first one: at or below the offset asked for, which it equals when there is none.
    pub first: Offset,
    /// The offset after the last one.
    pub end: Offset,
}

impl ReadBatches {
    const fn none(at: Offset) -> Self {
        Self { bytes: Bytes::new(), first: at, end: at }
    }
}

/// Batches of a log that are in memory, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailBatches {
    /// The batches, one after the other, as they are stored.
    pub batches: Vec<Bytes>,
    /// The base offset of the first one.
    pub first: Offset,
    /// The offset after the last one.
    pub end: Offset,
}

/// Whole batches of a log as a piece of a file, not verified.
#[derive(Clone)]
pub struct FileRange {
    /// The segment; stays open, and readable when the segment is deleted.
    pub file: Arc<dyn StorageFile>,
    /// Where the piece begins, in bytes.
    pub position: u64,
    /// How long it is, in bytes.
    pub bytes: u64,
    /// The base offset of the first batch.
    pub first: Offset,
    /// The offset after the last batch.
    pub end: Offset,
}

/// A record found by its timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampHit {
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The leader epoch in which it was written.
    pub leader_epoch: Option<LeaderEpoch>,
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The offset is below the log's start or above its end.
    #[error("the log holds {start}..{end}")]
    OutOfRange {
        /// The log's start.
        start: Offset,
        /// The log's end.
        end: Offset,
    },
    /// The bytes are damaged: they are to be repaired from another replica.
    #[error(transparent)]
    Corrupt(#[from] Damage),
    /// The disk refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<SegmentError> for ReadError {
    fn from(error: SegmentError) -> Self {
        match error {
            SegmentError::Damaged(damage) => Self::Corrupt(damage),
            SegmentError::Io(error) => Self::Io(error),
        }
    }
}

/// Reads one log; cheap to clone. Outlives the log: what was readable when the log was closed stays so.
#[derive(Clone)]
pub struct LogReader {
    shared: Arc<Shared>,
}

impl LogReader {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Whose records these are.
    pub fn partition(&self) -> TopicPartition {
        self.shared.home.partition
    }

    /// Whether both read one and the same opening of a log.
    pub fn is_of_same_log(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// The first offset that can be read.
    pub fn log_start(&self) -> Offset {
        self.shared.view.load().log_start
    }

    /// The offset after the last batch.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] and [`ReadError::Io`] when the last segment could not be looked at.
    pub fn log_end(&self) -> Result<Offset, ReadError> {
        Ok(self.shared.view.load().active().extent()?.end)
    }

    /// Whole batches from the one that holds `from` on: at most `bytes_max` bytes but at least one batch, and none that
    /// reaches to or beyond `end_exclusive`. Empty when there is none (yet).
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(
        &self,
        from: Offset,
        bytes_max: usize,
        end_exclusive: Offset,
    ) -> Result<ReadBatches, ReadError> {
        let _gate = self.shared.enter();
        let Some((segment, span)) = self.locate(from, bytes_max, end_exclusive)? else {
            return Ok(ReadBatches::none(from));
        };
        Ok(ReadBatches { bytes: segment.read(&span)?, first: span.first, end: span.end })
    }

    /// The same from memory, without any disk access; `None` when memory does not reach back to `from`, or holds
    /// nothing from there on.
    pub fn read_tail(&self, from: Offset, bytes_max: usize, end_exclusive: Offset) -> Option<ReadBatches> {
        let TailBatches { mut batches, first, end } = self.tail_batches(from, bytes_max, end_exclusive)?;
        let bytes = if batches.len() == 1 { batches.remove(0) } else { batches.concat().into() };
        Some(ReadBatches { bytes, first, end })
    }

    /// As [`Self::read_tail`], without copying: each batch by itself, as it lies in memory.
    pub fn tail_batches(&self, from: Offset, bytes_max: usize, end_exclusive: Offset) -> Option<TailBatches> {
        if from < self.log_start() {
            return None;
        }
        let (batches, first, end) = self.shared.tail().read(from, bytes_max, end_exclusive)?;
        Some(TailBatches { batches, first, end })
    }

    /// The same as a piece of a file, for the kernel to send; `None` when there is nothing (yet). Nothing is verified.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn file_range(
        &self,
        from: Offset,
        bytes_max: usize,
        end_exclusive: Offset,
    ) -> Result<Option<FileRange>, ReadError> {
        let _gate = self.shared.enter();
        let Some((segment, span)) = self.locate(from, bytes_max, end_exclusive)? else { return Ok(None) };
        let file = segment.files()?.log.pin()?;
        let (position, bytes) = (u64::from(span.position), u64::from(span.bytes));
        Ok(Some(FileRange { file, position, bytes, first: span.first, end: span.end }))
    }

    fn locate(
        &self,
        from: Offset,
        bytes_max: usize,
        end_exclusive: Offset,
    ) -> Result<Option<(Arc<Segment>, Span)>, ReadError> {
        let view = self.shared.view.load();
        let end = view.active().extent()?.end;
        let out_of_range = ReadError::OutOfRange { start: view.log_start, end };
        if from < view.log_start || from > end {
            return Err(out_of_range);
        }
        if from >= end_exclusive.min(end) {
            return Ok(None);
        }
        let segment = &view.segments[view.position_of(from).ok_or(out_of_range)?];
        match segment.locate(from, bytes_max, end_exclusive)? {
            Some(span) => Ok(Some((segment.clone(), span))),
            None if segment.extent()?.end > from => Ok(None),
            None => Err(segment
                .damage(FileKind::Log, 0, from, "the segment ends before the next one begins")
                .into()),
        }
    }

    /// The first record from the log's start on whose timestamp is at least `timestamp_ms`, below `end_exclusive`.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn offset_for_timestamp(
        &self,
        timestamp_ms: i64,
        end_exclusive: Offset,
    ) -> Result<Option<TimestampHit>, ReadError> {
        let _gate = self.shared.enter();
        let view = self.shared.view.load();
        for segment in &view.segments {
            if segment.base() >= end_exclusive {
                break;
            }
            if segment.max_timestamp()? < timestamp_ms {
                continue;
            }
            let mut from = view.log_start;
            // A batch may hold such a record only below the log's start: then the next one is looked at.
            while let Some(first) = segment.find_timestamp(timestamp_ms, from)? {
                if first >= end_exclusive {
                    return Ok(None);
                }
                let Some(span) = segment.locate(first, 1, end_exclusive)? else { return Ok(None) };
                let hit = first_record(segment, &span, timestamp_ms, view.log_start)?;
                if hit.is_some() {
                    return Ok(hit.filter(|hit| hit.offset < end_exclusive));
                }
                from = span.end;
            }
        }
        Ok(None)
    }
}

fn first_record(
    segment: &Segment,
    span: &Span,
    timestamp_ms: i64,
    from: Offset,
) -> Result<Option<TimestampHit>, ReadError> {
    let damage = |_: BatchError| {
        segment.damage(
            FileKind::Log,
            u64::from(span.position),
            span.first,
            "the batch's records are malformed",
        )
    };
    let batch = Batch::parse(segment.read(span)?).map_err(damage)?;
    for record in batch.records().map_err(damage)? {
        let record = record.map_err(damage)?;
        if record.timestamp_ms >= timestamp_ms && record.offset >= from {
            let (offset, timestamp_ms) = (record.offset, record.timestamp_ms);
            return Ok(Some(TimestampHit {
                offset,
                timestamp_ms,
                leader_epoch: batch.header().leader_epoch,
            }));
        }
    }
    Ok(None)
}
