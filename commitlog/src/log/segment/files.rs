//! The files of a segment, and what makes them durable together.
//!
//! Knows nothing of what is in them, nor whether they are open: a pool closes those that are not used.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vltava_model::Offset;
use vltava_model::seeded::{SeededBug, seeded};

use crate::log::check::{self, CheckSeed};
use crate::log::cuts::Cuts;
use crate::log::home::{FileKind, Home};
use vltava_storage::{PooledFile, StorageFile};

/// The files of a segment. As a [`StorageFile`] it is the `.log`, but syncing it makes durable all that recovery
/// needs: the side file and the names of both, too.
#[derive(Clone)]
pub(crate) struct SegmentFiles {
    pub log: Arc<PooledFile>,
    pub check: Arc<PooledFile>,
    home: Arc<Home>,
    names_synced: Arc<AtomicBool>,
}

impl SegmentFiles {
    /// Opens the files of a segment.
    pub(crate) fn open(
        home: &Arc<Home>,
        base: Offset,
        names_synced: Arc<AtomicBool>,
    ) -> io::Result<Arc<Self>> {
        let log = home.files.open(&home.path(base, FileKind::Log))?;
        let check = home.files.open(&home.path(base, FileKind::Check))?;
        Ok(Arc::new(Self { log, check, home: home.clone(), names_synced }))
    }

    /// Opens them for recovery, which can make a side file anew.
    pub(crate) fn open_or_create(home: &Arc<Home>, base: Offset) -> io::Result<Arc<Self>> {
        let log = home.files.create_patiently(&home.path(base, FileKind::Log))?;
        let check = home.files.create_patiently(&home.path(base, FileKind::Check))?;
        Ok(Arc::new(Self { log, check, home: home.clone(), names_synced: Arc::default() }))
    }

    /// Creates the files of an empty segment; what a crash left under their names is cut off. May be refused for want of
    /// descriptors, and tried again.
    pub(crate) fn create(
        home: &Arc<Home>,
        base: Offset,
        created_ms: i64,
        cuts: &Cuts,
        names_synced: Arc<AtomicBool>,
    ) -> io::Result<Arc<Self>> {
        names_synced.store(false, Ordering::Release);
        let log = home.files.create(&home.path(base, FileKind::Log))?;
        let check = home.files.create(&home.path(base, FileKind::Check))?;
        let files = Self { log, check, home: home.clone(), names_synced };
        for file in [&files.log, &files.check] {
            if !file.is_empty()? {
                file.set_len(0)?;
            }
        }
        files.write_header(base, created_ms, cuts)?;
        Ok(Arc::new(files))
    }

    /// Opens both if they are closed, so that a write needs no descriptor; may be refused for want of them.
    pub(crate) fn ready(&self) -> io::Result<()> {
        self.log.ready()?;
        self.check.ready()
    }

    /// Writes what stands in front of a side file's entries.
    pub(crate) fn write_header(&self, base: Offset, created_ms: i64, cuts: &Cuts) -> io::Result<()> {
        let partition = self.home.partition;
        let header = check::encode_header(partition, base, created_ms);
        let note = check::encode_cuts(CheckSeed::new(partition, base), cuts);
        self.check.write_all_at(0, &[IoSlice::new(&header), IoSlice::new(&note)])
    }

    /// Whether the names of the files are known to be durable; shared with the segment, which may open them again.
    pub(crate) fn names_synced(&self) -> Arc<AtomicBool> {
        self.names_synced.clone()
    }
}

impl StorageFile for SegmentFiles {
    fn read_at(&self, pos: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.log.read_at(pos, buf)
    }

    fn write_all_at(&self, pos: u64, slices: &[IoSlice<'_>]) -> io::Result<()> {
        self.log.write_all_at(pos, slices)
    }

    fn len(&self) -> io::Result<u64> {
        self.log.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.log.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if !self.names_synced.load(Ordering::Acquire) && !seeded(SeededBug::ForgetsNewNames) {
            self.home.storage.sync_dir(&self.home.dir)?;
            self.home.sync_name()?;
            self.names_synced.store(true, Ordering::Release);
        }
        self.check.sync_data()?;
        self.log.sync_data()
    }

    fn allocate_zeroed(&self, len: u64) -> io::Result<()> {
        self.log.allocate_zeroed(len)
    }
}

/// Removes the files of the segment that begins at `base`.
pub(crate) fn remove_files(home: &Home, base: Offset) -> io::Result<()> {
    // The log last: the others without it are known to be left over.
    for kind in FileKind::SEGMENT.into_iter().rev() {
        remove_if_there(home, base, kind)?;
    }
    Ok(())
}

pub(crate) fn remove_if_there(home: &Home, base: Offset, kind: FileKind) -> io::Result<()> {
    match home.storage.remove(&home.path(base, kind)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
