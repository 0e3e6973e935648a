//! The consumer: assigned partitions, each read over a stream of its own from its leader, wherever that moves.
//!
//! What is read ahead is bounded by the bytes granted to each stream. Positions move when [`Consumer::poll`] hands records
//! out, so a consumer that stops and starts from its position misses and repeats nothing.
//!
//! A partition is read in the topic that its name meant when it was assigned. When that topic is deleted, the next poll says
//! so, also when another one was created under the same name: its offsets have nothing to do with the old ones, so where to
//! begin in it is for the caller to say.

mod fetcher;
mod options;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use vltava_model::batch::RecordHeader;
use vltava_model::{ErrorCode, Offset, PartitionIndex, TopicId};
use vltava_proto::v1::{ListOffsetsRequest, OffsetQuery, offset_query};

use crate::backoff::Backoff;
use crate::cluster::Client;
use crate::error::ClientError;
use crate::pin::Pin;
pub use options::{ConsumerOptions, OffsetReset, StartAt};

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumedRecord {
    /// The topic.
    pub topic: std::sync::Arc<str>,
    /// The partition.
    pub partition: PartitionIndex,
    /// Where it lies.
    pub offset: Offset,
    /// In milliseconds since 1970, if it has one.
    pub timestamp_ms: Option<i64>,
    /// `None` is null.
    pub key: Option<Bytes>,
    /// `None` is null.
    pub value: Option<Bytes>,
    /// In order.
    pub headers: Vec<RecordHeader>,
}

/// A partition by its topic's name.
type Key = (String, PartitionIndex);

/// What a fetcher sends: of which generation, and records or an error.
struct Fetched {
    key: Key,
    generation: u64,
    outcome: Result<fetcher::Chunk, ClientError>,
}

struct Assigned {
    /// Which topic of the name, where it is known.
    pin: Option<Pin>,
    position: Offset,
    paused: bool,
    generation: u64,
    task: JoinHandle<()>,
    high_watermark: Option<Offset>,
    ready: VecDeque<fetcher::Chunk>,
}

impl Drop for Assigned {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads records. Not shared: one consumer, one reader.
pub struct Consumer {
    client: Client,
    options: ConsumerOptions,
    assigned: BTreeMap<Key, Assigned>,
    generation: u64,
    sender: mpsc::Sender<Fetched>,
    receiver: mpsc::Receiver<Fetched>,
}

/// Chunks that may wait between all fetchers and the reader, beside what each stream was granted.
const CHUNKS: usize = 16;

impl Consumer {
    /// A consumer without partitions. It must be used within a tokio runtime.
    pub fn new(client: Client, options: ConsumerOptions) -> Self {
        let (sender, receiver) = mpsc::channel(CHUNKS);
        Self { client, options, assigned: BTreeMap::new(), generation: 0, sender, receiver }
    }

    /// Adds all partitions of a topic; returns how many there are.
    ///
    /// # Errors
    /// When the topic does not exist, or no broker answers.
    pub async fn assign_topic(&mut self, topic: &str, start: StartAt) -> Result<usize, ClientError> {
        let metadata = self.client.refresh_topic(topic).await?;
        for partition in &metadata.partitions {
            self.assign(topic, partition.partition, start).await?;
        }
        Ok(metadata.partitions.len())
    }

    /// Adds one partition of the topic that has this name now, or moves it when it is there already.
    ///
    /// # Errors
    /// When the partition does not exist, or its leader can't be asked for the offset.
    pub async fn assign(&mut self, topic: &str, partition: u32, start: StartAt) -> Result<(), ClientError> {
        let key = (topic.to_owned(), PartitionIndex::new(partition));
        if let StartAt::Offset(offset) = start {
            self.start(key, self.client.known_pin(topic), offset);
            return Ok(());
        }
        let mut pin = self.pin(topic).await?;
        let offset = self.offset(&mut pin, key.1, start).await?;
        self.start(key, Some(pin), offset);
        Ok(())
    }

    /// As [`Self::assign`], in the topic with this id only: for a caller that has kept an offset of that topic.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_ID` when, as far as is known, the name means another topic; else as [`Self::assign`].
    pub async fn assign_in(
        &mut self,
        topic: &str,
        id: TopicId,
        partition: u32,
        start: StartAt,
    ) -> Result<(), ClientError> {
        let mut pin = self.pin(topic).await?;
        if pin.id() != id {
            self.client.refresh_topic(topic).await?;
            pin = self.pin(topic).await?;
        }
        if pin.id() != id {
            return Err(pin.is_not(id));
        }
        let partition = PartitionIndex::new(partition);
        let offset = self.offset(&mut pin, partition, start).await?;
        self.start((topic.to_owned(), partition), Some(pin), offset);
        Ok(())
    }

    /// The id of the topic that an assigned partition is read in, once it is known.
    pub fn topic_id(&self, topic: &str, partition: u32) -> Option<TopicId> {
        let assigned = self.assigned.get(&(topic.to_owned(), PartitionIndex::new(partition)))?;
        Some(assigned.pin.as_ref()?.id())
    }

    /// Takes a partition away.
    pub fn unassign(&mut self, topic: &str, partition: u32) {
        self.assigned.remove(&(topic.to_owned(), PartitionIndex::new(partition)));
    }

    /// The next poll reads this partition from `offset` on.
    pub fn seek(&mut self, topic: &str, partition: u32, offset: Offset) {
        let key = (topic.to_owned(), PartitionIndex::new(partition));
        let pin = match self.assigned.get(&key) {
            Some(assigned) => assigned.pin.clone(),
            None => self.client.known_pin(topic),
        };
        self.start(key, pin, offset);
    }

    /// The offset of the next record of a partition, if it is assigned.
    pub fn position(&self, topic: &str, partition: u32) -> Option<Offset> {
        Some(self.assigned.get(&(topic.to_owned(), PartitionIndex::new(partition)))?.position)
    }

    /// The high watermark of a partition as last heard of.
    pub fn high_watermark(&self, topic: &str, partition: u32) -> Option<Offset> {
        self.assigned.get(&(topic.to_owned(), PartitionIndex::new(partition)))?.high_watermark
    }

    /// Hands out no records of a partition until it is resumed.
    pub fn pause(&mut self, topic: &str, partition: u32) {
        if let Some(assigned) = self.assigned.get_mut(&(topic.to_owned(), PartitionIndex::new(partition))) {
            assigned.paused = true;
        }
    }

    /// Hands out records of a paused partition again.
    pub fn resume(&mut self, topic: &str, partition: u32) {
        if let Some(assigned) = self.assigned.get_mut(&(topic.to_owned(), PartitionIndex::new(partition))) {
            assigned.paused = false;
        }
    }

    fn start(&mut self, key: Key, pin: Option<Pin>, offset: Offset) {
        self.generation += 1;
        let generation = self.generation;
        let fetcher = fetcher::Fetcher {
            client: self.client.clone(),
            options: self.options.clone(),
            topic: key.0.as_str().into(),
            pin: pin.clone(),
            partition: key.1,
            position: offset,
        };
        let out = self.sender.clone();
        let of = key.clone();
        let task = tokio::spawn(fetcher.run(move |outcome| {
            let out = out.clone();
            let key = of.clone();
            // Whether the reader still listens is seen by the fetcher: false ends it.
            async move { out.send(Fetched { key, generation, outcome }).await.is_ok() }
        }));
        let paused = self.assigned.get(&key).is_some_and(|assigned| assigned.paused);
        let assigned = Assigned {
            pin,
            position: offset,
            paused,
            generation,
            task,
            high_watermark: None,
            ready: VecDeque::new(),
        };
        self.assigned.insert(key, assigned);
    }

    /// The next records, at most `max.poll.records`; waits for the first up to `timeout`. Empty when none came.
    ///
    /// # Errors
    /// When a partition can't be read on: it is unassigned, and the position that it had is in the error's words. Other
    /// partitions go on with the next poll.
    pub async fn poll(&mut self, timeout: Duration) -> Result<Vec<ConsumedRecord>, ClientError> {
        let deadline = Instant::now() + timeout;
        loop {
            let records = self.take_ready();
            if !records.is_empty() {
                return Ok(records);
            }
            match tokio::time::timeout_at(deadline, self.receiver.recv()).await {
                Ok(Some(fetched)) => self.take(fetched)?,
                Ok(None) | Err(_) => return Ok(Vec::new()),
            }
            while let Ok(fetched) = self.receiver.try_recv() {
                self.take(fetched)?;
            }
        }
    }

    fn take(&mut self, fetched: Fetched) -> Result<(), ClientError> {
        let Some(assigned) = self.assigned.get_mut(&fetched.key) else { return Ok(()) };
        if assigned.generation != fetched.generation {
            return Ok(());
        }
        match fetched.outcome {
            Ok(chunk) => {
                assigned.high_watermark = Some(chunk.high_watermark);
                assigned.ready.push_back(chunk);
                Ok(())
            }
            Err(error) => {
                self.assigned.remove(&fetched.key);
                Err(error)
            }
        }
    }

    fn take_ready(&mut self) -> Vec<ConsumedRecord> {
        let mut records = Vec::new();
        for assigned in self.assigned.values_mut().filter(|assigned| !assigned.paused) {
            while let Some(chunk) = assigned.ready.front_mut() {
                let room = self.options.max_poll_records.saturating_sub(records.len());
                if room == 0 {
                    return records;
                }
                let take = chunk.records.len().min(room);
                records.extend(chunk.records.drain(..take));
                if chunk.records.is_empty() {
                    assigned.position = chunk.next;
                    assigned.ready.pop_front();
                } else if let Some(next) = chunk.records.front() {
                    assigned.position = next.offset;
                }
            }
        }
        records
    }

    /// What a name means, asked until the time for it is over.
    async fn pin(&self, topic: &str) -> Result<Pin, ClientError> {
        let deadline = Instant::now() + self.options.default_api_timeout;
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
        loop {
            match self.client.pin(topic).await {
                Err(error) if error.is_retriable() && Instant::now() < deadline => {}
                outcome => return outcome,
            }
            backoff.wait().await;
        }
    }

    async fn offset(
        &self,
        pin: &mut Pin,
        partition: PartitionIndex,
        start: StartAt,
    ) -> Result<Offset, ClientError> {
        let at = match start {
            StartAt::Offset(offset) => return Ok(offset),
            StartAt::Earliest => offset_query::At::Earliest(true),
            StartAt::Latest => offset_query::At::Latest(true),
            StartAt::Timestamp(ms) => offset_query::At::TimestampMs(ms),
        };
        self.offset_at(pin, partition, at).await
    }

    async fn offset_at(
        &self,
        pin: &mut Pin,
        partition: PartitionIndex,
        at: offset_query::At,
    ) -> Result<Offset, ClientError> {
        let deadline = Instant::now() + self.options.default_api_timeout;
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
        loop {
            match self.ask_offset(pin, partition, at).await {
                Ok(Some(offset)) => return Ok(offset),
                // No record is that late: read what comes from now on.
                Ok(None) => {
                    let latest = offset_query::At::Latest(true);
                    return Box::pin(self.offset_at(pin, partition, latest)).await;
                }
                Err(error) if error.is_retriable() && Instant::now() < deadline => {}
                Err(error) => return Err(error),
            }
            backoff.wait().await;
            self.client.look_after(pin).await?;
        }
    }

    async fn ask_offset(
        &self,
        pin: &mut Pin,
        partition: PartitionIndex,
        at: offset_query::At,
    ) -> Result<Option<Offset>, ClientError> {
        let mut leader = self.client.leader(pin, partition)?;
        let query = OffsetQuery { partition: partition.get(), at: Some(at) };
        let request = ListOffsetsRequest {
            topic: pin.name().to_owned(),
            partitions: vec![query],
            topic_id: pin.wire_id(),
        };
        let call = leader.client.list_offsets(request);
        let (leads, limit) = ((leader.node, leader.epoch), Duration::from_secs(5));
        let answer = self.client.answered(pin, partition, leads, limit, call).await?;
        let answer = answer.into_inner().partitions.into_iter().next();
        let answer =
            answer.ok_or_else(|| ClientError::new(ErrorCode::UnknownServerError, "an empty answer"))?;
        match answer.error {
            Some(error) => Err(error.into()),
            None => Ok(answer.offset.map(Offset::new)),
        }
    }
}
