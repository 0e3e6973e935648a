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

use vltava_raft_store::{TypeConfig, VoterId, VoterNode};

/// openraft with our types.
pub(crate) type Raft = openraft::Raft<TypeConfig>;
/// What openraft says of itself.
pub(crate) type Metrics = openraft::RaftMetrics<VoterId, VoterNode>;
