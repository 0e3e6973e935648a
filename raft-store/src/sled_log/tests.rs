//! The log against a plain twin, against damage and against power cuts, and how long an append takes.

use std::os::unix::fs::FileExt;
use std::sync::Once;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::memory_log::MemoryLog;
use crate::meta_log::MAX_ENTRY_BYTES;
use crate::testing::{
    Account, Dice, account, copy_directory, files, play, position, steps, stored, trials, vote,
};

const CACHE: u64 = 16 << 20;

fn open_in(directory: &Path) -> SledLog {
    SledLog::open(directory, CACHE).unwrap()
}

#[test]
fn what_was_written_is_there_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_in(dir.path());
    assert_eq!(account(&log), (LogBounds::default(), None, None, vec![]));
    log.save_vote(vote(3)).unwrap();
    let entries: Vec<_> = (0..50).map(|i| stored(3, i, 100)).collect();
    log.append(&entries).unwrap();
    log.note_committed(Some(position(3, 40)));
    log.save_committed().unwrap();
    log.purge_up_to(position(3, 9)).unwrap();
    log.truncate_from(45).unwrap();
    let before = account(&log);
    drop(log);
    let log = open_in(dir.path());
    assert_eq!(account(&log), before);
    assert_eq!(before.0, LogBounds { purged: Some(position(3, 9)), last: Some(position(3, 44)) });
    assert_eq!(before.3, entries[10..45]);
}

#[test]
fn large_entries_are_split_and_no_blob_appears() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_in(dir.path());
    let sizes = [0, 1, 4068, 4069, 65_536, 300_000, 2_000_000];
    let entries: Vec<_> = sizes.iter().enumerate().map(|(i, size)| stored(1, i as u64, *size)).collect();
    for entry in &entries {
        log.append(std::slice::from_ref(entry)).unwrap();
    }
    drop(log);
    let mut log = open_in(dir.path());
    assert_eq!(log.read(0..100, usize::MAX).unwrap(), entries);
    assert_eq!(log.read(4..100, 70_000).unwrap(), entries[4..5]);
    assert_eq!(log.read(5..100, 10).unwrap(), entries[5..6]);
    log.truncate_from(5).unwrap();
    let again = stored(2, 5, 10_000);
    log.append(std::slice::from_ref(&again)).unwrap();
    drop(log);
    let log = open_in(dir.path());
    assert_eq!(log.read(5..100, usize::MAX).unwrap(), [again]);
    assert!(log.blobs.is_dir() && fs::read_dir(&log.blobs).unwrap().next().is_none());
}

#[test]
fn a_blob_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_in(dir.path());
    fs::write(log.blobs.join("1"), b"x").unwrap();
    assert!(matches!(log.append(&[stored(1, 0, 1)]), Err(LogError::Refused(_))));
    assert!(matches!(log.save_vote(vote(1)), Err(LogError::Failed(_))), "an error is final");
}

#[test]
fn what_would_break_the_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_in(dir.path());
    log.append(&(0..10).map(|i| stored(2, i, 8)).collect::<Vec<_>>()).unwrap();
    log.purge_up_to(position(2, 3)).unwrap();
    log.note_committed(Some(position(2, 6)));
    let before = account(&log);
    let oversized = LogEntry { position: position(2, 10), bytes: vec![0; MAX_ENTRY_BYTES + 1].into() };
    for bad in [stored(2, 11, 1), stored(2, 9, 1), stored(1, 10, 1), oversized] {
        assert!(matches!(log.append(&[bad]), Err(LogError::Refused(_))));
    }
    for index in [0, 3, 4, 6] {
        assert!(matches!(log.truncate_from(index), Err(LogError::Refused(_))), "{index}");
    }
    assert_eq!(account(&log), before);
    log.truncate_from(7).unwrap();
    log.purge_up_to(position(2, 2)).unwrap();
    assert_eq!(log.bounds(), LogBounds { purged: Some(position(2, 3)), last: Some(position(2, 6)) });
}

#[test]
fn long_removals_go_step_by_step() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_in(dir.path());
    let entries: Vec<_> = (0..3500).map(|i| stored(1, i, 20)).collect();
    log.append(&entries).unwrap();
    log.purge_up_to(position(1, 1200)).unwrap();
    log.truncate_from(1300).unwrap();
    assert_eq!(log.read(0..9999, usize::MAX).unwrap(), entries[1201..1300]);
    log.purge_up_to(position(4, 5000)).unwrap();
    assert_eq!(log.bounds(), LogBounds { purged: Some(position(4, 5000)), last: Some(position(4, 5000)) });
    log.append(&[stored(4, 5001, 5)]).unwrap();
    drop(log);
    assert_eq!(account(&open_in(dir.path())).3, [stored(4, 5001, 5)]);
}

#[test]
fn one_directory_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_in(dir.path());
    assert!(matches!(SledLog::open(dir.path(), CACHE), Err(OpenError::InUse { .. })));
    drop(log);
    open_in(dir.path());
}

#[test]
fn a_half_written_snapshot_of_sled_does_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_in(dir.path());
    log.append(&[stored(1, 0, 50)]).unwrap();
    let before = account(&log);
    drop(log);
    fs::write(dir.path().join("log/snap.0000000000000000.generating"), b"half").unwrap();
    assert_eq!(account(&open_in(dir.path())), before);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: trials("VLTAVA_RAFT_MODEL_TRIALS", 24) as u32,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(7),
        ..ProptestConfig::default()
    })]

    #[test]
    fn it_does_what_the_plain_twin_does_also_when_opened_again_after_every_step(steps in steps(12)) {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open_in(dir.path());
        let mut twin = MemoryLog::default();
        for (step, open_again) in steps {
            let (did, should) = (play(&mut log, &step), play(&mut twin, &step));
            prop_assert_eq!(did, should, "{:?}", step);
            if open_again {
                drop(log);
                log = open_in(dir.path());
            }
            prop_assert_eq!(account(&log), account(&twin), "{:?}", step);
        }
    }
}

/// A closed log with some history, and what it acknowledged.
fn template() -> (TempDir, Account) {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_in(dir.path());
    for group in 0..120u64 {
        let entries: Vec<_> = (0..5).map(|i| stored(2, group * 5 + i, 150)).collect();
        log.append(&entries).unwrap();
        if group % 30 == 20 {
            log.purge_up_to(position(2, group * 3)).unwrap();
        }
    }
    log.append(&[stored(2, 600, 90_000)]).unwrap();
    log.save_vote(vote(5)).unwrap();
    log.append(&[stored(2, 601, 10)]).unwrap();
    log.note_committed(Some(position(2, 590)));
    log.save_committed().unwrap();
    let account = account(&log);
    drop(log);
    (dir, account)
}

/// sled panics on most damage; the test's own panics still print.
fn hush_sled() {
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

/// Does one random harm to one file; says which.
fn harm(directory: &Path, dice: &mut Dice) -> String {
    let all: Vec<_> = files(directory).into_iter().filter(|f| !f.ends_with("lock")).collect();
    // The large file more often than the small ones around it.
    let file = match dice.roll(3) {
        0 => all[dice.roll(all.len() as u64) as usize].clone(),
        1 => directory.join(witness::FILE),
        _ => directory.join("log/db"),
    };
    let handle = fs::OpenOptions::new().read(true).write(true).open(&file).unwrap();
    let length = handle.metadata().unwrap().len().max(1);
    match dice.roll(10) {
        0..4 => {
            let bit = dice.roll(length * 8);
            let mut byte = [0];
            let _ = handle.read_at(&mut byte, bit / 8).unwrap();
            handle.write_all_at(&[byte[0] ^ (1 << (bit % 8))], bit / 8).unwrap();
            format!("bit {bit} of {} flipped", file.display())
        }
        4..7 => {
            let page = dice.roll(length.div_ceil(4096));
            let size = (length - page * 4096).min(4096) as usize;
            handle.write_all_at(&vec![0; size], page * 4096).unwrap();
            format!("page {page} of {} zeroed", file.display())
        }
        7..9 => {
            let length = dice.roll(length);
            handle.set_len(length).unwrap();
            format!("{} cut to {length} bytes", file.display())
        }
        _ => {
            fs::remove_file(&file).unwrap();
            format!("{} removed", file.display())
        }
    }
}

#[test]
fn damage_never_makes_it_open_with_less_than_was_acknowledged() {
    hush_sled();
    let (template, acknowledged) = template();
    let (mut refused, mut whole) = (0, 0);
    for seed in 0..trials("VLTAVA_RAFT_DAMAGE_TRIALS", 200) {
        let dir = tempfile::tempdir().unwrap();
        copy_directory(template.path(), dir.path());
        let harm = harm(dir.path(), &mut Dice(seed));
        match SledLog::open(dir.path(), CACHE) {
            Ok(log) => {
                assert_eq!(account(&log), acknowledged, "seed {seed}: {harm}");
                whole += 1;
            }
            Err(OpenError::Damaged { .. }) => refused += 1,
            Err(other) => panic!("seed {seed}: {harm}: {other}"),
        }
    }
    println!("damage: {refused} refused to open, {whole} lost nothing, none lost anything silently");
    assert!(refused > 0 && whole > 0, "the trials try nothing");
}

#[test]
fn damage_stays_damage_however_often_it_is_opened() {
    hush_sled();
    let (template, _) = template();
    fs::write(template.path().join("log/db"), b"").unwrap();
    for _ in 0..3 {
        let error = SledLog::open(template.path(), CACHE).unwrap_err();
        assert!(error.to_string().contains("vltava quorum remove"), "{error}");
    }
}

/// The pages of a file that differ from an earlier version of it.
fn changed_pages(before: &Path, after: &Path) -> (Vec<u8>, Vec<(u64, Vec<u8>)>) {
    let (old, new) = (fs::read(before).unwrap_or_default(), fs::read(after).unwrap());
    let pages = new.chunks(4096).enumerate().filter_map(|(i, page)| {
        let start = i * 4096;
        let same = old.get(start..start + page.len()).is_some_and(|old| old == page);
        (!same).then(|| (start as u64, page.to_vec()))
    });
    let pages = pages.collect();
    (old, pages)
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
        let name = path.strip_prefix(after).unwrap();
        let all_or_none = match (order, name == Path::new(witness::FILE)) {
            (Order::BeforeWitness, true) => Some(before),
            (Order::AfterSled, false) => Some(after),
            _ => None,
        };
        fs::create_dir_all(target.join(name).parent().unwrap()).unwrap();
        if let Some(version) = all_or_none {
            fs::copy(version.join(name), target.join(name)).unwrap();
            continue;
        }
        let (mut bytes, pages) = changed_pages(&before.join(name), &path);
        for (start, page) in pages {
            let keep = match dice.roll(5) {
                0 | 1 => 0,
                2 => (dice.roll(8) as usize * 512).min(page.len()),
                _ => page.len(),
            };
            let end = start as usize + keep;
            if keep > 0 {
                bytes.resize(bytes.len().max(end), 0);
                bytes[start as usize..end].copy_from_slice(&page[..keep]);
            }
        }
        fs::write(target.join(name), bytes).unwrap();
    }
}

/// Whether a copy of `directory` opens with this account: if not, the copy was taken wrongly, not cut wrongly.
fn judge(directory: &Path, account_then: &Account) -> Result<bool, String> {
    let copy = tempfile::tempdir().unwrap();
    copy_directory(directory, copy.path());
    SledLog::open(copy.path(), CACHE).map(|log| account(&log) == *account_then).map_err(|e| e.to_string())
}

#[test]
fn a_power_cut_never_loses_silently_what_was_acknowledged() {
    cut_power_often(400);
}

/// Changes so large that sled often begins, frees or cuts off a segment in the middle of one.
#[test]
fn a_power_cut_while_sled_changes_segments_loses_nothing_silently() {
    cut_power_often(7000);
}

fn cut_power_often(entry_bytes: usize) {
    hush_sled();
    let work = tempfile::tempdir().unwrap();
    let copies = tempfile::tempdir().unwrap();
    let mut dice = Dice(trials("VLTAVA_RAFT_POWER_SEED", 99));
    let mut log = open_in(work.path());
    let (mut before, mut after, mut refused) = (0, 0, 0);
    let rounds = trials("VLTAVA_RAFT_POWER_TRIALS", 120) / 4;
    for round in 0..rounds {
        let acknowledged = account(&log);
        let old = copies.path().join(format!("{round}-old"));
        copy_directory(work.path(), &old);
        let next = log.bounds().last.map_or(0, |l| l.index + 1);
        let step = dice.roll(8);
        match step {
            0 => log.save_vote(vote(round)).unwrap(),
            1 if next > 20 => log.purge_up_to(position(1, next - 15)).unwrap(),
            2 if next > 20 => log.truncate_from(next - 3).unwrap(),
            3 => log.append(&[stored(1, next, 70_000 + dice.roll(50_000) as usize)]).unwrap(),
            _ => {
                let entries: Vec<_> =
                    (0..1 + dice.roll(8)).map(|i| stored(1, next + i, entry_bytes)).collect();
                log.append(&entries).unwrap();
            }
        }
        let written = account(&log);
        let new = copies.path().join(format!("{round}-new"));
        copy_directory(work.path(), &new);
        for _ in 0..4 {
            let target = copies.path().join("cut");
            // A change that does not fit into the witness is synced in sled first.
            let order = match step {
                3 if dice.roll(2) == 0 => Order::BeforeWitness,
                3 => Order::AfterSled,
                _ => Order::Any,
            };
            cut_power(&old, &new, &target, order, &mut dice);
            let opened = SledLog::open(&target, CACHE);
            // sled may forget everything when a device reorders its writes across segments: said aloud, that is no loss.
            if let Err(OpenError::Damaged { .. }) = &opened {
                refused += 1;
                fs::remove_dir_all(&target).unwrap();
                continue;
            }
            let found = opened.as_ref().map(account).map_err(OpenError::to_string);
            match &found {
                Ok(found) if *found == acknowledged => before += 1,
                Ok(found) if *found == written => after += 1,
                _ => {
                    let found = found.map(|found| found.0);
                    let whole =
                        [(&old, &acknowledged), (&new, &written)].map(|(dir, account)| judge(dir, account));
                    let kept = copies.keep();
                    panic!(
                        "round {round}, step {step}: found {found:?}; acknowledged {:?}, written {:?}; \
                         the copies before and after, uncut: {whole:?}; kept in {}",
                        acknowledged.0,
                        written.0,
                        kept.display()
                    );
                }
            }
            let mut log = opened.unwrap();
            let next = log.bounds().last.map_or(0, |l| l.index + 1);
            log.append(&[stored(9, next, 10)]).unwrap();
            drop(log);
            fs::remove_dir_all(&target).unwrap();
        }
        fs::remove_dir_all(&old).unwrap();
        fs::remove_dir_all(&new).unwrap();
    }
    println!(
        "power cuts: {before} before the change, {after} after it, {refused} refused, none lost silently"
    );
    assert!(before > 0 && after > 0, "the trials try nothing");
    // One bad moment can spoil all four cuts of its round; more than that would be a fault of ours.
    assert!(refused <= 4 + (before + after) / 100, "{refused} refused");
}

#[test]
fn a_change_that_only_the_witness_has_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let old = tempfile::tempdir().unwrap();
    let mut log = open_in(dir.path());
    log.append(&[stored(1, 0, 10)]).unwrap();
    copy_directory(dir.path(), old.path());
    log.append(&[stored(1, 1, 10)]).unwrap();
    let written = account(&log);
    // sled's files as they were, the witness as it is.
    fs::copy(dir.path().join(witness::FILE), old.path().join(witness::FILE)).unwrap();
    assert_eq!(account(&open_in(old.path())), written);
    // Two changes behind is a loss.
    copy_directory(&old.path().join("log"), &old.path().join("kept"));
    log.save_vote(vote(1)).unwrap();
    log.save_vote(vote(2)).unwrap();
    fs::copy(dir.path().join(witness::FILE), old.path().join(witness::FILE)).unwrap();
    assert!(matches!(SledLog::open(old.path(), CACHE), Err(OpenError::Damaged { .. })));
    // One ahead was never acknowledged, and may stay.
    drop(log);
    let mut torn = fs::read(dir.path().join(witness::FILE)).unwrap();
    torn[20] ^= 1;
    fs::write(dir.path().join(witness::FILE), &torn).unwrap();
    assert_eq!(open_in(dir.path()).read_vote(), Some(vote(2)));
}

/// Changes what sled holds behind the back of the log and of the witness, as a lost or returned page would.
#[test]
fn entries_that_are_not_what_was_written_are_damage() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_in(dir.path());
    log.append(&(0..20).map(|i| stored(1, i, 5000)).collect::<Vec<_>>()).unwrap();
    log.purge_up_to(position(1, 4)).unwrap();
    drop(log);
    let key = layout::key;
    type Tamper<'a> = &'a dyn Fn(&sled::Db);
    let copy = |db: &sled::Db, from: [u8; 13], to: [u8; 13]| {
        let value = db.get(from).unwrap().unwrap();
        db.insert(to, value).unwrap();
    };
    let cases: [(&str, Tamper<'_>); 8] = [
        ("one is gone", &|db| (0..2).for_each(|chunk| drop(db.remove(key(9, chunk)).unwrap()))),
        ("the first is gone", &|db| (0..2).for_each(|chunk| drop(db.remove(key(5, chunk)).unwrap()))),
        ("the last is gone", &|db| (0..2).for_each(|chunk| drop(db.remove(key(19, chunk)).unwrap()))),
        ("a part is gone", &|db| drop(db.remove(key(9, 1)).unwrap())),
        ("a purged one is back", &|db| (0..2).for_each(|chunk| copy(db, key(5, chunk), key(4, chunk)))),
        ("one is another", &|db| (0..2).for_each(|chunk| copy(db, key(8, chunk), key(9, chunk)))),
        ("an earlier version is back", &|db| {
            let mut ops = Vec::new();
            layout::put_entry(&mut ops, &stored(2, 9, 5000), 1);
            db.apply_batch(ops.iter().fold(sled::Batch::default(), |mut batch, op| {
                if let Op::Put(key, value) = op {
                    batch.insert(key.as_slice(), value.as_slice());
                }
                batch
            }))
            .unwrap();
        }),
        ("a key is nobody's", &|db| drop(db.insert(b"e?", b"").unwrap())),
    ];
    for (name, tamper) in cases {
        let copy = tempfile::tempdir().unwrap();
        copy_directory(dir.path(), copy.path());
        let db = sled::Config::new().path(copy.path().join("log")).open().unwrap();
        tamper(&db);
        drop(db);
        assert!(matches!(SledLog::open(copy.path(), CACHE), Err(OpenError::Damaged { .. })), "{name}");
    }
    open_in(dir.path());
}

#[test]
fn a_missing_file_is_damage_but_an_empty_directory_is_a_new_log() {
    hush_sled();
    for missing in [witness::FILE, "log/db", "log"] {
        let (template, _) = template();
        let path = template.path().join(missing);
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap()
        } else {
            fs::remove_file(&path).unwrap()
        }
        assert!(matches!(SledLog::open(template.path(), CACHE), Err(OpenError::Damaged { .. })), "{missing}");
    }
    let dir = tempfile::tempdir().unwrap();
    // Created, and cut off before sled was.
    witness::create(dir.path()).unwrap();
    open_in(dir.path());
}

/// Prints what a durable append costs beside one bare write and fdatasync. Run with `--ignored --nocapture`, in release.
#[test]
#[ignore = "a measurement"]
fn latency_of_a_durable_append() {
    let dir =
        tempfile::tempdir_in(std::env::var_os("VLTAVA_BENCH_DIR").unwrap_or("/var/tmp".into())).unwrap();
    let file = fs::OpenOptions::new().create_new(true).write(true).open(dir.path().join("bare")).unwrap();
    file.write_all_at(&vec![0; 1 << 20], 0).unwrap();
    file.sync_all().unwrap();
    let rounds = 5000u64;
    let time = |name: &str, act: &mut dyn FnMut(u64)| {
        let mut times: Vec<Duration> = Vec::new();
        for round in 0..rounds {
            let start = Instant::now();
            act(round);
            times.push(start.elapsed());
        }
        times.sort();
        let at = |share: usize| times[times.len() * share / 1000];
        println!("{name}: p50 {:?}, p90 {:?}, p99 {:?}, p99.9 {:?}", at(500), at(900), at(990), at(999));
    };
    time("bare write and fdatasync, 200 bytes", &mut |round| {
        file.write_all_at(&[round as u8; 200], round * 200 % (1 << 20)).unwrap();
        file.sync_data().unwrap();
    });
    let mut log = open_in(&dir.path().join("raft"));
    time("durable append, 200 bytes", &mut |round| log.append(&[stored(1, round, 200)]).unwrap());
    let size: u64 = files(dir.path()).iter().map(|f| fs::metadata(f).unwrap().len()).sum();
    println!("on disk after {rounds} appends: {} KiB", size / 1024);
    time("durable append, 200 bytes, and purge", &mut |round| {
        log.append(&[stored(1, rounds + round, 200)]).unwrap();
        if round % 1000 == 999 {
            log.purge_up_to(position(1, round)).unwrap();
        }
    });
    let start = Instant::now();
    drop(log);
    let closed = start.elapsed();
    let start = Instant::now();
    open_in(&dir.path().join("raft"));
    println!("close {closed:?}, open with {rounds} entries {:?}", start.elapsed());
}
