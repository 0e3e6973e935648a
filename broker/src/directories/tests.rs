//! Tests of directories whose replicas or journals are damaged, through crashes at every point.

mod resync;

use std::path::Path;

use rand::SeedableRng;
use rand::rngs::StdRng;
use vltava_commitlog::durability::{EntryBody, JournalEntry};
use vltava_model::batch::{Batch, BatchBuilder, Compression};
use vltava_model::{LeaderEpoch, PartitionIndex, TopicId};
use vltava_storage::{CrashMode, MemoryStorage};
use vltava_threads::{Bell, queue};

use super::*;

const DIR: &str = "/data";

fn partition(index: u32) -> TopicPartition {
    TopicPartition::new(TopicId::new(7), PartitionIndex::new(index))
}

fn open(storage: &MemoryStorage) -> Directories {
    let input = OpenInput {
        files: FilePool::new(Arc::new(storage.clone()), 100, std::thread::sleep),
        paths: &[DIR.into()],
        node: NodeId::new(1),
        cluster: Some(ClusterId::new(5)),
        journal_file_bytes: 1 << 16,
        min_free_bytes: 0,
    };
    Directories::open(&input).unwrap()
}

fn open_log(directories: &Directories, index: u32) -> Result<Log, OpenLogError> {
    let id = directories.place(partition(index), None).unwrap();
    directories.open_log(id, partition(index), "t", (LogConfig::default(), Scan::Needed), 5)
}

fn wait_done(directories: &Directories, entry: JournalEntry) {
    let id = directories.of(entry.partition).unwrap();
    let (done, finished) = queue::bounded(&Bell::new(), 1);
    let journal = directories.journal(id).unwrap();
    journal.submit(vec![entry], Box::new(move |result| drop(done.send(result)))).unwrap();
    finished.recv().unwrap().unwrap();
}

/// Appends so many batches, each durable by the journal alone.
fn append(directories: &Directories, log: &mut Log, index: u32, batches: u64) {
    for _ in 0..batches {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.append(1_000, None, Some(&[b'v'; 300]), &[]).unwrap();
        let batch = Batch::parse(builder.build()).unwrap();
        let appended = log.append(&batch.with_position(log.log_end(), LeaderEpoch::new(1)), 5).unwrap();
        let body = EntryBody::Append {
            base_offset: appended.base,
            end_offset: appended.end,
            bytes: appended.bytes,
            segment: appended.segment,
        };
        let leader_epoch = LeaderEpoch::new(1);
        wait_done(directories, JournalEntry { partition: partition(index), leader_epoch, body });
    }
}

/// Appends a batch that is left to the page cache.
fn append_unseen(log: &mut Log) {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(1_000, None, Some(b"v"), &[]).unwrap();
    let batch = Batch::parse(builder.build()).unwrap();
    log.append(&batch.with_position(log.log_end(), LeaderEpoch::new(1)), 5).unwrap();
}

fn survivor(storage: &MemoryStorage, seed: u64, mode: CrashMode) -> MemoryStorage {
    storage.survivor(&mut StdRng::seed_from_u64(seed), mode)
}

impl Directories {
    /// What the newest batches of all partitions may still take.
    pub(crate) fn tail_bytes_left(&self) -> usize {
        self.tails.left()
    }
}

#[test]
fn a_crash_at_any_point_of_beginning_anew_leaves_nothing_of_the_old_log() {
    let storage = MemoryStorage::recording();
    let directories = open(&storage);
    directories.replay_done();
    let mut logs = [open_log(&directories, 0).unwrap(), open_log(&directories, 1).unwrap()];
    for (index, log) in (0..).zip(&mut logs) {
        append(&directories, log, index, 6);
        let point = log.sync_point().unwrap();
        point.files.iter().for_each(|file| file.sync_data().unwrap());
        log.synced(&point).unwrap();
        let id = directories.of(partition(index)).unwrap();
        directories.save_points(&[(id, partition(index), log.recovery_point())]);
        append(&directories, log, index, 3);
    }
    drop(logs);
    let id = directories.of(partition(0)).unwrap();
    directories.mark_damaged(id, partition(0), "a bit").unwrap();
    let before = storage.operations();
    directories.begin_anew(id, partition(0)).unwrap();
    let after = storage.operations();
    for operations in before..=after {
        for mode in CrashMode::ALL {
            for seed in 0..3 {
                let disk = survivor(&storage.at(operations), seed, mode);
                let again = open(&disk);
                // The other replica is as it was.
                assert_eq!(open_log(&again, 1).unwrap().log_end(), Offset::new(9));
                let id = again.place(partition(0), None).unwrap();
                if operations < after {
                    // Metadata say until the end that it has to begin anew.
                    again.begin_anew(id, partition(0)).unwrap();
                }
                let log = open_log(&again, 0).unwrap();
                assert_eq!(
                    (log.log_start(), log.log_end()),
                    (Offset::ZERO, Offset::ZERO),
                    "{operations} {mode:?}"
                );
            }
        }
    }
}

/// Fills the first partition's log with so many batches, syncs it, and saves how far; says where it lies.
fn synced(directories: &Directories, batches: u64) -> DirectoryId {
    let mut log = open_log(directories, 0).unwrap();
    append(directories, &mut log, 0, batches);
    let point = log.sync_point().unwrap();
    point.files.iter().for_each(|file| file.sync_data().unwrap());
    log.synced(&point).unwrap();
    let id = directories.of(partition(0)).unwrap();
    directories.save_points(&[(id, partition(0), log.recovery_point())]);
    id
}

/// The journal still says that the log was deleted, and recovery points what the one before had: neither may be held against
/// what comes after, also when the journal never sees it.
#[test]
fn a_log_begun_anew_keeps_what_it_gets_through_further_crashes() {
    for is_journaled in [true, false] {
        let storage = MemoryStorage::recording();
        let directories = open(&storage);
        directories.replay_done();
        let id = synced(&directories, 6);
        let before = storage.operations();
        directories.begin_anew(id, partition(0)).unwrap();
        for operations in before..=storage.operations() {
            let disk = survivor(&storage.at(operations), 1, CrashMode::Kill);
            let again = open(&disk);
            let mut log = open_log(&again, 0).unwrap();
            if log.log_end() > Offset::ZERO {
                continue;
            }
            if is_journaled {
                append(&again, &mut log, 0, 1);
            } else {
                append_unseen(&mut log);
            }
            // What was told the journal before is there by then.
            again.place(partition(1), None).unwrap();
            let body = EntryBody::StartOffset { to: Offset::ZERO };
            let leader_epoch = LeaderEpoch::ZERO;
            wait_done(&again, JournalEntry { partition: partition(1), leader_epoch, body });
            let disk = survivor(&disk, 2, CrashMode::Kill);
            let log = open_log(&open(&disk), 0).unwrap();
            assert_eq!(log.log_end(), Offset::new(1), "{operations}, journaled: {is_journaled}");
        }
    }
}

#[test]
fn a_damaged_journal_costs_the_replicas_of_its_directory_not_the_start() {
    let storage = MemoryStorage::new();
    let directories = open(&storage);
    directories.replay_done();
    for index in [0, 1] {
        let mut log = open_log(&directories, index).unwrap();
        append(&directories, &mut log, index, 4);
    }
    let disk = survivor(&storage, 1, CrashMode::Kill);
    drop(directories);
    let journal = disk.list(&Path::new(DIR).join("journal")).unwrap();
    let file = journal.iter().find(|name| name.ends_with(".journal")).unwrap();
    // Within the first group.
    disk.flip_bit(&Path::new(DIR).join("journal").join(file), 4096 + 100, 3);
    for _ in 0..2 {
        let again = open(&disk);
        for index in [0, 1] {
            match open_log(&again, index) {
                Err(OpenLogError::Damaged(what)) => assert!(what.contains("only the journal held"), "{what}"),
                other => panic!("{:?}", other.map(|log| log.log_end())),
            }
        }
        again.replay_done();
        again.close(Some(BrokerEpoch::new(3)));
    }
    assert!(disk.exists(&Path::new(DIR).join("journal.damaged")).unwrap());
    let again = open(&disk);
    again.begin_anew(again.of(partition(0)).unwrap(), partition(0)).unwrap();
    assert_eq!(open_log(&again, 0).unwrap().log_end(), Offset::ZERO);
    assert!(open_log(&again, 1).is_err());
}

#[test]
fn what_the_journal_has_of_a_marked_replica_is_kept_for_when_it_is_restored() {
    let storage = MemoryStorage::new();
    let directories = open(&storage);
    directories.replay_done();
    let mut log = open_log(&directories, 0).unwrap();
    append(&directories, &mut log, 0, 5);
    let id = directories.of(partition(0)).unwrap();
    directories.mark_damaged(id, partition(0), "a bit").unwrap();
    // Whatever the segments had not synced is gone.
    let disk = survivor(&storage, 2, CrashMode::ALL[CrashMode::ALL.len() - 1]);
    for _ in 0..2 {
        let again = open(&disk);
        assert!(matches!(open_log(&again, 0), Err(OpenLogError::Damaged(_))));
        again.replay_done();
        again.close(Some(BrokerEpoch::new(3)));
    }
    disk.remove(&Path::new(DIR).join(partition(0).to_string()).join("damaged")).unwrap();
    let again = open(&disk);
    let log = again.open_log(id, partition(0), "t", (LogConfig::default(), Scan::All), 5).unwrap();
    assert_eq!(log.log_end(), Offset::new(5));
}

#[test]
fn what_a_later_release_wrote_costs_its_replica_only_and_what_the_journal_has_is_kept() {
    use vltava_storage::Storage;
    use vltava_storage::checkpoint::{CheckpointKind, read_checkpoint, write_checkpoint};

    let storage = MemoryStorage::new();
    let directories = open(&storage);
    directories.replay_done();
    for index in 0..2 {
        let mut log = open_log(&directories, index).unwrap();
        append(&directories, &mut log, index, 5);
    }
    let id = directories.of(partition(0)).unwrap();
    let disk = survivor(&storage, 2, CrashMode::LoseUnsynced);
    let state = Path::new(DIR).join(partition(0).to_string()).join("log-state");
    let kind = CheckpointKind(*b"LOGS");
    let before =
        if disk.exists(&state).unwrap() { read_checkpoint(&disk, &state, kind).unwrap() } else { None };
    write_checkpoint(&disk, &state, kind, 3, b"").unwrap();
    for _ in 0..2 {
        let again = open(&disk);
        match open_log(&again, 0) {
            Err(OpenLogError::Newer(what)) => assert!(what.contains("version 3"), "{what}"),
            other => panic!("{:?}", other.map(|_| ())),
        }
        assert_eq!(open_log(&again, 1).unwrap().log_end(), Offset::new(5));
        assert!(again.failed().is_empty());
        again.replay_done();
        again.close(Some(BrokerEpoch::new(3)));
    }
    match before {
        Some(before) => write_checkpoint(&disk, &state, kind, before.version, &before.payload).unwrap(),
        None => disk.remove(&state).unwrap(),
    }
    let again = open(&disk);
    let log = again.open_log(id, partition(0), "t", (LogConfig::default(), Scan::Needed), 5).unwrap();
    assert_eq!(log.log_end(), Offset::new(5));
}

/// What is not in the file counts as never synced: a file that lost some of it must not come to say that.
#[test]
fn lost_recovery_points_are_written_again_only_when_all_are_known() {
    let storage = MemoryStorage::new();
    let directories = open(&storage);
    directories.replay_done();
    let id = directories.place(partition(0), None).unwrap();
    let of = |directories: &Directories, index| lock(&directories.get(id).points).of(partition(index));
    for index in 0..2 {
        let mut log = open_log(&directories, index).unwrap();
        append(&directories, &mut log, index, 3);
        directories.save_points(&[(id, partition(index), log.log_end())]);
    }
    drop(directories);
    let file = storage.open(&Path::new(DIR).join(points::FILE)).unwrap();
    file.write_at(20, &[0xff; 4]).unwrap();

    let directories = open(&storage);
    directories.save_points(&[(id, partition(0), Offset::new(3))]);
    drop(directories);
    let directories = open(&storage);
    assert_eq!((of(&directories, 0), of(&directories, 1)), (None, None));
    for index in 0..2 {
        directories.save_points(&[(id, partition(index), Offset::new(3))]);
    }
    drop(directories);
    let directories = open(&storage);
    assert_eq!(of(&directories, 0), Some(Offset::new(3)));
    assert_eq!(of(&directories, 1), Some(Offset::new(3)));
}

/// A log without records has nothing to sync, and must not keep the others' points from being written for good.
#[test]
fn an_empty_log_does_not_keep_lost_recovery_points_lost() {
    let storage = MemoryStorage::new();
    let directories = open(&storage);
    directories.replay_done();
    let id = directories.place(partition(0), None).unwrap();
    let mut log = open_log(&directories, 0).unwrap();
    append(&directories, &mut log, 0, 3);
    directories.save_points(&[(id, partition(0), log.log_end())]);
    open_log(&directories, 1).unwrap();
    drop((log, directories));
    let file = storage.open(&Path::new(DIR).join(points::FILE)).unwrap();
    file.write_at(20, &[0xff; 4]).unwrap();

    let directories = open(&storage);
    let logs = [open_log(&directories, 0).unwrap(), open_log(&directories, 1).unwrap()];
    directories.save_points(&[(id, partition(0), logs[0].log_end())]);
    drop((logs, directories));
    let points = open(&storage);
    let of = |index| lock(&points.get(id).points).of(partition(index));
    assert_eq!((of(0), of(1)), (Some(Offset::new(3)), Some(Offset::ZERO)));
}

/// What a shard does to a directory takes as long as the disk takes; a registration comes from the runtime, which has to go on.
#[tokio::test]
async fn a_registration_does_not_hold_up_the_runtime_while_a_shard_uses_the_directory() {
    let directories = Arc::new(open(&MemoryStorage::new()));
    let id = directories.working()[0];
    let (locked, is_locked) = tokio::sync::oneshot::channel();
    let (tell, told) = std::sync::mpsc::channel();
    let shard = directories.clone();
    let shard = std::thread::spawn(move || {
        let _handle = lock(&shard.get(id).handle);
        locked.send(()).unwrap();
        told.recv_timeout(Duration::from_secs(10))
    });
    is_locked.await.unwrap();
    let registering = directories.clone();
    let registering = tokio::spawn(async move { registering.adopt(ClusterId::new(5)).await });
    tokio::task::yield_now().await;
    tell.send(()).unwrap();
    assert_eq!(registering.await.unwrap(), Ok(()));
    assert_eq!(shard.join().unwrap(), Ok(()), "the runtime waited for the directory");
}

fn secure(directories: &Directories, log: &mut Log, index: u32, journaling: Journaling) -> Option<Offset> {
    let id = directories.of(partition(index)).unwrap();
    directories.secure(id, partition(index), log, journaling).unwrap()
}

/// After a kill the journal has all that the segments may lack: a start waits for no sync, and the journal does it later.
#[test]
fn a_start_leaves_to_the_journal_what_it_has() {
    let storage = MemoryStorage::new();
    let directories = open(&storage);
    directories.replay_done();
    let mut log = open_log(&directories, 0).unwrap();
    append(&directories, &mut log, 0, 6);
    let disk = survivor(&storage, 1, CrashMode::Kill);

    let again = open(&disk);
    let mut log = open_log(&again, 0).unwrap();
    let paused = disk.pause_syncs(".log");
    assert_eq!(secure(&again, &mut log, 0, Journaling::Each), None);
    assert_eq!((log.recovery_point(), log.log_end()), (Offset::ZERO, Offset::new(6)));
    append(&again, &mut log, 0, 3);
    for mode in CrashMode::ALL {
        let disk = survivor(&disk, 1, mode);
        assert_eq!(open_log(&open(&disk), 0).unwrap().log_end(), Offset::new(9), "{mode:?}");
    }
    assert_eq!(again.take_synced(|_, _| true), []);
    drop(paused);
    again.replay_done();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match again.take_synced(|_, _| true)[..] {
            [] => assert!(Instant::now() < deadline, "the journal synced nothing"),
            [(of, end)] => break assert_eq!((of, end), (partition(0), Offset::new(6))),
            ref more => panic!("{more:?}"),
        }
        std::thread::yield_now();
    }
    log.advance_recovery_point(Offset::new(6)).unwrap();
    assert_eq!(log.recovery_point(), Offset::new(6));
}

/// What only the page cache shows, what had to be repaired, and what no later append tells the journal of, is synced at once.
#[test]
fn a_start_syncs_what_the_journal_has_not() {
    let started = |unseen: bool, mode| {
        let storage = MemoryStorage::new();
        let directories = open(&storage);
        directories.replay_done();
        let mut log = open_log(&directories, 0).unwrap();
        append(&directories, &mut log, 0, 6);
        if unseen {
            append_unseen(&mut log);
        }
        survivor(&storage, 1, mode)
    };
    let cases = [
        (started(true, CrashMode::Kill), Journaling::Each, 7),
        (started(false, CrashMode::LoseUnsynced), Journaling::Each, 6),
        (started(false, CrashMode::Kill), Journaling::None, 6),
    ];
    for (disk, journaling, end) in cases {
        let again = open(&disk);
        let mut log = open_log(&again, 0).unwrap();
        assert_eq!(secure(&again, &mut log, 0, journaling), Some(Offset::new(end)));
        let disk = survivor(&disk, 1, CrashMode::LoseUnsynced);
        assert!(disk.open(&log_path(&again)).unwrap().len().unwrap() > 0);
        assert_eq!(log.log_end(), Offset::new(end));
    }
}

fn log_path(directories: &Directories) -> PathBuf {
    let id = directories.of(partition(0)).unwrap();
    let dir = lock(&directories.get(id).handle).partition_path(partition(0));
    dir.join("00000000000000000000.log")
}

/// A replica is deleted, or moved away, and comes back: the claim about what it was must not be held against what it is.
#[test]
fn a_replica_that_comes_back_after_its_deletion_is_not_missed() {
    let storage = MemoryStorage::recording();
    let directories = open(&storage);
    directories.replay_done();
    let id = synced(&directories, 3);
    let delete = |directories: &Directories| {
        let id = directories.of(partition(0)).unwrap_or(id);
        directories.tell_journal_of_deletion(partition(0), id);
        directories.delete(&[partition(0)]);
    };
    let before = storage.operations();
    delete(&directories);
    for operations in before..=storage.operations() {
        for mode in CrashMode::ALL {
            let disk = survivor(&storage.at(operations), 3, mode);
            if operations < storage.operations() {
                // It is found, and no part of the broker any more.
                delete(&open(&disk));
            }
            for mode in CrashMode::ALL {
                let again = open(&survivor(&disk, 4, mode));
                let log = open_log(&again, 0).unwrap();
                assert_eq!(log.log_end(), Offset::ZERO, "after {operations} operations, {mode:?}");
            }
        }
    }
}

/// No crash damages the mark of a clean end: what looks like a torn end beside one is damage, whatever else says that it was never
/// synced.
#[test]
fn beside_a_damaged_mark_of_a_clean_end_nothing_passes_for_a_torn_end() {
    for is_mark_damaged in [false, true] {
        let storage = MemoryStorage::new();
        let directories = open(&storage);
        directories.replay_done();
        let mut log = open_log(&directories, 0).unwrap();
        append(&directories, &mut log, 0, 3);
        let (path, id) = (log_path(&directories), directories.of(partition(0)).unwrap());
        log.close_clean().unwrap();
        directories.close(Some(BrokerEpoch::new(7)));
        let mark = directories.get(id).path.join("clean-shutdown");
        drop(directories);
        match is_mark_damaged {
            true => storage.flip_bit(&mark, 17, 3),
            false => storage.remove(&mark).unwrap(),
        }
        storage.flip_bit(&path, 500, 1);
        let directories = open(&storage);
        assert_eq!(directories.left_cleanly(), None);
        let opened = open_log(&directories, 0);
        let is_damaged = matches!(opened, Err(OpenLogError::Damaged(_)));
        assert_eq!(is_damaged, is_mark_damaged, "{:?}", opened.map(|log| log.log_end()));
    }
}
