//! A follower as its leader sees it: who it is, how far it has come, and when it last had everything.
//!
//! Only what was reported in the leader's own epoch, after the logs were found to agree, is in here (I5, B15).

use std::time::Duration;

use vltava_model::Offset;
use vltava_model::seeded::{SeededBug, seeded};

use crate::event::{Ability, Durability, ReplicaIdentity, StreamNumber, Token};
use crate::pace::Pace;
use crate::time::Time;

/// How far a follower's log agrees with the leader's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Progress {
    pub(crate) log_end: Offset,
    pub(crate) durable_end: Offset,
}

impl Progress {
    fn replicated(&self, durability: Durability) -> Offset {
        match durability {
            Durability::Synced if !seeded(SeededBug::AcksBeforeSync) => self.durable_end,
            Durability::Synced | Durability::Relaxed => self.log_end,
        }
    }
}

/// A log end that the leader had, for the follower to reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Mark {
    end: Offset,
    at: Time,
}

/// A follower that subscribed in this epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Known {
    identity: ReplicaIdentity,
    progress: Progress,
    mark: Mark,
    subscription: Option<Token>,
    /// The newest stream on which it subscribed.
    stream: StreamNumber,
}

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RemoteReplica {
    known: Option<Known>,
    /// When it last had all that the leader had. A member of the ISR at the election had all then.
    caught_up_at: Option<Time>,
    /// Whether it comes nearer. One without a subscription does not.
    pub(crate) pace: Pace,
    /// What it said last of itself.
    ability: Ability,
}

impl RemoteReplica {
    pub(crate) fn new(caught_up_at: Option<Time>, now: Time) -> Self {
        Self { known: None, caught_up_at, pace: Pace::new(now), ability: Ability::Able }
    }

    pub(crate) fn identity(&self) -> Option<ReplicaIdentity> {
        self.known.map(|known| known.identity)
    }

    pub(crate) fn progress(&self) -> Option<Progress> {
        self.known.map(|known| known.progress)
    }

    /// Whether it has subscribed on a later stream than this one.
    pub(crate) fn has_left(&self, identity: ReplicaIdentity, stream: StreamNumber) -> bool {
        self.known.is_some_and(|known| known.identity == identity && stream < known.stream)
    }

    /// The subscription that is alive.
    pub(crate) fn subscription(&self) -> Option<Token> {
        self.known.and_then(|known| known.subscription)
    }

    /// Up to where it counts; `None` when that is not known in this epoch.
    pub(crate) fn replicated(&self, durability: Durability) -> Option<Offset> {
        self.known.map(|known| known.progress.replicated(durability))
    }

    /// The logs agree. Another identity begins from nothing.
    pub(crate) fn subscribe(
        &mut self,
        identity: ReplicaIdentity,
        (stream, subscription): (StreamNumber, Token),
        leader_end: Offset,
        now: Time,
    ) {
        self.ability = Ability::Able;
        if let Some(known) = &mut self.known
            && known.identity == identity
        {
            (known.stream, known.subscription) = (stream, Some(subscription));
            return;
        }
        if self.known.is_some() {
            self.caught_up_at = None;
        }
        self.known = Some(Known {
            identity,
            progress: Progress { log_end: Offset::ZERO, durable_end: Offset::ZERO },
            mark: Mark { end: leader_end, at: now },
            subscription: Some(subscription),
            stream,
        });
        self.pace = Pace::new(now);
    }

    /// It says that it cannot follow. That holds until it subscribes: what a stream carries that broke may come later than
    /// what the next one does.
    pub(crate) fn suspended(&mut self) {
        self.ability = Ability::Hindered;
    }

    /// Whether it said that it cannot follow, and has not come back since.
    pub(crate) fn is_suspended(&self) -> bool {
        self.ability == Ability::Hindered && self.subscription().is_none()
    }

    /// A report; `false` when it is of an identity that did not subscribe. Within one identity and epoch a log only grows,
    /// so an older report that comes late says nothing.
    pub(crate) fn report(
        &mut self,
        identity: ReplicaIdentity,
        reported: Progress,
        durability: Durability,
        leader_end: Offset,
        now: Time,
    ) -> bool {
        let Some(known) = self.known.as_mut().filter(|known| known.identity == identity) else {
            return false;
        };
        let progress = &mut known.progress;
        let before = progress.replicated(durability);
        progress.log_end = progress.log_end.max(reported.log_end.min(leader_end));
        progress.durable_end = progress.durable_end.max(reported.durable_end.min(progress.log_end));
        let replicated = progress.replicated(durability);
        if replicated > before {
            self.pace = Pace::new(now);
        }
        if replicated >= leader_end {
            self.caught_up_at = Some(now);
            known.mark = Mark { end: leader_end, at: now };
        } else if replicated >= known.mark.end {
            self.caught_up_at = self.caught_up_at.max(Some(known.mark.at));
            known.mark = Mark { end: leader_end, at: now };
        }
        true
    }

    /// The leader's log grows now: who had all of it had all until now.
    pub(crate) fn leader_appends(
        &mut self,
        before: Offset,
        after: Offset,
        durability: Durability,
        now: Time,
    ) {
        if let Some(known) = &mut self.known
            && known.progress.replicated(durability) >= before
        {
            self.caught_up_at = Some(now);
            known.mark = Mark { end: after, at: now };
            if known.subscription.is_some() {
                self.pace = Pace::new(now);
            }
        }
    }

    /// Its subscription ended; what it has, it has.
    pub(crate) fn gone(
        &mut self,
        subscription: Token,
        durability: Durability,
        leader_end: Offset,
        now: Time,
    ) {
        if let Some(known) = &mut self.known
            && known.subscription == Some(subscription)
        {
            known.subscription = None;
            if known.progress.replicated(durability) >= leader_end {
                self.pace = Pace::new(now);
            }
        }
    }

    /// Its process ended: what it had may be gone (B10).
    pub(crate) fn forget(&mut self, now: Time) {
        *self = Self::new(None, now);
    }

    /// Whether it has all, or had all not long ago.
    pub(crate) fn is_caught_up(
        &self,
        durability: Durability,
        leader_end: Offset,
        now: Time,
        lag_time_max: Duration,
    ) -> bool {
        self.replicated(durability).is_some_and(|end| end >= leader_end)
            || self.caught_up_at.is_some_and(|at| now.since(at) <= lag_time_max)
    }

    /// When it will have lagged for too long, if it reports nothing more.
    pub(crate) fn lags_at(&self, lag_time_max: Duration) -> Option<Time> {
        // One step later than the last moment at which it is still in time.
        self.caught_up_at.map(|at| at.after(lag_time_max).after(Duration::from_nanos(1)))
    }
}
