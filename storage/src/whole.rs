//! Files that are read whole and replaced whole: after any crash the old content or the new is there, never a mixture.
//!
//! Knows nothing of what they hold.

use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};

use crate::{Storage, parent_of};

/// Ends the name of a file whose replacement was not finished.
pub const TEMPORARY: &str = ".tmp";

/// Puts a file with these bytes, one part after the other, in place of whatever is at `path`, durably: written under a
/// name that ends in [`TEMPORARY`], synced, renamed, the directory synced.
///
/// # Errors
/// What the disk says; the old content is then still there, or the new one is, not necessarily durably.
pub fn replace_file(storage: &dyn Storage, path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let parent = parent_of(path).ok_or(ErrorKind::InvalidInput)?;
    let temporary = temporary(path)?;
    let parts: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let written = storage.create(&temporary).and_then(|file| {
        file.set_len(0)?;
        file.write_all_at(0, &parts)?;
        file.sync_data()
    });
    if let Err(error) = written.and_then(|()| storage.rename(&temporary, path)) {
        // A full disk should not stay the fuller for it; that this too may fail changes nothing.
        let _ = storage.remove(&temporary);
        return Err(error);
    }
    storage.sync_dir(parent)
}

/// The bytes of a file, up to about `at_most`: of a longer file, that and one byte more, which is enough to say so.
///
/// # Errors
/// What the disk says; [`ErrorKind::NotFound`] when there is no file.
pub fn read_file(storage: &dyn Storage, path: &Path, at_most: u64) -> io::Result<Vec<u8>> {
    let file = storage.open(path)?;
    let mut bytes = vec![0; file.len()?.min(at_most.saturating_add(1)) as usize];
    file.read_exact_at(0, &mut bytes)?;
    Ok(bytes)
}

fn temporary(path: &Path) -> io::Result<PathBuf> {
    let mut name = path.file_name().ok_or(ErrorKind::InvalidInput)?.to_owned();
    name.push(TEMPORARY);
    Ok(path.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::{CrashMode, MemoryStorage};

    #[test]
    fn a_crash_at_any_point_leaves_the_old_or_the_new() {
        let storage = MemoryStorage::recording();
        let path = Path::new("/file");
        replace_file(&storage, path, &[b"o", b"", b"ld"]).unwrap();
        let old = storage.operations();
        replace_file(&storage, path, &[&[b'n'; 2000]]).unwrap();
        for operations in old..=storage.operations() {
            for mode in CrashMode::ALL {
                for seed in 0..4 {
                    let survivor = storage.at(operations).survivor(&mut StdRng::seed_from_u64(seed), mode);
                    let found = read_file(&survivor, path, 5000).unwrap();
                    assert!(found == b"old" || found == [b'n'; 2000], "{operations} {mode:?}: {found:?}");
                }
            }
        }
        assert_eq!(read_file(&storage, path, 5000).unwrap(), [b'n'; 2000]);
        assert_eq!(read_file(&storage, path, 10).unwrap().len(), 11);
        assert_eq!(read_file(&storage, Path::new("/no"), 10).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
