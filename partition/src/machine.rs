//! One replica of one partition: takes each event to the role that it concerns.

use vltava_model::seeded::{SeededBug, seeded};
use vltava_model::{BrokerEpoch, ErrorCode, NodeId, Offset};

use crate::context::Context;
use crate::effect::{Alarm, Effect, SubscribeReply};
use crate::event::{
    Ability, Assignment, Event, IsrOutcome, LocalLog, PartitionState, ProposalId, ReplicaIdentity, Settings,
    Token,
};
use crate::follower::{Follower, NOT_LEADER};
use crate::leader::Leader;
use crate::offsets::{LogState, Offsets};
use crate::time::Time;

/// One replica of one partition. See the crate's documentation for what its caller owes it.
#[derive(Debug)]
pub struct Partition {
    pub(crate) local: ReplicaIdentity,
    pub(crate) settings: Settings,
    pub(crate) log: LogState,
    pub(crate) assignment: Option<Assignment>,
    ability: Ability,
    proposals: u64,
    pub(crate) role: Role,
}

#[derive(Debug)]
pub(crate) enum Role {
    Idle,
    Leader(Box<Leader>),
    Follower(Follower),
    Failed,
}

impl Partition {
    /// A replica that was opened from disk and does not know its role yet.
    pub fn new(local: ReplicaIdentity, log: LocalLog, settings: Settings) -> Self {
        let log = LogState::open(log);
        log.offsets().check();
        Self {
            local,
            settings,
            log,
            assignment: None,
            ability: Ability::Able,
            proposals: 0,
            role: Role::Idle,
        }
    }

    /// Takes one event, and appends what the caller must do, in order, to `effects`. `now` never goes back.
    ///
    /// # Panics
    /// When an invariant is broken: a bug here, or a caller that broke its word.
    pub fn step(&mut self, event: Event, now: Time, effects: &mut Vec<Effect>) {
        let (offsets, standing) = (*self.log.offsets(), self.standing());
        self.dispatch(event, now, effects);
        let after = *self.log.offsets();
        after.check();
        if self.standing() != standing {
            effects.push(Effect::StandingChanged(self.standing()));
        }
        if (after.high_watermark, after.log_start) != (offsets.high_watermark, offsets.log_start) {
            let Offsets { high_watermark, log_start, .. } = after;
            effects.push(Effect::WatermarkMoved { high_watermark, log_start });
        }
    }

    fn dispatch(&mut self, event: Event, now: Time, effects: &mut Vec<Effect>) {
        if matches!(self.role, Role::Failed) {
            refuse_all(event, effects);
            return;
        }
        match event {
            Event::Assigned(assignment) => self.assigned(assignment, now, effects),
            Event::Configured(settings) => {
                self.settings = settings;
                self.refresh(now, effects);
            }
            Event::LogReopened(log) => {
                self.log.reopen(log);
                self.with_role(now, effects, |ctx, role| match role {
                    Role::Leader(leader) => leader.reopened(ctx),
                    Role::Follower(follower) => follower.reopened(ctx),
                    Role::Idle | Role::Failed => {}
                });
            }
            Event::StorageFailed if seeded(SeededBug::GoesOnAfterFailure) => {}
            Event::StorageFailed => self.storage_failed(now, effects),
            Event::Ability(ability) => {
                self.ability = ability;
                self.with_role(now, effects, |ctx, role| match role {
                    Role::Leader(leader) => leader.review(ctx),
                    Role::Follower(follower) => follower.ability_changed(ctx),
                    Role::Idle | Role::Failed => {}
                });
            }
            Event::IsrAnswered { proposal, outcome } => self.isr_answered(proposal, outcome, now, effects),
            Event::LogStartMoved { log_start } => self.log.advance_start(log_start),
            Event::DeleteRecords { token, before } => self.delete_records(token, before, now, effects),
            Event::Durable(up_to) => {
                if self.log.durable(up_to) {
                    self.with_role(now, effects, |ctx, role| match role {
                        Role::Leader(leader) => leader.durable(ctx),
                        Role::Follower(follower) => follower.durable(ctx),
                        Role::Idle | Role::Failed => {}
                    });
                }
            }
            Event::Tick => self.with_role(now, effects, |ctx, role| match role {
                Role::Leader(leader) => leader.tick(ctx),
                Role::Follower(follower) => follower.tick(ctx),
                Role::Idle | Role::Failed => {}
            }),
            other if other.is_for_leader() => self.for_leader(other, now, effects),
            other => self.for_follower(&other, now, effects),
        }
    }

    fn for_leader(&mut self, event: Event, now: Time, effects: &mut Vec<Effect>) {
        let leads = matches!(self.role, Role::Leader(_));
        if !leads {
            refuse(event, NOT_LEADER, effects);
            return;
        }
        self.with_role(now, effects, |ctx, role| {
            let Role::Leader(leader) = role else { return };
            match &event {
                Event::Produce(produce) => leader.produce(ctx, produce),
                Event::AwaitCommitted(again) => leader.await_committed(ctx, again),
                Event::FollowerSubscribe(request) => leader.subscribe(ctx, request),
                Event::FollowerProgress(report) => leader.progress(ctx, report),
                Event::FollowerSuspended(word) => leader.suspended(ctx, word),
                Event::FollowerGone { follower, subscription } => leader.gone(ctx, *follower, *subscription),
                _ => {}
            }
        });
    }

    fn for_follower(&mut self, event: &Event, now: Time, effects: &mut Vec<Effect>) {
        self.with_role(now, effects, |ctx, role| {
            let Role::Follower(follower) = role else { return };
            match *event {
                Event::LeaderData(ref data) => follower.data(ctx, data),
                Event::LeaderWatermark { leader_epoch, high_watermark, log_start } => {
                    follower.watermark(ctx, leader_epoch, high_watermark, log_start);
                }
                Event::LeaderDiverging { leader_epoch, epoch, end } => {
                    follower.diverging(ctx, leader_epoch, epoch, end);
                }
                Event::LeaderStartAt { leader_epoch, log_start } => {
                    follower.start_at(ctx, leader_epoch, log_start);
                }
                Event::StreamLost { leader_epoch } => follower.stream_lost(ctx, leader_epoch),
                _ => {}
            }
        });
    }

    /// Runs `act` on the role; nothing before the first assignment, when there is none.
    fn with_role(&mut self, now: Time, effects: &mut Vec<Effect>, act: impl FnOnce(&mut Context, &mut Role)) {
        let Some(assignment) = &self.assignment else { return };
        let mut ctx = Context {
            local: self.local,
            settings: &self.settings,
            assignment,
            log: &mut self.log,
            ability: self.ability,
            proposals: &mut self.proposals,
            now,
            effects,
        };
        act(&mut ctx, &mut self.role);
    }

    fn refresh(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.with_role(now, effects, |ctx, role| {
            if let Role::Leader(leader) = role {
                leader.refresh(ctx);
            }
        });
    }

    /// The metadata feed: its word on eligibility is the newest always, its word on the partition only if no answer of the
    /// controller was newer.
    fn assigned(&mut self, new: Assignment, now: Time, effects: &mut Vec<Effect>) {
        match &mut self.assignment {
            Some(known) if new.state.partition_epoch <= known.state.partition_epoch => {
                known.eligible = new.eligible;
                self.refresh(now, effects);
            }
            _ => {
                self.adopt(new.state, Some(new.eligible), now, effects);
            }
        }
    }

    /// Takes a newer state; `false` when it cannot be true.
    fn adopt(
        &mut self,
        state: PartitionState,
        eligible: Option<Vec<(NodeId, BrokerEpoch)>>,
        now: Time,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let known_epoch = self.assignment.as_ref().map(|known| known.state.leader_epoch);
        let logged = self.log.epochs().latest();
        if let Some(newer) = known_epoch.max(logged).filter(|newer| *newer > state.leader_epoch) {
            effects.push(Effect::Alarm(Alarm::MetadataOlderThanLog {
                assigned: state.leader_epoch,
                logged: newer,
            }));
            return false;
        }
        let before = self.assignment.take();
        let eligible = eligible.or(before.as_ref().map(|before| before.eligible.clone())).unwrap_or_default();
        let wanted = self.calling(&state);
        let stays = known_epoch == Some(state.leader_epoch) && self.current_calling() == wanted;
        if !stays {
            // What the old role still says, it says under the old assignment.
            self.assignment = before;
            self.leave(NOT_LEADER, now, effects);
        }
        self.assignment = Some(Assignment { state, eligible });
        if stays {
            self.refresh(now, effects);
        } else {
            self.take_up(wanted, now, effects);
        }
        true
    }

    fn calling(&self, state: &PartitionState) -> Calling {
        match state.leader {
            _ if !state.replicas.contains(&self.local.node) => Calling::Nothing,
            None => Calling::Nothing,
            Some(leader) if leader == self.local.node => Calling::Lead,
            Some(leader) => Calling::Follow(leader),
        }
    }

    fn current_calling(&self) -> Calling {
        match &self.role {
            Role::Idle | Role::Failed => Calling::Nothing,
            Role::Leader(_) => Calling::Lead,
            Role::Follower(follower) => Calling::Follow(follower.leader()),
        }
    }

    fn leave(&mut self, code: ErrorCode, now: Time, effects: &mut Vec<Effect>) {
        self.with_role(now, effects, |ctx, role| match std::mem::replace(role, Role::Idle) {
            Role::Leader(leader) => leader.end(ctx, code),
            Role::Follower(follower) => follower.end(ctx),
            Role::Idle | Role::Failed => {}
        });
    }

    fn take_up(&mut self, calling: Calling, now: Time, effects: &mut Vec<Effect>) {
        self.with_role(now, effects, |ctx, role| {
            *role = match calling {
                Calling::Nothing => Role::Idle,
                Calling::Lead => Role::Leader(Box::new(Leader::begin(ctx))),
                Calling::Follow(leader) => Role::Follower(Follower::begin(ctx, leader)),
            };
        });
    }

    fn storage_failed(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.leave(ErrorCode::KafkaStorageError, now, effects);
        self.role = Role::Failed;
    }

    fn isr_answered(
        &mut self,
        proposal: ProposalId,
        outcome: IsrOutcome,
        now: Time,
        effects: &mut Vec<Effect>,
    ) {
        if let IsrOutcome::Applied(state) = &outcome {
            let known = self.assignment.as_ref().map(|known| known.state.partition_epoch);
            if known.is_none_or(|known| state.partition_epoch > known) {
                self.adopt(state.clone(), None, now, effects);
                return;
            }
        }
        self.with_role(now, effects, |ctx, role| {
            if let Role::Leader(leader) = role {
                leader.isr_failed(ctx, proposal, &outcome);
            }
        });
    }

    fn delete_records(&mut self, token: Token, before: Option<Offset>, now: Time, effects: &mut Vec<Effect>) {
        if !matches!(self.role, Role::Leader(_)) {
            effects.push(Effect::Ack { token, result: Err(NOT_LEADER) });
            return;
        }
        self.with_role(now, effects, |ctx, _| {
            let offsets = *ctx.log.offsets();
            let to = before.unwrap_or(offsets.high_watermark);
            let deletable = match seeded(SeededBug::DeletesUncommitted) {
                true => offsets.log_end,
                false => offsets.high_watermark,
            };
            if to > deletable {
                ctx.refuse(token, ErrorCode::OffsetOutOfRange);
                return;
            }
            if to > offsets.log_start {
                ctx.log.advance_start(to);
                ctx.emit(Effect::AdvanceLogStart { to });
            }
            let first = ctx.log.offsets().log_start;
            ctx.acknowledge(token, first);
        });
    }
}

/// What metadata want of this replica.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Calling {
    Nothing,
    Lead,
    Follow(NodeId),
}

/// A replica whose storage failed says so to everybody.
fn refuse_all(event: Event, effects: &mut Vec<Effect>) {
    refuse(event, ErrorCode::KafkaStorageError, effects);
}

fn refuse(event: Event, code: ErrorCode, effects: &mut Vec<Effect>) {
    let effect = match event {
        Event::Produce(produce) => Effect::Ack { token: produce.token, result: Err(code) },
        Event::AwaitCommitted(again) => Effect::Ack { token: again.token, result: Err(code) },
        Event::DeleteRecords { token, .. } => Effect::Ack { token, result: Err(code) },
        Event::FollowerSubscribe(request) => {
            let reply = SubscribeReply::Refused(code);
            Effect::SubscribeReply { token: request.token, reply }
        }
        _ => return,
    };
    effects.push(effect);
}
