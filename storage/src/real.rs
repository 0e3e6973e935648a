//! [`Storage`] on the operating system's file system.
//!
//! Positional, vectored, blocking calls. Knows nothing of what is stored, and retries nothing: a failed write or sync
//! is reported as it is, for its caller to act on. Each single call is noted where its thread is attended; not those that remove
//! or list a whole directory, which may take long and be well.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, FlockOperation};

use super::calls::noted;
use super::{Storage, StorageFile, StorageLock};

/// How many slices one call takes; Linux' `IOV_MAX`.
const SLICES_MAX: usize = 1024;

/// How many zeroes one call writes.
const ZERO_CHUNK_BYTES: usize = 256 << 10;

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealStorage;

impl RealStorage {
    /// The operating system's files, shared.
    pub fn shared() -> Arc<dyn Storage> {
        Arc::new(Self)
    }
}

struct RealFile(File);

struct RealLock {
    /// The lock lives as long as this descriptor.
    _file: File,
}

impl StorageLock for RealLock {}

impl Storage for RealStorage {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        Ok(Arc::new(RealFile(noted(|| options.open(path))?)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        Ok(Arc::new(RealFile(noted(|| OpenOptions::new().read(true).write(true).open(path))?)))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            // A name that is not text is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        noted(|| fs::rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        noted(|| fs::remove_file(path))
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        noted(|| File::open(dir)?.sync_all())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn StorageLock>>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Box::new(RealLock { _file: file }))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl StorageFile for RealFile {
    fn read_at(&self, pos: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match noted(|| self.0.read_at(&mut buf[done..], pos + done as u64)) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_all_at(&self, mut pos: u64, slices: &[IoSlice<'_>]) -> io::Result<()> {
        for chunk in slices.chunks(SLICES_MAX) {
            let total: usize = chunk.iter().map(|slice| slice.len()).sum();
            let written = noted(|| write_some(&self.0, chunk, pos))?;
            if written < total {
                noted(|| write_rest(&self.0, chunk, written, pos))?;
            }
            pos += total as u64;
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        noted(|| self.0.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        noted(|| self.0.sync_data())
    }

    fn allocate_zeroed(&self, len: u64) -> io::Result<()> {
        let mut pos = self.len()?;
        if pos >= len {
            return Ok(());
        }
        // Asks for all the room at once, so that a full disk is noticed before anything is written. The file keeps its
        // length until the zeroes are there. Not every file system can do this, and none has to.
        let allocate = || rustix::fs::fallocate(&self.0, FallocateFlags::KEEP_SIZE, pos, len - pos);
        match rustix::io::retry_on_intr(allocate) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
        // Zeroes are written, not just allocated: a write into a block that was merely allocated changes metadata, and
        // makes its sync slower.
        let zeroes = vec![0; ZERO_CHUNK_BYTES.min((len - pos) as usize)];
        while pos < len {
            let chunk = zeroes.len().min((len - pos) as usize);
            self.0.write_all_at(&zeroes[..chunk], pos)?;
            pos += chunk as u64;
        }
        Ok(())
    }

    fn as_file(&self) -> Option<&File> {
        Some(&self.0)
    }
}

/// One vectored write, repeated only when a signal interrupted it.
fn write_some(file: &File, slices: &[IoSlice<'_>], pos: u64) -> io::Result<usize> {
    loop {
        match rustix::io::pwritev(file, slices, pos) {
            Ok(0) if slices.iter().any(|slice| !slice.is_empty()) => {
                return Err(io::ErrorKind::WriteZero.into());
            }
            Ok(written) => return Ok(written),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Finishes a write that the kernel cut short after `skip` bytes; rare, so it goes slice by slice.
fn write_rest(file: &File, slices: &[IoSlice<'_>], mut skip: usize, mut pos: u64) -> io::Result<()> {
    for slice in slices {
        if skip < slice.len() {
            file.write_all_at(&slice[skip..], pos + skip as u64)?;
            skip = 0;
        } else {
            skip -= slice.len();
        }
        pos += slice.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::suite;
    use super::*;

    #[test]
    fn keeps_the_contract_of_storage() {
        let dir = tempfile::tempdir().unwrap();
        suite::run(&RealStorage, dir.path());
    }

    #[test]
    fn finishes_a_write_that_was_cut_short() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealStorage.create(&dir.path().join("f")).unwrap();
        let slices = [IoSlice::new(b"abc"), IoSlice::new(b""), IoSlice::new(b"defg"), IoSlice::new(b"h")];
        for skip in 0..8 {
            file.set_len(0).unwrap();
            file.write_at(2, &b"abcdefgh"[..skip]).unwrap();
            write_rest(file.as_file().unwrap(), &slices, skip, 2).unwrap();
            let mut back = [0; 10];
            file.read_exact_at(0, &mut back).unwrap();
            assert_eq!(&back, b"\0\0abcdefgh", "skip {skip}");
        }
    }

    #[test]
    fn writes_more_slices_than_one_call_takes() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealStorage.create(&dir.path().join("f")).unwrap();
        let bytes: Vec<[u8; 2]> = (0..3000u16).map(u16::to_be_bytes).collect();
        let slices: Vec<IoSlice<'_>> = bytes.iter().map(|pair| IoSlice::new(pair)).collect();
        file.write_all_at(1, &slices).unwrap();
        let mut back = vec![0; 6000];
        file.read_exact_at(1, &mut back).unwrap();
        assert_eq!(back, bytes.concat());
    }
}
