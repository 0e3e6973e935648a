//! The log on sled in real directories, which are copied around each call: a power cut mixes the pages of the two copies.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Once;

use tempfile::TempDir;
use vltava_raft_store::{LogError, MetaLog, OpenError, SledLog};

use super::script::{Account, Sizes, entry, step};
use crate::count::{Counts, Outcome};
use crate::dice::Dice;

const CACHE: u64 = 8 << 20;
const WITNESS: &str = "witness";
/// Entries as the metadata's are.
const SMALL: Sizes = Sizes { usual: 400, large: 500 };
/// With these, sled often begins, frees or cuts off a segment in the midst of a call.
const LARGE: Sizes = Sizes { usual: 14_000, large: 80_000 };

/// A directory in memory where there is one: what is tried here is content, not the disk.
fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a temporary directory can be made")
}

/// sled panics on most damage, on a thread of its own; other panics still print.
fn hush() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().name().is_none_or(|name| !name.starts_with("raft-log-open")) {
                loud(info);
            }
        }));
    });
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a temporary directory takes names");
    for file in fs::read_dir(from).expect("it is there") {
        let file = file.expect("it is there");
        let target = to.join(file.file_name());
        if file.file_type().expect("it has a type").is_dir() {
            copy(&file.path(), &target);
        } else {
            fs::copy(file.path(), target).expect("a temporary directory takes copies");
        }
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for file in fs::read_dir(directory).expect("it is there") {
        let path = file.expect("it is there").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// When the power went.
#[derive(Clone, Copy)]
enum Order {
    /// While sled and the witness were written side by side.
    Any,
    /// While sled was written alone.
    BeforeWitness,
    /// When sled was synced, while the witness was written.
    AfterSled,
}

/// A directory as a power cut may leave it: each file as it was when it was last synced, with any of the pages that were
/// written since, one of them perhaps torn at a sector.
fn cut_power(before: &Path, after: &Path, target: &Path, order: Order, dice: &mut Dice) {
    for path in files(after) {
        let name = path.strip_prefix(after).expect("it lies in there");
        let all_or_none = match (order, name == Path::new(WITNESS)) {
            (Order::BeforeWitness, true) => Some(before),
            (Order::AfterSled, false) => Some(after),
            _ => None,
        };
        let into = target.join(name);
        fs::create_dir_all(into.parent().expect("it lies in a directory")).expect("a directory can be made");
        if let Some(version) = all_or_none {
            fs::copy(version.join(name), into).expect("a temporary directory takes copies");
            continue;
        }
        let mut bytes = fs::read(before.join(name)).unwrap_or_default();
        let new = fs::read(&path).expect("it is there");
        let old = bytes.clone();
        for (at, page) in new.chunks(4096).enumerate() {
            let start = at * 4096;
            if old.get(start..start + page.len()).is_some_and(|old| old == page) {
                continue;
            }
            let keep = match dice.roll(5) {
                0 | 1 => 0,
                2 => (dice.roll(8) as usize * 512).min(page.len()),
                _ => page.len(),
            };
            if keep > 0 {
                bytes.resize(bytes.len().max(start + keep), 0);
                bytes[start..start + keep].copy_from_slice(&page[..keep]);
            }
        }
        fs::write(into, bytes).expect("a temporary directory takes files");
    }
}

/// Whether the slot in which two witnesses differ holds a change itself, and not only the state after it.
fn has_change(old: &Path, new: &Path) -> bool {
    let [old, new] = [old, new].map(|path| fs::read(path).expect("there is always a witness"));
    let slots = old.chunks(old.len() / 2).zip(new.chunks(new.len() / 2));
    let changed = slots.filter(|(old, new)| old != new).map(|(_, new)| new).next();
    changed.is_none_or(|slot| {
        let state = usize::from(u16::from_le_bytes([slot[16], slot[17]]));
        slot[18 + state] == 1
    })
}

/// What a log that was cut off makes of itself, and whether it goes on.
fn judge(directory: &Path, acknowledged: &Account, written: &Account) -> Outcome {
    let mut log = match SledLog::open(directory, CACHE) {
        Ok(log) => log,
        Err(OpenError::Damaged { what, .. }) => return Outcome::Refused(what),
        Err(other) => return Outcome::Lost(format!("it is called {other}")),
    };
    let found = match Account::of(&log) {
        Ok(found) => found,
        Err(error) => return Outcome::Lost(format!("it opens and does not read: {error}")),
    };
    let next = log.bounds().last.map_or(0, |last| last.index + 1);
    let went_on: Result<(), LogError> = log.append(&[entry(1 << 40, next, 10)]);
    if let Err(error) = went_on {
        return Outcome::Refused(format!("it opens and does not go on: {error}"));
    }
    if found == *acknowledged {
        Outcome::Exact
    } else if found == *written {
        Outcome::Ahead
    } else {
        Outcome::Lost(format!("{} instead of {}", found.brief(), acknowledged.brief()))
    }
}

/// Cuts the power in random calls with small entries, a few ways each, until there were `states` cuts.
pub fn power_cuts(seed: u64, states: u64) -> Counts {
    cut_often(seed, states, SMALL)
}

/// The same with large ones.
pub fn power_cuts_across_segments(seed: u64, states: u64) -> Counts {
    cut_often(seed, states, LARGE)
}

fn cut_often(seed: u64, states: u64, sizes: Sizes) -> Counts {
    hush();
    let mut counts = Counts::default();
    let mut dice = Dice(seed);
    let mut run = 0;
    while counts.tried < states {
        run += 1;
        let work = directory();
        let copies = directory();
        let (old, new, target) =
            (copies.path().join("old"), copies.path().join("new"), copies.path().join("cut"));
        let mut log = SledLog::open(work.path(), CACHE).expect("an empty directory takes a log");
        let mut acknowledged = Account::of(&log).expect("an unharmed log reads");
        copy(work.path(), &old);
        for call in 0..60 {
            step(&mut log, &mut dice, sizes).expect("a disk without faults takes every call");
            let written = Account::of(&log).expect("an unharmed log reads");
            copy(work.path(), &new);
            let witness_has_change = has_change(&old.join(WITNESS), &new.join(WITNESS));
            for cut in 0..8 {
                if counts.tried >= states {
                    return counts;
                }
                // A change that does not fit into the witness is synced in sled first.
                let order = match (witness_has_change, dice.roll(2)) {
                    (true, _) => Order::Any,
                    (false, 0) => Order::BeforeWitness,
                    (false, _) => Order::AfterSled,
                };
                cut_power(&old, &new, &target, order, &mut dice);
                let outcome = judge(&target, &acknowledged, &written);
                counts.add(outcome, true, || format!("run {run}, call {call}, cut {cut}"));
                fs::remove_dir_all(&target).expect("it was just made");
            }
            fs::remove_dir_all(&old).expect("it was just made");
            fs::rename(&new, &old).expect("it was just made");
            acknowledged = written;
        }
    }
    counts
}

/// One random harm to a closed log, `trials` times.
pub fn damage(seed: u64, trials: u64) -> Counts {
    hush();
    let mut counts = Counts::default();
    let mut dice = Dice(seed);
    let mut template = None;
    for trial in 0..trials {
        if trial % 500 == 0 {
            let made = directory();
            let mut log = SledLog::open(made.path(), CACHE).expect("an empty directory takes a log");
            for _ in 0..300 {
                step(&mut log, &mut dice, SMALL).expect("a disk without faults takes every call");
            }
            let acknowledged = Account::of(&log).expect("an unharmed log reads");
            drop(log);
            template = Some((made, acknowledged));
        }
        let (whole, acknowledged) = template.as_ref().expect("there is one from the first trial on");
        let damaged = directory();
        copy(whole.path(), damaged.path());
        let harm = harm(damaged.path(), &mut dice);
        let outcome = judge(damaged.path(), acknowledged, acknowledged);
        counts.add(outcome, false, || format!("trial {trial}: {harm}"));
    }
    counts
}

/// Does one random harm to one file; says which.
fn harm(directory: &Path, dice: &mut Dice) -> String {
    let all: Vec<_> = files(directory).into_iter().filter(|f| !f.ends_with("lock")).collect();
    let file = match dice.roll(3) {
        0 => all[dice.roll(all.len() as u64) as usize].clone(),
        1 => directory.join(WITNESS),
        _ => directory.join("log/db"),
    };
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let handle = fs::OpenOptions::new().read(true).write(true).open(&file).expect("it is there");
    let length = handle.metadata().expect("it is open").len().max(1);
    let page = dice.roll(length.div_ceil(4096)) * 4096;
    let size = (length - page).min(4096) as usize;
    let done = match dice.roll(10) {
        0..4 => {
            let bit = dice.roll(length * 8);
            let mut byte = [0];
            let read = handle.read_at(&mut byte, bit / 8);
            read.and_then(|_| handle.write_all_at(&[byte[0] ^ (1 << (bit % 8))], bit / 8))
                .map(|()| format!("bit {bit} of {name} flipped"))
        }
        4..7 => {
            handle.write_all_at(&vec![0; size], page).map(|()| format!("page at {page} of {name} zeroed"))
        }
        7..9 => {
            let length = dice.roll(length);
            handle.set_len(length).map(|()| format!("{name} cut to {length} bytes"))
        }
        _ => fs::remove_file(&file).map(|()| format!("{name} removed")),
    };
    done.expect("a temporary directory takes everything")
}
