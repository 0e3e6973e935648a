//! One journal file: made with zeroed room, grown, and used again.
//!
//! Knows nothing of groups or of who decides when.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::{JournalError, failed};
use super::format::FileHeader;
use crate::storage::{Storage, StorageFile};

/// The ending of a journal file's name; before it stands the generation in which it was made.
pub(super) const SUFFIX: &str = ".journal";

/// A journal file in one of its uses.
pub(super) struct JournalFile {
    pub path: PathBuf,
    pub header: FileHeader,
    pub file: Arc<dyn StorageFile>,
    /// How far the file has zeroed, synced room.
    capacity: AtomicU64,
}

impl JournalFile {
    /// Makes a file durably. The header is written when all else is there: a file that has one is complete.
    pub fn create(
        storage: &dyn Storage,
        dir: &Path,
        header: FileHeader,
        bytes: u64,
    ) -> Result<Self, JournalError> {
        let path = dir.join(format!("{:020}{SUFFIX}", header.generation));
        let made = Self::make(storage, path.clone(), header, bytes);
        if made.is_err() {
            // So that a full disk does not stay the fuller for it. Without a header it would be removed later anyway.
            let _ = storage.remove(&path);
        }
        storage.sync_dir(dir).map_err(failed("syncing", dir))?;
        made
    }

    fn make(
        storage: &dyn Storage,
        path: PathBuf,
        header: FileHeader,
        bytes: u64,
    ) -> Result<Self, JournalError> {
        let file = storage.create(&path).map_err(failed("creating", &path))?;
        file.set_len(0).map_err(failed("emptying", &path))?;
        let this = Self { path, header, file, capacity: AtomicU64::new(0) };
        this.grow(bytes)?;
        this.write_header()?;
        Ok(this)
    }

    /// A file that recovery found.
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
