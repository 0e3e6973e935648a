//! The adversary itself must be trusted: what it loses, what it keeps, and that it repeats itself.

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::super::{create_dir_durably, suite};
use super::*;

fn path(name: &str) -> PathBuf {
    Path::new("/disk").join(name)
}

fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

fn read(storage: &MemoryStorage, name: &str) -> Option<Vec<u8>> {
    let file = storage.open(&path(name)).ok()?;
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(0, &mut bytes).unwrap();
    Some(bytes)
}

/// A durable file `f` holding "old".
fn with_file(storage: MemoryStorage) -> (MemoryStorage, Arc<dyn StorageFile>) {
    storage.create_dir_all(Path::new("/disk")).unwrap();
    storage.sync_dir(Path::new("/")).unwrap();
    let file = storage.create(&path("f")).unwrap();
    file.write_at(0, b"old").unwrap();
    file.sync_data().unwrap();
    storage.sync_dir(Path::new("/disk")).unwrap();
    (storage, file)
}

#[test]
fn keeps_the_contract_of_storage() {
    suite::run(&MemoryStorage::new(), Path::new("/"));
}

#[test]
fn only_what_was_synced_survives_a_power_cut() {
    let (storage, file) = with_file(MemoryStorage::new());
    file.write_at(0, b"newer").unwrap();
    storage.create(&path("g")).unwrap().sync_data().unwrap();
    storage.rename(&path("f"), &path("h")).unwrap();
    let lost = storage.survivor(&mut rng(1), CrashMode::LoseUnsynced);
    assert_eq!(read(&lost, "f").unwrap(), b"old");
    assert_eq!(read(&lost, "g"), None, "syncing a file does not sync its name");
    let kept = storage.survivor(&mut rng(1), CrashMode::Kill);
    assert_eq!(kept.list(Path::new("/disk")).unwrap(), ["g", "h"]);
    assert_eq!(read(&kept, "h").unwrap(), b"newer");
}

#[test]
fn what_a_killed_process_did_not_sync_is_lost_by_a_later_power_cut() {
    let (storage, file) = with_file(MemoryStorage::new());
    file.write_at(0, b"newer").unwrap();
    let killed = storage.crash(&mut rng(1), CrashMode::Kill);
    assert_eq!(read(&killed, "f").unwrap(), b"newer");
    assert_eq!(read(&killed.survivor(&mut rng(1), CrashMode::LoseUnsynced), "f").unwrap(), b"old");
    killed.open(&path("f")).unwrap().sync_data().unwrap();
    assert_eq!(read(&killed.survivor(&mut rng(1), CrashMode::LoseUnsynced), "f").unwrap(), b"newer");
}

#[test]
fn rot_hits_what_was_synced_and_is_known_until_it_is_overwritten() {
    let (storage, file) = with_file(MemoryStorage::new());
    storage.create(&path("never synced")).unwrap().write_at(0, b"new").unwrap();
    assert_eq!(storage.rot(&mut rng(1), &|path| path.ends_with("never synced")), None);
    let rot = storage.rot(&mut rng(1), &|_| true).unwrap();
    assert_eq!(rot.path, path("f"));
    assert_ne!(read(&storage, "f").unwrap(), b"old");
    assert_eq!(read(&storage, "f").unwrap()[rot.at], rot.byte);
    assert_eq!(read(&storage.survivor(&mut rng(1), CrashMode::LoseUnsynced), "f"), read(&storage, "f"));
    assert!(storage.has(&rot));
    file.write_at(0, b"old").unwrap();
    file.sync_data().unwrap();
    assert!(!storage.has(&rot));
}

#[test]
fn a_crashed_storage_answers_no_more() {
    let (storage, file) = with_file(MemoryStorage::new());
    let survivor = storage.crash(&mut rng(1), CrashMode::Kill);
    assert!(file.write_at(0, b"ghost").is_err());
    assert!(file.sync_data().is_err());
    assert!(storage.open(&path("f")).is_err());
    assert_eq!(read(&survivor, "f").unwrap(), b"old");
}

#[test]
fn tearing_keeps_any_set_of_sectors() {
    let (storage, file) = with_file(MemoryStorage::new());
    file.write_at(0, &[1; 2048]).unwrap();
    let mut shapes = BTreeSet::new();
    for seed in 0..400 {
        let torn = read(&storage.survivor(&mut rng(seed), CrashMode::Tear), "f").unwrap();
        assert!(torn.len() == 3 || torn.len() == 2048);
        let sectors: Vec<u8> = torn.chunks(512).map(|sector| sector[sector.len() - 1]).collect();
        shapes.insert(sectors);
    }
    assert_eq!(shapes.len(), 16 + 2, "every subset of four sectors, and both of a file that did not grow");
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let (storage, file) = with_file(MemoryStorage::recording());
    for i in 0..20 {
        file.write_at(i * 300, &[i as u8; 400]).unwrap();
        storage.create(&path(&format!("n{i}"))).unwrap();
    }
    for mode in CrashMode::ALL {
        let states: Vec<_> = [7, 7, 8]
            .iter()
            .map(|seed| {
                let survivor = storage.at(storage.operations()).survivor(&mut rng(*seed), mode);
                (read(&survivor, "f"), survivor.list(Path::new("/disk")).unwrap())
            })
            .collect();
        assert_eq!(states[0], states[1]);
        let random = matches!(mode, CrashMode::Reorder | CrashMode::Tear);
        assert_eq!(states[0] != states[2], random, "{mode:?}");
    }
}

#[test]
fn a_recorded_run_can_be_entered_anywhere() {
    let (storage, file) = with_file(MemoryStorage::recording());
    let before = storage.operations();
    file.write_at(0, b"new").unwrap();
    let written = storage.operations();
    file.sync_data().unwrap();
    let at = |operations| {
        read(&storage.at(operations).survivor(&mut rng(1), CrashMode::LoseUnsynced), "f").unwrap()
    };
    assert_eq!(at(before), b"old");
    assert_eq!(at(written), b"old");
    assert_eq!(at(storage.operations()), b"new");
}

#[test]
fn a_failed_sync_loses_what_it_was_to_keep_and_the_next_claims_success() {
    let (storage, file) = with_file(MemoryStorage::new());
    let fault =
        Fault { at: FaultPoint::SyncData, path: "/f".into(), after: 0, times: 1, error: ErrorKind::Other };
    storage.inject(fault);
    file.write_at(0, b"new").unwrap();
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    assert_eq!(read(&storage, "f").unwrap(), b"new");
    assert_eq!(read(&storage.survivor(&mut rng(1), CrashMode::LoseUnsynced), "f").unwrap(), b"old");
}

#[test]
fn a_full_disk_takes_what_fits() {
    let (storage, file) = with_file(MemoryStorage::new());
    storage.set_capacity(Some(5));
    assert_eq!(file.write_at(1, b"abcdefgh").err().map(|error| error.kind()), Some(ErrorKind::StorageFull));
    assert_eq!(read(&storage, "f").unwrap(), b"oabcd");
    file.write_at(0, b"fits!").unwrap();
    assert_eq!(file.allocate_zeroed(6).err().map(|error| error.kind()), Some(ErrorKind::StorageFull));
    storage.set_capacity(Some(6));
    file.allocate_zeroed(6).unwrap();
}

#[test]
fn a_directory_is_durable_with_all_that_leads_to_it() {
    let storage = MemoryStorage::new();
    let dir = Path::new("/a/b/c");
    create_dir_durably(&storage, dir).unwrap();
    assert!(storage.survivor(&mut rng(1), CrashMode::LoseUnsynced).exists(dir).unwrap());
    create_dir_durably(&storage, Path::new("relative")).unwrap();
    assert!(storage.survivor(&mut rng(1), CrashMode::LoseUnsynced).exists(Path::new("relative")).unwrap());
}

#[test]
fn flipped_bits_stay_flipped() {
    let (storage, _file) = with_file(MemoryStorage::new());
    storage.flip_bit(&path("f"), 1, 0);
    assert_eq!(read(&storage, "f").unwrap(), b"omd");
    assert_eq!(read(&storage.survivor(&mut rng(1), CrashMode::LoseUnsynced), "f").unwrap(), b"omd");
}
