//! What a pool must keep: its limit, every byte, the order of syncing and closing, and its temper when nothing can be opened.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::{CrashMode, Fault, FaultPoint, MemoryStorage, RealStorage, suite};

const DIR: &str = "/disk";

fn disk() -> MemoryStorage {
    let storage = MemoryStorage::new();
    storage.create_dir_all(Path::new(DIR)).unwrap();
    storage.sync_dir(Path::new("/")).unwrap();
    storage
}

fn path(n: usize) -> std::path::PathBuf {
    Path::new(DIR).join(format!("f{n}"))
}

fn impatient(_: Duration) {
    panic!("nothing has to be waited for here");
}

fn pool(storage: &MemoryStorage, max: usize) -> FilePool {
    FilePool::new(Arc::new(storage.clone()), max, impatient)
}

fn bytes(file: &PooledFile) -> Vec<u8> {
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn its_storage_keeps_the_contract_of_storage() {
    suite::run(&*pool(&MemoryStorage::new(), 3).storage(), Path::new("/"));
    let dir = tempfile::tempdir().unwrap();
    suite::run(&*FilePool::new(RealStorage::shared(), 3, impatient).storage(), dir.path());
}

#[test]
fn many_files_are_served_by_few_that_are_open() {
    for max in [1, 2, 7, 100] {
        let storage = disk();
        let pool = pool(&storage, max);
        let files: Vec<_> = (0..60).map(|n| pool.create(&path(n)).unwrap()).collect();
        let mut expected: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        let mut rng = StdRng::seed_from_u64(max as u64);
        for _ in 0..3_000 {
            let n = rng.random_range(0..files.len());
            let known = expected.entry(n).or_default();
            if rng.random_bool(0.5) {
                files[n].write_at(known.len() as u64, &[n as u8]).unwrap();
                known.push(n as u8);
            } else {
                assert_eq!(&bytes(&files[n]), known);
            }
            assert!(storage.open_files() <= max, "{} open", storage.open_files());
            assert_eq!(pool.metrics().open, storage.open_files() as u64);
        }
        drop(files);
        assert_eq!((storage.open_files(), pool.metrics().open), (0, 0));
    }
}

#[test]
fn what_was_written_is_synced_before_a_file_is_closed() {
    let storage = disk();
    let pool = pool(&storage, 1);
    let first = pool.create(&path(0)).unwrap();
    first.write_at(0, b"first").unwrap();
    storage.sync_dir(Path::new(DIR)).unwrap();
    let _second = pool.create(&path(1)).unwrap();
    assert_eq!((storage.open_files(), pool.metrics().synced), (1, 1));
    let after = storage.survivor(&mut StdRng::seed_from_u64(1), CrashMode::LoseUnsynced);
    assert_eq!(crate::read_file(&after, &path(0), 100).unwrap(), b"first");
    // Nothing is left to be synced, so the file is not even opened.
    first.sync_data().unwrap();
    assert_eq!(pool.metrics().opened, 2);
    first.write_at(0, b"F").unwrap();
    first.sync_data().unwrap();
    assert_eq!((bytes(&first), pool.metrics().opened), (b"First".to_vec(), 3));
}

#[test]
fn what_an_earlier_process_wrote_is_synced_when_asked_for() {
    let storage = disk();
    storage.create(&path(0)).unwrap().write_at(0, b"old").unwrap();
    storage.sync_dir(Path::new(DIR)).unwrap();
    let pool = pool(&storage, 1);
    let file = pool.open(&path(0)).unwrap();
    let _other = pool.create(&path(1)).unwrap();
    assert_eq!(pool.metrics().synced, 0, "reading a file makes nobody sync it");
    file.sync_data().unwrap();
    let after = storage.survivor(&mut StdRng::seed_from_u64(1), CrashMode::LoseUnsynced);
    assert_eq!(crate::read_file(&after, &path(0), 100).unwrap(), b"old");
}

#[test]
fn a_sync_that_fails_before_closing_is_told_to_whoever_syncs_or_writes_next() {
    let storage = disk();
    let pool = pool(&storage, 1);
    let first = pool.create(&path(0)).unwrap();
    first.write_at(0, b"lost").unwrap();
    let error = io::ErrorKind::Other;
    storage.inject(Fault { at: FaultPoint::SyncData, path: "f0".into(), after: 0, times: 1, error });
    let second = pool.create(&path(1)).unwrap();
    assert_eq!(bytes(&first), b"lost", "it is still there to be read");
    for _ in 0..2 {
        // The disk would say that all is well by now.
        assert!(first.sync_data().is_err());
        assert!(first.write_at(9, b"more").is_err());
    }
    second.write_at(0, b"x").unwrap();
    second.sync_data().unwrap();
}

/// Its next sync takes until it is told to end, and fails then; all others succeed, as a kernel has it.
struct HesitantFile {
    file: Arc<dyn StorageFile>,
    syncs: Arc<Mutex<Vec<Receiver<()>>>>,
    begun: SyncSender<()>,
}

impl StorageFile for HesitantFile {
    fn read_at(&self, pos: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(pos, buf)
    }

    fn write_all_at(&self, pos: u64, slices: &[io::IoSlice<'_>]) -> io::Result<()> {
        self.file.write_all_at(pos, slices)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let held = self.syncs.lock().unwrap().pop();
        self.begun.send(()).unwrap();
        match held {
            Some(end) => {
                end.recv().unwrap();
                Err(io::Error::other("lost"))
            }
            None => Ok(()),
        }
    }

    fn allocate_zeroed(&self, len: u64) -> io::Result<()> {
        self.file.allocate_zeroed(len)
    }
}

#[test]
fn of_two_who_sync_at_once_none_is_told_that_all_is_well_when_it_is_not() {
    let storage = disk();
    let (end, held) = channel();
    let (begun, begins) = sync_channel(9);
    let syncs = Arc::new(Mutex::new(vec![held]));
    let file = HesitantFile { file: storage.create(&path(0)).unwrap(), syncs, begun };
    let pool = FilePool::new(Arc::new(storage.clone()), 1, std::thread::sleep);
    let file: Arc<dyn StorageFile> = Arc::new(file);
    let file = pool.0.claim(super::Patience::Wait, || Ok(file.clone())).unwrap();
    let file = PooledFile::new(pool, &path(0), file);
    file.write_at(0, b"both").unwrap();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| file.sync_data());
        begins.recv().unwrap();
        let second = scope.spawn(|| file.sync_data());
        // It waits for its turn, or has returned by now.
        let deadline = std::time::Instant::now() + Duration::from_millis(50);
        while !second.is_finished() && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        end.send(()).unwrap();
        assert!(first.join().unwrap().is_err() && second.join().unwrap().is_err());
    });
}

#[test]
fn files_are_closed_when_the_system_has_no_descriptors_left() {
    let storage = disk();
    let pool = pool(&storage, 100);
    let files: Vec<_> = (0..10).map(|n| pool.create(&path(n)).unwrap()).collect();
    files.iter().for_each(|file| file.write_at(0, b"x").unwrap());
    storage.set_descriptors(Some(10));
    pool.storage().sync_dir(Path::new(DIR)).unwrap();
    let more: Vec<_> = (10..20).map(|n| pool.create(&path(n)).unwrap()).collect();
    files.iter().chain(&more).for_each(|file| file.ready().unwrap());
    let metrics = pool.metrics();
    assert!(metrics.exhausted > 10 && storage.open_files() <= 10, "{metrics:?}");
}

#[test]
fn what_cannot_be_opened_is_refused_or_waited_for_and_never_anything_else() {
    static PAUSES: AtomicUsize = AtomicUsize::new(0);
    static TAKEN: Mutex<Vec<Arc<dyn StorageFile>>> = Mutex::new(Vec::new());
    fn free_at_the_third(_: Duration) {
        if PAUSES.fetch_add(1, Ordering::Relaxed) == 2 {
            TAKEN.lock().unwrap().clear();
        }
    }
    let storage = disk();
    let pool = FilePool::new(Arc::new(storage.clone()), 100, free_at_the_third);
    let take_all = || {
        PAUSES.store(0, Ordering::Relaxed);
        storage.set_descriptors(None);
        TAKEN.lock().unwrap().extend((0..5).map(|_| storage.create(Path::new("/others")).unwrap()));
        storage.set_descriptors(Some(5));
        // Whatever the pool had open is closed by the attempt.
        assert!(is_out_of_descriptors(&pool.create(&path(9)).err().unwrap()));
    };
    let file = pool.create(&path(0)).unwrap();
    file.write_at(0, b"abc").unwrap();
    take_all();
    assert!(is_out_of_descriptors(&pool.create(&path(1)).err().unwrap()));
    assert!(is_out_of_descriptors(&file.ready().unwrap_err()));
    assert_eq!(PAUSES.load(Ordering::Relaxed), 0, "who can refuse does not wait");
    type Call<'a> = &'a dyn Fn() -> io::Result<()>;
    let storage_of_all = pool.storage();
    let calls: [Call<'_>; 5] = [
        &|| file.write_at(3, b"d"),
        &|| file.read_exact_at(0, &mut [0; 3]),
        &|| pool.open(&path(0)).map(drop),
        &|| storage_of_all.create(&path(2)).map(drop),
        &|| storage_of_all.list(Path::new(DIR)).map(drop),
    ];
    for call in calls {
        take_all();
        call().unwrap();
        assert_eq!(PAUSES.load(Ordering::Relaxed), 3);
    }
    assert_eq!(bytes(&file), b"abcd");
}

#[test]
fn threads_that_use_the_same_files_lose_nothing() {
    const FILES: usize = 40;
    let dir = tempfile::tempdir().unwrap();
    let pool = FilePool::new(RealStorage::shared(), 4, std::thread::sleep);
    let files: Vec<_> = (0..FILES).map(|n| pool.create(&dir.path().join(n.to_string())).unwrap()).collect();
    let (done, failures) = mpsc::channel::<String>();
    std::thread::scope(|scope| {
        for writer in 0..4_u64 {
            let (files, done) = (&files, done.clone());
            scope.spawn(move || {
                let mut rng = StdRng::seed_from_u64(writer);
                for round in 0..2_000_u64 {
                    let n = rng.random_range(0..FILES);
                    let slot = 8 * (2_000 * writer + round);
                    let wrote = files[n].write_at(slot, &round.to_be_bytes());
                    let mut back = [0; 8];
                    let read = files[n].read_exact_at(slot, &mut back);
                    if rng.random_bool(0.05) {
                        files[n].sync_data().unwrap();
                    }
                    if wrote.is_err() || read.is_err() || u64::from_be_bytes(back) != round {
                        done.send(format!("{writer} {round}: {wrote:?} {read:?}")).unwrap();
                    }
                }
            });
        }
    });
    drop(done);
    assert_eq!(failures.iter().collect::<Vec<_>>(), Vec::<String>::new());
    let metrics = pool.metrics();
    assert!(metrics.closed > 1_000 && metrics.open <= 8, "{metrics:?}");
}
