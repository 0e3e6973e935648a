//! Why a Raft directory does not open, and what the operator does about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why a Raft directory does not open. None of them changes anything on disk.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process (or another store of this one) has the directory.
    #[error("{} is in use by another process", directory.display())]
    InUse {
        /// The Raft directory.
        directory: PathBuf,
    },
    /// The operating system said no.
    #[error("could not {action} {}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What came back.
        source: io::Error,
    },
    /// What was acknowledged is not all there, or is not what was written. To start with less would break promises to
    /// the other voters, so this voter must be replaced.
    #[error(
        "the Raft log in {dir} is damaged: {what}. This controller must not vote again as the one it was. With a quorum \
         of other controllers alive: run `vltava quorum remove` for this node on one of them, delete {dir}, start this \
         node, then run `vltava quorum add`. Without one: restore {dir} from a backup.",
        dir = directory.display()
    )]
    Damaged {
        /// The Raft directory.
        directory: PathBuf,
        /// What was found.
        what: String,
    },
}

impl OpenError {
    /// Wraps an error of the operating system.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// Names damage in `directory`.
    pub(crate) fn damaged(directory: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { directory: directory.to_owned(), what: what.into() }
    }
}
