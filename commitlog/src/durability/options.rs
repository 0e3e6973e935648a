//! The journal's settings and its observer.

use std::time::Duration;

use vltava_model::{Offset, TopicPartition};

use super::error::JournalError;
use super::format::{FILE_HEADER_BYTES, FRAME_HEADER_BYTES, GROUP_HEADER_BYTES};

/// How large and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalOptions {
    /// The bytes that a file may grow to.
    pub file_bytes: u64,
    /// The bytes that a new file has at once.
    pub first_bytes: u64,
    /// The step in which a file grows; what one sync may have to carry besides a group.
    pub growth_bytes: u64,
    /// How far zeroed room is kept ahead of the newest group.
    pub ahead_bytes: u64,
    /// How many files there may be; twice as many while groups wait for the replay to be done.
    pub files_max: usize,
    /// The batches that one group may hold; beyond that, more partitions are synced by their segments.
    pub group_bytes_max: u64,
    /// From how many bytes of one partition in one group on its segment is synced instead.
    pub segment_sync_bytes: u64,
    /// How many submissions may wait.
    pub queue_max: usize,
    /// How many bytes may wait.
    pub queue_bytes_max: u64,
    /// How long a group waits for room before the disk counts as failed.
    pub stall_max: Duration,
    /// A random number, kept in the files from when the journal is made: by it groups are told from bytes that a client
    /// chose.
    pub fresh_salt: u64,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            file_bytes: 64 << 20,
            first_bytes: 4 << 20,
            growth_bytes: 1 << 20,
            ahead_bytes: 8 << 20,
            files_max: 4,
            group_bytes_max: 4 << 20,
            segment_sync_bytes: 256 << 10,
            queue_max: 4096,
            queue_bytes_max: 64 << 20,
            stall_max: Duration::from_secs(60),
            fresh_salt: 0,
        }
    }
}

impl JournalOptions {
    /// The length of the largest group: any empty file has room for one.
    pub(super) fn group_len_max(&self) -> u64 {
        self.group_bytes_max.min(self.first_bytes - FILE_HEADER_BYTES)
    }

    /// How many frames a group may have, so that all of them fit without their batches.
    pub(super) fn group_frames_max(&self) -> usize {
        (self.group_len_max() as usize - GROUP_HEADER_BYTES) / FRAME_HEADER_BYTES
    }

    /// Panics when the settings contradict each other.
    pub(super) fn check(&self) {
        assert!(self.first_bytes >= 2 * FILE_HEADER_BYTES, "journal files must begin with at least 8 KiB");
        assert!(self.file_bytes >= self.first_bytes, "a journal file is smaller than its beginning");
        assert!(self.files_max >= 2, "a journal needs two files: one is synced away while the other fills");
        assert!(self.growth_bytes > 0 && self.group_bytes_max >= FILE_HEADER_BYTES);
    }
}

/// Is told what the journal learns by itself, on the journal's threads: it must neither block nor panic.
pub trait JournalObserver: Send + Sync {
    /// All that `partition` submitted up to `end` is on stable storage in its segments, so its recovery point may move
    /// there, or to the end of the log if that was cut since.
    fn synced(&self, partition: TopicPartition, end: Offset);

    /// The journal failed, for good. Called once.
    fn failed(&self, error: &JournalError);
}

/// Observes nothing.
impl JournalObserver for () {
    fn synced(&self, _partition: TopicPartition, _end: Offset) {}

    fn failed(&self, _error: &JournalError) {}
}
