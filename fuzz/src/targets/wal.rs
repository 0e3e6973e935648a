//! The write-ahead log of the Raft log in any state: opening, which reads and mends it, and going on in it.
//!
//! Input: a byte (odd: checksums are put right), then a script of changes to the files of a small log.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use vltava_raft_store::{LogEntry, MetaLog, Position, VoteRecord, WalLog, WalOptions};
use vltava_storage::MemoryStorage;

use crate::damage::{Files, Script, disk, files_of};
use crate::seal;

const DIR: &str = "/metadata";
const OPTIONS: WalOptions = WalOptions { file_bytes: 8 << 10, slot_bytes: 512, log_id: 77 };

static GOOD: LazyLock<Files> = LazyLock::new(|| {
    let storage = MemoryStorage::new();
    let mut log = open(&storage).expect("an empty log opens");
    log.save_vote(VoteRecord { term: 2, voted_for: None, committed: false }).expect("it can be saved");
    for index in 0..12 {
        let large = if index % 3 == 0 { 900 } else { 20 };
        log.append(&[entry(1, index, large)]).expect("it can be appended");
    }
    log.truncate_from(10).expect("it can be cut");
    log.append(&[entry(2, 10, 5), entry(2, 11, 5)]).expect("it can be appended");
    log.note_committed(Some(Position { term: 2, index: 10 }));
    log.purge_up_to(Position { term: 1, index: 3 }).expect("it can be purged");
    drop(log);
    let mut files = files_of(&storage, &Path::new(DIR).join("wal"));
    files.extend(
        files_of(&storage, Path::new(DIR)).into_iter().filter(|(path, _)| path.ends_with("wal.origin")),
    );
    files
});

fn entry(term: u64, index: u64, bytes: usize) -> LogEntry {
    LogEntry { position: Position { term, index }, bytes: Bytes::from(vec![1; bytes]) }
}

fn open(storage: &MemoryStorage) -> Result<WalLog, vltava_raft_store::OpenError> {
    WalLog::open(Arc::new(storage.clone()), Path::new(DIR), OPTIONS)
}

/// What a log says of itself.
fn state(log: &WalLog) -> (Vec<LogEntry>, Option<VoteRecord>, Option<Position>) {
    let bounds = log.bounds();
    let first = bounds.purged.map_or(0, |purged| purged.index.saturating_add(1));
    let last = bounds.last.map_or(0, |last| last.index.saturating_add(1));
    let entries = log.read(first..last, usize::MAX).expect("an open log can be read");
    assert_eq!(entries.len() as u64, last.saturating_sub(first), "an open log has no hole");
    (entries, log.read_vote(), log.read_committed())
}

pub(super) fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let how = script.byte();
    let mut files = GOOD.clone();
    script.change(&mut files);
    if how & 1 == 1 {
        files.iter_mut().for_each(|(_, bytes)| seal::wal(bytes));
    }
    let storage = disk(&files);
    let Ok(mut log) = open(&storage) else { return };
    let before = state(&log);
    let last = log.bounds().last;
    let next = last.map_or(entry(1, 0, 30), |last| entry(last.term, last.index.saturating_add(1), 30));
    // Positions may stand at the end of their range.
    if next.position.index > 1 << 40 || log.append(std::slice::from_ref(&next)).is_err() {
        return;
    }
    drop(log);
    let again =
        open(&storage).unwrap_or_else(|error| panic!("a log that was appended to must open: {error}"));
    let (mut entries, vote, committed) = before;
    entries.push(next);
    assert!(state(&again) == (entries, vote, committed), "what was there is there");
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let log = open(&disk(&GOOD)).expect("the good log opens");
    assert!(state(&log).0.len() > 4, "and it holds something");
    let mut seeds = vec![vec![0], vec![1]];
    for file in 0..u8::try_from(GOOD.len()).expect("there are few files") {
        for position in [12u16, 24, 44, 4096 + 44, 8192 + 8, 9216, 9216 + 16, 9216 + 40, 9216 + 48] {
            let [high, low] = position.to_be_bytes();
            seeds.push(vec![1, 0, file, high, low, 3, 0, 0, 0, 2]);
        }
        seeds.push(vec![1, 2, file, 0x24, 0]);
        seeds.push(vec![1, 7, file, 0, 0]);
    }
    seeds
}
