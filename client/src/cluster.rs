//! What the client knows of the cluster: brokers, topics, leaders, and a connection to each broker.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tonic::Status;
use tonic::transport::Channel;
use vltava_model::{ErrorCode, LeaderEpoch, NodeId, PartitionIndex, TopicId};
use vltava_proto::v1::log_client::LogClient;
use vltava_proto::v1::{MetadataRequest, MetadataResponse, TopicMetadata};

use crate::channel::{self, MAX_MESSAGE_BYTES};
use crate::doubt::{self, LATE, Silence, WITNESSES};
use crate::error::ClientError;
use crate::pin::Pin;

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
    /// How often a known topic went, or a name came to mean another one.
    topic_changes: AtomicU64,
    /// Counts questions, so that not the same broker is asked first each time.
    turn: AtomicUsize,
}

#[derive(Default)]
struct Known {
    channels: BTreeMap<String, Channel>,
    brokers: BTreeMap<NodeId, String>,
    topics: BTreeMap<String, KnownTopic>,
    metadata_offset: u64,
}

/// A topic as it was when it was last seen.
struct KnownTopic {
    metadata: Arc<TopicMetadata>,
    /// By metadata of which offset.
    seen_at: u64,
}

impl KnownTopic {
    /// What is known with an answer of metadata of `offset`, which may be older: a broker that is cut off from the controllers still names
    /// leaders that were deposed, itself among them. They take no writes, and may lack what was read of the next one: so a
    /// partition's leader epoch never goes back (KIP-320).
    fn with(&self, answer: &TopicMetadata, offset: u64) -> Self {
        let is_older = offset < self.seen_at;
        let mut metadata = if is_older { TopicMetadata::clone(&self.metadata) } else { answer.clone() };
        let other = if is_older { answer } else { &*self.metadata };
        for partition in &mut metadata.partitions {
            let newer = other.partitions.iter().find(|other| {
                other.partition == partition.partition && other.leader_epoch > partition.leader_epoch
            });
            if let Some(newer) = newer {
                partition.clone_from(newer);
            }
        }
        Self { metadata: Arc::new(metadata), seen_at: self.seen_at.max(offset) }
    }
}

impl Known {
    /// Learns what an answer says of a topic; whether a known topic went, or the name came to mean another one.
    fn learn_topic(&mut self, topic: &TopicMetadata, offset: u64) -> bool {
        let same = |known: &KnownTopic| topic.error.is_none() && known.metadata.topic_id == topic.topic_id;
        let known = self.topics.get(&topic.name);
        let changed = known.is_some_and(|known| !same(known));
        // Metadata that are older than a topic can't tell that it is gone.
        if changed && known.is_some_and(|known| offset < known.seen_at) {
            return false;
        }
        if topic.error.is_some() {
            self.topics.remove(&topic.name);
            return changed;
        }
        let learned = match known.filter(|known| same(known)) {
            Some(known) => known.with(topic, offset),
            None => KnownTopic { metadata: Arc::new(topic.clone()), seen_at: offset },
        };
        self.topics.insert(topic.name.clone(), learned);
        changed
    }
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
        let topic_changes = AtomicU64::new(0);
        let turn = AtomicUsize::new(0);
        Ok(Self { inner: Arc::new(Inner { options, known: Mutex::default(), topic_changes, turn }) })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.inner.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often a known topic went, or a name came to mean another one: what was pinned before such a change is to be
    /// looked at again.
    pub(crate) fn topic_changes(&self) -> u64 {
        self.inner.topic_changes.load(Ordering::Acquire)
    }

    /// The topic that a name means, as far as is known without asking.
    pub(crate) fn known_pin(&self, name: &str) -> Option<Pin> {
        let known = self.known();
        let topic = known.topics.get(name)?;
        let id = TopicId::from_slice(&topic.metadata.topic_id)?;
        Some(Pin::new(name, id, topic.seen_at))
    }

    /// The topic that a name means now, from memory or asked for.
    ///
    /// # Errors
    /// As [`Self::topic`].
    pub(crate) async fn pin(&self, name: &str) -> Result<Pin, ClientError> {
        if let Some(pin) = self.known_pin(name) {
            return Ok(pin);
        }
        self.refresh_topic(name).await?;
        self.known_pin(name).ok_or_else(|| {
            ClientError::new(ErrorCode::UnknownTopicOrPartition, format!("topic '{name}' comes and goes"))
        })
    }

    /// Asks anew what became of a pinned topic and its leaders. Without an answer the old metadata does. Each time another broker
    /// is asked first: one that is cut off from the controllers goes on saying what it knows.
    ///
    /// # Errors
    /// When it is gone for certain.
    pub(crate) async fn look_after(&self, pin: &mut Pin) -> Result<(), ClientError> {
        let addresses = self.addresses();
        let from = doubt::witnesses(&addresses, None, self.next_turn(), addresses.len());
        match self.refresh_from(from, &[pin.name().to_owned()]).await {
            Ok(answer) => pin.judge(&answer),
            Err(_) => Ok(()),
        }
    }

    /// Takes note of a change that an administrator was told of: of what the name means since when, if anything.
    pub(crate) fn changed(&self, name: &str, now: Option<&[u8]>, metadata_offset: u64) {
        let mut known = self.known();
        known.metadata_offset = known.metadata_offset.max(metadata_offset);
        let old = |known: &KnownTopic| {
            known.seen_at < metadata_offset && now.is_none_or(|now| known.metadata.topic_id != now)
        };
        if known.topics.get(name).is_some_and(old) {
            known.topics.remove(name);
            self.inner.topic_changes.fetch_add(1, Ordering::AcqRel);
        }
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
        self.refresh_from(self.addresses(), topics).await
    }

    /// As [`Self::refresh`], asking these addresses, in this order.
    async fn refresh_from(
        &self,
        addresses: Vec<String>,
        topics: &[String],
    ) -> Result<MetadataResponse, ClientError> {
        let request = MetadataRequest { topics: topics.to_vec(), brokers_only: false };
        let newest_seen = self.known().metadata_offset;
        let mut asked = tokio::task::JoinSet::new();
        for (place, address) in (0..).zip(addresses) {
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
        let is_older = response.metadata_offset < known.metadata_offset;
        known.metadata_offset = known.metadata_offset.max(response.metadata_offset);
        for broker in &response.brokers {
            if let Some(endpoint) = broker.endpoints.iter().find(|endpoint| endpoint.listener == GRPC) {
                let address = format!("{}:{}", endpoint.host, endpoint.port);
                let known_address = known.brokers.entry(NodeId::new(broker.node_id));
                match is_older {
                    true => drop(known_address.or_insert(address)),
                    false => drop(known_address.insert_entry(address)),
                }
            }
        }
        let mut changed = false;
        for topic in &response.topics {
            changed |= known.learn_topic(topic, response.metadata_offset);
        }
        if changed {
            self.inner.topic_changes.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// A topic, from memory or asked for.
    ///
    /// # Errors
    /// When no broker answers, or the topic does not exist.
    pub async fn topic(&self, name: &str) -> Result<Arc<TopicMetadata>, ClientError> {
        if let Some(topic) = self.known().topics.get(name) {
            return Ok(topic.metadata.clone());
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

    /// The leader of a partition of a pinned topic, as far as is known without asking.
    ///
    /// # Errors
    /// When the partition is not known, or has no leader now; whether the topic is gone is for [`Self::look_after`].
    pub(crate) fn leader(&self, pin: &Pin, partition: PartitionIndex) -> Result<Leader, ClientError> {
        let name = pin.name();
        let (node, epoch, address) = {
            let known = self.known();
            let topic = known.topics.get(name).filter(|topic| pin.is(&topic.metadata)).ok_or_else(|| {
                let message = format!("topic '{name}' with id {} is not known", pin.id());
                ClientError::new(ErrorCode::UnknownTopicId, message)
            })?;
            let mut partitions = topic.metadata.partitions.iter();
            let found = partitions.find(|found| found.partition == partition.get()).ok_or_else(|| {
                let message = format!("topic '{name}' has no partition {partition}");
                ClientError::new(ErrorCode::UnknownTopicOrPartition, message)
            })?;
            let no_leader = || {
                let message = format!("{name}-{partition} has no leader now");
                ClientError::new(ErrorCode::LeaderNotAvailable, message)
            };
            let node = NodeId::new(found.leader.ok_or_else(no_leader)?);
            let address = known.brokers.get(&node).cloned().ok_or_else(no_leader)?;
            (node, LeaderEpoch::new(found.leader_epoch), address)
        };
        Ok(Leader { node, epoch, client: self.log(&address)? })
    }

    fn next_turn(&self) -> usize {
        self.inner.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// Waits for a leader's answer. While it is late others are asked whether that is still the leader.
    ///
    /// # Errors
    /// The call's, or `RequestTimedOut` after `limit`; as [`Self::still_leads`].
    pub(crate) async fn answered<T>(
        &self,
        pin: &mut Pin,
        partition: PartitionIndex,
        leads: (NodeId, LeaderEpoch),
        limit: Duration,
        answer: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, ClientError> {
        let mut silence = Silence::begins(Instant::now(), LATE.min(limit));
        let mut answer = std::pin::pin!(answer);
        loop {
            tokio::select! {
                answer = &mut answer => return Ok(answer?),
                () = tokio::time::sleep_until(silence.ask_at()) => {
                    if silence.lasts(Instant::now()) >= limit {
                        let message = "the leader does not answer";
                        return Err(ClientError::new(ErrorCode::RequestTimedOut, message));
                    }
                    self.still_leads(pin, partition, leads, WITNESSES).await?;
                    silence.asked(Instant::now());
                }
            }
        }
    }

    /// An answer is late: asks a few others than the leader whether it is still the same. Without an answer nothing is known to
    /// have changed.
    ///
    /// # Errors
    /// When another one was elected, or the topic is gone.
    pub(crate) async fn still_leads(
        &self,
        pin: &mut Pin,
        partition: PartitionIndex,
        leads: (NodeId, LeaderEpoch),
        most: usize,
    ) -> Result<(), ClientError> {
        // Somebody else's question may have been answered already.
        self.not_superseded(pin, partition, leads)?;
        let leader = self.broker_address(leads.0);
        let request = MetadataRequest { topics: vec![pin.name().to_owned()], brokers_only: false };
        let mut asked = tokio::task::JoinSet::new();
        for address in doubt::witnesses(&self.addresses(), leader.as_deref(), self.next_turn(), most) {
            let log = self.log(&address)?;
            asked.spawn(ask(Duration::ZERO, address, log, request.clone()));
        }
        let until = Instant::now() + LATE;
        while let Ok(Some(answer)) = tokio::time::timeout_at(until, asked.join_next()).await {
            // Who can't say is no witness; older metadata say nothing new.
            let Ok(Ok(answer)) = answer else { continue };
            if answer.metadata_offset < self.known().metadata_offset {
                continue;
            }
            self.learn(&answer);
            pin.judge(&answer)?;
            self.not_superseded(pin, partition, leads)?;
        }
        Ok(())
    }

    /// Fails when, as far as is known without asking, a leader was elected after this one.
    fn not_superseded(
        &self,
        pin: &Pin,
        partition: PartitionIndex,
        leads: (NodeId, LeaderEpoch),
    ) -> Result<(), ClientError> {
        let known = self.known();
        let topic = known.topics.get(pin.name()).filter(|topic| pin.is(&topic.metadata));
        match topic.and_then(|topic| doubt::successor(&topic.metadata, partition.get(), leads)) {
            Some((node, epoch)) => {
                let message = format!("another leader was elected: {node} in epoch {epoch}");
                Err(ClientError::new(ErrorCode::NotLeaderOrFollower, message))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use vltava_proto::v1::PartitionMetadata;

    use super::*;

    fn named(id: u8) -> TopicMetadata {
        TopicMetadata { name: "t".into(), topic_id: vec![id; 16].into(), ..TopicMetadata::default() }
    }

    fn missing() -> TopicMetadata {
        let error = vltava_proto::status::detail(ErrorCode::UnknownTopicOrPartition, "none");
        TopicMetadata { name: "t".into(), error: Some(error), ..TopicMetadata::default() }
    }

    fn id(known: &Known) -> Option<u8> {
        known.topics.get("t").map(|topic| topic.metadata.topic_id[0])
    }

    #[test]
    fn older_metadata_do_not_bring_back_what_a_name_meant() {
        let mut known = Known::default();
        assert!(!known.learn_topic(&named(1), 10));
        assert!(!known.learn_topic(&missing(), 9), "older than the topic");
        assert!(known.learn_topic(&named(2), 12), "made anew");
        assert!(!known.learn_topic(&named(1), 11));
        assert!(!known.learn_topic(&missing(), 11));
        assert_eq!(id(&known), Some(2));
        assert!(known.learn_topic(&missing(), 13));
        assert_eq!(id(&known), None);
    }

    #[test]
    fn older_metadata_do_not_bring_back_a_leader_that_was_deposed() {
        let led = |leaders: &[(u32, u32)]| {
            let partition = |(partition, (leader, leader_epoch)): (u32, &(u32, u32))| PartitionMetadata {
                partition,
                leader: Some(*leader),
                leader_epoch: *leader_epoch,
                ..PartitionMetadata::default()
            };
            TopicMetadata { partitions: (0..).zip(leaders).map(partition).collect(), ..named(1) }
        };
        let mut known = Known::default();
        let mut learn = |leaders: &[(u32, u32)], offset| {
            known.learn_topic(&led(leaders), offset);
            let partitions = &known.topics["t"].metadata.partitions;
            partitions.iter().map(|found| (found.leader.unwrap(), found.leader_epoch)).collect::<Vec<_>>()
        };
        assert_eq!(learn(&[(1, 4), (2, 7)], 10), [(1, 4), (2, 7)]);
        assert_eq!(learn(&[(3, 5), (2, 7), (2, 0)], 12), [(3, 5), (2, 7), (2, 0)]);
        assert_eq!(learn(&[(1, 4), (2, 6)], 9), [(3, 5), (2, 7), (2, 0)], "nor take partitions away");
        assert_eq!(learn(&[(3, 5), (1, 8), (2, 0)], 11), [(3, 5), (1, 8), (2, 0)], "wherever it is heard of");
        assert_eq!(learn(&[(3, 5), (2, 9), (2, 0)], 13), [(3, 5), (2, 9), (2, 0)]);
    }

    #[tokio::test]
    async fn what_an_administrator_was_told_is_known_at_once() {
        let client = Client::connect("127.0.0.1:1").unwrap();
        client.known().learn_topic(&named(1), 10);
        client.changed("t", Some(&[1; 16]), 10);
        assert!(client.known_pin("t").is_some(), "it is the one that was created");
        let before = client.topic_changes();
        client.changed("t", None, 12);
        assert!(client.known_pin("t").is_none());
        assert_ne!(client.topic_changes(), before);
        assert_eq!(client.known().metadata_offset, 12, "older answers are not taken");
    }
}
