//! The quorum: openraft's network, who votes, and who leads. openraft's types stay in here; what entries say is unknown.

pub(crate) mod elections;
pub(crate) mod forming;
pub(crate) mod leadership;
pub(crate) mod local;
pub(crate) mod membership;
pub(crate) mod network;
pub(crate) mod observing;
pub(crate) mod peers;
pub(crate) mod wire;

use openraft::error::{Fatal, RaftError};
use openraft::raft::VoteRequest;
use vltava_raft_store::{Position, RaftVote, TypeConfig, VoterId, VoterNode};

/// openraft with our types.
pub(crate) type Raft = openraft::Raft<TypeConfig>;
/// What openraft says of itself.
pub(crate) type Metrics = openraft::RaftMetrics<VoterId, VoterNode>;

/// Where Raft's log ends; `None` while it was not initialised. It tells that to nobody but candidates, so it is asked for
/// a vote that it never gives: one of no term, to one with no log.
///
/// # Errors
/// Raft has stopped.
pub(crate) async fn last_log(raft: &Raft) -> Result<Option<Position>, Fatal<VoterId>> {
    // It would take the vote before it has any.
    if !raft.is_initialized().await? {
        return Ok(None);
    }
    match raft.vote(VoteRequest::new(RaftVote::default(), None)).await {
        Ok(answer) => Ok(answer.last_log_id.map(Into::into)),
        Err(RaftError::Fatal(fatal)) => Err(fatal),
        Err(RaftError::APIError(never)) => match never {},
    }
}
