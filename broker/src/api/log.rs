//! The `Log` service: wires each call to its handler.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};
use vltava_proto::status;
use vltava_proto::v1::log_server::Log;
use vltava_proto::v1::replica_server::Replica;
use vltava_proto::v1::{
    ConsumeRequest, FetchRequest, FetchResponse, FollowerMessage, InitProducerRequest, InitProducerResponse,
    LeaderMessage, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest, MetadataResponse,
    ProduceRequest, ProduceResponse,
};

use super::principal::{Operation, admit};
use super::{consume, fetch, metadata, offsets, produce};
use crate::replication;
use crate::state::BrokerState;

/// Appends of one stream that may wait for their acknowledgement.
const PRODUCE_PIPELINE: usize = 256;

type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The services that clients and peers speak with a broker.
#[derive(Clone)]
pub struct LogService {
    state: Arc<BrokerState>,
}

impl LogService {
    /// Serves what `state` holds.
    pub fn new(state: Arc<BrokerState>) -> Self {
        Self { state }
    }
}

/// Wall-clock time in milliseconds since 1970, for record timestamps only.
pub fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[tonic::async_trait]
impl Log for LogService {
    type ProduceStream = BoxStream<ProduceResponse>;
    type ConsumeStream = ReceiverStream<Result<FetchResponse, Status>>;
    type WatchMetadataStream = ReceiverStream<Result<MetadataResponse, Status>>;

    async fn produce(
        &self,
        request: Request<Streaming<ProduceRequest>>,
    ) -> Result<Response<Self::ProduceStream>, Status> {
        admit(&request, Operation::Write)?;
        let mut inbound = request.into_inner();
        let (queue, pending) = mpsc::channel(PRODUCE_PIPELINE);
        let state = self.state.clone();
        tokio::spawn(async move {
            loop {
                // Room first: what was read must be submitted, and what was submitted must be answered.
                let Ok(room) = queue.reserve().await else { return };
                match inbound.message().await {
                    Ok(Some(request)) => {
                        room.send(produce::begin(&state, request, Instant::now(), wall_ms()))
                    }
                    Ok(None) => return,
                    Err(status) => {
                        tracing::debug!(%status, "produce stream ended");
                        return;
                    }
                }
            }
        });
        let state = self.state.clone();
        let answers = ReceiverStream::new(pending).then(move |pending: produce::Pending| {
            let state = state.clone();
            async move { Ok(pending.answer(&state).await) }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn append(&self, request: Request<ProduceRequest>) -> Result<Response<ProduceResponse>, Status> {
        admit(&request, Operation::Write)?;
        let pending = produce::begin(&self.state, request.into_inner(), Instant::now(), wall_ms());
        let response = pending.answer(&self.state).await;
        match response.error {
            Some(error) => Err(status::from_detail(error)),
            None => Ok(Response::new(response)),
        }
    }

    async fn fetch(&self, request: Request<FetchRequest>) -> Result<Response<FetchResponse>, Status> {
        admit(&request, Operation::Read)?;
        fetch::fetch(&self.state, request.into_inner()).await.map(Response::new)
    }

    async fn consume(
        &self,
        request: Request<Streaming<ConsumeRequest>>,
    ) -> Result<Response<Self::ConsumeStream>, Status> {
        admit(&request, Operation::Read)?;
        let responses = consume::serve(self.state.clone(), request.into_inner()).await?;
        Ok(Response::new(ReceiverStream::new(responses)))
    }

    async fn list_offsets(
        &self,
        request: Request<ListOffsetsRequest>,
    ) -> Result<Response<ListOffsetsResponse>, Status> {
        admit(&request, Operation::Describe)?;
        Ok(Response::new(offsets::list(&self.state, request.into_inner()).await))
    }

    async fn metadata(
        &self,
        request: Request<MetadataRequest>,
    ) -> Result<Response<MetadataResponse>, Status> {
        admit(&request, Operation::Describe)?;
        Ok(Response::new(metadata::answer(&self.state, request.get_ref())))
    }

    async fn watch_metadata(
        &self,
        request: Request<MetadataRequest>,
    ) -> Result<Response<Self::WatchMetadataStream>, Status> {
        admit(&request, Operation::Describe)?;
        let responses = metadata::watch(self.state.clone(), request.into_inner());
        Ok(Response::new(ReceiverStream::new(responses)))
    }

    async fn init_producer(
        &self,
        request: Request<InitProducerRequest>,
    ) -> Result<Response<InitProducerResponse>, Status> {
        admit(&request, Operation::Write)?;
        let producer_id = self.state.producer_ids.next(&self.state).await?;
        Ok(Response::new(InitProducerResponse { producer_id: producer_id.get(), producer_epoch: 0 }))
    }
}

/// The service that following brokers speak.
#[derive(Clone)]
pub struct ReplicaService {
    state: Arc<BrokerState>,
}

impl ReplicaService {
    /// Serves what `state` holds.
    pub fn new(state: Arc<BrokerState>) -> Self {
        Self { state }
    }
}

#[tonic::async_trait]
impl Replica for ReplicaService {
    type ReplicateStream = ReceiverStream<Result<LeaderMessage, Status>>;

    async fn replicate(
        &self,
        request: Request<Streaming<FollowerMessage>>,
    ) -> Result<Response<Self::ReplicateStream>, Status> {
        admit(&request, Operation::ClusterAction)?;
        let responses = replication::leader::serve(self.state.clone(), request.into_inner()).await?;
        Ok(Response::new(ReceiverStream::new(responses)))
    }
}
