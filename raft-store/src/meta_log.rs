//! What a durable Raft log must do, said without openraft and without sled.
//!
//! The store on top (`store.rs`) and the tests know only this trait, so another log, or one in memory for simulations,
//! can take sled's place. It stores bytes; what an entry says is unknown here.

use std::io;
use std::ops::Range;

use bytes::Bytes;

use crate::types::{Position, VoteRecord};

/// The largest entry, in bytes. A proposer must refuse more than this before it proposes: an entry that no log takes
/// would stop every controller in turn.
pub const MAX_ENTRY_BYTES: usize = 32 << 20;

/// One entry: where it stands, and its bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogEntry {
    /// Index and term.
    pub position: Position,
    /// What `codec::encode_entry` made of it.
    pub bytes: Bytes,
}

/// How far a log reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LogBounds {
    /// The last entry that was removed from the front.
    pub purged: Option<Position>,
    /// The last entry present, else the same as `purged`.
    pub last: Option<Position>,
}

/// Why a log refuses. Every one is final: the owner must stop, since nothing is known any more about what is on disk.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The operating system or the database said no.
    #[error("could not {action}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// What came back.
        source: io::Error,
    },
    /// Something that was written does not read back as it was.
    #[error("damaged: {0}")]
    Damaged(String),
    /// The caller asked for what a log must never do, such as leaving a gap.
    #[error("refused: {0}")]
    Refused(String),
    /// An earlier error was final.
    #[error("the log failed before: {0}")]
    Failed(String),
}

/// A durable Raft log with its vote. One owner; every call blocks, and what it wrote is on stable storage on return.
pub trait MetaLog: Send + 'static {
    /// Appends entries that follow the last one without a gap. All or none of them are there after a crash.
    fn append(&mut self, entries: &[LogEntry]) -> Result<(), LogError>;

    /// Removes the entry at `index` and all after it. A crash in between leaves a shorter log without a gap.
    fn truncate_from(&mut self, index: u64) -> Result<(), LogError>;

    /// Removes all entries up to and with `upto`, which may lie beyond the last one. A crash in between leaves a log
    /// that starts earlier, without a gap.
    fn purge_up_to(&mut self, upto: Position) -> Result<(), LogError>;

    /// Saves the vote.
    fn save_vote(&mut self, vote: VoteRecord) -> Result<(), LogError>;

    /// The vote that was saved last.
    fn read_vote(&self) -> Option<VoteRecord>;

    /// Remembers how far entries are committed, to be written together with whatever is written next: to lose it costs
    /// a little replay, never data.
    fn note_committed(&mut self, committed: Option<Position>);

    /// Writes what [`MetaLog::note_committed`] left, if anything.
    fn save_committed(&mut self) -> Result<(), LogError>;

    /// The last position given to [`MetaLog::note_committed`].
    fn read_committed(&self) -> Option<Position>;

    /// The entries of `range` that exist, in order, up to about `max_bytes` but at least one.
    fn read(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<LogEntry>, LogError>;

    /// How far the log reaches.
    fn bounds(&self) -> LogBounds;
}

/// Whether `entry` may follow `last`: the next index, no lower term, no more bytes than any log takes.
pub(crate) fn check_follows(last: Option<Position>, entry: &LogEntry) -> Result<(), LogError> {
    let position = entry.position;
    if entry.bytes.len() > MAX_ENTRY_BYTES {
        let length = entry.bytes.len();
        return Err(LogError::Refused(format!(
            "entry {position} of {length} bytes: more than {MAX_ENTRY_BYTES}"
        )));
    }
    if last.is_some_and(|last| position.index != last.index + 1 || position.term < last.term) {
        return Err(LogError::Refused(format!("entry {position} does not follow the last one: {last:?}")));
    }
    Ok(())
}
