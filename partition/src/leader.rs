//! A replica that leads: takes batches, serves followers, moves the high watermark, keeps the ISR, answers clients.

use std::collections::BTreeMap;
use std::time::Duration;

use vltava_model::seeded::{SeededBug, seeded};
use vltava_model::{ErrorCode, LeaderEpoch, NodeId, Offset};

use crate::ack_queue::{AckQueue, Waiting};
use crate::agreement::compare_logs;
use crate::context::Context;
use crate::effect::{Effect, SubscribeReply};
use crate::event::{
    Acks, AwaitCommitted, Durability, FollowerProgress, FollowerSubscribe, FollowerSuspended, IsrOutcome,
    Produce, ProposalId, Settings, Token,
};
use crate::isr::Isr;
use crate::offsets::Offsets;
use crate::pace::Pace;
use crate::remote::{Progress, RemoteReplica};
use crate::time::Time;

/// A follower that trails by no more than this is waited for until it is in the ISR.
const JOIN_WINDOW: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug)]
pub(crate) struct Leader {
    epoch: LeaderEpoch,
    epoch_start: Offset,
    pub(crate) isr: Isr,
    pub(crate) remotes: BTreeMap<NodeId, RemoteReplica>,
    /// Of this broker's own disk.
    pub(crate) pace: Pace,
    /// When it last looked at all that depends on time: what was due by then has been seen to, or waits for something else.
    reviewed_at: Time,
    /// Wait for the high watermark.
    uncommitted: AckQueue,
    /// Wait for this broker's own disk.
    unsynced: AckQueue,
}

impl Leader {
    /// Begins to lead in the assignment's epoch, at the log end.
    pub(crate) fn begin(ctx: &mut Context) -> Self {
        let state = &ctx.assignment.state;
        let (epoch, start) = (state.leader_epoch, ctx.log.offsets().log_end);
        let isr = Isr::new(state, ctx.now);
        if !seeded(SeededBug::BeginsWithoutEpoch) {
            ctx.log.begin_epoch(epoch);
            ctx.emit(Effect::AssignEpoch { epoch, start });
        }
        let mut leader = Self {
            epoch,
            epoch_start: start,
            isr,
            remotes: BTreeMap::new(),
            pace: Pace::new(ctx.now),
            reviewed_at: ctx.now,
            uncommitted: AckQueue::default(),
            unsynced: AckQueue::default(),
        };
        leader.refresh(ctx);
        leader
    }

    /// Stops leading: nobody who waits can be told that all is well.
    pub(crate) fn end(mut self, ctx: &mut Context, code: ErrorCode) {
        self.refuse_waiting(ctx, code);
        for (node, remote) in &mut self.remotes {
            drop_follower(ctx, *node, remote);
        }
    }

    /// The log lost what was appended last. No follower saw any of it; the ISR, and what may become of it, is as it was.
    pub(crate) fn reopened(&mut self, ctx: &mut Context) {
        self.refuse_waiting(ctx, ErrorCode::KafkaStorageError);
        ctx.log.begin_epoch(self.epoch);
        ctx.emit(Effect::AssignEpoch { epoch: self.epoch, start: ctx.log.offsets().log_end });
        self.review(ctx);
    }

    fn refuse_waiting(&mut self, ctx: &mut Context, code: ErrorCode) {
        for queue in [&mut self.uncommitted, &mut self.unsynced] {
            while let Some(waiting) = queue.pop_first() {
                ctx.refuse(waiting.token, code);
            }
        }
    }

    pub(crate) fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    pub(crate) fn epoch_start(&self) -> Offset {
        self.epoch_start
    }

    pub(crate) fn isr(&self) -> &Isr {
        &self.isr
    }

    pub(crate) fn remotes(&self) -> &BTreeMap<NodeId, RemoteReplica> {
        &self.remotes
    }

    /// The assignment changed within the epoch.
    pub(crate) fn refresh(&mut self, ctx: &mut Context) {
        let state = &ctx.assignment.state;
        self.isr.commit(state, ctx.now);
        let others: Vec<NodeId> =
            state.replicas.iter().copied().filter(|node| *node != ctx.local.node).collect();
        let removed: Vec<NodeId> =
            self.remotes.keys().copied().filter(|node| !others.contains(node)).collect();
        for node in removed {
            if let Some(mut remote) = self.remotes.remove(&node) {
                drop_follower(ctx, node, &mut remote);
            }
        }
        for node in others {
            let in_sync = self.isr.committed().contains(&node);
            let new = || RemoteReplica::new(in_sync.then_some(ctx.now), ctx.now);
            let remote = self.remotes.entry(node).or_insert_with(new);
            let known = remote.identity().map(|identity| identity.broker_epoch);
            let is_new = |known| ctx.eligible(node).is_some_and(|registered| registered > known);
            if known.is_some_and(is_new) && !seeded(SeededBug::JoinsUnderUnseenRegistration) {
                drop_follower(ctx, node, remote);
                remote.forget(ctx.now);
            }
        }
        self.review(ctx);
    }

    pub(crate) fn produce(&mut self, ctx: &mut Context, produce: &Produce) {
        if let Err(code) = self.admit(ctx, produce) {
            ctx.refuse(produce.token, code);
            return;
        }
        let base = ctx.log.offsets().log_end;
        let end = base
            .checked_add(produce.records.into())
            .expect("2^63 records take longer than any cluster lives");
        if ctx.log.offsets().replicated(ctx.durability()) == base {
            self.pace = Pace::new(ctx.now);
        }
        ctx.log.extend(end);
        for remote in self.remotes.values_mut() {
            remote.leader_appends(base, end, ctx.settings.durability, ctx.now);
        }
        ctx.emit(Effect::Append { token: produce.token, base_offset: base, leader_epoch: self.epoch });
        let waiting = Waiting { token: produce.token, base_offset: base, deadline: produce.deadline };
        self.answer_when_due(ctx, produce.acks, end, waiting);
        if ctx.durability() == Durability::Relaxed {
            self.advance_watermark(ctx);
        }
    }

    fn admit(&self, ctx: &Context, produce: &Produce) -> Result<(), ErrorCode> {
        match produce.expected_leader_epoch {
            Some(expected) if expected < self.epoch => return Err(ErrorCode::FencedLeaderEpoch),
            Some(expected) if expected > self.epoch => return Err(ErrorCode::UnknownLeaderEpoch),
            _ => {}
        }
        if produce.records == 0 {
            return Err(ErrorCode::InvalidRecord);
        }
        if produce.acks == Acks::All && self.may_not_commit(ctx) {
            return Err(ErrorCode::NotEnoughReplicas);
        }
        self.check_room(ctx, produce.acks)
    }

    fn check_room(&self, ctx: &Context, acks: Acks) -> Result<(), ErrorCode> {
        let waiting = self.uncommitted.len() + self.unsynced.len();
        if acks != Acks::None && waiting >= ctx.settings.max_waiting_acks {
            return Err(ErrorCode::ThrottlingQuotaExceeded);
        }
        Ok(())
    }

    /// A batch of an idempotent producer that is in the log already.
    pub(crate) fn await_committed(&mut self, ctx: &mut Context, again: &AwaitCommitted) {
        assert!(again.end_offset <= ctx.log.offsets().log_end, "no such batch is in the log: {again:?}");
        if let Err(code) = self.check_room(ctx, again.acks) {
            ctx.refuse(again.token, code);
            return;
        }
        let waiting =
            Waiting { token: again.token, base_offset: again.base_offset, deadline: again.deadline };
        self.answer_when_due(ctx, again.acks, again.end_offset, waiting);
        self.complete(ctx);
    }

    fn answer_when_due(&mut self, ctx: &mut Context, acks: Acks, end: Offset, waiting: Waiting) {
        match (acks, ctx.durability()) {
            (Acks::None, _) | (Acks::Leader, Durability::Relaxed) => {
                ctx.acknowledge(waiting.token, waiting.base_offset);
            }
            (Acks::Leader, Durability::Synced) => self.unsynced.push(end, waiting),
            (Acks::All, _) => self.uncommitted.push(end, waiting),
        }
    }

    /// The log is on stable storage further than before.
    pub(crate) fn durable(&mut self, ctx: &mut Context) {
        self.pace = Pace::new(ctx.now);
        self.advance_watermark(ctx);
        self.complete(ctx);
    }

    pub(crate) fn subscribe(&mut self, ctx: &mut Context, request: &FollowerSubscribe) {
        let reply = match self.admit_follower(ctx, request) {
            Err(code) => SubscribeReply::Refused(code),
            Ok(()) => compare_logs(ctx, request),
        };
        let agreed = matches!(reply, SubscribeReply::Accepted { .. })
            || (seeded(SeededBug::CountsDivergingFollowers)
                && matches!(reply, SubscribeReply::Diverging { .. }));
        if agreed && let Some(remote) = self.remotes.get_mut(&request.follower.node) {
            drop_follower(ctx, request.follower.node, remote);
            let subscription = (request.stream, request.token);
            remote.subscribe(request.follower, subscription, ctx.log.offsets().log_end, ctx.now);
        }
        ctx.emit(Effect::SubscribeReply { token: request.token, reply });
        if !agreed {
            return;
        }
        self.progress(
            ctx,
            &FollowerProgress {
                follower: request.follower,
                leader_epoch: request.leader_epoch,
                log_end: request.log_end,
                durable_end: request.durable_end,
            },
        );
    }

    fn admit_follower(&self, ctx: &Context, request: &FollowerSubscribe) -> Result<(), ErrorCode> {
        if request.leader_epoch < self.epoch && !seeded(SeededBug::CountsFollowersOfOldEpochs) {
            return Err(ErrorCode::FencedLeaderEpoch);
        }
        if request.leader_epoch > self.epoch {
            return Err(ErrorCode::UnknownLeaderEpoch);
        }
        let node = request.follower.node;
        let Some(remote) = self.remotes.get(&node) else { return Err(ErrorCode::NotLeaderOrFollower) };
        let known = remote.identity().map(|identity| identity.broker_epoch).max(ctx.eligible(node));
        if known.is_some_and(|known| request.follower.broker_epoch < known) {
            return Err(ErrorCode::StaleBrokerEpoch);
        }
        // Were it let in, the later subscription would end with the stream that has ended already.
        if remote.has_left(request.follower, request.stream) {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        Ok(())
    }

    pub(crate) fn progress(&mut self, ctx: &mut Context, report: &FollowerProgress) {
        if report.leader_epoch != self.epoch && !seeded(SeededBug::CountsFollowersOfOldEpochs) {
            return;
        }
        let Some(remote) = self.remotes.get_mut(&report.follower.node) else { return };
        let progress = Progress { log_end: report.log_end, durable_end: report.durable_end };
        let end = ctx.log.offsets().log_end;
        if remote.report(report.follower, progress, ctx.settings.durability, end, ctx.now) {
            self.review(ctx);
        }
    }

    pub(crate) fn gone(&mut self, ctx: &mut Context, follower: NodeId, subscription: Token) {
        if let Some(remote) = self.remotes.get_mut(&follower) {
            remote.gone(subscription, ctx.settings.durability, ctx.log.offsets().log_end, ctx.now);
            self.review(ctx);
        }
    }

    /// A follower says that it cannot follow.
    pub(crate) fn suspended(&mut self, ctx: &mut Context, word: &FollowerSuspended) {
        let node = word.follower.node;
        let registered = ctx.eligible(node).is_none_or(|epoch| word.follower.broker_epoch >= epoch);
        if word.leader_epoch != self.epoch || !registered {
            return;
        }
        if let Some(remote) = self.remotes.get_mut(&node) {
            remote.suspended();
            self.review(ctx);
        }
    }

    /// The controller answered, but not by a newer state.
    pub(crate) fn isr_failed(&mut self, ctx: &mut Context, proposal: ProposalId, outcome: &IsrOutcome) {
        let code = match outcome {
            IsrOutcome::Failed(code) => *code,
            // The state is as it was: the controller found nothing to change.
            IsrOutcome::Applied(_) => ErrorCode::IneligibleReplica,
        };
        self.isr.failed(proposal, code, ctx.now, ctx.settings.proposal_timeout);
        self.review(ctx);
    }

    pub(crate) fn tick(&mut self, ctx: &mut Context) {
        for queue in [&mut self.uncommitted, &mut self.unsynced] {
            while let Some(waiting) = queue.pop_expired(ctx.now) {
                ctx.refuse(waiting.token, ErrorCode::RequestTimedOut);
            }
        }
        self.review(ctx);
    }

    /// When something is to be done even if nothing happens.
    pub(crate) fn next_tick(&self, settings: &Settings, offsets: &Offsets) -> Option<Time> {
        let is_unseen = |at: &Time| *at > self.reviewed_at;
        let log_end = offsets.log_end;
        let acks = [self.uncommitted.next_deadline(), self.unsynced.next_deadline()];
        let (lag, stall) = (settings.lag_time_max, settings.stall_time_max);
        let lagging = (self.remotes.values())
            .filter(|remote| {
                remote.replicated(settings.durability).is_none_or(|replicated| replicated < log_end)
            })
            .flat_map(|remote| {
                [remote.lags_at(JOIN_WINDOW), remote.lags_at(lag), Some(remote.pace.next_look(stall))]
            })
            .flatten()
            .chain(Some(self.pace.next_look(stall)).filter(|_| offsets.high_watermark < log_end))
            .filter(is_unseen);
        let quiet = Some(self.isr.quiet_until()).filter(is_unseen);
        let change = self.isr.next_tick(settings.proposal_timeout);
        acks.into_iter().flatten().chain(lagging).chain(quiet).chain(change).min()
    }

    /// Looks again at all that depends on followers, metadata or time.
    pub(crate) fn review(&mut self, ctx: &mut Context) {
        self.reviewed_at = ctx.now;
        self.advance_watermark(ctx);
        self.look_at_paces(ctx);
        self.tend_isr(ctx);
    }

    /// Looks who stands still while records wait.
    fn look_at_paces(&mut self, ctx: &Context) {
        let (offsets, durability, stall) =
            (*ctx.log.offsets(), ctx.durability(), ctx.settings.stall_time_max);
        let waits = offsets.high_watermark < offsets.log_end;
        self.pace.look(waits && offsets.replicated(durability) < offsets.log_end, stall, ctx.now);
        for remote in self.remotes.values_mut() {
            let lacks = remote.replicated(durability).is_none_or(|replicated| replicated < offsets.log_end);
            remote.pace.look(waits && lacks, stall, ctx.now);
        }
    }

    /// Whether nothing may be committed now: too few are in sync, as far as this broker knows the configuration, or the
    /// controller, whose configuration may be newer, counts on others for it.
    fn may_not_commit(&self, ctx: &Context) -> bool {
        self.isr.others_are_eligible() || self.isr.committed().len() < ctx.min_insync()
    }

    /// Moves the high watermark to the least end of all who are or may be in the ISR (I5), and lets those answers go that
    /// waited for it.
    ///
    /// It rests while the committed ISR is smaller than `min.insync.replicas`: eligible leader replicas outside the ISR rely
    /// on nothing being committed without them (KIP-966).
    fn advance_watermark(&mut self, ctx: &mut Context) {
        if let Some(end) = self.replicated_by_all(ctx) {
            ctx.log.raise_watermark(end);
        }
        self.complete(ctx);
    }

    fn replicated_by_all(&self, ctx: &Context) -> Option<Offset> {
        if self.may_not_commit(ctx) && !seeded(SeededBug::CommitsBelowMinIsr) {
            return None;
        }
        let mut least = ctx.log.offsets().replicated(ctx.durability());
        for (node, remote) in &self.remotes {
            if self.isr.may_contain(*node) {
                least = least.min(remote.replicated(ctx.durability())?);
            } else if self.awaits(ctx, *node, remote) {
                least = least.min(remote.replicated(ctx.durability()).unwrap_or(least));
            }
        }
        Some(least)
    }

    /// A follower outside the ISR that keeps up is waited for, or under steady load it would trail the watermark by a
    /// round trip for ever and never get in. Nobody waits for one that could not join (B8).
    fn awaits(&self, ctx: &Context, node: NodeId, remote: &RemoteReplica) -> bool {
        let end = ctx.log.offsets().log_end;
        self.may_join(ctx, node, remote) && remote.is_caught_up(ctx.durability(), end, ctx.now, JOIN_WINDOW)
    }

    fn complete(&mut self, ctx: &mut Context) {
        let offsets = *ctx.log.offsets();
        let committed = match seeded(SeededBug::AcksBeforeReplication) {
            true => offsets.durable_end,
            false => offsets.high_watermark,
        };
        while let Some(waiting) = self.uncommitted.pop_reached(committed) {
            ctx.acknowledge(waiting.token, waiting.base_offset);
        }
        while let Some(waiting) = self.unsynced.pop_reached(offsets.durable_end) {
            ctx.acknowledge(waiting.token, waiting.base_offset);
        }
    }
}

fn drop_follower(ctx: &mut Context, node: NodeId, remote: &mut RemoteReplica) {
    if let Some(subscription) = remote.subscription() {
        remote.gone(subscription, ctx.settings.durability, ctx.log.offsets().log_end, ctx.now);
        ctx.emit(Effect::DropFollower { follower: node, subscription });
    }
}
