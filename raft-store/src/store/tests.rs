//! openraft's conformance suite, and what it does not ask.

use std::io::Cursor;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use openraft::storage::{RaftLogStorageExt, RaftStateMachine};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{EntryPayload, Snapshot};
use tempfile::TempDir;
use vltava_storage::{MemoryStorage, RealStorage};

use super::*;
use crate::engine::LogEngine;
use crate::memory_log::MemoryLog;
use crate::open::{Opened, StoreOptions, open, open_with_log};
use crate::state_machine::{MachineStore, SnapshotBuilder};
use crate::testing::{Names, command, on, position};
use crate::types::{Applied, Position, RaftMembership, RaftSnapshotMeta, VoterId};

/// The suite purges without any snapshot, and appends over entries that are there or purged, which openraft never does.
struct Lenient(LogStore);

impl Lenient {
    fn new(log: LogStore) -> Self {
        Self(LogStore { snapshotted: watch::channel(Some(u64::MAX)).1, ..log })
    }
}

impl RaftLogReader<TypeConfig> for Lenient {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<RaftEntry>, RaftStorageError> {
        self.0.try_get_log_entries(range).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<RaftEntry>, RaftStorageError> {
        self.0.limited_get_log_entries(start, end).await
    }
}

impl RaftLogStorage<TypeConfig> for Lenient {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, RaftStorageError> {
        self.0.get_log_state().await
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.0.get_log_reader().await
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> Result<(), RaftStorageError> {
        self.0.save_vote(vote).await
    }

    async fn read_vote(&mut self) -> Result<Option<RaftVote>, RaftStorageError> {
        self.0.read_vote().await
    }

    async fn save_committed(&mut self, committed: Option<RaftLogId>) -> Result<(), RaftStorageError> {
        self.0.save_committed(committed).await
    }

    async fn read_committed(&mut self) -> Result<Option<RaftLogId>, RaftStorageError> {
        self.0.read_committed().await
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<TypeConfig>,
    ) -> Result<(), RaftStorageError>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let LogState { last_purged_log_id: purged, last_log_id: last } = self.0.get_log_state().await?;
        let present = |entry: &RaftEntry| purged.is_none_or(|purged| entry.log_id.index > purged.index);
        let entries: Vec<RaftEntry> = entries.into_iter().filter(present).collect();
        if let Some(first) = entries.first()
            && last.is_some_and(|last| first.log_id.index <= last.index)
        {
            self.0.truncate(first.log_id).await?;
        }
        self.0.append(entries, callback).await
    }

    async fn truncate(&mut self, log_id: RaftLogId) -> Result<(), RaftStorageError> {
        self.0.truncate(log_id).await
    }

    async fn purge(&mut self, log_id: RaftLogId) -> Result<(), RaftStorageError> {
        self.0.purge(log_id).await
    }
}

/// The suite applies entries with gaps, which openraft never does: blank ones fill them.
struct LenientMachine(MachineStore<Names>);

impl RaftStateMachine<TypeConfig> for LenientMachine {
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<RaftLogId>, RaftMembership), RaftStorageError> {
        self.0.applied_state().await
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Applied>, RaftStorageError>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut applied = Vec::new();
        for entry in entries.into_iter().collect::<Vec<_>>() {
            let last = self.0.applied_state().await?.0.map_or(entry.log_id.index, |last| last.index + 1);
            for index in last..entry.log_id.index {
                let log_id = position(entry.log_id.leader_id.term, index).into();
                self.0.apply([RaftEntry { log_id, payload: EntryPayload::Blank }]).await?;
            }
            applied.extend(self.0.apply([entry]).await?);
        }
        Ok(applied)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        self.0.get_snapshot_builder().await
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, RaftStorageError> {
        self.0.begin_receiving_snapshot().await
    }

    async fn install_snapshot(
        &mut self,
        meta: &RaftSnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), RaftStorageError> {
        self.0.install_snapshot(meta, snapshot).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, RaftStorageError> {
        self.0.get_current_snapshot().await
    }
}

struct OnDisk(LogEngine);
struct OnMemoryStorage;
struct InMemory;

impl StoreBuilder<TypeConfig, Lenient, LenientMachine, TempDir> for OnDisk {
    async fn build(&self) -> Result<(TempDir, Lenient, LenientMachine), RaftStorageError> {
        let directory = tempfile::tempdir().unwrap();
        let opened = open(&on(self.0, directory.path()), Names::default()).unwrap();
        Ok((directory, Lenient::new(opened.log), LenientMachine(opened.machine)))
    }
}

impl StoreBuilder<TypeConfig, Lenient, LenientMachine, ()> for OnMemoryStorage {
    async fn build(&self) -> Result<((), Lenient, LenientMachine), RaftStorageError> {
        let storage = Arc::new(MemoryStorage::new());
        let options = StoreOptions { engine: Some(LogEngine::Wal), ..StoreOptions::new(storage, "/raft", 1) };
        let opened = open(&options, Names::default()).unwrap();
        Ok(((), Lenient::new(opened.log), LenientMachine(opened.machine)))
    }
}

impl StoreBuilder<TypeConfig, Lenient, LenientMachine, TempDir> for InMemory {
    async fn build(&self) -> Result<(TempDir, Lenient, LenientMachine), RaftStorageError> {
        let directory = tempfile::tempdir().unwrap();
        let options = LogStoreOptions { tail_bytes: 0, ..Default::default() };
        let opened = open_with_log(
            RealStorage::shared(),
            directory.path(),
            options,
            MemoryLog::default(),
            Names::default(),
        )
        .unwrap();
        Ok((directory, Lenient::new(opened.log), LenientMachine(opened.machine)))
    }
}

#[test]
fn the_suite_of_openraft_passes_on_sled() {
    Suite::test_all(OnDisk(LogEngine::Sled)).unwrap();
}

#[test]
fn the_suite_of_openraft_passes_on_the_write_ahead_log() {
    Suite::test_all(OnDisk(LogEngine::Wal)).unwrap();
}

#[test]
fn the_suite_of_openraft_passes_on_the_write_ahead_log_on_a_disk_in_memory() {
    Suite::test_all(OnMemoryStorage).unwrap();
}

#[test]
fn the_suite_of_openraft_passes_in_memory() {
    Suite::test_all(InMemory).unwrap();
}

/// A log that takes its time and writes down what it is asked.
struct Recorder {
    log: MemoryLog,
    calls: Arc<Mutex<Vec<String>>>,
    fails: Arc<AtomicU64>,
}

impl Recorder {
    fn note(&self, call: String) -> Result<(), LogError> {
        std::thread::sleep(Duration::from_millis(2));
        self.calls.lock().unwrap().push(call);
        match self.fails.load(Ordering::SeqCst) {
            0 => Ok(()),
            _ => Err(LogError::Io { action: "sync", source: io::Error::other("the disk is gone") }),
        }
    }
}

impl MetaLog for Recorder {
    fn append(&mut self, entries: &[LogEntry]) -> Result<(), LogError> {
        self.note(format!("append {:?}", entries.iter().map(|e| e.position.index).collect::<Vec<_>>()))?;
        self.log.append(entries)
    }

    fn truncate_from(&mut self, index: u64) -> Result<(), LogError> {
        self.note(format!("truncate {index}"))?;
        self.log.truncate_from(index)
    }

    fn purge_up_to(&mut self, upto: Position) -> Result<(), LogError> {
        self.note(format!("purge {}", upto.index))?;
        self.log.purge_up_to(upto)
    }

    fn save_vote(&mut self, vote: crate::types::VoteRecord) -> Result<(), LogError> {
        self.note(format!("vote {}", vote.term))?;
        self.log.save_vote(vote)
    }

    fn read_vote(&self) -> Option<crate::types::VoteRecord> {
        self.log.read_vote()
    }

    fn note_committed(&mut self, committed: Option<Position>) {
        self.log.note_committed(committed);
    }

    fn save_committed(&mut self) -> Result<(), LogError> {
        self.note(format!("committed {}", self.log.read_committed().map_or(0, |c| c.index)))
    }

    fn read_committed(&self) -> Option<Position> {
        self.log.read_committed()
    }

    fn read(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<LogEntry>, LogError> {
        self.log.read(range, max_bytes)
    }

    fn bounds(&self) -> LogBounds {
        self.log.bounds()
    }
}

struct Bench {
    opened: Opened<Names>,
    calls: Arc<Mutex<Vec<String>>>,
    fails: Arc<AtomicU64>,
    _directory: TempDir,
}

fn bench(options: LogStoreOptions) -> Bench {
    let directory = tempfile::tempdir().unwrap();
    let (calls, fails) = (Arc::default(), Arc::default());
    let log = Recorder { log: MemoryLog::default(), calls: Arc::clone(&calls), fails: Arc::clone(&fails) };
    let opened =
        open_with_log(RealStorage::shared(), directory.path(), options, log, Names::default()).unwrap();
    Bench { opened, calls, fails, _directory: directory }
}

fn entries(range: Range<u64>) -> Vec<RaftEntry> {
    range.map(|index| command(1, index, format!("a{index}=1"))).collect()
}

#[tokio::test]
async fn entries_can_be_read_from_tail_and_log() {
    for tail_bytes in [0, 400, 1 << 20] {
        let mut log = bench(LogStoreOptions { tail_bytes, replication_bytes: 60 }).opened.log;
        for start in [0, 10, 20] {
            log.blocking_append(entries(start..start + 10)).await.unwrap();
        }
        let mut reader = log.get_log_reader().await;
        assert_eq!(reader.try_get_log_entries(3..28).await.unwrap(), entries(3..28));
        assert_eq!(reader.try_get_log_entries(..).await.unwrap(), entries(0..30));
        assert_eq!(reader.try_get_log_entries(29..=40).await.unwrap(), entries(29..30));
        assert_eq!(reader.try_get_log_entries(30..40).await.unwrap(), []);
        let some = reader.limited_get_log_entries(5, 30).await.unwrap();
        assert!(!some.is_empty() && some.len() < 25 && some[..] == entries(5..30)[..some.len()], "{some:?}");
        log.truncate(position(1, 25).into()).await.unwrap();
        assert_eq!(reader.try_get_log_entries(20..).await.unwrap(), entries(20..25));
    }
}

#[tokio::test]
async fn writes_keep_the_order_in_which_they_were_issued() {
    let mut bench = bench(LogStoreOptions::default());
    let log = &mut bench.opened.log;
    for round in 0..3u64 {
        log.save_vote(&RaftVote::new(round, VoterId::new(1, 1))).await.unwrap();
        log.blocking_append(entries(round * 2..round * 2 + 2)).await.unwrap();
    }
    log.truncate(position(1, 5).into()).await.unwrap();
    let expected =
        ["vote 0", "append [0, 1]", "vote 1", "append [2, 3]", "vote 2", "append [4, 5]", "truncate 5"];
    assert_eq!(*bench.calls.lock().unwrap(), expected);
}

#[tokio::test]
async fn committed_positions_are_written_when_nothing_else_is_going_on() {
    let mut bench = bench(LogStoreOptions::default());
    let log = &mut bench.opened.log;
    log.blocking_append(entries(0..9)).await.unwrap();
    for index in 0..8 {
        log.save_committed(Some(position(1, index).into())).await.unwrap();
    }
    assert_eq!(log.read_committed().await.unwrap(), Some(position(1, 7).into()));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(bench.calls.lock().unwrap()[1..], ["committed 7"]);
}

#[tokio::test]
async fn a_purge_waits_for_the_snapshot_that_covers_it() {
    let mut bench = bench(LogStoreOptions::default());
    let mut log = bench.opened.log.clone();
    log.blocking_append(entries(0..10)).await.unwrap();
    let mut purging = tokio::spawn(async move { log.purge(position(1, 6).into()).await });
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut purging).await.is_err(), "it did not wait");
    assert!(!bench.calls.lock().unwrap().iter().any(|call| call.starts_with("purge")));
    bench.opened.machine.apply(entries(0..7)).await.unwrap();
    let mut builder = bench.opened.machine.get_snapshot_builder().await;
    openraft::RaftSnapshotBuilder::build_snapshot(&mut builder).await.unwrap();
    purging.await.unwrap().unwrap();
    assert_eq!(bench.calls.lock().unwrap().last().unwrap(), "purge 6");
    assert_eq!(bench.opened.log.try_get_log_entries(..).await.unwrap(), entries(7..10));
}

#[tokio::test]
async fn a_failure_of_the_log_is_an_error_and_is_reported() {
    let mut bench = bench(LogStoreOptions::default());
    assert_eq!(bench.opened.failure.get(), None);
    bench.fails.store(1, Ordering::SeqCst);
    assert!(bench.opened.log.blocking_append(entries(0..1)).await.is_err());
    let why = bench.opened.failure.wait().await;
    assert!(why.contains("the disk is gone"), "{why}");
    assert!(bench.opened.log.save_vote(&RaftVote::new(9, VoterId::new(1, 1))).await.is_err());
    assert_eq!(bench.opened.failure.get(), Some(why), "the first failure counts");
}

#[tokio::test]
async fn the_vote_and_the_log_survive_a_restart() {
    for engine in LogEngine::ALL {
        write_and_restart(engine).await;
    }
}

async fn write_and_restart(engine: LogEngine) {
    let directory = tempfile::tempdir().unwrap();
    let options = on(engine, directory.path());
    let vote = RaftVote::new_committed(7, VoterId::new(3, 0xabc));
    let mut opened = open(&options, Names::default()).unwrap();
    opened.log.save_vote(&vote).await.unwrap();
    opened.log.blocking_append(entries(0..5)).await.unwrap();
    opened.log.save_committed(Some(position(1, 3).into())).await.unwrap();
    drop(opened.log);
    opened.closer.wait();
    let mut opened = open(&options, Names::default()).unwrap();
    assert_eq!(opened.log.read_vote().await.unwrap(), Some(vote));
    assert_eq!(opened.log.read_committed().await.unwrap(), Some(position(1, 3).into()));
    assert_eq!(opened.log.try_get_log_entries(..).await.unwrap(), entries(0..5));
}

#[tokio::test]
async fn a_log_never_begins_beside_another() {
    for engine in LogEngine::ALL {
        let directory = tempfile::tempdir().unwrap();
        let mut opened = open(&on(engine, directory.path()), Names::default()).unwrap();
        opened.log.blocking_append(entries(0..5)).await.unwrap();
        drop(opened.log);
        opened.closer.wait();
        let other = LogEngine::ALL.into_iter().find(|other| *other != engine).unwrap();
        let refused = open(&on(other, directory.path()), Names::default()).unwrap_err();
        assert!(refused.to_string().contains(&format!("metadata.log.engine = \"{engine}\"")), "{refused}");
        // Where nothing is said, what is there is opened.
        let unsaid = StoreOptions { engine: None, ..on(engine, directory.path()) };
        let mut opened = open(&unsaid, Names::default()).unwrap();
        assert_eq!(opened.log.try_get_log_entries(..).await.unwrap(), entries(0..5));
    }
}
