//! How the rest of the broker reaches a shard and its partitions. The channels themselves stay hidden.

use std::sync::Arc;
use std::time::Duration;

use vltava_model::TopicPartition;
use vltava_threads::queue::{Refused, Sender};

use super::command::Command;
use super::shared::PartitionShared;

/// How long a sender that must not give up waits before it tries a full queue again.
const PATIENCE: Duration = Duration::from_micros(500);

/// The queue of a shard is full: nothing was done, the request may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the shard's queue is full")]
pub struct QueueFull;

/// The way to one shard.
#[derive(Clone)]
pub struct ShardHandle {
    queue: Sender<Command>,
}

impl ShardHandle {
    /// Wraps the sending end of a shard's queue.
    pub(crate) fn new(queue: Sender<Command>) -> Self {
        Self { queue }
    }

    /// Hands over a client's request, or refuses it when the queue is full. A closed shard drops the command, and with it
    /// the one-shot channel on which the asker waits.
    ///
    /// # Errors
    /// When the queue is full.
    pub fn send(&self, command: Command) -> Result<(), QueueFull> {
        match self.queue.send(command) {
            Ok(()) | Err(Refused::Disconnected(_)) => Ok(()),
            Err(Refused::Full(_)) => Err(QueueFull),
        }
    }

    /// Hands over what must not be lost, waiting for room. The waiting is the backpressure on the stream that it came
    /// from.
    pub async fn send_patiently(&self, command: Command) {
        let mut command = command;
        loop {
            match self.queue.send(command) {
                Ok(()) | Err(Refused::Disconnected(_)) => return,
                Err(Refused::Full(back)) => command = back,
            }
            tokio::time::sleep(PATIENCE).await;
        }
    }

    /// How many commands wait.
    pub fn depth(&self) -> usize {
        self.queue.len()
    }
}

/// The way to one partition.
#[derive(Clone)]
pub struct PartitionHandle {
    shared: Arc<PartitionShared>,
    shard: ShardHandle,
}

impl PartitionHandle {
    /// A partition and its owner.
    pub(crate) fn new(shared: Arc<PartitionShared>, shard: ShardHandle) -> Self {
        Self { shared, shard }
    }

    /// Which partition.
    pub fn partition(&self) -> TopicPartition {
        self.shared.partition()
    }

    /// What may be read without asking the shard.
    pub fn shared(&self) -> &Arc<PartitionShared> {
        &self.shared
    }

    /// As [`ShardHandle::send`].
    ///
    /// # Errors
    /// When the queue is full.
    pub fn send(&self, command: Command) -> Result<(), QueueFull> {
        self.shard.send(command)
    }

    /// As [`ShardHandle::send_patiently`].
    pub async fn send_patiently(&self, command: Command) {
        self.shard.send_patiently(command).await;
    }
}
