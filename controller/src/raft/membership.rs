//! Changes of the quorum's members. One at a time; each goes on when whoever asked for it is gone.
//!
//! A controller is first added without a vote, must catch up, and only then votes. Who is at an address, with which
//! directory, the address itself says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use tokio::sync::Mutex;
use tokio::time::Instant;
use vltava_model::{ClusterId, DirectoryId, ErrorCode, NodeId};
use vltava_proto::v1::{DescribeQuorumResponse, QuorumReplica, VoterIdentity};
use vltava_raft_store::{VoterId, VoterNode};

use super::local::Local;
use super::peers::Peers;
use super::{Metrics, Raft};
use crate::decide::Refusal;

const ASK: Duration = Duration::from_secs(2);
/// A new controller that gains nothing for so long is given up.
const STALLED: Duration = Duration::from_secs(10);
/// How long a change may wait for its quorum.
const COMMIT: Duration = Duration::from_secs(20);
/// Observers that a quorum takes by themselves.
const OBSERVERS_MAX: usize = 16;
/// A new controller has caught up when it lacks at most so many entries.
const CLOSE: u64 = 50;

/// The members of the quorum.
#[derive(Clone)]
pub(crate) struct Members {
    raft: Raft,
    local: Arc<Local>,
    peers: Peers,
    changing: Arc<Mutex<()>>,
}

impl Members {
    pub(crate) fn new(raft: Raft, local: Arc<Local>, peers: Peers) -> Self {
        Self { raft, local, peers, changing: Arc::default() }
    }

    fn metrics(&self) -> Metrics {
        self.raft.metrics().borrow().clone()
    }

    /// Makes the controller at `address` a voter.
    ///
    /// # Errors
    /// DUPLICATE_VOTER, INVALID_REQUEST when another node answers there, or a retryable error.
    pub(crate) async fn add(&self, node: NodeId, address: String) -> Result<DirectoryId, Refusal> {
        let this = self.clone();
        owned(async move { this.add_now(node, address).await }).await
    }

    /// Takes a controller's vote, also this one's own; or has an observer forgotten. One that goes on running asks to observe
    /// by itself.
    ///
    /// # Errors
    /// VOTER_NOT_FOUND, INVALID_REQUEST when it can not be done, or a retryable error.
    pub(crate) async fn remove(&self, node: NodeId, directory: Option<DirectoryId>) -> Result<(), Refusal> {
        let this = self.clone();
        owned(async move { this.remove_now(node, directory).await }).await
    }

    /// Lets a controller without a vote follow.
    ///
    /// # Errors
    /// DUPLICATE_VOTER when the node has a vote with this or another directory, INVALID_REQUEST when another answers at its
    /// address, or a retryable error.
    pub(crate) async fn observe(&self, voter: VoterId, address: String) -> Result<(), Refusal> {
        let this = self.clone();
        owned(async move { this.observe_now(voter, address).await }).await
    }

    async fn observe_now(&self, voter: VoterId, address: String) -> Result<(), Refusal> {
        let _one = self.changing.try_lock().map_err(|_| busy())?;
        if self.voters().iter().any(|known| known.node == voter.node) {
            let text = format!("node {} has a vote; see `vltava quorum describe`", voter.node);
            return Err(Refusal::new(ErrorCode::DuplicateVoter, text));
        }
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership();
        let known = membership.get_node(&voter);
        if known.is_some_and(|known| known.address == address) {
            return Ok(());
        }
        let moved = known.is_some();
        if !moved && membership.learner_ids().count() >= OBSERVERS_MAX {
            let text = format!(
                "there are {OBSERVERS_MAX} observers: remove those that are gone with `vltava quorum remove`"
            );
            return Err(Refusal::new(ErrorCode::PolicyViolation, text));
        }
        let directory = self.who_is_at(NodeId::new(voter.node), &address).await?;
        if directory.get() != voter.directory {
            let text = format!("node {} at {address} has directory id {directory}", voter.node);
            return Err(Refusal::new(ErrorCode::InvalidRequest, text));
        }
        if moved {
            self.change(ChangeMembers::RemoveNodes(BTreeSet::from([voter])), true).await?;
        }
        self.change(ChangeMembers::AddNodes(BTreeMap::from([(voter, VoterNode { address })])), true).await?;
        tracing::info!(%voter, "a controller without a vote follows");
        Ok(())
    }

    async fn add_now(&self, node: NodeId, address: String) -> Result<DirectoryId, Refusal> {
        let _one = self.changing.try_lock().map_err(|_| busy())?;
        let voters = self.voters();
        if let Some(known) = voters.iter().find(|voter| voter.node == node.get()) {
            let text = format!(
                "controller {node} is a voter already, with directory id {}; if its disk was replaced, remove that one first",
                DirectoryId::new(known.directory)
            );
            return Err(Refusal::new(ErrorCode::DuplicateVoter, text));
        }
        let directory = self.who_is_at(node, &address).await?;
        let voter = VoterId::new(node.get(), directory.get());
        let change = ChangeMembers::AddNodes(BTreeMap::from([(voter, VoterNode { address })]));
        self.change(change, true).await?;
        if let Err(refusal) = self.caught_up(voter).await {
            let back = self.change(ChangeMembers::RemoveNodes(BTreeSet::from([voter])), true).await;
            if let Err(error) = back {
                tracing::warn!(%error, %voter, "the observer that did not catch up stays");
            }
            return Err(refusal);
        }
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([voter])), true).await?;
        tracing::info!(%voter, "a controller votes from now on");
        Ok(directory)
    }

    async fn who_is_at(&self, node: NodeId, address: &str) -> Result<DirectoryId, Refusal> {
        let invalid = |text: String| Refusal::new(ErrorCode::InvalidRequest, text);
        let answer = self.peers.identify(address, ASK).await.map_err(|status| {
            let text =
                format!("no controller answers at {address} ({}): start node {node} first", status.message());
            Refusal::new(ErrorCode::BrokerNotAvailable, text)
        })?;
        if answer.node_id != node.get() {
            return Err(invalid(format!("node {} answers at {address}, not node {node}", answer.node_id)));
        }
        let theirs = ClusterId::from_slice(&answer.cluster_id);
        if let (Some(theirs), Some(ours)) = (theirs, self.local.cluster())
            && theirs != ours
        {
            let text = format!("node {node} belongs to cluster {theirs}, this is cluster {ours}");
            return Err(Refusal::new(ErrorCode::InconsistentClusterId, text));
        }
        DirectoryId::from_slice(&answer.directory_id)
            .ok_or_else(|| invalid(format!("node {node} at {address} names no directory id")))
    }

    /// Waits until an observer has almost everything; gives it up when it gains nothing.
    async fn caught_up(&self, voter: VoterId) -> Result<(), Refusal> {
        let mut metrics = self.raft.metrics();
        let (mut best, mut gained) = (None, Instant::now());
        loop {
            let seen = metrics.borrow_and_update().clone();
            let Some(replication) = &seen.replication else {
                return Err(Refusal::new(ErrorCode::NotController, "this controller leads no more"));
            };
            let matched = replication.get(&voter).copied().flatten().map(|id| id.index);
            if matched.is_some_and(|matched| matched + CLOSE >= seen.last_log_index.unwrap_or(0)) {
                return Ok(());
            }
            if matched > best {
                (best, gained) = (matched, Instant::now());
            }
            let left = STALLED.saturating_sub(gained.elapsed());
            if left.is_zero() {
                let text = format!("controller {} does not catch up; see its log", voter.node);
                return Err(Refusal::new(ErrorCode::RequestTimedOut, text));
            }
            if let Ok(Err(_)) = tokio::time::timeout(left, metrics.changed()).await {
                return Err(Refusal::new(ErrorCode::NotController, "this controller stops"));
            }
        }
    }

    async fn remove_now(&self, node: NodeId, directory: Option<DirectoryId>) -> Result<(), Refusal> {
        let _one = self.changing.try_lock().map_err(|_| busy())?;
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership();
        let voters = self.voters();
        let is_meant = |voter: &&VoterId| {
            voter.node == node.get() && directory.is_none_or(|directory| directory.get() == voter.directory)
        };
        if let Some(voter) = voters.iter().find(is_meant).copied() {
            if voters.len() == 1 {
                let text = "the last voter can not be removed: the cluster would have no controller";
                return Err(Refusal::new(ErrorCode::InvalidRequest, text));
            }
            self.change(ChangeMembers::RemoveVoters(BTreeSet::from([voter])), false).await?;
            tracing::info!(%voter, "a controller votes no more");
            return Ok(());
        }
        // An observer: it lost its vote before, or never had one.
        let learner = membership.learner_ids().find(|voter| is_meant(&voter));
        let Some(learner) = learner else {
            let known: Vec<_> = voters.iter().map(|voter| voter.to_string()).collect();
            let text = format!("controller {node} is no such voter; the voters are {}", known.join(", "));
            return Err(Refusal::new(ErrorCode::VoterNotFound, text));
        };
        self.change(ChangeMembers::RemoveNodes(BTreeSet::from([learner])), true).await
    }

    /// Ends a change that a controller before this one left half-done.
    pub(crate) async fn finish(&self) {
        let Ok(_one) = self.changing.try_lock() else { return };
        if self.metrics().membership_config.membership().get_joint_config().len() > 1 {
            let change = ChangeMembers::ReplaceAllVoters(self.voters());
            if let Err(error) = self.change(change, false).await {
                tracing::warn!(%error, "a half-done change of voters could not be ended yet");
            }
        }
    }

    async fn change(&self, change: ChangeMembers<VoterId, VoterNode>, retain: bool) -> Result<(), Refusal> {
        let changed = tokio::time::timeout(COMMIT, self.raft.change_membership(change, retain)).await;
        match changed {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if error.forward_to_leader().is_some() => {
                Err(Refusal::new(ErrorCode::NotController, "this controller leads no more"))
            }
            Ok(Err(error)) => Err(Refusal::new(ErrorCode::InvalidRequest, error.to_string())),
            Err(_) => Err(Refusal::new(
                ErrorCode::RequestTimedOut,
                "no quorum confirmed the change in time; see `vltava quorum describe`",
            )),
        }
    }

    /// Those who vote once every change is done.
    fn voters(&self) -> BTreeSet<VoterId> {
        self.metrics().membership_config.membership().get_joint_config().last().cloned().unwrap_or_default()
    }

    /// All voters with their addresses.
    pub(crate) fn identities(&self) -> Vec<VoterIdentity> {
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership();
        let identity = |voter: VoterId| VoterIdentity {
            node_id: voter.node,
            directory_id: voter.directory.to_be_bytes().to_vec().into(),
            address: membership.get_node(&voter).map(|node| node.address.clone()).unwrap_or_default(),
        };
        membership.voter_ids().map(identity).collect()
    }

    /// The quorum as its leader sees it.
    pub(crate) fn describe(&self) -> DescribeQuorumResponse {
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership();
        let last = metrics.last_log_index;
        let replica = |voter: VoterId| {
            let matched = match voter == self.local.voter {
                true => last,
                false => metrics
                    .replication
                    .as_ref()
                    .and_then(|all| all.get(&voter).copied().flatten())
                    .map(|id| id.index),
            };
            QuorumReplica {
                id: voter.node,
                directory_id: voter.directory.to_be_bytes().to_vec().into(),
                address: membership.get_node(&voter).map(|node| node.address.clone()).unwrap_or_default(),
                log_end_offset: matched,
                lag: matched.map(|matched| last.unwrap_or(0).saturating_sub(matched)),
            }
        };
        DescribeQuorumResponse {
            leader_id: metrics.current_leader.map(|leader| leader.node),
            leader_epoch: metrics.current_term,
            high_watermark: metrics.last_applied.map_or(0, |id| id.index),
            voters: membership.voter_ids().map(replica).collect(),
            observers: membership.learner_ids().map(replica).collect(),
        }
    }
}

fn busy() -> Refusal {
    Refusal::new(
        ErrorCode::ThrottlingQuotaExceeded,
        "another change of the voters is under way: try again when it is done",
    )
}

/// Runs to its end even if whoever waits for it goes away.
async fn owned<T: Send + 'static>(
    work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::spawn(work).await {
        Ok(result) => result,
        Err(error) => Err(Refusal::new(ErrorCode::UnknownServerError, format!("the change ended: {error}"))),
    }
}
