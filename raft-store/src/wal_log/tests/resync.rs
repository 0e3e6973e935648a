//! Processes that die of writes and syncs that fail, also while they start, and come back to the same page cache.

use rand::RngExt;

use super::*;

/// Opens it, as often as it takes.
fn open_at_last(storage: &MemoryStorage) -> WalLog {
    loop {
        match try_open(storage) {
            Ok(log) => return log,
            Err(OpenError::Io { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

/// Works until something fails; gives what is acknowledged, and what was tried besides.
fn live(log: &mut WalLog, mut twin: MemoryLog, rng: &mut StdRng) -> [MemoryLog; 2] {
    loop {
        let mut tried = twin.clone();
        let next = twin.bounds().last.map_or(0, |last| last.index + 1);
        let done = match rng.random_range(0..8) {
            0 => {
                let vote = vote(rng.random_range(1..9));
                tried.save_vote(vote).unwrap();
                log.save_vote(vote)
            }
            1 if next > 30 => {
                tried.purge_up_to(position(1, next - 20)).unwrap();
                log.purge_up_to(position(1, next - 20))
            }
            2 if next > 3 && twin.bounds().purged.is_none_or(|purged| purged.index + 3 < next) => {
                tried.truncate_from(next - 2).unwrap();
                log.truncate_from(next - 2)
            }
            _ => {
                let length = [10, 600, 3000][rng.random_range(0..3)];
                let entry = [stored(1, next, length)];
                tried.append(&entry).unwrap();
                log.append(&entry)
            }
        };
        match done {
            Ok(()) => twin = tried,
            Err(_) => return [twin, tried],
        }
    }
}

#[test]
fn what_it_says_after_any_failures_and_restarts_outlives_a_power_cut() {
    for seed in 0..trials("VLTAVA_RAFT_RESYNC_TRIALS", 200) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut storage = memory();
        let mut log = open_in(&storage);
        let mut twin = MemoryLog::default();
        for life in 0..8 {
            for at in [FaultPoint::Write, FaultPoint::SyncData] {
                let (after, times) = (rng.random_range(0..16), rng.random_range(0..4));
                let error = std::io::ErrorKind::Other;
                storage.inject(Fault { at, path: "wal/".into(), after, times, error });
            }
            let after = rng.random_range(0..30);
            let last = Fault {
                at: FaultPoint::SyncData,
                path: "wal/".into(),
                after,
                times: 1,
                error: std::io::ErrorKind::Other,
            };
            storage.inject(last);
            let legal = live(&mut log, twin, &mut rng);
            drop(log);
            if rng.random_bool(0.2) {
                // Only a start that failed, too, and then the power.
                let _ = try_open(&storage);
                let mode = CrashMode::ALL[rng.random_range(1..4)];
                storage = storage.survivor(&mut rng, mode);
            }
            log = open_at_last(&storage);
            let found = account(&log);
            let Some(known) = legal.into_iter().find(|legal| account(legal) == found) else {
                panic!("seed {seed}, life {life}: {:?}", found.0)
            };
            twin = known;
            let survivor = storage.survivor(&mut StdRng::seed_from_u64(seed), CrashMode::LoseUnsynced);
            assert_eq!(account(&open_in(&survivor)), found, "seed {seed}, life {life}");
            if rng.random_bool(0.3) {
                drop(log);
                storage = survivor;
                log = open_in(&storage);
            }
        }
    }
}
