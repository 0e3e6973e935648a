//! Files that are plain vectors: what a log does with them costs next to nothing, so that its own work is what is counted.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vltava_storage::{Storage, StorageFile, StorageLock};

/// See the module.
#[derive(Default)]
pub struct Memory {
    files: Mutex<BTreeMap<PathBuf, Arc<MemoryFile>>>,
}

#[derive(Default)]
struct MemoryFile {
    bytes: Mutex<Vec<u8>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Storage for Memory {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        Ok(lock(&self.files).entry(path.to_owned()).or_default().clone())
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        match lock(&self.files).get(path) {
            Some(file) => Ok(file.clone()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(lock(&self.files).contains_key(path))
    }

    fn list(&self, _dir: &Path) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = lock(&self.files);
        let file = files.remove(from).ok_or(ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        lock(&self.files).remove(path).map(drop).ok_or(ErrorKind::NotFound.into())
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        lock(&self.files).retain(|path, _| !path.starts_with(dir));
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _path: &Path) -> io::Result<Option<Box<dyn StorageLock>>> {
        Ok(None)
    }
}

impl StorageFile for MemoryFile {
    fn read_at(&self, pos: u64, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = lock(&self.bytes);
        let from = (pos as usize).min(bytes.len());
        let some = buf.len().min(bytes.len() - from);
        buf[..some].copy_from_slice(&bytes[from..from + some]);
        Ok(some)
    }

    fn write_all_at(&self, pos: u64, slices: &[IoSlice<'_>]) -> io::Result<()> {
        let mut bytes = lock(&self.bytes);
        let mut at = pos as usize;
        for slice in slices {
            let end = at + slice.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[at..end].copy_from_slice(slice);
            at = end;
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.bytes).len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        lock(&self.bytes).resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn allocate_zeroed(&self, len: u64) -> io::Result<()> {
        let mut bytes = lock(&self.bytes);
        let len = bytes.len().max(len as usize);
        bytes.resize(len, 0);
        Ok(())
    }
}
