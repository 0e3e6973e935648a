//! What the journal does when the disk fails: it says so, to everyone, for good.

use std::io::ErrorKind;
use std::time::Instant;

use super::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use vltava_storage::{CrashMode, Fault, FaultPoint};

fn fault(at: FaultPoint, path: &str, after: u64) -> Fault {
    Fault { at, path: path.into(), after, times: 1, error: ErrorKind::Other }
}

/// One failure, once; the disk then claims to be well again. Nothing is done after it, and nothing before is lost.
fn fails_for_good(fault: Fault, large: bool) {
    let storage = MemoryStorage::new();
    let file = segment(&storage, "segment");
    let observed = Arc::new(Observed::default());
    let journal = start_observed(&storage, tiny(), observed.clone());
    journal.replay_done();
    let text = format!("{fault:?}");
    storage.inject(fault);
    let mut outcomes = Vec::new();
    for i in 0..300u64 {
        let size = if large && i % 10 == 9 { 5000 } else { 400 };
        match submit(&journal, vec![append(1, i, vec![1; size], &file)]) {
            Ok(outcome) => outcomes.push(outcome.recv().unwrap()),
            Err(SubmitError::Failed(_)) => break,
            Err(other) => panic!("{other:?}"),
        }
    }
    let done = outcomes.iter().position(Result::is_err).unwrap_or(outcomes.len());
    assert!(outcomes[done..].iter().all(Result::is_err), "a success after a failure: {text}");
    let failed = observed.failed.lock().unwrap().clone();
    assert_eq!(failed.len(), 1, "{text}");
    assert!(matches!(submit(&journal, vec![]), Err(SubmitError::Failed(_))));
    assert!(matches!(journal.reserve(1), Err(SubmitError::Failed(_))));
    assert!(matches!(journal.sync_files(vec![], Box::new(|_| ())), Err(SubmitError::Failed(_))));
    assert_eq!(journal.failure().unwrap().to_string(), failed[0].to_string());
    assert!(journal.close().is_err());

    let survivor = storage.survivor(&mut StdRng::seed_from_u64(1), CrashMode::Kill);
    let found = Journal::recover(&survivor, &dir()).unwrap().take(partition(1)).len();
    assert!(found > 0 || done == 0, "{text}");
    let journal = start(&survivor, tiny());
    journal.replay_done();
    let file = survivor.open(Path::new("/log/segment")).unwrap();
    commit(&journal, vec![append(1, 0, vec![1], &file)]).unwrap();
}

#[test]
fn any_failed_write_or_sync_of_the_journal_is_final() {
    for after in [0, 1, 7, 40] {
        fails_for_good(fault(FaultPoint::Write, "journal/", after), false);
        fails_for_good(fault(FaultPoint::SyncData, "journal/", after), false);
    }
    fails_for_good(fault(FaultPoint::Name, "journal/", 0), false);
    fails_for_good(fault(FaultPoint::SyncDir, "/log/journal", 0), false);
}

#[test]
fn a_failed_sync_of_a_segment_is_final() {
    fails_for_good(fault(FaultPoint::SyncData, "segment", 0), false);
    fails_for_good(fault(FaultPoint::SyncData, "segment", 2), true);
}

#[test]
fn a_failed_sync_for_someone_else_is_final() {
    let storage = MemoryStorage::new();
    let file = segment(&storage, "relaxed");
    let journal = start(&storage, tiny());
    storage.inject(fault(FaultPoint::SyncData, "relaxed", 0));
    let (send, receive) = mpsc::channel();
    journal.sync_files(vec![file.clone()], Box::new(move |outcome| send.send(outcome).unwrap())).unwrap();
    assert!(receive.recv().unwrap().is_err());
    assert!(matches!(submit(&journal, vec![append(1, 0, vec![1], &file)]), Err(SubmitError::Failed(_))));
}

/// A file of a partition that is deleted while it is synced: the directory that holds its name is gone.
#[test]
fn a_file_that_was_deleted_meanwhile_is_no_failure() {
    let storage = MemoryStorage::new();
    let file = segment(&storage, "deleted");
    let journal = start(&storage, tiny());
    storage.inject(Fault {
        error: ErrorKind::NotFound,
        times: 3,
        ..fault(FaultPoint::SyncData, "deleted", 0)
    });
    let (send, receive) = mpsc::channel();
    journal.sync_files(vec![file.clone()], Box::new(move |outcome| send.send(outcome).unwrap())).unwrap();
    receive.recv().unwrap().unwrap();
    journal.replay_done();
    // Until full journal files are released.
    for i in 0..300 {
        commit(&journal, vec![append(1, i, vec![1; 400], &file)]).unwrap();
    }
    journal.close().unwrap();
}

#[test]
fn everyone_who_waits_is_told_of_the_failure() {
    let storage = MemoryStorage::new();
    let file = segment(&storage, "a");
    let journal = start(&storage, tiny());
    commit(&journal, vec![append(1, 0, vec![1], &file)]).unwrap();
    std::thread::sleep(Duration::from_millis(30));
    let paused = storage.pause_syncs("journal");
    storage.inject(fault(FaultPoint::SyncData, "journal", 0));
    let submit = |i| submit(&journal, vec![append(1, i, vec![1], &file)]).unwrap();
    let mut waiting = vec![submit(1)];
    paused.wait_until_blocked();
    waiting.extend((2..10).map(submit));
    drop(paused);
    assert!(waiting.iter().all(|outcome| outcome.recv().unwrap().is_err()));
    let written = Journal::recover(&storage, &dir()).unwrap().take(partition(1)).len();
    assert_eq!(written, 2, "nothing is written after the failure");
}

#[test]
fn a_failure_beside_a_group_fails_the_group() {
    let storage = MemoryStorage::new();
    let (file, relaxed) = (segment(&storage, "a"), segment(&storage, "relaxed"));
    let journal = start(&storage, tiny());
    commit(&journal, vec![append(1, 0, vec![1], &file)]).unwrap();
    std::thread::sleep(Duration::from_millis(30));
    let paused = storage.pause_syncs("journal");
    let beside = submit(&journal, vec![append(1, 1, vec![1], &file)]).unwrap();
    paused.wait_until_blocked();
    storage.inject(fault(FaultPoint::SyncData, "relaxed", 0));
    let (send, receive) = mpsc::channel();
    journal.sync_files(vec![relaxed], Box::new(move |outcome| send.send(outcome).unwrap())).unwrap();
    assert!(receive.recv().unwrap().is_err());
    drop(paused);
    assert!(beside.recv().unwrap().is_err());
}

/// A group that was written and whose sync failed may be in the cache alone. What is written after a restart must not
/// outlive it, or the journal would have a hole.
#[test]
fn a_group_of_a_failed_sync_leaves_no_hole_after_a_restart() {
    let storage = MemoryStorage::new();
    let file = segment(&storage, "a");
    let journal = start(&storage, tiny());
    commit(&journal, vec![append(1, 0, vec![1], &file)]).unwrap();
    std::thread::sleep(Duration::from_millis(30));
    storage.inject(fault(FaultPoint::SyncData, "journal", 0));
    commit(&journal, vec![append(1, 1, vec![1], &file)]).unwrap_err();
    drop(journal);
    // Only the process restarts: the cache stays.
    let journal = start(&storage, tiny());
    commit(&journal, vec![append(1, 2, vec![1], &file)]).unwrap();
    let survivor = storage.survivor(&mut StdRng::seed_from_u64(1), CrashMode::LoseUnsynced);
    assert_eq!(Journal::recover(&survivor, &dir()).unwrap().take(partition(1)).len(), 3);
}

/// The power fails behind a process that finished what the one before it left; nothing that it believed may be missing.
fn finished_and_crashed(storage: &MemoryStorage, text: &str) {
    let journal = start(storage, tiny());
    journal.replay_done();
    // Each full file is begun anew.
    journal.close().unwrap();
    let survivor = storage.survivor(&mut StdRng::seed_from_u64(1), CrashMode::LoseUnsynced);
    if let Err(error) = Journal::recover(&survivor, &dir()) {
        panic!("{text}: {error}");
    }
}

#[test]
fn headers_that_only_the_page_cache_knows_leave_no_gap() {
    let (storage, _) = super::damage::three_files();
    storage.record();
    let journal = start(&storage, tiny());
    journal.replay_done();
    journal.close().unwrap();
    for operations in 0..=storage.operations() {
        let killed = storage.at(operations);
        finished_and_crashed(&killed, &format!("killed after {operations} of {}", storage.operations()));
    }
}

#[test]
fn headers_whose_sync_failed_leave_no_gap() {
    for after in 0..6 {
        let (storage, _) = super::damage::three_files();
        let journal = start(&storage, tiny());
        storage.inject(fault(FaultPoint::SyncData, "journal", after));
        journal.replay_done();
        let closed = journal.close();
        assert!(closed.is_err() || after > 1, "full files are begun anew");
        storage.heal();
        finished_and_crashed(&storage, &format!("sync {after} failed"));
    }
}

#[test]
fn a_full_disk_stops_growth_and_nothing_else() {
    let storage = MemoryStorage::new();
    let file = segment(&storage, "a");
    file.set_len(1000).unwrap();
    let journal = start(&storage, tiny());
    journal.replay_done();
    storage.set_capacity(Some(storage.used()));
    for i in 0..300 {
        file.write_at(0, &[i as u8; 1000]).unwrap();
        commit(&journal, vec![append(1, i, vec![1; 1000], &file)]).unwrap();
    }
    assert!(journal.metrics().recycled_files > 10);
    storage.set_capacity(None);
    // Another file is made beside the commits, when one is wanted next.
    let deadline = Instant::now() + Duration::from_secs(20);
    for i in 300.. {
        commit(&journal, vec![append(1, i, vec![1; 1000], &file)]).unwrap();
        if storage.list(&dir()).unwrap().len() >= 2 {
            break;
        }
        assert!(Instant::now() < deadline, "no file is made though there is room again");
    }
}

#[test]
fn a_disk_that_stalls_for_too_long_has_failed() {
    let storage = MemoryStorage::new();
    let file = segment(&storage, "segment");
    let journal = start(&storage, JournalOptions { stall_max: Duration::from_millis(100), ..tiny() });
    journal.replay_done();
    let paused = storage.pause_syncs("segment");
    let failed = (0..300).find_map(|i| commit(&journal, vec![append(1, i, vec![1; 1000], &file)]).err());
    assert_eq!(failed.unwrap().source.kind(), ErrorKind::TimedOut);
    assert!(journal.metrics().stalls > 0);
    drop(paused);
}

#[test]
fn a_slow_disk_holds_groups_back_until_it_is_done() {
    let storage = MemoryStorage::new();
    let file = segment(&storage, "segment");
    let journal = start(&storage, tiny());
    journal.replay_done();
    let paused = storage.pause_syncs("segment");
    let mut waiting: Vec<_> =
        (0..60).map(|i| submit(&journal, vec![append(1, i, vec![1; 2500], &file)]).unwrap()).collect();
    paused.wait_until_blocked();
    std::thread::sleep(Duration::from_millis(50));
    let last = waiting.pop().unwrap();
    assert!(last.try_recv().is_err(), "all files are full, and none can be used again");
    drop(paused);
    last.recv().unwrap().unwrap();
}
