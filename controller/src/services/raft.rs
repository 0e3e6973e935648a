//! The `Raft` service: what other controllers' Raft says to this one's. Every call is checked for who calls and whom it
//! means before Raft hears of it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use openraft::error::{Fatal, InstallSnapshotError, RaftError};
use openraft::raft::AppendEntriesResponse;
use tonic::{Request, Response, Status};
use vltava_model::{ClusterId, DirectoryId, ErrorCode};
use vltava_proto::status;
use vltava_proto::v1::raft_server::Raft as RaftService;
use vltava_proto::v1::{RaftRequest, RaftResponse};
use vltava_raft_store::{RaftVote, VoterId};

use super::principal::{Operation, admit};
use crate::identity::Identity;
use crate::options::FatalHook;
use crate::raft::Raft;
use crate::raft::leadership::Heard;
use crate::raft::local::Local;
use crate::raft::wire::{self, ChunkAnswer, WireError};

/// The server side of Raft.
#[derive(Clone)]
pub(crate) struct Server {
    pub raft: Raft,
    pub local: Arc<Local>,
    pub heard: Heard,
    pub identity: Arc<Mutex<Identity>>,
    pub fatal: FatalHook,
}

type Answer = Result<Response<RaftResponse>, Status>;

fn invalid(why: impl Into<String>) -> Status {
    status::status(ErrorCode::InvalidRequest, why)
}

fn malformed(error: WireError) -> Status {
    invalid(error.to_string())
}

fn answer(body: Bytes) -> Answer {
    Ok(Response::new(RaftResponse { body }))
}

/// Raft has stopped, or stops now.
fn stopped(error: &Fatal<VoterId>) -> Status {
    Status::unavailable(format!("Raft has stopped: {error}"))
}

impl Server {
    /// Who calls, when it means this controller and belongs to this cluster.
    fn check(&self, request: &RaftRequest) -> Result<VoterId, Status> {
        let target = DirectoryId::from_slice(&request.target_directory_id);
        if request.target_node_id != self.local.voter.node || target != Some(self.local.directory()) {
            return Err(invalid(format!(
                "this is controller {}, not {} with directory id {}",
                self.local.voter,
                request.target_node_id,
                target.map_or("none".into(), |id| id.to_string())
            )));
        }
        let directory = DirectoryId::from_slice(&request.sender_directory_id)
            .ok_or_else(|| invalid("the sender names no directory id"))?;
        let sender = VoterId::new(request.sender_node_id, directory.get());
        if sender.node == self.local.voter.node {
            return Err(invalid(format!("controller {sender} has this controller's own node id")));
        }
        if !request.cluster_id.is_empty() {
            let theirs = ClusterId::from_slice(&request.cluster_id)
                .ok_or_else(|| invalid("a cluster id is 16 bytes"))?;
            if let Some(ours) = self.local.cluster().filter(|ours| *ours != theirs) {
                let text = format!("controller {sender} belongs to cluster {theirs}, this one to {ours}");
                return Err(status::status(ErrorCode::InconsistentClusterId, text));
            }
        }
        Ok(sender)
    }

    fn check_vote(&self, sender: VoterId, vote: &RaftVote) -> Result<(), Status> {
        match vote.leader_id.voted_for == Some(sender) {
            true => self.mark_used(),
            false => Err(invalid(format!("controller {sender} speaks for {vote}"))),
        }
    }

    /// Before anything can be written: a directory that took part in Raft must never pass for a new one.
    fn mark_used(&self) -> Result<(), Status> {
        let mut identity = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        identity.mark_used().map_err(|error| {
            (self.fatal)(format!("the metadata directory can not be written: {error}"));
            Status::unavailable(error.to_string())
        })
    }
}

#[tonic::async_trait]
impl RaftService for Server {
    async fn append_entries(&self, request: Request<RaftRequest>) -> Answer {
        admit(&request, Operation::ClusterAction)?;
        let request = request.into_inner();
        let sender = self.check(&request)?;
        let rpc = wire::decode_append(request.body).map_err(malformed)?;
        self.check_vote(sender, &rpc.vote)?;
        let reply = self.raft.append_entries(rpc).await.map_err(|error| match error {
            RaftError::Fatal(fatal) => stopped(&fatal),
            RaftError::APIError(never) => match never {},
        })?;
        if !matches!(reply, AppendEntriesResponse::HigherVote(_)) {
            self.heard.now();
        }
        answer(wire::encode_append_reply(&reply))
    }

    async fn vote(&self, request: Request<RaftRequest>) -> Answer {
        admit(&request, Operation::ClusterAction)?;
        let request = request.into_inner();
        let sender = self.check(&request)?;
        let rpc = wire::decode_vote(request.body).map_err(malformed)?;
        self.check_vote(sender, &rpc.vote)?;
        let reply = self.raft.vote(rpc).await.map_err(|error| match error {
            RaftError::Fatal(fatal) => stopped(&fatal),
            RaftError::APIError(never) => match never {},
        })?;
        answer(wire::encode_vote_reply(&reply))
    }

    async fn install_snapshot(&self, request: Request<RaftRequest>) -> Answer {
        admit(&request, Operation::ClusterAction)?;
        let request = request.into_inner();
        let sender = self.check(&request)?;
        let rpc = wire::decode_chunk(request.body).map_err(malformed)?;
        self.check_vote(sender, &rpc.vote)?;
        let reply = match self.raft.install_snapshot(rpc).await {
            Ok(reply) => ChunkAnswer::Received(reply.vote),
            Err(RaftError::APIError(InstallSnapshotError::SnapshotMismatch(mismatch))) => {
                ChunkAnswer::Mismatch(mismatch)
            }
            Err(RaftError::Fatal(fatal)) => return Err(stopped(&fatal)),
        };
        self.heard.now();
        answer(wire::encode_chunk_answer(reply))
    }
}
