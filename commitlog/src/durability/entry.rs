//! What is handed to the journal, and what it hands back after a crash.
//!
//! Knows nothing of how either lies on disk.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use vltava_model::{LeaderEpoch, Offset, TopicPartition};

use vltava_storage::StorageFile;

/// One change of one partition, to be made durable.
#[derive(Clone, Debug)]
pub struct JournalEntry {
    /// The partition.
    pub partition: TopicPartition,
    /// The leader epoch in which the change was made.
    pub leader_epoch: LeaderEpoch,
    /// The change.
    pub body: EntryBody,
}

/// The change of a [`JournalEntry`].
#[derive(Clone)]
pub enum EntryBody {
    /// Whole batches, which a buffered write has put into `segment` already.
    Append {
        /// The first batch's base offset.
        base_offset: Offset,
        /// One past the last batch's last offset.
        end_offset: Offset,
        /// The batches, exactly as in the segment.
        bytes: Bytes,
        /// The file that holds them; the journal syncs it before it forgets the bytes.
        segment: Arc<dyn StorageFile>,
    },
    /// The log is cut at `to`. Making that durable in the segments is the log's own business, the journal does not
    /// sync for it; this frame voids earlier ones. A log that cuts before this is done keeps a durable note of the
    /// cut, or else what outlives a crash without this frame would look like a loss.
    Truncate {
        /// The new end of the log.
        to: Offset,
    },
    /// Everything below `to` was deleted. The log's own record of it is durable already, or will be by the time of
    /// [`super::JournalObserver::synced`]; this frame only keeps a replay from bringing back what was below.
    StartOffset {
        /// The new log start.
        to: Offset,
    },
    /// The partition's log is about to be deleted: nothing of it is to be synced or replayed any more.
    Delete,
    /// The log is about to be emptied, to begin anew elsewhere: as [`Self::Delete`], unless the log notes that it was done in
    /// this epoch. Where it begins then, the next [`Self::StartOffset`] says.
    Empty,
    /// All that this partition has submitted, and what `segments` hold besides, is to be on stable storage in the
    /// segments themselves. For a log that changes from every append synced to relaxed, whose later appends the
    /// journal will not see: a replay must not cut them off.
    Sync {
        /// The end of the log.
        end_offset: Offset,
        /// Segments that may hold something unsynced that was never submitted.
        segments: Vec<Arc<dyn StorageFile>>,
    },
}

/// A frame found in the journal after a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredFrame {
    /// The leader epoch in which the change was made.
    pub leader_epoch: LeaderEpoch,
    /// The change.
    pub body: RecoveredBody,
}

/// The change of a [`RecoveredFrame`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoveredBody {
    /// Batches that the segments hold durably only if they were synced since.
    Append {
        /// The first batch's base offset.
        base_offset: Offset,
        /// One past the last batch's last offset.
        end_offset: Offset,
        /// The batches.
        bytes: Bytes,
    },
    /// The segments hold everything below `end_offset` durably; no earlier frame is given.
    Synced {
        /// The end of what was synced.
        end_offset: Offset,
    },
    /// The log was to be cut at `to`; whether the segments are is not known.
    Truncate {
        /// The new end of the log.
        to: Offset,
    },
    /// Everything below `to` was deleted.
    StartOffset {
        /// The new log start.
        to: Offset,
    },
    /// The log was to be deleted, which is to be finished if nothing follows; what follows is of a new one.
    Delete,
    /// The log was to be emptied in this epoch, which is to be finished if nothing follows and the log does not know that it
    /// was; what follows came after.
    Empty,
}

impl fmt::Debug for EntryBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Append { base_offset, end_offset, bytes, .. } => {
                write!(f, "Append({base_offset}..{end_offset}, {} bytes)", bytes.len())
            }
            Self::Truncate { to } => write!(f, "Truncate({to})"),
            Self::StartOffset { to } => write!(f, "StartOffset({to})"),
            Self::Delete => f.write_str("Delete"),
            Self::Empty => f.write_str("Empty"),
            Self::Sync { end_offset, segments } => write!(f, "Sync({end_offset}, {} files)", segments.len()),
        }
    }
}

impl EntryBody {
    /// The bytes that the journal would have to hold, without headers.
    pub(super) fn payload(&self) -> &[u8] {
        match self {
            Self::Append { bytes, .. } => bytes,
            Self::Truncate { .. }
            | Self::StartOffset { .. }
            | Self::Delete
            | Self::Empty
            | Self::Sync { .. } => &[],
        }
    }
}
