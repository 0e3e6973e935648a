//! openraft's conformance suite, and what it does not ask.

use std::io::Cursor;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use openraft::storage::{RaftLogStorageExt, RaftStateMachine};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{EntryPayload, Snapshot};
use tempfile::TempDir;

use super::*;
use crate::memory_log::MemoryLog;
use crate::open::{Opened, StoreOptions, open, open_with_log};
use crate::state_machine::{MachineStore, SnapshotBuilder};
use crate::testing::{Names, command, position};
use crate::types::{Applied, RaftMembership, RaftSnapshotMeta, VoterId};

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

struct OnDisk;
struct InMemory;

impl StoreBuilder<TypeConfig, Lenient, LenientMachine, TempDir> for OnDisk {
    async fn build(&self) -> Result<(TempDir, Lenient, LenientMachine), RaftStorageError> {
        let directory = tempfile::tempdir().unwrap();
        let opened = open(&StoreOptions::new(directory.path()), Names::default()).unwrap();
        Ok((directory, Lenient::new(opened.log), LenientMachine(opened.machine)))
    }
}

impl StoreBuilder<TypeConfig, Lenient, LenientMachine, TempDir> for InMemory {
    async fn build(&self) -> Result<(TempDir, Lenient, LenientMachine), RaftStorageError> {
        let directory = tempfile::tempdir().unwrap();
        let options = LogStoreOptions { tail_bytes: 0, ..Default::default() };
        let opened =
            open_with_log(directory.path(), options, MemoryLog::default(), Names::default()).unwrap();
        Ok((directory, Lenient::new(opened.log), LenientMachine(opened.machine)))
    }
}

#[test]
fn the_suite_of_openraft_passes_on_disk() {
    Suite::test_all(OnDisk).unwrap();
}

#[test]
fn the_suite_of_openraft_passes_in_memory() {
    Suite::test_all(InMemory).unwrap();
}
