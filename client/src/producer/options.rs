//! How a producer behaves; names and meanings are Kafka's.

use std::sync::Arc;
use std::time::Duration;

use vltava_model::batch::Compression;

use super::partitioner::{Partitioner, Sticky};

/// When a record counts as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acks {
    /// When every in-sync replica has it on stable storage.
    #[default]
    All,
    /// When the leader has it.
    Leader,
    /// At once. It may be lost.
    None,
}

/// How a producer behaves.
#[derive(Clone)]
pub struct ProducerOptions {
    /// `acks`.
    pub acks: Acks,
    /// `enable.idempotence`: each record once, in order, whatever is retried.
    pub idempotence: bool,
    /// `batch.size`: a batch is sent when it has so many bytes.
    pub batch_size: usize,
    /// `linger.ms`: or when its first record has waited so long.
    pub linger: Duration,
    /// `compression.type`.
    pub compression: Compression,
    /// `buffer.memory`: how many bytes of records may wait or be under way.
    pub buffer_memory: usize,
    /// `max.block.ms`: how long a send waits for room.
    pub max_block: Duration,
    /// `max.request.size`: the largest record, in bytes.
    pub max_request_size: usize,
    /// `max.in.flight.requests.per.connection`: batches of one partition under way.
    pub max_in_flight: usize,
    /// `request.timeout.ms`: how long a broker may take for one batch.
    pub request_timeout: Duration,
    /// `delivery.timeout.ms`: how long a record may take in all, retries among it.
    pub delivery_timeout: Duration,
    /// `retry.backoff.ms`.
    pub retry_backoff: Duration,
    /// `partitioner.class`.
    pub partitioner: Arc<dyn Partitioner>,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            idempotence: true,
            batch_size: 16 * 1024,
            linger: Duration::from_millis(5),
            compression: Compression::None,
            buffer_memory: 32 * 1024 * 1024,
            max_block: Duration::from_secs(60),
            max_request_size: 1024 * 1024,
            max_in_flight: 5,
            request_timeout: Duration::from_secs(30),
            delivery_timeout: Duration::from_secs(120),
            retry_backoff: Duration::from_millis(20),
            partitioner: Arc::new(Sticky::default()),
        }
    }
}
