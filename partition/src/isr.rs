//! The ISR as a leader knows it: what the controller has committed, and the one change that may be under way.
//!
//! It does not know who deserves to be in the ISR. Its duty is [`Isr::may_contain`]: nobody who might be a member already, by a
//! change whose outcome is not known, may be missed by the high watermark (B7).

use std::collections::BTreeSet;
use std::time::Duration;

use vltava_model::seeded::{SeededBug, seeded};
use vltava_model::{BrokerEpoch, ErrorCode, NodeId, PartitionEpoch};

use crate::event::{PartitionState, ProposalId};
use crate::time::Time;

/// The first pause before a refused or lost proposal is made again; it doubles each time.
const BACKOFF_MIN: Duration = Duration::from_millis(20);

/// The longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// A new ISR with the registrations that the leader saw.
pub(crate) type Members = Vec<(NodeId, BrokerEpoch)>;

/// What is known of the ISR.
#[derive(Debug)]
pub(crate) enum IsrState {
    /// The committed ISR is the ISR.
    Stable,
    /// The change would add members. They count already.
    Expanding(Change),
    /// The change would remove members. They still count.
    Shrinking(Change),
}

/// A change that is or may be under way.
#[derive(Debug)]
pub(crate) struct Change {
    wanted: Members,
    attempt: Attempt,
    /// When the last attempt was sent that was never answered: it may be executed yet.
    unanswered: Option<Time>,
}

#[derive(Debug)]
enum Attempt {
    Sent { proposal: ProposalId, at: Time },
    Paused { until: Time },
}

/// What to do with a change that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Failure {
    /// This attempt was not and will not be executed, and another makes no sense.
    Refused,
    /// This broker knows too little: committed metadata will tell. Proposing again does no harm and may be answered better.
    Outdated,
    /// Perhaps executed, perhaps not.
    Unknown,
}

fn class(code: ErrorCode) -> Failure {
    match code {
        ErrorCode::IneligibleReplica => Failure::Refused,
        ErrorCode::InvalidUpdateVersion
        | ErrorCode::FencedLeaderEpoch
        | ErrorCode::NewLeaderElected
        | ErrorCode::NotLeaderOrFollower
        | ErrorCode::InvalidRequest
        | ErrorCode::StaleBrokerEpoch
        | ErrorCode::UnknownTopicId
        | ErrorCode::UnknownTopicOrPartition => Failure::Outdated,
        _ => Failure::Unknown,
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Isr {
    epoch: PartitionEpoch,
    committed: BTreeSet<NodeId>,
    elr: BTreeSet<NodeId>,
    state: IsrState,
    failures: u32,
    quiet_until: Time,
}

impl Isr {
    pub(crate) fn new(state: &PartitionState, now: Time) -> Self {
        Self {
            epoch: state.partition_epoch,
            committed: state.isr.iter().copied().collect(),
            elr: state.elr.iter().copied().collect(),
            state: IsrState::Stable,
            failures: 0,
            quiet_until: now,
        }
    }

    /// The state of the partition on which everything here is based.
    pub(crate) fn epoch(&self) -> PartitionEpoch {
        self.epoch
    }

    pub(crate) fn committed(&self) -> &BTreeSet<NodeId> {
        &self.committed
    }

    /// Whether replicas outside the ISR may be elected, because nothing is committed without them.
    pub(crate) fn others_are_eligible(&self) -> bool {
        !self.elr.is_empty()
    }

    /// Whether a replica belongs to the maximal ISR: a member as committed, or by the change under way.
    pub(crate) fn may_contain(&self, node: NodeId) -> bool {
        let joins = match &self.state {
            IsrState::Expanding(_) if seeded(SeededBug::ForgetsJoiningMembers) => false,
            IsrState::Expanding(change) => change.wanted.iter().any(|(joining, _)| *joining == node),
            IsrState::Stable | IsrState::Shrinking(_) => false,
        };
        joins || self.committed.contains(&node)
    }

    /// Committed metadata. A newer partition epoch ends every change that was based on an older one, whatever became of it.
    pub(crate) fn commit(&mut self, state: &PartitionState, now: Time) {
        if state.partition_epoch > self.epoch {
            *self = Self::new(state, now);
        }
    }

    /// Whether a new change may be proposed.
    pub(crate) fn is_ready(&self, now: Time) -> bool {
        matches!(self.state, IsrState::Stable) && now >= self.quiet_until
    }

    /// Begins a change.
    pub(crate) fn begin(&mut self, wanted: Members, proposal: ProposalId, now: Time) {
        assert!(matches!(self.state, IsrState::Stable), "one change of the ISR at a time");
        let grows = wanted.iter().any(|(node, _)| !self.committed.contains(node));
        let change = Change { wanted, attempt: Attempt::Sent { proposal, at: now }, unanswered: None };
        self.state = if grows { IsrState::Expanding(change) } else { IsrState::Shrinking(change) };
    }

    fn change(&mut self) -> Option<&mut Change> {
        match &mut self.state {
            IsrState::Stable => None,
            IsrState::Expanding(change) | IsrState::Shrinking(change) => Some(change),
        }
    }

    /// Whether a change waits to be proposed again; then [`Self::retry`] says how. Takes note of an answer that does not
    /// come.
    pub(crate) fn retry_is_due(&mut self, now: Time, timeout: Duration) -> bool {
        let Some(change) = self.change() else { return false };
        match change.attempt {
            Attempt::Paused { until } => now >= until,
            Attempt::Sent { .. } if seeded(SeededBug::NeverProposesAgain) => false,
            Attempt::Sent { at, .. } if now.since(at) >= timeout => {
                change.unanswered = Some(at);
                change.attempt = Attempt::Paused { until: now };
                true
            }
            Attempt::Sent { .. } => false,
        }
    }

    /// Proposes the same change again.
    pub(crate) fn retry(&mut self, proposal: ProposalId, now: Time) -> Option<Members> {
        let change = self.change()?;
        change.attempt = Attempt::Sent { proposal, at: now };
        Some(change.wanted.clone())
    }

    /// A proposal was answered, but not by a newer state.
    ///
    /// A change is given up only when no attempt of it can be executed any more: one that was never answered may still sit
    /// in a controller's queue for `timeout`.
    pub(crate) fn failed(&mut self, answered: ProposalId, code: ErrorCode, now: Time, timeout: Duration) {
        let pause = backoff(self.failures);
        let Some(change) = self.change() else { return };
        let Attempt::Sent { proposal, at } = change.attempt else { return };
        if proposal != answered {
            return;
        }
        match class(code) {
            Failure::Refused
                if seeded(SeededBug::ForgetsUnansweredChange)
                    || change.unanswered.is_none_or(|sent| now.since(sent) >= timeout) =>
            {
                self.state = IsrState::Stable;
                self.quiet_until = now.after(pause);
            }
            Failure::Refused | Failure::Outdated => {
                change.attempt = Attempt::Paused { until: now.after(pause) };
            }
            Failure::Unknown => {
                change.unanswered = Some(at);
                change.attempt = Attempt::Paused { until: now.after(pause) };
            }
        }
        self.failures = self.failures.saturating_add(1);
    }

    /// When something is to be done even if nothing happens.
    pub(crate) fn next_tick(&self, timeout: Duration) -> Option<Time> {
        match &self.state {
            IsrState::Stable => None,
            IsrState::Expanding(change) | IsrState::Shrinking(change) => Some(match change.attempt {
                Attempt::Paused { until } => until,
                Attempt::Sent { at, .. } => at.after(timeout),
            }),
        }
    }

    /// Until when no new change is proposed.
    pub(crate) fn quiet_until(&self) -> Time {
        self.quiet_until
    }
}

fn backoff(failures: u32) -> Duration {
    BACKOFF_MIN.saturating_mul(1 << failures.min(10)).min(BACKOFF_MAX)
}
