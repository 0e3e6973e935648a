//! One journal file: made with zeroed room, grown, and used again.
//!
//! Knows nothing of groups or of who decides when.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::error::{JournalError, failed};
use super::format::FileHeader;
use vltava_storage::{Storage, StorageFile};
use vltava_threads::lock;

/// The ending of a journal file's name; before it stands a number that no other has.
pub(super) const SUFFIX: &str = ".journal";

/// A journal file in one of its uses.
pub(super) struct JournalFile {
    pub path: PathBuf,
    pub header: FileHeader,
    pub file: Arc<dyn StorageFile>,
    /// How far the file has zeroed, synced room.
    capacity: AtomicU64,
    /// The sync of the file that failed; held while it is synced. The same in all of its uses.
    failure: Arc<Mutex<Option<JournalError>>>,
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
        Self { path, header, file, capacity: AtomicU64::new(len), failure: Arc::default() }
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
        let (path, file) = (self.path.clone(), Arc::clone(&self.file));
        let next = Self { path, header, file, capacity, failure: Arc::clone(&self.failure) };
        next.write_header()?;
        Ok(next)
    }

    /// Syncs the file, which the committer and the preparer do beside each other. One at a time: a disk tells of a failure
    /// once, to whichever of them asks, and what it lost may have been the other's.
    pub fn sync(&self) -> Result<(), JournalError> {
        let mut failure = lock(&self.failure);
        if let Some(error) = &*failure {
            return Err(error.clone());
        }
        let synced = self.file.sync_data().map_err(failed("syncing", &self.path));
        *failure = synced.as_ref().err().cloned();
        synced
    }

    /// Writes the header, maybe once more, and makes it durable.
    pub fn write_header(&self) -> Result<(), JournalError> {
        self.file.write_at(0, &self.header.encode()).map_err(failed("writing", &self.path))?;
        self.sync()
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::sync::mpsc;

    use vltava_storage::{Fault, FaultPoint, MemoryStorage};

    use super::*;

    /// The disk says so once; whoever did not hear it had something lost, too.
    #[test]
    fn a_sync_that_fails_fails_for_all_who_sync_the_file() {
        for _ in 0..20 {
            let storage = MemoryStorage::new();
            let begun = JournalFile::reserve(&storage, Path::new("/"), 1, 9000).unwrap();
            let header = FileHeader { salt: 1, generation: 1, floor: 0 };
            let file = begun.finish(&storage, Path::new("/"), header).unwrap();
            let next = file.reuse(FileHeader { generation: 2, ..header }).unwrap();
            let error = ErrorKind::Other;
            storage.inject(Fault {
                at: FaultPoint::SyncData,
                path: String::new(),
                after: 0,
                times: 1,
                error,
            });
            let paused = storage.pause_syncs("journal");
            let (begins, begun) = mpsc::channel();
            std::thread::scope(|scope| {
                let first = scope.spawn(|| file.sync());
                paused.wait_until_blocked();
                let second = scope.spawn(|| {
                    begins.send(()).unwrap();
                    next.sync()
                });
                begun.recv().unwrap();
                std::thread::yield_now();
                drop(paused);
                assert!(first.join().unwrap().is_err() && second.join().unwrap().is_err());
            });
            assert!(next.grow(9999).is_err());
        }
    }
}
