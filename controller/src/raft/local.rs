//! Who this controller is, as its peers must see it.

use vltava_model::{ClusterId, DirectoryId, IncarnationId, NodeId};
use vltava_proto::v1::ControllerStamp;
use vltava_raft_store::VoterId;

use crate::machine::Published;

/// Who this controller is.
#[derive(Clone, Debug)]
pub(crate) struct Local {
    /// Node and directory.
    pub voter: VoterId,
    /// This process.
    pub incarnation: IncarnationId,
    /// `HOST:PORT` under which the others reach it.
    pub address: String,
    /// `cluster.id` of the config file.
    pub configured_cluster: Option<ClusterId>,
    /// The applied state.
    pub published: Published,
}

impl Local {
    /// The node's number.
    pub(crate) fn node(&self) -> NodeId {
        NodeId::new(self.voter.node)
    }

    /// The directory's id.
    pub(crate) fn directory(&self) -> DirectoryId {
        DirectoryId::new(self.voter.directory)
    }

    /// The cluster that this controller belongs to, or must belong to.
    pub(crate) fn cluster(&self) -> Option<ClusterId> {
        self.published.image().cluster_id().or(self.configured_cluster)
    }

    /// The cluster's id as messages carry it: empty when it is not known.
    pub(crate) fn cluster_bytes(&self) -> bytes::Bytes {
        self.cluster().map(|id| id.to_bytes().to_vec().into()).unwrap_or_default()
    }

    /// Names the speaker in messages to brokers.
    pub(crate) fn stamp(&self, term: u64) -> ControllerStamp {
        ControllerStamp {
            term,
            node_id: self.voter.node,
            incarnation_id: self.incarnation.to_bytes().to_vec().into(),
        }
    }
}
