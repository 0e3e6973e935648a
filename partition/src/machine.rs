//! The machine: which role it is in, and which event goes where.

use vltava_model::epochs::LeaderEpochs;
use vltava_model::{ErrorCode, LeaderEpoch, NodeId, Offset, PartitionEpoch};

use crate::ack_queue::Waiting;
use crate::effect::{Effect, SubscribeAnswer};
use crate::event::{Assignment, Event, LocalLog, ReplicaIdentity, Settings, Time, Token};
use crate::follower::{self, Data, Follower};
use crate::leader::{self, Leader};
use crate::offsets::Offsets;

/// What this replica is.
#[derive(Clone, Debug)]
pub enum Role {
    /// Nobody leads, or nothing is known yet.
    Idle,
    /// It leads.
    Leader(Box<Leader>),
    /// It follows.
    Follower(Follower),
    /// Its disk failed, or it was asked to do what must not happen: final.
    Stopped,
}

/// One replica of one partition.
#[derive(Clone, Debug)]
pub struct Partition {
    local: ReplicaIdentity,
    settings: Settings,
    offsets: Offsets,
    epochs: LeaderEpochs,
    /// The newest metadata that was acted on.
    seen: Option<(LeaderEpoch, PartitionEpoch)>,
    role: Role,
}

impl Partition {
    /// A replica whose log was just opened.
    pub fn new(local: ReplicaIdentity, log: &LocalLog, settings: Settings) -> Self {
        let offsets = Offsets::of(log);
        offsets.check();
        Self { local, settings, offsets, epochs: log.epochs.clone(), seen: None, role: Role::Idle }
    }

    /// What it is.
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// The leadership, if it leads.
    pub fn leadership(&self) -> Option<&Leader> {
        match &self.role {
            Role::Leader(leader) => Some(leader),
            Role::Idle | Role::Follower(_) | Role::Stopped => None,
        }
    }

    /// Whom it follows, and in which epoch.
    pub fn following(&self) -> Option<(NodeId, LeaderEpoch)> {
        match &self.role {
            Role::Follower(follower) => Some((follower.leader(), follower.epoch())),
            Role::Idle | Role::Leader(_) | Role::Stopped => None,
        }
    }

    /// Its offsets.
    pub fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    /// Its leader epochs.
    pub fn epochs(&self) -> &LeaderEpochs {
        &self.epochs
    }

    /// Whether ticks have something to do: others may be spared them.
    pub fn wants_tick(&self) -> bool {
        self.leadership().is_some_and(|leader| leader.wants_tick(self.local.node))
    }

    /// Takes an event; what is to be done is added to `effects`.
    ///
    /// # Panics
    /// When the owner breaks its part of the contract, or the machine its own rules: going on could lose records.
    pub fn step(&mut self, event: Event, now: Time, effects: &mut Vec<Effect>) {
        let before = self.offsets;
        let first = effects.len();
        self.take(event, now, effects);
        self.offsets.check();
        let alarmed = effects[first..].iter().any(|effect| matches!(effect, Effect::Alarm(_)));
        if alarmed {
            self.stop(effects);
        }
        let cut = effects[first..]
            .iter()
            .any(|effect| matches!(effect, Effect::Truncate { .. } | Effect::StartAt { .. }));
        assert!(
            cut || self.offsets.high_watermark >= before.high_watermark,
            "the high watermark went back without a cut: {before:?} to {:?}",
            self.offsets
        );
    }

    fn take(&mut self, event: Event, now: Time, effects: &mut Vec<Effect>) {
        match event {
            Event::Assigned(assignment) => self.assigned(&assignment, now, effects),
            Event::Configured(settings) => {
                self.settings = settings;
                self.with_leader(now, effects, Leader::advance);
            }
            Event::Produce { token, records, acks, expected_epoch, deadline } => {
                self.produce(token, expected_epoch, now, effects, |leader, ground| {
                    leader.produce(token, records, acks, deadline, ground);
                });
            }
            Event::ProduceAgain { token, base, end, acks, deadline } => {
                let write = Waiting { token, base, end, deadline };
                self.produce(token, None, now, effects, |leader, ground| {
                    leader.produce_again(write, acks, ground)
                });
            }
            Event::Durable { up_to } => self.durable(up_to, now, effects),
            Event::StorageFailed => self.stop(effects),
            Event::FollowerSubscribed { token, subscription } => {
                if !self.with_leader(now, effects, |leader, ground| {
                    leader.subscribed(token, subscription, ground)
                }) {
                    let answer = SubscribeAnswer::Refused(self.not_leader());
                    effects.push(Effect::AnswerSubscription { token, answer });
                }
            }
            Event::FollowerProgress { node, broker_epoch, leader_epoch, log_end, durable_end } => {
                if self.leadership().is_some_and(|leader| leader.epoch() == leader_epoch) {
                    self.with_leader(now, effects, |leader, ground| {
                        leader.progress(node, broker_epoch, log_end, durable_end, ground);
                    });
                }
            }
            Event::IsrAnswered(outcome) => {
                self.with_leader(now, effects, |leader, ground| leader.isr_answered(&outcome, ground));
            }
            Event::DeleteRecords { token, before } => self.delete_records(token, before, effects),
            Event::LogStartMoved { to } => self.log_start_moved(to),
            Event::Tick => {
                self.with_leader(now, effects, Leader::tick);
            }
            from_leader => self.leader_says(from_leader, effects),
        }
    }

    fn leader_says(&mut self, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::LeaderData { leader_epoch, base, end, epochs, high_watermark, log_start } => {
                let data = Data { base, end, epochs };
                self.with_follower(leader_epoch, effects, |follower, ground| {
                    follower.data(&data, high_watermark, log_start, ground);
                });
            }
            Event::LeaderWatermark { leader_epoch, high_watermark, log_start } => {
                self.with_follower(leader_epoch, effects, |follower, ground| {
                    follower.watermark(high_watermark, log_start, ground);
                });
            }
            Event::LeaderDiverging { leader_epoch, epoch, end } => {
                self.with_follower(leader_epoch, effects, |follower, ground| {
                    follower.diverging(epoch, end, ground)
                });
            }
            Event::LeaderStartsAt { leader_epoch, offset } => {
                self.with_follower(leader_epoch, effects, |follower, ground| {
                    follower.start_at(offset, ground)
                });
            }
            Event::SubscriptionLost { leader_epoch } => {
                self.with_follower(leader_epoch, effects, Follower::subscribe);
            }
            other => unreachable!("{other:?} is no message of a leader"),
        }
    }

    fn assigned(&mut self, assignment: &Assignment, now: Time, effects: &mut Vec<Effect>) {
        let version = (assignment.leader_epoch, assignment.partition_epoch);
        if matches!(self.role, Role::Stopped) || self.seen.is_some_and(|seen| version < seen) {
            return;
        }
        let same_epoch = self.seen.is_some_and(|(epoch, _)| epoch == assignment.leader_epoch);
        self.seen = Some(version);
        if same_epoch {
            self.with_leader(now, effects, |leader, ground| leader.assigned(assignment, ground));
            return;
        }
        self.leave_role(ErrorCode::NotLeaderOrFollower, effects);
        match assignment.leader {
            Some(leader) if leader == self.local.node => self.lead(assignment, now, effects),
            Some(leader) => {
                self.role =
                    Role::Follower(Follower::new(leader, assignment.leader_epoch, assignment.recovery));
                effects.push(Effect::RoleChanged);
                self.with_follower(assignment.leader_epoch, effects, Follower::subscribe);
            }
            None => {
                self.role = Role::Idle;
                effects.push(Effect::RoleChanged);
            }
        }
    }

    /// A new leader notes where its epoch begins before it writes anything, so that followers can find where logs part.
    fn lead(&mut self, assignment: &Assignment, now: Time, effects: &mut Vec<Effect>) {
        let (epoch, start) = (assignment.leader_epoch, self.offsets.log_end);
        if let Err(error) = self.epochs.assign(epoch, start) {
            effects.push(Effect::Alarm(format!(
                "elected in epoch {epoch}, but the log is ahead of it: {error}"
            )));
            return;
        }
        effects.push(Effect::AssignEpoch { epoch, start });
        self.role = Role::Leader(Box::new(Leader::new(assignment, start, now)));
        effects.push(Effect::RoleChanged);
        self.with_leader(now, effects, Leader::advance);
    }

    fn leave_role(&mut self, code: ErrorCode, effects: &mut Vec<Effect>) {
        match &mut self.role {
            Role::Leader(leader) => leader.resign(code, effects),
            Role::Follower(_) => effects.push(Effect::Unsubscribe),
            Role::Idle | Role::Stopped => {}
        }
    }

    fn stop(&mut self, effects: &mut Vec<Effect>) {
        if !matches!(self.role, Role::Stopped) {
            self.leave_role(ErrorCode::KafkaStorageError, effects);
            self.role = Role::Stopped;
            effects.push(Effect::RoleChanged);
        }
    }

    fn produce(
        &mut self,
        token: Token,
        expected_epoch: Option<LeaderEpoch>,
        now: Time,
        effects: &mut Vec<Effect>,
        act: impl FnOnce(&mut Leader, &mut leader::Ground<'_>),
    ) {
        let refusal = match (self.leadership(), expected_epoch) {
            (None, _) => Some(self.not_leader()),
            (Some(leader), Some(expected)) if expected < leader.epoch() => Some(ErrorCode::FencedLeaderEpoch),
            (Some(leader), Some(expected)) if expected > leader.epoch() => {
                Some(ErrorCode::UnknownLeaderEpoch)
            }
            (Some(_), _) => None,
        };
        match refusal {
            Some(code) => effects.push(Effect::Ack { token, result: Err(code) }),
            None => {
                self.with_leader(now, effects, act);
            }
        }
    }

    fn not_leader(&self) -> ErrorCode {
        match self.role {
            Role::Stopped => ErrorCode::KafkaStorageError,
            Role::Idle | Role::Leader(_) | Role::Follower(_) => ErrorCode::NotLeaderOrFollower,
        }
    }

    fn durable(&mut self, up_to: Offset, now: Time, effects: &mut Vec<Effect>) {
        assert!(
            up_to <= self.offsets.log_end,
            "durable up to {up_to}, but the log ends at {}",
            self.offsets.log_end
        );
        self.offsets.durable_end = self.offsets.durable_end.max(up_to);
        match &self.role {
            Role::Follower(follower) => {
                effects.push(Effect::ReportProgress { leader_epoch: follower.epoch() })
            }
            Role::Leader(_) => {
                self.with_leader(now, effects, Leader::advance);
            }
            Role::Idle | Role::Stopped => {}
        }
    }

    fn delete_records(&mut self, token: Token, before: Option<Offset>, effects: &mut Vec<Effect>) {
        let to = before.unwrap_or(self.offsets.high_watermark);
        let result = if self.leadership().is_none() {
            Err(self.not_leader())
        } else if to > self.offsets.high_watermark {
            Err(ErrorCode::OffsetOutOfRange)
        } else {
            if to > self.offsets.log_start {
                self.log_start_moved(to);
                effects.push(Effect::AdvanceLogStart { to });
            }
            Ok(self.offsets.log_start)
        };
        effects.push(Effect::Deleted { token, result });
    }

    fn log_start_moved(&mut self, to: Offset) {
        assert!(
            to <= self.offsets.high_watermark,
            "retention passed the high watermark: {to}, {:?}",
            self.offsets
        );
        self.offsets.advance_start(to);
        self.epochs.advance_start(to);
    }

    /// Runs `act` on the leadership, if there is one; says whether there is.
    fn with_leader(
        &mut self,
        now: Time,
        effects: &mut Vec<Effect>,
        act: impl FnOnce(&mut Leader, &mut leader::Ground<'_>),
    ) -> bool {
        let Role::Leader(leader) = &mut self.role else { return false };
        let mut ground = leader::Ground {
            local: self.local,
            settings: self.settings,
            offsets: &mut self.offsets,
            epochs: &self.epochs,
            effects,
            now,
        };
        act(leader, &mut ground);
        true
    }

    /// Runs `act` on the follower if it follows in this very epoch: anything else is an echo.
    fn with_follower(
        &mut self,
        epoch: LeaderEpoch,
        effects: &mut Vec<Effect>,
        act: impl FnOnce(&Follower, &mut follower::Ground<'_>),
    ) {
        let Role::Follower(follower) = &self.role else { return };
        if follower.epoch() != epoch {
            return;
        }
        let mut ground = follower::Ground {
            durability: self.settings.durability,
            offsets: &mut self.offsets,
            epochs: &mut self.epochs,
            effects,
        };
        act(follower, &mut ground);
    }
}
