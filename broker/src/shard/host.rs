//! One partition on its shard: its machine, its log, and who waits for what.

mod effects;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use vltava_commitlog::durability::EntryBody;
use vltava_commitlog::log::{Log, LogReader, ProducerCheck, SyncPoint};
use vltava_model::batch::Batch;
use vltava_model::{DirectoryId, ErrorCode, LeaderEpoch, NodeId, Offset, TopicPartition};
use vltava_partition::{
    Ability, AwaitCommitted, Event, FollowerProgress, FollowerSubscribe, LeaderData, LogPosition, Partition,
    ReplicaIdentity, Standing as Role, Time, Token,
};

use super::command::{Assign, Produce, Produced, Subscribe};
use super::convert::{are_contiguous, assignment, local_log, settings};
use super::group::Durable;
use super::shared::PartitionShared;
use super::worker::Turn;
use crate::replication::follower::Report;
use crate::wake::WakeSet;

/// Who waits for an answer.
enum Reply {
    Produce(oneshot::Sender<Result<Produced, ErrorCode>>),
    Subscribe(Box<Subscribe>),
    Delete(oneshot::Sender<Result<Offset, ErrorCode>>),
}

/// A follower's stream that has to be woken when there is news.
struct Subscriber {
    follower: NodeId,
    subscription: Token,
    slot: u32,
    wake: Arc<WakeSet>,
}

/// Where syncing of a relaxed log stands.
enum Flush {
    /// So many records since the last sync.
    Idle { records: u64 },
    /// Under way; so many records since it began.
    UnderWay { records: u64 },
}

/// Whether the effects of a step could be carried out so far.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Carried {
    #[default]
    Out,
    /// One failed: nothing that is left of the step may be done.
    Failed,
}

/// A deletion of records that waits until no in-sync replica has them: else the next leader could bring them back.
struct Deletion {
    log_start: Offset,
    deadline: Time,
    reply: oneshot::Sender<Result<Offset, ErrorCode>>,
}

/// For how long at least nothing is appended after an append found no room: a disk that says that it has some may have too
/// little.
const HINDERED_MIN: Duration = Duration::from_millis(500);

/// How long a deletion waits for the in-sync replicas.
const DELETION_WAIT: Duration = Duration::from_secs(30);

/// Bytes that an event brings along for the effects that it causes.
#[derive(Default)]
pub struct Payload {
    /// A client's batch.
    pub batch: Option<Batch>,
    /// The leader's batches.
    pub batches: Vec<Batch>,
    carried: Carried,
}

/// See the module.
pub struct Host {
    partition: TopicPartition,
    shared: Arc<PartitionShared>,
    machine: Partition,
    log: Log,
    reader: LogReader,
    directory: DirectoryId,
    /// Tells this host from one that held the same partition before.
    id: Token,
    assign: Assign,
    replies: BTreeMap<Token, Reply>,
    subscribers: Vec<Subscriber>,
    following: Option<NodeId>,
    flush: Flush,
    /// Groups that hold something of this partition and are not durable yet, the one being gathered among them.
    in_flight: u32,
    /// Where the log ended when it was last looked whether it is idle.
    idle_end: Option<Offset>,
    /// Since when nothing is appended, because there was no room on the disk, or no descriptor.
    hindered: Option<Time>,
    deletions: Vec<Deletion>,
    /// Where the logs of followers begin, as they said last.
    follower_starts: BTreeMap<NodeId, Offset>,
}

impl Host {
    /// A partition whose log was just opened and synced.
    pub fn new(turn: &mut Turn<'_>, log: Log, directory: DirectoryId, assign: Assign) -> Self {
        let local =
            ReplicaIdentity { node: turn.state.node_id, broker_epoch: turn.state.broker_epoch(), directory };
        let machine = Partition::new(local, local_log(&log, log.log_start()), settings(turn, &assign));
        Self {
            partition: assign.partition,
            shared: assign.shared.clone(),
            machine,
            reader: log.reader(),
            log,
            directory,
            id: turn.token(),
            assign,
            replies: BTreeMap::new(),
            subscribers: Vec::new(),
            following: None,
            flush: Flush::Idle { records: 0 },
            in_flight: 0,
            idle_end: None,
            hindered: None,
            deletions: Vec::new(),
            follower_starts: BTreeMap::new(),
        }
    }

    /// Its directory.
    pub fn directory(&self) -> DirectoryId {
        self.directory
    }

    /// Tells this host from one that held the same partition before.
    pub fn id(&self) -> Token {
        self.id
    }

    /// Whether a reader reads this log, and not one that is gone.
    pub fn is_read_by(&self, reader: &LogReader) -> bool {
        self.reader.is_of_same_log(reader)
    }

    /// The newest leader epoch that it has known.
    pub fn newest_epoch(&self) -> LeaderEpoch {
        let acted_in = match self.machine.standing() {
            Role::Leading { epoch, .. } | Role::Following { epoch, .. } => Some(epoch),
            Role::Idle | Role::Failed => None,
        };
        acted_in.max(Some(self.epoch())).unwrap_or_default()
    }

    /// What it was told last.
    pub fn assigned(&self) -> &Assign {
        &self.assign
    }

    /// Whether moving its recovery point to `to` waits for the disk.
    pub fn waits_for_disk(&self, to: Offset) -> bool {
        self.log.would_save_epochs(to)
    }

    /// Its log.
    pub fn log(&mut self) -> &mut Log {
        &mut self.log
    }

    /// Gives the log back for closing.
    pub fn into_log(self) -> Log {
        self.log
    }

    /// Whether something of it is not durable yet.
    pub fn is_in_flight(&self) -> bool {
        self.in_flight > 0
    }

    /// Whether ticks have something to do.
    pub fn wants_tick(&self, now: Time) -> bool {
        self.hindered.is_some()
            || !self.deletions.is_empty()
            || self.machine.next_tick().is_some_and(|due| due <= now)
    }

    /// When its machine wants a tick even if nothing happens.
    pub fn next_tick(&self) -> Option<Time> {
        self.machine.next_tick()
    }

    fn leads(&self) -> bool {
        matches!(self.machine.standing(), Role::Leading { .. })
    }

    /// Committed metadata about it.
    pub fn assign(&mut self, turn: &mut Turn<'_>, assign: Assign) {
        let before = settings(turn, &self.assign);
        let after = settings(turn, &assign);
        self.assign = assign;
        self.configure_log(turn);
        if before != after {
            if before.durability != after.durability {
                self.hand_over_to_segments(turn);
            }
            self.step(turn, Event::Configured(after), Payload::default());
        }
        let assignment = assignment(&self.assign);
        self.step(turn, Event::Assigned(assignment), Payload::default());
    }

    /// The topic's settings, for the part that this replica plays: from followers nobody reads what was written last, and
    /// memory that is given back soon is had again without the kernel clearing more of it.
    fn configure_log(&mut self, turn: &Turn<'_>) {
        let mut config = turn.log_config(&self.assign.config);
        if !self.leads() {
            config.tail_bytes_max = 0;
        }
        self.log.configure(config);
    }

    /// Where later appends are not journaled, what is must not be replayed over them; where they are from now on, what is not
    /// must not be missing before them.
    fn hand_over_to_segments(&mut self, turn: &mut Turn<'_>) {
        match self.log.sync_point() {
            Ok(point) => {
                let body = EntryBody::Sync { end_offset: self.log.log_end(), segments: point.files };
                self.journal(turn, self.epoch(), body);
            }
            Err(error) => turn.blame_later(self.partition, self.directory, &error),
        }
    }

    fn epoch(&self) -> LeaderEpoch {
        self.assign.image.leader_epoch
    }

    /// Feeds the machine and does what it says.
    pub fn step(&mut self, turn: &mut Turn<'_>, event: Event, mut payload: Payload) {
        let mut effects = turn.take_effects();
        self.machine.step(event, turn.now, &mut effects);
        for effect in effects.drain(..) {
            self.run(turn, effect, &mut payload);
        }
        turn.give_effects(effects);
        if payload.carried == Carried::Failed {
            // The machine believes more than was done. It is told right after this; until then nobody is to hear of it.
            return;
        }
        self.publish(turn);
        self.complete_deletions(turn);
    }

    /// Shows the new offsets, and wakes followers' streams.
    fn publish(&mut self, turn: &mut Turn<'_>) {
        let offsets = self.machine.offsets();
        self.shared.set_durable_end(offsets.durable_end);
        let moved = offsets.log_end != self.shared.log_end()
            || offsets.high_watermark != self.shared.high_watermark()
            || offsets.log_start != self.shared.log_start();
        if !moved {
            return;
        }
        let began_later = offsets.log_start != self.shared.log_start();
        let grew = offsets.log_end != self.shared.log_end();
        self.shared.set_offsets(offsets.log_start, offsets.high_watermark, offsets.log_end);
        if began_later {
            self.report(turn);
        }
        if !began_later && !grew {
            // Of a watermark alone streams take notice by themselves: most go out with the next data.
            return;
        }
        for subscriber in &self.subscribers {
            turn.wake_later(&subscriber.wake, subscriber.slot);
        }
    }

    /// A client's batch.
    pub fn produce(&mut self, turn: &mut Turn<'_>, request: Produce) {
        let header = *request.batch.header();
        let deadline = turn.at(request.deadline);
        let is_leader = self.leads();
        if is_leader && !turn.state.directories.has_room(self.directory) {
            turn.state.metrics.refused_full_disk.add(1);
            answer(request.reply, Err(ErrorCode::KafkaStorageError));
            return self.out_of_room(turn);
        }
        let check = if is_leader { self.log.producers().check(&header) } else { ProducerCheck::Append };
        let token = turn.token();
        let (event, payload) = match check {
            ProducerCheck::Append if is_leader && self.is_unknown_in_mid_sequence(&request.batch) => {
                return answer(request.reply, Err(ErrorCode::UnknownProducerId));
            }
            ProducerCheck::Append => (
                Event::Produce(vltava_partition::Produce {
                    token,
                    records: header.last_offset_delta + 1,
                    acks: request.acks,
                    deadline,
                    expected_leader_epoch: request.expected_epoch,
                }),
                Payload { batch: Some(request.batch), ..Payload::default() },
            ),
            ProducerCheck::Duplicate { base_offset, last_offset, .. } => (
                Event::AwaitCommitted(AwaitCommitted {
                    token,
                    base_offset,
                    end_offset: last_offset.next(),
                    acks: request.acks,
                    deadline,
                }),
                Payload::default(),
            ),
            ProducerCheck::OutOfOrder { .. } => {
                return answer(request.reply, Err(ErrorCode::OutOfOrderSequenceNumber));
            }
            ProducerCheck::Fenced { .. } => {
                return answer(request.reply, Err(ErrorCode::InvalidProducerEpoch));
            }
        };
        self.replies.insert(token, Reply::Produce(request.reply));
        self.step(turn, event, payload);
    }

    /// A producer that this log knows nothing of has to begin at 0: an earlier batch of its may just have been refused,
    /// and taking the later one first would break its order.
    fn is_unknown_in_mid_sequence(&self, batch: &Batch) -> bool {
        batch
            .header()
            .producer
            .is_some_and(|stamp| stamp.base_sequence.get() != 0 && !self.log.producers().knows(stamp.id))
    }

    /// Tells the leader how far this replica is.
    fn report(&self, turn: &mut Turn<'_>) {
        if let Role::Following { leader, epoch } = self.machine.standing() {
            let offsets = self.machine.offsets();
            let report = Report {
                epoch,
                log_start: offsets.log_start,
                log_end: offsets.log_end,
                durable_end: offsets.durable_end,
            };
            turn.report_later(leader, self.partition, report);
        }
    }

    /// A follower reports.
    pub fn follower_progress(&mut self, turn: &mut Turn<'_>, progress: FollowerProgress, log_start: Offset) {
        self.follower_starts.insert(progress.follower.node, log_start);
        self.step(turn, Event::FollowerProgress(progress), Payload::default());
    }

    /// Answers deletions that every in-sync replica has made, or that have waited too long.
    fn complete_deletions(&mut self, turn: &Turn<'_>) {
        if self.deletions.is_empty() {
            return;
        }
        let me = turn.state.node_id;
        let leads = self.leads();
        let isr = self.machine.isr();
        let slowest =
            isr.iter().filter(|node| **node != me).map(|node| self.follower_starts.get(node).copied());
        let everywhere = slowest.map(Option::unwrap_or_default).min();
        for deletion in std::mem::take(&mut self.deletions) {
            if everywhere.is_none_or(|everywhere| everywhere >= deletion.log_start) && leads {
                answer(deletion.reply, Ok(deletion.log_start));
            } else if !leads {
                answer(deletion.reply, Err(ErrorCode::NotLeaderOrFollower));
            } else if turn.now >= deletion.deadline {
                answer(deletion.reply, Err(ErrorCode::RequestTimedOut));
            } else {
                self.deletions.push(deletion);
            }
        }
    }

    /// A follower subscribes.
    pub fn subscribe(&mut self, turn: &mut Turn<'_>, request: Subscribe) {
        let token = turn.token();
        let event = Event::FollowerSubscribe(FollowerSubscribe {
            token,
            follower: request.follower,
            stream: request.stream,
            leader_epoch: request.epoch,
            log_start: request.log_start,
            log_end: request.log_end,
            durable_end: request.durable_end,
            last_epoch: request.last_epoch,
            first_batch: self.first_batch(request.log_end),
        });
        self.replies.insert(token, Reply::Subscribe(Box::new(request)));
        self.step(turn, event, Payload::default());
    }

    /// Where the first batch begins, as far as that matters to a follower whose log ends at `log_end`.
    fn first_batch(&self, log_end: Offset) -> Offset {
        let log_start = self.machine.offsets().log_start;
        if log_end > log_start {
            return log_start;
        }
        match self.reader.file_range(log_start, 1, self.log.log_end()) {
            Ok(Some(range)) => range.first,
            // Empty; or it can't be read, which the follower is told when it reads.
            Ok(None) | Err(_) => log_start,
        }
    }

    /// A follower's subscription ended.
    pub fn follower_gone(&mut self, turn: &mut Turn<'_>, slot: u32, wake: &Arc<WakeSet>) {
        let place =
            self.subscribers.iter().position(|known| known.slot == slot && Arc::ptr_eq(&known.wake, wake));
        if let Some(place) = place {
            let Subscriber { follower, subscription, .. } = self.subscribers.swap_remove(place);
            self.step(turn, Event::FollowerGone { follower, subscription }, Payload::default());
        }
    }

    /// The leader sent batches.
    pub fn leader_data(
        &mut self,
        turn: &mut Turn<'_>,
        leader_epoch: LeaderEpoch,
        batches: Vec<Batch>,
        high_watermark: Offset,
        log_start: Offset,
    ) {
        if !turn.state.directories.has_room(self.directory) {
            // Not taken: the leader goes on without this replica until there is room.
            return self.out_of_room(turn);
        }
        let (Some(first), Some(last)) = (batches.first(), batches.last()) else { return };
        let (base_offset, end_offset) = (first.header().base_offset, last.header().end_offset());
        if !are_contiguous(&batches) {
            tracing::error!(partition = %self.partition, "the leader sent batches with a gap between them");
            return self.step(turn, Event::StreamLost { leader_epoch }, Payload::default());
        }
        let mut batch_epochs: Vec<(LeaderEpoch, Offset)> = Vec::new();
        for header in batches.iter().map(Batch::header) {
            if let Some(epoch) = header.leader_epoch
                && batch_epochs.last().is_none_or(|(last, _)| *last != epoch)
            {
                batch_epochs.push((epoch, header.base_offset));
            }
        }
        let data =
            LeaderData { leader_epoch, base_offset, end_offset, batch_epochs, high_watermark, log_start };
        let event = Event::LeaderData(data);
        self.step(turn, event, Payload { batches, ..Payload::default() });
    }

    /// There is no room on the disk.
    pub fn out_of_room(&mut self, turn: &mut Turn<'_>) {
        self.hinder(turn, "no room on the disk");
    }

    /// No file can be opened.
    pub fn out_of_descriptors(&mut self, turn: &mut Turn<'_>) {
        self.hinder(turn, "no file can be opened");
    }

    /// Nothing is appended for a while: whoever counts on this replica is told.
    fn hinder(&mut self, turn: &mut Turn<'_>, why: &'static str) {
        if self.hindered.replace(turn.now).is_none() {
            let what = if self.leads() { "leading" } else { "following" };
            tracing::warn!(partition = %self.partition, why, "{what} is suspended");
            self.step(turn, Event::Ability(Ability::Hindered), Payload::default());
        }
    }

    /// Time passed.
    pub fn tick(&mut self, turn: &mut Turn<'_>) {
        let is_over = self.hindered.is_some_and(|since| turn.now.since(since) >= HINDERED_MIN);
        if is_over && turn.state.directories.has_room(self.directory) {
            self.hindered = None;
            tracing::info!(partition = %self.partition, "appending goes on");
            self.step(turn, Event::Ability(Ability::Able), Payload::default());
        }
        self.step(turn, Event::Tick, Payload::default());
    }

    /// Records below an offset are to go.
    pub fn delete_records(
        &mut self,
        turn: &mut Turn<'_>,
        before: Option<Offset>,
        reply: oneshot::Sender<Result<Offset, ErrorCode>>,
    ) {
        let token = turn.token();
        self.replies.insert(token, Reply::Delete(reply));
        self.step(turn, Event::DeleteRecords { token, before }, Payload::default());
    }

    /// A group that held something of this partition is durable.
    pub fn durable(&mut self, turn: &mut Turn<'_>, mark: Durable) {
        self.in_flight -= 1;
        self.step(turn, Event::Durable(mark.up_to), Payload::default());
    }

    /// A sync of a relaxed log is done.
    pub fn flushed(&mut self, turn: &mut Turn<'_>, point: &SyncPoint, up_to: LogPosition) {
        if let Flush::UnderWay { records } = self.flush {
            self.flush = Flush::Idle { records };
        }
        // The log forgets a cut at the second advance behind it, for which what the first one gave must be durable.
        if self.log.remembers_cuts() && turn.points.iter().any(|(_, of, _)| *of == self.partition) {
            turn.state.directories.save_points(&std::mem::take(turn.points));
        }
        if let Err(error) = self.log.synced(point) {
            return turn.blame_later(self.partition, self.directory, &error);
        }
        turn.points.push((self.directory, self.partition, self.log.recovery_point()));
        self.step(turn, Event::Durable(up_to), Payload::default());
    }

    /// Syncs a relaxed log that has not been for `flush.ms`; called every so often.
    pub fn flush_old(&mut self, turn: &mut Turn<'_>) {
        if let Flush::Idle { records: 1.. } = self.flush {
            self.begin_flush(turn);
        }
    }

    /// Gives back the memory of a log that got nothing since this was called last.
    pub fn give_back_idle(&mut self) {
        let end = self.log.log_end();
        if self.idle_end.replace(end) == Some(end) {
            self.log.trim_tail();
        }
    }

    fn begin_flush(&mut self, turn: &mut Turn<'_>) {
        match self.log.sync_point() {
            Ok(point) => {
                let up_to = self.machine.log_position();
                if turn.sync((self.directory, self.partition, self.id), point, up_to) {
                    self.flush = Flush::UnderWay { records: 0 };
                }
            }
            Err(error) => turn.blame_later(self.partition, self.directory, &error),
        }
    }

    /// Deletes what retention allows.
    pub fn retain(&mut self, turn: &mut Turn<'_>, now_ms: i64) {
        self.log.expire_producers(now_ms);
        match self.log.retention(now_ms, self.machine.offsets().high_watermark) {
            Ok(deleted) if deleted.is_empty() => {}
            Ok(deleted) => {
                let to = self.log.log_start();
                tracing::info!(partition = %self.partition, segments = deleted.len(), log_start = %to, "retention deleted segments");
                self.journal(turn, self.epoch(), EntryBody::StartOffset { to });
                self.step(turn, Event::LogStartMoved { log_start: to }, Payload::default());
            }
            Err(error) => turn.blame_later(self.partition, self.directory, &error),
        }
    }

    /// Serves nobody any more.
    pub fn stop(&mut self, turn: &mut Turn<'_>) {
        self.step(turn, Event::StorageFailed, Payload::default());
    }
}

fn answer<T>(reply: oneshot::Sender<T>, outcome: T) {
    // Whoever asked may have gone.
    let _ = reply.send(outcome);
}
