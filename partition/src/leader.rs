//! The leader's part: gives out offsets, keeps track of followers and in-sync replicas, moves the high watermark, and
//! acknowledges.

use std::collections::BTreeMap;

use vltava_model::epochs::LeaderEpochs;
use vltava_model::{BrokerEpoch, ErrorClass, ErrorCode, LeaderEpoch, NodeId, Offset};

use crate::ack_queue::{AckQueue, Waiting};
use crate::effect::{Effect, SubscribeAnswer};
use crate::event::{
    Acks, Assignment, Durability, IsrOutcome, ReplicaIdentity, Settings, Subscription, Time, Token,
};
use crate::isr::Isr;
use crate::offsets::Offsets;

/// What the leader knows of a follower that it accepted in this epoch.
#[derive(Clone, Debug)]
struct Follower {
    identity: ReplicaIdentity,
    log_end: Offset,
    durable_end: Offset,
    caught_up_at: Time,
    heard_at: Time,
    /// The leader's log end when the follower was heard last: reaching it later means that it was caught up then.
    log_end_at_heard: Offset,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Leader {
    epoch: LeaderEpoch,
    epoch_start: Offset,
    since: Time,
    replicas: Vec<NodeId>,
    eligible: BTreeMap<NodeId, BrokerEpoch>,
    isr: Isr,
    followers: BTreeMap<NodeId, Follower>,
    waiting_all: AckQueue,
    waiting_local: AckQueue,
}

/// What every step of a leader needs besides itself.
pub(crate) struct Ground<'a> {
    pub local: ReplicaIdentity,
    pub settings: Settings,
    pub offsets: &'a mut Offsets,
    pub epochs: &'a LeaderEpochs,
    pub effects: &'a mut Vec<Effect>,
    pub now: Time,
}

impl Leader {
    /// Begins to lead.
    pub(crate) fn new(assignment: &Assignment, epoch_start: Offset, now: Time) -> Self {
        Self {
            epoch: assignment.leader_epoch,
            epoch_start,
            since: now,
            replicas: assignment.replicas.clone(),
            eligible: assignment.eligible.iter().copied().collect(),
            isr: Isr::new(&assignment.isr, assignment.partition_epoch),
            followers: BTreeMap::new(),
            waiting_all: AckQueue::default(),
            waiting_local: AckQueue::default(),
        }
    }

    /// In which epoch it leads.
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// Where the log ended when it was elected.
    pub fn epoch_start(&self) -> Offset {
        self.epoch_start
    }

    /// The in-sync replicas.
    pub fn isr(&self) -> &Isr {
        &self.isr
    }

    /// Whether a tick may have something to do.
    pub fn wants_tick(&self, local: NodeId) -> bool {
        let followers_matter = self.replicas.iter().any(|node| *node != local);
        !self.waiting_all.is_empty()
            || !self.waiting_local.is_empty()
            || self.isr.wants_tick()
            || followers_matter && (self.isr.committed().len() > 1)
    }

    /// Metadata about the same leadership.
    pub(crate) fn assigned(&mut self, assignment: &Assignment, ground: &mut Ground<'_>) {
        self.replicas.clone_from(&assignment.replicas);
        self.eligible = assignment.eligible.iter().copied().collect();
        self.followers.retain(|node, _| assignment.replicas.contains(node));
        self.isr.commit(&assignment.isr, assignment.partition_epoch);
        self.advance(ground);
        self.maybe_expand(ground);
    }

    pub(crate) fn produce(
        &mut self,
        token: Token,
        records: u64,
        acks: Acks,
        deadline: Time,
        ground: &mut Ground<'_>,
    ) {
        if acks == Acks::All && self.isr.committed().len() < ground.settings.min_insync {
            return ground.refuse(token, ErrorCode::NotEnoughReplicas);
        }
        if self.waiting_all.len() + self.waiting_local.len() >= ground.settings.waiting_max {
            return ground.refuse(token, ErrorCode::ThrottlingQuotaExceeded);
        }
        let base = ground.offsets.log_end;
        let Some(end) = base.checked_add(records) else {
            return ground.refuse(token, ErrorCode::InvalidRecord);
        };
        ground.offsets.log_end = end;
        ground.effects.push(Effect::Append { token, base, leader_epoch: self.epoch });
        self.wait(Waiting { token, base, end, deadline }, acks, ground);
        self.advance(ground);
    }

    /// A batch that is in the log already waits like the first time.
    pub(crate) fn produce_again(&mut self, write: Waiting, acks: Acks, ground: &mut Ground<'_>) {
        if self.waiting_all.len() + self.waiting_local.len() >= ground.settings.waiting_max {
            return ground.refuse(write.token, ErrorCode::ThrottlingQuotaExceeded);
        }
        self.wait(write, acks, ground);
        self.advance(ground);
    }

    fn wait(&mut self, write: Waiting, acks: Acks, ground: &mut Ground<'_>) {
        match acks {
            Acks::None => ground.ack(write.token, Ok(write.base)),
            Acks::Leader => self.waiting_local.add(write),
            Acks::All => self.waiting_all.add(write),
        }
    }

    pub(crate) fn subscribed(&mut self, token: Token, wish: Subscription, ground: &mut Ground<'_>) {
        let answer = self.judge(&wish, ground);
        ground.effects.push(Effect::AnswerSubscription { token, answer });
        if let SubscribeAnswer::Accepted { from } = answer {
            let known =
                self.followers.get(&wish.follower.node).filter(|known| known.identity == wish.follower);
            let caught_up_at = known.map_or(self.since, |known| known.caught_up_at);
            let follower = Follower {
                identity: wish.follower,
                log_end: from,
                durable_end: wish.durable_end.min(from),
                caught_up_at,
                heard_at: ground.now,
                log_end_at_heard: ground.offsets.log_end,
            };
            self.followers.insert(wish.follower.node, follower);
            self.heard(wish.follower.node, ground);
        }
    }

    /// Whether the logs agree. Nothing of a follower whose log diverges is counted (KAFKA-13141).
    fn judge(&self, wish: &Subscription, ground: &Ground<'_>) -> SubscribeAnswer {
        let follower = wish.follower;
        if wish.leader_epoch < self.epoch {
            return SubscribeAnswer::Refused(ErrorCode::FencedLeaderEpoch);
        }
        if wish.leader_epoch > self.epoch {
            return SubscribeAnswer::Refused(ErrorCode::UnknownLeaderEpoch);
        }
        if follower.node == ground.local.node || !self.replicas.contains(&follower.node) {
            return SubscribeAnswer::Refused(ErrorCode::InvalidRequest);
        }
        if self.eligible.get(&follower.node).is_some_and(|current| follower.broker_epoch < *current) {
            return SubscribeAnswer::Refused(ErrorCode::StaleBrokerEpoch);
        }
        let offsets = &ground.offsets;
        if wish.log_end < offsets.log_start {
            return SubscribeAnswer::StartAt(offsets.log_start);
        }
        let Some(last_epoch) = wish.last_epoch else {
            // No records: nothing can diverge, but an empty log may lie past the end of this one.
            return if wish.log_end <= offsets.log_end {
                SubscribeAnswer::Accepted { from: wish.log_end }
            } else {
                SubscribeAnswer::StartAt(offsets.log_start)
            };
        };
        match ground.epochs.end_of(last_epoch, offsets.log_end) {
            Some(found) if found.epoch == last_epoch && wish.log_end <= found.end => {
                SubscribeAnswer::Accepted { from: wish.log_end }
            }
            Some(found) => SubscribeAnswer::Diverging { epoch: found.epoch, end: found.end },
            // All that this log has was written later: what the follower has ends where this begins.
            None => SubscribeAnswer::Diverging { epoch: last_epoch, end: offsets.log_start },
        }
    }

    pub(crate) fn progress(
        &mut self,
        node: NodeId,
        broker_epoch: BrokerEpoch,
        log_end: Offset,
        durable_end: Offset,
        ground: &mut Ground<'_>,
    ) {
        let Some(follower) = self.followers.get_mut(&node) else { return };
        if follower.identity.broker_epoch != broker_epoch || log_end > ground.offsets.log_end {
            return;
        }
        follower.log_end = follower.log_end.max(log_end);
        follower.durable_end = follower.durable_end.max(durable_end.min(log_end));
        self.heard(node, ground);
    }

    /// After news of a follower: whether it has caught up, what is committed now, who may join.
    fn heard(&mut self, node: NodeId, ground: &mut Ground<'_>) {
        let Some(follower) = self.followers.get_mut(&node) else { return };
        if follower.log_end >= ground.offsets.log_end {
            follower.caught_up_at = ground.now;
        } else if follower.log_end >= follower.log_end_at_heard {
            follower.caught_up_at = follower.caught_up_at.max(follower.heard_at);
        }
        follower.heard_at = ground.now;
        follower.log_end_at_heard = ground.offsets.log_end;
        self.advance(ground);
        self.maybe_expand(ground);
    }

    /// The end of what a replica counts as having.
    fn counted(&self, node: NodeId, ground: &Ground<'_>) -> Option<Offset> {
        let (log_end, durable_end) = if node == ground.local.node {
            (ground.offsets.log_end, ground.offsets.durable_end)
        } else {
            let follower = self.followers.get(&node)?;
            (follower.log_end, follower.durable_end)
        };
        Some(match ground.settings.durability {
            Durability::Synced => durable_end,
            Durability::Relaxed => log_end,
        })
    }

    /// Moves the high watermark as far as the maximal ISR allows, and acknowledges.
    pub(crate) fn advance(&mut self, ground: &mut Ground<'_>) {
        let reached = self.isr.maximal().into_iter().map(|node| self.counted(node, ground)).min().flatten();
        // None sorts first: a member that was not heard of in this epoch holds the watermark.
        if let Some(reached) = reached
            && reached > ground.offsets.high_watermark
        {
            ground.offsets.high_watermark = reached;
        }
        let local = match ground.settings.durability {
            Durability::Synced => ground.offsets.durable_end,
            Durability::Relaxed => ground.offsets.log_end,
        };
        for write in self.waiting_local.complete_up_to(local) {
            ground.effects.push(Effect::Ack { token: write.token, result: Ok(write.base) });
        }
        let enough = self.isr.committed().len() >= ground.settings.min_insync;
        for write in self.waiting_all.complete_up_to(ground.offsets.high_watermark) {
            let result = if enough { Ok(write.base) } else { Err(ErrorCode::NotEnoughReplicasAfterAppend) };
            ground.effects.push(Effect::Ack { token: write.token, result });
        }
    }

    /// A follower joins when it has everything committed and everything up to this epoch's start, under the registration
    /// that metadata knows (KAFKA-7128, KIP-841, KIP-903).
    fn maybe_expand(&mut self, ground: &mut Ground<'_>) {
        if !self.isr.may_propose(ground.now) || self.isr.to_repeat().is_some() {
            return;
        }
        let needed = ground.offsets.high_watermark.max(self.epoch_start);
        let joining: Vec<NodeId> = self
            .followers
            .iter()
            .filter(|(node, follower)| {
                !self.isr.committed().contains(node)
                    && self.eligible.get(node) == Some(&follower.identity.broker_epoch)
                    && self.counted(**node, ground).is_some_and(|end| end >= needed)
            })
            .map(|(node, _)| *node)
            .collect();
        if !joining.is_empty() {
            let members = self.isr.committed().iter().copied().chain(joining).collect::<Vec<_>>();
            self.propose(&members, ground);
        }
    }

    /// Followers that have not been caught up for too long leave.
    fn maybe_shrink(&mut self, ground: &mut Ground<'_>) {
        if !self.isr.may_propose(ground.now) || self.isr.to_repeat().is_some() {
            return;
        }
        let lags = |node: &NodeId| {
            if *node == ground.local.node {
                return false;
            }
            let caught_up_at = match self.followers.get(node) {
                Some(follower) if follower.log_end >= ground.offsets.log_end => return false,
                Some(follower) => follower.caught_up_at,
                None => self.since,
            };
            ground.now.since(caught_up_at) > ground.settings.lag_max_ms
        };
        let staying: Vec<NodeId> = self.isr.committed().iter().copied().filter(|node| !lags(node)).collect();
        if staying.len() < self.isr.committed().len() {
            self.propose(&staying, ground);
        }
    }

    fn propose(&mut self, members: &[NodeId], ground: &mut Ground<'_>) {
        let registration = |node: &NodeId| {
            if *node == ground.local.node {
                return Some((*node, ground.local.broker_epoch));
            }
            let seen = self.followers.get(node).map(|follower| follower.identity.broker_epoch);
            // A member that has not subscribed yet stays under the registration that metadata knows.
            Some((*node, seen.or_else(|| self.eligible.get(node).copied())?))
        };
        let isr: Vec<_> = members.iter().filter_map(registration).collect();
        self.isr.propose(isr.clone());
        ground.effects.push(Effect::ProposeIsr {
            leader_epoch: self.epoch,
            partition_epoch: self.isr.partition_epoch(),
            isr,
        });
    }

    pub(crate) fn isr_answered(&mut self, outcome: &IsrOutcome, ground: &mut Ground<'_>) {
        match outcome {
            IsrOutcome::Applied { leader_epoch, partition_epoch, isr } => {
                if *leader_epoch == self.epoch {
                    self.isr.commit(isr, *partition_epoch);
                    self.advance(ground);
                    self.maybe_expand(ground);
                } else {
                    // Led by somebody else by now: metadata will say so.
                    self.isr.unknown(ground.now);
                }
            }
            // It was looked at and found wanting: nothing changed.
            IsrOutcome::Failed(ErrorCode::IneligibleReplica) if self.isr.to_repeat().is_none() => {
                self.isr.refused(ground.now);
            }
            // Anything else may follow on an attempt that was committed: metadata decides.
            IsrOutcome::Failed(_) => self.isr.unknown(ground.now),
        }
    }

    pub(crate) fn tick(&mut self, ground: &mut Ground<'_>) {
        for queue in [&mut self.waiting_all, &mut self.waiting_local] {
            for write in queue.expire(ground.now) {
                ground
                    .effects
                    .push(Effect::Ack { token: write.token, result: Err(ErrorCode::RequestTimedOut) });
            }
        }
        if self.isr.may_propose(ground.now)
            && let Some(again) = self.isr.to_repeat()
        {
            let isr = again.to_vec();
            self.isr.propose(isr.clone());
            ground.effects.push(Effect::ProposeIsr {
                leader_epoch: self.epoch,
                partition_epoch: self.isr.partition_epoch(),
                isr,
            });
        }
        self.maybe_shrink(ground);
        self.maybe_expand(ground);
    }

    /// Ends the leadership: whoever waits is told where to go.
    pub(crate) fn resign(&mut self, code: ErrorCode, effects: &mut Vec<Effect>) {
        debug_assert!(
            code.class() != ErrorClass::GiveUp,
            "a write whose outcome is unknown may be sent again"
        );
        for queue in [&mut self.waiting_all, &mut self.waiting_local] {
            effects
                .extend(queue.fail_all().map(|write| Effect::Ack { token: write.token, result: Err(code) }));
        }
    }
}

impl Ground<'_> {
    fn refuse(&mut self, token: Token, code: ErrorCode) {
        self.ack(token, Err(code));
    }

    fn ack(&mut self, token: Token, result: Result<Offset, ErrorCode>) {
        self.effects.push(Effect::Ack { token, result });
    }
}
