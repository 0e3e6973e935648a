//! The following side: one task for each broker that leads something followed here.
//!
//! Shards say what to follow and how far they have come; the task keeps the stream, reconnects with backoff, and hands
//! data to the shards. What was read but not yet appended is bounded by the bytes granted to the leader.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use vltava_model::batch::Batch;
use vltava_model::{DirectoryId, LeaderEpoch, NodeId, Offset, TopicPartition};
use vltava_proto::status;
use vltava_proto::v1::replica_client::ReplicaClient;
use vltava_proto::v1::{
    Follow, FollowReply, FollowerMessage, LeaderMessage, Progress, ReplicaData, ReplicaHello, Suspension,
    follow_reply,
};
use vltava_transport::WithResponses;

use crate::channel::{self, MAX_MESSAGE_BYTES};
use crate::shard::command::{Command, LeaderAnswer};
use crate::shard::handle::ShardHandle;
use crate::state::BrokerState;

const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_millis(1000);

/// After a refusal a subscription is tried again this much later: the leader may not have heard of its election yet.
const REFUSED_PAUSE: Duration = Duration::from_millis(20);

/// A stream on which nobody follows anything is closed after this time.
const IDLE_CLOSE: Duration = Duration::from_secs(30);

/// Messages that may wait for the connection.
const OUT_QUEUE: usize = 16;

/// What a shard wants followed, as of now.
#[derive(Clone)]
pub struct FollowSpec {
    /// The partition.
    pub partition: TopicPartition,
    /// Who owns it here.
    pub shard: ShardHandle,
    /// The epoch in which the leader leads.
    pub epoch: LeaderEpoch,
    /// The first offset held here.
    pub log_start: Offset,
    /// Where the log ends here.
    pub log_end: Offset,
    /// Up to where it is on stable storage.
    pub durable_end: Offset,
    /// The leader epoch of the last record here.
    pub last_epoch: Option<LeaderEpoch>,
    /// The directory that holds it.
    pub directory: DirectoryId,
}

/// A partition that a shard cannot have followed for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuspendSpec {
    /// The partition.
    pub partition: TopicPartition,
    /// The epoch in which the leader leads.
    pub epoch: LeaderEpoch,
    /// The directory that holds it here.
    pub directory: DirectoryId,
}

/// How far a partition has come here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// In which epoch it is followed.
    pub epoch: LeaderEpoch,
    /// The first offset.
    pub log_start: Offset,
    /// Where the log ends.
    pub log_end: Offset,
    /// Up to where it is on stable storage.
    pub durable_end: Offset,
}

/// All streams on which this broker follows.
pub struct Followers {
    streams: Mutex<BTreeMap<NodeId, Arc<Stream>>>,
    /// Connections made so far, to whomever: a leader that gets something of an earlier one late must know that it is old.
    connections: AtomicU64,
    state: Mutex<Option<Arc<BrokerState>>>,
    runtime: tokio::runtime::Handle,
}

#[derive(Default)]
struct Wishes {
    follow: BTreeMap<TopicPartition, FollowSpec>,
    unfollow: BTreeSet<TopicPartition>,
    progress: BTreeMap<TopicPartition, Report>,
    /// Said once: whoever wants it said again says so.
    suspend: BTreeMap<TopicPartition, SuspendSpec>,
    ended: bool,
}

struct Stream {
    leader: NodeId,
    wishes: Mutex<Wishes>,
    changed: Notify,
    returned: Arc<AtomicU64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Followers {
    /// No streams yet. Tasks run on `runtime`.
    pub fn new(runtime: tokio::runtime::Handle) -> Self {
        Self { streams: Mutex::default(), connections: AtomicU64::new(0), state: Mutex::new(None), runtime }
    }

    /// Gives the state that tasks need; before this nothing connects.
    pub fn attach(&self, state: Arc<BrokerState>) {
        *lock(&self.state) = Some(state);
    }

    /// Ends all streams.
    pub fn close(&self) {
        for stream in std::mem::take(&mut *lock(&self.streams)).into_values() {
            lock(&stream.wishes).ended = true;
            stream.changed.notify_one();
        }
        *lock(&self.state) = None;
    }

    /// Begins to follow, or follows anew. Called from shard threads.
    pub fn follow(&self, leader: NodeId, spec: FollowSpec) {
        self.on_stream(leader, |wishes| {
            wishes.unfollow.remove(&spec.partition);
            wishes.progress.remove(&spec.partition);
            wishes.suspend.remove(&spec.partition);
            wishes.follow.insert(spec.partition, spec);
        });
    }

    /// Follows no more for now, and tells the leader so. Called from shard threads.
    pub fn suspend(&self, leader: NodeId, spec: SuspendSpec) {
        self.on_stream(leader, |wishes| {
            wishes.follow.remove(&spec.partition);
            wishes.progress.remove(&spec.partition);
            wishes.unfollow.insert(spec.partition);
            wishes.suspend.insert(spec.partition, spec);
        });
    }

    /// Changes what is wished of a leader, to which there is a stream from then on.
    fn on_stream(&self, leader: NodeId, change: impl FnOnce(&mut Wishes)) {
        let Some(state) = lock(&self.state).clone() else { return };
        let mut streams = lock(&self.streams);
        let stream = streams.entry(leader).or_insert_with(|| {
            let stream = Arc::new(Stream {
                leader,
                wishes: Mutex::default(),
                changed: Notify::new(),
                returned: Arc::default(),
            });
            self.runtime.spawn(run(stream.clone(), state));
            stream
        });
        change(&mut lock(&stream.wishes));
        stream.changed.notify_one();
    }

    /// Follows no more.
    pub fn unfollow(&self, leader: NodeId, partition: TopicPartition) {
        self.with(leader, |wishes| {
            wishes.follow.remove(&partition);
            wishes.progress.remove(&partition);
            wishes.suspend.remove(&partition);
            wishes.unfollow.insert(partition);
        });
    }

    /// Reports how far partitions have come; a later report replaces an earlier one. Each stream is woken once.
    pub fn progress(&self, reports: impl IntoIterator<Item = (NodeId, TopicPartition, Report)>) {
        let streams = lock(&self.streams);
        let mut woken = BTreeSet::new();
        for (leader, partition, report) in reports {
            if let Some(stream) = streams.get(&leader) {
                lock(&stream.wishes).progress.insert(partition, report);
                woken.insert(leader);
            }
        }
        for stream in woken.iter().filter_map(|leader| streams.get(leader)) {
            stream.changed.notify_one();
        }
    }

    fn with(&self, leader: NodeId, change: impl FnOnce(&mut Wishes)) {
        let stream = lock(&self.streams).get(&leader).cloned();
        if let Some(stream) = stream {
            change(&mut lock(&stream.wishes));
            stream.changed.notify_one();
        }
    }
}

/// Bytes received that the shard has not appended yet; dropping it lets the leader send as many again.
pub struct Receipt {
    bytes: u64,
    stream: Arc<Stream>,
}

impl Drop for Receipt {
    fn drop(&mut self) {
        let window = 64 * 1024;
        let before = self.stream.returned.fetch_add(self.bytes, Ordering::AcqRel);
        // Small returns ride along with the next progress report.
        if before < window && before + self.bytes >= window {
            self.stream.changed.notify_one();
        }
    }
}

/// What is followed on one connection.
#[derive(Default)]
struct Slots {
    next: u32,
    by_slot: BTreeMap<u32, Followed>,
    by_partition: BTreeMap<TopicPartition, u32>,
}

#[derive(Clone)]
struct Followed {
    partition: TopicPartition,
    epoch: LeaderEpoch,
    shard: ShardHandle,
}

impl Slots {
    fn remove(&mut self, partition: TopicPartition) -> Option<u32> {
        let slot = self.by_partition.remove(&partition)?;
        self.by_slot.remove(&slot);
        Some(slot)
    }
}

async fn run(stream: Arc<Stream>, state: Arc<BrokerState>) {
    let mut backoff = BACKOFF_MIN;
    loop {
        if lock(&stream.wishes).ended {
            return;
        }
        let mut slots = Slots::default();
        let ended = connection(&stream, &state, &mut slots, &mut backoff).await;
        for followed in slots.by_slot.into_values() {
            let lost = Command::StreamLost { partition: followed.partition, epoch: followed.epoch };
            followed.shard.send_patiently(lost).await;
        }
        match ended {
            Ok(Ended::Idle) => {
                if retire(&stream, &state) {
                    return;
                }
            }
            Ok(Ended::Closed) => return,
            Err(status) => {
                tracing::debug!(leader = %stream.leader, %status, "replication stream lost");
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }
}

/// Takes an idle stream out of the register, unless a wish came meanwhile.
fn retire(stream: &Arc<Stream>, state: &BrokerState) -> bool {
    let mut streams = lock(&state.followers.streams);
    let wishes = lock(&stream.wishes);
    if !wishes.follow.is_empty() || !wishes.suspend.is_empty() {
        return false;
    }
    drop(wishes);
    streams.remove(&stream.leader);
    true
}

enum Ended {
    Idle,
    Closed,
}

async fn connection(
    stream: &Arc<Stream>,
    state: &Arc<BrokerState>,
    slots: &mut Slots,
    backoff: &mut Duration,
) -> Result<Ended, Status> {
    let address = state
        .broker_address(stream.leader)
        .ok_or_else(|| Status::unavailable("the leader's address is not known yet"))?;
    let channel = channel::watched(&address).map_err(|error| Status::unavailable(error.to_string()))?;
    let mut client = ReplicaClient::new(WithResponses(channel))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let (out, outbound) = mpsc::channel(OUT_QUEUE);
    let window = state.options.replica_window_bytes;
    stream.returned.store(0, Ordering::Release);
    let hello = FollowerMessage {
        hello: Some(hello(state, stream.leader)),
        grant_bytes: window,
        ..Default::default()
    };
    out.send(hello).await.map_err(|_| Status::cancelled("closed"))?;
    let connect = client.replicate(ReceiverStream::new(outbound));
    let mut inbound = tokio::time::timeout(Duration::from_secs(3), connect)
        .await
        .map_err(|_| Status::deadline_exceeded("the leader did not answer"))??
        .into_inner();
    loop {
        let idle = slots.by_slot.is_empty();
        tokio::select! {
            biased;
            () = stream.changed.notified() => {
                if lock(&stream.wishes).ended {
                    return Ok(Ended::Closed);
                }
                let message = collect(stream, slots);
                let has_news = !message.follow.is_empty() || !message.unfollow.is_empty()
                    || !message.progress.is_empty() || !message.suspended.is_empty() || message.grant_bytes > 0;
                if has_news && out.send(message).await.is_err() {
                    return Err(Status::unavailable("the connection closed"));
                }
            }
            message = inbound.message() => {
                let message = message?.ok_or_else(|| Status::unavailable("the leader closed the stream"))?;
                *backoff = BACKOFF_MIN;
                receive(stream, slots, message).await?;
            }
            () = tokio::time::sleep(IDLE_CLOSE), if idle => return Ok(Ended::Idle),
        }
    }
}

fn hello(state: &BrokerState, leader: NodeId) -> ReplicaHello {
    ReplicaHello {
        cluster_id: state.cluster_id().to_bytes().to_vec().into(),
        follower_id: state.node_id.get(),
        broker_epoch: state.broker_epoch().get(),
        leader_id: leader.get(),
        incarnation_id: state.incarnation.to_bytes().to_vec().into(),
        stream_number: state.followers.connections.fetch_add(1, Ordering::Relaxed) + 1,
    }
}

/// Turns the shards' wishes into one message.
fn collect(stream: &Stream, slots: &mut Slots) -> FollowerMessage {
    let mut wishes = lock(&stream.wishes);
    let mut message = FollowerMessage::default();
    for partition in std::mem::take(&mut wishes.unfollow) {
        message.unfollow.extend(slots.remove(partition));
    }
    for (partition, spec) in std::mem::take(&mut wishes.follow) {
        message.unfollow.extend(slots.remove(partition));
        let slot = slots.next;
        slots.next += 1;
        message.follow.push(follow(slot, &spec));
        slots.by_slot.insert(slot, Followed { partition, epoch: spec.epoch, shard: spec.shard });
        slots.by_partition.insert(partition, slot);
    }
    message.suspended.extend(std::mem::take(&mut wishes.suspend).into_values().map(suspension));
    for (partition, report) in std::mem::take(&mut wishes.progress) {
        let Some(slot) = slots.by_partition.get(&partition) else { continue };
        if slots.by_slot.get(slot).is_some_and(|followed| followed.epoch == report.epoch) {
            message.progress.push(Progress {
                slot: *slot,
                log_end_offset: report.log_end.get(),
                synced_end_offset: report.durable_end.get(),
                log_start_offset: report.log_start.get(),
            });
        }
    }
    message.grant_bytes = stream.returned.swap(0, Ordering::AcqRel);
    message
}

fn follow(slot: u32, spec: &FollowSpec) -> Follow {
    Follow {
        slot,
        topic_id: spec.partition.topic.to_bytes().to_vec().into(),
        partition: spec.partition.partition.get(),
        leader_epoch: spec.epoch.get(),
        log_end_offset: spec.log_end.get(),
        last_fetched_epoch: spec.last_epoch.map(LeaderEpoch::get),
        synced_end_offset: spec.durable_end.get(),
        log_start_offset: spec.log_start.get(),
        directory_id: spec.directory.to_bytes().to_vec().into(),
    }
}

fn suspension(spec: SuspendSpec) -> Suspension {
    Suspension {
        topic_id: spec.partition.topic.to_bytes().to_vec().into(),
        partition: spec.partition.partition.get(),
        leader_epoch: spec.epoch.get(),
        directory_id: spec.directory.to_bytes().to_vec().into(),
    }
}

async fn receive(stream: &Arc<Stream>, slots: &mut Slots, message: LeaderMessage) -> Result<(), Status> {
    for reply in message.replies {
        answer(slots, reply).await;
    }
    for data in message.data.chunk_by(|one, next| one.slot == next.slot) {
        let Some(followed) = slots.by_slot.get(&data[0].slot) else {
            // Unfollowed while it was under way: the bytes are spent all the same.
            stream.returned.fetch_add(length(data), Ordering::AcqRel);
            continue;
        };
        let command = batches(stream, followed, data)?;
        followed.shard.send_patiently(command).await;
    }
    for mark in message.watermarks {
        let Some(followed) = slots.by_slot.get(&mark.slot) else { continue };
        let answer = LeaderAnswer::Watermark {
            high_watermark: Offset::new(mark.high_watermark),
            log_start: Offset::new(mark.log_start_offset),
        };
        tell(followed, answer).await;
    }
    Ok(())
}

async fn tell(followed: &Followed, answer: LeaderAnswer) {
    let command = Command::LeaderAnswer { partition: followed.partition, epoch: followed.epoch, answer };
    followed.shard.send_patiently(command).await;
}

/// How many bytes of batches pieces of one partition hold.
fn length(pieces: &[ReplicaData]) -> u64 {
    pieces.iter().map(|piece| piece.batches.len() as u64).sum()
}

/// What one message holds of one partition: pieces that follow on each other, the last of which knows the watermarks best.
fn batches(stream: &Arc<Stream>, followed: &Followed, pieces: &[ReplicaData]) -> Result<Command, Status> {
    let receipt = Receipt { bytes: length(pieces), stream: stream.clone() };
    let mut batches = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let more = Batch::split(piece.batches.clone(), MAX_MESSAGE_BYTES).map_err(|error| {
            tracing::error!(partition = %followed.partition, %error, "the leader sent a damaged batch");
            Status::data_loss(error.to_string())
        })?;
        batches.extend(more);
    }
    let marks = |of: fn(&ReplicaData) -> u64| Offset::new(pieces.iter().map(of).max().unwrap_or_default());
    Ok(Command::LeaderData {
        partition: followed.partition,
        epoch: followed.epoch,
        batches,
        high_watermark: marks(|piece| piece.high_watermark),
        log_start: marks(|piece| piece.log_start_offset),
        receipt,
    })
}

async fn answer(slots: &mut Slots, reply: FollowReply) {
    let Some(followed) = slots.by_slot.get(&reply.slot).cloned() else { return };
    let answer = match reply.outcome {
        Some(follow_reply::Outcome::Accepted(mark)) => {
            let accepted = LeaderAnswer::Watermark {
                high_watermark: Offset::new(mark.high_watermark),
                log_start: Offset::new(mark.log_start_offset),
            };
            tell(&followed, accepted).await;
            return;
        }
        Some(follow_reply::Outcome::Diverging(diverging)) => LeaderAnswer::Diverging {
            epoch: LeaderEpoch::new(diverging.epoch),
            end: Offset::new(diverging.end_offset),
        },
        Some(follow_reply::Outcome::StartAt(offset)) => LeaderAnswer::StartAt(Offset::new(offset)),
        Some(follow_reply::Outcome::Error(detail)) => {
            slots.remove(followed.partition);
            let code = status::code_of(&detail);
            tracing::debug!(partition = %followed.partition, %code, "subscription refused");
            tokio::spawn(async move {
                tokio::time::sleep(REFUSED_PAUSE).await;
                let lost = Command::StreamLost { partition: followed.partition, epoch: followed.epoch };
                followed.shard.send_patiently(lost).await;
            });
            return;
        }
        None => return,
    };
    slots.remove(followed.partition);
    tell(&followed, answer).await;
}
