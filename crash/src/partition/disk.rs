//! A disk in memory whose users are interrupted: before any change another thread of the process may go first.
//!
//! Knows nothing of what is stored.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use vltava_storage::{MemoryStorage, Storage, StorageFile, StorageLock};

use crate::threads;

/// One call out of so many is interrupted.
const INTERRUPTED: u64 = 6;

/// See the module.
pub struct BusyDisk(pub MemoryStorage);

struct BusyFile(Arc<dyn StorageFile>);

fn interrupt() {
    threads::interrupt(INTERRUPTED);
}

fn busy(file: Arc<dyn StorageFile>) -> Arc<dyn StorageFile> {
    Arc::new(BusyFile(file))
}

impl Storage for BusyDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        interrupt();
        self.0.create(path).map(busy)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        self.0.open(path).map(busy)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.0.exists(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        interrupt();
        self.0.create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        interrupt();
        self.0.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        interrupt();
        self.0.remove(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        interrupt();
        self.0.remove_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        interrupt();
        self.0.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn StorageLock>>> {
        self.0.lock(path)
    }
}

impl StorageFile for BusyFile {
    fn read_at(&self, pos: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(pos, buf)
    }

    fn write_all_at(&self, pos: u64, slices: &[IoSlice<'_>]) -> io::Result<()> {
        interrupt();
        self.0.write_all_at(pos, slices)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        interrupt();
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        interrupt();
        self.0.sync_data()
    }

    fn allocate_zeroed(&self, len: u64) -> io::Result<()> {
        interrupt();
        self.0.allocate_zeroed(len)
    }
}
