//! Why a Raft directory does not open, and what the operator does about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::engine::LogEngine;

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
    /// The directory's log lies on another engine than was asked for. To begin a new one would forget what was promised.
    #[error(
        "the Raft log in {dir} lies on {holds}, not on {wanted}: set `metadata.log.engine = \"{holds}\"`, or leave that \
         out. To move this controller to {wanted}, replace it: run `vltava quorum remove` for this node on another \
         controller, delete {dir}, start this node, then run `vltava quorum add`.",
        dir = directory.display()
    )]
    OtherEngine {
        /// The Raft directory.
        directory: PathBuf,
        /// What it holds.
        holds: LogEngine,
        /// What was asked for.
        wanted: LogEngine,
    },
    /// The bytes are whole, and say something that this release does not know.
    #[error(
        "{} was written by a newer release of Vltava: its {what} is {number}, which this one does not know. Start that \
         release, or a later one",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// What is not known here.
        what: &'static str,
        /// Its number.
        number: u32,
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
