//! Readers at work while the one writer appends, cuts, rolls and deletes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use vltava_model::batch::Batch;
use vltava_model::{LeaderEpoch, Offset};

use crate::log::testing::{batch_at, place_with};
use crate::log::*;
use vltava_storage::{MemoryStorage, RealStorage, Storage};

/// What readers may see, as a leader would publish it.
#[derive(Default)]
struct Shared {
    high_watermark: AtomicU64,
    log_start: AtomicU64,
    stop: AtomicBool,
}

/// Every record says its own offset, and below the watermark none is ever replaced.
fn check(batches: &[Batch], first: Offset, end: Offset) {
    let mut next = first;
    for batch in batches {
        assert_eq!(batch.header().base_offset, next);
        for record in batch.records().unwrap() {
            let record = record.unwrap();
            assert_eq!(record.value.as_deref(), Some(record.offset.to_string().as_bytes()));
        }
        next = batch.header().end_offset();
    }
    assert_eq!(next, end);
}

fn read_for_a_while(reader: &LogReader, shared: &Shared, seed: u64) -> u64 {
    let (mut reads, mut random) = (0u64, seed);
    while !shared.stop.load(Ordering::Relaxed) {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let start = shared.log_start.load(Ordering::Acquire);
        let limit = shared.high_watermark.load(Ordering::Acquire);
        let from = Offset::new(start + (random >> 33) % (limit - start + 1));
        let end = Offset::new(limit);
        let found = match random % 5 {
            0 => reader.read_tail(from, 300, end).map(Ok),
            1 => match reader.file_range(from, 300, end) {
                Ok(Some(range)) => {
                    let mut bytes = vec![0; range.bytes as usize];
                    range.file.read_exact_at(range.position, &mut bytes).unwrap();
                    Some(Ok(ReadBatches { bytes: bytes.into(), first: range.first, end: range.end }))
                }
                Ok(None) => None,
                Err(error) => Some(Err(error)),
            },
            2 => {
                let hit = reader.offset_for_timestamp(1000 + from.get() as i64, end).unwrap();
                // Retention may have passed it meanwhile.
                assert!(hit.is_none_or(|hit| hit.offset >= from && hit.offset < end));
                None
            }
            _ => Some(reader.read(from, 300, end)),
        };
        match found {
            None => {}
            Some(Ok(read)) => {
                assert!(read.end <= end && read.first <= from);
                check(&Batch::split(read.bytes, usize::MAX).unwrap(), read.first, read.end);
                reads += 1;
            }
            Some(Err(ReadError::OutOfRange { start, .. })) => {
                assert!(start > from, "{from} is not below {start}")
            }
            Some(Err(error)) => panic!("{error}"),
        }
    }
    reads
}

fn write_for_a_while(log: &mut Log, shared: &Shared, until: Instant) {
    let (mut epoch, mut round) = (1, 0u32);
    while Instant::now() < until {
        round += 1;
        for _ in 0..1 + round % 7 {
            let base = log.log_end().get();
            log.append(&batch_at(base, epoch, 1 + (base % 4) as u32), 5).unwrap();
        }
        let watermark = shared.high_watermark.load(Ordering::Relaxed);
        match round % 23 {
            3 | 11 => {
                // What lies above the watermark is replaced by the next leader's.
                epoch += 1;
                log.truncate_to(Offset::new(watermark + 2), LeaderEpoch::new(epoch), 5).unwrap();
            }
            7 => log.release(),
            19 => {
                log.retention(5, Offset::new(watermark)).unwrap();
                shared.log_start.store(log.log_start().get(), Ordering::Release);
            }
            _ => shared.high_watermark.store(log.log_end().get(), Ordering::Release),
        }
    }
    shared.stop.store(true, Ordering::Relaxed);
}

fn stress(storage: Arc<dyn Storage>, dir: &std::path::Path) {
    let config = LogConfig {
        segment_bytes: 2000,
        index_interval_bytes: 200,
        retention_ms: None,
        retention_bytes: Some(20_000),
        tail_bytes_max: 1000,
        ..LogConfig::default()
    };
    let place = LogPlace { dir: dir.into(), ..place_with(storage, 3) };
    let mut log = Log::open(place, config, RecoveryInput::default()).unwrap();
    let (shared, until) = (Shared::default(), Instant::now() + Duration::from_millis(1500));
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|seed| {
                let (reader, shared) = (log.reader(), &shared);
                scope.spawn(move || read_for_a_while(&reader, shared, seed))
            })
            .collect();
        write_for_a_while(&mut log, &shared, until);
        for reader in readers {
            assert!(reader.join().unwrap() > 100);
        }
    });
}

#[test]
fn readers_in_memory_see_only_what_was_written() {
    stress(Arc::new(MemoryStorage::new()), "/logs/topic-0".as_ref());
}

#[test]
fn readers_of_a_real_disk_see_only_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    stress(Arc::new(RealStorage), &dir.path().join("topic-0"));
}
