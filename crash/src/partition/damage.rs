//! Harm to the files of a log directory: what comes of it is all that was acknowledged, or somebody says what is wrong.

use std::path::{Path, PathBuf};

use vltava_commitlog::durability::Journal;
use vltava_storage::{MemoryStorage, Storage};

use super::life::{Ending, Life};
use super::process::{Assigned, DIR, Process, Setup, Unread, audit, empty_disk, unharmed};
use crate::count::{Counts, Outcome};
use crate::dice::Dice;
use crate::{harm, threads};

/// What a small directory must hold for every kind of file to be harmed.
const KINDS: &[&str] = &[
    ".log",
    ".check",
    ".index",
    ".timeindex",
    ".snapshot",
    ".journal",
    "log-state",
    "leader-epoch-checkpoint",
    "recovery-point-offset-checkpoint",
    "vltava.meta",
];

/// A directory to be harmed.
struct Template {
    life: Life,
    files: Vec<PathBuf>,
}

impl Template {
    fn new(mut dice: Dice, setup: Setup, calls: usize, ending: Ending) -> Self {
        let life = Life::live(empty_disk(), setup, Assigned::default(), (0, calls, ending), &mut dice)
            .expect("an empty disk takes a directory");
        let files = harm::files_below(&life.storage, Path::new(DIR));
        Self { life, files }
    }

    /// One of a short life that holds a file of every kind.
    fn of_all_kinds(seed: u64, ending: Ending) -> Self {
        for number in 0.. {
            let dice = Dice::of(seed ^ 0xb175, number);
            let setup = Setup { journal_file_bytes: 8192, segment_bytes: 500 };
            let template = Self::new(dice, setup, 30, ending);
            let has = |kind: &&str| template.files.iter().any(|path| path.to_string_lossy().ends_with(*kind));
            if KINDS.iter().all(has) {
                return template;
            }
        }
        unreachable!("there is always another life")
    }

    /// A copy to be harmed.
    fn copy(&self) -> MemoryStorage {
        harm::copy(&self.life.storage)
    }

    /// Whether a file is gone whose absence means something: a log that never moved its start has no `log-state`, and nothing
    /// else says that it had one.
    fn lacks_state(&self, damaged: &MemoryStorage) -> bool {
        let mut states = self.files.iter().filter(|path| path.ends_with("log-state"));
        states.any(|path| !damaged.exists(path).expect("memory answers"))
    }

    /// Whether the journal ends earlier than it did. Damage that reaches from a group to the journal's end leaves what a crash
    /// leaves that tears the last write, which was acknowledged to nobody: there is nothing that tells the two apart, and no
    /// log directory could. Damage in front of a readable group is no such end.
    fn ends_journal(&self, damaged: &MemoryStorage) -> bool {
        let dir = Path::new(DIR).join("journal");
        let frames = |storage: &MemoryStorage| Journal::recover(storage, &dir).map(|found| found.partitions);
        match (frames(&self.life.storage), frames(damaged)) {
            (Ok(whole), Ok(found)) => whole != found,
            (Ok(_) | Err(_), _) => false,
        }
    }

    /// The files beside the journal's.
    fn beside_journal(&self) -> Vec<PathBuf> {
        let is_beside = |path: &&PathBuf| path.extension().is_none_or(|kind| kind != "journal");
        self.files.iter().filter(is_beside).cloned().collect()
    }

    /// What a broker makes of it.
    fn judge(&self, damaged: &MemoryStorage, chance: u64) -> Outcome {
        threads::enter(chance);
        let judged = unharmed(|| self.judge_started(damaged));
        judged.unwrap_or_else(Outcome::Lost)
    }

    fn judge_started(&self, damaged: &MemoryStorage) -> Outcome {
        let (life, operations) = (&self.life, self.life.storage.operations());
        let process = match Process::start(damaged, life.setup, &life.assigned(operations)) {
            Ok(process) => process,
            Err(why) => return Outcome::Refused(why),
        };
        if process.directory != life.directory {
            return Outcome::Lost("the directory has another identity".to_owned());
        }
        if process.left_cleanly.is_some_and(|proof| life.closed.is_none_or(|closed| closed.epoch != proof)) {
            return Outcome::Lost("there is a proof of an end that was not in order".to_owned());
        }
        let mut sum = Outcome::Exact;
        for history in &life.histories {
            let partition = history.partition;
            if let Some(why) = process.refused.get(&partition) {
                sum = Outcome::Refused(why.clone());
                continue;
            }
            let Some(log) = process.logs.get(&partition) else { continue };
            let found = match audit(log) {
                Ok(found) => found,
                Err(Unread::Damaged(what)) => {
                    sum = Outcome::Refused(what);
                    continue;
                }
                Err(Unread::Wrong(what)) => return Outcome::Lost(format!("{partition}: {what}")),
            };
            if let lost @ Outcome::Lost(_) = history.judge(operations, &found) {
                return lost;
            }
        }
        sum
    }
}

/// Flips each bit, or each `stride`th, of every file of small directories, one at a time: of one that was closed in order,
/// and of one whose process was killed.
pub fn every_bit(seed: u64, stride: usize, only: Option<u64>) -> Counts {
    let mut counts = Counts::default();
    let mut number = 0;
    for ending in [Ending::Orderly, Ending::Settled] {
        let template = Template::of_all_kinds(seed, ending);
        for path in &template.files {
            for bit in (0..harm::length(&template.life.storage, path) * 8).step_by(stride) {
                number += 1;
                if only.is_some_and(|only| only != number) {
                    continue;
                }
                let damaged = template.copy();
                damaged.flip_bit(path, bit / 8, (bit % 8) as u8);
                let outcome = template.judge(&damaged, bit);
                counts.add(outcome, only.is_some(), || {
                    format!("run {number}, {ending:?}, {} bit {bit}", path.display())
                });
            }
        }
    }
    counts
}

/// What is done to a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Harms {
    /// One harm of any kind.
    One,
    /// 2 to 17 bits are flipped, anywhere.
    ManyBits,
}

/// How the process before the harm ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Left {
    /// In order.
    Orderly,
    /// It was killed with nothing under way.
    Killed,
}

/// How many trials are made with one directory.
const TRIALS_EACH: u64 = 50;

/// Random harm to larger directories.
pub fn damage(seed: u64, trials: u64, (harms, left): (Harms, Left), only: Option<u64>) -> Counts {
    let mut counts = Counts::default();
    let mut template: Option<(u64, Template)> = None;
    for trial in only.map_or(0..trials, |only| only..only + 1) {
        let number = trial / TRIALS_EACH;
        if template.as_ref().is_none_or(|(of, _)| *of != number) {
            let mut dice = Dice::of(seed ^ 0xda3a, number);
            let ending = match left {
                Left::Orderly => Ending::Orderly,
                Left::Killed => Ending::Settled,
            };
            let setup = Setup::of(&mut dice);
            let calls = 40 + dice.roll(80) as usize;
            template = Some((number, Template::new(dice, setup, calls, ending)));
        }
        let (_, template) = template.as_ref().expect("it was just made");
        let mut dice = Dice::of(seed ^ 0x7a1a, trial);
        let mut damaged = template.copy();
        let mut done = match harms {
            Harms::One => harm::one(&damaged, &template.files, &mut dice),
            Harms::ManyBits => {
                (0..2 + dice.roll(16)).map(|_| harm::flip(&damaged, &template.files, &mut dice)).collect()
            }
        };
        if template.lacks_state(&damaged) || template.ends_journal(&damaged) {
            damaged = template.copy();
            done = harm::flip(&damaged, &template.beside_journal(), &mut dice);
        }
        let outcome = template.judge(&damaged, dice.roll(u64::MAX));
        counts.add(outcome, only.is_some(), || format!("run {trial}, {done}"));
        if only.is_some() {
            counts.samples.extend(super::trials::told(&template.life));
        }
    }
    counts
}
