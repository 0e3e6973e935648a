//! Reads one partition on and on: a stream to its leader, opened anew wherever the leader moves.
//!
//! It reads one topic by id: when that is gone it ends, since its offsets mean nothing in another topic of that name.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::UnboundedReceiverStream;
use vltava_model::batch::Batch;
use vltava_model::{ErrorClass, ErrorCode, Offset, PartitionIndex};
use vltava_proto::v1::{ConsumeRequest, FetchRequest, FetchResponse, RecordFormat};

use super::ConsumedRecord;
use super::options::{ConsumerOptions, OffsetReset};
use crate::backoff::Backoff;
use crate::cluster::Client;
use crate::error::ClientError;
use crate::pin::Pin;

/// After so long without records the fetcher asks whether the leader is still the same: there may be none to be had.
const QUIET: Duration = Duration::from_secs(2);

/// How long opening a stream may take.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Lets the leader send as many bytes more, when dropped: when the records were handed out.
struct Receipt {
    grants: mpsc::UnboundedSender<ConsumeRequest>,
    bytes: u64,
}

impl Drop for Receipt {
    fn drop(&mut self) {
        // The stream may have ended.
        let _ = self.grants.send(ConsumeRequest { start: None, grant_bytes: self.bytes });
    }
}

/// Records that came together.
pub(super) struct Chunk {
    pub(super) records: VecDeque<ConsumedRecord>,
    pub(super) next: Offset,
    pub(super) high_watermark: Offset,
    _receipt: Receipt,
}

pub(super) struct Fetcher {
    pub(super) client: Client,
    pub(super) options: ConsumerOptions,
    pub(super) topic: Arc<str>,
    /// Which topic of that name; none before it was asked for.
    pub(super) pin: Option<Pin>,
    pub(super) partition: PartitionIndex,
    pub(super) position: Offset,
}

/// Why a stream ended.
enum Ended {
    /// Nobody listens any more.
    Unheard,
    /// It broke, or the server ended it.
    Failed(ClientError),
}

impl From<ClientError> for Ended {
    fn from(error: ClientError) -> Self {
        Self::Failed(error)
    }
}

impl From<tonic::Status> for Ended {
    fn from(status: tonic::Status) -> Self {
        Self::Failed(status.into())
    }
}

impl Fetcher {
    /// Runs until `hand_over` says that nobody listens, or the partition can't be read on.
    pub(super) async fn run<F>(mut self, hand_over: impl Fn(Result<Chunk, ClientError>) -> F)
    where
        F: Future<Output = bool>,
    {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
        let mut working = Instant::now();
        loop {
            let before = self.position;
            let ended = self.stream(&hand_over).await;
            if self.position != before {
                backoff.reset();
                working = Instant::now();
            }
            let error = match ended {
                Ok(never) => match never {},
                Err(Ended::Unheard) => return,
                Err(Ended::Failed(error)) => error,
            };
            tracing::debug!(topic = %self.topic, partition = %self.partition, %error, "reading anew");
            let error = match self.recover(error) {
                Ok(()) if working.elapsed() < self.options.give_up_after => None,
                Ok(()) => Some(ClientError::new(
                    ErrorCode::LeaderNotAvailable,
                    format!(
                        "{}-{} could not be read from offset {}",
                        self.topic, self.partition, self.position
                    ),
                )),
                Err(error) => Some(error),
            };
            if let Some(error) = error {
                hand_over(Err(error)).await;
                return;
            }
            backoff.wait().await;
            let looked = match &mut self.pin {
                Some(pin) => self.client.look_after(pin).await,
                None => Ok(()),
            };
            if let Err(gone) = looked {
                hand_over(Err(self.ended_by(&gone))).await;
                return;
            }
        }
    }

    /// What the reader is told when the topic is gone.
    fn ended_by(&self, gone: &ClientError) -> ClientError {
        let (topic, partition, position) = (&self.topic, self.partition, self.position);
        let message = format!(
            "{topic}-{partition} can't be read on from offset {position}: {}; assign it again to read what has this name then",
            gone.message()
        );
        ClientError::new(gone.code(), message)
    }

    /// Whether, and from where, to go on after an error.
    fn recover(&mut self, error: ClientError) -> Result<(), ClientError> {
        if error.code() == ErrorCode::OffsetOutOfRange {
            let detail = error.detail();
            let target = match self.options.offset_reset {
                OffsetReset::None => None,
                OffsetReset::Earliest => detail.and_then(|detail| detail.log_start_offset),
                OffsetReset::Latest => detail.and_then(|detail| detail.high_watermark),
            };
            return match target {
                Some(offset) => {
                    tracing::warn!(topic = %self.topic, partition = %self.partition, from = %self.position, to = offset, "offset out of range, reset");
                    self.position = Offset::new(offset);
                    Ok(())
                }
                None => Err(error),
            };
        }
        if error.class() == ErrorClass::GiveUp { Err(error) } else { Ok(()) }
    }

    async fn stream<F>(
        &mut self,
        hand_over: &impl Fn(Result<Chunk, ClientError>) -> F,
    ) -> Result<std::convert::Infallible, Ended>
    where
        F: Future<Output = bool>,
    {
        let mut pin = match &self.pin {
            Some(pin) => pin.clone(),
            None => self.client.pin(&self.topic).await?,
        };
        self.pin = Some(pin.clone());
        let mut leader = self.client.leader(&pin, self.partition)?;
        // One message for each chunk that is out, and those are bounded by the bytes granted.
        let (grants, requests) = mpsc::unbounded_channel();
        let start = FetchRequest {
            topic_id: pin.wire_id(),
            topic: self.topic.to_string(),
            partition: self.partition.get(),
            offset: self.position.get(),
            max_bytes: self.options.max_partition_fetch_bytes,
            format: RecordFormat::Batches.into(),
            leader_epoch: Some(leader.epoch.get()),
            ..FetchRequest::default()
        };
        let open = ConsumeRequest { start: Some(start), grant_bytes: self.options.read_ahead_bytes };
        let broken = || ClientError::new(ErrorCode::NetworkException, "the stream broke");
        grants.send(open).map_err(|_| broken())?;
        let opening = leader.client.consume(UnboundedReceiverStream::new(requests));
        let leads = (leader.node, leader.epoch);
        let opened = self.client.answered(&mut pin, self.partition, leads, OPEN_TIMEOUT, opening).await?;
        let mut responses = opened.into_inner();
        loop {
            let response = match tokio::time::timeout(QUIET, responses.message()).await {
                Ok(response) => response?.ok_or_else(broken)?,
                Err(_) => {
                    // One is enough where nothing need be wrong; another one the next time.
                    self.client.still_leads(&mut pin, self.partition, leads, 1).await?;
                    continue;
                }
            };
            let bytes = response.bytes;
            let chunk = self.decode(response, Receipt { grants: grants.clone(), bytes })?;
            let next = chunk.next;
            if !hand_over(Ok(chunk)).await {
                return Err(Ended::Unheard);
            }
            self.position = next;
        }
    }

    fn decode(&self, response: FetchResponse, receipt: Receipt) -> Result<Chunk, ClientError> {
        let damaged = |error: vltava_model::batch::BatchError| {
            ClientError::new(ErrorCode::CorruptMessage, format!("{}-{}: {error}", self.topic, self.partition))
        };
        let mut records = VecDeque::new();
        for batch in Batch::split(response.batches, usize::MAX).map_err(damaged)? {
            if batch.header().is_control {
                continue;
            }
            for record in batch.records().map_err(damaged)? {
                let record = record.map_err(damaged)?;
                if record.offset < self.position {
                    continue;
                }
                records.push_back(ConsumedRecord {
                    topic: self.topic.clone(),
                    partition: self.partition,
                    offset: record.offset,
                    timestamp_ms: (record.timestamp_ms >= 0).then_some(record.timestamp_ms),
                    key: record.key,
                    value: record.value,
                    headers: record.headers,
                });
            }
        }
        Ok(Chunk {
            records,
            next: Offset::new(response.next_offset),
            high_watermark: Offset::new(response.high_watermark),
            _receipt: receipt,
        })
    }
}
