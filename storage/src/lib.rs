//! What logs need of a disk, as a narrow trait, so that tests and simulations can put a lossy one in its place;
//! [`checkpoint`]s, small files that are replaced whole; a [`FilePool`], for more files than may be open; and what tells of
//! [`calls`] that hang.
//!
//! Knows nothing of logs, batches or journals.

pub mod calls;
pub mod checkpoint;
mod memory;
mod pool;
mod real;
mod whole;

pub use memory::{CrashMode, Fault, FaultPoint, MemoryStorage, PausedSyncs, Rot};
pub use pool::{FilePool, FilePoolMetrics, PooledFile, is_out_of_descriptors};
pub use real::RealStorage;
pub use whole::{TEMPORARY, read_file, replace_file};

use std::fs::File;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

/// A file system, as far as a log needs one.
///
/// Nothing is durable before it is synced: bytes by [`StorageFile::sync_data`], names (creation, renaming, removal)
/// by [`Storage::sync_dir`] of the directory that holds them.
pub trait Storage: Send + Sync {
    /// Opens a file for reading and writing, creating it empty if it is not there.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>>;

    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>>;

    /// Whether a file or directory is there.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// The names within a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Creates a directory and all that lead to it.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Renames a file or directory, replacing a file of the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file; handles to it stay usable.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory and all within.
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Makes the names within a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes the exclusive lock that `path`, a file created if need be, stands for; `None` when someone holds it.
    ///
    /// The lock ends when the guard is dropped, or with the process.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn StorageLock>>>;
}

/// Holds an exclusive lock until it is dropped.
pub trait StorageLock: Send + Sync {}

/// An open file with positional access.
pub trait StorageFile: Send + Sync {
    /// Reads at `pos` into `buf`; fewer bytes than asked only at the end of the file.
    fn read_at(&self, pos: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// Fills `buf` from `pos`; an end of file before that is [`io::ErrorKind::UnexpectedEof`].
    fn read_exact_at(&self, pos: u64, buf: &mut [u8]) -> io::Result<()> {
        if self.read_at(pos, buf)? == buf.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Writes all slices one after the other at `pos`. After an error any part of them may have been written.
    fn write_all_at(&self, pos: u64, slices: &[IoSlice<'_>]) -> io::Result<()>;

    /// Writes `bytes` at `pos`.
    fn write_at(&self, pos: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(pos, &[IoSlice::new(bytes)])
    }

    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file holds no byte.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts or extends the file (with zeroes) to `len` bytes.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes the bytes, and the length, durable.
    fn sync_data(&self) -> io::Result<()>;

    /// Extends the file to `len` bytes with zeroes that are written out, so that later writes into them change no
    /// metadata; bytes that are there already stay. Durable after the next [`Self::sync_data`].
    fn allocate_zeroed(&self, len: u64) -> io::Result<()>;

    /// The open file itself, for `sendfile`; `None` where there is none.
    fn as_file(&self) -> Option<&File> {
        None
    }
}

/// Makes sure that a directory is there, durably: what had to be created on the way to it is synced as well.
///
/// # Errors
/// What the disk says.
pub fn create_dir_durably(storage: &dyn Storage, dir: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    for ancestor in dir.ancestors().skip(1).filter(|ancestor| !ancestor.as_os_str().is_empty()) {
        if storage.exists(ancestor)? {
            break;
        }
        missing.push(ancestor);
    }
    storage.create_dir_all(dir)?;
    // The directory's own name may be left unsynced from an attempt that was interrupted.
    for created in missing.into_iter().rev().chain([dir]) {
        if let Some(parent) = parent_of(created) {
            storage.sync_dir(parent)?;
        }
    }
    Ok(())
}

/// The directory that holds `path`'s last name; `None` when it has none.
pub fn parent_of(path: &Path) -> Option<&Path> {
    path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}

#[cfg(test)]
mod suite;
