//! One behaviour a test.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use vltava_model::batch::{Batch, BatchBuilder, Compression, ProducerStamp};
use vltava_model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

use crate::durability::{RecoveredBody, RecoveredFrame};
use crate::log::testing::{batch_at, place, place_with, positioned};
use crate::log::*;
use vltava_storage::{CrashMode, Fault, FaultPoint, MemoryStorage, Storage};

const DIR: &str = "/logs/topic-0";

fn at(offset: u64) -> Offset {
    Offset::new(offset)
}

fn small() -> LogConfig {
    LogConfig { segment_bytes: 500, index_interval_bytes: 100, retention_ms: None, ..LogConfig::default() }
}

fn open_with(storage: &MemoryStorage, config: LogConfig, input: RecoveryInput) -> Log {
    Log::open(place(Arc::new(storage.clone())), config, input).unwrap()
}

fn open(storage: &MemoryStorage) -> Log {
    open_with(storage, small(), RecoveryInput { now_ms: 1, ..RecoveryInput::default() })
}

fn fill(log: &mut Log, batches: u64, epoch: u32) {
    for _ in 0..batches {
        let base = log.log_end().get();
        log.append(&batch_at(base, epoch, 3), 1000 + base as i64).unwrap();
    }
}

fn sync(log: &mut Log) {
    let point = log.sync_point().unwrap();
    point.files.iter().for_each(|file| file.sync_data().unwrap());
    log.synced(&point).unwrap();
}

fn all(log: &Log) -> Vec<Batch> {
    let (reader, end) = (log.reader(), log.log_end());
    let (mut next, mut batches) = (log.log_start(), Vec::new());
    while next < end {
        let read = reader.read(next, 1, end).unwrap();
        batches.extend(Batch::split(read.bytes, usize::MAX).unwrap());
        next = read.end;
    }
    batches
}

fn files(storage: &MemoryStorage, suffix: &str) -> usize {
    storage.list(Path::new(DIR)).unwrap().iter().filter(|name| name.ends_with(suffix)).count()
}

#[test]
fn what_is_appended_is_read_back_across_segments() {
    let storage = MemoryStorage::new();
    let mut log = open(&storage);
    assert_eq!(files(&storage, ""), 0, "an empty log has no files");
    fill(&mut log, 40, 1);
    assert!(files(&storage, ".log") > 5);
    let (reader, end) = (log.reader(), log.log_end());
    assert_eq!(end, at(120));
    for from in 0..120 {
        let read = reader.read(at(from), 1, end).unwrap();
        assert_eq!((read.first, read.end), (at(from / 3 * 3), at(from / 3 * 3 + 3)));
        assert_eq!(read.bytes, batch_at(from / 3 * 3, 1, 3).into_bytes());
        let more = reader.read(at(from), 300, end).unwrap();
        assert!(more.bytes.len() <= 300 && more.first == read.first && more.end >= read.end);
        let tail = reader.read_tail(at(from), 300, end).unwrap();
        assert!(tail.bytes.starts_with(&more.bytes));
        let range = reader.file_range(at(from), 300, end).unwrap().unwrap();
        let mut bytes = vec![0; range.bytes as usize];
        range.file.read_at(range.position, &mut bytes).unwrap();
        assert_eq!(bytes, more.bytes);
    }
    for (from, limit) in [(120, 120), (50, 50), (48, 50), (60, 10)] {
        let read = reader.read(at(from), 1000, at(limit)).unwrap();
        assert!(read.bytes.is_empty() && read.end == at(from), "{from} below {limit}");
    }
    assert!(matches!(reader.read(at(121), 1, at(500)), Err(ReadError::OutOfRange { .. })));
    log.trim_tail();
    assert!(reader.read_tail(at(100), 1, end).is_none());
}

/// Whatever goes into one write, the files are the same, and so is what the log knows.
#[test]
fn batches_appended_in_runs_are_as_those_appended_one_by_one() {
    let (one_by_one, in_runs) = (MemoryStorage::new(), MemoryStorage::new());
    let (mut log, mut other) = (open(&one_by_one), open(&in_runs));
    let batches: Vec<_> = (0..40).map(|n| batch_at(3 * n, 1 + n as u32 / 15, 3)).collect();
    for batch in &batches {
        log.append(batch, 7).unwrap();
    }
    let (mut rest, mut runs) = (&batches[..], 0);
    while !rest.is_empty() {
        let run = other.append_run(&rest[..rest.len().min(7)], 7).unwrap();
        assert!(
            run.batches > 0
                && run.rolled == (runs > 0 && other.active_extent().batches == run.batches as u32)
        );
        rest = &rest[run.batches..];
        runs += 1;
    }
    assert!(files(&in_runs, ".log") > 5 && runs < 20, "{runs} runs");
    assert_eq!((log.log_end(), log.epochs()), (other.log_end(), other.epochs()));
    assert_eq!(all(&log), all(&other));
    let (first, second) = (log.close_clean().unwrap(), other.close_clean().unwrap());
    assert_eq!(first, second);
    for name in one_by_one.list(Path::new(DIR)).unwrap() {
        let path = Path::new(DIR).join(name);
        let read = |storage: &MemoryStorage| vltava_storage::read_file(storage, &path, 1 << 20).unwrap();
        assert_eq!(read(&one_by_one), read(&in_runs), "{}", path.display());
    }
    assert_eq!(files(&one_by_one, ""), files(&in_runs, ""));
}

#[test]
fn a_run_ends_before_a_batch_that_may_not_follow() {
    let mut log = open(&MemoryStorage::new());
    let (gap, old) = (batch_at(7, 5, 1), batch_at(6, 4, 1));
    for wrong in [gap, old] {
        let base = log.log_end().get();
        let run = log.append_run(&[batch_at(base, 5, 3), wrong.clone()], 0).unwrap();
        assert_eq!((run.batches, log.log_end()), (1, at(base + 3)));
        assert!(log.append_run(&[wrong], 0).is_err());
    }
}

#[test]
fn only_the_next_offset_and_no_older_epoch_is_appended() {
    let mut log = open(&MemoryStorage::new());
    fill(&mut log, 2, 5);
    assert!(matches!(log.append(&batch_at(7, 5, 1), 0), Err(AppendError::NotNext { .. })));
    assert!(matches!(log.append(&batch_at(6, 4, 1), 0), Err(AppendError::StaleEpoch { .. })));
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(1, None, None, &[]).unwrap();
    let unplaced = Batch::parse(builder.build()).unwrap();
    assert!(log.append(&unplaced, 0).is_err());
    log.append(&batch_at(6, 6, 1), 0).unwrap();
}

#[test]
fn a_clean_log_opens_without_reading_its_batches() {
    let storage = MemoryStorage::new();
    let mut log = open(&storage);
    fill(&mut log, 30, 1);
    log.assign_epoch(LeaderEpoch::new(9), at(90));
    let (epochs, producers) = (log.epochs().clone(), log.producers().clone());
    let point = log.close_clean().unwrap();
    assert_eq!(point, at(90));
    let input =
        RecoveryInput { recovery_point: Some(point), clean: true, now_ms: 1, ..RecoveryInput::default() };
    let log = open_with(&storage, small(), input);
    assert_eq!(log.recovery_report(), &RecoveryReport::default());
    assert_eq!((log.log_end(), log.recovery_point(), log.epochs()), (at(90), at(90), &epochs));
    assert_eq!(log.producers(), &producers);
    assert_eq!(all(&log).len(), 30);
}

#[test]
fn after_a_kill_only_the_tail_is_read() {
    let storage = MemoryStorage::new();
    let mut log = open(&storage);
    fill(&mut log, 20, 1);
    sync(&mut log);
    let synced = log.log_end();
    let epochs = log.epochs().clone();
    fill(&mut log, 1, 1);
    drop(log);
    let input = RecoveryInput { recovery_point: Some(synced), now_ms: 1, ..RecoveryInput::default() };
    let log = open_with(&storage, small(), input);
    assert_eq!(log.log_end(), at(63));
    assert_eq!(log.recovery_report().scanned_bytes, batch_at(60, 1, 3).bytes().len() as u64);
    assert_eq!(log.epochs(), &epochs);
}

#[test]
fn truncation_takes_whole_batches_and_what_comes_after_them() {
    let storage = MemoryStorage::new();
    let mut log = open(&storage);
    fill(&mut log, 10, 1);
    fill(&mut log, 10, 2);
    log.assign_epoch(LeaderEpoch::new(3), at(60));
    assert_eq!(log.truncate_to(at(60), LeaderEpoch::new(9), 1).unwrap(), at(60));
    assert_eq!(log.epochs().latest(), Some(LeaderEpoch::new(2)), "an epoch without records goes too");
    assert_eq!(log.truncate_to(at(31), LeaderEpoch::new(9), 1).unwrap(), at(30));
    assert_eq!(log.epochs().latest(), Some(LeaderEpoch::new(1)));
    assert_eq!(log.log_end(), at(30));
    let reader = log.reader();
    assert!(matches!(reader.read(at(31), 1, at(99)), Err(ReadError::OutOfRange { .. })));
    assert!(reader.read_tail(at(30), 1, at(99)).is_none());
    fill(&mut log, 10, 4);
    assert_eq!(all(&log).len(), 20);
    assert_eq!(log.truncate_to(at(0), LeaderEpoch::new(9), 1).unwrap(), at(0));
    fill(&mut log, 1, 4);
    assert_eq!(all(&log).len(), 1);
}

#[test]
fn a_cut_below_what_was_said_to_be_synced_is_believed_after_a_crash() {
    let storage = MemoryStorage::new();
    let mut log = open(&storage);
    fill(&mut log, 20, 1);
    sync(&mut log);
    let claimed = log.recovery_point();
    log.truncate_to(at(30), LeaderEpoch::new(9), 1).unwrap();
    drop(log);
    let input = RecoveryInput { recovery_point: Some(claimed), now_ms: 1, ..RecoveryInput::default() };
    let mut log = open_with(&storage, small(), input);
    assert_eq!((log.log_end(), log.recovery_point()), (at(30), at(30)));
    // Once newer claims have replaced the old one, a missing tail is damage again.
    fill(&mut log, 5, 2);
    sync(&mut log);
    sync(&mut log);
    let claimed = log.recovery_point();
    let last =
        storage.list(Path::new(DIR)).unwrap().into_iter().rfind(|name| name.ends_with(".log")).unwrap();
    drop(log);
    let file = storage.open(&Path::new(DIR).join(last)).unwrap();
    file.set_len(file.len().unwrap() - 1).unwrap();
    let input = RecoveryInput { recovery_point: Some(claimed), now_ms: 1, ..RecoveryInput::default() };
    let opened = Log::open(place(Arc::new(storage)), small(), input);
    assert!(matches!(opened, Err(RecoveryError::Corrupt(_))));
}

#[test]
fn the_start_moves_durably_and_segments_below_go() {
    let storage = MemoryStorage::new();
    let mut log = open(&storage);
    fill(&mut log, 40, 1);
    log.advance_log_start(at(50)).unwrap();
    assert!(matches!(log.reader().read(at(49), 1, at(120)), Err(ReadError::OutOfRange { .. })));
    assert_eq!(log.reader().read(at(50), 1, at(120)).unwrap().first, at(48));
    let before = files(&storage, ".log");
    let deleted = log.retention(0, at(120)).unwrap();
    assert!(!deleted.is_empty() && deleted.iter().all(|d| d.expiry == Expiry::LogStart && d.end <= at(50)));
    assert_eq!(files(&storage, ".log"), before - deleted.len());
    drop(log);
    let log = open(&storage);
    assert_eq!((log.log_start(), log.log_end()), (at(50), at(120)));
    assert_eq!(log.epochs().entries(), [(LeaderEpoch::new(1), at(50))]);
}

#[test]
fn retention_by_size_and_time_stops_at_the_high_watermark() {
    let storage = MemoryStorage::new();
    let day = Duration::from_secs(86400);
    let config = LogConfig { retention_bytes: Some(1000), timestamp_ahead_max: day, ..small() };
    let mut log = open_with(&storage, config.clone(), RecoveryInput::default());
    fill(&mut log, 40, 1);
    assert!(log.retention(0, at(5)).unwrap().is_empty());
    let deleted = log.retention(0, at(120)).unwrap();
    assert!(!deleted.is_empty() && deleted.iter().all(|d| d.expiry == Expiry::Size));
    assert!((1000..1500).contains(&log.size_bytes().unwrap()));
    assert_eq!(log.log_start(), deleted.last().unwrap().end);
    let day_ms = 86_400_000;
    log.configure(LogConfig { retention_bytes: None, retention_ms: Some(day), ..config });
    assert!(log.retention(day_ms, at(120)).unwrap().is_empty());
    let deleted = log.retention(day_ms + 2000, at(115)).unwrap();
    assert!(deleted.iter().all(|d| d.expiry == Expiry::Time && d.end <= at(115)) && !deleted.is_empty());
    log.retention(day_ms + 2000, at(120)).unwrap();
    assert_eq!((log.log_start(), log.log_end()), (at(120), at(120)), "the active segment expires as well");
    fill(&mut log, 1, 1);
    assert_eq!(all(&log).len(), 1);
}

#[test]
fn absurd_timestamps_neither_pin_nor_empty_a_log() {
    let (hour, hour_ms) = (Duration::from_secs(3600), 3_600_000);
    let config = LogConfig { retention_ms: Some(hour), timestamp_ahead_max: hour, ..small() };
    let mut log = open_with(&MemoryStorage::new(), config, RecoveryInput::default());
    for timestamp in [0, i64::MAX / 2] {
        let base = log.log_end();
        for _ in 0..10 {
            let mut builder = BatchBuilder::new(Compression::None);
            builder.append(timestamp, None, Some(&[0; 100]), &[]).unwrap();
            log.append(&positioned(builder, log.log_end().get(), 1), 10 * hour_ms).unwrap();
        }
        let end = log.log_end();
        assert!(log.retention(11 * hour_ms, end).unwrap().is_empty(), "old timestamps do not expire early");
        assert!(log.log_start() <= base);
        log.retention(12 * hour_ms + 1, end).unwrap();
        assert_eq!(log.log_start(), end, "future timestamps are not believed");
    }
}

#[test]
fn a_log_can_be_emptied_and_begin_elsewhere() {
    let storage = MemoryStorage::new();
    let mut log = open(&storage);
    fill(&mut log, 20, 1);
    sync(&mut log);
    let claimed = log.recovery_point();
    log.delete_all_and_start_at(at(500), LeaderEpoch::new(9)).unwrap();
    assert_eq!((log.log_start(), log.log_end()), (at(500), at(500)));
    assert_eq!(log.epochs().latest(), None);
    fill(&mut log, 3, 7);
    drop(log);
    let input = RecoveryInput { recovery_point: Some(claimed), now_ms: 1, ..RecoveryInput::default() };
    let mut log = open_with(&storage, small(), input);
    assert_eq!((log.log_start(), log.log_end()), (at(500), at(509)));
    assert_eq!(log.epochs().entries(), [(LeaderEpoch::new(7), at(500))]);
    log.delete_all_and_start_at(at(20), LeaderEpoch::new(9)).unwrap();
    fill(&mut log, 3, 8);
    drop(log);
    let frame = RecoveredFrame {
        leader_epoch: LeaderEpoch::new(7),
        body: RecoveredBody::Append {
            base_offset: at(506),
            end_offset: at(509),
            bytes: batch_at(506, 7, 3).into_bytes(),
        },
    };
    let input = RecoveryInput {
        recovery_point: Some(claimed),
        now_ms: 1,
        frames: vec![frame],
        ..RecoveryInput::default()
    };
    let log = open_with(&storage, small(), input);
    assert_eq!((log.log_start(), log.log_end()), (at(20), at(29)));
}

#[test]
fn epochs_of_before_a_log_was_emptied_are_not_believed_after_a_crash() {
    let storage = MemoryStorage::new();
    let mut log = open(&storage);
    fill(&mut log, 20, 60);
    sync(&mut log);
    log.delete_all_and_start_at(at(500), LeaderEpoch::new(70)).unwrap();
    sync(&mut log);
    let claimed = log.recovery_point();
    fill(&mut log, 3, 49);
    drop(log);
    let input = RecoveryInput { recovery_point: Some(claimed), now_ms: 1, ..RecoveryInput::default() };
    let log = open_with(&storage, small(), input);
    assert_eq!((log.log_start(), log.log_end()), (at(500), at(509)));
    assert_eq!(log.epochs().entries(), [(LeaderEpoch::new(49), at(500))]);
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let storage = MemoryStorage::new();
    let mut log = open(&storage);
    fill(&mut log, 7, 1);
    for spare in [0, 1, 50, 110, 120] {
        storage.set_capacity(Some(storage.used() + spare));
        let base = log.log_end().get();
        while log.append(&batch_at(log.log_end().get(), 1, 3), 0).is_ok() {}
        let refused = log.append(&batch_at(log.log_end().get(), 1, 3), 0);
        assert!(matches!(refused, Err(AppendError::DiskFull)), "{base}: {:?}", refused.err());
        assert_eq!(all(&log).len() as u64 * 3, log.log_end().get());
        let killed = storage.survivor(&mut StdRng::seed_from_u64(0), CrashMode::Kill);
        assert_eq!(open(&killed).log_end(), log.log_end(), "what was refused does not appear");
        storage.set_capacity(None);
        fill(&mut log, 5, 1);
    }
    let expected = all(&log);
    drop(log);
    assert_eq!(all(&open(&storage)), expected);
}

#[test]
fn a_process_without_descriptors_refuses_and_recovers() {
    let storage = MemoryStorage::new();
    let mut log = open(&storage);
    // The first append creates the files, later ones open them again; a full segment is followed by new ones.
    for appends in [0, 1, 7, 30] {
        fill(&mut log, appends, 1);
        let end = log.log_end();
        let others = storage.create(Path::new("/others")).unwrap();
        storage.set_descriptors(Some(1));
        let close_all = log.home.files.create(Path::new("/logs/one-more"));
        assert!(close_all.is_err(), "no file is open any more");
        for _ in 0..2 {
            let refused = log.append(&batch_at(end.get(), 1, 3), 0);
            assert!(matches!(refused, Err(AppendError::NoDescriptors)), "{:?}", refused.err());
        }
        drop(others);
        storage.set_descriptors(None);
        assert_eq!((log.log_end(), all(&log).len() as u64 * 3), (end, end.get()));
    }
    fill(&mut log, 1, 1);
    let expected = all(&log);
    drop(log);
    assert_eq!(all(&open(&storage)), expected);
}

#[test]
fn a_log_needs_one_open_file() {
    let storage = MemoryStorage::new();
    let mut log =
        Log::open(place_with(Arc::new(storage.clone()), 1), small(), RecoveryInput::default()).unwrap();
    storage.set_descriptors(Some(2));
    fill(&mut log, 40, 1);
    let expected = all(&log);
    assert_eq!(expected.len(), 40);
    let killed = storage.survivor(&mut StdRng::seed_from_u64(0), CrashMode::Kill);
    assert_eq!(all(&open(&killed)), expected);
    log.truncate_to(at(30), LeaderEpoch::new(2), 0).unwrap();
    log.close_clean().unwrap();
    assert_eq!(all(&open(&storage)), expected[..10]);
}

#[test]
fn a_failed_write_is_the_last() {
    let storage = MemoryStorage::new();
    let mut log = open(&storage);
    fill(&mut log, 2, 1);
    let error = ErrorKind::Other;
    storage.inject(Fault { at: FaultPoint::Write, path: ".check".into(), after: 0, times: 1, error });
    assert!(matches!(log.append(&batch_at(6, 1, 3), 0), Err(AppendError::Failed(LogError::Io(_)))));
    assert!(matches!(log.append(&batch_at(6, 1, 3), 0), Err(AppendError::Failed(LogError::FailedBefore))));
    assert!(matches!(log.truncate_to(at(0), LeaderEpoch::new(9), 0), Err(LogError::FailedBefore)));
    assert_eq!(all(&log).len(), 2, "what was there can still be read");
}

#[test]
fn segments_roll_by_time_and_by_offset_range() {
    let storage = MemoryStorage::new();
    let config = LogConfig { segment_ms: Duration::from_millis(100), segment_bytes: 1 << 20, ..small() };
    let mut log = open_with(&storage, config, RecoveryInput::default());
    for (base, now, rolled) in [
        (0, 1000, false),
        (1, 1099, false),
        (2, 1100, true),
        (3, 900, false),
        (4, 1199, false),
        (5, 1200, true),
    ] {
        assert_eq!(log.append(&batch_at(base, 1, 1), now).unwrap().rolled, rolled, "at {now}");
    }
}

#[test]
fn offsets_are_found_by_timestamp_to_the_record() {
    let storage = MemoryStorage::new();
    let mut log = open(&storage);
    let mut expected = Vec::new();
    for n in 0..60u64 {
        let mut builder = BatchBuilder::new(if n % 2 == 0 { Compression::Lz4 } else { Compression::None });
        for k in 0..4u64 {
            let timestamp = (n * 37 % 50 * 100 + k * 7) as i64;
            builder.append(timestamp, None, Some(&[7; 20]), &[]).unwrap();
            expected.push(timestamp);
        }
        log.append(&positioned(builder, n * 4, 3), 0).unwrap();
    }
    log.advance_log_start(at(33)).unwrap();
    let check = |log: &Log| {
        let reader = log.reader();
        for timestamp in (-10..5100).step_by(3) {
            for limit in [100, 240] {
                let naive = (33..limit).find(|offset| expected[*offset as usize] >= timestamp).map(at);
                let found = reader.offset_for_timestamp(timestamp, at(limit)).unwrap();
                assert_eq!(found.map(|hit| hit.offset), naive, "{timestamp} below {limit}");
                if let Some(hit) = found {
                    assert_eq!(hit.timestamp_ms, expected[hit.offset.get() as usize]);
                    assert_eq!(hit.leader_epoch, Some(LeaderEpoch::new(3)));
                }
            }
        }
    };
    check(&log);
    let point = log.close_clean().unwrap();
    let input =
        RecoveryInput { recovery_point: Some(point), clean: true, now_ms: 1, ..RecoveryInput::default() };
    check(&open_with(&storage, small(), input));
}

#[test]
fn producers_survive_truncation_restarts_and_a_moved_start() {
    let storage = MemoryStorage::new();
    let mut log = open(&storage);
    let produce = |base: u64, sequence: u32| {
        let stamp = ProducerStamp {
            id: ProducerId::new(5),
            epoch: ProducerEpoch::new(1),
            base_sequence: Sequence::new(sequence),
        };
        let mut builder = BatchBuilder::new(Compression::None).producer(stamp);
        builder.append(1, None, Some(&[1; 40]), &[]).unwrap();
        positioned(builder, base, 1)
    };
    for n in 0..30 {
        log.append(&produce(n, n as u32), 7).unwrap();
    }
    log.truncate_to(at(20), LeaderEpoch::new(9), 7).unwrap();
    let duplicate = ProducerCheck::Duplicate { base_offset: at(17), last_offset: at(17), timestamp_ms: 1 };
    assert_eq!(log.producers().check(produce(0, 17).header()), duplicate);
    assert_eq!(log.producers().check(produce(0, 20).header()), ProducerCheck::Append);
    log.advance_log_start(at(20)).unwrap();
    log.retention(0, at(20)).unwrap();
    assert_eq!(log.producers().check(produce(0, 17).header()), duplicate);
    let point = log.close_clean().unwrap();
    let input =
        RecoveryInput { recovery_point: Some(point), clean: true, now_ms: 1, ..RecoveryInput::default() };
    let mut log = open_with(&storage, small(), input);
    assert_eq!(log.producers().check(produce(0, 17).header()), duplicate);
    log.expire_producers(7 + 86_400_000);
    assert!(log.producers().is_empty());
}

#[test]
fn released_files_are_opened_again_when_needed() {
    let storage = MemoryStorage::new();
    let mut log = open(&storage);
    fill(&mut log, 20, 1);
    log.release();
    assert_eq!(all(&log).len(), 20);
    log.release();
    fill(&mut log, 20, 1);
    assert_eq!(all(&log).len(), 40);
}

#[test]
fn idle_logs_take_no_part_of_the_tail_budget() {
    let storage = MemoryStorage::new();
    let place = place(Arc::new(storage));
    let budget = place.tail_budget.clone();
    let mut log = Log::open(place, small(), RecoveryInput::default()).unwrap();
    let before = budget.left();
    fill(&mut log, 5, 1);
    assert!(budget.left() < before);
    log.trim_tail();
    assert_eq!(budget.left(), before);
}
