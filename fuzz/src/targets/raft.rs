//! What controllers keep and send: entries of the Raft log, bodies of Raft calls, files of snapshots.
//!
//! Input: a byte (its last bits: which), then an entry, a body, or a snapshot's file.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use vltava_controller::probe::decode_raft_bodies;
use vltava_raft_store::{LogEntry, OpenError, Position, SnapshotStore, decode_entry, encode_entry};
use vltava_storage::Storage;

use crate::damage::disk;

const DIR: &str = "/metadata/snapshots";

pub(super) fn run(input: &[u8]) {
    let Some((&how, bytes)) = input.split_first() else { return };
    match how % 4 {
        0 => {
            let entry =
                LogEntry { position: Position { term: 1, index: 1 }, bytes: Bytes::copy_from_slice(bytes) };
            if let Ok(decoded) = decode_entry(&entry) {
                let again = decode_entry(&encode_entry(&decoded)).expect("what was encoded can be decoded");
                assert_eq!(again, decoded);
            }
        }
        1 | 2 => {
            decode_raft_bodies(Bytes::copy_from_slice(bytes));
            decode_raft_bodies(framed(bytes));
        }
        _ => snapshot(bytes),
    }
}

/// A head of these bytes, and nothing behind it.
fn framed(head: &[u8]) -> Bytes {
    let length = u32::try_from(head.len()).expect("an input is small").to_le_bytes();
    [&length[..], head].concat().into()
}

/// The bytes as they are, and with their checksum put right, under the name that a snapshot would have.
fn snapshot(bytes: &[u8]) {
    let sum = crc32c::crc32c(bytes).to_le_bytes();
    for file in [bytes.to_vec(), [bytes, &sum[..]].concat()] {
        let path = Path::new(DIR).join(format!("{:020}-{:020}.snapshot", 6, 2));
        let storage = Arc::new(disk(&vec![(path.clone(), file)]));
        let opened = SnapshotStore::open(storage.clone(), Path::new(DIR));
        if matches!(opened, Err(OpenError::Newer { .. })) {
            continue;
        }
        let (store, found) = opened.expect("a damaged snapshot is set aside");
        let is_there = storage.exists(&path).expect("memory tells");
        assert_eq!(is_there, found.is_some(), "what is damaged lies under another name");
        let newest = store.newest().expect("what was whole just now is read");
        assert_eq!(newest, found);
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let membership = br#"{"configs":[["1@00000000000000000000000000000005"]],"nodes":{"1@00000000000000000000000000000005":{"address":"h:7093"}}}"#;
    let vote = r#"{"vote":{"term":3,"voted_for":"1@00000000000000000000000000000005","committed":true},"last":{"term":2,"index":5}}"#;
    let append = r#"{"vote":{"term":3,"voted_for":null,"committed":false},"previous":null,"committed":null,"entries":[[1,0,1],[1,1,3]]}"#;
    let meta = r#"{"last_log_id":{"leader_id":2,"index":5},"last_membership":{"log_id":null,"membership":{"configs":[],"nodes":{}}},"snapshot_id":"x"}"#;
    let mut snapshot = b"VLSNAP01\x01\0\0\0".to_vec();
    snapshot.extend(u32::try_from(meta.len()).expect("it is short").to_le_bytes());
    snapshot.extend(4u64.to_le_bytes());
    snapshot.extend(meta.as_bytes());
    snapshot.extend(b"data");
    let body = |head: &str, raw: &[u8]| [&[1][..], &framed(head.as_bytes()), raw].concat();
    for (kind, head) in [("vote", vote), ("append", append)] {
        let raw: &[u8] = if kind == "append" { b"\0\x01ab" } else { b"" };
        let taken = decode_raft_bodies([&framed(head.as_bytes()), raw].concat().into());
        assert!(taken > 0, "the {kind} of the seeds is good");
    }
    vec![
        vec![0, 0],
        vec![0, 1, 2, 3],
        [&[0, 2][..], membership].concat(),
        body(vote, b""),
        body(append, b"\0\x01ab"),
        [b"\x02", append.as_bytes()].concat(),
        [&[3][..], &snapshot].concat(),
    ]
}
