//! The leading side of a replication stream: takes subscriptions and progress, pushes batches and watermarks.
//!
//! Two tasks a stream: one reads what the follower says, one sends. So a follower that is slow to take data can always
//! report progress. Data is bounded by what the follower granted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tonic::{Status, Streaming};
use vltava_commitlog::log::{LogReader, ReadBatches, ReadError};
use vltava_model::{
    BrokerEpoch, DirectoryId, ErrorCode, LeaderEpoch, NodeId, Offset, PartitionIndex, TopicId, TopicPartition,
};
use vltava_partition::{FollowerProgress, FollowerSuspended, ReplicaIdentity, StreamNumber};
use vltava_proto::status;
use vltava_proto::v1::{
    Diverging, Follow, FollowReply, FollowerMessage, LeaderMessage, Progress, ReplicaData, ReplicaHello,
    Suspension, Watermark, follow_reply,
};

use crate::shard::command::{Command, Subscribe, SubscribeOutcome};
use crate::shard::handle::PartitionHandle;
use crate::shard::shared::PartitionShared;
use crate::state::BrokerState;
use crate::wake::WakeSet;

/// How many bytes of batches go into one message.
const MESSAGE_BYTES: usize = 512 * 1024;

/// A watermark that moved is sent with the next data, or alone when none came for this time.
const WATERMARK_DELAY: Duration = Duration::from_millis(3);

/// As long as what was sent does not become committed, it is looked at less and less often, at least once in this time.
const WATERMARK_DELAY_MAX: Duration = Duration::from_millis(48);

/// How many messages may wait for the connection.
const OUT_QUEUE: usize = 4;

/// How many accepted subscriptions may wait for the sender.
const JOIN_QUEUE: usize = 1024;

/// Followed partitions on one stream: more is a broken peer.
const SLOTS_MAX: usize = 200_000;

/// What both tasks of a stream share.
struct Credit {
    bytes: AtomicU64,
    granted: Notify,
}

/// A partition that the follower follows.
struct Subscription {
    shared: Arc<PartitionShared>,
    reader: LogReader,
    epoch: LeaderEpoch,
    next: Offset,
    sent_watermark: Offset,
    sent_log_start: Offset,
    /// When data went out last.
    shipped: Instant,
}

impl Subscription {
    /// Whether the follower knows less of the watermarks than there is to know.
    fn is_stale(&self) -> bool {
        self.shared.high_watermark() > self.sent_watermark || self.shared.log_start() > self.sent_log_start
    }

    /// Whether there is, or will be, a watermark to tell without another batch: that of what the follower has already.
    fn awaits_watermark(&self) -> bool {
        self.sent_watermark < self.next || self.is_stale()
    }

    /// What the follower is told of the watermarks now; `None` when this broker does not lead in that epoch any more: it may
    /// follow by now, and then its watermarks are of another log than the one that it sent (I7).
    fn take_watermark(&mut self, slot: u32) -> Option<Watermark> {
        let (high_watermark, log_start) = (self.shared.high_watermark(), self.shared.log_start());
        // Only now: a shard stops leading before it shows what comes after.
        if self.shared.leader_epoch() != Some(self.epoch) {
            return None;
        }
        self.sent_watermark = high_watermark;
        self.sent_log_start = log_start;
        Some(Watermark { slot, high_watermark: high_watermark.get(), log_start_offset: log_start.get() })
    }
}

enum ToSender {
    Join(u32, Subscription),
    Leave(u32),
    Reply(FollowReply),
}

/// Serves one stream until it ends; the receiver is the response stream.
///
/// # Errors
/// When the first message is no valid hello.
pub async fn serve(
    state: Arc<BrokerState>,
    mut inbound: Streaming<FollowerMessage>,
) -> Result<mpsc::Receiver<Result<LeaderMessage, Status>>, Status> {
    let first = inbound.message().await?.ok_or_else(|| bad("the stream ended before its hello"))?;
    let hello = first.hello.clone().ok_or_else(|| bad("the first message must carry a hello"))?;
    let follower = check_hello(&state, &hello)?;
    let (out, responses) = mpsc::channel(OUT_QUEUE);
    let (joins, joined) = mpsc::channel(JOIN_QUEUE);
    let wake = Arc::new(WakeSet::default());
    let credit = Arc::new(Credit { bytes: AtomicU64::new(0), granted: Notify::new() });
    let sender = Sender::new(wake.clone(), credit.clone(), out.clone());
    let sending = tokio::spawn(sender.run(joined));
    let reader = Reader { state, follower, wake, credit, joins, slots: BTreeMap::new() };
    tokio::spawn(async move {
        let ended = reader.run(first, inbound).await;
        sending.abort();
        if let Err(status) = ended {
            tracing::debug!(%status, "replication stream ended");
            // The peer may be gone: whether this arrives does not matter.
            let _ = out.try_send(Err(status));
        }
    });
    Ok(responses)
}

fn bad(message: &str) -> Status {
    status::status(ErrorCode::InvalidRequest, message)
}

fn check_hello(state: &BrokerState, hello: &ReplicaHello) -> Result<Peer, Status> {
    if vltava_model::ClusterId::from_slice(&hello.cluster_id) != Some(state.cluster_id()) {
        return Err(status::status(
            ErrorCode::InconsistentClusterId,
            "the follower belongs to another cluster",
        ));
    }
    if NodeId::new(hello.leader_id) != state.node_id {
        let message = format!("this is node {}, not {}", state.node_id, hello.leader_id);
        return Err(status::status(ErrorCode::InvalidRequest, message));
    }
    Ok(Peer {
        node: NodeId::new(hello.follower_id),
        broker_epoch: BrokerEpoch::new(hello.broker_epoch),
        stream: StreamNumber::new(hello.stream_number),
    })
}

/// Who is at the other end of a stream.
#[derive(Clone, Copy)]
struct Peer {
    node: NodeId,
    broker_epoch: BrokerEpoch,
    stream: StreamNumber,
}

struct Reader {
    state: Arc<BrokerState>,
    follower: Peer,
    wake: Arc<WakeSet>,
    credit: Arc<Credit>,
    joins: mpsc::Sender<ToSender>,
    slots: BTreeMap<u32, Accepted>,
}

/// A partition that this follower was let in to.
struct Accepted {
    handle: PartitionHandle,
    epoch: LeaderEpoch,
    follower: ReplicaIdentity,
}

impl Reader {
    async fn run(
        mut self,
        first: FollowerMessage,
        mut inbound: Streaming<FollowerMessage>,
    ) -> Result<(), Status> {
        let mut next = Some(first);
        let ended = loop {
            if let Some(message) = next.take()
                && let Err(status) = self.take(message).await
            {
                break Err(status);
            }
            match inbound.message().await {
                Ok(Some(message)) => next = Some(message),
                Ok(None) => break Ok(()),
                Err(status) => break Err(status),
            }
        };
        for (slot, accepted) in std::mem::take(&mut self.slots) {
            self.gone(slot, &accepted.handle).await;
        }
        ended
    }

    async fn take(&mut self, message: FollowerMessage) -> Result<(), Status> {
        if message.grant_bytes > 0 {
            // A peer that grants without end gains nothing: messages stay small and the out queue is bounded.
            let _ = self.credit.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, |bytes| {
                Some(bytes.saturating_add(message.grant_bytes))
            });
            self.credit.granted.notify_one();
        }
        for slot in message.unfollow {
            if let Some(accepted) = self.slots.remove(&slot) {
                self.gone(slot, &accepted.handle).await;
                self.tell(ToSender::Leave(slot)).await?;
            }
        }
        for suspension in message.suspended {
            self.suspended(&suspension).await?;
        }
        for follow in message.follow {
            self.follow(follow).await?;
        }
        for progress in message.progress {
            self.progress(progress).await;
        }
        Ok(())
    }

    async fn tell(&self, what: ToSender) -> Result<(), Status> {
        self.joins.send(what).await.map_err(|_| Status::cancelled("the sending side ended"))
    }

    async fn gone(&self, slot: u32, handle: &PartitionHandle) {
        let partition = handle.partition();
        handle.send_patiently(Command::FollowerGone { partition, slot, wake: self.wake.clone() }).await;
    }

    async fn suspended(&self, suspension: &Suspension) -> Result<(), Status> {
        let (Some(topic), Some(directory)) =
            (TopicId::from_slice(&suspension.topic_id), DirectoryId::from_slice(&suspension.directory_id))
        else {
            return Err(bad("an id is not 16 bytes long"));
        };
        let partition = TopicPartition::new(topic, PartitionIndex::new(suspension.partition));
        // Where the partition is not known yet, this is said again.
        let Some(handle) = self.state.partition(partition) else { return Ok(()) };
        let Peer { node, broker_epoch, .. } = self.follower;
        let word = FollowerSuspended {
            follower: ReplicaIdentity { node, broker_epoch, directory },
            leader_epoch: LeaderEpoch::new(suspension.leader_epoch),
        };
        handle.send_patiently(Command::FollowerSuspended { partition, word }).await;
        Ok(())
    }

    async fn progress(&self, progress: Progress) {
        // A slot that is unknown was unfollowed a moment ago.
        let Some(accepted) = self.slots.get(&progress.slot) else { return };
        let log_start = Offset::new(progress.log_start_offset);
        let progress = FollowerProgress {
            follower: accepted.follower,
            leader_epoch: accepted.epoch,
            log_end: Offset::new(progress.log_end_offset),
            durable_end: Offset::new(progress.synced_end_offset),
        };
        let partition = accepted.handle.partition();
        accepted.handle.send_patiently(Command::FollowerProgress { partition, progress, log_start }).await;
    }

    async fn follow(&mut self, follow: Follow) -> Result<(), Status> {
        let slot = follow.slot;
        if self.slots.len() >= SLOTS_MAX {
            return Err(status::status(
                ErrorCode::ThrottlingQuotaExceeded,
                "too many partitions on one stream",
            ));
        }
        if let Some(accepted) = self.slots.remove(&slot) {
            self.gone(slot, &accepted.handle).await;
            self.tell(ToSender::Leave(slot)).await?;
        }
        let outcome = match self.subscribe(&follow).await {
            Ok(Joined { handle, follower, subscription, watermark }) => {
                self.slots.insert(slot, Accepted { handle, epoch: subscription.epoch, follower });
                // The sender must know the slot before its reply and its data go out.
                self.tell(ToSender::Join(slot, *subscription)).await?;
                self.wake.mark(slot);
                follow_reply::Outcome::Accepted(watermark)
            }
            Err(outcome) => *outcome,
        };
        self.tell(ToSender::Reply(FollowReply { slot, outcome: Some(outcome) })).await
    }

    async fn subscribe(&self, follow: &Follow) -> Result<Joined, Box<follow_reply::Outcome>> {
        let refused =
            |code, message: &str| Box::new(follow_reply::Outcome::Error(status::detail(code, message)));
        let (Some(topic), Some(directory)) =
            (TopicId::from_slice(&follow.topic_id), DirectoryId::from_slice(&follow.directory_id))
        else {
            return Err(refused(ErrorCode::InvalidRequest, "an id is not 16 bytes long"));
        };
        let partition = TopicPartition::new(topic, PartitionIndex::new(follow.partition));
        let handle = self
            .state
            .partition(partition)
            .ok_or_else(|| refused(ErrorCode::UnknownTopicOrPartition, "no such partition here (yet)"))?;
        let epoch = LeaderEpoch::new(follow.leader_epoch);
        let Peer { node, broker_epoch, stream } = self.follower;
        let follower = ReplicaIdentity { node, broker_epoch, directory };
        let (reply, answered) = oneshot::channel();
        let command = Command::Subscribe(Box::new(Subscribe {
            partition,
            follower,
            stream,
            epoch,
            log_start: Offset::new(follow.log_start_offset),
            log_end: Offset::new(follow.log_end_offset),
            durable_end: Offset::new(follow.synced_end_offset),
            last_epoch: follow.last_fetched_epoch.map(LeaderEpoch::new),
            slot: follow.slot,
            wake: self.wake.clone(),
            reply,
        }));
        handle.send_patiently(command).await;
        match answered.await {
            Ok(SubscribeOutcome::Accepted { from, high_watermark, log_start, reader }) => {
                let subscription = Subscription {
                    shared: handle.shared().clone(),
                    reader,
                    epoch,
                    // Below its start nothing is read; what is there comes with the batch that reaches over it.
                    next: from.max(log_start),
                    sent_watermark: high_watermark,
                    sent_log_start: log_start,
                    shipped: Instant::now(),
                };
                let watermark = Watermark {
                    slot: follow.slot,
                    high_watermark: high_watermark.get(),
                    log_start_offset: log_start.get(),
                };
                Ok(Joined { handle, follower, subscription: Box::new(subscription), watermark })
            }
            Ok(SubscribeOutcome::Diverging { epoch, end }) => {
                let diverging = Diverging { epoch: epoch.get(), end_offset: end.get() };
                Err(Box::new(follow_reply::Outcome::Diverging(diverging)))
            }
            Ok(SubscribeOutcome::StartAt(offset)) => {
                Err(Box::new(follow_reply::Outcome::StartAt(offset.get())))
            }
            Ok(SubscribeOutcome::Refused(code)) => Err(refused(code, "the leader refused the subscription")),
            Err(_) => Err(refused(ErrorCode::NotLeaderOrFollower, "the partition is closing")),
        }
    }
}

struct Joined {
    handle: PartitionHandle,
    follower: ReplicaIdentity,
    subscription: Box<Subscription>,
    watermark: Watermark,
}

struct Sender {
    slots: BTreeMap<u32, Subscription>,
    /// Slots that may have data to send.
    backlog: BTreeSet<u32>,
    /// Slots whose watermark moved without data, or will. A shard does not wake this task for it, since more data comes mostly.
    unsettled: BTreeSet<u32>,
    /// Slots that ended before this task heard of their beginning.
    ended: BTreeSet<u32>,
    /// How soon they are looked at.
    look_again: Duration,
    wake: Arc<WakeSet>,
    credit: Arc<Credit>,
    out: mpsc::Sender<Result<LeaderMessage, Status>>,
}

/// A read from disk under way for a slot that has fallen behind.
type ColdRead = JoinHandle<(u32, Result<ReadBatches, ReadError>)>;

impl Sender {
    fn new(
        wake: Arc<WakeSet>,
        credit: Arc<Credit>,
        out: mpsc::Sender<Result<LeaderMessage, Status>>,
    ) -> Self {
        let (slots, look_again) = (BTreeMap::new(), WATERMARK_DELAY);
        let (backlog, unsettled, ended) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        Self { slots, backlog, unsettled, ended, look_again, wake, credit, out }
    }

    async fn run(mut self, mut joined: mpsc::Receiver<ToSender>) {
        let mut cold: Option<ColdRead> = None;
        let mut flush_at: Option<Instant> = None;
        loop {
            let mut message = LeaderMessage::default();
            tokio::select! {
                biased;
                what = joined.recv() => match what {
                    Some(what) => self.take(what, &mut message),
                    None => return,
                },
                () = self.wake.wait() => {
                    self.backlog.extend(self.wake.take());
                    self.end(self.wake.take_ended(), &mut message);
                }
                read = async { cold.as_mut().expect("guarded by the condition").await }, if cold.is_some() => {
                    cold = None;
                    if let Ok((slot, read)) = read {
                        self.ship_cold(slot, read, &mut message);
                    }
                }
                () = self.credit.granted.notified(), if !self.backlog.is_empty() => {}
                () = sleep_until(flush_at), if flush_at.is_some() => {
                    flush_at = None;
                    self.flush_watermarks(&mut message);
                }
            }
            self.fill(&mut message, &mut cold);
            if !self.unsettled.is_empty() {
                let look_again = Instant::now() + self.look_again;
                flush_at = Some(flush_at.map_or(look_again, |at| at.min(look_again)));
            }
            let empty =
                message.replies.is_empty() && message.data.is_empty() && message.watermarks.is_empty();
            if !empty && self.out.send(Ok(message)).await.is_err() {
                return;
            }
        }
    }

    fn take(&mut self, what: ToSender, message: &mut LeaderMessage) {
        match what {
            ToSender::Join(slot, subscription) => {
                self.slots.insert(slot, subscription);
                if self.ended.remove(&slot) {
                    self.drop_slot(slot, message);
                }
            }
            ToSender::Leave(slot) => {
                self.slots.remove(&slot);
                self.backlog.remove(&slot);
                self.unsettled.remove(&slot);
            }
            ToSender::Reply(reply) => message.replies.push(reply),
        }
    }

    /// Fills one message from what is in memory; starts at most one read from disk.
    fn fill(&mut self, message: &mut LeaderMessage, cold: &mut Option<ColdRead>) {
        let mut filled: usize = message.data.iter().map(|data| data.batches.len()).sum();
        for slot in self.backlog.clone() {
            if filled >= MESSAGE_BYTES {
                // What is left is sent by the next turn of the loop.
                self.wake.mark(slot);
                break;
            }
            let credit = self.credit.bytes.load(Ordering::Acquire);
            let Some(subscription) = self.slots.get_mut(&slot) else {
                self.backlog.remove(&slot);
                continue;
            };
            if subscription.shared.leader_epoch() != Some(subscription.epoch) {
                self.drop_slot(slot, message);
                continue;
            }
            let end = subscription.shared.log_end();
            if subscription.next >= end {
                self.backlog.remove(&slot);
                if subscription.awaits_watermark() {
                    self.unsettled.insert(slot);
                }
                continue;
            }
            if credit == 0 {
                break;
            }
            let max = (MESSAGE_BYTES - filled).min(usize::try_from(credit).unwrap_or(usize::MAX));
            let next = subscription.next;
            if let Some(read) = subscription.reader.tail_batches(next, max, end) {
                filled += read.batches.iter().map(Bytes::len).sum::<usize>();
                self.ship(slot, read.batches, read.end, message);
            } else if cold.is_none() {
                let reader = subscription.reader.clone();
                *cold = Some(vltava_threads::offload(move || (slot, reader.read(next, max, end))));
                self.backlog.remove(&slot);
            }
        }
    }

    /// Puts what was read from disk into the message.
    fn ship_cold(&mut self, slot: u32, read: Result<ReadBatches, ReadError>, message: &mut LeaderMessage) {
        let Some(subscription) = self.slots.get(&slot) else { return };
        match read {
            Ok(read) => self.ship(slot, vec![read.bytes], read.end, message),
            Err(ReadError::OutOfRange { .. }) => {
                // Retention passed by: the follower subscribes anew and is told where to start.
                self.drop_slot(slot, message);
            }
            Err(error) => {
                subscription.shared.report_read_error(&subscription.reader, &error);
                self.drop_slot(slot, message);
            }
        }
    }

    /// Puts batches up to `end` into the message, each piece as it lies in memory.
    fn ship(&mut self, slot: u32, pieces: Vec<Bytes>, end: Offset, message: &mut LeaderMessage) {
        let Some(subscription) = self.slots.get_mut(&slot) else { return };
        // Also the batches were read before this is asked.
        let Some(watermark) = subscription.take_watermark(slot) else {
            self.drop_slot(slot, message);
            return;
        };
        let Watermark { high_watermark, log_start_offset, .. } = watermark;
        let spent = pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        let _ = self
            .credit
            .bytes
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |credit| Some(credit.saturating_sub(spent)));
        subscription.next = end;
        subscription.shipped = Instant::now();
        self.unsettled.insert(slot);
        self.look_again = WATERMARK_DELAY;
        message.data.extend(pieces.into_iter().map(|batches| ReplicaData {
            slot,
            batches,
            high_watermark,
            log_start_offset,
        }));
        self.wake.mark(slot);
    }

    /// The shard has ended these.
    fn end(&mut self, slots: BTreeSet<u32>, message: &mut LeaderMessage) {
        for slot in slots {
            if self.slots.contains_key(&slot) {
                self.drop_slot(slot, message);
            } else if self.ended.len() < SLOTS_MAX {
                self.ended.insert(slot);
            }
        }
    }

    fn drop_slot(&mut self, slot: u32, message: &mut LeaderMessage) {
        self.slots.remove(&slot);
        self.backlog.remove(&slot);
        self.unsettled.remove(&slot);
        let detail = status::detail(ErrorCode::NotLeaderOrFollower, "the subscription ended: subscribe anew");
        message.replies.push(FollowReply { slot, outcome: Some(follow_reply::Outcome::Error(detail)) });
    }

    /// Tells what moved of partitions that got no data lately, and keeps those of which more is to be told.
    fn flush_watermarks(&mut self, message: &mut LeaderMessage) {
        let now = Instant::now();
        let (slots, told, mut ended) = (&mut self.slots, message.watermarks.len(), Vec::new());
        self.unsettled.retain(|slot| {
            let Some(subscription) = slots.get_mut(slot) else { return false };
            if now < subscription.shipped + WATERMARK_DELAY {
                return true;
            }
            if subscription.is_stale() {
                match subscription.take_watermark(*slot) {
                    Some(watermark) => message.watermarks.push(watermark),
                    None => ended.push(*slot),
                }
            }
            subscription.awaits_watermark()
        });
        ended.into_iter().for_each(|slot| self.drop_slot(slot, message));
        self.look_again = match message.watermarks.len() > told {
            true => WATERMARK_DELAY,
            false => (2 * self.look_again).min(WATERMARK_DELAY_MAX),
        };
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
