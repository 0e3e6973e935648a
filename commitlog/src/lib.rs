//! One partition's bytes on one disk, and what makes many of them durable at once.
//!
//! | module | what lives there |
//! |---|---|
//! | [`directory`] | a log directory: its lock, its identity, the proof of a clean shutdown, its partitions, whether it still serves |
//! | [`durability`] | the journal of a log directory: one write and one sync for what many partitions appended |
//! | [`log`] | one partition's log: segments, indexes, leader epochs, producers, recovery, retention |
//!
//! A record's way: the partition's one writer appends it to a segment by a buffered write, hands the same bytes to the
//! journal, and is told when they are on stable storage. Segments are synced later, before their part of the journal
//! is used again; after a crash the journal's frames are applied to them.
//!
//! The crate blocks and knows no runtime, no network and no replication. Time and randomness come in as arguments; a
//! clock is read for metrics alone. Bytes found on disk never cause a panic.

pub mod directory;
pub mod durability;
pub mod log;
