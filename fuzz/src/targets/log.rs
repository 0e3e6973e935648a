//! A partition's directory in any state: opening, reading, appending, opening again. A segment's files, the side files,
//! indexes, producer snapshots, epochs and state are all read on the way.
//!
//! Input: a byte of how to open, then a script of changes to the files of a small log.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use vltava_commitlog::log::{Log, LogConfig, LogPlace, RecoveryInput, Scan, TailBudget};
use vltava_model::batch::{Batch, Compression};
use vltava_model::{LeaderEpoch, Offset, PartitionIndex, TopicId, TopicPartition};
use vltava_storage::{FilePool, MemoryStorage};

use super::batch::small_batch;
use crate::damage::{Files, Script, disk, files_of};
use crate::seal;

const DIR: &str = "/logs/topic-0";
const NOW_MS: i64 = 1_000_000;

static GOOD: LazyLock<Files> = LazyLock::new(good_files);

pub(super) fn partition() -> TopicPartition {
    TopicPartition::new(TopicId::new(77), PartitionIndex::new(0))
}

fn place(storage: &MemoryStorage) -> LogPlace {
    LogPlace {
        files: FilePool::new(Arc::new(storage.clone()), 3, std::thread::sleep),
        dir: PathBuf::from(DIR),
        partition: partition(),
        topic_name: "topic".into(),
        tail_budget: TailBudget::new(4 << 10),
    }
}

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 700,
        index_interval_bytes: 100,
        tail_bytes_max: 1 << 10,
        ..LogConfig::default()
    }
}

fn positioned(records: u64, compression: Compression, base: Offset, epoch: u32) -> Batch {
    let batch = Batch::parse(small_batch(compression, records)).expect("a built batch is whole");
    batch.with_position(base, LeaderEpoch::new(epoch))
}

/// A log with several segments, two epochs, a producer, a cut and a moved start.
fn good_files() -> Files {
    let storage = MemoryStorage::new();
    let mut log = Log::open(place(&storage), config(), RecoveryInput::default()).expect("an empty log opens");
    log.assign_epoch(LeaderEpoch::new(1), Offset::ZERO);
    for records in [2, 3, 1, 4] {
        let end = log.log_end();
        log.append(&positioned(records, Compression::None, end, 1), NOW_MS).expect("it can be appended");
    }
    log.truncate_to(Offset::new(6), LeaderEpoch::new(2), NOW_MS).expect("it can be cut");
    let end = log.log_end();
    log.assign_epoch(LeaderEpoch::new(2), end);
    for compression in [Compression::Lz4, Compression::None, Compression::Zstd, Compression::None] {
        let end = log.log_end();
        log.append(&positioned(3, compression, end, 2), NOW_MS).expect("it can be appended");
    }
    log.advance_log_start(Offset::new(2)).expect("its start can move");
    log.close_clean().expect("it can be closed");
    files_of(&storage, Path::new(DIR))
}

pub(super) fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let how = script.byte();
    let mut files = GOOD.clone();
    script.change(&mut files);
    if how & 1 == 1 {
        seal::files(&mut files, partition());
    }
    let recovery_point = match how >> 1 & 3 {
        0 => None,
        1 => Some(Offset::ZERO),
        2 => Some(Offset::new(6)),
        _ => Some(Offset::new(1 << 20)),
    };
    let clean = how & 8 != 0;
    let storage = disk(&files);
    let scan = if how & 16 != 0 { Scan::All } else { Scan::Needed };
    let input = RecoveryInput { recovery_point, clean, scan, now_ms: NOW_MS, frames: Vec::new() };
    open_and_use(&storage, input);
}

/// Opens, reads everything, appends, and opens again: what could be read before must read the same then.
pub(super) fn open_and_use(storage: &MemoryStorage, input: RecoveryInput) {
    let Ok(mut log) = Log::open(place(storage), config(), input) else { return };
    let before = read_all(&log);
    let end = log.log_end();
    assert!(log.log_start() <= end, "a log starts before it ends");
    let epoch = log.epochs().latest().map_or(LeaderEpoch::new(3), |latest| latest.next());
    // Offsets and epochs of their own may stand at the end of their ranges.
    if end.get() > 1 << 40 || epoch.get() > 1 << 30 {
        return;
    }
    log.assign_epoch(epoch, end);
    let batch = positioned(2, Compression::None, end, epoch.get());
    if log.append(&batch, NOW_MS).is_err() {
        return;
    }
    assert_eq!(log.log_end().get(), end.get() + 2);
    let Ok(point) = log.sync_point() else { return };
    point.files.iter().for_each(|file| file.sync_data().expect("memory syncs"));
    if log.synced(&point).is_err() {
        return;
    }
    let recovery_point = Some(log.recovery_point());
    drop(log);
    let again = RecoveryInput { recovery_point, now_ms: NOW_MS, ..RecoveryInput::default() };
    let log = Log::open(place(storage), config(), again);
    let log = log.unwrap_or_else(|error| panic!("a log that was opened and appended to must open: {error}"));
    if let Some(before) = before {
        let after = read_all(&log).expect("what could be read can be read again");
        assert!(after.starts_with(&before), "what was read must read the same");
        assert_eq!(after.len(), before.len() + 1);
    }
}

/// All batches, when none is damaged.
fn read_all(log: &Log) -> Option<Vec<Bytes>> {
    let reader = log.reader();
    let (mut at, end) = (log.log_start(), log.log_end());
    let mut batches = Vec::new();
    while at < end {
        let read = reader.read(at, 1 << 10, end).ok()?;
        let found = Batch::split(read.bytes.clone(), usize::MAX).expect("what is read was checked");
        assert!(read.end > at, "a read gets on");
        for batch in &found {
            assert!(batch.header().end_offset() > at && batch.header().last_offset() < end);
        }
        batches.extend(found.into_iter().map(Batch::into_bytes));
        at = read.end;
        let _ = reader.offset_for_timestamp(1_001, end);
    }
    Some(batches)
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = (0..32).map(|how| vec![how]).collect();
    for file in 0..u8::try_from(GOOD.len()).expect("there are few files") {
        // Seal it; a byte in the midst, a cut, and zeroes.
        for how in [1, 3, 5, 9] {
            seeds.push(vec![how, 0, file, 0, 30, 3, 1, 2, 3, 4]);
            seeds.push(vec![how, 2, file, 0, 50]);
            seeds.push(vec![how, 4, file, 0, 100, 40]);
            seeds.push(vec![how, 7, file, 0, 0]);
        }
    }
    seeds
}
