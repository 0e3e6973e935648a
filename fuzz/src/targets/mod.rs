//! The targets, a file for each kind of bytes.

mod batch;
mod checkpoint;
#[cfg(feature = "cluster")]
mod config;
mod history;
mod journal;
mod log;
#[cfg(feature = "cluster")]
mod messages;
#[cfg(feature = "cluster")]
mod metadata;
#[cfg(feature = "cluster")]
mod raft;
#[cfg(feature = "cluster")]
mod wal;

/// One decoder, or several that take the same bytes.
pub struct Target {
    /// Its name, and its corpus's.
    pub name: &'static str,
    /// Takes any bytes; panics when a promise is broken.
    pub run: fn(&[u8]),
    /// Inputs that lead into the code: good ones.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Bytes that the target reads besides its input.
    pub given: usize,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "batch", run: batch::run, seeds: batch::seeds, given: 0 },
    Target { name: "checkpoint", run: checkpoint::run, seeds: checkpoint::seeds, given: 1 << 10 },
    #[cfg(feature = "cluster")]
    Target { name: "config", run: config::run, seeds: config::seeds, given: 0 },
    Target { name: "history", run: history::run, seeds: history::seeds, given: 0 },
    Target { name: "journal", run: journal::run, seeds: journal::seeds, given: 32 << 10 },
    Target { name: "log", run: log::run, seeds: log::seeds, given: 16 << 10 },
    #[cfg(feature = "cluster")]
    Target { name: "messages", run: messages::run, seeds: messages::seeds, given: 0 },
    #[cfg(feature = "cluster")]
    Target { name: "metadata", run: metadata::run, seeds: metadata::seeds, given: 0 },
    #[cfg(feature = "cluster")]
    Target { name: "raft", run: raft::run, seeds: raft::seeds, given: 0 },
    #[cfg(feature = "cluster")]
    Target { name: "wal", run: wal::run, seeds: wal::seeds, given: 64 << 10 },
];
