//! [`Storage`] in memory that loses what was not synced, for tests and for the simulation.
//!
//! It takes the side of the adversary wherever POSIX leaves room: bytes and names are lost apart from each other,
//! syncing a file does not sync its name, and a failed sync loses what it was asked to keep while the next one claims
//! success. The same calls and the same seed give the same bytes; there is no clock and no randomness of its own.
//! Knows nothing of what is stored.

mod crash;
mod disk;
mod rot;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

pub use crash::CrashMode;
use disk::{Disk, FileChange, InodeId, Operation};
pub use rot::Rot;

use super::{Storage, StorageFile, StorageLock};

/// A file system in memory. Clones share it.
#[derive(Clone, Default)]
pub struct MemoryStorage(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    resumed: Condvar,
}

#[derive(Default)]
struct State {
    disk: Disk,
    recording: Option<Recording>,
    faults: Vec<Fault>,
    capacity: Option<u64>,
    descriptors: Option<usize>,
    /// Files open now.
    open: usize,
    locks: BTreeSet<PathBuf>,
    paused: Vec<String>,
    blocked: usize,
    power: Power,
}

/// All that was done since a moment.
struct Recording {
    before: Disk,
    operations: Vec<Operation>,
}

#[derive(Default, PartialEq, Eq)]
enum Power {
    #[default]
    On,
    Off,
}

/// The kind of call that a [`Fault`] hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultPoint {
    /// `read_at`, `len`, `list` and `exists`: with EIO, whatever the fault says, as Linux does for what a disk can't read.
    Read,
    /// `write_all_at`, `set_len` and `allocate_zeroed`; the first half of what was to be written is.
    Write,
    /// `sync_data`; what was unsynced is lost for good, though reads still show it, and the next sync succeeds.
    SyncData,
    /// `sync_dir`; the same, for names.
    SyncDir,
    /// `create` of a file or directory, `rename`, `remove`, `remove_dir_all`.
    Name,
}

/// An error to be injected.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What it hits.
    pub at: FaultPoint,
    /// Only paths that contain this text; the empty text hits all.
    pub path: String,
    /// How many matching calls succeed first.
    pub after: u64,
    /// How many matching calls then fail.
    pub times: u64,
    /// With what.
    pub error: ErrorKind,
}

/// Holds back syncs until it is dropped.
pub struct PausedSyncs {
    storage: MemoryStorage,
    path: String,
}

struct MemoryFile {
    storage: MemoryStorage,
    inode: InodeId,
    path: PathBuf,
}

struct MemoryLock {
    storage: MemoryStorage,
    path: PathBuf,
}

impl StorageLock for MemoryLock {}

impl MemoryStorage {
    /// An empty file system; its root is durable.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty file system that remembers every change, so that [`Self::at`] can go back to any of them.
    pub fn recording() -> Self {
        let storage = Self::default();
        storage.record();
        storage
    }

    /// Remembers every change from now on.
    pub fn record(&self) {
        let mut state = self.state();
        state.recording = Some(Recording { before: state.disk.clone(), operations: Vec::new() });
    }

    /// How many changes were remembered.
    pub fn operations(&self) -> usize {
        self.state().recording.as_ref().map_or(0, |recording| recording.operations.len())
    }

    /// The file system as it was after the first `operations` remembered changes, with what was unsynced then still
    /// unsynced.
    ///
    /// # Panics
    /// When fewer were remembered.
    pub fn at(&self, operations: usize) -> Self {
        let past = Self::default();
        let state = self.state();
        let recording = state.recording.as_ref().expect("changes are remembered");
        let mut disk = recording.before.clone();
        recording.operations[..operations].iter().for_each(|operation| disk.apply(operation.clone()));
        past.state().disk = disk;
        past
    }

    /// What a restart after a crash now would find; this storage goes on.
    pub fn survivor(&self, rng: &mut dyn rand::Rng, mode: CrashMode) -> Self {
        let survivor = Self::default();
        survivor.state().disk = crash::survive(self.state().disk.clone(), rng, mode);
        survivor
    }

    /// Crashes: every later call on this storage and its files fails, and what survived is returned.
    pub fn crash(&self, rng: &mut dyn rand::Rng, mode: CrashMode) -> Self {
        let survivor = Self::default();
        {
            let mut state = self.state();
            state.power = Power::Off;
            // Nobody can look at it any more, unless its past is remembered.
            let disk = match &state.recording {
                None => std::mem::take(&mut state.disk),
                Some(_) => state.disk.clone(),
            };
            survivor.state().disk = crash::survive(disk, rng, mode);
        }
        self.0.resumed.notify_all();
        survivor
    }

    /// The bytes of all files in a directory whose names are wanted, by their names, as its process sees them: no fault hits
    /// this.
    ///
    /// # Errors
    /// When there is no such directory.
    pub fn files_in(&self, dir: &Path, wanted: impl Fn(&str) -> bool) -> io::Result<Vec<(String, Vec<u8>)>> {
        let state = self.state();
        let inode = state.disk.resolve(dir)?;
        let names = state.disk.names(inode)?.into_iter().filter(|name| wanted(name));
        let read = |name: String| {
            let file = state.disk.entry(inode, &name).expect("listed just now");
            let bytes = state.disk.current(file).to_vec();
            (name, bytes)
        };
        Ok(names.map(read).collect())
    }

    /// Adds an error to come.
    pub fn inject(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Takes back all errors to come.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// Limits the bytes of all files together; a write that does not fit writes what does and fails with
    /// [`ErrorKind::StorageFull`].
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Limits how many files may be open at once; what needs another descriptor, if only for a moment, fails as a process
    /// does that has none left.
    pub fn set_descriptors(&self, descriptors: Option<usize>) {
        self.state().descriptors = descriptors;
    }

    /// How many files are open.
    pub fn open_files(&self) -> usize {
        self.state().open
    }

    /// The bytes of all files together.
    pub fn used(&self) -> u64 {
        self.state().disk.used()
    }

    /// Flips one bit of a file, on disk and in the cache alike.
    ///
    /// # Panics
    /// When there is no such byte.
    pub fn flip_bit(&self, path: &Path, position: u64, bit: u8) {
        let mut state = self.state();
        let inode = state.disk.resolve_file(path).expect("the file exists");
        state.disk.flip_bit(inode, position, bit);
    }

    /// Makes every `sync_data` of a path that contains `path` wait until the guard is dropped.
    pub fn pause_syncs(&self, path: &str) -> PausedSyncs {
        self.state().paused.push(path.to_owned());
        PausedSyncs { storage: self.clone(), path: path.to_owned() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while syncs of `path` are paused.
    fn pass_pause(&self, path: &Path) -> MutexGuard<'_, State> {
        let mut state = self.state();
        if state.paused.is_empty() {
            return state;
        }
        let text = path.to_string_lossy().into_owned();
        state.blocked += 1;
        self.0.resumed.notify_all();
        while state.power == Power::On && state.paused.iter().any(|paused| text.contains(paused)) {
            state = self.0.resumed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.blocked -= 1;
        state
    }
}

impl PausedSyncs {
    /// Waits until a call is held back.
    pub fn wait_until_blocked(&self) {
        let mut state = self.storage.state();
        while state.blocked == 0 {
            state = self.storage.0.resumed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for PausedSyncs {
    fn drop(&mut self) {
        let mut state = self.storage.state();
        if let Some(at) = state.paused.iter().position(|paused| *paused == self.path) {
            state.paused.remove(at);
        }
        self.storage.0.resumed.notify_all();
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        self.storage.state().open -= 1;
    }
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.storage.state().locks.remove(&self.path);
    }
}

impl State {
    /// Fails when the power is off, or a fault is due.
    fn check(&mut self, at: FaultPoint, path: &Path) -> io::Result<()> {
        if self.power == Power::Off {
            return Err(io::Error::other("the storage has crashed"));
        }
        if self.faults.is_empty() {
            return Ok(());
        }
        let text = path.to_string_lossy();
        for fault in self.faults.iter_mut().filter(|fault| fault.at == at && text.contains(&fault.path)) {
            if fault.after > 0 {
                fault.after -= 1;
            } else if fault.times > 0 {
                fault.times -= 1;
                return Err(match at {
                    FaultPoint::Read => rustix::io::Errno::IO.into(),
                    _ => io::Error::new(fault.error, "injected"),
                });
            }
        }
        Ok(())
    }

    /// Fails when no further file can be opened.
    fn check_descriptor(&self) -> io::Result<()> {
        match self.descriptors {
            Some(most) if self.open >= most => Err(rustix::io::Errno::MFILE.into()),
            _ => Ok(()),
        }
    }

    fn apply(&mut self, operation: Operation) {
        if let Some(recording) = &mut self.recording {
            recording.operations.push(operation.clone());
        }
        self.disk.apply(operation);
    }

    /// Writes as much of `bytes` as fits; says whether that was all.
    fn write(&mut self, inode: InodeId, pos: u64, mut bytes: Vec<u8>) -> io::Result<()> {
        let fits = self.fits(inode, pos + bytes.len() as u64);
        let full = fits < pos + bytes.len() as u64;
        bytes.truncate(fits.saturating_sub(pos) as usize);
        if !bytes.is_empty() {
            self.apply(Operation::File { inode, change: FileChange::Write { pos, bytes } });
        }
        if full { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// The length, up to `len`, that the file may have.
    fn fits(&self, inode: InodeId, len: u64) -> u64 {
        let current = self.disk.len(inode);
        match self.capacity {
            Some(capacity) => len.min(current.max(current + capacity.saturating_sub(self.disk.used()))),
            None => len,
        }
    }

    fn extend(&mut self, inode: InodeId, len: u64) -> io::Result<()> {
        if self.fits(inode, len) < len {
            return Err(ErrorKind::StorageFull.into());
        }
        self.apply(Operation::File { inode, change: FileChange::SetLen(len) });
        Ok(())
    }
}

impl Storage for MemoryStorage {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let mut state = self.state();
        state.check(FaultPoint::Name, path)?;
        state.check_descriptor()?;
        let (dir, name) = state.disk.resolve_parent(path)?;
        if state.disk.entry(dir, &name).is_none() {
            state.apply(Operation::CreateFile { dir, name });
        }
        let inode = state.disk.resolve_file(path)?;
        state.open += 1;
        Ok(Arc::new(MemoryFile { storage: self.clone(), inode, path: path.to_owned() }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let mut state = self.state();
        state.check(FaultPoint::Name, path)?;
        let inode = state.disk.resolve_file(path)?;
        state.check_descriptor()?;
        state.open += 1;
        Ok(Arc::new(MemoryFile { storage: self.clone(), inode, path: path.to_owned() }))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let mut state = self.state();
        state.check(FaultPoint::Read, path)?;
        Ok(state.disk.resolve(path).is_ok())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.check(FaultPoint::Read, dir)?;
        state.check_descriptor()?;
        let inode = state.disk.resolve(dir)?;
        state.disk.names(inode)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.check(FaultPoint::Name, dir)?;
        let mut at = disk::ROOT;
        for name in disk::names(dir) {
            at = match state.disk.entry(at, &name) {
                Some(child) => child,
                None => {
                    state.apply(Operation::CreateDir { dir: at, name: name.clone().into_owned() });
                    state.disk.entry(at, &name).expect("it was just created")
                }
            };
        }
        state.disk.names(at).map(drop)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.check(FaultPoint::Name, to)?;
        state.disk.resolve(from)?;
        let (from_dir, from) = state.disk.resolve_parent(from)?;
        let (to_dir, to) = state.disk.resolve_parent(to)?;
        state.apply(Operation::Rename { from_dir, from, to_dir, to });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.check(FaultPoint::Name, path)?;
        state.disk.resolve_file(path)?;
        let (dir, name) = state.disk.resolve_parent(path)?;
        state.apply(Operation::Unlink { dir, name });
        Ok(())
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.check(FaultPoint::Name, dir)?;
        let inode = state.disk.resolve(dir)?;
        for (dir, name) in state.disk.subtree(inode)? {
            state.apply(Operation::Unlink { dir, name });
        }
        let (dir, name) = state.disk.resolve_parent(dir)?;
        state.apply(Operation::Unlink { dir, name });
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.check_descriptor()?;
        let inode = state.disk.resolve(dir)?;
        if let Err(error) = state.check(FaultPoint::SyncDir, dir) {
            state.apply(Operation::LoseUnsynced { inode });
            return Err(error);
        }
        state.apply(Operation::Sync { inode });
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn StorageLock>>> {
        self.create(path)?;
        let path: PathBuf = disk::names(path).map(Cow::into_owned).collect();
        if !self.state().locks.insert(path.clone()) {
            return Ok(None);
        }
        Ok(Some(Box::new(MemoryLock { storage: self.clone(), path })))
    }
}

impl StorageFile for MemoryFile {
    fn read_at(&self, pos: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut state = self.storage.state();
        state.check(FaultPoint::Read, &self.path)?;
        Ok(state.disk.read(self.inode, pos, buf))
    }

    fn write_all_at(&self, pos: u64, slices: &[IoSlice<'_>]) -> io::Result<()> {
        let mut state = self.storage.state();
        let mut bytes = Vec::with_capacity(slices.iter().map(|slice| slice.len()).sum());
        slices.iter().for_each(|slice| bytes.extend_from_slice(slice));
        if let Err(error) = state.check(FaultPoint::Write, &self.path) {
            if state.power == Power::On {
                bytes.truncate(bytes.len() / 2);
                state.write(self.inode, pos, bytes)?;
            }
            return Err(error);
        }
        state.write(self.inode, pos, bytes)
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.storage.state();
        state.check(FaultPoint::Read, &self.path)?;
        Ok(state.disk.len(self.inode))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.storage.state();
        state.check(FaultPoint::Write, &self.path)?;
        state.extend(self.inode, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.storage.pass_pause(&self.path);
        if let Err(error) = state.check(FaultPoint::SyncData, &self.path) {
            if state.power == Power::On {
                state.apply(Operation::LoseUnsynced { inode: self.inode });
            }
            return Err(error);
        }
        state.apply(Operation::Sync { inode: self.inode });
        Ok(())
    }

    fn allocate_zeroed(&self, len: u64) -> io::Result<()> {
        let mut state = self.storage.state();
        state.check(FaultPoint::Write, &self.path)?;
        if state.disk.len(self.inode) < len { state.extend(self.inode, len) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
