//! A replica that follows: brings its log in line with the leader's, then appends what the leader sends.
//!
//! It cuts its log only where the leader of its own epoch says that leader epochs diverge, never by a watermark (I7, B1), and
//! believes a watermark only after the logs were found to agree (B14).

use std::time::Duration;

use vltava_model::seeded::{SeededBug, seeded};
use vltava_model::{ErrorCode, LeaderEpoch, NodeId, Offset};

use crate::context::Context;
use crate::effect::{Alarm, Effect, Verdict};
use crate::event::{Ability, Durability, LeaderData, LeaderRecovery, UncleanElection};
use crate::time::Time;

/// A subscription that is not answered is made again after this time.
const SUBSCRIBE_AGAIN: Duration = Duration::from_secs(5);

/// The first pause before the leader is told again that this replica does not follow: it may not have heard of its election
/// yet, or the connection broke. The pause doubles each time.
const TELL_AGAIN_MIN: Duration = Duration::from_millis(200);

/// The longest pause.
const TELL_AGAIN_MAX: Duration = Duration::from_secs(10);

/// Where a follower stands with its leader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Asked, not yet answered.
    Subscribing { since: Time },
    /// Data come.
    Following,
    /// It does not follow, and says so again and again.
    Resting { why: Rest, again: Time, pause: Duration },
}

/// Why a follower does not follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rest {
    /// Nothing can be appended for now.
    Hindered,
    /// Something is wrong that only another leader, or a human, can mend.
    Halted,
}

/// Whether the logs are known to agree. Once they do, they do so for the rest of the epoch: the leader's log only grows in
/// it, and this one holds nothing else. So an answer of an earlier stream that comes late must not cut it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Agreement {
    Unknown,
    Confirmed,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Follower {
    leader: NodeId,
    epoch: LeaderEpoch,
    phase: Phase,
    agreement: Agreement,
    /// What the leader was told last.
    reported: Offset,
}

impl Follower {
    /// Begins to follow in the assignment's epoch.
    pub(crate) fn begin(ctx: &mut Context, leader: NodeId) -> Self {
        let mut follower = Self {
            leader,
            epoch: ctx.assignment.state.leader_epoch,
            phase: Phase::Subscribing { since: ctx.now },
            agreement: Agreement::Unknown,
            reported: Offset::ZERO,
        };
        if seeded(SeededBug::TruncatesToWatermark) {
            follower.truncate(ctx, ctx.log.offsets().high_watermark);
            return follower;
        }
        match ctx.ability {
            Ability::Able => follower.subscribe(ctx),
            Ability::Hindered => follower.rest(ctx, Rest::Hindered, TELL_AGAIN_MIN),
        }
        follower
    }

    /// Stops following.
    pub(crate) fn end(self, ctx: &mut Context) {
        if !self.rests() {
            ctx.emit(Effect::Unsubscribe { leader: self.leader });
        }
    }

    fn rests(&self) -> bool {
        matches!(self.phase, Phase::Resting { .. })
    }

    /// Rests while nothing can be appended, and follows once something can be.
    pub(crate) fn ability_changed(&mut self, ctx: &mut Context) {
        match (ctx.ability, self.phase) {
            (Ability::Able, Phase::Resting { why: Rest::Hindered, .. }) => self.subscribe(ctx),
            (Ability::Hindered, Phase::Subscribing { .. } | Phase::Following) => {
                self.rest(ctx, Rest::Hindered, TELL_AGAIN_MIN);
            }
            _ => {}
        }
    }

    fn rest(&mut self, ctx: &mut Context, why: Rest, pause: Duration) {
        self.phase = Phase::Resting { why, again: ctx.now.after(pause), pause };
        ctx.emit(Effect::Suspend { leader: self.leader, leader_epoch: self.epoch });
    }

    pub(crate) fn leader(&self) -> NodeId {
        self.leader
    }

    pub(crate) fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    fn subscribe(&mut self, ctx: &mut Context) {
        let offsets = *ctx.log.offsets();
        self.phase = Phase::Subscribing { since: ctx.now };
        self.reported = offsets.replicated(ctx.durability());
        let last_epoch = match seeded(SeededBug::TakesDataBeforeAgreement) {
            true => Some(self.epoch),
            false => ctx.log.epochs().latest(),
        };
        ctx.emit(Effect::Subscribe {
            leader: self.leader,
            leader_epoch: self.epoch,
            log_start: offsets.log_start,
            log_end: offsets.log_end,
            durable_end: offsets.durable_end,
            last_epoch,
        });
    }

    /// The log lost what was appended last: the leader must be asked anew whether the logs agree.
    pub(crate) fn reopened(&mut self, ctx: &mut Context) {
        self.agreement = Agreement::Unknown;
        if !self.rests() {
            self.subscribe(ctx);
        }
    }

    pub(crate) fn stream_lost(&mut self, ctx: &mut Context, epoch: LeaderEpoch) {
        if epoch == self.epoch && !self.rests() {
            self.subscribe(ctx);
        }
    }

    pub(crate) fn tick(&mut self, ctx: &mut Context) {
        if self.next_tick().is_none_or(|due| due > ctx.now) {
            return;
        }
        match self.phase {
            Phase::Resting { why, pause, .. } => self.rest(ctx, why, (pause * 2).min(TELL_AGAIN_MAX)),
            Phase::Subscribing { .. } | Phase::Following => self.subscribe(ctx),
        }
    }

    /// When something is to be done even if nothing happens.
    pub(crate) fn next_tick(&self) -> Option<Time> {
        match self.phase {
            Phase::Subscribing { since } => Some(since.after(SUBSCRIBE_AGAIN)),
            Phase::Resting { again, .. } => Some(again),
            Phase::Following => None,
        }
    }

    /// The leader accepts the subscription, or its watermarks moved.
    pub(crate) fn watermark(
        &mut self,
        ctx: &mut Context,
        epoch: LeaderEpoch,
        watermark: Offset,
        log_start: Offset,
    ) {
        let is_old = epoch != self.epoch && !seeded(SeededBug::BelievesZombieLeader);
        if is_old || self.rests() {
            return;
        }
        self.phase = Phase::Following;
        self.agreement = Agreement::Confirmed;
        take_watermarks(ctx, watermark, log_start);
        self.report(ctx);
    }

    pub(crate) fn data(&mut self, ctx: &mut Context, data: &LeaderData) {
        let is_old = data.leader_epoch != self.epoch && !seeded(SeededBug::BelievesZombieLeader);
        if is_old || self.phase != Phase::Following {
            return;
        }
        let log_end = ctx.log.offsets().log_end;
        if data.end_offset > log_end {
            if data.base_offset != log_end {
                // Something was lost on the way.
                self.subscribe(ctx);
                return;
            }
            if !is_sound(data) || !ctx.log.append(&data.batch_epochs, data.end_offset) {
                let alarm = Alarm::LeaderContradictsItself {
                    leader: self.leader,
                    leader_epoch: self.epoch,
                    at: data.base_offset,
                };
                self.halt(ctx, alarm);
                return;
            }
            ctx.emit(Effect::AppendReplicated { base_offset: log_end, end_offset: data.end_offset });
        }
        take_watermarks(ctx, data.high_watermark, data.log_start);
        self.report(ctx);
    }

    /// The log is on stable storage further than before.
    pub(crate) fn durable(&mut self, ctx: &mut Context) {
        self.report(ctx);
    }

    /// Tells the leader what counts, when it changed.
    fn report(&mut self, ctx: &mut Context) {
        let offsets = *ctx.log.offsets();
        let replicated = offsets.replicated(ctx.durability());
        if self.phase == Phase::Following && replicated != self.reported {
            self.reported = replicated;
            ctx.emit(Effect::ReportProgress {
                leader: self.leader,
                leader_epoch: self.epoch,
                log_end: offsets.log_end,
                durable_end: offsets.durable_end,
            });
        }
    }

    /// The leader says that its largest epoch not above this log's last is `epoch`, and ends at `end` (KIP-279).
    pub(crate) fn diverging(
        &mut self,
        ctx: &mut Context,
        asked: LeaderEpoch,
        epoch: LeaderEpoch,
        end: Offset,
    ) {
        if !self.awaits_comparison(asked) {
            return;
        }
        let offsets = *ctx.log.offsets();
        let shared = ctx.log.epochs().end_of(epoch, offsets.log_end);
        let to = match shared {
            // Both have the epoch: they share as much of it as the shorter one has.
            Some(known) if known.epoch == epoch => known.end.min(end),
            // The leader lacks all epochs above its `epoch`, this log lacks that one: what remains is compared again.
            Some(known) => known.end,
            None => offsets.log_start.min(end),
        };
        if to < offsets.log_start {
            self.start_over(ctx, to);
        } else {
            self.truncate(ctx, to);
        }
    }

    /// The leader shares nothing with this log and begins at `log_start`.
    pub(crate) fn start_at(&mut self, ctx: &mut Context, asked: LeaderEpoch, log_start: Offset) {
        // Beyond the log end the leader has merely deleted what was missed, which may happen in mid-epoch too.
        let is_ahead = log_start > ctx.log.offsets().log_end;
        let is_asked = asked == self.epoch && matches!(self.phase, Phase::Subscribing { .. });
        if self.awaits_comparison(asked) || (is_asked && is_ahead) {
            self.start_over(ctx, log_start);
        }
    }

    fn awaits_comparison(&self, asked: LeaderEpoch) -> bool {
        asked == self.epoch
            && matches!(self.phase, Phase::Subscribing { .. })
            && self.agreement == Agreement::Unknown
    }

    fn truncate(&mut self, ctx: &mut Context, to: Offset) {
        if self.may_cut(ctx, to) {
            ctx.log.truncate(to);
            ctx.emit(Effect::Truncate { to });
            self.subscribe(ctx);
        }
    }

    fn start_over(&mut self, ctx: &mut Context, offset: Offset) {
        if self.may_cut(ctx, offset) {
            ctx.log.start_at(offset);
            ctx.emit(Effect::StartAt { offset });
            self.subscribe(ctx);
        }
    }

    /// Committed records are given up only after an unclean election, or where they were never promised to survive (I6).
    fn may_cut(&mut self, ctx: &mut Context, to: Offset) -> bool {
        let offsets = ctx.log.offsets();
        let high_watermark = offsets.high_watermark;
        // An empty log has no record to give up.
        if to >= high_watermark || offsets.log_start == offsets.log_end {
            return true;
        }
        let tolerated = ctx.settings.durability == Durability::Relaxed
            || ctx.settings.unclean_election == UncleanElection::Allowed
            || ctx.assignment.state.recovery == LeaderRecovery::Recovering;
        let verdict = if tolerated { Verdict::GivenUp } else { Verdict::Kept };
        let (leader, leader_epoch) = (self.leader, self.epoch);
        let alarm = Alarm::CommittedRecordsDiverge { leader, leader_epoch, to, high_watermark, verdict };
        if tolerated {
            ctx.emit(Effect::Alarm(alarm));
        } else {
            self.halt(ctx, alarm);
        }
        tolerated
    }

    fn halt(&mut self, ctx: &mut Context, alarm: Alarm) {
        ctx.emit(Effect::Alarm(alarm));
        self.rest(ctx, Rest::Halted, TELL_AGAIN_MIN);
    }
}

/// Whether epochs and offsets of a message can be true.
fn is_sound(data: &LeaderData) -> bool {
    let begins = data.batch_epochs.first().is_some_and(|(_, start)| *start == data.base_offset);
    let ascends = data
        .batch_epochs
        .is_sorted_by(|(epoch, start), (next, next_start)| epoch <= next && start < next_start);
    let within = (data.batch_epochs.last())
        .is_some_and(|(epoch, start)| *epoch <= data.leader_epoch && *start < data.end_offset);
    begins && ascends && within
}

/// The leader's watermarks, as far as this log reaches.
fn take_watermarks(ctx: &mut Context, high_watermark: Offset, log_start: Offset) {
    ctx.log.raise_watermark(high_watermark);
    let offsets = *ctx.log.offsets();
    let to = log_start.min(offsets.high_watermark);
    if to > offsets.log_start {
        ctx.log.advance_start(to);
        ctx.emit(Effect::AdvanceLogStart { to });
    }
}

/// What a follower answers to those who take it for the leader.
pub(crate) const NOT_LEADER: ErrorCode = ErrorCode::NotLeaderOrFollower;
