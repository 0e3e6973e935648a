//! Where bytes on disk are not what was written: the one description that recovery and readers share.
//!
//! Knows nothing of what is done about it: a damaged range is repaired from a peer, by the owner of the log.

use std::io;
use std::path::PathBuf;

use vltava_model::Offset;

/// Bytes that fail their checks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: damaged at byte {position} (offset {offset}): {reason}", file.display())]
pub struct Damage {
    /// The file that holds the bytes, or that should.
    pub file: PathBuf,
    /// Where in the file.
    pub position: u64,
    /// The first record that cannot be trusted.
    pub offset: Offset,
    /// What is wrong.
    pub reason: &'static str,
}

/// Why bytes could not be taken from a segment.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SegmentError {
    /// The bytes are there and are wrong.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The disk refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}
