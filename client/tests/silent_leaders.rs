//! A producer whose leader is cut off, or was: it must find the next one long before the keep-alive finds the connection dead.
//!
//! Brokers are servers in this process that say what the test wants; one that is cut off is a socket that nobody serves.

#![allow(clippy::unwrap_used)]

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use vltava_client::{Client, Producer, ProducerOptions, Record};
use vltava_model::ErrorCode;
use vltava_proto::status;
use vltava_proto::v1::log_server::{Log, LogServer};
use vltava_proto::v1::*;

const TOPIC: &str = "t";

/// Far below the ten seconds after which a keep-alive gives a connection up, and far above what is needed.
const SOON: Duration = Duration::from_secs(5);

/// What a broker does with appends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Appends {
    Acknowledged,
    Refused,
    Unanswered,
}

/// What a broker says of the partition's leader: who, in which epoch, by metadata of which offset.
type Says = (u32, u32, u64);

/// A broker of the test's own.
#[derive(Clone)]
struct Fake {
    /// The ports of brokers 1, 2 and so on.
    ports: Vec<u16>,
    /// To the first question, and to all later ones.
    says: [Says; 2],
    appends: Appends,
    questions: Arc<AtomicU32>,
    acknowledged: Arc<AtomicU32>,
}

type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Log for Fake {
    type ProduceStream = BoxStream<ProduceResponse>;
    type ConsumeStream = BoxStream<FetchResponse>;
    type WatchMetadataStream = BoxStream<MetadataResponse>;

    async fn produce(
        &self,
        request: Request<Streaming<ProduceRequest>>,
    ) -> Result<Response<Self::ProduceStream>, Status> {
        let this = self.clone();
        let answers = request.into_inner().filter_map(move |request| {
            let correlation_id = request.ok()?.correlation_id;
            match this.appends {
                Appends::Unanswered => None,
                Appends::Refused => {
                    let error = Some(status::detail(ErrorCode::NotLeaderOrFollower, "not I"));
                    Some(Ok(ProduceResponse { correlation_id, error, ..ProduceResponse::default() }))
                }
                Appends::Acknowledged => {
                    this.acknowledged.fetch_add(1, Ordering::SeqCst);
                    let base_offset = Some(0);
                    Some(Ok(ProduceResponse { correlation_id, base_offset, ..ProduceResponse::default() }))
                }
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn metadata(&self, _: Request<MetadataRequest>) -> Result<Response<MetadataResponse>, Status> {
        let is_first = self.questions.fetch_add(1, Ordering::SeqCst) == 0;
        let (leader, leader_epoch, metadata_offset) = self.says[usize::from(!is_first)];
        let broker = |(node_id, port): (u32, &u16)| {
            let endpoint =
                Endpoint { listener: "GRPC".into(), host: "127.0.0.1".into(), port: u32::from(*port) };
            BrokerMetadata { node_id, endpoints: vec![endpoint], ..BrokerMetadata::default() }
        };
        let partition = PartitionMetadata { leader: Some(leader), leader_epoch, ..Default::default() };
        let topic = TopicMetadata {
            name: TOPIC.into(),
            topic_id: vec![7; 16].into(),
            partitions: vec![partition],
            error: None,
        };
        Ok(Response::new(MetadataResponse {
            brokers: (1..).zip(&self.ports).map(broker).collect(),
            topics: vec![topic],
            metadata_offset,
            ..MetadataResponse::default()
        }))
    }

    async fn init_producer(
        &self,
        _: Request<InitProducerRequest>,
    ) -> Result<Response<InitProducerResponse>, Status> {
        Ok(Response::new(InitProducerResponse { producer_id: 9, ..InitProducerResponse::default() }))
    }

    async fn append(&self, _: Request<ProduceRequest>) -> Result<Response<ProduceResponse>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn fetch(&self, _: Request<FetchRequest>) -> Result<Response<FetchResponse>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn consume(
        &self,
        _: Request<Streaming<ConsumeRequest>>,
    ) -> Result<Response<Self::ConsumeStream>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn list_offsets(
        &self,
        _: Request<ListOffsetsRequest>,
    ) -> Result<Response<ListOffsetsResponse>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn watch_metadata(
        &self,
        _: Request<MetadataRequest>,
    ) -> Result<Response<Self::WatchMetadataStream>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }
}

/// Brokers 1, 2 and so on; `None` is one that is cut off.
async fn brokers(fakes: &[Option<([Says; 2], Appends)>]) -> (Vec<u16>, Arc<AtomicU32>, Vec<TcpListener>) {
    let acknowledged = Arc::new(AtomicU32::new(0));
    let mut listeners = Vec::new();
    for _ in fakes {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let ports: Vec<u16> = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
    let mut cut_off = Vec::new();
    for (fake, listener) in fakes.iter().zip(listeners) {
        let Some((says, appends)) = *fake else {
            cut_off.push(listener);
            continue;
        };
        let fake = Fake {
            ports: ports.clone(),
            says,
            appends,
            questions: Arc::default(),
            acknowledged: acknowledged.clone(),
        };
        let serving = Server::builder()
            .add_service(LogServer::new(fake))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(serving);
    }
    (ports, acknowledged, cut_off)
}

/// Writes one record as a client that knows these ports; how long that took.
async fn write(ports: &[u16]) -> Duration {
    let servers: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let producer = Producer::new(Client::connect(&servers.join(",")).unwrap(), ProducerOptions::default());
    let began = Instant::now();
    let delivery = producer.send(Record::new(TOPIC).value("v").partition(0)).await.unwrap();
    tokio::time::timeout(Duration::from_secs(40), delivery).await.expect("an outcome").unwrap();
    began.elapsed()
}

#[tokio::test]
async fn one_that_takes_connections_and_says_nothing_is_left_when_another_was_elected() {
    let elected = [(1, 1, 10), (2, 2, 11)];
    let (ports, acknowledged, cut_off) = brokers(&[None, Some((elected, Appends::Acknowledged))]).await;
    let took = write(&ports).await;
    assert!(took < SOON, "{took:?}");
    assert_eq!(acknowledged.load(Ordering::SeqCst), 1);
    cut_off[0].accept().await.expect("the first leader was tried");
}

#[tokio::test]
async fn one_that_is_cut_off_from_the_controllers_does_not_vouch_for_itself() {
    let stale = ([(1, 1, 10); 2], Appends::Unanswered);
    let elected = ([(2, 2, 11); 2], Appends::Acknowledged);
    let (ports, acknowledged, _) = brokers(&[Some(stale), Some(elected)]).await;
    let took = write(&ports[..1]).await;
    assert!(took < SOON, "{took:?}");
    assert_eq!(acknowledged.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn one_that_never_hears_of_elections_is_not_asked_each_time() {
    let stale = ([(2, 1, 10); 2], Appends::Unanswered);
    let deposed = ([(3, 2, 11); 2], Appends::Refused);
    let elected = ([(3, 2, 11); 2], Appends::Acknowledged);
    let (ports, acknowledged, _) = brokers(&[Some(stale), Some(deposed), Some(elected)]).await;
    let took = write(&ports[..1]).await;
    assert!(took < SOON, "{took:?}");
    assert_eq!(acknowledged.load(Ordering::SeqCst), 1);
}
