//! openraft's way to the other controllers: one gRPC connection for each peer, every call named by both ends.
//!
//! A peer that refuses, or cannot be reached, is `Unreachable`: openraft then waits before it tries again. Nothing here
//! retries by itself, and nothing connects to this controller itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use openraft::AnyError;
use openraft::error::{InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use vltava_proto::v1::RaftRequest;
use vltava_proto::v1::raft_client::RaftClient;
use vltava_raft_store::{TypeConfig, VoterId, VoterNode};

use super::local::Local;
use super::wire::{self, ChunkAnswer, WireError};

/// The largest message between controllers, in bytes: above the largest entry with room for its head.
pub(crate) const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// How often a connection is probed, and how long the answer may take.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(5);

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(1);

/// A peer that cannot be reached is tried again after so long at first, and after at most so long.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_millis(500);

/// A channel to `HOST:PORT` that connects when it is first used.
///
/// # Errors
/// When the address is no address.
pub(crate) fn channel(address: &str) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    let endpoint = endpoint
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(8 << 20);
    Ok(vltava_transport::connect_lazy(&endpoint))
}

/// Makes clients for openraft; one connection a peer, shared by all clients for it.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    local: Arc<Local>,
    channels: Arc<Mutex<BTreeMap<VoterId, (String, Channel)>>>,
}

impl Network {
    pub(crate) fn new(local: Arc<Local>) -> Self {
        Self { local, channels: Arc::default() }
    }

    fn channel(&self, target: VoterId, address: &str) -> Result<Channel, String> {
        if target == self.local.voter || address == self.local.address {
            return Err("this controller does not call itself".into());
        }
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        match channels.get(&target) {
            Some((known, channel)) if known == address => Ok(channel.clone()),
            _ => {
                let made = channel(address).map_err(|error| format!("{address}: {error}"))?;
                channels.insert(target, (address.to_owned(), made.clone()));
                Ok(made)
            }
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: VoterId, node: &VoterNode) -> Peer {
        let client = self.channel(target, &node.address).map(|channel| {
            RaftClient::new(channel)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES)
        });
        Peer { local: self.local.clone(), target, client }
    }
}

/// The way to one peer.
#[derive(Debug)]
pub(crate) struct Peer {
    local: Arc<Local>,
    target: VoterId,
    client: Result<RaftClient<Channel>, String>,
}

type CallError<E> = RPCError<VoterId, VoterNode, RaftError<VoterId, E>>;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
enum CallFailure {
    #[error("{0}")]
    NoWay(String),
    #[error("{0}")]
    Status(#[from] Status),
    #[error("{0}")]
    Wire(#[from] WireError),
}

impl<E: std::error::Error> From<CallFailure> for CallError<E> {
    fn from(failure: CallFailure) -> Self {
        match failure {
            // An answer that cannot be read will not be better after a pause, but the next request may.
            CallFailure::Wire(error) => NetworkError::new(&error).into(),
            other => Unreachable::new(&AnyError::error(other)).into(),
        }
    }
}

#[derive(Clone, Copy)]
enum Method {
    AppendEntries,
    Vote,
    InstallSnapshot,
}

impl Peer {
    async fn call(&mut self, method: Method, body: Bytes, option: &RPCOption) -> Result<Bytes, CallFailure> {
        let client = self.client.as_mut().map_err(|why| CallFailure::NoWay(why.clone()))?;
        let mut request = Request::new(RaftRequest {
            cluster_id: self.local.cluster_bytes(),
            sender_node_id: self.local.voter.node,
            sender_directory_id: self.local.directory().to_bytes().to_vec().into(),
            target_node_id: self.target.node,
            target_directory_id: self.target.directory.to_be_bytes().to_vec().into(),
            body,
        });
        request.set_timeout(option.hard_ttl());
        let answer = async {
            match method {
                Method::AppendEntries => client.append_entries(request).await,
                Method::Vote => client.vote(request).await,
                Method::InstallSnapshot => client.install_snapshot(request).await,
            }
        };
        // openraft drops a call at its hard limit as well, but not every call.
        match tokio::time::timeout(option.hard_ttl(), answer).await {
            Ok(answer) => Ok(answer?.into_inner().body),
            Err(_) => Err(Status::deadline_exceeded("no answer in time").into()),
        }
    }
}

impl RaftNetwork<TypeConfig> for Peer {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<VoterId>, CallError<openraft::error::Infallible>> {
        let body = self.call(Method::AppendEntries, wire::encode_append(&rpc), &option).await?;
        Ok(wire::decode_append_reply(body).map_err(CallFailure::from)?)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<VoterId>,
        option: RPCOption,
    ) -> Result<VoteResponse<VoterId>, CallError<openraft::error::Infallible>> {
        let body = self.call(Method::Vote, wire::encode_vote(&rpc), &option).await?;
        Ok(wire::decode_vote_reply(body).map_err(CallFailure::from)?)
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<VoterId>, CallError<InstallSnapshotError>> {
        let body = self.call(Method::InstallSnapshot, wire::encode_chunk(&rpc), &option).await?;
        match wire::decode_chunk_answer(body).map_err(CallFailure::from)? {
            ChunkAnswer::Received(vote) => Ok(InstallSnapshotResponse { vote }),
            ChunkAnswer::Mismatch(mismatch) => {
                let error = RaftError::APIError(InstallSnapshotError::SnapshotMismatch(mismatch));
                Err(RemoteError::new(self.target, error).into())
            }
        }
    }

    fn backoff(&self) -> Backoff {
        let growing = std::iter::successors(Some(BACKOFF_MIN), |last| Some((*last * 2).min(BACKOFF_MAX)));
        Backoff::new(growing)
    }
}
