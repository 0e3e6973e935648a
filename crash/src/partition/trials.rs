//! Crashes: behind every change of the disk, in every way, also while a broker starts, and one after the other.

use rand::SeedableRng;
use rand::rngs::StdRng;
use vltava_commitlog::durability::{EntryBody, JournalEntry};
use vltava_model::batch::{Batch, BatchBuilder, Compression};
use vltava_model::{LeaderEpoch, Offset};
use vltava_storage::{CrashMode, MemoryStorage};

use super::history::Content;
use super::life::{Ending, Life};
use super::process::{Assigned, NOW_MS, Process, Setup, Unread, audit, empty_disk, unharmed};
use crate::count::{Counts, Outcome};
use crate::dice::Dice;
use crate::{harm, threads};

/// Calls in a life that is crashed everywhere.
const CALLS: usize = 40;

/// The `run`th life of a seed.
fn life(seed: u64, run: u64) -> Life {
    let mut dice = Dice::of(seed, run);
    let setup = Setup::of(&mut dice);
    Life::live(empty_disk(), setup, Assigned::default(), (0, CALLS, Ending::Any), &mut dice)
        .expect("an empty disk takes a directory")
}

/// What a life does, and after how many changes of the disk.
pub fn explain(seed: u64, run: u64) -> Vec<String> {
    told(&life(seed, run)).collect()
}

pub(super) fn told(life: &Life) -> impl Iterator<Item = String> {
    let setup = format!("{:?}, {} to {}", life.setup, life.started, life.storage.operations());
    let script = life.script.iter().map(|(when, what)| format!("{when:>6}  {what}"));
    std::iter::once(setup).chain(script)
}

/// The runs that are tried: one, or all.
fn runs(only: Option<u64>) -> std::ops::Range<u64> {
    only.map_or(0..u64::MAX, |run| run..run + 1)
}

/// Crashes behind every operation of lives, in every mode, until there were `states` of them.
pub fn crashes(seed: u64, states: u64, only: Option<u64>) -> Counts {
    let mut counts = Counts::default();
    for run in runs(only) {
        let life = life(seed, run);
        for operations in 0..=life.storage.operations() {
            let past = life.storage.at(operations);
            for mode in CrashMode::ALL {
                if counts.tried >= states {
                    return counts;
                }
                let mut dice = Dice::of(seed ^ run << 32, (operations as u64) << 2 | mode as u64);
                let survivor = past.survivor(&mut rng(&mut dice), mode);
                let outcome = judge(&life, operations, &survivor, &mut dice);
                counts.add(outcome, true, || {
                    let at = life.at_work_on(operations);
                    format!("run {run}, operation {operations} ({at}), {mode:?}")
                });
            }
        }
    }
    counts
}

/// Crashes, and crashes again while a broker starts.
pub fn crashes_at_start(seed: u64, states: u64, only: Option<u64>) -> Counts {
    let mut counts = Counts::default();
    for run in runs(only) {
        let life = life(seed, run);
        let mut dice = Dice::of(!seed, run);
        for _ in 0..12 {
            let operations = dice.roll(life.storage.operations() as u64 + 1) as usize;
            let mode = if dice.percent(30) { CrashMode::Kill } else { CrashMode::Tear };
            let survivor = life.storage.at(operations).survivor(&mut rng(&mut dice), mode);
            survivor.record();
            threads::enter(dice.roll(u64::MAX));
            let started =
                unharmed(|| Process::start(&survivor, life.setup, &life.assigned(operations)).map(drop));
            if let Err(panic) = started {
                counts.add(Outcome::Lost(panic), true, || format!("run {run}, operation {operations}"));
            }
            for start in 0..=survivor.operations() {
                for mode in [CrashMode::LoseUnsynced, CrashMode::Reorder, CrashMode::Tear] {
                    if counts.tried >= states {
                        return counts;
                    }
                    let again = survivor.at(start).survivor(&mut rng(&mut dice), mode);
                    let outcome = judge(&life, operations, &again, &mut dice);
                    counts.add(outcome, true, || {
                        let at = life.at_work_on(operations);
                        format!("run {run}, operations {operations} ({at}) and {start}, {mode:?}")
                    });
                }
            }
        }
    }
    counts
}

/// One process after the other on one disk, each ended by a crash in the midst of its calls, or by an end in order.
pub fn storm(seed: u64, states: u64, only: Option<u64>) -> Counts {
    let mut counts = Counts::default();
    for run in runs(only) {
        let mut dice = Dice::of(seed ^ 0x5704, run);
        let setup = Setup::of(&mut dice);
        let (mut storage, mut assigned, mut epoch) = (empty_disk(), Assigned::default(), 0);
        for number in 0..25 {
            if counts.tried >= states {
                return counts;
            }
            let calls = 1 + (number % 8) * 3;
            let lived =
                unharmed(|| Life::live(storage, setup, assigned, (epoch, calls, Ending::Any), &mut dice));
            let life = match lived.and_then(|lived| lived) {
                Ok(life) => life,
                Err(why) => {
                    counts.add(Outcome::Refused(why), true, || format!("run {run}, life {number}"));
                    break;
                }
            };
            // Where it had not started, the process before it decides what is legal: `crashes_at_start` does that.
            let many = (life.storage.operations() - life.started) as u64;
            let operations = life.started + dice.roll(many + 1) as usize;
            let operations = if dice.percent(25) { life.storage.operations() } else { operations };
            let mode = CrashMode::ALL[dice.roll(4) as usize];
            let survivor = life.storage.at(operations).survivor(&mut rng(&mut dice), mode);
            let outcome = judge(&life, operations, &harm::copy(&survivor), &mut dice);
            let is_bad = matches!(outcome, Outcome::Lost(_) | Outcome::Refused(_));
            counts.add(outcome, true, || {
                let at = life.at_work_on(operations);
                format!("run {run}, life {number}, operation {operations} ({at}), {mode:?}")
            });
            if only.is_some() {
                counts.samples.push(format!("life {number}, crashed after {operations}, {mode:?}:"));
                counts.samples.extend(told(&life));
            }
            if is_bad {
                break;
            }
            (storage, epoch, assigned) = (survivor, life.epoch + 1, life.assigned(operations));
        }
    }
    counts
}

fn rng(dice: &mut Dice) -> StdRng {
    StdRng::seed_from_u64(dice.roll(u64::MAX))
}

/// What a broker makes of a disk that a crash of `life` behind so many operations left, and of another crash.
fn judge(life: &Life, operations: usize, survivor: &MemoryStorage, dice: &mut Dice) -> Outcome {
    threads::enter(dice.roll(u64::MAX));
    let judged = unharmed(|| {
        let assigned = life.assigned(operations);
        let mut process = match Process::start(survivor, life.setup, &assigned) {
            Ok(process) => process,
            Err(why) => return Outcome::Refused(why),
        };
        let outcome = judge_started(life, operations, &process);
        if !matches!(outcome, Outcome::Exact | Outcome::Ahead) {
            return outcome;
        }
        if let Err(why) = go_on(life, &mut process, dice) {
            return Outcome::Lost(why);
        }
        outcome
    });
    judged.unwrap_or_else(Outcome::Lost)
}

fn judge_started(life: &Life, operations: usize, process: &Process) -> Outcome {
    if let Some((partition, why)) = process.refused.first_key_value() {
        return Outcome::Refused(format!("{partition}: {why}"));
    }
    if operations >= life.started && process.directory != life.directory {
        return Outcome::Lost("the directory has another identity".to_owned());
    }
    if !process.directories.failed().is_empty() {
        return Outcome::Lost("the directory failed".to_owned());
    }
    let (mut sum, mut is_whole) = (Outcome::Exact, true);
    for history in life.histories.iter().filter(|history| history.began() <= operations) {
        if history.is_there(operations) == Some(false) && process.found.contains(&history.partition) {
            return Outcome::Lost(format!("{} is there again", history.partition));
        }
        let Some(log) = process.logs.get(&history.partition) else { continue };
        let found = match audit(log) {
            Ok(found) => found,
            Err(Unread::Damaged(what)) => return Outcome::Refused(what),
            Err(Unread::Wrong(what)) => return Outcome::Lost(format!("{}: {what}", history.partition)),
        };
        is_whole &= found.end() == history.now().end();
        match history.judge(operations, &found) {
            Outcome::Exact => {}
            Outcome::Ahead => sum = Outcome::Ahead,
            other => return other,
        }
    }
    if let Some(wrong) = wrong_proof(life, operations, process, is_whole) {
        return Outcome::Lost(wrong);
    }
    sum
}

/// What is wrong with the proof of an end in order, or with its absence.
fn wrong_proof(life: &Life, operations: usize, process: &Process, is_whole: bool) -> Option<String> {
    match (process.left_cleanly, life.closed) {
        (None, Some(closed)) if closed.done <= operations => Some("the proof of its end is lost".to_owned()),
        // Its own start had not taken that of the process before it.
        (Some(_), _) if operations < life.started => None,
        (Some(proof), Some(closed)) if closed.issued <= operations && is_whole => {
            (proof != closed.epoch).then(|| format!("the proof is of {proof} instead of {}", closed.epoch))
        }
        (Some(proof), _) => Some(format!("{proof} did not end in order")),
        (None, _) => None,
    }
}

/// Every log takes another batch; after another crash all of it is there.
fn go_on(life: &Life, process: &mut Process, dice: &mut Dice) -> Result<(), String> {
    let epoch = LeaderEpoch::new(life.epoch + 1);
    let mut entries = Vec::new();
    let mut expected: Vec<Content> = Vec::new();
    for (partition, log) in &mut process.logs {
        let mut after = audit(log).map_err(|unread| format!("{unread:?}"))?;
        let batch = batch(log.log_end(), epoch);
        let appended = log.append(&batch, NOW_MS).map_err(|error| format!("it does not go on: {error}"))?;
        let (base_offset, end_offset) = (appended.base, appended.end);
        let (bytes, segment) = (appended.bytes, appended.segment);
        let body = EntryBody::Append { base_offset, end_offset, bytes, segment };
        entries.push(JournalEntry { partition: *partition, leader_epoch: epoch, body });
        after.batches.push(batch);
        expected.push(after);
    }
    let (done, finished) = vltava_threads::queue::unbounded(&vltava_threads::Bell::new());
    let journal = process.directories.journal(process.directory).ok_or("the journal is gone")?;
    let told = journal.submit(entries, Box::new(move |outcome| drop(done.send(outcome))));
    told.map_err(|refused| format!("it does not go on: {}", refused.error))?;
    let outcome = finished.recv().map_err(|_| "the journal says nothing".to_owned())?;
    outcome.map_err(|error| format!("it does not go on: {error}"))?;
    drop(journal);
    let again = process.storage.survivor(&mut rng(dice), CrashMode::Tear);
    let served = process.logs.keys().copied().collect();
    let again = Process::start(&again, life.setup, &Assigned { served, ..Assigned::default() })
        .map_err(|why| format!("after another crash it does not start: {why}"))?;
    if let Some((partition, why)) = again.refused.first_key_value() {
        return Err(format!("after another crash: {partition}: {why}"));
    }
    if let Some(proof) = again.left_cleanly {
        return Err(format!("after another crash {proof} passes for a process that ended in order"));
    }
    for ((partition, log), expected) in again.logs.iter().zip(expected) {
        let found = audit(log).map_err(|unread| format!("after another crash: {unread:?}"))?;
        if (found.start, &found.batches) != (expected.start, &expected.batches) {
            return Err(format!("after another crash {partition} has {found} instead of {expected}"));
        }
    }
    Ok(())
}

/// One record.
fn batch(base: Offset, epoch: LeaderEpoch) -> Batch {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(50, None, Some(b"another"), &[]).expect("a small record fits");
    let batch = Batch::parse(builder.build()).expect("it was just built");
    batch.with_position(base, epoch)
}
