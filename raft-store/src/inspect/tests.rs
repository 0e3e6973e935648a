//! What a stopped node's directory shows, and that looking changes nothing.

use std::collections::BTreeMap;
use std::fs;

use openraft::storage::{RaftLogStorage, RaftLogStorageExt, RaftSnapshotBuilder, RaftStateMachine};

use super::*;
use crate::open::open;
use crate::testing::{Names, command, files, on, position};
use crate::types::{RaftVote, VoterId};

async fn stopped_node(engine: LogEngine, directory: &Path) {
    let mut opened = open(&on(engine, directory), Names::default()).unwrap();
    opened.log.save_vote(&RaftVote::new(4, VoterId::new(2, 9))).await.unwrap();
    let entries: Vec<_> = (0..30).map(|index| command(4, index, format!("a{index}=1"))).collect();
    opened.log.blocking_append(entries.clone()).await.unwrap();
    opened.log.save_committed(Some(position(4, 20).into())).await.unwrap();
    opened.machine.apply(entries.into_iter().take(11)).await.unwrap();
    opened.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    opened.log.purge(position(4, 5).into()).await.unwrap();
    assert!(matches!(inspect(directory), Err(OpenError::InUse { .. })), "it runs");
    drop(opened.log);
    opened.closer.wait();
}

fn content(directory: &Path) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    files(directory).into_iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect()
}

#[tokio::test]
async fn a_stopped_node_shows_all_and_stays_as_it_is() {
    for engine in LogEngine::ALL {
        shows_all_and_stays(engine).await;
    }
}

async fn shows_all_and_stays(engine: LogEngine) {
    let dir = tempfile::tempdir().unwrap();
    stopped_node(engine, dir.path()).await;
    let before = content(dir.path());
    let found = inspect(dir.path()).unwrap();
    assert_eq!((found.engine, found.damage.as_deref()), (engine, None));
    assert_eq!(found.vote.unwrap().voted_for, Some(VoterId::new(2, 9)));
    assert_eq!(found.committed, Some(position(4, 20)));
    assert_eq!(found.purged, Some(position(4, 5)));
    assert_eq!((found.first, found.last), (Some(6), Some(position(4, 29))));
    let indexes: Vec<_> = found.entries().map(|e| e.unwrap().log_id.index).collect();
    assert_eq!(indexes, (6..30).collect::<Vec<_>>());
    assert_eq!(found.snapshots.len(), 1);
    let meta = &found.snapshots[0].content.as_ref().unwrap().meta;
    assert_eq!(meta.last_log_id, Some(position(4, 10).into()));
    assert_eq!(content(dir.path()), before);
}

#[tokio::test]
async fn damage_of_a_log_on_sled_is_said_and_what_is_left_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    stopped_node(LogEngine::Sled, dir.path()).await;
    let witness = dir.path().join("witness");
    let whole = fs::read(&witness).unwrap();
    fs::write(&witness, vec![0; whole.len()]).unwrap();
    let found = inspect(dir.path()).unwrap();
    assert!(found.damage.as_ref().unwrap().contains("witness"), "{:?}", found.damage);
    assert_eq!(found.entries().count(), 24);
    fs::write(&witness, whole).unwrap();

    let db = dir.path().join("log/db");
    let bytes = fs::read(&db).unwrap();
    fs::write(&db, &bytes[..bytes.len() / 3]).unwrap();
    let found = inspect(dir.path()).unwrap();
    assert!(found.damage.is_some());
    fs::write(&db, bytes).unwrap();

    let snapshot = inspect(dir.path()).unwrap().snapshots[0].path.clone();
    fs::write(&snapshot, b"short").unwrap();
    let found = inspect(dir.path()).unwrap();
    assert!(found.snapshots[0].content.is_err() && found.damage.unwrap().contains("snapshot"));
    assert!(inspect(&dir.path().join("nothing")).is_err());
}

#[tokio::test]
async fn damage_of_a_write_ahead_log_is_said_and_what_is_left_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    stopped_node(LogEngine::Wal, dir.path()).await;
    let file = dir.path().join("wal/00000000000000000001.wal");
    let whole = fs::read(&file).unwrap();
    // The vote lies in the first group, the entries in the second, of which there is a copy in a slot.
    let groups = 2 * 4096 + 2 * (64 << 10);
    let mut damaged = whole.clone();
    damaged[groups + 512 + 100] ^= 1;
    fs::write(&file, &damaged).unwrap();
    let found = inspect(dir.path()).unwrap();
    assert_eq!((found.damage.as_deref(), found.entries().count()), (None, 24));
    damaged[4096 * 2..groups].fill(0);
    fs::write(&file, &damaged).unwrap();
    let found = inspect(dir.path()).unwrap();
    assert!(found.damage.as_ref().unwrap().contains("change 2 cannot be read"), "{:?}", found.damage);
    assert_eq!((found.vote.unwrap().term, found.entries().count()), (4, 0));
    fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    assert!(inspect(dir.path()).unwrap().damage.unwrap().contains("another length"));
    fs::write(&file, &whole).unwrap();
    assert_eq!(inspect(dir.path()).unwrap().entries().count(), 24);
    fs::remove_file(&file).unwrap();
    assert!(inspect(dir.path()).unwrap().damage.unwrap().contains("its files are gone"));
}
