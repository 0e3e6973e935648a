//! The `Admin` service on a broker: what only the active controller can do is passed on to it; the answer is given when
//! this broker's own metadata has caught up with it, so that the asker finds here what it was told.

use std::sync::Arc;
use std::time::Duration;

use tonic::{Request, Response, Status};
use vltava_model::{ErrorCode, MetadataOffset};
use vltava_proto::status;
use vltava_proto::v1::admin_server::Admin;
use vltava_proto::v1::*;

use super::principal::{Operation, admit};
use super::{describe, offsets};
use crate::state::BrokerState;

/// How long an answer waits for this broker's metadata.
const CATCH_UP: Duration = Duration::from_secs(10);

/// How long one passed-on call may take.
const CALL: Duration = Duration::from_secs(60);

/// A call that met no active controller is tried again this often before the asker is told.
const ATTEMPTS: usize = 20;
const PAUSE: Duration = Duration::from_millis(150);

/// Serves administrators.
#[derive(Clone)]
pub struct AdminService {
    state: Arc<BrokerState>,
}

impl AdminService {
    /// Serves for the broker that `state` belongs to.
    pub fn new(state: Arc<BrokerState>) -> Self {
        Self { state }
    }

    async fn caught_up(&self, offset: u64) {
        let reached = self.state.wait_for_metadata(MetadataOffset::new(offset));
        if tokio::time::timeout(CATCH_UP, reached).await.is_err() {
            tracing::warn!(offset, "answering an admin request before this broker has caught up with it");
        }
    }
}

/// Whether the call certainly did nothing and another controller may take it.
fn may_move(status: &Status) -> bool {
    status::code_of(&status::detail_of(status)) == ErrorCode::NotController
}

/// Passes a call on to the active controller, following it when it moves.
macro_rules! pass_on {
    ($self:ident, $request:ident, $operation:ident, $method:ident) => {{
        admit(&$request, Operation::$operation)?;
        let message = $request.into_inner();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let mut controller = $self.state.link.admin().await?;
            let mut call = Request::new(message.clone());
            call.set_timeout(CALL);
            match controller.$method(call).await {
                Ok(response) => break response.into_inner(),
                Err(status) if may_move(&status) && attempt < ATTEMPTS => tokio::time::sleep(PAUSE).await,
                Err(status) => return Err(status),
            }
        }
    }};
}

/// As `pass_on`, then waits until this broker has applied what was done.
macro_rules! pass_on_and_wait {
    ($self:ident, $request:ident, $method:ident) => {{
        let response = pass_on!($self, $request, Alter, $method);
        $self.caught_up(response.metadata_offset).await;
        Ok(Response::new(response))
    }};
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn create_topics(
        &self,
        request: Request<CreateTopicsRequest>,
    ) -> Result<Response<CreateTopicsResponse>, Status> {
        pass_on_and_wait!(self, request, create_topics)
    }

    async fn delete_topics(
        &self,
        request: Request<DeleteTopicsRequest>,
    ) -> Result<Response<DeleteTopicsResponse>, Status> {
        pass_on_and_wait!(self, request, delete_topics)
    }

    async fn create_partitions(
        &self,
        request: Request<CreatePartitionsRequest>,
    ) -> Result<Response<CreatePartitionsResponse>, Status> {
        pass_on_and_wait!(self, request, create_partitions)
    }

    async fn describe_topics(
        &self,
        request: Request<DescribeTopicsRequest>,
    ) -> Result<Response<DescribeTopicsResponse>, Status> {
        admit(&request, Operation::Describe)?;
        Ok(Response::new(describe::topics(&self.state, request.get_ref()).await))
    }

    async fn delete_records(
        &self,
        request: Request<DeleteRecordsRequest>,
    ) -> Result<Response<DeleteRecordsResponse>, Status> {
        admit(&request, Operation::Alter)?;
        offsets::delete_records(&self.state, request.into_inner()).await.map(Response::new)
    }

    async fn elect_leaders(
        &self,
        request: Request<ElectLeadersRequest>,
    ) -> Result<Response<ElectLeadersResponse>, Status> {
        pass_on_and_wait!(self, request, elect_leaders)
    }

    async fn describe_configs(
        &self,
        request: Request<DescribeConfigsRequest>,
    ) -> Result<Response<DescribeConfigsResponse>, Status> {
        admit(&request, Operation::Describe)?;
        Ok(Response::new(describe::configs(&self.state, request.into_inner())))
    }

    async fn alter_configs(
        &self,
        request: Request<AlterConfigsRequest>,
    ) -> Result<Response<AlterConfigsResponse>, Status> {
        pass_on_and_wait!(self, request, alter_configs)
    }

    async fn describe_cluster(
        &self,
        request: Request<DescribeClusterRequest>,
    ) -> Result<Response<DescribeClusterResponse>, Status> {
        admit(&request, Operation::Describe)?;
        Ok(Response::new(describe::cluster(&self.state)))
    }

    async fn unregister_broker(
        &self,
        request: Request<UnregisterBrokerRequest>,
    ) -> Result<Response<UnregisterBrokerResponse>, Status> {
        pass_on_and_wait!(self, request, unregister_broker)
    }

    async fn describe_quorum(
        &self,
        request: Request<DescribeQuorumRequest>,
    ) -> Result<Response<DescribeQuorumResponse>, Status> {
        Ok(Response::new(pass_on!(self, request, Describe, describe_quorum)))
    }

    async fn add_voter(
        &self,
        request: Request<AddVoterRequest>,
    ) -> Result<Response<AddVoterResponse>, Status> {
        Ok(Response::new(pass_on!(self, request, Alter, add_voter)))
    }

    async fn remove_voter(
        &self,
        request: Request<RemoveVoterRequest>,
    ) -> Result<Response<RemoveVoterResponse>, Status> {
        Ok(Response::new(pass_on!(self, request, Alter, remove_voter)))
    }
}
