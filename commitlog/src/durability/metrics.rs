//! What the journal counts, for whoever exports it.
//!
//! Plain counters, read without a lock. Knows no metrics library.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counters since the start of the journal.
#[derive(Debug, Default)]
pub struct JournalMetrics {
    groups: AtomicU64,
    frames: AtomicU64,
    bytes: AtomicU64,
    sync_nanos: AtomicU64,
    last_group_nanos: AtomicU64,
    segment_syncs: AtomicU64,
    recycled_files: AtomicU64,
    stalls: AtomicU64,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalMetricsSnapshot {
    /// Groups made durable.
    pub groups: u64,
    /// Frames within them.
    pub frames: u64,
    /// Bytes written to the journal.
    pub bytes: u64,
    /// Time spent in the groups' own syncs, in nanoseconds.
    pub sync_nanos: u64,
    /// How long the newest group took from its first look at the queue to being durable, in nanoseconds.
    pub last_group_nanos: u64,
    /// Syncs of segment files, of any reason.
    pub segment_syncs: u64,
    /// Journal files whose segments were synced and that were used again.
    pub recycled_files: u64,
    /// How often a group had to wait for room in the journal.
    pub stalls: u64,
}

impl JournalMetrics {
    /// The counters now; each is exact, but they are not taken at one instant.
    pub fn snapshot(&self) -> JournalMetricsSnapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        JournalMetricsSnapshot {
            groups: read(&self.groups),
            frames: read(&self.frames),
            bytes: read(&self.bytes),
            sync_nanos: read(&self.sync_nanos),
            last_group_nanos: read(&self.last_group_nanos),
            segment_syncs: read(&self.segment_syncs),
            recycled_files: read(&self.recycled_files),
            stalls: read(&self.stalls),
        }
    }

    pub(super) fn group(&self, frames: usize, bytes: u64, sync: Duration, whole: Duration) {
        add(&self.groups, 1);
        add(&self.frames, frames as u64);
        add(&self.bytes, bytes);
        add(&self.sync_nanos, sync.as_nanos() as u64);
        self.last_group_nanos.store(whole.as_nanos() as u64, Ordering::Relaxed);
    }

    pub(super) fn segment_synced(&self) {
        add(&self.segment_syncs, 1);
    }

    pub(super) fn file_recycled(&self) {
        add(&self.recycled_files, 1);
    }

    pub(super) fn stalled(&self) {
        add(&self.stalls, 1);
    }
}

fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}
