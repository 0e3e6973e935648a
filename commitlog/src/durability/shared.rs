//! What the journal's threads and its handle share: the failure, and the files that wait.
//!
//! The committer takes empty files and gives back full ones; the syncer syncs what the full ones hold and makes them
//! empty again, the preparer makes more. Every use of a file takes the next generation, one after the other, and full
//! files are emptied oldest first: so the generations on disk never have a gap. Knows nothing of groups.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use super::dirty::Dirty;
use super::error::{Done, JournalError, failed};
use super::file::JournalFile;
use super::metrics::JournalMetrics;
use super::options::{JournalObserver, JournalOptions};
use vltava_storage::{Storage, StorageFile};
use vltava_threads::{Changed, lock};

/// The common ground of one journal.
pub(super) struct Shared {
    pub storage: Arc<dyn Storage>,
    pub dir: PathBuf,
    pub options: JournalOptions,
    pub salt: u64,
    pub observer: Arc<dyn JournalObserver>,
    pub metrics: JournalMetrics,
    /// What logs hold of the frames found at the start, unsynced: synced before any of the files found then is used again.
    pub replayed: Mutex<Dirty>,
    failure: OnceLock<JournalError>,
    /// The next use of a file gets this; held while its header is written, so that headers appear on disk in order.
    generation: Mutex<u64>,
    room: Mutex<Room>,
    changed: Changed,
}

/// The files that are not being written, and what is wanted.
pub(super) struct Room {
    /// Full, in the order of their generations; what they hold is to be synced.
    pub sealed: VecDeque<Arc<SealedFile>>,
    /// Empty and prepared, in the order of their generations.
    pub spares: VecDeque<JournalFile>,
    pub spare: Want,
    pub growth: Growth,
    /// All files, the one being written included.
    pub files: usize,
    pub replay: Replay,
    pub stage: Stage,
    pub syncs: VecDeque<SyncRequest>,
}

/// A full file.
pub(super) struct SealedFile {
    pub file: Arc<JournalFile>,
    pub dirty: Mutex<Dirty>,
    /// One past the sequence of its last group.
    pub end_sequence: u64,
}

/// Whether an empty file should be prepared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    No,
    Yes,
    /// A group waits for it.
    Now,
    /// Yes, but the disk is too full for another: one has to be freed.
    OnlyFreed,
}

/// What is to be done about the room in the file being written.
pub(super) enum Growth {
    Enough,
    Wanted {
        file: Arc<JournalFile>,
        bytes: u64,
    },
    /// The disk is full.
    Refused,
}

/// Whether the frames found at the start are in segments, synced ones or such as are to be synced.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Replay {
    Pending,
    Done,
}

/// How far the journal's life has gone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Running,
    /// The committer is to end, and everything is to be synced.
    Closing,
    /// The committer has ended; the syncer syncs everything, then ends.
    Emptying,
    /// All are to end.
    Stopping,
}

/// Files to be synced for someone.
pub(super) struct SyncRequest {
    pub files: Vec<Arc<dyn StorageFile>>,
    pub done: Done,
}

impl Shared {
    pub fn new(
        storage: Arc<dyn Storage>,
        dir: PathBuf,
        options: JournalOptions,
        salt: u64,
        observer: Arc<dyn JournalObserver>,
        generation: u64,
        room: Room,
    ) -> Self {
        Self {
            storage,
            dir,
            options,
            salt,
            observer,
            metrics: JournalMetrics::default(),
            replayed: Mutex::default(),
            failure: OnceLock::new(),
            generation: Mutex::new(generation),
            room: Mutex::new(room),
            changed: Changed::default(),
        }
    }

    /// The failure, if there was one.
    pub fn check(&self) -> Result<(), JournalError> {
        match self.failure.get() {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// Ends the journal's service; the first failure is the one that counts.
    pub fn fail(&self, error: &JournalError) {
        if self.failure.set(error.clone()).is_ok() {
            tracing::error!(%error, "the journal failed; its log directory has to stop serving");
            self.observer.failed(error);
        }
        // Taken so that nobody checks, misses the failure, and then waits.
        drop(self.room());
        self.changed.notify_all();
    }

    /// Begins the next use of a file by `begin`, which makes its header durable; no other begins meanwhile, nor after one
    /// that failed: its header may be on the disk or not, so neither its generation nor the one behind it can be used.
    pub fn next_generation(
        &self,
        begin: impl FnOnce(u64) -> Result<(), JournalError>,
    ) -> Result<(), JournalError> {
        let mut generation = lock(&self.generation);
        self.check()?;
        begin(*generation).inspect_err(|error| self.fail(error))?;
        *generation += 1;
        Ok(())
    }

    /// A number for a new file's name. Every new file takes a generation after it took its number, so none gets one
    /// that another has.
    pub fn file_name(&self) -> u64 {
        *lock(&self.generation)
    }

    pub fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the room and wakes whoever waits for a change.
    pub fn change<R>(&self, change: impl FnOnce(&mut Room) -> R) -> R {
        let result = change(&mut self.room());
        self.changed.notify_all();
        result
    }

    /// Waits for a change of `room`.
    pub fn wait<'a>(&'a self, room: MutexGuard<'a, Room>) -> MutexGuard<'a, Room> {
        self.changed.wait(&self.room, room, None)
    }

    /// Waits until `ready` gives something, the journal fails, or the disk has stalled for too long.
    pub fn wait_for<R>(&self, mut ready: impl FnMut(&mut Room) -> Option<R>) -> Result<R, JournalError> {
        let deadline = Instant::now() + self.options.stall_max;
        let mut room = self.room();
        loop {
            self.check()?;
            if let Some(result) = ready(&mut room) {
                return Ok(result);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let error = std::io::Error::new(std::io::ErrorKind::TimedOut, "the disk is too slow");
                return Err(failed("waiting for room in", &self.dir)(error));
            }
            room = self.changed.wait(&self.room, room, Some(left));
        }
    }
}

impl SealedFile {
    /// A full file of before the restart: the logs that replay it sync what it holds, or have it synced as `replayed`.
    pub fn recovered(file: JournalFile, end_sequence: u64) -> Self {
        Self { file: Arc::new(file), dirty: Mutex::default(), end_sequence }
    }
}

#[cfg(test)]
mod tests {
    use vltava_storage::MemoryStorage;

    use super::*;

    #[test]
    fn nothing_is_begun_behind_a_use_that_failed_to_begin() {
        let room = Room {
            sealed: VecDeque::new(),
            spares: VecDeque::new(),
            spare: Want::No,
            growth: Growth::Enough,
            files: 1,
            replay: Replay::Done,
            stage: Stage::Running,
            syncs: VecDeque::new(),
        };
        let (storage, options) = (Arc::new(MemoryStorage::new()), JournalOptions::default());
        let shared = Shared::new(storage, PathBuf::from("/"), options, 0, Arc::new(()), 7, room);
        let mut begun = Vec::new();
        let mut begin = |outcome: Result<(), JournalError>| {
            shared.next_generation(|generation| {
                begun.push(generation);
                outcome
            })
        };
        begin(Ok(())).unwrap();
        let error = failed("syncing", std::path::Path::new("/"))(std::io::ErrorKind::Other.into());
        begin(Err(error)).unwrap_err();
        begin(Ok(())).unwrap_err();
        assert_eq!(begun, [7, 8]);
    }
}
