//! Crashes at every point, in every way: what was promised is there, in order, and nothing else but what was begun.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::twin::Twin;
use super::*;
use vltava_storage::CrashMode;

const PARTITIONS: u32 = 4;

fn fresh() -> MemoryStorage {
    let storage = MemoryStorage::new();
    storage.create_dir_all(Path::new("/log")).unwrap();
    storage.sync_dir(Path::new("/")).unwrap();
    storage
}

/// Reads the journal and applies it; says what the logs then hold.
fn recover(storage: &MemoryStorage) -> (RecoveredJournal, Vec<Twin>) {
    let mut recovered = Journal::recover(storage, &dir()).unwrap();
    let twins =
        (0..PARTITIONS).map(|index| Twin::open(storage, index, &recovered.take(partition(index)))).collect();
    (recovered, twins)
}

/// What a process did, from its start to its end.
struct Life {
    /// What it found.
    before: Vec<Vec<u32>>,
    /// How many operations it took to make that durable.
    recovered: usize,
    twins: Vec<Twin>,
}

/// Random appends, small and large, and truncations, with more or less of them under way at once.
fn live(storage: &MemoryStorage, rng: &mut StdRng, steps: usize) -> Life {
    storage.record();
    let (found, mut twins) = recover(storage);
    let before = twins.iter().map(|twin| twin.cells.clone()).collect();
    let journal = Journal::start(Arc::new(storage.clone()), found, tiny(), Arc::new(())).unwrap();
    twins.iter().for_each(Twin::sync);
    let recovered = storage.operations();
    let replay_done_at = rng.random_range(0..steps / 4);
    for step in 0..steps {
        if step == replay_done_at {
            journal.replay_done();
        }
        let twin = &mut twins[rng.random_range(0..PARTITIONS) as usize];
        match rng.random_range(0..20) {
            0 if !twin.cells.is_empty() => {
                flush(&journal);
                twin.truncate(rng.random_range(0..twin.cells.len() as u64), &journal);
            }
            1..6 => flush(&journal),
            kind => {
                let count = if kind == 6 { rng.random_range(180..400) } else { rng.random_range(1..80) };
                let (mut entries, done) = twin.append(count);
                if rng.random_bool(0.2) {
                    // Changes that come with others' in one submission.
                    entries.push(entry(90, EntryBody::StartOffset { to: Offset::new(step as u64) }));
                }
                journal.submit(entries, done).unwrap();
            }
        }
    }
    if rng.random_bool(0.2) {
        journal.close().unwrap()
    } else {
        drop(journal)
    }
    Life { before, recovered, twins }
}

impl Life {
    /// Says what is wrong with `found` after this life ended at `operations`.
    fn check(&self, operations: usize, found: &[Twin]) -> Result<(), String> {
        let mut logs = self.twins.iter().zip(&self.before).zip(found);
        logs.try_for_each(|((twin, before), found)| twin.check(before, operations, &found.cells))
    }
}

/// Waits for all that is under way.
fn flush(journal: &Journal) {
    commit(journal, vec![]).unwrap();
}

#[test]
fn nothing_promised_is_lost_wherever_it_crashes() {
    let storage = fresh();
    let life = live(&storage, &mut StdRng::seed_from_u64(1), 90);
    for operations in 0..=storage.operations() {
        for mode in CrashMode::ALL {
            let survivor =
                storage.at(operations).survivor(&mut StdRng::seed_from_u64(operations as u64), mode);
            if let Err(wrong) = life.check(operations, &recover(&survivor).1) {
                panic!("after {operations} operations, {mode:?}: {wrong}");
            }
        }
    }
}

/// One life after the other on the same disk, each ended by a crash, some while it still recovered from the last.
#[test]
fn nothing_promised_is_lost_in_a_storm_of_crashes() {
    for seed in 0..6 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut storage = fresh();
        // The last life that got beyond its recovery, and where it ended: what it did not promise is settled only when
        // a later one has recovered.
        let mut last: Option<(Life, usize)> = None;
        for number in 0..12 {
            let life = live(&storage, &mut rng, 60);
            let mut end = (0, storage.clone());
            for _ in 0..6 {
                let operations = crash_point(&mut rng, life.recovered, storage.operations());
                let (mode, crash) = (CrashMode::ALL[rng.random_range(0..4)], rng.random());
                let survive = || storage.at(operations).survivor(&mut StdRng::seed_from_u64(crash), mode);
                let found = recover(&survive()).1;
                let verdict = match &last {
                    Some((last, end)) if operations < life.recovered => last.check(*end, &found),
                    _ => life.check(operations, &found),
                };
                if let Err(wrong) = verdict {
                    panic!("seed {seed}, life {number}, after {operations} operations, {mode:?}: {wrong}");
                }
                end = (operations, survive());
            }
            if end.0 >= life.recovered {
                last = Some((life, end.0));
            }
            storage = end.1;
        }
    }
}

/// Any point of a life, its recovery often enough.
fn crash_point(rng: &mut StdRng, recovered: usize, total: usize) -> usize {
    if rng.random_bool(0.3) { rng.random_range(0..=recovered) } else { rng.random_range(0..=total) }
}
