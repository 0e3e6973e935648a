//! The disk below a pool, with patience: what needs a descriptor waits for it.
//!
//! For what cannot be refused: journals, checkpoints, names. Retries nothing else.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{FilePool, Patience, Pool};
use crate::{Storage, StorageFile, StorageLock};

/// See the module.
pub(super) struct Patient(pub(super) FilePool);

impl Patient {
    fn wait<T>(&self, act: impl Fn(&dyn Storage) -> io::Result<T>) -> io::Result<T> {
        let pool: &Pool = &self.0.0;
        pool.with_descriptor(Patience::Wait, || act(&*pool.storage))
    }
}

impl Storage for Patient {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        self.wait(|storage| storage.create(path))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        self.wait(|storage| storage.open(path))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.wait(|storage| storage.exists(path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.wait(|storage| storage.list(dir))
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.wait(|storage| storage.create_dir_all(dir))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.wait(|storage| storage.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.wait(|storage| storage.remove(path))
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.wait(|storage| storage.remove_dir_all(dir))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.wait(|storage| storage.sync_dir(dir))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn StorageLock>>> {
        self.wait(|storage| storage.lock(path))
    }
}
