//! What the journal does while nothing goes wrong.

use super::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use vltava_storage::{CrashMode, PausedSyncs, RealStorage};

/// What a restart after losing all that was not synced would find.
fn recover_after_power_cut(storage: &MemoryStorage) -> RecoveredJournal {
    let survivor = storage.survivor(&mut StdRng::seed_from_u64(0), CrashMode::LoseUnsynced);
    Journal::recover(&survivor, &dir()).unwrap()
}

fn ranges(frames: &[RecoveredFrame]) -> Vec<(u64, u64)> {
    frames
        .iter()
        .map(|frame| match &frame.body {
            RecoveredBody::Append { base_offset, end_offset, .. } => (base_offset.get(), end_offset.get()),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn what_was_done_survives_with_every_field() {
    let storage = MemoryStorage::new();
    let file = segment(&storage, "a");
    let journal = start(&storage, tiny());
    let entries = vec![
        append(1, 100, b"hello".to_vec(), &file),
        append(2, 0, vec![9; 2000], &file),
        entry(3, EntryBody::StartOffset { to: Offset::new(12) }),
        entry(4, EntryBody::Truncate { to: Offset::new(8) }),
        entry(5, EntryBody::Delete),
        entry(6, EntryBody::Empty),
    ];
    commit(&journal, entries).unwrap();
    let mut found = recover_after_power_cut(&storage);
    assert_eq!(found.partitions.len(), 6);
    let frame = |body| vec![RecoveredFrame { leader_epoch: LeaderEpoch::new(4), body }];
    let hello = RecoveredBody::Append {
        base_offset: Offset::new(100),
        end_offset: Offset::new(105),
        bytes: Bytes::from_static(b"hello"),
    };
    assert_eq!(found.take(partition(1)), frame(hello));
    assert_eq!(found.take(partition(1)), []);
    assert_eq!(ranges(&found.take(partition(2))), [(0, 2000)]);
    assert_eq!(found.take(partition(3)), frame(RecoveredBody::StartOffset { to: Offset::new(12) }));
    assert_eq!(found.take(partition(4)), frame(RecoveredBody::Truncate { to: Offset::new(8) }));
    assert_eq!(found.take(partition(5)), frame(RecoveredBody::Delete));
    assert_eq!(found.take(partition(6)), frame(RecoveredBody::Empty));
}

#[test]
fn what_gathers_during_a_sync_becomes_one_group() {
    let storage = MemoryStorage::new();
    let file = segment(&storage, "a");
    let journal = start(&storage, tiny());
    journal.replay_done();
    let paused = pause_commit(&storage, &journal, &file);
    let before = journal.metrics();
    let waiting: Vec<_> =
        (0..20).map(|i| submit(&journal, vec![append(i, 1, vec![1], &file)]).unwrap()).collect();
    drop(paused);
    for outcome in waiting {
        outcome.recv().unwrap().unwrap();
    }
    let after = journal.metrics();
    assert_eq!(after.frames - before.frames, 21);
    assert_eq!(after.groups - before.groups, 2, "the one that was held back, and all others");
}

/// Holds the committer in the sync of a group.
fn pause_commit(storage: &MemoryStorage, journal: &Journal, file: &Arc<dyn StorageFile>) -> PausedSyncs {
    // The room ahead is there after this; nothing but a group's sync can then be held back.
    commit(journal, vec![append(99, 0, vec![1], file)]).unwrap();
    std::thread::sleep(Duration::from_millis(30));
    let paused = storage.pause_syncs("journal");
    submit(journal, vec![append(0, 0, vec![1], file)]).unwrap();
    paused.wait_until_blocked();
    paused
}

#[test]
fn callbacks_come_in_the_order_of_submission() {
    let storage = MemoryStorage::new();
    let file = segment(&storage, "a");
    let journal = start(&storage, tiny());
    journal.replay_done();
    let order = Arc::new(Mutex::new(Vec::new()));
    for i in 0..300 {
        let order = Arc::clone(&order);
        let mut entries = vec![append(i % 7, u64::from(i / 7), vec![1; 200], &file)];
        let mut done: Done = Box::new(move |outcome| order.lock().unwrap().push((i, outcome.is_ok())));
        while let Err(refused) = journal.submit(entries, done) {
            assert!(matches!(refused.error, SubmitError::Full));
            (entries, done) = (refused.entries, refused.done);
            std::thread::yield_now();
        }
    }
    drop(journal);
    assert_eq!(*order.lock().unwrap(), (0..300).map(|i| (i, true)).collect::<Vec<_>>());
}

#[test]
fn a_full_queue_refuses_and_takes_more_when_it_has_room() {
    let storage = MemoryStorage::new();
    let file = segment(&storage, "a");
    let journal = start(&storage, JournalOptions { queue_max: 4, ..tiny() });
    let paused = pause_commit(&storage, &journal, &file);
    let reserved = journal.reserve(10).unwrap();
    let waiting: Vec<_> =
        (0..2).map(|i| submit(&journal, vec![append(1, i, vec![1], &file)]).unwrap()).collect();
    assert!(matches!(submit(&journal, vec![append(1, 2, vec![1], &file)]), Err(SubmitError::Full)));
    assert!(matches!(journal.reserve(1), Err(SubmitError::Full)));
    let done: Done = Box::new(|outcome| outcome.unwrap());
    journal.submit_reserved(reserved, vec![append(1, 2, vec![1], &file)], done).unwrap();
    drop(paused);
    waiting.iter().for_each(|outcome| outcome.recv().unwrap().unwrap());
    commit(&journal, vec![append(1, 3, vec![1], &file)]).unwrap();
}

#[test]
fn the_queue_is_bounded_in_bytes_as_well() {
    let storage = MemoryStorage::new();
    let file = segment(&storage, "a");
    let journal = start(&storage, JournalOptions { queue_bytes_max: 1000, ..tiny() });
    let huge = commit(&journal, vec![append(1, 0, vec![1; 2000], &file)]);
    huge.expect("what is larger than the queue gets in alone");
    let paused = pause_commit(&storage, &journal, &file);
    let waiting = submit(&journal, vec![append(1, 0, vec![1; 900], &file)]).unwrap();
    assert!(matches!(submit(&journal, vec![append(1, 900, vec![1; 200], &file)]), Err(SubmitError::Full)));
    drop(paused);
    waiting.recv().unwrap().unwrap();
}

#[test]
fn a_submission_of_too_many_entries_is_given_back() {
    let storage = MemoryStorage::new();
    let file = segment(&storage, "a");
    let journal = start(&storage, tiny());
    let max = tiny().group_frames_max();
    let entries = |count: usize| (0..count as u32).map(|i| append(i, 0, vec![1; 300], &file)).collect();
    commit(&journal, entries(max)).expect("all go by their segments when they do not fit");
    let refused = journal.submit(entries(max + 1), Box::new(|_| panic!("called"))).unwrap_err();
    assert!(matches!(refused.error, SubmitError::TooManyEntries { .. }));
    assert_eq!(refused.entries.len(), max + 1);
}

#[test]
fn a_large_append_syncs_its_partition_and_leaves_a_frame_that_says_so() {
    let storage = MemoryStorage::new();
    let (old, new, other) = (segment(&storage, "old"), segment(&storage, "new"), segment(&storage, "other"));
    let observed = Arc::new(Observed::default());
    let journal = start_observed(&storage, tiny(), observed.clone());
    old.write_at(0, &[1; 10]).unwrap();
    commit(&journal, vec![append(1, 0, vec![1; 10], &old)]).unwrap();
    new.write_at(0, &[2; 5000]).unwrap();
    other.write_at(0, &[3; 10]).unwrap();
    commit(&journal, vec![append(1, 10, vec![2; 5000], &new), append(2, 0, vec![3; 10], &other)]).unwrap();

    let survivor = storage.survivor(&mut StdRng::seed_from_u64(0), CrashMode::LoseUnsynced);
    let mut found = Journal::recover(&survivor, &dir()).unwrap();
    let synced = RecoveredBody::Synced { end_offset: Offset::new(5010) };
    assert_eq!(
        found.take(partition(1)),
        [RecoveredFrame { leader_epoch: LeaderEpoch::new(4), body: synced }]
    );
    assert_eq!(ranges(&found.take(partition(2))), [(0, 10)]);
    let len = |name: &str| survivor.open(&Path::new("/log").join(name)).unwrap().len().unwrap();
    assert_eq!((len("old"), len("new"), len("other")), (10, 5000, 0));
    assert_eq!(*observed.synced.lock().unwrap(), [(partition(1), Offset::new(5010))]);
}

/// The frame says that nothing before it is needed: not even what is being synced just now.
#[test]
fn a_large_append_waits_for_what_is_being_synced() {
    let storage = MemoryStorage::new();
    let (old, new, other) = (segment(&storage, "old"), segment(&storage, "new"), segment(&storage, "other"));
    let journal = start(&storage, tiny());
    journal.replay_done();
    let paused = storage.pause_syncs("old");
    commit(&journal, vec![append(1, 0, vec![1; 10], &old)]).unwrap();
    for i in 0..40 {
        commit(&journal, vec![append(2, i * 1000, vec![1; 1000], &other)]).unwrap();
    }
    paused.wait_until_blocked();
    let large = submit(&journal, vec![append(1, 10, vec![2; 5000], &new)]).unwrap();
    assert!(large.recv_timeout(Duration::from_millis(100)).is_err());
    drop(paused);
    large.recv().unwrap().unwrap();
}

#[test]
fn a_log_that_leaves_the_journal_voids_its_frames() {
    let storage = MemoryStorage::new();
    let (submitted, unseen) = (segment(&storage, "submitted"), segment(&storage, "unseen"));
    let journal = start(&storage, tiny());
    submitted.write_at(0, &[1; 10]).unwrap();
    commit(&journal, vec![append(1, 0, vec![1; 10], &submitted)]).unwrap();
    unseen.write_at(0, &[2; 10]).unwrap();
    let body = EntryBody::Sync { end_offset: Offset::new(20), segments: vec![unseen] };
    commit(&journal, vec![entry(1, body)]).unwrap();
    let survivor = storage.survivor(&mut StdRng::seed_from_u64(0), CrashMode::LoseUnsynced);
    let found = Journal::recover(&survivor, &dir()).unwrap().take(partition(1));
    assert_eq!(found[0].body, RecoveredBody::Synced { end_offset: Offset::new(20) });
    for name in ["submitted", "unseen"] {
        assert_eq!(survivor.open(&Path::new("/log").join(name)).unwrap().len().unwrap(), 10);
    }
}

#[test]
fn files_are_used_again_only_when_their_segments_are_synced() {
    let storage = MemoryStorage::new();
    let file = segment(&storage, "a");
    let observed = Arc::new(Observed::default());
    let journal = start_observed(&storage, tiny(), observed.clone());
    journal.replay_done();
    for i in 0..200 {
        file.write_at(i * 1000, &[i as u8; 1000]).unwrap();
        commit(&journal, vec![append(1, i * 1000, vec![i as u8; 1000], &file)]).unwrap();
    }
    assert!(journal.metrics().recycled_files >= 5, "{:?}", journal.metrics());
    assert!(storage.list(&dir()).unwrap().len() <= 3);
    // Taken first: the journal goes on syncing meanwhile.
    let synced = observed.synced.lock().unwrap().clone();
    let survivor = storage.survivor(&mut StdRng::seed_from_u64(0), CrashMode::LoseUnsynced);
    let in_segment = survivor.open(Path::new("/log/a")).unwrap().len().unwrap();
    let in_journal = ranges(&Journal::recover(&survivor, &dir()).unwrap().take(partition(1)));
    assert!(in_journal.windows(2).all(|pair| pair[0].1 == pair[1].0));
    assert!(in_journal[0].0 <= in_segment, "the journal begins where the segment ends, or before");
    assert_eq!(in_journal.last().unwrap().1, 200_000);
    assert!(
        synced.windows(2).all(|pair| pair[0].1 < pair[1].1) && synced.last().unwrap().1.get() <= in_segment
    );
}

/// What a full file says of a log's end may be cut off, or be of a log that is gone, by the time its segments are synced.
#[test]
fn a_sync_that_a_cut_overtakes_tells_of_no_end_that_is_gone() {
    for body in [EntryBody::Truncate { to: Offset::new(4) }, EntryBody::Delete] {
        let storage = MemoryStorage::new();
        let (file, other) = (segment(&storage, "slow-one"), segment(&storage, "b"));
        let observed = Arc::new(Observed::default());
        let journal = start_observed(&storage, tiny(), observed.clone());
        journal.replay_done();
        let paused = storage.pause_syncs("slow-one");
        commit(&journal, vec![append(1, 0, vec![1; 10], &file)]).unwrap();
        for i in 0..40 {
            commit(&journal, vec![append(2, i * 1000, vec![2; 1000], &other)]).unwrap();
        }
        paused.wait_until_blocked();
        commit(&journal, vec![entry(1, body)]).unwrap();
        drop(paused);
        journal.close().unwrap();
        let synced = observed.synced.lock().unwrap().clone();
        assert!(synced.iter().all(|(of, _)| *of == partition(2)) && !synced.is_empty(), "{synced:?}");
    }
}

/// The batch that the cut goes through goes as a whole: where it is, the log does not end.
#[test]
fn a_cut_is_no_end_that_is_told() {
    let storage = MemoryStorage::new();
    let file = segment(&storage, "a");
    let observed = Arc::new(Observed::default());
    let journal = start_observed(&storage, tiny(), observed.clone());
    journal.replay_done();
    commit(&journal, vec![append(1, 0, vec![1; 10], &file)]).unwrap();
    commit(&journal, vec![entry(1, EntryBody::Truncate { to: Offset::new(7) })]).unwrap();
    commit(&journal, vec![append(2, 0, vec![1; 10], &file)]).unwrap();
    journal.close().unwrap();
    assert_eq!(*observed.synced.lock().unwrap(), [(partition(2), Offset::new(10))]);
}

#[test]
fn no_file_is_used_again_before_the_replay_is_done() {
    let storage = MemoryStorage::new();
    let file = segment(&storage, "a");
    let journal = start(&storage, JournalOptions { stall_max: Duration::from_millis(100), ..tiny() });
    let failed = (0..200).find_map(|i| commit(&journal, vec![append(1, i, vec![1; 1000], &file)]).err());
    assert_eq!(failed.unwrap().source.kind(), std::io::ErrorKind::TimedOut);
    assert_eq!(journal.metrics().recycled_files, 0);
    assert!(storage.list(&dir()).unwrap().len() == 6);
}

/// A start may have to say something to a journal that a crash left full: that nothing but its end would free it is no excuse.
#[test]
fn a_full_journal_has_room_before_the_replay_is_done_and_gives_it_back() {
    let (storage, paths) = super::damage::three_files();
    let journal = start(&storage, tiny());
    let file = segment(&storage, "b");
    for i in 0..40 {
        commit(&journal, vec![append(2, i * 800, vec![0; 800], &file)]).unwrap();
    }
    assert!(storage.list(&dir()).unwrap().len() > paths.len());
    let survivor = storage.survivor(&mut StdRng::seed_from_u64(0), CrashMode::LoseUnsynced);
    assert_eq!(Journal::recover(&survivor, &dir()).unwrap().take(partition(2)).len(), 40);
    journal.replay_done();
    journal.close().unwrap();
    assert_eq!(storage.list(&dir()).unwrap().len(), paths.len());
}

#[test]
fn a_deleted_partition_is_neither_synced_nor_replayed() {
    let storage = MemoryStorage::new();
    let file = segment(&storage, "a");
    let journal = start(&storage, tiny());
    journal.replay_done();
    commit(&journal, vec![append(1, 0, vec![1; 10], &file)]).unwrap();
    commit(&journal, vec![entry(1, EntryBody::Delete)]).unwrap();
    let found = recover_after_power_cut(&storage).take(partition(1));
    assert!(matches!(found[..], [RecoveredFrame { body: RecoveredBody::Delete, .. }]));
    journal.close().unwrap();
    let survivor = storage.survivor(&mut StdRng::seed_from_u64(0), CrashMode::LoseUnsynced);
    assert_eq!(survivor.open(Path::new("/log/a")).unwrap().len().unwrap(), 0);
}

#[test]
fn a_closed_journal_holds_nothing_and_its_segments_everything() {
    let storage = MemoryStorage::new();
    let file = segment(&storage, "a");
    for round in 0..5 {
        let journal = start(&storage, tiny());
        journal.replay_done();
        for i in round * 40..(round + 1) * 40 {
            file.write_at(i * 500, &[i as u8; 500]).unwrap();
            commit(&journal, vec![append(1, i * 500, vec![i as u8; 500], &file)]).unwrap();
        }
        journal.close().unwrap();
        let survivor = storage.survivor(&mut StdRng::seed_from_u64(0), CrashMode::LoseUnsynced);
        assert!(Journal::recover(&survivor, &dir()).unwrap().partitions.is_empty());
        assert_eq!(survivor.open(Path::new("/log/a")).unwrap().len().unwrap(), (round + 1) * 40 * 500);
    }
}

#[test]
fn a_dropped_journal_finishes_what_was_submitted() {
    let storage = MemoryStorage::new();
    let file = segment(&storage, "a");
    let journal = start(&storage, tiny());
    let outcomes: Vec<_> =
        (0..50).map(|i| submit(&journal, vec![append(1, i, vec![1], &file)]).unwrap()).collect();
    drop(journal);
    assert!(outcomes.iter().all(|outcome| outcome.recv().unwrap().is_ok()));
    assert_eq!(recover_after_power_cut(&storage).take(partition(1)).len(), 50);
}

#[test]
fn syncs_files_that_it_does_not_know() {
    let storage = MemoryStorage::new();
    let files: Vec<_> = (0..3).map(|i| segment(&storage, &format!("{i}"))).collect();
    let journal = start(&storage, tiny());
    files.iter().for_each(|file| file.write_at(0, b"relaxed").unwrap());
    let (send, receive) = mpsc::channel();
    journal.sync_files(files.clone(), Box::new(move |outcome| send.send(outcome).unwrap())).unwrap();
    receive.recv().unwrap().unwrap();
    let survivor = storage.survivor(&mut StdRng::seed_from_u64(0), CrashMode::LoseUnsynced);
    for i in 0..3 {
        assert_eq!(survivor.open(&Path::new("/log").join(format!("{i}"))).unwrap().len().unwrap(), 7);
    }
}

#[test]
fn fewer_files_than_before_are_fine() {
    let storage = MemoryStorage::new();
    let file = segment(&storage, "a");
    let fill = |files_max, replay_done_at| {
        let journal = start(&storage, JournalOptions { files_max, ..tiny() });
        for i in 0..100 {
            commit(&journal, vec![append(1, i, vec![1; 1000], &file)]).unwrap();
            if i == replay_done_at {
                journal.replay_done();
            }
        }
        journal.close().unwrap();
        storage.list(&dir()).unwrap().len()
    };
    assert!(fill(6, 200) > 3, "nothing is used again before the replay is done");
    assert_eq!(fill(2, 5), 2);
    assert_eq!(fill(2, 30), 2);
}

#[test]
fn works_on_real_files() {
    let root = tempfile::tempdir().unwrap();
    let storage = RealStorage::shared();
    let dir = root.path().join("journal");
    let file = storage.create(&root.path().join("segment")).unwrap();
    let options = JournalOptions {
        file_bytes: 1 << 20,
        first_bytes: 256 << 10,
        growth_bytes: 128 << 10,
        ahead_bytes: 256 << 10,
        segment_sync_bytes: 90 << 10,
        ..JournalOptions::default()
    };
    let start = || {
        let recovered = Journal::recover(&*storage, &dir).unwrap();
        let frames = recovered.partitions.values().map(Vec::len).sum::<usize>();
        (Journal::start(Arc::clone(&storage), recovered, options.clone(), Arc::new(())).unwrap(), frames)
    };
    let (journal, found) = start();
    assert_eq!(found, 0);
    journal.replay_done();
    let sizes = [1, 100, 5000, 60_000, 100_000];
    for (i, size) in sizes.iter().cycle().take(200).enumerate() {
        let bytes = vec![i as u8; *size];
        file.write_at(i as u64 * 100_000, &bytes).unwrap();
        commit(&journal, vec![append(i as u32, 0, bytes, &file), append(1000, i as u64, vec![1], &file)])
            .unwrap();
    }
    assert!(journal.metrics().recycled_files > 0, "{:?}", journal.metrics());
    drop(journal);
    let (journal, found) = start();
    assert!(found > 0);
    journal.replay_done();
    journal.close().unwrap();
    assert_eq!(start().1, 0);
}
