//! One time in office: what lives exactly as long as this controller is the active one of a term. Whoever holds a tenure that
//! is over can do no harm with it: its table of sessions is nobody's any more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use vltava_metadata::{BrokerState, Image};

use crate::liveness::{Liveness, Patience};

/// One time in office.
#[derive(Debug)]
pub(crate) struct Tenure {
    /// The Raft term.
    pub term: u64,
    began: Instant,
    liveness: Mutex<Liveness>,
}

/// The tenure that runs now, if this controller is active.
pub(crate) type CurrentTenure = watch::Receiver<Option<Arc<Tenure>>>;

impl Tenure {
    /// Begins: every broker that is not fenced has a full session to come back.
    pub(crate) fn begin(term: u64, patience: Patience, image: &Image) -> Self {
        let live = image.brokers().filter(|broker| broker.state != BrokerState::Fenced);
        let brokers = live.map(|broker| (broker.node_id, broker.incarnation));
        let liveness = Mutex::new(Liveness::new(patience, Duration::ZERO, brokers));
        Self { term, began: Instant::now(), liveness }
    }

    /// The time of the table of sessions.
    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Who is alive. Hold it shortly, and never across an await.
    pub(crate) fn liveness(&self) -> MutexGuard<'_, Liveness> {
        self.liveness.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
