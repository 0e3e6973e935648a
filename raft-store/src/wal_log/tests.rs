//! The log against a plain twin and against sled's, across files, and against what stops and damage leave.

mod resync;

use std::path::Path;

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use vltava_storage::{CrashMode, Fault, FaultPoint, MemoryStorage, RealStorage};

use super::*;
use crate::memory_log::MemoryLog;
use crate::sled_log::SledLog;
use crate::testing::{account, play, position, steps, stored, trials, vote};

/// Small enough that a few calls fill a file, and that some groups do not fit into a slot.
const TINY: WalOptions = WalOptions { file_bytes: 16 << 10, slot_bytes: 1024, log_id: 42 };
const DIR: &str = "/raft";

fn memory() -> MemoryStorage {
    let storage = MemoryStorage::new();
    storage.create_dir_all(Path::new(DIR)).unwrap();
    storage.sync_dir(Path::new("/")).unwrap();
    storage
}

fn try_open(storage: &MemoryStorage) -> Result<WalLog, OpenError> {
    WalLog::open(Arc::new(storage.clone()), Path::new(DIR), TINY)
}

fn open_in(storage: &MemoryStorage) -> WalLog {
    try_open(storage).unwrap()
}

fn file_names(storage: &MemoryStorage) -> Vec<String> {
    storage.list(&Path::new(DIR).join(DIRECTORY)).unwrap()
}

fn path(number: u64) -> PathBuf {
    Path::new(DIR).join(DIRECTORY).join(file::name(FileNumber(number)))
}

fn overwrite(storage: &MemoryStorage, path: &Path, position: u64, bytes: &[u8]) {
    storage.open(path).unwrap().write_at(position, bytes).unwrap();
}

fn damage_of(storage: &MemoryStorage) -> String {
    match try_open(storage) {
        Err(OpenError::Damaged { what, .. }) => what,
        other => panic!("no damage, but {other:?}"),
    }
}

#[test]
fn what_was_written_is_there_after_opening_again() {
    let storage = memory();
    let mut log = open_in(&storage);
    assert_eq!(account(&log), (LogBounds::default(), None, None, vec![]));
    log.save_vote(vote(3)).unwrap();
    let entries: Vec<_> = (0..200).map(|i| stored(3, i, 100)).collect();
    for pair in entries.chunks(2) {
        log.append(pair).unwrap();
    }
    log.note_committed(Some(position(3, 40)));
    log.save_committed().unwrap();
    log.purge_up_to(position(3, 9)).unwrap();
    log.truncate_from(195).unwrap();
    let before = account(&log);
    assert!(file_names(&storage).len() > 2, "it rolled: {:?}", file_names(&storage));
    drop(log);
    assert_eq!(account(&open_in(&storage)), before);
    assert_eq!(before.0, LogBounds { purged: Some(position(3, 9)), last: Some(position(3, 194)) });
    assert_eq!(before.3, entries[10..195]);
}

#[test]
fn it_works_on_a_real_disk_and_zeroes_its_room_ahead() {
    let dir = tempfile::tempdir().unwrap();
    let open = || WalLog::open(RealStorage::shared(), dir.path(), WalOptions::new(7)).unwrap();
    let mut log = open();
    let newest = dir.path().join("wal").join(file::name(FileNumber::FIRST));
    assert_eq!(std::fs::metadata(&newest).unwrap().len(), WalOptions::new(7).file_bytes);
    for index in 0..300 {
        log.append(&[stored(1, index, 5000)]).unwrap();
    }
    assert_eq!(std::fs::metadata(&newest).unwrap().len(), WalOptions::new(7).file_bytes);
    let before = account(&log);
    assert!(matches!(
        WalLog::open(RealStorage::shared(), dir.path(), WalOptions::new(7)),
        Err(OpenError::InUse { .. })
    ));
    drop(log);
    assert_eq!(account(&open()), before);
}

#[test]
fn a_group_larger_than_a_file_gets_a_file_that_holds_it() {
    let storage = memory();
    let mut log = open_in(&storage);
    let sizes = [10, 40_000, 0, 300_000, 20, 1_000];
    let entries: Vec<_> = sizes.iter().enumerate().map(|(i, size)| stored(1, i as u64, *size)).collect();
    for entry in &entries {
        log.append(std::slice::from_ref(entry)).unwrap();
    }
    drop(log);
    let mut log = open_in(&storage);
    assert_eq!(log.read(0..100, usize::MAX).unwrap(), entries);
    assert_eq!(log.read(1..100, 10).unwrap(), entries[1..2]);
    assert_eq!(log.read(2..4, 1000).unwrap(), entries[2..3]);
    log.truncate_from(1).unwrap();
    log.append(&[stored(2, 1, 5)]).unwrap();
    drop(log);
    assert_eq!(open_in(&storage).read(0..100, usize::MAX).unwrap(), [stored(1, 0, 10), stored(2, 1, 5)]);
}

#[test]
fn purged_files_go_and_the_vote_stays() {
    let storage = memory();
    let mut log = open_in(&storage);
    log.save_vote(vote(6)).unwrap();
    for index in 0..400 {
        log.append(&[stored(1, index, 200)]).unwrap();
        if index % 50 == 49 {
            log.purge_up_to(position(1, index - 10)).unwrap();
            assert!(file_names(&storage).len() <= 3, "{:?}", file_names(&storage));
        }
    }
    let before = account(&log);
    drop(log);
    assert!(!storage.exists(&path(1)).unwrap());
    assert_eq!(account(&open_in(&storage)), before);
    assert_eq!(before.1, Some(vote(6)));
}

#[test]
fn what_would_break_the_log_is_refused_and_changes_nothing() {
    let storage = memory();
    let mut log = open_in(&storage);
    log.append(&(0..10).map(|i| stored(2, i, 8)).collect::<Vec<_>>()).unwrap();
    log.purge_up_to(position(2, 3)).unwrap();
    log.note_committed(Some(position(2, 6)));
    let before = account(&log);
    for bad in [stored(2, 11, 1), stored(2, 9, 1), stored(1, 10, 1)] {
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
fn the_first_failed_write_or_sync_is_final_and_costs_nothing_acknowledged() {
    for at in [FaultPoint::Write, FaultPoint::SyncData, FaultPoint::SyncDir, FaultPoint::Name] {
        for after in 0..60 {
            let storage = memory();
            let mut log = open_in(&storage);
            let fault = Fault { at, path: DIR.into(), after, times: 1, error: std::io::ErrorKind::Other };
            storage.inject(fault);
            let mut twin = MemoryLog::default();
            let mut tried = twin.clone();
            let mut failed = false;
            for index in 0..60 {
                let entry = [stored(1, index, 900)];
                tried = twin.clone();
                tried.append(&entry).unwrap();
                if index % 20 == 19 {
                    tried.purge_up_to(position(1, index - 2)).unwrap();
                }
                let done = log.append(&entry).and_then(|()| match index % 20 {
                    19 => log.purge_up_to(position(1, index - 2)),
                    _ => Ok(()),
                });
                if let Err(error) = done {
                    assert!(matches!(error, LogError::Io { .. }), "{error}");
                    failed = true;
                    break;
                }
                twin = tried.clone();
            }
            if !failed {
                break;
            }
            let again = log.save_vote(vote(1));
            assert!(matches!(again, Err(LogError::Failed(_))), "{at:?} {after}: {again:?}");
            drop(log);
            // The process dies and comes back to the same cache, goes on with what it finds, and then the power goes.
            let mut log = open_in(&storage);
            let found = account(&log);
            let mut partly = twin.clone();
            let next = twin.bounds().last.map_or(0, |last| last.index + 1);
            partly.append(&[stored(1, next, 900)]).unwrap();
            let legal = [account(&twin), account(&partly), account(&tried)];
            assert!(legal.contains(&found), "{at:?} {after}: {:?}", found.0);
            let reported = storage.survivor(&mut StdRng::seed_from_u64(after), CrashMode::LoseUnsynced);
            assert_eq!(
                account(&open_in(&reported)),
                found,
                "{at:?} {after}: what it reports right away is durable"
            );
            log.save_vote(vote(9)).unwrap();
            let written = account(&log);
            drop(log);
            let survivor = storage.survivor(&mut StdRng::seed_from_u64(after), CrashMode::LoseUnsynced);
            assert_eq!(account(&open_in(&survivor)), written, "{at:?} {after}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: trials("VLTAVA_RAFT_MODEL_TRIALS", 300) as u32,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(7),
        ..ProptestConfig::default()
    })]

    #[test]
    fn it_does_what_the_plain_twin_does_also_when_opened_again_after_every_step(steps in steps(40)) {
        let storage = memory();
        let mut log = open_in(&storage);
        let mut twin = MemoryLog::default();
        for (step, open_again) in steps {
            let (did, should) = (play(&mut log, &step), play(&mut twin, &step));
            prop_assert_eq!(did, should, "{:?}", step);
            if open_again {
                drop(log);
                log = open_in(&storage);
            }
            prop_assert_eq!(account(&log), account(&twin), "{:?}", step);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: trials("VLTAVA_RAFT_MODEL_TRIALS", 16) as u32,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(11),
        ..ProptestConfig::default()
    })]

    #[test]
    fn all_three_logs_do_the_same(steps in steps(16)) {
        let storage = memory();
        let dir = tempfile::tempdir().unwrap();
        let mut wal = open_in(&storage);
        let mut sled = SledLog::open(dir.path(), 16 << 20).unwrap();
        let mut twin = MemoryLog::default();
        for (step, open_again) in steps {
            let should = play(&mut twin, &step);
            prop_assert_eq!(play(&mut wal, &step), should.clone(), "{:?}", step);
            prop_assert_eq!(play(&mut sled, &step), should, "{:?}", step);
            if open_again {
                drop((wal, sled));
                wal = open_in(&storage);
                sled = SledLog::open(dir.path(), 16 << 20).unwrap();
            }
            prop_assert_eq!(account(&wal), account(&twin), "{:?}", step);
            prop_assert_eq!(account(&sled), account(&twin), "{:?}", step);
        }
    }
}

/// A log with one small group after the other in one file; says where each lies.
fn three_groups() -> (MemoryStorage, Vec<u64>) {
    let storage = memory();
    let mut log = open_in(&storage);
    let mut places = Vec::new();
    for index in 0..3 {
        places.push(log.position);
        log.append(&[stored(1, index, 100)]).unwrap();
    }
    (storage, places)
}

fn last_index(storage: &MemoryStorage) -> u64 {
    open_in(storage).bounds().last.unwrap().index
}

#[test]
fn a_damaged_newest_group_is_restored_from_its_slot_and_the_other_way_round() {
    let (storage, places) = three_groups();
    for page in [places[2], 8192, 8192 + 1024] {
        overwrite(&storage, &path(1), page, &[0; 512]);
        assert_eq!(last_index(&storage), 2, "{page}");
        // And it is mended.
        let whole = storage.open(&path(1)).unwrap();
        let mut bytes = [0; 4];
        whole.read_exact_at(places[2], &mut bytes).unwrap();
        assert_eq!(&bytes, b"VLWG");
    }
}

#[test]
fn the_newest_group_is_the_only_one_that_may_be_missing() {
    // Neither the group nor its slot: it was never acknowledged.
    let (storage, places) = three_groups();
    overwrite(&storage, &path(1), places[2], &[0; 512]);
    overwrite(&storage, &path(1), 8192 + 1024, &[0; 1024]);
    assert_eq!(last_index(&storage), 1);
    // Both are there, and wrong: no crash does that.
    let (storage, places) = three_groups();
    overwrite(&storage, &path(1), places[2] + 60, &[0xff; 4]);
    overwrite(&storage, &path(1), 8192 + 1024 + 90, &[0xff; 4]);
    assert!(damage_of(&storage).contains("no crash leaves both like that"));
    // An earlier one that no slot has any more: the later ones speak for it.
    let (storage, places) = three_groups();
    overwrite(&storage, &path(1), places[0] + 60, &[0xff; 4]);
    assert!(damage_of(&storage).contains("change 1 cannot be read"));
    // Even where of the later one only its slot is left.
    overwrite(&storage, &path(1), places[0], &[0; 1536]);
    assert!(damage_of(&storage).contains("as change 3 shows"));
    // Even where of the later one only its head is left.
    let (storage, places) = three_groups();
    overwrite(&storage, &path(1), places[1], &[0; 512]);
    overwrite(&storage, &path(1), places[2] + 60, &[0xff; 4]);
    overwrite(&storage, &path(1), 8192, &[0; 2048]);
    assert!(damage_of(&storage).contains("as change 3 shows"));
}

#[test]
fn a_group_that_no_slot_holds_is_proved_by_its_slot() {
    let storage = memory();
    let mut log = open_in(&storage);
    log.append(&[stored(1, 0, 10)]).unwrap();
    let place = log.position;
    log.append(&[stored(1, 1, 4000)]).unwrap();
    drop(log);
    let mut rng = StdRng::seed_from_u64(1);
    let damaged = storage.survivor(&mut rng, CrashMode::Kill);
    overwrite(&damaged, &path(1), place + 2000, &[0; 512]);
    assert!(damage_of(&damaged).contains("as change 2 shows"));
    // Without the proof it was never acknowledged.
    overwrite(&damaged, &path(1), 8192, &[0; 512]);
    assert_eq!(last_index(&damaged), 0);
    // The proof alone may be lost.
    overwrite(&storage, &path(1), 8192, &[0; 512]);
    assert_eq!(last_index(&storage), 1);
}

/// Fills the first file and goes on in the second.
fn two_files() -> MemoryStorage {
    let storage = memory();
    let mut log = open_in(&storage);
    while log.files.len() < 2 {
        let next = log.bounds().last.map_or(0, |last| last.index + 1);
        log.append(&[stored(1, next, 300)]).unwrap();
    }
    storage
}

#[test]
fn missing_and_foreign_files_are_damage() {
    let storage = two_files();
    let copy = || storage.survivor(&mut StdRng::seed_from_u64(1), CrashMode::Kill);
    let first_gone = copy();
    first_gone.remove(&path(1)).unwrap();
    assert!(damage_of(&first_gone).contains("are gone with a file older than 2"));
    let second_gone = copy();
    second_gone.remove(&path(2)).unwrap();
    assert!(damage_of(&second_gone).contains("file 2 of it is gone"));
    let both_gone = copy();
    both_gone.remove_dir_all(&Path::new(DIR).join(DIRECTORY)).unwrap();
    assert!(damage_of(&both_gone).contains("its files are gone"));
    let cut = copy();
    cut.open(&path(2)).unwrap().set_len(12_000).unwrap();
    assert!(damage_of(&cut).contains("another length"));
    let swapped = copy();
    swapped.rename(&path(2), &path(3)).unwrap();
    swapped.rename(&path(1), &path(2)).unwrap();
    assert!(damage_of(&swapped).contains("is another file"));
    let both_headers = copy();
    overwrite(&both_headers, &path(2), 0, &[0; 8192]);
    assert!(damage_of(&both_headers).contains("its header cannot be read"));
    // What the whole directory says of itself is needed only when nothing else is left.
    let origin = copy();
    origin.remove(&Path::new(DIR).join(ORIGIN)).unwrap();
    let whole = account(&open_in(&storage));
    assert_eq!(account(&open_in(&origin)), whole);
    assert!(origin.exists(&Path::new(DIR).join(ORIGIN)).unwrap(), "it is written again");
    let other = copy();
    origin::write(&other, Path::new(DIR), 43).unwrap();
    assert!(damage_of(&other).contains("belongs to another log"));
}

#[test]
fn a_newer_format_is_told_from_damage() {
    let storage = two_files();
    let mut page = [0; format::HEADER_BYTES];
    let file = storage.open(&path(2)).unwrap();
    file.read_exact_at(0, &mut page).unwrap();
    page[8] = 2;
    let end = format::HEADER_BYTES - 4;
    let crc = crc32c::crc32c(&page[..end]);
    page[end..].copy_from_slice(&crc.to_le_bytes());
    file.write_at(0, &page).unwrap();
    file.write_at(format::HEADER_BYTES as u64, &page).unwrap();
    let error = try_open(&storage).unwrap_err();
    assert!(matches!(error, OpenError::Newer { what: "version", number: 2, .. }), "{error}");
    assert!(error.to_string().contains("newer release"), "{error}");
}

#[test]
fn a_file_that_was_made_and_not_yet_named_is_made_again() {
    let storage = memory();
    storage.record();
    let mut log = open_in(&storage);
    let mut accounts = vec![(storage.operations(), account(&log))];
    while log.files.len() < 3 {
        let next = log.bounds().last.map_or(0, |last| last.index + 1);
        log.append(&[stored(1, next, 300)]).unwrap();
        accounts.push((storage.operations(), account(&log)));
    }
    // With all that was written until then, whatever moment it is.
    for operations in accounts[0].0..=storage.operations() {
        let mut rng = StdRng::seed_from_u64(7);
        let survivor = storage.at(operations).survivor(&mut rng, CrashMode::Kill);
        let mut log = open_in(&survivor);
        let at = accounts.iter().rposition(|(done, _)| *done <= operations).unwrap();
        let found = account(&log);
        let legal = found == accounts[at].1 || accounts.get(at + 1).is_some_and(|next| found == next.1);
        assert!(legal, "after {operations}: {:?}", found.0);
        let next = found.0.last.map_or(0, |last| last.index + 1);
        for index in next..next + 20 {
            log.append(&[stored(1, index, 300)]).unwrap();
        }
        let written = account(&log);
        drop(log);
        assert_eq!(account(&open_in(&survivor)), written);
    }
}

#[test]
fn files_that_came_back_behind_a_gap_are_removed() {
    let storage = memory();
    let mut log = open_in(&storage);
    let back = storage.survivor(&mut StdRng::seed_from_u64(1), CrashMode::Kill);
    let first = back.open(&path(1)).unwrap();
    let mut bytes = vec![0; first.len().unwrap() as usize];
    first.read_exact_at(0, &mut bytes).unwrap();
    for index in 0..200 {
        log.append(&[stored(1, index, 300)]).unwrap();
    }
    log.purge_up_to(position(1, 180)).unwrap();
    let before = account(&log);
    drop(log);
    assert!(!storage.exists(&path(1)).unwrap() && !storage.exists(&path(2)).unwrap());
    storage.create(&path(1)).unwrap().write_at(0, &bytes).unwrap();
    assert_eq!(account(&open_in(&storage)), before);
    assert!(!storage.exists(&path(1)).unwrap());
}
