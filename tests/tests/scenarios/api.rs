//! The gRPC API as another language's client sees it, one call at a time.

use std::future::Future;

use bytes::Bytes;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};
use vltava_client::ClientError;
use vltava_proto::v1::log_client::LogClient;
use vltava_proto::v1::{
    FetchRequest, FetchResponse, PlainRecords, ProduceRequest, ProduceResponse, Record, produce_request,
};

/// A node's gRPC listener.
pub struct Api {
    runtime: Runtime,
    channel: Channel,
}

impl Api {
    /// Of the node that listens on this port.
    pub fn new(port: u16) -> Self {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).expect("it is an address");
        let channel = runtime.block_on(async { endpoint.connect_lazy() });
        Self { runtime, channel }
    }

    /// The connection, for calls that have no method here.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Waits for one call.
    pub fn call<T>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, ClientError> {
        self.runtime.block_on(call).map(Response::into_inner).map_err(ClientError::from)
    }

    /// Appends once.
    pub fn append(&self, request: ProduceRequest) -> Result<ProduceResponse, ClientError> {
        let mut log = LogClient::new(self.channel()).max_encoding_message_size(usize::MAX);
        self.call(log.append(request))
    }

    /// Reads once.
    pub fn fetch(&self, request: FetchRequest) -> Result<FetchResponse, ClientError> {
        let mut log = LogClient::new(self.channel());
        self.call(log.fetch(request))
    }
}

/// A request that appends one record.
pub fn append(topic: &str, partition: u32, value: &[u8]) -> ProduceRequest {
    let record = Record { value: Some(Bytes::copy_from_slice(value)), ..Record::default() };
    let records = PlainRecords::from_iter([record]);
    ProduceRequest {
        topic: topic.to_owned(),
        partition,
        timeout_ms: 10_000,
        payload: Some(produce_request::Payload::Records(records)),
        ..ProduceRequest::default()
    }
}
