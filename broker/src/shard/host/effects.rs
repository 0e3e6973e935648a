//! Carries out what a partition's machine says, in order: on the log, on the journal, towards followers and whoever waits.
//!
//! A failure ends the step: nothing that is left of it may be done. Decides nothing by itself.

use vltava_commitlog::durability::{EntryBody, JournalEntry};
use vltava_commitlog::log::{AppendError, Appended, LogError};
use vltava_model::batch::Batch;
use vltava_model::{ErrorCode, LeaderEpoch, NodeId, Offset};
use vltava_partition::{Effect, Event, Standing as Role, SubscribeReply, Token};

use super::{Carried, DELETION_WAIT, Deletion, Flush, Host, Payload, Reply, Subscriber, answer};
use crate::quorum::isr::Proposal;
use crate::replication::follower::{FollowSpec, SuspendSpec};
use crate::shard::command::{Produced, SubscribeOutcome};
use crate::shard::convert::local_log;
use crate::shard::group::Durable;
use crate::shard::shared::Standing;
use crate::shard::worker::Turn;

impl Host {
    pub(super) fn run(&mut self, turn: &mut Turn<'_>, effect: Effect, payload: &mut Payload) {
        if payload.carried == Carried::Failed {
            // Nobody is told of what was never written.
            if let Effect::Ack { token, .. } = effect {
                self.acknowledge(turn, token, Err(ErrorCode::KafkaStorageError));
            }
            return;
        }
        match effect {
            Effect::Append { token: _, base_offset, leader_epoch } => {
                self.append_own(turn, base_offset, leader_epoch, payload);
            }
            Effect::AppendReplicated { .. } => self.append_replicated(turn, payload),
            Effect::Truncate { to } => self.truncate(turn, to, payload),
            Effect::StartAt { offset } => self.start_at(turn, offset, payload),
            Effect::AdvanceLogStart { to } => match self.log.advance_log_start(to) {
                Ok(()) => self.journal(turn, self.epoch(), EntryBody::StartOffset { to }),
                Err(error) => self.failed(turn, payload, &error),
            },
            Effect::AssignEpoch { epoch, start } => self.log.assign_epoch(epoch, start),
            Effect::Ack { token, result } => self.acknowledge(turn, token, result),
            Effect::SubscribeReply { token, reply } => self.answer_subscription(token, reply),
            Effect::DropFollower { subscription, .. } => self.drop_subscriber(subscription),
            Effect::ProposeIsr { proposal, leader_epoch, partition_epoch, isr } => {
                turn.state.metrics.isr_proposals.add(1);
                let (partition, shard) = (self.partition, turn.shard.clone());
                let proposal =
                    Proposal { partition, id: proposal, leader_epoch, partition_epoch, isr, shard };
                // The receiver lives as long as the broker.
                let _ = turn.proposals.send(proposal);
            }
            Effect::Subscribe { leader, leader_epoch, log_start, log_end, durable_end, last_epoch } => {
                let spec = FollowSpec {
                    partition: self.partition,
                    shard: turn.shard.clone(),
                    epoch: leader_epoch,
                    log_start,
                    log_end,
                    durable_end,
                    last_epoch,
                    directory: self.directory,
                };
                self.follow(turn, leader, spec);
            }
            Effect::Unsubscribe { leader } => {
                self.following = None;
                turn.state.followers.unfollow(leader, self.partition);
            }
            Effect::Suspend { leader, leader_epoch } => {
                if let Some(other) = self.following.take()
                    && other != leader
                {
                    turn.state.followers.unfollow(other, self.partition);
                }
                let spec =
                    SuspendSpec { partition: self.partition, epoch: leader_epoch, directory: self.directory };
                turn.state.followers.suspend(leader, spec);
            }
            Effect::ReportProgress { .. } => self.report(turn),
            // Shown once, after the step.
            Effect::WatermarkMoved { .. } => {}
            Effect::StandingChanged(role) => self.show_role(turn, role),
            Effect::Alarm(alarm) => {
                tracing::error!(partition = %self.partition, topic = %self.shared.topic_name(), ?alarm, "replication alarm");
                turn.state.metrics.alarms.add(1);
            }
        }
    }

    fn append_own(&mut self, turn: &mut Turn<'_>, base: Offset, epoch: LeaderEpoch, payload: &mut Payload) {
        let batch = payload.batch.take().expect("an append follows on the batch that asked for it");
        let batch = batch.with_position(base, epoch);
        turn.state.metrics.produced_batches.add(1);
        turn.state.metrics.produced_records.add(batch.header().record_count.into());
        turn.state.metrics.produced_bytes.add(batch.bytes().len() as u64);
        self.append(turn, &[batch], payload);
    }

    fn append_replicated(&mut self, turn: &mut Turn<'_>, payload: &mut Payload) {
        let batches = std::mem::take(&mut payload.batches);
        let bytes = batches.iter().map(|batch| batch.bytes().len() as u64).sum();
        turn.state.metrics.replicated_bytes.add(bytes);
        let mut rest = &batches[..];
        while !rest.is_empty() && payload.carried == Carried::Out {
            rest = &rest[self.append(turn, rest, payload)..];
        }
    }

    /// Appends as many batches as one write takes; says how many.
    fn append(&mut self, turn: &mut Turn<'_>, batches: &[Batch], payload: &mut Payload) -> usize {
        match self.log.append_run(batches, turn.wall_ms) {
            Ok(run) => {
                for batch in &batches[..run.batches] {
                    self.appended(turn, run.appended(batch));
                }
                return run.batches;
            }
            Err(AppendError::DiskFull) => {
                payload.carried = Carried::Failed;
                // In this order: until it is made anew, the machine believes in records that are not there.
                turn.rebuild_later(self.partition);
                turn.hinder_later(self.partition, Self::out_of_room);
            }
            Err(AppendError::NoDescriptors) => {
                turn.state.metrics.refused_no_descriptors.add(1);
                payload.carried = Carried::Failed;
                turn.rebuild_later(self.partition);
                turn.hinder_later(self.partition, Self::out_of_descriptors);
            }
            Err(AppendError::Failed(error)) => self.failed(turn, payload, &error),
            Err(error) => {
                payload.carried = Carried::Failed;
                turn.fail_later(self.partition, self.directory, error.to_string());
            }
        }
        0
    }

    fn failed(&mut self, turn: &mut Turn<'_>, payload: &mut Payload, error: &LogError) {
        payload.carried = Carried::Failed;
        turn.blame_later(self.partition, self.directory, error);
    }

    fn appended(&mut self, turn: &mut Turn<'_>, appended: Appended) {
        let Appended { base, end, bytes, segment, .. } = appended;
        if self.assign.config.is_synced() {
            let body = EntryBody::Append { base_offset: base, end_offset: end, bytes, segment };
            // The epoch in which it is done, not that of the batch: a follower gets batches of older leaders, too, and what
            // comes after a cut must not look as if it had come before.
            self.journal(turn, self.epoch(), body);
            return;
        }
        let added = end.since(base);
        match &mut self.flush {
            Flush::UnderWay { records } => *records += added,
            Flush::Idle { records } => {
                *records += added;
                if *records >= self.assign.config.flush_messages {
                    self.begin_flush(turn);
                }
            }
        }
    }

    pub(super) fn journal(&mut self, turn: &mut Turn<'_>, leader_epoch: LeaderEpoch, body: EntryBody) {
        let entry = JournalEntry { partition: self.partition, leader_epoch, body };
        let durable = Durable { partition: self.partition, up_to: self.machine.log_position() };
        if turn.groups.add(self.directory, entry, durable) {
            self.in_flight += 1;
        }
    }

    /// A log is cut when nothing of it is under way and the journal knows of the cut: one that outlived a crash without
    /// its frame would look like a loss.
    fn truncate(&mut self, turn: &mut Turn<'_>, to: Offset, payload: &mut Payload) {
        self.settle(turn);
        self.journal(turn, self.epoch(), EntryBody::Truncate { to });
        self.settle(turn);
        turn.state.directories.forget_synced(self.partition);
        tracing::info!(partition = %self.partition, from = %self.log.log_end(), %to, "cutting the log to where it agrees with the leader's");
        let cut = self.log.truncate_to(to, self.epoch(), turn.wall_ms);
        turn.points.push((self.directory, self.partition, self.log.recovery_point()));
        match cut {
            Ok(end) if end == to => turn.settled_later(self.partition),
            // The cut went through a batch, so more went than was meant: the machine begins anew from what is left.
            Ok(_) => {
                payload.carried = Carried::Failed;
                turn.rebuild_later(self.partition);
            }
            Err(error) => self.failed(turn, payload, &error),
        }
    }

    fn start_at(&mut self, turn: &mut Turn<'_>, offset: Offset, payload: &mut Payload) {
        self.settle(turn);
        self.journal(turn, self.epoch(), EntryBody::Empty);
        self.settle(turn);
        turn.state.directories.forget_synced(self.partition);
        tracing::info!(partition = %self.partition, %offset, "beginning anew where the leader's log begins");
        match self.log.delete_all_and_start_at(offset, self.epoch()) {
            Ok(()) => {
                // What comes next may be journaled in the same epoch: a replay is to know that it came after.
                self.journal(turn, self.epoch(), EntryBody::StartOffset { to: offset });
                self.settle(turn);
                turn.settled_later(self.partition);
            }
            Err(error) => self.failed(turn, payload, &error),
        }
    }

    /// All that was under way was waited for, and a cut is durable by itself: the machine may count what is left.
    pub fn settled(&mut self, turn: &mut Turn<'_>) {
        let all = self.machine.log_position();
        self.step(turn, Event::Durable(all), Payload::default());
    }

    /// Waits until nothing of this partition is under way.
    pub fn settle(&mut self, turn: &mut Turn<'_>) {
        vltava_storage::calls::noted(|| {
            while self.in_flight > 0 {
                let Some(marks) = turn.wait_for(self.partition) else { return };
                self.in_flight -= marks;
            }
        });
    }

    /// After the log did not become what the machine thought it would: tells the machine what it is.
    pub fn rebuild(&mut self, turn: &mut Turn<'_>) {
        self.settle(turn);
        let committed = self.machine.offsets().high_watermark.min(self.log.log_end());
        let mut log = local_log(&self.log, committed);
        if !self.assign.config.is_synced() {
            log.durable_end = self.machine.offsets().durable_end.min(log.log_end);
        }
        self.step(turn, Event::LogReopened(log), Payload::default());
    }

    pub(super) fn acknowledge(
        &mut self,
        turn: &Turn<'_>,
        token: Token,
        result: Result<vltava_partition::Acked, ErrorCode>,
    ) {
        match self.replies.remove(&token) {
            Some(Reply::Produce(reply)) => {
                let produced = |acked: vltava_partition::Acked| Produced {
                    base_offset: acked.base_offset,
                    log_start: acked.log_start,
                };
                answer(reply, result.map(produced));
            }
            Some(Reply::Delete(reply)) => match result {
                Ok(acked) => {
                    let deadline = turn.now.after(DELETION_WAIT);
                    self.deletions.push(Deletion { log_start: acked.log_start, deadline, reply });
                }
                Err(code) => answer(reply, Err(code)),
            },
            Some(Reply::Subscribe(_)) | None => {}
        }
    }

    fn answer_subscription(&mut self, token: Token, outcome: SubscribeReply) {
        let Some(Reply::Subscribe(request)) = self.replies.remove(&token) else { return };
        let outcome = match outcome {
            SubscribeReply::Accepted { from, high_watermark, log_start } => {
                self.follower_starts.insert(request.follower.node, request.log_start);
                self.subscribers.push(Subscriber {
                    follower: request.follower.node,
                    subscription: token,
                    slot: request.slot,
                    wake: request.wake.clone(),
                });
                SubscribeOutcome::Accepted { from, high_watermark, log_start, reader: self.reader.clone() }
            }
            SubscribeReply::Diverging { epoch, end } => SubscribeOutcome::Diverging { epoch, end },
            SubscribeReply::StartAt(offset) => SubscribeOutcome::StartAt(offset),
            SubscribeReply::Refused(code) => SubscribeOutcome::Refused(code),
        };
        answer(request.reply, outcome);
    }

    /// Ends what is sent to a follower.
    fn drop_subscriber(&mut self, subscription: Token) {
        let Some(place) = self.subscribers.iter().position(|known| known.subscription == subscription) else {
            return;
        };
        let Subscriber { wake, slot, .. } = self.subscribers.swap_remove(place);
        // Of another leader it hears by the metadata; of this one it would wait for ever for what is not sent.
        if self.leads() {
            wake.end(slot);
        }
    }

    fn follow(&mut self, turn: &mut Turn<'_>, leader: NodeId, spec: FollowSpec) {
        if let Some(other) = self.following.replace(leader)
            && other != leader
        {
            turn.state.followers.unfollow(other, self.partition);
        }
        // What was reported before must not come after.
        turn.tell_peers();
        turn.state.followers.follow(leader, spec);
    }

    fn show_role(&mut self, turn: &mut Turn<'_>, role: Role) {
        let reader = self.reader.clone();
        let standing = match role {
            Role::Leading { epoch, epoch_start } => {
                turn.state.metrics.promotions.add(1);
                Standing::Leading { epoch, epoch_start, reader }
            }
            Role::Following { leader, epoch } => Standing::Following { epoch, leader: Some(leader), reader },
            Role::Idle => Standing::Following { epoch: self.epoch(), leader: None, reader },
            Role::Failed => Standing::Offline,
        };
        self.configure_log(turn);
        // Offsets first: whoever sees the new role must not read the old role's watermarks.
        let offsets = self.machine.offsets();
        self.shared.set_durable_end(offsets.durable_end);
        self.shared.set_offsets(offsets.log_start, offsets.high_watermark, offsets.log_end);
        self.shared.set_standing(standing);
        // Their streams see that the epoch in which they were let in is over.
        for subscriber in self.subscribers.drain(..) {
            subscriber.wake.mark(subscriber.slot);
        }
    }
}
