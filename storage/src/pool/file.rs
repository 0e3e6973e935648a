//! A file of a pool: open or closed, and what of it is not on stable storage yet.
//!
//! Knows nothing of other files: which one is closed is the pool's to say.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};

use super::{FilePool, Patience, TURN_PAUSE};
use crate::StorageFile;

/// A file that the pool may close while nobody uses it. Every call opens it again if need be, waiting for a descriptor.
///
/// It is found by its path then: once the file was removed, reading fails. What was written through one [`PooledFile`] has to be
/// synced through the same.
pub struct PooledFile {
    pool: FilePool,
    path: PathBuf,
    me: Weak<PooledFile>,
    /// Since the pool looked last.
    was_used: AtomicBool,
    state: Mutex<State>,
}

struct State {
    file: Option<Arc<dyn StorageFile>>,
    /// Changes under way.
    changing: u32,
    /// Changes made.
    changes: u64,
    /// How many of those a sync has covered.
    synced: u64,
    syncing: Syncing,
    /// What was there before this process opened it.
    found: Found,
    /// A sync that failed: what it was to keep is not known to be there, and a second one would lie.
    failure: Option<Failure>,
}

/// Whether what was in a file when it was opened first is on stable storage.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Unknown,
    Synced,
}

/// Whether a thread syncs the file now. One at a time: of those that do it together only one learns that it failed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Syncing {
    Nobody,
    Somebody,
}

struct Failure {
    kind: io::ErrorKind,
    code: Option<i32>,
    text: String,
}

impl Failure {
    fn of(error: &io::Error) -> Self {
        Self { kind: error.kind(), code: error.raw_os_error(), text: error.to_string() }
    }

    fn again(&self) -> io::Error {
        match self.code {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(self.kind, self.text.clone()),
        }
    }
}

/// What came of an attempt to close a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tried {
    Closed,
    /// It is in use, or was lately.
    InUse,
    /// It holds something that is not synced.
    Unsynced,
    /// It stays open for good, to tell of its failure.
    Failed,
}

impl State {
    fn has_unsynced(&self) -> bool {
        self.changing > 0 || self.changes != self.synced
    }

    fn check(&self) -> io::Result<()> {
        self.failure.as_ref().map_or(Ok(()), |failure| Err(failure.again()))
    }
}

impl PooledFile {
    pub(super) fn new(pool: FilePool, path: &Path, file: Arc<dyn StorageFile>) -> Arc<Self> {
        let state = State {
            file: Some(file),
            changing: 0,
            changes: 0,
            synced: 0,
            syncing: Syncing::Nobody,
            found: Found::Unknown,
            failure: None,
        };
        Arc::new_cyclic(|me| Self {
            pool,
            path: path.to_owned(),
            me: me.clone(),
            was_used: AtomicBool::new(true),
            state: Mutex::new(state),
        })
    }

    /// Opens the file if it is closed, without waiting for a descriptor: until others are opened, calls need none.
    ///
    /// # Errors
    /// What the disk says; [`super::is_out_of_descriptors`] when there is none to be had now.
    pub fn ready(&self) -> io::Result<()> {
        self.opened(Patience::Refuse).map(drop)
    }

    /// The open file itself, which stays open, and readable whatever happens to its name, as long as this is held.
    ///
    /// # Errors
    /// What the disk says.
    pub fn pin(&self) -> io::Result<Arc<dyn StorageFile>> {
        self.opened(Patience::Wait)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The open file. No lock is held while others are closed for it.
    fn opened(&self, patience: Patience) -> io::Result<Arc<dyn StorageFile>> {
        // Not written each time: other cores read it.
        if !self.was_used.load(Ordering::Relaxed) {
            self.was_used.store(true, Ordering::Relaxed);
        }
        if let Some(file) = &self.state().file {
            return Ok(file.clone());
        }
        let pool = &self.pool.0;
        let file = pool.claim(patience, || pool.storage.open(&self.path))?;
        let mut state = self.state();
        if let Some(earlier) = &state.file {
            // Another thread was quicker.
            pool.left();
            return Ok(earlier.clone());
        }
        pool.enter(self.me.clone());
        Ok(state.file.insert(file).clone())
    }

    /// Makes a change, during and after which the file is not closed before it is synced.
    fn change(&self, change: impl FnOnce(&dyn StorageFile) -> io::Result<()>) -> io::Result<()> {
        // As long as this is held, it is not closed, and no other takes its place.
        let file = self.opened(Patience::Wait)?;
        {
            let mut state = self.state();
            state.check()?;
            state.changing += 1;
        }
        let result = change(&*file);
        let mut state = self.state();
        // Also one that failed may have written something.
        state.changing -= 1;
        state.changes += 1;
        result
    }

    /// Closes the file, if it is idle and nothing is lost by it.
    pub(super) fn try_close(&self) -> Tried {
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Tried::InUse,
        };
        if self.was_used.swap(false, Ordering::Relaxed) {
            return Tried::InUse;
        }
        self.close(&mut state)
    }

    fn close(&self, state: &mut State) -> Tried {
        if state.failure.is_some() {
            return Tried::Failed;
        }
        // Handles are given out under this lock only. Who syncs has one.
        if state.file.as_ref().is_none_or(|file| Arc::strong_count(file) > 1) {
            return Tried::InUse;
        }
        if state.has_unsynced() {
            return Tried::Unsynced;
        }
        state.file = None;
        self.pool.0.left();
        Tried::Closed
    }

    /// The same, syncing it first.
    pub(super) fn try_sync_and_close(&self) -> Tried {
        let (file, covered) = {
            let mut state = match self.state.try_lock() {
                Ok(state) => state,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return Tried::InUse,
            };
            let (file, covered) = match (self.close(&mut state), &state.file) {
                (Tried::Unsynced, Some(file)) => (file.clone(), state.changes),
                (other, _) => return other,
            };
            state.syncing = Syncing::Somebody;
            (file, covered)
        };
        if let Err(error) = self.sync_in_turn(&*file, covered) {
            tracing::error!(file = %self.path.display(), %error, "a file could not be synced before closing it");
            return Tried::Failed;
        }
        let mut state = self.state();
        drop(file);
        // It may have been used meanwhile.
        self.close(&mut state)
    }

    /// Syncs the open file, of whose changes `covered` were made before. It is this thread's turn.
    fn sync_in_turn(&self, file: &dyn StorageFile, covered: u64) -> io::Result<()> {
        let result = file.sync_data();
        let mut state = self.state();
        state.syncing = Syncing::Nobody;
        match &result {
            Ok(()) => {
                state.synced = state.synced.max(covered);
                state.found = Found::Synced;
            }
            Err(error) => state.failure = Some(Failure::of(error)),
        }
        result
    }
}

impl StorageFile for PooledFile {
    fn read_at(&self, pos: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.pin()?.read_at(pos, buf)
    }

    fn write_all_at(&self, pos: u64, slices: &[IoSlice<'_>]) -> io::Result<()> {
        self.change(|file| file.write_all_at(pos, slices))
    }

    fn len(&self) -> io::Result<u64> {
        self.pin()?.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(|file| file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        let wanted = self.state().changes;
        loop {
            {
                let state = self.state();
                state.check()?;
                if state.found == Found::Synced && state.synced >= wanted {
                    // So it may be closed by now.
                    return Ok(());
                }
            }
            let file = self.opened(Patience::Wait)?;
            let mut state = self.state();
            if state.syncing == Syncing::Nobody {
                state.check()?;
                state.syncing = Syncing::Somebody;
                let covered = state.changes;
                drop(state);
                return self.sync_in_turn(&*file, covered);
            }
            drop(state);
            (self.pool.0.pause)(TURN_PAUSE);
        }
    }

    fn allocate_zeroed(&self, len: u64) -> io::Result<()> {
        self.change(|file| file.allocate_zeroed(len))
    }
}

impl Drop for PooledFile {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if state.file.is_some() {
            self.pool.0.left();
        }
    }
}
