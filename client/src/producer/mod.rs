//! The producer.
//!
//! A record goes to a partition's open batch; a task for each partition closes the batch when it is full, has lingered, or
//! the producer is flushed, and sends it over a stream of its own to the leader. Several batches may be under way; when one
//! fails in a way that may pass, it and all behind it are sent again, in order, under the same sequence numbers, so that
//! each is written once. Memory is bounded: [`Producer::send`] waits for room.

mod accumulator;
mod options;
mod partitioner;
mod sender;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{Semaphore, oneshot};
use vltava_model::batch::{RecordHeader, record_len_bound};
use vltava_model::{ErrorCode, Offset, PartitionIndex};

use crate::cluster::Client;
use crate::error::ClientError;
use accumulator::{Accumulator, Waiting};
pub use options::{Acks, ProducerOptions};
pub use partitioner::{KeyHash, Partitioner, Random, RoundRobin, Sticky, murmur2};

/// A record to be written.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Where.
    pub topic: String,
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
    /// The record's offset; 0 with [`Acks::None`].
    pub offset: Offset,
}

/// The outcome of a record that is on its way: await it. Dropping it does not stop the record.
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
    partitions: Mutex<BTreeMap<String, BTreeMap<PartitionIndex, Arc<Accumulator>>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        for accumulator in all(&self.partitions) {
            accumulator.close();
        }
    }
}

fn all(
    partitions: &Mutex<BTreeMap<String, BTreeMap<PartitionIndex, Arc<Accumulator>>>>,
) -> Vec<Arc<Accumulator>> {
    let partitions = partitions.lock().unwrap_or_else(PoisonError::into_inner);
    partitions.values().flat_map(|topic| topic.values().cloned()).collect()
}

impl Producer {
    /// A producer. It must be used within a tokio runtime.
    pub fn new(client: Client, options: ProducerOptions) -> Self {
        let memory = Arc::new(Semaphore::new(options.buffer_memory.min(Semaphore::MAX_PERMITS)));
        let inner = Inner { client, options: Arc::new(options), memory, partitions: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// Hands a record over, waiting for room; the outcome comes with the [`Delivery`].
    ///
    /// # Errors
    /// When the topic or partition does not exist, the record is too large, or no broker answers.
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
        let options = &self.inner.options;
        let size = record_len_bound(record.key.as_deref(), record.value.as_deref(), &record.headers);
        if size > options.max_request_size {
            let message =
                format!("the record has {size} bytes, max.request.size is {}", options.max_request_size);
            return Err(ClientError::new(ErrorCode::MessageTooLarge, message));
        }
        let accumulator = self.accumulator(&record, size).await?;
        let permits = u32::try_from(size.min(options.buffer_memory)).unwrap_or(u32::MAX);
        let room = self.inner.memory.clone().acquire_many_owned(permits);
        let room = tokio::time::timeout(options.max_block, room)
            .await
            .map_err(|_| {
                let message = "buffer.memory is full and did not drain within max.block.ms: the brokers are too slow or away";
                ClientError::new(ErrorCode::RequestTimedOut, message)
            })?
            .map_err(|_| closed())?;
        accumulator.append(record, waiting, room)
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
        if let Some(found) = self.find(&record.topic, partition) {
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
        Ok(self.open(&record.topic, partition))
    }

    fn find(&self, topic: &str, partition: PartitionIndex) -> Option<Arc<Accumulator>> {
        let partitions = self.inner.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        partitions.get(topic)?.get(&partition).cloned()
    }

    fn open(&self, topic: &str, partition: PartitionIndex) -> Arc<Accumulator> {
        let mut partitions = self.inner.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        let of_topic = partitions.entry(topic.to_owned()).or_default();
        of_topic
            .entry(partition)
            .or_insert_with(|| {
                let accumulator = Arc::new(Accumulator::new(self.inner.options.clone()));
                tokio::spawn(sender::run(
                    self.inner.client.clone(),
                    self.inner.options.clone(),
                    topic.to_owned(),
                    partition,
                    accumulator.clone(),
                ));
                accumulator
            })
            .clone()
    }

    /// Sends what waits without lingering, and returns when every record handed over before has its outcome.
    pub async fn flush(&self) {
        let accumulators = all(&self.inner.partitions);
        for accumulator in &accumulators {
            accumulator.flush();
        }
        for accumulator in &accumulators {
            accumulator.drained().await;
        }
    }
}
