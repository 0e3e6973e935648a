//! Which ISR a leader wants, and when it says so.
//!
//! An ISR without the leader means that it steps down: the controller elects one of those that are left.
//!
//! It does not decide who is in the ISR: the controller does, and until it has, [`crate::isr`] keeps what may be true.

use vltava_model::NodeId;
use vltava_model::seeded::{SeededBug, seeded};

use crate::context::Context;
use crate::effect::Effect;
use crate::event::{Ability, ProposalId};
use crate::isr::Members;
use crate::leader::Leader;
use crate::remote::RemoteReplica;

impl Leader {
    /// Whether only its log's end can keep a follower out of the ISR (B9, B10).
    pub(crate) fn may_join(&self, ctx: &Context, node: NodeId, remote: &RemoteReplica) -> bool {
        let seen = remote.identity().map(|identity| identity.broker_epoch);
        let is_current = seen == ctx.eligible(node) || seeded(SeededBug::JoinsUnderUnseenRegistration);
        seen.is_some() && is_current && remote.subscription().is_some()
    }

    /// Proposes the next change of the ISR, or the last one again.
    pub(crate) fn tend_isr(&mut self, ctx: &mut Context) {
        if self.isr.retry_is_due(ctx.now, ctx.settings.proposal_timeout) {
            let proposal = ctx.next_proposal();
            if let Some(members) = self.isr.retry(proposal, ctx.now) {
                self.propose(ctx, proposal, members);
            }
            return;
        }
        if !self.isr.is_ready(ctx.now) {
            return;
        }
        if let Some(members) = self.wanted_isr(ctx) {
            let proposal = ctx.next_proposal();
            self.isr.begin(members.clone(), proposal, ctx.now);
            self.propose(ctx, proposal, members);
        }
    }

    fn propose(&self, ctx: &mut Context, proposal: ProposalId, isr: Members) {
        ctx.emit(Effect::ProposeIsr {
            proposal,
            leader_epoch: self.epoch(),
            partition_epoch: self.isr.epoch(),
            isr,
        });
    }

    /// The ISR as it should be, if that is another one: without those that may not be in it, else with all that can join,
    /// else without those that don't follow. Joining comes before that, lest the ISR be smaller than it must in between.
    fn wanted_isr(&self, ctx: &Context) -> Option<Members> {
        let me = ctx.local.node;
        let committed = self.isr.committed();
        let stays = |node: NodeId| node == me || ctx.eligible(node).is_some();
        if committed.iter().any(|node| !stays(*node)) {
            return Some(self.members(ctx, |node, _| committed.contains(&node) && stays(node)));
        }
        let joins = |node: NodeId, remote: &RemoteReplica| {
            self.may_join(ctx, node, remote)
                && self.has_enough(ctx, remote)
                && !remote.pace.has_stalled(ctx.now)
        };
        if self.remotes.iter().any(|(node, remote)| !committed.contains(node) && joins(*node, remote)) {
            return Some(self.members(ctx, |node, remote| committed.contains(&node) || joins(node, remote)));
        }
        let (end, lag) = (ctx.log.offsets().log_end, ctx.settings.lag_time_max);
        let follows = |remote: &RemoteReplica| {
            !remote.is_suspended()
                && !remote.pace.has_stalled(ctx.now)
                && remote.is_caught_up(ctx.durability(), end, ctx.now, lag)
        };
        let cannot_lead = ctx.ability == Ability::Hindered || self.pace.has_stalled(ctx.now);
        let all_follow =
            committed.iter().all(|node| *node == me || self.remotes.get(node).is_some_and(follows));
        if all_follow && !cannot_lead {
            // As after nearly every step, so no list of them is made.
            return None;
        }
        let rest = self.members(ctx, |node, remote| committed.contains(&node) && follows(remote));
        let able = |node: NodeId, remote: &RemoteReplica| committed.contains(&node) && !remote.is_suspended();
        let heirs = match cannot_lead {
            true => Some(rest.clone()),
            // Nobody follows, but they may follow one of their own: who is cut off may be this broker.
            false if rest.len() < ctx.min_insync() => Some(self.members(ctx, able)),
            false => None,
        };
        let heirs: Members = heirs.into_iter().flatten().filter(|(node, _)| *node != me).collect();
        if heirs.len() >= ctx.min_insync() {
            return Some(heirs);
        }
        (rest.len() < committed.len()).then_some(rest)
    }

    /// Whether a follower has all that may be committed: the watermark alone says too little while it is older than this
    /// leadership (I9, B6).
    fn has_enough(&self, ctx: &Context, remote: &RemoteReplica) -> bool {
        let enough = ctx.log.offsets().high_watermark;
        let enough = match seeded(SeededBug::JoinsAtOldWatermark) {
            true => enough,
            false => enough.max(self.epoch_start()),
        };
        remote.replicated(ctx.durability()).is_some_and(|end| end >= enough)
    }

    /// This broker, and the followers that `belongs` picks, under the registrations that were seen in their subscriptions.
    fn members(&self, ctx: &Context, belongs: impl Fn(NodeId, &RemoteReplica) -> bool) -> Members {
        let mut members = vec![(ctx.local.node, ctx.local.broker_epoch)];
        for (node, remote) in self.remotes.iter().filter(|(node, remote)| belongs(**node, remote)) {
            let seen = remote.identity().map(|identity| identity.broker_epoch);
            let seen = seen.filter(|_| !seeded(SeededBug::JoinsUnderUnseenRegistration));
            members.extend(seen.or(ctx.eligible(*node)).map(|epoch| (*node, epoch)));
        }
        members
    }
}
