//! The logs that a controller's Raft log can lie on: the write-ahead log on a disk in memory, sled on copies of directories.

mod script;
pub mod sled;
pub mod wal;
