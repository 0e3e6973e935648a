//! The thread of a shard: takes commands and completions in turns, and hands each turn's changes to the journals.

mod open;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use vltava_commitlog::log::{LogConfig, LogError, NewerFormat, SyncPoint};
use vltava_model::configs::TopicConfig;
use vltava_model::{DirectoryId, ErrorCode, NodeId, Offset, TopicPartition};
use vltava_partition::{Effect, Event, LogPosition, Time, Token};
use vltava_threads::Bell;
use vltava_threads::queue::{self, Disconnected, Receiver, Sender};

use super::command::{Assign, Command, LeaderAnswer, SubscribeOutcome};
use super::group::{self, Completion, Groups};
use super::handle::ShardHandle;
use super::host::{Host, Payload};
use super::shared::is_missing;
use crate::api::log::wall_ms;
use crate::damages::Cause;
use crate::quorum::isr::Proposals;
use crate::replication::follower::Report;
use crate::state::BrokerState;
use crate::wake::WakeSet;

/// How often machines that want it are told that time has passed.
const TICK: Duration = Duration::from_millis(200);

/// How long at most nobody looks whether one wants it, while nothing happens and none says that it will: an idle node sleeps.
const TICK_CALM: Duration = Duration::from_secs(5);

/// Recovery points moved at once at most for which a file has to be synced: after a start, or when many leaders changed, that
/// is all of them, and clients wait meanwhile.
const DEAR_MAX: usize = 100;

/// How soon a group that a full journal refused is offered again.
const OFFER_AGAIN: Duration = Duration::from_millis(1);

/// Commands taken in one turn, so that the journals and the peers get to know of them in time.
const TURN_MAX: usize = 64;

/// What a host may use while it works.
pub struct Turn<'a> {
    /// The broker.
    pub state: &'a Arc<BrokerState>,
    /// This shard, for answers that come back to it.
    pub shard: &'a ShardHandle,
    /// Where ISR changes are proposed.
    pub proposals: &'a Proposals,
    /// What this turn has changed.
    pub groups: &'a mut Groups,
    /// Monotonic time.
    pub now: Time,
    /// Wall-clock time in milliseconds since 1970: for record timestamps and retention only.
    pub wall_ms: i64,
    /// Recovery points that moved.
    pub points: &'a mut Vec<(DirectoryId, TopicPartition, Offset)>,
    tools: &'a mut Tools,
}

/// What to do with a host when it is not at work.
enum After {
    Fail(TopicPartition, DirectoryId, String),
    Damaged(TopicPartition, Cause, String),
    Hindered(TopicPartition, fn(&mut Host, &mut Turn<'_>)),
    Rebuild(TopicPartition),
    Settled(TopicPartition),
}

struct Tools {
    origin: Instant,
    tokens: u64,
    effects: Vec<Effect>,
    after: Vec<After>,
    done: Sender<Completion>,
    completions: Receiver<Completion>,
    stash: VecDeque<Completion>,
    /// Streams to followers that have something to send.
    wakes: Vec<Arc<WakeSet>>,
    /// What leaders are to be told.
    reports: Vec<(NodeId, TopicPartition, Report)>,
}

impl Tools {
    /// Wakes whoever sends what this turn has brought.
    fn tell_peers(&mut self, state: &BrokerState) {
        for wake in self.wakes.drain(..) {
            wake.wake();
        }
        if !self.reports.is_empty() {
            state.followers.progress(self.reports.drain(..));
        }
    }
}

impl Turn<'_> {
    /// A name for a request.
    pub fn token(&mut self) -> Token {
        self.tools.tokens += 1;
        Token::new(self.tools.tokens)
    }

    /// A point in time as the machines count it.
    pub fn at(&self, instant: Instant) -> Time {
        Time::new(instant.saturating_duration_since(self.tools.origin))
    }

    /// An empty list that keeps its memory.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.tools.effects)
    }

    /// Gives it back.
    pub fn give_effects(&mut self, effects: Vec<Effect>) {
        self.tools.effects = effects;
    }

    /// A follower's stream has something to send; it is told once, when the turn ends.
    pub fn wake_later(&mut self, wake: &Arc<WakeSet>, slot: u32) {
        if wake.note(slot) && !self.tools.wakes.iter().any(|known| Arc::ptr_eq(known, wake)) {
            self.tools.wakes.push(wake.clone());
        }
    }

    /// A leader is to be told how far this replica is, when the turn ends.
    pub fn report_later(&mut self, leader: NodeId, partition: TopicPartition, report: Report) {
        self.tools.reports.push((leader, partition, report));
    }

    /// Tells peers at once what they were to be told when the turn ends.
    pub fn tell_peers(&mut self) {
        self.tools.tell_peers(self.state);
    }

    /// The directory fails when the host is done with what it does now.
    pub fn fail_later(&mut self, partition: TopicPartition, directory: DirectoryId, reason: String) {
        self.tools.after.push(After::Fail(partition, directory, reason));
    }

    /// A change of the log failed: damage and a later release's files cost the replica, everything else its directory, when the
    /// host is done with what it does now.
    pub fn blame_later(&mut self, partition: TopicPartition, directory: DirectoryId, error: &LogError) {
        let is_blamed = |after: &After| match after {
            After::Fail(of, ..) | After::Damaged(of, ..) => *of == partition,
            After::Hindered(..) | After::Rebuild(_) | After::Settled(_) => false,
        };
        match error {
            LogError::Corrupt(damage) => {
                self.tools.after.push(After::Damaged(partition, Cause::Damage, damage.to_string()));
            }
            LogError::Io(error) if NewerFormat::of(error).is_some() => {
                self.tools.after.push(After::Damaged(partition, Cause::NewerFormat, error.to_string()));
            }
            LogError::Io(error) if is_missing(error) => {
                let what = format!("a file is missing: {error}");
                self.tools.after.push(After::Damaged(partition, Cause::Damage, what));
            }
            LogError::FailedBefore if self.tools.after.iter().any(is_blamed) => {}
            LogError::Io(_) | LogError::FailedBefore => {
                self.fail_later(partition, directory, error.to_string());
            }
        }
    }

    /// The host appends nothing for a while when it is done with what it does now.
    pub fn hinder_later(&mut self, partition: TopicPartition, how: fn(&mut Host, &mut Turn<'_>)) {
        self.tools.after.push(After::Hindered(partition, how));
    }

    /// The host's machine is made anew when the host is done with what it does now.
    pub fn rebuild_later(&mut self, partition: TopicPartition) {
        self.tools.after.push(After::Rebuild(partition));
    }

    /// The host is told that all it has is durable when it is done with what it does now.
    pub fn settled_later(&mut self, partition: TopicPartition) {
        self.tools.after.push(After::Settled(partition));
    }

    /// What a topic's configuration means for a log.
    pub fn log_config(&self, config: &TopicConfig) -> LogConfig {
        let narrow = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
        LogConfig {
            segment_bytes: narrow(config.segment_bytes),
            segment_ms: Duration::from_millis(config.segment_ms),
            index_interval_bytes: narrow(config.index_interval_bytes),
            segment_index_bytes: narrow(config.segment_index_bytes),
            retention_ms: config.retention_ms.map(Duration::from_millis),
            retention_bytes: config.retention_bytes,
            ..LogConfig::default()
        }
    }

    /// Has a relaxed log synced; false when the journal is too busy now.
    pub fn sync(
        &mut self,
        (directory, partition, host): (DirectoryId, TopicPartition, Token),
        point: SyncPoint,
        up_to: LogPosition,
    ) -> bool {
        let Some(journal) = self.state.directories.journal(directory) else { return false };
        let (files, done) = (point.files.clone(), self.tools.done.clone());
        let tell = move |result: Result<(), vltava_commitlog::durability::JournalError>| {
            let outcome = result.map_err(|error| error.to_string());
            // A shard that is gone needs no news.
            let _ = done.send(Completion::Sync { directory, partition, host, point, up_to, outcome });
        };
        journal.sync_files(files, Box::new(tell)).is_ok()
    }

    /// Submits what was gathered and waits for news of `partition`: how many of its groups are durable now. `None` when
    /// its directory failed.
    pub fn wait_for(&mut self, partition: TopicPartition) -> Option<u32> {
        self.groups.submit(&self.state.directories, &self.tools.done);
        // Another partition's wait may have put aside what this one waits for.
        match group::take_marks(&mut self.tools.stash, partition) {
            Some(0) => {}
            found => return found,
        }
        let next = self.tools.completions.recv_timeout(OFFER_AGAIN);
        self.tools.stash.extend(next.ok().flatten());
        group::take_marks(&mut self.tools.stash, partition)
    }
}

/// See the module.
pub struct Worker {
    state: Arc<BrokerState>,
    shard: ShardHandle,
    proposals: Proposals,
    /// Rings for commands and for completions.
    bell: Bell,
    commands: Receiver<Command>,
    tools: Tools,
    hosts: HashMap<TopicPartition, Host>,
    /// Damaged replicas that are not served, as metadata have them.
    waiting: BTreeMap<TopicPartition, Assign>,
    groups: Groups,
    points: Vec<(DirectoryId, TopicPartition, Offset)>,
    next_tick: Instant,
}

/// Whether the thread goes on.
enum Flow {
    On,
    End,
}

impl Worker {
    /// A shard without partitions.
    pub fn new(
        state: Arc<BrokerState>,
        shard: ShardHandle,
        proposals: Proposals,
        (bell, commands): (Bell, Receiver<Command>),
        origin: Instant,
    ) -> Self {
        // Bounded by the groups that the journals take.
        let (done, completions) = queue::unbounded(&bell);
        let tools = Tools {
            origin,
            tokens: 0,
            effects: Vec::new(),
            after: Vec::new(),
            done,
            completions,
            stash: VecDeque::new(),
            wakes: Vec::new(),
            reports: Vec::new(),
        };
        Self {
            state,
            shard,
            proposals,
            bell,
            commands,
            tools,
            hosts: HashMap::new(),
            waiting: BTreeMap::new(),
            groups: Groups::default(),
            points: Vec::new(),
            next_tick: origin + TICK,
        }
    }

    /// Runs until it is told to close, or everybody who could tell is gone.
    pub fn run(mut self) {
        loop {
            if let Flow::End = self.turn() {
                return;
            }
        }
    }

    fn turn(&mut self) -> Flow {
        // While a journal refuses, no new work is taken: the queue fills and refuses in its turn.
        let blocked = !self.groups.is_empty();
        let wait =
            if blocked { OFFER_AGAIN } else { self.next_tick.saturating_duration_since(Instant::now()) };
        let (completions, commands) = (&self.tools.completions, &self.commands);
        self.bell.wait(|| completions.is_ready() || (!blocked && commands.is_ready()), Some(wait));
        let mut calm = true;
        for _ in 0..TURN_MAX {
            let mut idle = true;
            while let Some(completion) = self.next_completion() {
                idle = false;
                self.complete(completion);
            }
            if !blocked && !self.groups.are_large() {
                match self.commands.try_recv() {
                    Ok(Some(command)) => {
                        idle = false;
                        if let Flow::End = self.take(command) {
                            return Flow::End;
                        }
                    }
                    Ok(None) => {}
                    Err(Disconnected) => return Flow::End,
                }
            }
            if idle {
                break;
            }
            calm = false;
        }
        // First the peers: the way to them is longer than the one to the disk.
        self.tools.tell_peers(&self.state);
        self.groups.submit(&self.state.directories, &self.tools.done);
        let now = Instant::now();
        if now >= self.next_tick {
            let pause = self.tick();
            self.tools.tell_peers(&self.state);
            self.next_tick = Instant::now() + pause;
        } else if !calm {
            self.next_tick = self.next_tick.min(now + TICK);
        }
        Flow::On
    }

    fn next_completion(&mut self) -> Option<Completion> {
        // This thread holds a sender of its own, so that the queue is never without one.
        let next = || self.tools.completions.try_recv().ok().flatten();
        self.tools.stash.pop_front().or_else(next)
    }

    /// The hosts, and what one of them may use.
    fn parts(&mut self) -> (&mut HashMap<TopicPartition, Host>, Turn<'_>) {
        let turn = Turn {
            state: &self.state,
            shard: &self.shard,
            proposals: &self.proposals,
            groups: &mut self.groups,
            now: Time::new(self.tools.origin.elapsed()),
            wall_ms: wall_ms(),
            points: &mut self.points,
            tools: &mut self.tools,
        };
        (&mut self.hosts, turn)
    }

    /// Lets one host work, then does what had to wait until it was done.
    fn with(&mut self, partition: TopicPartition, act: impl FnOnce(&mut Host, &mut Turn<'_>)) -> bool {
        let (hosts, mut turn) = self.parts();
        let Some(host) = hosts.get_mut(&partition) else { return false };
        act(host, &mut turn);
        for after in std::mem::take(&mut self.tools.after) {
            match after {
                After::Fail(of, directory, reason) => {
                    tracing::error!(partition = %of, reason, "a write failed: its log directory goes offline");
                    self.state.directories.fail(directory, &reason);
                    self.fail_directory(directory);
                }
                After::Damaged(of, cause, what) => self.damaged(of, cause, &what),
                After::Hindered(of, how) => {
                    self.with(of, how);
                }
                After::Rebuild(of) => {
                    self.with(of, Host::rebuild);
                }
                After::Settled(of) => {
                    self.with(of, Host::settled);
                }
            }
        }
        true
    }

    fn fail_directory(&mut self, directory: DirectoryId) {
        let of: Vec<_> =
            self.hosts.iter().filter(|(_, host)| host.directory() == directory).map(|(of, _)| *of).collect();
        for partition in of {
            self.with(partition, Host::stop);
        }
    }

    fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Group { outcome: Ok(marks), .. } => {
                for mark in marks {
                    self.with(mark.partition, |host, turn| host.durable(turn, mark));
                }
            }
            Completion::Group { directory, outcome: Err(reason) }
            | Completion::Sync { directory, outcome: Err(reason), .. } => {
                self.state.directories.fail(directory, &reason);
                self.fail_directory(directory);
            }
            Completion::Sync { partition, host: id, point, up_to, outcome: Ok(()), .. } => {
                self.with(partition, |host, turn| {
                    if host.id() == id {
                        host.flushed(turn, &point, up_to);
                    }
                });
            }
        }
    }

    /// Ticks the machines that want it; returns when to look again if nothing happens.
    fn tick(&mut self) -> Duration {
        let now = Time::new(self.tools.origin.elapsed());
        let due = |(of, host): (&TopicPartition, &Host)| host.wants_tick(now).then_some(*of);
        let restless: Vec<_> = self.hosts.iter().filter_map(due).collect();
        let is_calm = restless.is_empty() && self.waiting.is_empty();
        for partition in restless {
            self.with(partition, Host::tick);
        }
        self.try_again();
        if !is_calm {
            return TICK;
        }
        let next = self.hosts.values().filter_map(Host::next_tick).min();
        next.map_or(TICK_CALM, |at| at.since(now)).clamp(TICK, TICK_CALM)
    }

    fn take(&mut self, command: Command) -> Flow {
        match command {
            Command::Produce(request) => {
                let partition = request.partition;
                if self.hosts.contains_key(&partition) {
                    self.with(partition, |host, turn| host.produce(turn, *request));
                } else {
                    let _ = request.reply.send(Err(ErrorCode::NotLeaderOrFollower));
                }
            }
            Command::Subscribe(request) => {
                let partition = request.partition;
                if self.hosts.contains_key(&partition) {
                    self.with(partition, |host, turn| host.subscribe(turn, *request));
                } else {
                    let refusal = SubscribeOutcome::Refused(ErrorCode::UnknownTopicOrPartition);
                    let _ = request.reply.send(refusal);
                }
            }
            Command::Assign { partitions, done } => {
                for assign in partitions {
                    self.assign(assign);
                }
                self.groups.submit(&self.state.directories, &self.tools.done);
                self.save_points();
                let _ = done.send(());
            }
            Command::Remove { partitions, done } => {
                self.remove(&partitions);
                let _ = done.send(());
            }
            Command::DeleteRecords { partition, before, reply } => {
                if self.hosts.contains_key(&partition) {
                    self.with(partition, |host, turn| host.delete_records(turn, before, reply));
                }
            }
            Command::Damaged { partition, reader, cause, what } => {
                if self.hosts.get(&partition).is_some_and(|host| host.is_read_by(&reader)) {
                    self.damaged(partition, cause, &what);
                }
            }
            Command::DirectoryFailed { directory } => self.fail_directory(directory),
            Command::Maintain { now_ms, retention } => self.maintain(now_ms, retention),
            Command::Close { done } => {
                self.close();
                let _ = done.send(());
                return Flow::End;
            }
            replication => self.take_replication(replication),
        }
        Flow::On
    }

    fn take_replication(&mut self, command: Command) {
        match command {
            Command::FollowerProgress { partition, progress, log_start } => {
                self.with(partition, |host, turn| host.follower_progress(turn, progress, log_start));
            }
            Command::FollowerSuspended { partition, word } => {
                let event = Event::FollowerSuspended(word);
                self.with(partition, |host, turn| host.step(turn, event, Payload::default()));
            }
            Command::FollowerGone { partition, slot, wake } => {
                self.with(partition, |host, turn| host.follower_gone(turn, slot, &wake));
            }
            Command::LeaderData { partition, epoch, batches, high_watermark, log_start, receipt } => {
                self.with(partition, |host, turn| {
                    host.leader_data(turn, epoch, batches, high_watermark, log_start)
                });
                drop(receipt);
            }
            Command::LeaderAnswer { partition, epoch: leader_epoch, answer } => {
                let event = match answer {
                    LeaderAnswer::Watermark { high_watermark, log_start } => {
                        Event::LeaderWatermark { leader_epoch, high_watermark, log_start }
                    }
                    LeaderAnswer::Diverging { epoch, end } => {
                        Event::LeaderDiverging { leader_epoch, epoch, end }
                    }
                    LeaderAnswer::StartAt(log_start) => Event::LeaderStartAt { leader_epoch, log_start },
                };
                self.with(partition, |host, turn| host.step(turn, event, Payload::default()));
            }
            Command::StreamLost { partition, epoch } => {
                let event = Event::StreamLost { leader_epoch: epoch };
                self.with(partition, |host, turn| host.step(turn, event, Payload::default()));
            }
            Command::IsrAnswer { partition, proposal, outcome } => {
                let event = Event::IsrAnswered { proposal, outcome };
                self.with(partition, |host, turn| host.step(turn, event, Payload::default()));
            }
            _ => unreachable!("all other commands were taken before"),
        }
    }

    fn save_points(&mut self) {
        if self.points.is_empty() {
            return;
        }
        let saved = self.state.directories.save_points(&std::mem::take(&mut self.points));
        for (partition, point) in saved {
            self.with(partition, |host, turn| {
                let directory = host.directory();
                if let Err(error) = host.log().recovery_point_saved(point) {
                    turn.blame_later(partition, directory, &error);
                }
            });
        }
    }

    fn remove(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.with(*partition, |host, turn| {
                host.stop(turn);
                host.settle(turn);
            });
        }
        // Nobody is to claim anything of them once they are gone.
        self.points.retain(|(_, of, _)| !partitions.contains(of));
        for partition in partitions {
            drop(self.hosts.remove(partition));
            self.waiting.remove(partition);
            self.state.damages.forget(*partition);
            // One that was never opened, for damage or because its directory failed, has files all the same.
            if let Some(directory) = self.state.directories.of(*partition) {
                self.state.directories.tell_journal_of_deletion(*partition, directory);
            }
        }
        self.state.directories.delete(partitions);
    }

    fn maintain(&mut self, now_ms: i64, retention: bool) {
        // Before any of them moves again.
        self.save_points();
        let (hosts, mut dear) = (&self.hosts, DEAR_MAX);
        let synced = self.state.directories.take_synced(|partition, end| {
            let Some(host) = hosts.get(&partition) else { return false };
            if !host.waits_for_disk(end) {
                return true;
            }
            let may = dear > 0;
            dear = dear.saturating_sub(1);
            may
        });
        for (partition, end) in synced {
            self.with(partition, |host, turn| {
                let directory = host.directory();
                match host.log().advance_recovery_point(end) {
                    Ok(()) => turn.points.push((directory, partition, host.log().recovery_point())),
                    Err(error) => turn.blame_later(partition, directory, &error),
                }
            });
        }
        let all: Vec<_> = self.hosts.keys().copied().collect();
        for partition in all {
            self.with(partition, |host, turn| {
                host.flush_old(turn);
                host.give_back_idle();
            });
            if retention {
                self.with(partition, |host, turn| host.retain(turn, now_ms));
            }
        }
        self.save_points();
    }

    fn close(&mut self) {
        self.save_points();
        let all: Vec<_> = self.hosts.keys().copied().collect();
        for partition in all {
            self.with(partition, |host, turn| host.settle(turn));
            let Some(host) = self.hosts.remove(&partition) else { continue };
            let directory = host.directory();
            match host.into_log().close_clean() {
                Ok(point) => self.points.push((directory, partition, point)),
                Err(LogError::Corrupt(damage)) => {
                    tracing::error!(%partition, %damage, "the replica is damaged");
                    self.mark_damaged(directory, partition, &damage.to_string());
                }
                Err(error) => {
                    tracing::error!(%partition, %error, "the log did not close");
                    self.state.directories.fail(directory, &error.to_string());
                }
            }
        }
        self.save_points();
    }
}

#[cfg(test)]
mod tests;
