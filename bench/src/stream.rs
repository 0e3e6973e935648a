//! What a message there and back costs on a gRPC stream that does nothing else: the floor of everything that replicates.
//!
//! The replication service's own messages carry the bytes, so that encoding and decoding cost what they cost brokers.

use std::pin::Pin;
use std::time::Instant;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};
use vltava_proto::v1::replica_client::ReplicaClient;
use vltava_proto::v1::replica_server::{Replica, ReplicaServer};
use vltava_proto::v1::{FollowerMessage, LeaderMessage, ReplicaData, ReplicaHello};

use crate::Fallible;
use crate::load::{Latencies, RECORD_BYTES};

/// Answers each message with as many bytes.
struct Echo;

#[tonic::async_trait]
impl Replica for Echo {
    type ReplicateStream = Pin<Box<dyn Stream<Item = Result<LeaderMessage, Status>> + Send>>;

    async fn replicate(
        &self,
        request: Request<Streaming<FollowerMessage>>,
    ) -> Result<Response<Self::ReplicateStream>, Status> {
        let answers = request.into_inner().map(|message| {
            let batches = message?.hello.unwrap_or_default().cluster_id;
            Ok(LeaderMessage {
                data: vec![ReplicaData { batches, ..ReplicaData::default() }],
                ..LeaderMessage::default()
            })
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// Times `trips` messages of 1 KiB there and back, one after the other, after a tenth as many that do not count. Both ends have
/// a runtime of one thread, as a client and a broker have threads of their own.
///
/// # Errors
/// When a socket fails.
pub fn round_trips(trips: usize) -> Fallible<Latencies> {
    let server = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let listener = server.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    server.spawn(async move {
        let incoming = TcpListenerStream::new(listener).map(|connection| {
            connection.and_then(|connection| connection.set_nodelay(true).map(|()| connection))
        });
        // Ends with the runtime.
        let _ = Server::builder().add_service(ReplicaServer::new(Echo)).serve_with_incoming(incoming).await;
    });
    let client = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let latencies = client.block_on(time(format!("http://{address}"), trips));
    server.shutdown_background();
    latencies
}

async fn time(address: String, trips: usize) -> Fallible<Latencies> {
    let channel = Endpoint::from_shared(address)?.tcp_nodelay(true).connect().await?;
    let (out, requests) = mpsc::channel(1);
    let payload = Bytes::from(vec![1_u8; RECORD_BYTES]);
    let message = || FollowerMessage {
        hello: Some(ReplicaHello { cluster_id: payload.clone(), ..ReplicaHello::default() }),
        ..FollowerMessage::default()
    };
    out.send(message()).await?;
    let mut answers =
        ReplicaClient::new(channel).replicate(ReceiverStream::new(requests)).await?.into_inner();
    answers.message().await?.ok_or("the echo ended")?;
    let mut latencies = Latencies::new()?;
    for trip in 0..trips + trips / 10 {
        let began = Instant::now();
        out.send(message()).await?;
        answers.message().await?.ok_or("the echo ended")?;
        if trip >= trips / 10 {
            latencies.record(began.elapsed());
        }
    }
    Ok(latencies)
}

#[cfg(test)]
mod tests {
    #[test]
    fn messages_come_back() {
        let latencies = super::round_trips(100).expect("loopback works");
        assert!(latencies.ms(0.5) > 0.0 && latencies.ms(0.5) < 1_000.0, "{}", latencies.ms(0.5));
    }
}
