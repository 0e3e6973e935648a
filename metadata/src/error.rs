//! Why records cannot be replayed. Knows nothing of what a node does about it: all but a wrong base mean that the state or
//! the log is damaged, and that the node must stop.

use vltava_model::MetadataOffset;

/// A replay was refused; the image is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The records do not follow what was applied last.
    #[error("records begin at metadata offset {given}, but {expected} was expected")]
    WrongBase {
        /// Where the image ends.
        expected: MetadataOffset,
        /// Where the records begin.
        given: MetadataOffset,
    },
    /// A snapshot is older than the image.
    #[error("the snapshot ends at metadata offset {snapshot}, before the image's {image}")]
    SnapshotBehind {
        /// Where the image ends.
        image: MetadataOffset,
        /// Where the snapshot ends.
        snapshot: MetadataOffset,
    },
    /// A record of a kind that this version does not know: it must not guess at the state that others see.
    #[error("unknown kind of record at metadata offset {at}: this version is too old for the cluster")]
    UnknownRecord {
        /// The record's offset (within a snapshot: its position).
        at: MetadataOffset,
    },
    /// A record contradicts the state, or itself.
    #[error("record at metadata offset {at}: {reason}")]
    Inconsistent {
        /// The record's offset (within a snapshot: its position).
        at: MetadataOffset,
        /// What is wrong.
        reason: Fault,
    },
}

/// What is wrong with one record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A field's bytes are no value of its type.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// A fact that was fixed for ever is given again, differently.
    #[error("{0} already exists")]
    Exists(String),
    /// It speaks of something that does not exist.
    #[error("{0} does not exist")]
    Missing(String),
    /// A number that only grows went back, or skipped.
    #[error("{what} of {of} cannot follow {before} with {after}")]
    Epoch {
        /// Which number.
        what: &'static str,
        /// Whose.
        of: String,
        /// What was known.
        before: u64,
        /// What the record says.
        after: u64,
    },
    /// A partition's fields contradict each other.
    #[error("partition {of}: {why}")]
    Partition {
        /// Which partition.
        of: String,
        /// The contradiction.
        why: &'static str,
    },
}
