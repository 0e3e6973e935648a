//! The write-ahead log on a disk in memory: every write, sync and name of a run, and what a crash there leaves; and damage.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;
use vltava_raft_store::{MetaLog, OpenError, WalLog, WalOptions};
use vltava_storage::{CrashMode, MemoryStorage, Storage};

use super::script::{Account, Sizes, entry, step};
use crate::count::{Counts, Outcome};
use crate::dice::Dice;
use crate::harm;

const DIR: &str = "/raft";
/// Some groups fit into a slot, some do not, and a few need a file of their own.
const SIZES: Sizes = Sizes { usual: 400, large: 3_000 };

fn empty() -> MemoryStorage {
    let storage = MemoryStorage::new();
    storage.create_dir_all(Path::new(DIR)).expect("memory takes every name");
    storage.sync_dir(Path::new("/")).expect("memory takes every sync");
    storage
}

fn open(storage: &MemoryStorage, options: WalOptions) -> Result<WalLog, OpenError> {
    WalLog::open(Arc::new(storage.clone()), Path::new(DIR), options)
}

/// A layout of which runs of a few dozen calls see every corner.
fn options(dice: &mut Dice) -> WalOptions {
    WalOptions {
        file_bytes: 12_288 + 4096 * dice.roll(4),
        slot_bytes: [512, 1024, 4096][dice.roll(3) as usize],
        log_id: dice.roll(u64::MAX),
    }
}

/// A run of one process: what it had acknowledged after how many operations of the disk.
struct Life {
    storage: MemoryStorage,
    options: WalOptions,
    /// After so many operations this is acknowledged; the first one is what the process began with.
    acknowledged: Vec<(usize, Account)>,
}

fn live(seed: u64, calls: usize) -> Life {
    let mut dice = Dice(seed);
    let options = options(&mut dice);
    live_on(empty(), options, &mut dice, calls).expect("an empty disk takes a log")
}

/// A run on a disk that may hold a log; an error is a refusal to start.
fn live_on(
    storage: MemoryStorage,
    options: WalOptions,
    dice: &mut Dice,
    calls: usize,
) -> Result<Life, String> {
    storage.record();
    let mut log = open(&storage, options).map_err(|e| e.to_string())?;
    let mut acknowledged = vec![(0, account(&log)), (storage.operations(), account(&log))];
    for _ in 0..calls {
        step(&mut log, dice, SIZES).expect("a disk without faults takes every call");
        acknowledged.push((storage.operations(), account(&log)));
    }
    Ok(Life { storage, options, acknowledged })
}

fn account(log: &WalLog) -> Account {
    Account::of(log).expect("a disk without faults reads")
}

impl Life {
    /// What `found` is after a crash behind so many operations.
    fn judge(&self, operations: usize, found: Result<Account, String>) -> Outcome {
        let found = match found {
            Ok(found) => found,
            Err(why) => return Outcome::Refused(why),
        };
        let at = self.acknowledged.iter().rposition(|(done, _)| *done <= operations).unwrap_or(0);
        if found == self.acknowledged[at].1 {
            return Outcome::Exact;
        }
        match self.acknowledged.get(at + 1) {
            Some((_, next)) if found == *next => Outcome::Ahead,
            _ => Outcome::Lost(format!("{} instead of {}", found.brief(), self.acknowledged[at].1.brief())),
        }
    }
}

/// Goes on with a log after a crash, and crashes once more: what is acknowledged then must be there as well.
fn go_on(survivor: &MemoryStorage, options: WalOptions, rng: &mut StdRng) -> Result<Account, String> {
    let mut log = open(survivor, options).map_err(|e| e.to_string())?;
    let found = Account::of(&log).map_err(|e| format!("it does not read: {e}"))?;
    let next = log.bounds().last.map_or(0, |last| last.index + 1);
    log.append(&[entry(1 << 40, next, 100)]).map_err(|e| format!("it does not go on: {e}"))?;
    let expected = account(&log);
    let again = survivor.survivor(rng, CrashMode::Tear);
    drop(log);
    let log = open(&again, options).map_err(|e| format!("after a second crash: {e}"))?;
    if Account::of(&log).is_ok_and(|found| found == expected) {
        Ok(found)
    } else {
        Err("LOST: after a second crash".into())
    }
}

/// Says it is lost where a second crash lost it.
fn strict(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Refused(why) if why.starts_with("LOST") => Outcome::Lost(why),
        other => other,
    }
}

/// Crashes behind every operation of runs, in every mode, until there were `states` of them.
pub fn crashes(seed: u64, states: u64) -> Counts {
    let mut counts = Counts::default();
    for run in 0.. {
        let life = live(seed.wrapping_mul(1_000_003).wrapping_add(run), 40);
        for operations in 0..=life.storage.operations() {
            let past = life.storage.at(operations);
            for (mode, times) in [
                (CrashMode::Kill, 1),
                (CrashMode::LoseUnsynced, 1),
                (CrashMode::Reorder, 2),
                (CrashMode::Tear, 4),
            ] {
                for time in 0..times {
                    if counts.tried >= states {
                        return counts;
                    }
                    let mut rng = StdRng::seed_from_u64(seed ^ (operations as u64) << 8 ^ time);
                    let survivor = past.survivor(&mut rng, mode);
                    let found = go_on(&survivor, life.options, &mut rng);
                    let outcome = strict(life.judge(operations, found));
                    counts
                        .add(outcome, true, || format!("run {run}, operation {operations}, {mode:?} {time}"));
                }
            }
        }
    }
    counts
}

/// Crashes, and crashes again while the log starts.
pub fn crashes_at_start(seed: u64, states: u64) -> Counts {
    let mut counts = Counts::default();
    let mut dice = Dice(seed);
    for run in 0.. {
        let life = live(seed.wrapping_mul(1_000_003).wrapping_add(run), 40);
        for _ in 0..40 {
            let operations = dice.roll(life.storage.operations() as u64 + 1) as usize;
            let mut rng = StdRng::seed_from_u64(dice.roll(u64::MAX));
            let survivor = life.storage.at(operations).survivor(&mut rng, CrashMode::Tear);
            survivor.record();
            drop(open(&survivor, life.options));
            for start in 0..=survivor.operations() {
                for mode in [CrashMode::LoseUnsynced, CrashMode::Reorder, CrashMode::Tear] {
                    if counts.tried >= states {
                        return counts;
                    }
                    let again = survivor.at(start).survivor(&mut rng, mode);
                    let outcome = strict(life.judge(operations, go_on(&again, life.options, &mut rng)));
                    counts.add(outcome, true, || {
                        format!("run {run}, operations {operations} and {start}, {mode:?}")
                    });
                }
            }
        }
    }
    counts
}

/// One process after the other on one disk, each ended by a crash in the midst of its calls.
pub fn storm(seed: u64, states: u64) -> Counts {
    let mut counts = Counts::default();
    for run in 0.. {
        let mut dice = Dice(seed.wrapping_mul(1_000_003).wrapping_add(run));
        let options = options(&mut dice);
        let mut storage = empty();
        for number in 0..25 {
            if counts.tried >= states {
                return counts;
            }
            let life = match live_on(storage, options, &mut dice, 1 + number % 8) {
                Ok(life) => life,
                Err(why) => {
                    counts.add(Outcome::Refused(why), true, || format!("run {run}, life {number}"));
                    break;
                }
            };
            // Where it had not begun to serve, the process before it decides what is legal: `crashes_at_start` does that.
            let (from, to) = (life.acknowledged[1].0, life.storage.operations());
            let operations = from + dice.roll((to - from) as u64 + 1) as usize;
            let mut rng = StdRng::seed_from_u64(dice.roll(u64::MAX));
            let mode = if dice.roll(4) == 0 { CrashMode::Reorder } else { CrashMode::Tear };
            let survivor = life.storage.at(operations).survivor(&mut rng, mode);
            let found =
                open(&harm::copy(&survivor), options).map_err(|e| e.to_string()).map(|log| account(&log));
            let outcome = life.judge(operations, found);
            counts
                .add(outcome, true, || format!("run {run}, life {number}, operation {operations}, {mode:?}"));
            storage = survivor;
        }
    }
    counts
}

/// A log that was closed in good order, and what it had acknowledged.
fn closed(seed: u64, calls: usize, options: WalOptions) -> (MemoryStorage, Account) {
    let storage = empty();
    let mut log = open(&storage, options).expect("an empty disk takes a log");
    let mut dice = Dice(seed);
    for _ in 0..calls {
        step(&mut log, &mut dice, SIZES).expect("a disk without faults takes every call");
    }
    let account = account(&log);
    (storage, account)
}

/// The files that the log keeps.
fn files(storage: &MemoryStorage) -> Vec<PathBuf> {
    let wal = Path::new(DIR).join("wal");
    let names = storage.list(&wal).expect("the log is there");
    names.into_iter().map(|name| wal.join(name)).chain([Path::new(DIR).join("wal.origin")]).collect()
}

/// What a damaged log makes of itself. It must be all that was acknowledged, or a refusal.
fn judge_damaged(storage: &MemoryStorage, options: WalOptions, acknowledged: &Account) -> Outcome {
    match open(storage, options) {
        Err(OpenError::Damaged { what, .. }) => Outcome::Refused(what),
        Err(other) => Outcome::Lost(format!("it is called {other}")),
        Ok(log) => match Account::of(&log) {
            Ok(found) if found == *acknowledged => Outcome::Exact,
            Ok(found) => Outcome::Lost(format!("{} instead of {}", found.brief(), acknowledged.brief())),
            Err(error) => Outcome::Lost(format!("it opens and does not read: {error}")),
        },
    }
}

/// Flips each bit, or each `stride`th, of every file of a few small logs, one at a time.
pub fn every_bit(seed: u64, stride: usize) -> Counts {
    let mut counts = Counts::default();
    for (calls, options) in [
        (6, WalOptions { file_bytes: 12_288, slot_bytes: 512, log_id: 3 }),
        (40, WalOptions { file_bytes: 16_384, slot_bytes: 1024, log_id: 4 }),
    ] {
        let (storage, acknowledged) = closed(seed, calls, options);
        for path in files(&storage) {
            for bit in (0..harm::length(&storage, &path) * 8).step_by(stride) {
                let damaged = harm::copy(&storage);
                damaged.flip_bit(&path, bit / 8, (bit % 8) as u8);
                let outcome = judge_damaged(&damaged, options, &acknowledged);
                counts.add(outcome, false, || format!("{calls} calls, {} bit {bit}", path.display()));
            }
        }
    }
    counts
}

/// What is done to a log.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Harms {
    /// One harm of any kind.
    One,
    /// 2 to 17 bits are flipped, anywhere.
    ManyBits,
}

/// Random harm to larger logs.
pub fn damage(seed: u64, trials: u64, harms: Harms) -> Counts {
    let mut counts = Counts::default();
    let mut dice = Dice(seed);
    let mut template = None;
    for trial in 0..trials {
        if trial % 100 == 0 {
            let options = WalOptions { file_bytes: 65_536, ..options(&mut dice) };
            let (storage, acknowledged) = closed(dice.roll(u64::MAX), 100 + dice.roll(300) as usize, options);
            template = Some((storage, acknowledged, options));
        }
        let (storage, acknowledged, options) =
            template.as_ref().expect("there is one from the first trial on");
        let damaged = harm::copy(storage);
        let done = match harms {
            Harms::One => harm::one(&damaged, &files(&damaged), &mut dice),
            Harms::ManyBits => {
                (0..2 + dice.roll(16)).map(|_| harm::flip(&damaged, &files(&damaged), &mut dice)).collect()
            }
        };
        let outcome = judge_damaged(&damaged, *options, acknowledged);
        counts.add(outcome, false, || format!("trial {trial}: {done}"));
    }
    counts
}
