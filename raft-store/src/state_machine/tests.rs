//! Applying, snapshots and installing them, and a whole Raft of one voter across restarts.

use std::collections::BTreeMap;
use std::time::Duration;

use openraft::error::{InstallSnapshotError, RPCError, RaftError, Unreachable};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use openraft::storage::RaftLogStorage;
use openraft::{Membership, Raft};
use vltava_storage::RealStorage;

use super::*;
use crate::config::{RaftOptions, raft_config};
use crate::engine::LogEngine;
use crate::memory_log::MemoryLog;
use crate::open::{Opened, open, open_with_log};
use crate::store::LogStoreOptions;
use crate::testing::{Names, command, on, position};
use crate::types::{Command, VoterId, VoterNode};

fn fresh(directory: &std::path::Path) -> Opened<Names> {
    open_with_log(
        RealStorage::shared(),
        directory,
        LogStoreOptions::default(),
        MemoryLog::default(),
        Names::default(),
    )
    .unwrap()
}

fn history() -> Vec<RaftEntry> {
    let voters = [VoterId::new(1, 1), VoterId::new(2, 2)].map(|v| (v, VoterNode { address: "a:1".into() }));
    let membership = Membership::new(vec![voters.iter().map(|(v, _)| *v).collect()], BTreeMap::from(voters));
    vec![
        RaftEntry { log_id: position(1, 0).into(), payload: EntryPayload::Membership(membership) },
        RaftEntry { log_id: position(1, 1).into(), payload: EntryPayload::Blank },
        command(1, 2, "a=1"),
        command(1, 3, "b=2"),
        command(2, 4, "-a"),
        command(2, 5, "c=3"),
    ]
}

async fn snapshot_of(machine: &mut MachineStore<Names>) -> Snapshot<TypeConfig> {
    machine.get_snapshot_builder().await.build_snapshot().await.unwrap()
}

#[tokio::test]
async fn every_entry_moves_the_applied_position_and_answers() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = fresh(dir.path()).machine;
    let answers = machine.apply(history()).await.unwrap();
    assert_eq!(answers.iter().map(|a| a.index).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    assert_eq!(answers[3].outcome, "2 names");
    assert!(answers[1].outcome.is_empty());
    let (applied, membership) = machine.applied_state().await.unwrap();
    assert_eq!((applied, membership.voter_ids().count()), (Some(position(2, 5).into()), 2));
    assert_eq!(machine.machine.voters, 2);
}

#[tokio::test]
async fn an_entry_that_cannot_be_applied_is_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = fresh(dir.path());
    opened.machine.apply([command(1, 0, "a=1")]).await.unwrap();
    let error = opened.machine.apply([command(1, 1, "b=1"), command(1, 2, "!"), command(1, 3, "c=1")]).await;
    assert!(error.unwrap_err().to_string().contains("makes no sense"));
    assert!(opened.failure.wait().await.contains("makes no sense"));
    assert_eq!(opened.machine.applied, Some(position(1, 1).into()), "data and position stay together");
}

#[tokio::test]
async fn a_gap_and_a_repetition_are_the_end() {
    for index in [0, 2] {
        let dir = tempfile::tempdir().unwrap();
        let mut opened = fresh(dir.path());
        opened.machine.apply([command(1, 0, "a=1")]).await.unwrap();
        assert!(opened.machine.apply([command(1, index, "b=1")]).await.is_err());
        assert!(opened.failure.get().is_some());
        assert_eq!(opened.machine.machine.names.len(), 1);
    }
}

#[tokio::test]
async fn a_snapshot_and_the_tail_equal_the_whole_history_wherever_it_is_cut() {
    let whole = {
        let dir = tempfile::tempdir().unwrap();
        let mut machine = fresh(dir.path()).machine;
        machine.apply(history()).await.unwrap();
        (machine.machine.clone(), machine.applied_state().await.unwrap(), snapshot_of(&mut machine).await)
    };
    for cut in 1..=history().len() {
        let dir = tempfile::tempdir().unwrap();
        let mut machine = fresh(dir.path()).machine;
        machine.apply(history().into_iter().take(cut)).await.unwrap();
        snapshot_of(&mut machine).await;
        drop(machine);
        let mut machine = fresh(dir.path()).machine;
        machine.apply(history().into_iter().skip(cut)).await.unwrap();
        assert_eq!(machine.machine, whole.0, "cut at {cut}");
        assert_eq!(machine.applied_state().await.unwrap(), whole.1);
        let snapshot = snapshot_of(&mut machine).await;
        assert_eq!((snapshot.meta, snapshot.snapshot), (whole.2.meta.clone(), whole.2.snapshot.clone()));
    }
}

#[tokio::test]
async fn an_installed_snapshot_replaces_everything_and_is_durable() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut leader = fresh(dirs[0].path()).machine;
    leader.apply(history()).await.unwrap();
    let snapshot = snapshot_of(&mut leader).await;
    let mut opened = fresh(dirs[1].path());
    opened.machine.apply([command(1, 0, "stale=1"), command(1, 1, "a=9")]).await.unwrap();
    opened.machine.install_snapshot(&snapshot.meta, snapshot.snapshot.clone()).await.unwrap();
    assert_eq!(opened.machine.machine, leader.machine, "what the snapshot lacks is gone");
    assert_eq!(opened.machine.applied_state().await.unwrap(), leader.applied_state().await.unwrap());
    let current = opened.machine.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!((current.meta, &current.snapshot), (snapshot.meta.clone(), &snapshot.snapshot));
    // An older one would take back what was applied.
    let mut older = snapshot.meta.clone();
    older.last_log_id = Some(position(1, 3).into());
    assert!(opened.machine.install_snapshot(&older, snapshot.snapshot.clone()).await.is_err());
    assert_eq!(opened.machine.machine, leader.machine);
    drop(opened);
    assert_eq!(fresh(dirs[1].path()).machine.machine, leader.machine);
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_read_is_the_end_and_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = fresh(dir.path());
    let meta = RaftSnapshotMeta { last_log_id: Some(position(1, 9).into()), ..Default::default() };
    assert!(opened.machine.install_snapshot(&meta, Box::new(Cursor::new(b"?".to_vec()))).await.is_err());
    assert!(opened.failure.get().is_some());
    drop(opened);
    assert_eq!(fresh(dir.path()).machine.applied, None);
}

/// A network that reaches nobody.
struct Alone;

impl RaftNetworkFactory<TypeConfig> for Alone {
    type Network = Self;

    async fn new_client(&mut self, _: VoterId, _: &VoterNode) -> Self {
        Self
    }
}

fn nobody<T: std::error::Error>() -> RPCError<VoterId, VoterNode, T> {
    RPCError::Unreachable(Unreachable::new(&io::Error::other("alone")))
}

impl RaftNetwork<TypeConfig> for Alone {
    async fn append_entries(
        &mut self,
        _: AppendEntriesRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<VoterId>, RPCError<VoterId, VoterNode, RaftError<VoterId>>> {
        Err(nobody())
    }

    async fn install_snapshot(
        &mut self,
        _: InstallSnapshotRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<
        InstallSnapshotResponse<VoterId>,
        RPCError<VoterId, VoterNode, RaftError<VoterId, InstallSnapshotError>>,
    > {
        Err(nobody())
    }

    async fn vote(
        &mut self,
        _: VoteRequest<VoterId>,
        _: RPCOption,
    ) -> Result<VoteResponse<VoterId>, RPCError<VoterId, VoterNode, RaftError<VoterId>>> {
        Err(nobody())
    }
}

#[tokio::test]
async fn a_raft_of_one_voter_keeps_its_state_across_restarts_snapshots_and_purges() {
    for engine in LogEngine::ALL {
        run_and_restart(engine).await;
    }
}

async fn run_and_restart(engine: LogEngine) {
    let directory = tempfile::tempdir().unwrap();
    let me = VoterId::new(1, 42);
    let options = RaftOptions { snapshot_every: 20, keep_entries: 5, ..RaftOptions::default() };
    let mut config = raft_config(&options).unwrap();
    config.purge_batch_size = 1;
    let config = Arc::new(config);
    let limit = Some(Duration::from_secs(20));
    for start in 0..3u64 {
        let opened = open(&on(engine, directory.path()), Names::default()).unwrap();
        let raft = Raft::new(me, config.clone(), Alone, opened.log, opened.machine).await.unwrap();
        if start == 0 {
            raft.initialize(BTreeMap::from([(me, VoterNode { address: "here:1".into() })])).await.unwrap();
        }
        raft.wait(limit).current_leader(me, "leads").await.unwrap();
        let mut last = Applied::default();
        for number in 0..50 {
            let text = format!("n{start}-{number}=x");
            last = raft.client_write(Command(text.into())).await.unwrap().data;
        }
        assert_eq!(
            last.outcome,
            format!("{} names", (start + 1) * 50),
            "all that was written before is there"
        );
        raft.wait(limit)
            .metrics(|m| m.purged.is_some_and(|p| p.index + 40 > last.index), "purges")
            .await
            .unwrap();
        raft.shutdown().await.unwrap();
        drop(raft);
        tokio::task::spawn_blocking(move || opened.closer.wait()).await.unwrap();
        assert_eq!(opened.failure.get(), None);
    }
    let mut opened = open(&on(engine, directory.path()), Names::default()).unwrap();
    let state = opened.log.get_log_state().await.unwrap();
    assert!(state.last_purged_log_id.is_some_and(|p| p.index > 100), "{state:?}");
    // Without the snapshot there is a hole, and no way to start.
    drop(opened.log);
    opened.closer.wait();
    std::fs::remove_dir_all(directory.path().join("snapshots")).unwrap();
    assert!(open(&on(engine, directory.path()), Names::default()).is_err());
}
