//! What the client knows of the cluster: brokers, topics, leaders, and a connection to each broker.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tonic::transport::Channel;
use vltava_model::{ErrorCode, LeaderEpoch, NodeId, PartitionIndex};
use vltava_proto::v1::log_client::LogClient;
use vltava_proto::v1::{MetadataRequest, MetadataResponse, TopicMetadata};

use crate::channel::{self, MAX_MESSAGE_BYTES};
use crate::error::ClientError;

/// The listener that this client uses.
const GRPC: &str = "GRPC";

/// So much later than the one before the next broker is asked the same: one that is silent costs little.
const HEDGE: Duration = Duration::from_millis(150);

/// How long one broker may take to answer for metadata.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);

async fn ask(
    after: Duration,
    address: String,
    mut log: LogClient<Channel>,
    request: MetadataRequest,
) -> Result<MetadataResponse, ClientError> {
    tokio::time::sleep(after).await;
    match tokio::time::timeout(ASK_TIMEOUT, log.metadata(request)).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => {
            Err(ClientError::new(ErrorCode::NetworkException, format!("{address}: {}", status.message())))
        }
        Err(_) => Err(ClientError::new(ErrorCode::RequestTimedOut, format!("{address} does not answer"))),
    }
}

/// How a client behaves.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// `HOST:PORT` of some brokers; the others are learned from them.
    pub servers: Vec<String>,
    /// How long one request may take.
    pub request_timeout: Duration,
}

/// A shared view of one cluster. Cloning it shares it.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    options: ClientOptions,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    channels: BTreeMap<String, Channel>,
    brokers: BTreeMap<NodeId, String>,
    topics: BTreeMap<String, Arc<TopicMetadata>>,
    metadata_offset: u64,
}

/// The leader of a partition and the way to it.
#[derive(Clone)]
pub struct Leader {
    /// Who.
    pub node: NodeId,
    /// Since which epoch.
    pub epoch: LeaderEpoch,
    /// The connection.
    pub client: LogClient<Channel>,
}

impl Client {
    /// A client of the cluster that the brokers at `servers` (`HOST:PORT`, comma-separated) belong to. Nothing connects
    /// before the first request, but it must be called within a tokio runtime.
    ///
    /// # Errors
    /// When an address is none.
    pub fn connect(servers: &str) -> Result<Self, ClientError> {
        let servers: Vec<String> =
            servers.split(',').map(|s| s.trim().to_owned()).filter(|s| !s.is_empty()).collect();
        Self::with(ClientOptions { servers, request_timeout: Duration::from_secs(30) })
    }

    /// A client with options of your own.
    ///
    /// # Errors
    /// When there is no address, or one is none.
    pub fn with(options: ClientOptions) -> Result<Self, ClientError> {
        if options.servers.is_empty() {
            return Err(ClientError::new(ErrorCode::InvalidRequest, "name at least one server as HOST:PORT"));
        }
        for server in &options.servers {
            channel::lazy(server)?;
        }
        Ok(Self { inner: Arc::new(Inner { options, known: Mutex::default() }) })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.inner.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How new the newest metadata is that were seen, as an offset of the metadata log.
    pub(crate) fn newest_seen(&self) -> u64 {
        self.known().metadata_offset
    }

    /// How long one request may take.
    pub fn request_timeout(&self) -> Duration {
        self.inner.options.request_timeout
    }

    /// The connection to an address, shared by all who use it.
    ///
    /// # Errors
    /// When the address is none.
    pub fn channel(&self, address: &str) -> Result<Channel, ClientError> {
        let mut known = self.known();
        if let Some(channel) = known.channels.get(address) {
            return Ok(channel.clone());
        }
        let channel = channel::lazy(address)?;
        known.channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }

    /// Where to ask what any broker can answer: known brokers and the configured servers.
    pub fn addresses(&self) -> Vec<String> {
        let known = self.known();
        let mut addresses = self.inner.options.servers.clone();
        addresses.extend(known.brokers.values().filter(|a| !self.inner.options.servers.contains(a)).cloned());
        addresses
    }

    /// `HOST:PORT` of a broker, as far as is known without asking.
    pub fn broker_address(&self, node: NodeId) -> Option<String> {
        self.known().brokers.get(&node).cloned()
    }

    /// A client of one address.
    ///
    /// # Errors
    /// When the address is none.
    pub fn log(&self, address: &str) -> Result<LogClient<Channel>, ClientError> {
        Ok(LogClient::new(self.channel(address)?)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES))
    }

    /// Fetches metadata of some topics (of all, when none is named) from the first broker that answers. Brokers lag
    /// behind one another: an answer that is older than one seen before is only taken when no other is to be had.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn refresh(&self, topics: &[String]) -> Result<MetadataResponse, ClientError> {
        let request = MetadataRequest { topics: topics.to_vec(), brokers_only: false };
        let newest_seen = self.known().metadata_offset;
        let mut asked = tokio::task::JoinSet::new();
        for (place, address) in (0..).zip(self.addresses()) {
            let log = self.log(&address)?;
            asked.spawn(ask(HEDGE * place, address, log, request.clone()));
        }
        let mut older: Option<MetadataResponse> = None;
        let mut last = None;
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok(Ok(response)) if response.metadata_offset >= newest_seen => {
                    self.learn(&response);
                    return Ok(response);
                }
                Ok(Ok(response)) => {
                    if older.as_ref().is_none_or(|older| older.metadata_offset < response.metadata_offset) {
                        older = Some(response);
                    }
                }
                Ok(Err(error)) => last = Some(error),
                Err(_) => {}
            }
        }
        match older {
            Some(response) => {
                self.learn(&response);
                Ok(response)
            }
            None => {
                Err(last
                    .unwrap_or_else(|| ClientError::new(ErrorCode::NetworkException, "no server answers")))
            }
        }
    }

    fn learn(&self, response: &MetadataResponse) {
        let mut known = self.known();
        known.metadata_offset = known.metadata_offset.max(response.metadata_offset);
        for broker in &response.brokers {
            if let Some(endpoint) = broker.endpoints.iter().find(|endpoint| endpoint.listener == GRPC) {
                known
                    .brokers
                    .insert(NodeId::new(broker.node_id), format!("{}:{}", endpoint.host, endpoint.port));
            }
        }
        for topic in &response.topics {
            if topic.error.is_none() {
                known.topics.insert(topic.name.clone(), Arc::new(topic.clone()));
            } else {
                known.topics.remove(&topic.name);
            }
        }
    }

    /// A topic, from memory or asked for.
    ///
    /// # Errors
    /// When no broker answers, or the topic does not exist.
    pub async fn topic(&self, name: &str) -> Result<Arc<TopicMetadata>, ClientError> {
        if let Some(topic) = self.known().topics.get(name) {
            return Ok(topic.clone());
        }
        self.refresh_topic(name).await
    }

    /// A topic, asked for anew.
    ///
    /// # Errors
    /// As [`Self::topic`].
    pub async fn refresh_topic(&self, name: &str) -> Result<Arc<TopicMetadata>, ClientError> {
        let response = self.refresh(&[name.to_owned()]).await?;
        let topic = response.topics.into_iter().find(|topic| topic.name == name);
        match topic {
            Some(topic) => match topic.error {
                None => Ok(Arc::new(topic)),
                Some(error) => Err(error.into()),
            },
            None => Err(ClientError::new(
                ErrorCode::UnknownTopicOrPartition,
                format!("no topic is named '{name}'"),
            )),
        }
    }

    /// The leader of a partition as far as is known without asking.
    ///
    /// # Errors
    /// When the partition does not exist, or has no leader now.
    pub async fn leader(&self, topic: &str, partition: PartitionIndex) -> Result<Leader, ClientError> {
        let metadata = self.topic(topic).await?;
        let found = metadata.partitions.iter().find(|p| p.partition == partition.get()).ok_or_else(|| {
            let message = format!("topic '{topic}' has no partition {partition}");
            ClientError::new(ErrorCode::UnknownTopicOrPartition, message)
        })?;
        let no_leader = || {
            ClientError::new(ErrorCode::LeaderNotAvailable, format!("{topic}-{partition} has no leader now"))
        };
        let node = NodeId::new(found.leader.ok_or_else(no_leader)?);
        let address = self.known().brokers.get(&node).cloned().ok_or_else(no_leader)?;
        Ok(Leader { node, epoch: LeaderEpoch::new(found.leader_epoch), client: self.log(&address)? })
    }
}
