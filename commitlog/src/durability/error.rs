//! Why something could not be made durable, shaped by what the caller does next.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::entry::JournalEntry;

/// The journal failed, for good: nothing is durable from now on, and its log directory has to stop serving.
///
/// The first failure is kept, and given to everyone who asks later.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{action} {} failed: {source}", path.display())]
pub struct JournalError {
    /// What was being done.
    pub action: &'static str,
    /// To which file.
    pub path: PathBuf,
    /// What the disk said.
    pub source: Arc<io::Error>,
}

/// Called once, with the outcome, on a thread of the journal: it must neither block nor panic.
pub type Done = Box<dyn FnOnce(Result<(), JournalError>) + Send>;

/// Why a submission was not taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SubmitError {
    /// The queue is full: try again later.
    #[error("the journal's queue is full")]
    Full,
    /// The submission has more entries than one group can hold: split it.
    #[error("a submission of {entries} entries; {max} are the limit")]
    TooManyEntries {
        /// How many it has.
        entries: usize,
        /// How many one may have.
        max: usize,
    },
    /// The journal failed or was closed.
    #[error(transparent)]
    Failed(#[from] JournalError),
}

/// A submission that was not taken, given back whole.
pub struct Refused {
    /// Why.
    pub error: SubmitError,
    /// The entries, untouched.
    pub entries: Vec<JournalEntry>,
    /// The callback, not called.
    pub done: Done,
}

impl std::fmt::Debug for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Refused").field("error", &self.error).field("entries", &self.entries.len()).finish()
    }
}

/// Why a journal could not be read or started.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The disk refused.
    #[error(transparent)]
    Io(#[from] JournalError),
    /// What is in the journal was acknowledged, and cannot be read: this replica must not serve before it was
    /// repaired from another.
    #[error("{} is damaged at byte {position}: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it.
        position: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A later release wrote this.
    #[error("{} has format version {version}, which this release does not know: start a newer one", path.display())]
    UnsupportedVersion {
        /// The file.
        path: PathBuf,
        /// The version that it states.
        version: u16,
    },
}

/// Names what was being done to which file when the disk refused.
pub(super) fn failed<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> JournalError + 'a {
    move |source| JournalError { action, path: path.to_owned(), source: Arc::new(source) }
}

pub(super) fn corrupt(path: &Path, position: u64, reason: impl Into<String>) -> RecoverError {
    RecoverError::Corrupt { path: path.to_owned(), position, reason: reason.into() }
}
