//! One journal file: made with zeroed room, grown, and used again.
//!
//! Knows nothing of groups or of who decides when.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::{JournalError, failed};
use super::format::FileHeader;
use vltava_storage::{Storage, StorageFile};

/// The ending of a journal file's name; before it stands a number that no other has.
pub(super) const SUFFIX: &str = ".journal";

/// A journal file in one of its uses.
pub(super) struct JournalFile {
    pub path: PathBuf,
    pub header: FileHeader,
    pub file: Arc<dyn StorageFile>,
    /// How far the file has zeroed, synced room.
    capacity: AtomicU64,
}

/// A file with room and without a header, which a restart removes.
pub(super) struct Unfinished {
    path: PathBuf,
    file: Arc<dyn StorageFile>,
    bytes: u64,
}

impl Unfinished {
    /// Writes the header and makes the file durable: one that has a header is complete.
    pub fn finish(
        self,
        storage: &dyn Storage,
        dir: &Path,
        header: FileHeader,
    ) -> Result<JournalFile, JournalError> {
        let made = JournalFile::found(self.path, header, self.file, self.bytes);
        made.write_header()?;
        storage.sync_dir(dir).map_err(failed("syncing", dir))?;
        Ok(made)
    }
}

impl JournalFile {
    /// Begins a file: its room, zeroed and synced.
    pub fn reserve(
        storage: &dyn Storage,
        dir: &Path,
        number: u64,
        bytes: u64,
    ) -> Result<Unfinished, JournalError> {
        let path = dir.join(format!("{number:020}{SUFFIX}"));
        let file = storage.create(&path).map_err(failed("creating", &path))?;
        let zeroed =
            file.set_len(0).and_then(|()| file.allocate_zeroed(bytes)).and_then(|()| file.sync_data());
        if zeroed.is_err() {
            // So that a full disk does not stay the fuller for it.
            let _ = storage.remove(&path);
        }
        zeroed.map_err(failed("making room in", &path))?;
        Ok(Unfinished { path, file, bytes })
    }

    /// A file that is there, with its header.
    pub fn found(path: PathBuf, header: FileHeader, file: Arc<dyn StorageFile>, len: u64) -> Self {
        Self { path, header, file, capacity: AtomicU64::new(len) }
    }

    /// How far groups may reach.
    pub fn capacity(&self) -> u64 {
        self.capacity.load(Ordering::Acquire)
    }

    /// Zeroes and syncs room up to `bytes`. Groups that are there already are not touched.
    pub fn grow(&self, bytes: u64) -> Result<(), JournalError> {
        self.file.allocate_zeroed(bytes).map_err(failed("extending", &self.path))?;
        self.sync()?;
        self.capacity.fetch_max(bytes, Ordering::AcqRel);
        Ok(())
    }

    /// Begins the file's next use: all groups in it are void when this returns.
    pub fn reuse(&self, header: FileHeader) -> Result<Self, JournalError> {
        assert!(header.generation > self.header.generation && header.floor >= self.header.floor);
        let capacity = AtomicU64::new(self.capacity());
        let next = Self { path: self.path.clone(), header, file: Arc::clone(&self.file), capacity };
        next.write_header()?;
        Ok(next)
    }

    pub fn sync(&self) -> Result<(), JournalError> {
        self.file.sync_data().map_err(failed("syncing", &self.path))
    }

    fn write_header(&self) -> Result<(), JournalError> {
        self.file.write_at(0, &self.header.encode()).map_err(failed("writing", &self.path))?;
        self.sync()
    }
}
