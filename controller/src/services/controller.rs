//! The `Controller` service: what brokers say to the active controller, and who is who.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use vltava_model::{ClusterId, DirectoryId, ErrorCode};
use vltava_proto::status::status;
use vltava_proto::v1::controller_server::Controller;
use vltava_proto::v1::{
    AllocateProducerIdsRequest, AllocateProducerIdsResponse, AlterPartitionsRequest, AlterPartitionsResponse,
    AssignDirectoriesRequest, AssignDirectoriesResponse, BrokerMessage, ControllerMessage, IdentifyRequest,
    IdentifyResponse, ObserveRequest, ObserveResponse, RaftPosition, ReportReplicasRequest,
    ReportReplicasResponse,
};

use vltava_raft_store::{Position, VoterId};

use super::principal::{Operation, admit};
use super::{refused, status_of};
use crate::decide;
use crate::raft::leadership::{Leadership, Situation};
use crate::raft::membership::Members;
use crate::raft::{self, Raft};
use crate::session::{OUTBOUND, Sessions};

/// Serves brokers.
#[derive(Clone)]
pub(crate) struct ControllerService {
    pub sessions: Arc<Sessions>,
    pub raft: Raft,
    pub members: Members,
    pub situation: watch::Receiver<Situation>,
}

#[tonic::async_trait]
impl Controller for ControllerService {
    type SessionStream = ReceiverStream<Result<ControllerMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<BrokerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        admit(&request, Operation::ClusterAction)?;
        let (out, outbound) = mpsc::channel(OUTBOUND);
        tokio::spawn(self.sessions.clone().serve(request.into_inner(), out));
        Ok(Response::new(ReceiverStream::new(outbound)))
    }

    async fn alter_partitions(
        &self,
        request: Request<AlterPartitionsRequest>,
    ) -> Result<Response<AlterPartitionsResponse>, Status> {
        admit(&request, Operation::ClusterAction)?;
        let request = request.into_inner();
        let tenure = self.sessions.queue.active().map_err(|error| status_of(&error))?;
        let decided =
            self.sessions.queue.decide(move |view| decide::alter_partitions::decide(view, &request)).await;
        let mut response = decided.map_err(|error| status_of(&error))?.response;
        response.stamp = Some(self.sessions.local.stamp(tenure.term));
        Ok(Response::new(response))
    }

    async fn allocate_producer_ids(
        &self,
        request: Request<AllocateProducerIdsRequest>,
    ) -> Result<Response<AllocateProducerIdsResponse>, Status> {
        admit(&request, Operation::ClusterAction)?;
        let request = request.into_inner();
        let decide = move |view: &decide::View| decide::allocate_producer_ids::decide(view, &request);
        let decided = self.sessions.queue.decide(decide).await.map_err(|error| status_of(&error))?;
        Ok(Response::new(decided.response))
    }

    async fn assign_directories(
        &self,
        request: Request<AssignDirectoriesRequest>,
    ) -> Result<Response<AssignDirectoriesResponse>, Status> {
        admit(&request, Operation::ClusterAction)?;
        let request = request.into_inner();
        let decide = move |view: &decide::View| decide::assign_directories::decide(view, &request);
        let decided = self.sessions.queue.decide(decide).await.map_err(|error| status_of(&error))?;
        Ok(Response::new(decided.response))
    }

    async fn report_replicas(
        &self,
        request: Request<ReportReplicasRequest>,
    ) -> Result<Response<ReportReplicasResponse>, Status> {
        admit(&request, Operation::ClusterAction)?;
        let request = request.into_inner();
        let decide = move |view: &decide::View| decide::report_replicas::decide(view, &request);
        let decided = self.sessions.queue.decide(decide).await.map_err(|error| status_of(&error))?;
        Ok(Response::new(decided.response))
    }

    async fn identify(
        &self,
        request: Request<IdentifyRequest>,
    ) -> Result<Response<IdentifyResponse>, Status> {
        admit(&request, Operation::Describe)?;
        let stopped = |error| Status::unavailable(format!("Raft has stopped: {error}"));
        let initialised = self.raft.is_initialized().await.map_err(stopped)?;
        let last_log = raft::last_log(&self.raft).await.map_err(stopped)?;
        let local = &self.sessions.local;
        let situation = self.situation.borrow().clone();
        let leader_address = match &situation.leadership {
            Leadership::Unknown => String::new(),
            Leadership::Following { address, .. } => address.clone(),
            Leadership::Leading => local.address.clone(),
        };
        Ok(Response::new(IdentifyResponse {
            node_id: local.voter.node,
            directory_id: local.directory().to_bytes().to_vec().into(),
            cluster_id: local.cluster_bytes(),
            initialised,
            leader_id: situation.leader(local.node()).map(vltava_model::NodeId::get),
            leader_address,
            voters: self.members.identities(),
            term: situation.term,
            last_log: last_log.map(|Position { term, index }| RaftPosition { term, index }),
        }))
    }

    async fn observe(&self, request: Request<ObserveRequest>) -> Result<Response<ObserveResponse>, Status> {
        admit(&request, Operation::ClusterAction)?;
        self.sessions.queue.active().map_err(|error| status_of(&error))?;
        let ObserveRequest { node_id, directory_id, cluster_id, address } = request.into_inner();
        let directory = DirectoryId::from_slice(&directory_id)
            .ok_or_else(|| status(ErrorCode::InvalidRequest, "a directory id is 16 bytes"))?;
        if !cluster_id.is_empty() && ClusterId::from_slice(&cluster_id) != self.sessions.local.cluster() {
            return Err(status(ErrorCode::InconsistentClusterId, "this is another cluster"));
        }
        let voter = VoterId::new(node_id, directory.get());
        self.members.observe(voter, address).await.map_err(|refusal| refused(&refusal))?;
        Ok(Response::new(ObserveResponse {}))
    }
}
