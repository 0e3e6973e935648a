//! What a stopped node's directory shows, and that looking changes nothing.

use std::collections::BTreeMap;
use std::fs;

use openraft::storage::{RaftLogStorage, RaftLogStorageExt, RaftSnapshotBuilder, RaftStateMachine};

use super::*;
use crate::open::{StoreOptions, open};
use crate::testing::{Names, command, files, position};
use crate::types::{RaftVote, VoterId};

async fn stopped_node(directory: &Path) {
    let mut opened = open(&StoreOptions::new(directory), Names::default()).unwrap();
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
    let dir = tempfile::tempdir().unwrap();
    stopped_node(dir.path()).await;
    let before = content(dir.path());
    let found = inspect(dir.path()).unwrap();
    assert_eq!(found.damage, None);
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
async fn damage_is_said_and_what_is_left_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    stopped_node(dir.path()).await;
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
