//! One time in office: what lives exactly as long as this controller is the active one of a term. Whoever holds a tenure that
//! is over can do no harm with it: its table of sessions is nobody's any more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use vltava_metadata::{BrokerState, Image};
use vltava_model::NodeId;

use crate::liveness::{Liveness, Patience, SessionId};

/// The most that one look at the clock can advance the table of sessions.
const STEP_MAX: Duration = Duration::from_millis(250);

/// The listener that every broker has.
const GRPC: &str = "GRPC";

/// One time in office.
#[derive(Debug)]
pub(crate) struct Tenure {
    /// The Raft term.
    pub term: u64,
    liveness: Mutex<Liveness>,
    clock: Mutex<Clock>,
    /// Somebody's time is up sooner than was to be expected.
    sooner: Notify,
    /// Where the brokers that are expected back listen.
    addresses: BTreeMap<NodeId, (String, u16)>,
}

/// Time as far as this process was there to see it: a process that stood still, or was starved, did not read the signs of
/// life that came meanwhile, and must not hold that against anybody.
#[derive(Debug)]
struct Clock {
    seen: Duration,
    looked: Instant,
}

/// The tenure that runs now, if this controller is active.
pub(crate) type CurrentTenure = watch::Receiver<Option<Arc<Tenure>>>;

impl Tenure {
    /// Begins: every broker that is not fenced has a full session to come back.
    pub(crate) fn begin(term: u64, patience: Patience, image: &Image) -> Self {
        let live = || image.brokers().filter(|broker| broker.state != BrokerState::Fenced);
        let addresses = live().filter_map(|broker| {
            let endpoint = broker.endpoint(GRPC)?;
            Some((broker.node_id, (endpoint.host.clone(), endpoint.port)))
        });
        let addresses = addresses.collect();
        let brokers = live().map(|broker| (broker.node_id, broker.incarnation));
        let liveness = Mutex::new(Liveness::new(patience, Duration::ZERO, brokers));
        let clock = Mutex::new(Clock { seen: Duration::ZERO, looked: Instant::now() });
        Self { term, liveness, clock, sooner: Notify::new(), addresses }
    }

    /// Where a broker that is expected back listens.
    pub(crate) fn address(&self, node: NodeId) -> Option<&(String, u16)> {
        self.addresses.get(&node)
    }

    /// The time of the table of sessions.
    pub(crate) fn now(&self) -> Duration {
        let clock = self.clock();
        clock.seen + clock.looked.elapsed().min(STEP_MAX)
    }

    /// Looks at the clock; to be done several times in [`STEP_MAX`].
    pub(crate) fn look_at_clock(&self) {
        let mut clock = self.clock();
        let now = Instant::now();
        let passed = now.duration_since(clock.looked);
        if passed > STEP_MAX {
            tracing::warn!(?passed, "this process stood still; brokers' sessions are prolonged by as much");
        }
        clock.seen += passed.min(STEP_MAX);
        clock.looked = now;
    }

    fn clock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long nobody's time is up, if nothing is heard of anybody; `None` when nobody is known.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let deadline = self.liveness().next_deadline()?;
        Some(deadline.saturating_sub(self.now()))
    }

    /// A session closed.
    pub(crate) fn disconnected(&self, node: NodeId, session: SessionId) {
        self.liveness().disconnected(node, session, self.now());
        self.sooner.notify_one();
    }

    /// Nothing listens any more where a broker should.
    pub(crate) fn vanished(&self, node: NodeId) {
        self.liveness().vanished(node, self.now());
        self.sooner.notify_one();
    }

    /// Waits until [`Self::next_deadline`] may have come nearer. For one task.
    pub(crate) async fn sooner(&self) {
        self.sooner.notified().await;
    }

    /// Who is alive. Hold it shortly, and never across an await.
    pub(crate) fn liveness(&self) -> MutexGuard<'_, Liveness> {
        self.liveness.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_that_nobody_saw_does_not_count() {
        let tenure = Tenure::begin(1, Patience::default(), &Image::empty());
        for _ in 0..4 {
            tokio::time::advance(Duration::from_millis(25)).await;
            tenure.look_at_clock();
        }
        assert_eq!(tenure.now(), Duration::from_millis(100));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(tenure.now(), Duration::from_millis(350));
        tenure.look_at_clock();
        assert_eq!(tenure.now(), Duration::from_millis(350));
    }
}
