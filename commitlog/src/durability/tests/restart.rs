//! What a start leaves to be synced at leisure, and what may happen to it before it is.

use super::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use vltava_storage::CrashMode;

/// Where a segment has the first ten bytes of partition 1, of which only the journal's frame is known to be on stable storage,
/// and a process has just started.
fn restarted(observer: Arc<dyn JournalObserver>) -> (MemoryStorage, Journal) {
    let storage = MemoryStorage::new();
    let file = segment(&storage, "slow-one");
    file.write_at(0, &[1; 10]).unwrap();
    let journal = start(&storage, tiny());
    journal.replay_done();
    commit(&journal, vec![append(1, 0, vec![1; 10], &file)]).unwrap();
    drop(journal);
    let journal = start_observed(&storage, tiny(), observer);
    journal.sync_later(partition(1), Offset::new(10), vec![file]);
    (storage, journal)
}

/// How much of the segment, and whether its frame, would be there after a power cut.
fn after_power_cut(storage: &MemoryStorage) -> (u64, bool) {
    let survivor = storage.survivor(&mut StdRng::seed_from_u64(0), CrashMode::LoseUnsynced);
    let mut found = Journal::recover(&survivor, &dir()).unwrap();
    let length = survivor.open(Path::new("/log/slow-one")).unwrap().len().unwrap();
    (length, !found.take(partition(1)).is_empty())
}

/// Fills more than the file that has the frame.
fn fill(storage: &MemoryStorage, journal: &Journal) {
    let other = segment(storage, "b");
    for i in 0..40 {
        commit(journal, vec![append(2, i * 1000, vec![2; 1000], &other)]).unwrap();
    }
}

#[test]
fn frames_stay_until_what_a_start_left_is_synced() {
    let observed = Arc::new(Observed::default());
    let (storage, journal) = restarted(observed.clone());
    let paused = storage.pause_syncs("slow-one");
    // Before the replay is done: full files wait to be given free when it is.
    fill(&storage, &journal);
    journal.replay_done();
    paused.wait_until_blocked();
    assert_eq!(after_power_cut(&storage), (0, true));
    drop(paused);
    journal.close().unwrap();
    assert_eq!(after_power_cut(&storage), (10, false));
    assert_eq!(observed.synced.lock().unwrap()[0], (partition(1), Offset::new(10)));
}

#[test]
fn a_journal_that_is_closed_in_the_midst_of_a_replay_keeps_its_frames() {
    let (storage, journal) = restarted(Arc::new(()));
    fill(&storage, &journal);
    journal.close().unwrap();
    assert_eq!(after_power_cut(&storage), (0, true));
}

#[test]
fn no_end_is_told_that_a_cut_or_a_deletion_has_overtaken() {
    for body in [EntryBody::Truncate { to: Offset::new(4) }, EntryBody::Delete] {
        let observed = Arc::new(Observed::default());
        let (storage, journal) = restarted(observed.clone());
        let paused = storage.pause_syncs("slow-one");
        journal.replay_done();
        paused.wait_until_blocked();
        commit(&journal, vec![entry(1, body)]).unwrap();
        drop(paused);
        journal.close().unwrap();
        assert!(observed.synced.lock().unwrap().is_empty());
    }
}

/// A frame that says that all is synced makes those before it void, also those of before the start.
#[test]
fn a_sync_of_all_covers_what_a_start_left() {
    let (storage, journal) = restarted(Arc::new(()));
    let next = segment(&storage, "next");
    commit(&journal, vec![append(1, 10, vec![1; 4000], &next)]).unwrap();
    let survivor = storage.survivor(&mut StdRng::seed_from_u64(0), CrashMode::LoseUnsynced);
    let found = Journal::recover(&survivor, &dir()).unwrap().take(partition(1));
    assert!(matches!(found[..], [RecoveredFrame { body: RecoveredBody::Synced { .. }, .. }]), "{found:?}");
    assert_eq!(after_power_cut(&storage).0, 10);
}
