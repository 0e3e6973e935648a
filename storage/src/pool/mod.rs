//! Keeps few files open for many: a process has so many descriptors, and a node may have more logs than that.
//!
//! A [`PooledFile`] is opened when it is used. When as many are open as may be, those that were not used for longest are
//! closed, but never one that holds something unsynced: Linux tells of a failed write-back only to descriptors that were
//! open when it failed, so such a file is synced first, through the descriptor that wrote. If that sync fails the file stays
//! open, and every later write or sync of it says so.
//!
//! What cannot be had while other parts of the process hold all descriptors is waited for, except where the caller can
//! refuse his own caller instead ([`FilePool::create`], [`PooledFile::ready`]). It never looks like a failed disk.
//!
//! - `file`: one file, open or not.  - `patient`: a [`Storage`] whose every call waits for the descriptor that it needs.
//!
//! Knows nothing of what is in the files.

mod file;
mod patient;

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

pub use file::PooledFile;
use file::Tried;
use patient::Patient;

use crate::{Storage, StorageFile};

/// How long one wait for a descriptor is.
const PAUSE: Duration = Duration::from_millis(20);

/// How long one wait for another thread's sync of the same file is.
const TURN_PAUSE: Duration = Duration::from_micros(100);

/// A warning once in so many waits.
const PAUSES_A_WARNING: u32 = 500;

/// So many files are closed at once at most, so that not every opening has to look for one.
const BATCH_MAX: usize = 32;

/// So many files that would have to be synced first are passed over in the search for one that need not be.
const UNSYNCED_PASSED_MAX: usize = 64;

/// The open files of a process' logs; clones share them. See the module.
#[derive(Clone)]
pub struct FilePool(Arc<Pool>);

struct Pool {
    storage: Arc<dyn Storage>,
    max: usize,
    pause: fn(Duration),
    open: Mutex<Open>,
    counters: Counters,
}

/// What is open.
#[derive(Default)]
struct Open {
    count: usize,
    /// Those that are open, about in the order of their last use; those that were dropped may still be among them.
    queue: VecDeque<Weak<PooledFile>>,
}

#[derive(Default)]
struct Counters {
    opened: AtomicU64,
    closed: AtomicU64,
    synced: AtomicU64,
    exhausted: AtomicU64,
}

/// What a pool has done so far, and has now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FilePoolMetrics {
    /// Files open now.
    pub open: u64,
    /// How many may be.
    pub max: u64,
    /// Files that were opened.
    pub opened: u64,
    /// Files that were closed to open others.
    pub closed: u64,
    /// How many of those had to be synced first.
    pub synced: u64,
    /// How often the system gave no descriptor.
    pub exhausted: u64,
}

/// What to do when there is no descriptor to be had.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    Refuse,
    Wait,
}

/// Whether an error only says that this process, or the system, has no descriptor left: nothing was done, and it may work
/// later.
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

impl FilePool {
    /// A pool that keeps about `max` files of `storage` open: more only while so many are in use at the same moment.
    /// `pause` waits, on the thread that calls it.
    pub fn new(storage: Arc<dyn Storage>, max: usize, pause: fn(Duration)) -> Self {
        let (open, counters) = (Mutex::default(), Counters::default());
        Self(Arc::new(Pool { storage, max: max.max(1), pause, open, counters }))
    }

    /// The disk, for files that stay open and for names. No call fails for want of a descriptor: it waits for one.
    pub fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(Patient(self.clone()))
    }

    /// Opens a file, creating it empty if it is not there.
    ///
    /// # Errors
    /// What the disk says; [`is_out_of_descriptors`] when there is none to be had now.
    pub fn create(&self, path: &Path) -> io::Result<Arc<PooledFile>> {
        let file = self.0.claim(Patience::Refuse, || self.0.storage.create(path))?;
        Ok(self.adopt(path, file))
    }

    /// As [`Self::create`], but waits for a descriptor.
    ///
    /// # Errors
    /// What the disk says.
    pub fn create_patiently(&self, path: &Path) -> io::Result<Arc<PooledFile>> {
        let file = self.0.claim(Patience::Wait, || self.0.storage.create(path))?;
        Ok(self.adopt(path, file))
    }

    /// Opens an existing file, waiting for a descriptor.
    ///
    /// # Errors
    /// What the disk says.
    pub fn open(&self, path: &Path) -> io::Result<Arc<PooledFile>> {
        let file = self.0.claim(Patience::Wait, || self.0.storage.open(path))?;
        Ok(self.adopt(path, file))
    }

    fn adopt(&self, path: &Path, file: Arc<dyn StorageFile>) -> Arc<PooledFile> {
        let pooled = PooledFile::new(self.clone(), path, file);
        self.0.enter(Arc::downgrade(&pooled));
        pooled
    }

    /// What it has done so far, and has now.
    pub fn metrics(&self) -> FilePoolMetrics {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters { opened, closed, synced, exhausted } = &self.0.counters;
        FilePoolMetrics {
            open: self.0.open().count as u64,
            max: self.0.max as u64,
            opened: of(opened),
            closed: of(closed),
            synced: of(synced),
            exhausted: of(exhausted),
        }
    }
}

impl Pool {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a file by `open`, for which room is made first; it counts from here on.
    fn claim<T>(&self, patience: Patience, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        let surplus = {
            let mut state = self.open();
            state.count += 1;
            state.count.saturating_sub(self.max)
        };
        if surplus > 0 {
            self.close_some(surplus.max((self.max / 64).min(BATCH_MAX)));
        }
        let opened = self.with_descriptor(patience, open);
        match &opened {
            Ok(_) => self.counters.opened.fetch_add(1, Ordering::Relaxed),
            Err(_) => {
                self.open().count -= 1;
                0
            }
        };
        opened
    }

    /// Does what needs a descriptor for a moment or for longer, closing files when the system has none to give.
    fn with_descriptor<T>(&self, patience: Patience, act: impl Fn() -> io::Result<T>) -> io::Result<T> {
        let mut pauses = 0;
        loop {
            let error = match act() {
                Err(error) if is_out_of_descriptors(&error) => error,
                other => return other,
            };
            self.counters.exhausted.fetch_add(1, Ordering::Relaxed);
            if self.close_some(1) > 0 {
                continue;
            }
            if patience == Patience::Refuse {
                return Err(error);
            }
            if pauses % PAUSES_A_WARNING == 0 {
                tracing::warn!(%error, open = self.open().count, "no file can be opened: waiting for a descriptor; see 'File descriptors' in docs/operations.md");
            }
            pauses += 1;
            (self.pause)(PAUSE);
        }
    }

    /// Takes an open file into the queue.
    fn enter(&self, file: Weak<PooledFile>) {
        let mut open = self.open();
        if open.queue.len() > 2 * open.count + BATCH_MAX {
            open.queue.retain(|file| file.strong_count() > 0);
        }
        open.queue.push_back(file);
    }

    /// Closes up to `wanted` files, preferably such as need not be synced first; how many it were.
    fn close_some(&self, wanted: usize) -> usize {
        let mut closed = 0;
        let mut unsynced: Vec<Arc<PooledFile>> = Vec::new();
        // Twice around: the first time may only find that all were used since they were looked at last.
        let mut looks = 2 * self.open().queue.len();
        while closed < wanted && looks > 0 && unsynced.len() < UNSYNCED_PASSED_MAX {
            looks -= 1;
            let Some(known) = self.open().queue.pop_front() else { break };
            let Some(file) = known.upgrade() else { continue };
            match file.try_close() {
                Tried::Closed => closed += 1,
                Tried::InUse => self.open().queue.push_back(known),
                Tried::Unsynced => unsynced.push(file),
                Tried::Failed => {}
            }
        }
        let mut unsynced = unsynced.into_iter();
        while closed < wanted
            && let Some(file) = unsynced.next()
        {
            match file.try_sync_and_close() {
                Tried::Closed => {
                    self.counters.synced.fetch_add(1, Ordering::Relaxed);
                    closed += 1;
                }
                Tried::InUse | Tried::Unsynced => self.open().queue.push_back(Arc::downgrade(&file)),
                // It stays open, and is out of the queue.
                Tried::Failed => {}
            }
        }
        // They stay the oldest.
        for file in unsynced.rev() {
            self.open().queue.push_front(Arc::downgrade(&file));
        }
        self.counters.closed.fetch_add(closed as u64, Ordering::Relaxed);
        closed
    }

    /// A file was closed.
    fn left(&self) {
        self.open().count -= 1;
    }
}

#[cfg(test)]
mod tests;
