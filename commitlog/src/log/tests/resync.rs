//! Processes that die of a sync that failed, and come back to the same page cache: what they then say is durable is.

use std::io::ErrorKind;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use vltava_model::batch::Batch;
use vltava_model::{LeaderEpoch, Offset};

use crate::log::testing::{batch_at, place};
use crate::log::*;
use vltava_storage::{CrashMode, Fault, FaultPoint, MemoryStorage, Storage};

fn open(storage: &MemoryStorage, recovery_point: Option<Offset>) -> Log {
    let config = LogConfig {
        segment_bytes: 700,
        index_interval_bytes: 100,
        retention_ms: None,
        ..LogConfig::default()
    };
    let input = RecoveryInput { recovery_point, now_ms: 5, ..RecoveryInput::default() };
    Log::open(place(Arc::new(storage.clone())), config, input).unwrap()
}

fn sync(log: &mut Log) -> Result<(), LogError> {
    let point = log.sync_point()?;
    point.files.iter().try_for_each(|file| file.sync_data())?;
    log.synced(&point)
}

fn contents(log: &Log) -> Vec<Batch> {
    let (reader, end) = (log.reader(), log.log_end());
    let (mut batches, mut next) = (Vec::new(), log.log_start());
    while next < end {
        let read = reader.read(next, 1 << 20, end).unwrap();
        next = read.end;
        batches.extend(Batch::split(read.bytes, usize::MAX).unwrap());
    }
    batches
}

fn lose_unsynced(storage: &MemoryStorage) -> MemoryStorage {
    storage.survivor(&mut StdRng::seed_from_u64(0), CrashMode::LoseUnsynced)
}

/// A log that is synced now and then, and cut, over the restarts of its process. No journal has any of it.
struct Lives {
    storage: MemoryStorage,
    rng: StdRng,
    /// As the owner keeps it: saved after a sync.
    saved: Offset,
    batches: Vec<Batch>,
    epoch: u32,
}

impl Lives {
    /// Works until a sync fails; says what the log may hold then.
    fn live(&mut self, log: &mut Log) -> Vec<Vec<Batch>> {
        loop {
            let before = self.batches.clone();
            match self.rng.random_range(0..10) {
                0 if !self.batches.is_empty() => {
                    let left = self.rng.random_range(self.batches.len() * 2 / 3..self.batches.len());
                    let to = self.batches[left].header().base_offset;
                    self.batches.truncate(left);
                    self.epoch += 1;
                    if log.truncate_to(to, LeaderEpoch::new(self.epoch), 5).is_err() {
                        return vec![before, self.batches.clone()];
                    }
                }
                1..4 => {
                    if sync(log).is_err() {
                        return vec![before];
                    }
                    self.saved = log.recovery_point();
                }
                _ => {
                    let batch = batch_at(log.log_end().get(), self.epoch, self.rng.random_range(1..6));
                    log.append(&batch, 5).unwrap();
                    self.batches.push(batch);
                }
            }
        }
    }

    fn fail_a_sync(&mut self) {
        let path = ["", ".check", ".log", "/logs"][self.rng.random_range(0..4)].into();
        let after = self.rng.random_range(0..12);
        let error = ErrorKind::Other;
        self.storage.inject(Fault { at: FaultPoint::SyncData, path, after, times: 1, error });
    }
}

#[test]
fn what_is_durable_after_a_failed_sync_and_a_restart_outlives_a_power_cut() {
    for seed in 0..150 {
        let storage = MemoryStorage::new();
        storage.create_dir_all("/logs".as_ref()).unwrap();
        storage.sync_dir("/".as_ref()).unwrap();
        let rng = StdRng::seed_from_u64(seed);
        let mut lives = Lives { storage, rng, saved: Offset::ZERO, batches: Vec::new(), epoch: 1 };
        let mut log = open(&lives.storage, Some(Offset::ZERO));
        for life in 0..8 {
            lives.fail_a_sync();
            let legal = lives.live(&mut log);
            drop(log);
            lives.storage.heal();
            // The same page cache. Where nobody knows how far it was synced, nothing is taken for proven; and a cut that was
            // not finished then passes for damage.
            let is_known = legal.len() > 1 || lives.rng.random_bool(0.8);
            let point = is_known.then_some(lives.saved);
            log = open(&lives.storage, point);
            sync(&mut log).unwrap();
            lives.saved = log.recovery_point();
            lives.batches = contents(&log);
            assert!(legal.contains(&lives.batches), "seed {seed}, life {life}: {legal:?}");
            assert_eq!(lives.saved, log.log_end());
            if lives.rng.random_bool(0.5) {
                // Goes on for a while first.
                let batch = batch_at(log.log_end().get(), lives.epoch, 2);
                log.append(&batch, 5).unwrap();
                lives.batches.push(batch);
                sync(&mut log).unwrap();
                lives.saved = log.recovery_point();
            }
            let survivor = lose_unsynced(&lives.storage);
            let again = open(&survivor, Some(lives.saved));
            assert_eq!(contents(&again), lives.batches, "seed {seed}, life {life}");
            if lives.rng.random_bool(0.3) {
                (lives.storage, log) = (survivor, again);
            }
        }
    }
}

#[test]
fn a_log_that_is_known_to_be_synced_is_opened_without_a_write() {
    let storage = MemoryStorage::new();
    let mut log = open(&storage, Some(Offset::ZERO));
    for n in 0..20 {
        log.append(&batch_at(n * 2, 1, 2), 5).unwrap();
    }
    sync(&mut log).unwrap();
    let point = log.recovery_point();
    drop(log);
    storage.record();
    drop(open(&storage, Some(point)));
    assert_eq!(storage.operations(), 0);
}

/// The journal tells of nothing that it synced before a cut.
#[test]
fn what_a_cut_leaves_is_durable_and_known_to_be() {
    for to in 1..9 {
        let storage = MemoryStorage::new();
        storage.create_dir_all("/logs".as_ref()).unwrap();
        storage.sync_dir("/".as_ref()).unwrap();
        let mut log = open(&storage, Some(Offset::ZERO));
        (0..9).for_each(|base| drop(log.append(&batch_at(base, 1, 1), 5).unwrap()));
        log.truncate_to(Offset::new(to), LeaderEpoch::new(2), 5).unwrap();
        assert_eq!((log.recovery_point(), log.log_end()), (Offset::new(to), Offset::new(to)));
        let again = open(&lose_unsynced(&storage), Some(log.recovery_point()));
        assert_eq!(contents(&again), contents(&log));
        assert_eq!(again.epochs(), log.epochs());
    }
}

#[test]
fn a_start_that_only_the_page_cache_knows_is_durable_before_anybody_is_told() {
    let storage = MemoryStorage::new();
    storage.create_dir_all("/logs".as_ref()).unwrap();
    storage.sync_dir("/".as_ref()).unwrap();
    let mut log = open(&storage, Some(Offset::ZERO));
    (0..9).for_each(|base| drop(log.append(&batch_at(base, 1, 1), 5).unwrap()));
    sync(&mut log).unwrap();
    let point = Some(log.recovery_point());
    storage.record();
    log.advance_log_start(Offset::new(3)).unwrap();
    let mut starts = Vec::new();
    for operations in 0..=storage.operations() {
        let killed = storage.at(operations);
        let start = open(&killed, point).log_start();
        assert_eq!(open(&lose_unsynced(&killed), point).log_start(), start, "killed after {operations}");
        starts.push(start.get());
    }
    assert_eq!((starts[0], starts[starts.len() - 1]), (0, 3));
}

/// A log that is idle behind two cuts: the claim that came after both is believed, and damage is no torn end.
#[test]
fn damage_to_what_cuts_left_is_noticed() {
    let storage = MemoryStorage::new();
    let mut log = open(&storage, Some(Offset::ZERO));
    (0..9).for_each(|base| drop(log.append(&batch_at(base, 1, 1), 5).unwrap()));
    log.truncate_to(Offset::new(1), LeaderEpoch::new(2), 5).unwrap();
    (1..9).for_each(|base| drop(log.append(&batch_at(base, 2, 1), 5).unwrap()));
    log.truncate_to(Offset::new(6), LeaderEpoch::new(3), 5).unwrap();
    let point = log.recovery_point();
    log.recovery_point_saved(point).unwrap();
    drop(log);
    assert_eq!(open(&storage, Some(point)).log_end(), Offset::new(6));
    let dir = place(Arc::new(storage.clone())).dir;
    let newest = storage.list(&dir).unwrap().into_iter().rfind(|name| name.ends_with(".log")).unwrap();
    storage.flip_bit(&dir.join(newest), 70, 0);
    let input = RecoveryInput { recovery_point: Some(point), now_ms: 5, ..RecoveryInput::default() };
    let opened = Log::open(place(Arc::new(storage)), LogConfig::default(), input);
    assert!(matches!(opened, Err(RecoveryError::Corrupt(_))));
}
