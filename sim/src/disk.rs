//! A machine's disk: `MemoryStorage`, whose syncs take simulated time, and whose every change is noted in the trace.
//!
//! It outlives processes: each start gets a new handle, and those of before fail from the crash on.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::RngExt;
use vltava_storage::calls::noted;
use vltava_storage::{CrashMode, Fault, MemoryStorage, Rot, Storage, StorageFile, StorageLock};
use vltava_threads::simulator;

use crate::clock::Millis;
use crate::host::{self, HostId};
use crate::random::{self, Random};
use crate::trace;

/// How long syncs take on a machine, by the seed and the faults of the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// So many syncs out of a thousand take time that can be noticed.
    pub slow_permille: u64,
    /// At most so much.
    pub slow_max: Millis,
}

/// What ails a disk until it is healed: processes that start meanwhile find it so.
#[derive(Clone, Default, Debug)]
pub struct Ailments {
    /// Calls that fail.
    pub faults: Vec<Fault>,
    /// How many bytes fit on it, if not any number.
    pub room: Option<u64>,
}

/// The disk of one machine.
#[derive(Clone)]
pub struct SimDisk(Arc<Shared>);

struct Shared {
    host: HostId,
    memory: MemoryStorage,
    state: Arc<Mutex<State>>,
}

/// What stays when a process ends.
struct State {
    pace: Pace,
    ailments: Ailments,
    random: Random,
}

struct SimFile {
    disk: SimDisk,
    file: Arc<dyn StorageFile>,
    path: String,
}

impl SimDisk {
    /// An empty disk.
    pub fn new(seed: u64, host: HostId, pace: Pace) -> Self {
        let random = random::stream(seed, &format!("disk {}", host.0));
        let state = State { pace, ailments: Ailments::default(), random };
        Self(Arc::new(Shared { host, memory: MemoryStorage::new(), state: Arc::new(Mutex::new(state)) }))
    }

    /// What a restart finds after a crash now. From now on this handle, and all files opened by it, fail.
    pub fn crash(&self, random: &mut Random, mode: CrashMode) -> Self {
        trace::note("crash", &[self.0.host.0, mode as u64], format_args!("{} {mode:?}", self.0.host));
        self.with(self.0.memory.crash(random, mode))
    }

    /// The same machine's disk with other contents. From now on this handle, and all files opened by it, fail.
    pub fn replaced(&self, random: &mut Random, contents: MemoryStorage) -> Self {
        trace::note("replace disk", &[self.0.host.0], format_args!("{}", self.0.host));
        self.0.memory.crash(random, CrashMode::Kill);
        self.with(contents)
    }

    fn with(&self, memory: MemoryStorage) -> Self {
        let disk = Self(Arc::new(Shared { host: self.0.host, memory, state: self.0.state.clone() }));
        disk.suffer();
        disk
    }

    /// What a power cut now would leave.
    pub fn snapshot(&self, random: &mut Random) -> MemoryStorage {
        self.0.memory.survivor(random, CrashMode::LoseUnsynced)
    }

    /// The bytes of all files.
    pub fn used(&self) -> u64 {
        self.0.memory.used()
    }

    /// What its process sees: it may be looked at, whatever the disk ails from.
    pub fn look(&self) -> &MemoryStorage {
        &self.0.memory
    }

    /// Changes how long syncs take.
    pub fn set_pace(&self, pace: Pace) {
        self.state().pace = pace;
    }

    /// Has it ail from something else, or nothing.
    pub fn set_ailments(&self, ailments: Ailments) {
        self.state().ailments = ailments;
        self.suffer();
    }

    /// Whether it ails from something.
    pub fn ails(&self) -> bool {
        let ailments = &self.state().ailments;
        !ailments.faults.is_empty() || ailments.room.is_some()
    }

    fn suffer(&self) {
        let ailments = self.state().ailments.clone();
        self.0.memory.heal();
        ailments.faults.into_iter().for_each(|fault| self.0.memory.inject(fault));
        self.0.memory.set_capacity(ailments.room);
    }

    /// Turns a bit of something that was synced, in a file that is wanted, if there is any.
    pub fn rot(&self, random: &mut Random, wanted: &dyn Fn(&Path) -> bool) -> Option<Rot> {
        self.0.memory.rot(random, wanted)
    }

    /// Whether what turned over still lies there.
    pub fn has(&self, rot: &Rot) -> bool {
        self.0.memory.has(rot)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note<T>(&self, what: &'static str, path: &str, number: u64, result: &io::Result<T>) {
        let failed = u64::from(result.is_err());
        let sum = u64::from(crc32c::crc32c(path.as_bytes()));
        trace::note(
            what,
            &[self.0.host.0, sum, number, failed],
            format_args!("{} {path} {number}{}", self.0.host, if result.is_err() { " failed" } else { "" }),
        );
    }

    /// Refuses what a process does after it ended itself.
    fn check(&self) -> io::Result<()> {
        if host::is_dying(self.0.host) { Err(io::Error::other("the process has ended")) } else { Ok(()) }
    }

    /// Lets the time pass that a sync takes. Only threads can wait: a runtime's own inline work does not.
    fn wait_for_sync(&self) {
        let mut state = self.state();
        let State { pace, random, .. } = &mut *state;
        if pace.slow_permille == 0 || random.random_range(0..1000) >= pace.slow_permille {
            return;
        }
        let millis = random.random_range(1..=pace.slow_max.max(1));
        drop(state);
        if let Some(simulator) = simulator()
            && crate::baton::is_thread()
        {
            noted(|| simulator.park(&|| false, Some(Duration::from_millis(millis))));
        }
    }
}

impl Storage for SimDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let file = self.check().and_then(|()| self.0.memory.create(path));
        let path = path.to_string_lossy().into_owned();
        self.note("create", &path, 0, &file);
        Ok(Arc::new(SimFile { disk: self.clone(), file: file?, path }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let file = self.0.memory.open(path)?;
        Ok(Arc::new(SimFile { disk: self.clone(), file, path: path.to_string_lossy().into_owned() }))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.0.memory.exists(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.0.memory.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.check().and_then(|()| self.0.memory.create_dir_all(dir))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let result = self.check().and_then(|()| self.0.memory.rename(from, to));
        self.note("rename", &to.to_string_lossy(), 0, &result);
        result
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let result = self.check().and_then(|()| self.0.memory.remove(path));
        self.note("remove", &path.to_string_lossy(), 0, &result);
        result
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        let result = self.check().and_then(|()| self.0.memory.remove_dir_all(dir));
        self.note("remove", &dir.to_string_lossy(), 1, &result);
        result
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.wait_for_sync();
        let result = self.check().and_then(|()| self.0.memory.sync_dir(dir));
        self.note("sync", &dir.to_string_lossy(), 1, &result);
        result
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn StorageLock>>> {
        self.0.memory.lock(path)
    }
}

impl StorageFile for SimFile {
    fn read_at(&self, pos: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(pos, buf)
    }

    fn write_all_at(&self, pos: u64, slices: &[IoSlice<'_>]) -> io::Result<()> {
        let result = self.disk.check().and_then(|()| self.file.write_all_at(pos, slices));
        self.disk.note("write", &self.path, pos, &result);
        result
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let result = self.disk.check().and_then(|()| self.file.set_len(len));
        self.disk.note("set-len", &self.path, len, &result);
        result
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.wait_for_sync();
        let result = self.disk.check().and_then(|()| self.file.sync_data());
        self.disk.note("sync", &self.path, 0, &result);
        result
    }

    fn allocate_zeroed(&self, len: u64) -> io::Result<()> {
        let result = self.disk.check().and_then(|()| self.file.allocate_zeroed(len));
        self.disk.note("allocate", &self.path, len, &result);
        result
    }
}
