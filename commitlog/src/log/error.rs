//! Why a log could not be changed, shaped by what the owner does next.

use std::io;
use std::path::{Path, PathBuf};

use vltava_model::{LeaderEpoch, Offset};

use super::damage::{Damage, SegmentError};

/// Why a batch was not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The batch does not begin where the log ends: the caller's view is old, or a peer sent something else than asked.
    #[error("the batch begins at {found}, the log ends at {end}")]
    NotNext {
        /// The log's end.
        end: Offset,
        /// The batch's base offset.
        found: Offset,
    },
    /// The batch is of an older leader epoch than the log's last one, or of none.
    #[error("the batch is of leader epoch {found:?}, the log has {latest:?}")]
    StaleEpoch {
        /// The log's newest epoch.
        latest: Option<LeaderEpoch>,
        /// The batch's epoch.
        found: Option<LeaderEpoch>,
    },
    /// No segment can hold the batch.
    #[error("a batch of {bytes} bytes and {offsets} offsets does not fit a segment")]
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
        /// How many offsets it takes.
        offsets: u64,
    },
    /// There is no room on the disk. Nothing has changed: it may be tried again when there is.
    #[error("the disk is full")]
    DiskFull,
    /// The process has no file descriptor left. Nothing has changed: it may be tried again.
    #[error("no file can be opened: the process has no descriptor left")]
    NoDescriptors,
    /// The log failed, now or before, for good.
    #[error(transparent)]
    Failed(#[from] LogError),
}

/// Why a log could not be changed. Each is final: the log refuses every later change.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk refused: the log directory is suspect.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Bytes that were needed are damaged: this replica is to be built anew.
    #[error(transparent)]
    Corrupt(#[from] Damage),
    /// An earlier change failed; what the log's files hold is not known.
    #[error("the log failed earlier")]
    FailedBefore,
}

impl From<SegmentError> for LogError {
    fn from(error: SegmentError) -> Self {
        match error {
            SegmentError::Damaged(damage) => Self::Corrupt(damage),
            SegmentError::Io(error) => Self::Io(error),
        }
    }
}

/// A file that a later release wrote: it is neither damaged nor to be touched. Comes as an [`io::Error`] around it; the disk is
/// not to blame for it.
#[derive(Debug, thiserror::Error)]
#[error("{path} has format version {version}, which this release does not know: start a newer one", path = .path.display())]
pub struct NewerFormat {
    path: PathBuf,
    version: u32,
}

impl NewerFormat {
    /// What an error tells of a later release's file, if that is what it tells of.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

pub(crate) fn too_new(path: &Path, version: u32) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, NewerFormat { path: path.to_owned(), version })
}

/// Whether an error only says that there is no room.
pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
