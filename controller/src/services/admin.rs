//! The `Admin` service on a controller. Only the active one serves it; another names the active one.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use vltava_model::{DirectoryId, ErrorCode, NodeId};
use vltava_proto::status;
use vltava_proto::v1::admin_server::Admin;
use vltava_proto::v1::*;

use super::principal::{Operation, admit};
use super::{describe, refused, status_of};
use crate::decide;
use crate::machine::Published;
use crate::queue::Queue;
use crate::raft::membership::Members;

/// Serves administrators.
#[derive(Clone)]
pub(crate) struct AdminService {
    pub me: NodeId,
    pub queue: Queue,
    pub published: Published,
    pub members: Members,
}

impl AdminService {
    /// The applied state, where this controller may answer from it.
    fn image(&self) -> Result<Arc<vltava_metadata::Image>, Status> {
        self.queue.active().map_err(|error| status_of(&error))?;
        Ok(self.published.image())
    }
}

/// Has a request decided by `decide/<module>`.
macro_rules! decide {
    ($self:ident, $request:ident, $module:ident) => {{
        admit(&$request, Operation::Alter)?;
        let request = $request.into_inner();
        let decided = $self.queue.decide(move |view| decide::$module::decide(view, &request)).await;
        Ok(Response::new(decided.map_err(|error| status_of(&error))?.response))
    }};
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn create_topics(
        &self,
        request: Request<CreateTopicsRequest>,
    ) -> Result<Response<CreateTopicsResponse>, Status> {
        decide!(self, request, create_topics)
    }

    async fn delete_topics(
        &self,
        request: Request<DeleteTopicsRequest>,
    ) -> Result<Response<DeleteTopicsResponse>, Status> {
        decide!(self, request, delete_topics)
    }

    async fn create_partitions(
        &self,
        request: Request<CreatePartitionsRequest>,
    ) -> Result<Response<CreatePartitionsResponse>, Status> {
        decide!(self, request, create_partitions)
    }

    async fn describe_topics(
        &self,
        request: Request<DescribeTopicsRequest>,
    ) -> Result<Response<DescribeTopicsResponse>, Status> {
        admit(&request, Operation::Describe)?;
        Ok(Response::new(describe::topics(&*self.image()?, request.get_ref())))
    }

    async fn delete_records(
        &self,
        request: Request<DeleteRecordsRequest>,
    ) -> Result<Response<DeleteRecordsResponse>, Status> {
        admit(&request, Operation::Alter)?;
        let text = "a controller holds no records: send this to a broker's GRPC listener";
        Err(status::status(ErrorCode::InvalidRequest, text))
    }

    async fn elect_leaders(
        &self,
        request: Request<ElectLeadersRequest>,
    ) -> Result<Response<ElectLeadersResponse>, Status> {
        decide!(self, request, elect_leaders)
    }

    async fn describe_configs(
        &self,
        request: Request<DescribeConfigsRequest>,
    ) -> Result<Response<DescribeConfigsResponse>, Status> {
        admit(&request, Operation::Describe)?;
        Ok(Response::new(describe::configs(&*self.image()?, request.into_inner())))
    }

    async fn alter_configs(
        &self,
        request: Request<AlterConfigsRequest>,
    ) -> Result<Response<AlterConfigsResponse>, Status> {
        decide!(self, request, alter_configs)
    }

    async fn describe_cluster(
        &self,
        request: Request<DescribeClusterRequest>,
    ) -> Result<Response<DescribeClusterResponse>, Status> {
        admit(&request, Operation::Describe)?;
        Ok(Response::new(describe::cluster(&*self.image()?, Some(self.me))))
    }

    async fn unregister_broker(
        &self,
        request: Request<UnregisterBrokerRequest>,
    ) -> Result<Response<UnregisterBrokerResponse>, Status> {
        decide!(self, request, unregister_broker)
    }

    async fn describe_quorum(
        &self,
        request: Request<DescribeQuorumRequest>,
    ) -> Result<Response<DescribeQuorumResponse>, Status> {
        admit(&request, Operation::Describe)?;
        self.image()?;
        Ok(Response::new(self.members.describe()))
    }

    async fn add_voter(
        &self,
        request: Request<AddVoterRequest>,
    ) -> Result<Response<AddVoterResponse>, Status> {
        admit(&request, Operation::Alter)?;
        self.image()?;
        let AddVoterRequest { node_id, address } = request.into_inner();
        let directory =
            self.members.add(NodeId::new(node_id), address).await.map_err(|refusal| refused(&refusal))?;
        Ok(Response::new(AddVoterResponse { directory_id: directory.to_bytes().to_vec().into() }))
    }

    async fn remove_voter(
        &self,
        request: Request<RemoveVoterRequest>,
    ) -> Result<Response<RemoveVoterResponse>, Status> {
        admit(&request, Operation::Alter)?;
        self.image()?;
        let RemoveVoterRequest { node_id, directory_id } = request.into_inner();
        let directory = match directory_id.is_empty() {
            true => None,
            false => Some(
                DirectoryId::from_slice(&directory_id)
                    .ok_or_else(|| status::status(ErrorCode::InvalidRequest, "a directory id is 16 bytes"))?,
            ),
        };
        let removed = self.members.remove(NodeId::new(node_id), directory).await;
        removed.map_err(|refusal| refused(&refusal))?;
        Ok(Response::new(RemoveVoterResponse {}))
    }
}
