//! Damaged bytes are named, never skipped: only the very last group may be torn.

use super::*;
use crate::durability::format::{FILE_HEADER_BYTES, SECTOR_BYTES};

const GROUPS: u64 = 12;
const GROUP_BYTES: u64 = 1024;

/// One file with equal groups, of which a frame of 800 bytes covers most.
fn filled() -> (MemoryStorage, PathBuf) {
    let storage = MemoryStorage::new();
    let file = segment(&storage, "a");
    let journal = start(&storage, tiny());
    for i in 0..GROUPS {
        commit(&journal, vec![append(1, i * 800, vec![i as u8; 800], &file)]).unwrap();
    }
    drop(journal);
    let path = dir().join(&storage.list(&dir()).unwrap()[0]);
    (storage, path)
}

fn frames(storage: &MemoryStorage) -> Result<usize, RecoverError> {
    Journal::recover(storage, &dir()).map(|mut found| found.take(partition(1)).len())
}

#[test]
fn every_flipped_bit_of_an_earlier_group_is_an_error_that_names_the_place() {
    let (storage, path) = filled();
    assert_eq!(frames(&storage).unwrap() as u64, GROUPS);
    let used = 40 + 48 + 800;
    for group in [0, 1, 7, GROUPS - 2] {
        let start = FILE_HEADER_BYTES + group * GROUP_BYTES;
        for position in (start..start + used).step_by(13).chain(start..start + 88) {
            let bit = (position % 8) as u8;
            storage.flip_bit(&path, position, bit);
            match frames(&storage) {
                Err(RecoverError::Corrupt { path: named, position: at, .. }) => {
                    assert_eq!((&named, at), (&path, start), "flipped {position}");
                }
                other => panic!("flipped {position}: {other:?}"),
            }
            storage.flip_bit(&path, position, bit);
        }
    }
    assert_eq!(frames(&storage).unwrap() as u64, GROUPS);
}

#[test]
fn a_torn_last_group_is_left_out() {
    let (storage, path) = filled();
    let last = FILE_HEADER_BYTES + (GROUPS - 1) * GROUP_BYTES;
    storage.flip_bit(&path, last + 500, 0);
    assert_eq!(frames(&storage).unwrap() as u64, GROUPS - 1);
    let file = storage.open(&path).unwrap();
    file.write_at(last, &[0; SECTOR_BYTES as usize]).unwrap();
    assert_eq!(frames(&storage).unwrap() as u64, GROUPS - 1);
    // And the journal goes on in its place.
    let journal = start(&storage, tiny());
    let segment = segment(&storage, "a");
    commit(&journal, vec![append(1, 5, vec![1; 10], &segment)]).unwrap();
    drop(journal);
    assert_eq!(frames(&storage).unwrap() as u64, GROUPS);
}

#[test]
fn a_damaged_header_of_a_file_is_an_error() {
    let (storage, path) = filled();
    for position in 0..36 {
        storage.flip_bit(&path, position, 2);
        assert!(matches!(frames(&storage), Err(RecoverError::Corrupt { .. })), "{position}");
        storage.flip_bit(&path, position, 2);
    }
    storage.open(&path).unwrap().set_len(1000).unwrap();
    assert!(matches!(frames(&storage), Err(RecoverError::Corrupt { .. })));
}

/// Three files, none released.
pub(super) fn three_files() -> (MemoryStorage, Vec<PathBuf>) {
    let storage = MemoryStorage::new();
    let file = segment(&storage, "a");
    let journal = start(&storage, tiny());
    for i in 0..80 {
        commit(&journal, vec![append(1, i * 800, vec![i as u8; 800], &file)]).unwrap();
    }
    drop(journal);
    let paths: Vec<_> = storage.list(&dir()).unwrap().iter().map(|name| dir().join(name)).collect();
    assert_eq!(paths.len(), 3);
    assert_eq!(frames(&storage).unwrap(), 80);
    (storage, paths)
}

#[test]
fn a_damaged_end_of_a_full_file_is_an_error() {
    let (storage, paths) = three_files();
    let file = storage.open(&paths[0]).unwrap();
    let groups = (file.len().unwrap() - FILE_HEADER_BYTES) / GROUP_BYTES;
    let last = FILE_HEADER_BYTES + (groups - 1) * GROUP_BYTES;
    storage.flip_bit(&paths[0], last + 100, 1);
    match frames(&storage) {
        Err(RecoverError::Corrupt { path, position, .. }) => {
            assert_eq!((path, position), (paths[0].clone(), last));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_damaged_beginning_of_a_later_file_is_an_error() {
    let (storage, paths) = three_files();
    storage.flip_bit(&paths[1], FILE_HEADER_BYTES + 100, 1);
    assert!(matches!(frames(&storage), Err(RecoverError::Corrupt { .. })));
    storage.flip_bit(&paths[1], FILE_HEADER_BYTES + 100, 1);
    // All of a file's groups gone, and its header there.
    let file = storage.open(&paths[1]).unwrap();
    let len = file.len().unwrap() - FILE_HEADER_BYTES;
    let mut saved = vec![0; len as usize];
    file.read_exact_at(FILE_HEADER_BYTES, &mut saved).unwrap();
    file.write_at(FILE_HEADER_BYTES, &vec![0; len as usize]).unwrap();
    assert!(matches!(frames(&storage), Err(RecoverError::Corrupt { .. })));
    file.write_at(FILE_HEADER_BYTES, &saved).unwrap();
    let file = storage.open(&paths[0]).unwrap();
    file.write_at(FILE_HEADER_BYTES, &vec![0; len as usize]).unwrap();
    assert!(matches!(frames(&storage), Err(RecoverError::Corrupt { .. })), "the oldest file");
}

#[test]
fn a_missing_file_is_an_error() {
    let (storage, paths) = three_files();
    storage.remove(&paths[1]).unwrap();
    assert!(matches!(frames(&storage), Err(RecoverError::Corrupt { .. })));
}

#[test]
fn a_missing_file_is_noticed_among_empty_ones_too() {
    let (storage, paths) = three_files();
    let journal = start(&storage, tiny());
    journal.replay_done();
    journal.close().unwrap();
    assert_eq!(frames(&storage).unwrap(), 0);
    storage.remove(&paths[1]).unwrap();
    assert!(matches!(frames(&storage), Err(RecoverError::Corrupt { .. })));
}

#[test]
fn a_later_format_is_refused_by_its_version() {
    let (storage, path) = filled();
    let file = storage.open(&path).unwrap();
    let mut header = [0; 36];
    file.read_exact_at(0, &mut header).unwrap();
    header[5] = 2;
    let crc = crc32c::crc32c(&header[..32]);
    header[32..].copy_from_slice(&crc.to_be_bytes());
    file.write_at(0, &header).unwrap();
    assert!(matches!(frames(&storage), Err(RecoverError::UnsupportedVersion { version: 2, .. })));
}

#[test]
fn an_unfinished_file_is_cleared_away() {
    let (storage, _) = filled();
    storage.create(&dir().join("00000000000000000002.journal")).unwrap().set_len(9000).unwrap();
    storage.create(&dir().join("notes.txt")).unwrap();
    assert_eq!(frames(&storage).unwrap() as u64, GROUPS);
    drop(start(&storage, JournalOptions { ahead_bytes: 0, ..tiny() }));
    assert_eq!(storage.list(&dir()).unwrap(), ["00000000000000000001.journal", "notes.txt"]);
}

/// Whatever a producer sends, it is never taken for a group: it does not know the salt.
#[test]
fn payload_that_looks_like_a_group_is_payload() {
    let (other, path) = filled();
    let group = {
        let mut bytes = vec![0; (GROUPS * GROUP_BYTES) as usize];
        other.open(&path).unwrap().read_exact_at(FILE_HEADER_BYTES, &mut bytes).unwrap();
        bytes
    };
    let storage = MemoryStorage::new();
    let file = segment(&storage, "a");
    let options =
        JournalOptions { fresh_salt: 1, segment_sync_bytes: 1 << 20, group_bytes_max: 64 << 10, ..tiny() };
    let journal = start(&storage, options);
    // The frame's bytes begin 88 bytes into the group.
    let mut bytes = vec![0; 512 - 88];
    bytes.extend_from_slice(&group[..4096]);
    commit(&journal, vec![append(1, 0, vec![1], &file)]).unwrap();
    commit(&journal, vec![append(1, 1, bytes, &file)]).unwrap();
    drop(journal);
    let path = dir().join(&storage.list(&dir()).unwrap()[0]);
    storage.flip_bit(&path, FILE_HEADER_BYTES + 512 + 50, 1);
    assert_eq!(frames(&storage).unwrap(), 1, "torn, with what looks like later groups within");
}
