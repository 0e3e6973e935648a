//! No damaged byte is served or cut away in silence.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;
use vltava_model::batch::Batch;
use vltava_model::{Offset, PartitionIndex, TopicPartition};

use crate::log::testing::{batch_at, place};
use crate::log::*;
use vltava_storage::checkpoint::{CheckpointKind, read_checkpoint, write_checkpoint};
use vltava_storage::{CrashMode, MemoryStorage, Storage};

const DIR: &str = "/logs/topic-0";

fn config() -> LogConfig {
    LogConfig { segment_bytes: 400, index_interval_bytes: 100, retention_ms: None, ..LogConfig::default() }
}

/// A log that was closed cleanly, what it held, and its recovery point.
fn closed() -> (MemoryStorage, Vec<Batch>, Offset) {
    let storage = MemoryStorage::new();
    let mut log = Log::open(place(Arc::new(storage.clone())), config(), RecoveryInput::default()).unwrap();
    let batches: Vec<Batch> = (0..10).map(|n| batch_at(n * 3, 1 + n as u32 / 4, 3)).collect();
    for batch in &batches {
        log.append(batch, 5).unwrap();
    }
    log.advance_log_start(Offset::new(2)).unwrap();
    let point = log.close_clean().unwrap();
    (storage, batches, point)
}

fn open(storage: &MemoryStorage, point: Offset, clean: bool) -> Result<Log, RecoveryError> {
    let input = RecoveryInput { recovery_point: Some(point), clean, now_ms: 5, ..RecoveryInput::default() };
    Log::open(place(Arc::new(storage.clone())), config(), input)
}

/// Reads everything in small and in large pieces; what is read must be right. Tells whether something was refused.
fn read_all(log: &Log, expected: &[Batch]) -> bool {
    let reader = log.reader();
    let mut was_refused = false;
    for bytes_max in [1, 250] {
        for from in log.log_start().get()..log.log_end().get() {
            match reader.read(Offset::new(from), bytes_max, log.log_end()) {
                Ok(read) => {
                    assert!(read.first <= Offset::new(from) && read.end > Offset::new(from));
                    let first = from as usize / 3;
                    let batches = Batch::split(read.bytes, usize::MAX).unwrap();
                    assert_eq!(batches[..], expected[first..first + batches.len()]);
                }
                Err(ReadError::Corrupt(_)) => was_refused = true,
                Err(other) => panic!("{other}"),
            }
        }
    }
    for timestamp in (990..1040).step_by(7) {
        match reader.offset_for_timestamp(timestamp, log.log_end()) {
            Ok(hit) => {
                let naive = (log.log_start().get()..30).find(|offset| 1000 + *offset as i64 >= timestamp);
                assert_eq!(hit.map(|hit| hit.offset.get()), naive);
            }
            Err(ReadError::Corrupt(_)) => was_refused = true,
            Err(other) => panic!("{other}"),
        }
    }
    was_refused
}

fn names(storage: &MemoryStorage) -> Vec<PathBuf> {
    storage.list(Path::new(DIR)).unwrap().into_iter().map(|name| Path::new(DIR).join(name)).collect()
}

fn is_needed(path: &Path) -> bool {
    let suffix = path.extension().and_then(|suffix| suffix.to_str());
    matches!(suffix, Some("log" | "check")) || path.ends_with("log-state")
}

#[test]
fn every_flipped_bit_of_every_file_is_noticed_or_harmless() {
    let (whole, batches, point) = closed();
    let paths = names(&whole);
    assert!(paths.len() > 10);
    for path in paths {
        for byte in 0..whole.open(&path).unwrap().len().unwrap() {
            for clean in [true, false] {
                let storage = whole.survivor(&mut StdRng::seed_from_u64(0), CrashMode::Kill);
                storage.flip_bit(&path, byte, (byte % 8) as u8);
                match open(&storage, point, clean) {
                    Ok(log) => {
                        assert_eq!((log.log_start(), log.log_end()), (Offset::new(2), Offset::new(30)));
                        let epochs: Vec<u32> =
                            log.epochs().entries().iter().map(|(epoch, _)| epoch.get()).collect();
                        assert_eq!(epochs, [1, 2, 3], "{} byte {byte}", path.display());
                        read_all(&log, &batches);
                    }
                    Err(RecoveryError::Corrupt(_)) => {
                        assert!(is_needed(&path), "{} byte {byte}", path.display())
                    }
                    Err(other) => panic!("{other}"),
                }
            }
        }
    }
}

#[test]
fn every_flipped_bit_of_a_batch_is_refused_where_it_is_read() {
    let (storage, batches, point) = closed();
    for path in
        names(&storage).into_iter().filter(|path| path.extension().is_some_and(|suffix| suffix == "log"))
    {
        let len = storage.open(&path).unwrap().len().unwrap();
        for byte in 0..len {
            storage.flip_bit(&path, byte, (byte % 8) as u8);
            if let Ok(log) = open(&storage, point, true) {
                assert!(read_all(&log, &batches), "{} byte {byte} was served", path.display());
            }
            storage.flip_bit(&path, byte, (byte % 8) as u8);
        }
    }
}

#[test]
fn a_shortened_or_lost_file_below_the_recovery_point_is_noticed() {
    let (storage, batches, point) = closed();
    for path in names(&storage).into_iter().filter(|path| is_needed(path) && !path.ends_with("log-state")) {
        let file = storage.open(&path).unwrap();
        let mut content = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(0, &mut content).unwrap();
        for len in (0..content.len() as u64).step_by(7) {
            file.set_len(len).unwrap();
            if let Ok(log) = open(&storage, point, false) {
                assert_eq!(log.log_end(), Offset::new(30), "{} at {len}", path.display());
                assert!(read_all(&log, &batches), "{} at {len} was served", path.display());
            }
            file.set_len(0).unwrap();
            file.write_at(0, &content).unwrap();
        }
        let aside = path.with_extension("aside");
        storage.rename(&path, &aside).unwrap();
        match open(&storage, point, false) {
            Ok(log) => {
                assert_eq!(log.log_end(), Offset::new(30), "without {}", path.display());
                let reader = log.reader();
                let refused = (2..30).any(|from| reader.read(Offset::new(from), 1, log.log_end()).is_err());
                assert!(refused, "without {}", path.display());
            }
            Err(error) => assert!(matches!(error, RecoveryError::Corrupt(_)), "{error}"),
        }
        storage.rename(&aside, &path).unwrap();
    }
    assert!(!read_all(&open(&storage, point, false).unwrap(), &batches));
}

#[test]
fn a_batch_in_the_wrong_place_is_refused_though_its_own_checksum_is_right() {
    let (storage, _, point) = closed();
    let path = Path::new(DIR).join("00000000000000000000.log");
    let file = storage.open(&path).unwrap();
    // Another leader's records, at the same offset and of the same length.
    let foreign = batch_at(3, 9, 3);
    let position = batch_at(0, 1, 3).bytes().len() as u64;
    file.write_at(position, foreign.bytes()).unwrap();
    let log = open(&storage, point, true).unwrap();
    assert!(matches!(log.reader().read(Offset::new(3), 1, log.log_end()), Err(ReadError::Corrupt(_))));
}

#[test]
fn the_files_of_another_partition_are_refused() {
    let (storage, _, point) = closed();
    let mut elsewhere = place(Arc::new(storage));
    elsewhere.partition = TopicPartition::new(elsewhere.partition.topic, PartitionIndex::new(1));
    let input =
        RecoveryInput { recovery_point: Some(point), clean: true, now_ms: 5, ..RecoveryInput::default() };
    assert!(matches!(Log::open(elsewhere, config(), input), Err(RecoveryError::Corrupt(_))));
}

#[test]
fn missing_indexes_epochs_and_snapshots_are_made_again() {
    let (storage, batches, point) = closed();
    for path in names(&storage).iter().filter(|path| !is_needed(path)) {
        storage.remove(path).unwrap();
    }
    let log = open(&storage, point, false).unwrap();
    assert!(!read_all(&log, &batches));
    assert_eq!(log.epochs().entries().len(), 3);
}

#[test]
fn when_nobody_knows_what_was_synced_nothing_may_be_torn() {
    let (storage, batches, _) = closed();
    let logs: Vec<PathBuf> = names(&storage)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "log"))
        .collect();
    let unknown = || RecoveryInput { now_ms: 5, ..RecoveryInput::default() };
    let reopen = || Log::open(place(Arc::new(storage.clone())), config(), unknown());
    assert!(!read_all(&reopen().unwrap(), &batches));
    storage.flip_bit(&logs[1], 70, 0);
    assert!(matches!(reopen(), Err(RecoveryError::Corrupt(_))));
    storage.flip_bit(&logs[1], 70, 0);
    storage.flip_bit(logs.last().unwrap(), 70, 0);
    assert!(matches!(reopen(), Err(RecoveryError::Corrupt(_))));
}

/// A log of two unsynced batches, of which the second is replaced on disk by `other`.
fn replaced(other: &Batch, check_entries: u64) -> Log {
    let storage = MemoryStorage::new();
    let mut log = Log::open(place(Arc::new(storage.clone())), config(), RecoveryInput::default()).unwrap();
    for base in [0, 3] {
        log.append(&batch_at(base, 5, 3), 5).unwrap();
    }
    let len = batch_at(0, 5, 3).bytes().len() as u64;
    let path = Path::new(DIR).join("00000000000000000000");
    storage.open(&path.with_extension("log")).unwrap().write_at(len, other.bytes()).unwrap();
    let check = storage.open(&path.with_extension("check")).unwrap();
    check.set_len(check.len().unwrap() - (2 - check_entries) * 24).unwrap();
    open(&storage, Offset::ZERO, false).unwrap()
}

#[test]
fn an_unsynced_tail_ends_before_what_does_not_follow() {
    assert_eq!(replaced(&batch_at(3, 5, 3), 2).log_end(), Offset::new(6));
    assert_eq!(replaced(&batch_at(3, 6, 3), 1).log_end(), Offset::new(6), "nothing speaks against it");
    assert_eq!(replaced(&batch_at(3, 6, 3), 2).log_end(), Offset::new(3), "the side file speaks against it");
    assert_eq!(replaced(&batch_at(3, 4, 3), 1).log_end(), Offset::new(3), "epochs do not go back");
    assert_eq!(replaced(&batch_at(4, 5, 3), 1).log_end(), Offset::new(3), "there is a gap");
}

#[test]
fn what_a_later_release_wrote_is_refused_and_left_alone() {
    let (storage, _, point) = closed();
    let check = Path::new(DIR).join("00000000000000000000.check");
    let file = storage.open(&check).unwrap();
    let mut header = [0; 48];
    file.read_exact_at(0, &mut header).unwrap();
    let whole = header;
    header[4..8].copy_from_slice(&2u32.to_be_bytes());
    let sum = crc32c::crc32c(&header[..44]);
    header[44..].copy_from_slice(&sum.to_be_bytes());
    file.write_at(0, &header).unwrap();
    let said = |error: &std::io::Error, version: u16| {
        let expected = format!("version {version}, which this release does not know");
        assert!(error.to_string().contains(&expected), "{error}");
    };
    // A sealed segment is looked at when it is read.
    let log = open(&storage, point, true).unwrap();
    match log.reader().read(Offset::new(3), 1, log.log_end()) {
        Err(ReadError::Io(error)) => said(&error, 2),
        other => panic!("{other:?}"),
    }
    match open(&storage, Offset::ZERO, false) {
        Err(RecoveryError::Io(error)) => said(&error, 2),
        other => panic!("{:?}", other.map(|_| ())),
    }
    let mut after = [0; 48];
    file.read_exact_at(0, &mut after).unwrap();
    assert_eq!(after, header);
    file.write_at(0, &whole).unwrap();

    let state = Path::new(DIR).join("log-state");
    let kind = CheckpointKind(*b"LOGS");
    let before = read_checkpoint(&storage, &state, kind).unwrap().unwrap();
    write_checkpoint(&storage, &state, kind, 3, &before.payload).unwrap();
    match open(&storage, point, true) {
        Err(RecoveryError::Io(error)) => said(&error, 3),
        other => panic!("{:?}", other.map(|_| ())),
    }
    assert_eq!(read_checkpoint(&storage, &state, kind).unwrap().unwrap().version, 3);
}

/// The two checkpoints of a log that say whose they are.
const SAY_WHOSE: [(&str, CheckpointKind); 2] =
    [("log-state", CheckpointKind(*b"LOGS")), ("leader-epoch-checkpoint", CheckpointKind(*b"EPOC"))];

#[test]
fn checkpoints_of_the_version_before_are_read_and_the_next_write_is_of_this_one() {
    let (storage, batches, point) = closed();
    let epochs = open(&storage, point, true).unwrap().epochs().clone();
    for (name, kind) in SAY_WHOSE {
        let path = Path::new(DIR).join(name);
        let now = read_checkpoint(&storage, &path, kind).unwrap().unwrap();
        assert_eq!(now.version, 2);
        let without = &now.payload[..now.payload.len() - 20];
        write_checkpoint(&storage, &path, kind, 1, without).unwrap();
    }
    // Were the epochs not believed, this one, of which no batch tells, would be gone.
    let path = Path::new(DIR).join(SAY_WHOSE[1].0);
    let mut old = read_checkpoint(&storage, &path, SAY_WHOSE[1].1).unwrap().unwrap().payload;
    old.extend(9_u32.to_be_bytes());
    old.extend(point.get().to_be_bytes());
    write_checkpoint(&storage, &path, SAY_WHOSE[1].1, 1, &old).unwrap();
    let mut log = open(&storage, point, true).unwrap();
    assert_eq!((log.log_start(), log.log_end()), (Offset::new(2), Offset::new(30)));
    assert!(!read_all(&log, &batches));
    let (last, before) = log.epochs().entries().split_last().unwrap();
    assert_eq!((last.0.get(), last.1), (9, point));
    assert_eq!(before, epochs.entries());
    log.advance_log_start(Offset::new(3)).unwrap();
    log.append(&batch_at(30, 10, 1), 5).unwrap();
    log.close_clean().unwrap();
    for (name, kind) in SAY_WHOSE {
        assert_eq!(read_checkpoint(&storage, &Path::new(DIR).join(name), kind).unwrap().unwrap().version, 2);
    }
}

#[test]
fn another_log_s_checkpoint_in_the_place_of_this_one_s_is_not_believed() {
    let (storage, _, point) = closed();
    let epochs = open(&storage, point, true).unwrap().epochs().clone();
    for (name, kind) in SAY_WHOSE {
        let path = Path::new(DIR).join(name);
        let mut other = read_checkpoint(&storage, &path, kind).unwrap().unwrap();
        let whole = other.payload.clone();
        *other.payload.last_mut().unwrap() ^= 1;
        if name == "leader-epoch-checkpoint" {
            // The last one's number.
            let at = other.payload.len() - 20 - 12 + 3;
            other.payload[at] += 5;
        }
        write_checkpoint(&storage, &path, kind, 2, &other.payload).unwrap();
        match open(&storage, point, true) {
            Ok(log) => assert_eq!((name, log.epochs()), ("leader-epoch-checkpoint", &epochs)),
            Err(RecoveryError::Corrupt(_)) => assert_eq!(name, "log-state"),
            Err(error) => panic!("{error}"),
        }
        write_checkpoint(&storage, &path, kind, 2, &whole).unwrap();
    }
}

#[test]
fn all_of_a_log_is_read_where_that_is_asked_for() {
    let (storage, batches, point) = closed();
    let read_all = || {
        let input = RecoveryInput {
            recovery_point: Some(point),
            clean: true,
            scan: Scan::All,
            frames: Vec::new(),
            now_ms: 5,
        };
        Log::open(place(Arc::new(storage.clone())), config(), input)
    };
    let log = read_all().unwrap();
    assert_eq!((log.log_start(), log.log_end()), (Offset::new(2), Offset::new(30)));
    assert!(!super::damage::read_all(&log, &batches));
    drop(log);
    for path in names(&storage)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "log" || suffix == "check"))
    {
        for byte in (0..storage.open(&path).unwrap().len().unwrap()).step_by(3) {
            storage.flip_bit(&path, byte, (byte % 8) as u8);
            match read_all() {
                // The note of the cuts is not needed where nothing was cut.
                Ok(log) => {
                    assert!(!super::damage::read_all(&log, &batches), "{} byte {byte}", path.display())
                }
                Err(error) => assert!(matches!(error, RecoveryError::Corrupt(_)), "{error}"),
            }
            if path.extension().is_some_and(|suffix| suffix == "log") {
                assert!(read_all().is_err(), "{} byte {byte} was not noticed", path.display());
            }
            storage.flip_bit(&path, byte, (byte % 8) as u8);
        }
    }
}

#[test]
fn damage_below_the_start_is_told_where_nobody_knows_what_was_synced() {
    let storage = MemoryStorage::new();
    let large = LogConfig::default();
    let mut log =
        Log::open(place(Arc::new(storage.clone())), large.clone(), RecoveryInput::default()).unwrap();
    for n in 0..4 {
        log.append(&batch_at(n * 3, 1, 3), 5).unwrap();
    }
    log.advance_log_start(Offset::new(4)).unwrap();
    log.close_clean().unwrap();
    storage.flip_bit(&Path::new(DIR).join("00000000000000000000.log"), 70, 1);
    let opened =
        Log::open(place(Arc::new(storage)), large, RecoveryInput { now_ms: 5, ..RecoveryInput::default() });
    assert!(matches!(opened, Err(RecoveryError::Corrupt(_))), "{:?}", opened.map(|log| log.log_end()));
}
