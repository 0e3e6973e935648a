//! Small files that are replaced whole, and a log directory's identity and mark of a clean end, which are such files.
//!
//! Input: a byte (odd: checksums are put right), then a script of changes to the files of a directory.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use vltava_commitlog::directory::LogDirectory;
use vltava_model::{BrokerEpoch, ClusterId, DirectoryId, NodeId};
use vltava_storage::MemoryStorage;
use vltava_storage::checkpoint::{CheckpointKind, read_checkpoint, write_checkpoint};

use super::log::partition;
use crate::damage::{Files, Script, disk, files_of};
use crate::seal;

const DIR: &str = "/logs";

static GOOD: LazyLock<Files> = LazyLock::new(|| {
    let storage = MemoryStorage::new();
    let mut directory = open(&storage).expect("an empty directory is taken");
    directory.bind(ClusterId::new(5)).expect("it can be bound");
    directory.mark_clean(BrokerEpoch::new(3)).expect("it can be marked");
    let points = Path::new(DIR).join("recovery-point-offset-checkpoint");
    write_checkpoint(&storage, &points, CheckpointKind(*b"rcvp"), 1, &[7; 56]).expect("it can be written");
    files_of(&storage, Path::new(DIR))
});

fn open(storage: &MemoryStorage) -> Result<LogDirectory, vltava_commitlog::directory::DirectoryError> {
    let fresh = DirectoryId::new(9);
    LogDirectory::open(Arc::new(storage.clone()), Path::new(DIR), NodeId::new(1), None, fresh)
}

pub(super) fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let how = script.byte();
    let mut files = GOOD.clone();
    script.change(&mut files);
    if how & 1 == 1 {
        seal::files(&mut files, partition());
    }
    let storage = disk(&files);
    for (path, bytes) in &files {
        for kind in [*b"meta", *b"clsh", *b"rcvp", *b"EPOC", *b"LOGS"] {
            if let Ok(Some(read)) = read_checkpoint(&storage, path, CheckpointKind(kind)) {
                assert!(read.payload.len() < bytes.len());
            }
        }
    }
    let Ok(directory) = open(&storage) else { return };
    assert!(directory.partitions().is_ok());
    let identity = directory.identity();
    drop(directory);
    let again = open(&storage).expect("a directory that was taken can be taken again");
    assert_eq!(again.identity(), identity);
    assert_eq!(again.left_cleanly(), None, "the mark is gone once it was read");
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![vec![0], vec![1]];
    for file in 0..u8::try_from(GOOD.len()).expect("there are few files") {
        seeds.push(vec![1, 0, file, 0, 12, 3, 0, 0, 0, 200]);
        seeds.push(vec![1, 0, file, 0, 8, 1, 0, 9]);
        seeds.push(vec![1, 2, file, 0, 30]);
        seeds.push(vec![1, 3, file, 0, 16, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
    }
    seeds
}
