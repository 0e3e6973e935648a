//! The producer.
//!
//! A record goes to a partition's open batch; a task for each partition closes the batch when it is full, has lingered, or
//! the producer is flushed, and sends it over a stream of its own to the leader. Several batches may be under way; when one
//! fails in a way that may pass, it and all behind it are sent again, in order, under the same sequence numbers, so that
//! each is written once. Memory is bounded: [`Producer::send`] waits for room.
//!
//! A record is taken for the topic that its name means then, by id. When that topic is deleted, records without outcome fail;
//! none goes into a topic that is created under the same name later. Records sent once the client knows that one go there.

mod accumulator;
mod options;
mod partitioner;
mod sender;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use vltava_model::batch::{RecordHeader, record_len_bound};
use vltava_model::{ErrorCode, Offset, PartitionIndex, TopicId};

use crate::cluster::Client;
use crate::error::{Certainty, ClientError};
use crate::pin::Pin;
use accumulator::{Accumulator, NotTaken, Waiting};
pub use options::{Acks, ProducerOptions};
pub use partitioner::{KeyHash, Partitioner, Random, RoundRobin, Sticky, murmur2};

/// A record to be written.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Where.
    pub topic: String,
    /// Only into the topic with this id; `None` takes the one that has the name when the record is sent.
    pub topic_id: Option<TopicId>,
    /// To which partition; `None` asks the partitioner.
    pub partition: Option<PartitionIndex>,
    /// `None` is null.
    pub key: Option<Bytes>,
    /// `None` is null.
    pub value: Option<Bytes>,
    /// In order; the same key may come more than once.
    pub headers: Vec<RecordHeader>,
    /// In milliseconds since 1970; `None` takes the time of the call.
    pub timestamp_ms: Option<i64>,
}

impl Record {
    /// An empty record for a topic.
    pub fn new(topic: impl Into<String>) -> Self {
        Self { topic: topic.into(), ..Self::default() }
    }

    /// Only into the topic with this id, not into another one that has the name by now.
    #[must_use]
    pub fn topic_id(mut self, id: TopicId) -> Self {
        self.topic_id = Some(id);
        self
    }

    /// With this key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// With this value.
    #[must_use]
    pub fn value(mut self, value: impl Into<Bytes>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// With one header more.
    #[must_use]
    pub fn header(mut self, key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push(RecordHeader::new(key, Some(value.into())));
        self
    }

    /// To this partition.
    #[must_use]
    pub fn partition(mut self, partition: u32) -> Self {
        self.partition = Some(PartitionIndex::new(partition));
        self
    }

    /// With this timestamp, in milliseconds since 1970.
    #[must_use]
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }
}

/// Where a record was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The partition.
    pub partition: PartitionIndex,
    /// The record's offset. `None` when it was written and its place is not known: with [`Acks::None`] nobody waits for it,
    /// and of a batch that was sent again a broker may only know that it is there.
    pub offset: Option<Offset>,
}

/// The outcome of a record that is on its way: await it. Dropping it does not stop the record. An error's
/// [`ClientError::certainty`] says whether the record may have been written.
pub struct Delivery {
    outcome: oneshot::Receiver<Result<Written, ClientError>>,
}

impl std::future::Future for Delivery {
    type Output = Result<Written, ClientError>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        std::pin::Pin::new(&mut self.outcome)
            .poll(context)
            .map(|outcome| outcome.unwrap_or_else(|_| Err(closed())))
    }
}

fn closed() -> ClientError {
    ClientError::new(
        ErrorCode::NetworkException,
        "the producer was closed before the record was acknowledged",
    )
}

/// Called with a record's outcome, on a task of the producer: it must not block.
pub type Callback = Box<dyn FnOnce(Result<Written, ClientError>) + Send>;

/// Writes records. Cloning it shares it.
#[derive(Clone)]
pub struct Producer {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    options: Arc<ProducerOptions>,
    memory: Arc<Semaphore>,
    open: Mutex<Open>,
}

/// All accumulators.
#[derive(Default)]
struct Open {
    topics: BTreeMap<String, OpenTopic>,
    /// Of topics that are gone, while records are without outcome.
    retired: Vec<Arc<Accumulator>>,
    /// The client's count of topic changes when it was last held against what is open.
    checked_at: u64,
}

/// A topic's accumulators.
struct OpenTopic {
    id: TopicId,
    partitions: BTreeMap<PartitionIndex, Arc<Accumulator>>,
}

impl Open {
    /// Closes what belongs to topics that their names no longer mean: their senders find out what to tell.
    fn retire_outdated(&mut self, client: &Client) {
        let changes = client.topic_changes();
        if std::mem::replace(&mut self.checked_at, changes) == changes {
            return;
        }
        let outdated = |(name, topic): &(&String, &OpenTopic)| {
            client.known_pin(name).is_none_or(|known| known.id() != topic.id)
        };
        let names: Vec<String> = self.topics.iter().filter(outdated).map(|(name, _)| name.clone()).collect();
        for name in names {
            self.retire(&name);
        }
    }

    fn retire(&mut self, name: &str) {
        let Some(topic) = self.topics.remove(name) else { return };
        self.retired.retain(|accumulator| !accumulator.is_drained());
        for accumulator in topic.partitions.into_values() {
            accumulator.close();
            self.retired.push(accumulator);
        }
    }

    fn all(&self) -> Vec<Arc<Accumulator>> {
        let open = self.topics.values().flat_map(|topic| topic.partitions.values());
        open.chain(&self.retired).cloned().collect()
    }
}

impl Inner {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for accumulator in self.open().all() {
            accumulator.close();
        }
    }
}

impl Producer {
    /// A producer. It must be used within a tokio runtime.
    pub fn new(client: Client, options: ProducerOptions) -> Self {
        let memory = Arc::new(Semaphore::new(options.buffer_memory.min(Semaphore::MAX_PERMITS)));
        let inner = Inner { client, options: Arc::new(options), memory, open: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// Hands a record over, waiting for room; the outcome comes with the [`Delivery`].
    ///
    /// # Errors
    /// When the topic or partition does not exist, the record is too large, or no broker answers: it will not be written.
    pub async fn send(&self, record: Record) -> Result<Delivery, ClientError> {
        let (tell, outcome) = oneshot::channel();
        self.enqueue(record, Waiting::Delivery(tell)).await?;
        Ok(Delivery { outcome })
    }

    /// Hands a record over, waiting for room; `callback` is called with its outcome.
    ///
    /// # Errors
    /// As [`Self::send`]; the callback is then not called.
    pub async fn send_with(&self, record: Record, callback: Callback) -> Result<(), ClientError> {
        self.enqueue(record, Waiting::Callback(callback)).await
    }

    async fn enqueue(&self, record: Record, waiting: Waiting) -> Result<(), ClientError> {
        let taken = self.take(record, waiting).await;
        taken.map_err(|error| error.with_certainty(Certainty::NotDone))
    }

    async fn take(&self, record: Record, waiting: Waiting) -> Result<(), ClientError> {
        let options = &self.inner.options;
        let size = record_len_bound(record.key.as_deref(), record.value.as_deref(), &record.headers);
        if size > options.max_request_size {
            let message =
                format!("the record has {size} bytes, max.request.size is {}", options.max_request_size);
            return Err(ClientError::new(ErrorCode::MessageTooLarge, message));
        }
        let mut accumulator = self.accumulator(&record, size).await?;
        let (mut waiting, mut room) = (waiting, self.room(size).await?);
        loop {
            match accumulator.append(&record, waiting, room) {
                Ok(()) => return Ok(()),
                Err(NotTaken::Refused(error)) => return Err(error),
                // Its topic went meanwhile: what the name means now is asked for.
                Err(NotTaken::Closed(who, permit)) => (waiting, room) = (who, permit),
            }
            self.forget(&record.topic, &accumulator);
            accumulator = self.accumulator(&record, size).await?;
        }
    }

    async fn room(&self, size: usize) -> Result<OwnedSemaphorePermit, ClientError> {
        let options = &self.inner.options;
        let permits = u32::try_from(size.min(options.buffer_memory)).unwrap_or(u32::MAX);
        let room = self.inner.memory.clone().acquire_many_owned(permits);
        let room = tokio::time::timeout(options.max_block, room).await.map_err(|_| {
            let message = "buffer.memory is full and did not drain within max.block.ms: the brokers are too slow or away";
            ClientError::new(ErrorCode::RequestTimedOut, message)
        })?;
        room.map_err(|_| closed())
    }

    async fn accumulator(&self, record: &Record, size: usize) -> Result<Arc<Accumulator>, ClientError> {
        let partition = match record.partition {
            Some(partition) => partition,
            None => {
                let topic = self.inner.client.topic(&record.topic).await?;
                let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX).max(1);
                self.inner.options.partitioner.partition(&record.topic, record.key.as_deref(), size, count)
            }
        };
        if let Some(found) = self.find(record, partition) {
            return Ok(found);
        }
        // Only a partition that exists gets a task.
        let topic = self.inner.client.topic(&record.topic).await?;
        let exists = |topic: &vltava_proto::v1::TopicMetadata| {
            topic.partitions.iter().any(|known| known.partition == partition.get())
        };
        if !exists(&topic) && !exists(&*self.inner.client.refresh_topic(&record.topic).await?) {
            let message = format!("topic '{}' has no partition {partition}", record.topic);
            return Err(ClientError::new(ErrorCode::UnknownTopicOrPartition, message));
        }
        let mut pin = self.inner.client.pin(&record.topic).await?;
        if record.topic_id.is_some_and(|id| id != pin.id()) {
            self.inner.client.refresh_topic(&record.topic).await?;
            pin = self.inner.client.pin(&record.topic).await?;
        }
        match record.topic_id.filter(|id| *id != pin.id()) {
            Some(id) => Err(pin.is_not(id)),
            None => Ok(self.open(pin, partition)),
        }
    }

    fn find(&self, record: &Record, partition: PartitionIndex) -> Option<Arc<Accumulator>> {
        let mut open = self.inner.open();
        open.retire_outdated(&self.inner.client);
        let meant = |topic: &&OpenTopic| record.topic_id.is_none_or(|id| id == topic.id);
        open.topics.get(&record.topic).filter(meant)?.partitions.get(&partition).cloned()
    }

    /// No longer hands records to one that takes none.
    fn forget(&self, topic: &str, closed: &Arc<Accumulator>) {
        let mut open = self.inner.open();
        let holds = |topic: &OpenTopic| topic.partitions.values().any(|known| Arc::ptr_eq(known, closed));
        if open.topics.get(topic).is_some_and(holds) {
            open.retire(topic);
        }
    }

    fn open(&self, pin: Pin, partition: PartitionIndex) -> Arc<Accumulator> {
        let mut open = self.inner.open();
        if open.topics.get(pin.name()).is_some_and(|topic| topic.id != pin.id()) {
            open.retire(pin.name());
        }
        let topic = open
            .topics
            .entry(pin.name().to_owned())
            .or_insert_with(|| OpenTopic { id: pin.id(), partitions: BTreeMap::new() });
        let accumulator = topic.partitions.entry(partition).or_insert_with(|| {
            let accumulator = Arc::new(Accumulator::new(self.inner.options.clone()));
            tokio::spawn(sender::run(
                self.inner.client.clone(),
                self.inner.options.clone(),
                pin,
                partition,
                accumulator.clone(),
            ));
            accumulator
        });
        accumulator.clone()
    }

    /// Sends what waits without lingering, and returns when every record handed over before has its outcome.
    pub async fn flush(&self) {
        let accumulators = self.inner.open().all();
        for accumulator in &accumulators {
            accumulator.flush();
        }
        for accumulator in &accumulators {
            accumulator.drained().await;
        }
    }
}
