//! Small files that are replaced whole: after any crash the old content or the new is there, never a mixture.
//!
//! Layout, big-endian: `VLTC`, kind (4), version (2), zero (2), payload length (4), payload, crc32c of all before.
//! Knows nothing of what a payload means.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::{Storage, parent_of};

const MAGIC: &[u8; 4] = b"VLTC";
const HEADER_BYTES: usize = 16;
const CRC_BYTES: usize = 4;

/// The largest payload, in bytes: what is larger belongs in a log.
pub const PAYLOAD_BYTES_MAX: usize = 256 << 20;

/// What a checkpoint holds, so that a file under the wrong name is noticed: four bytes of ASCII, unique in the crate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckpointKind(pub [u8; 4]);

/// The content of a checkpoint that passed its checks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// The version of the payload's format, as it was written.
    pub version: u16,
    /// The content.
    pub payload: Vec<u8>,
}

/// Why a checkpoint gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The disk refused.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// The bytes are not what was written.
    #[error("{} is damaged: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Replaces the checkpoint at `path` durably: written under a temporary name, synced, renamed, the directory synced.
///
/// # Errors
/// What the disk says; the old checkpoint is then still there, or the new one is, not necessarily durably.
///
/// # Panics
/// When the payload is larger than [`PAYLOAD_BYTES_MAX`].
pub fn write_checkpoint(
    storage: &dyn Storage,
    path: &Path,
    kind: CheckpointKind,
    version: u16,
    payload: &[u8],
) -> io::Result<()> {
    assert!(payload.len() <= PAYLOAD_BYTES_MAX, "a checkpoint of {} bytes", payload.len());
    crate::replace_file(storage, path, &[&encode(kind, version, payload)])
}

/// Reads the checkpoint at `path`; `None` when there is none.
///
/// # Errors
/// [`CheckpointError::Corrupt`] for any byte that is not as it was written, and for a file of another kind.
pub fn read_checkpoint(
    storage: &dyn Storage,
    path: &Path,
    kind: CheckpointKind,
) -> Result<Option<Checkpoint>, CheckpointError> {
    // A longer file is corrupt anyway.
    let longest = PAYLOAD_BYTES_MAX + HEADER_BYTES + CRC_BYTES;
    match crate::read_file(storage, path, longest as u64) {
        Ok(bytes) => decode(&bytes, kind)
            .map(Some)
            .map_err(|reason| CheckpointError::Corrupt { path: path.into(), reason }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CheckpointError::Io { path: path.into(), source }),
    }
}

/// Removes the checkpoint at `path` durably; says whether there was one.
///
/// # Errors
/// What the disk says.
pub fn remove_checkpoint(storage: &dyn Storage, path: &Path) -> io::Result<bool> {
    let parent = parent_of(path).ok_or(ErrorKind::InvalidInput)?;
    match storage.remove(path) {
        Ok(()) => storage.sync_dir(parent).map(|()| true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn encode(kind: CheckpointKind, version: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len() + CRC_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&kind.0);
    bytes.extend_from_slice(&version.to_be_bytes());
    bytes.extend_from_slice(&[0; 2]);
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    bytes.extend_from_slice(payload);
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_be_bytes());
    bytes
}

fn decode(bytes: &[u8], kind: CheckpointKind) -> Result<Checkpoint, &'static str> {
    let (covered, crc) = bytes.split_last_chunk::<CRC_BYTES>().ok_or("too short")?;
    let (header, payload) = covered.split_first_chunk::<HEADER_BYTES>().ok_or("too short")?;
    if !header.starts_with(MAGIC) {
        return Err("not a checkpoint");
    }
    if crc32c::crc32c(covered) != u32::from_be_bytes(*crc) {
        return Err("its checksum does not match");
    }
    let [_, _, _, _, kind_a, kind_b, kind_c, kind_d, version_a, version_b, _, _, len @ ..] = *header;
    if [kind_a, kind_b, kind_c, kind_d] != kind.0 {
        return Err("a checkpoint of another kind");
    }
    if u32::from_be_bytes(len) as usize != payload.len() {
        return Err("its length does not match");
    }
    Ok(Checkpoint { version: u16::from_be_bytes([version_a, version_b]), payload: payload.to_vec() })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::{CrashMode, Fault, FaultPoint, MemoryStorage};

    const KIND: CheckpointKind = CheckpointKind(*b"test");

    fn path() -> &'static Path {
        Path::new("/dir/checkpoint")
    }

    fn storage() -> MemoryStorage {
        let storage = MemoryStorage::recording();
        storage.create_dir_all(Path::new("/dir")).unwrap();
        storage.sync_dir(Path::new("/")).unwrap();
        storage
    }

    fn read(storage: &MemoryStorage) -> Option<Checkpoint> {
        read_checkpoint(storage, path(), KIND).unwrap()
    }

    #[test]
    fn reads_back_what_was_written() {
        let storage = storage();
        assert_eq!(read(&storage), None);
        write_checkpoint(&storage, path(), KIND, 3, b"payload").unwrap();
        assert_eq!(read(&storage), Some(Checkpoint { version: 3, payload: b"payload".to_vec() }));
        write_checkpoint(&storage, path(), KIND, 4, b"").unwrap();
        assert_eq!(read(&storage), Some(Checkpoint { version: 4, payload: Vec::new() }));
        assert!(remove_checkpoint(&storage, path()).unwrap());
        assert!(!remove_checkpoint(&storage, path()).unwrap());
        assert_eq!(read(&storage), None);
    }

    #[test]
    fn a_crash_at_any_point_leaves_the_old_or_the_new() {
        let storage = storage();
        write_checkpoint(&storage, path(), KIND, 1, &[1; 2000]).unwrap();
        let before = storage.operations();
        write_checkpoint(&storage, path(), KIND, 2, &[2; 3000]).unwrap();
        let after = storage.operations();
        for operations in before..=after {
            for mode in CrashMode::ALL {
                for seed in 0..20 {
                    let mut rng = StdRng::seed_from_u64(seed);
                    let found = read(&storage.at(operations).survivor(&mut rng, mode)).unwrap();
                    match found.version {
                        1 => assert!(operations < after && found.payload == [1; 2000]),
                        _ => assert!(found.payload == [2; 3000]),
                    }
                }
            }
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let storage = storage();
        write_checkpoint(&storage, path(), KIND, 1, b"some payload").unwrap();
        let file = storage.open(path()).unwrap();
        let len = file.len().unwrap();
        for position in 0..len {
            for bit in 0..8 {
                storage.flip_bit(path(), position, bit);
                let found = read_checkpoint(&storage, path(), KIND);
                assert!(matches!(found, Err(CheckpointError::Corrupt { .. })), "{position}.{bit}: {found:?}");
                storage.flip_bit(path(), position, bit);
            }
        }
        assert!(read_checkpoint(&storage, path(), CheckpointKind(*b"othr")).is_err());
        for shorter in (0..len).rev() {
            file.set_len(shorter).unwrap();
            assert!(read_checkpoint(&storage, path(), KIND).is_err());
        }
    }

    #[test]
    fn a_full_disk_leaves_the_old_one_and_no_litter() {
        let storage = storage();
        write_checkpoint(&storage, path(), KIND, 1, b"old").unwrap();
        storage.set_capacity(Some(storage.used() + 10));
        let error = write_checkpoint(&storage, path(), KIND, 2, b"newer").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert_eq!(storage.list(Path::new("/dir")).unwrap(), ["checkpoint"]);
        assert_eq!(read(&storage).unwrap().payload, b"old");
    }

    #[test]
    fn a_failed_sync_is_reported() {
        for at in [FaultPoint::SyncData, FaultPoint::SyncDir, FaultPoint::Name, FaultPoint::Write] {
            let storage = storage();
            storage.inject(Fault { at, path: String::new(), after: 0, times: 1, error: ErrorKind::Other });
            assert!(write_checkpoint(&storage, path(), KIND, 1, b"payload").is_err(), "{at:?}");
        }
    }
}
