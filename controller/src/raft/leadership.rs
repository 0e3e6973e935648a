//! Who leads, as far as this controller may believe it.
//!
//! openraft's leader goes on calling itself that while it is cut off from its quorum. Here it leads only while a quorum
//! answered it within the election timeout and it has applied everything of its term; and a follower names a leader only
//! while it hears of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::ServerState;
use openraft::error::Fatal;
use tokio::sync::watch;
use tokio::time::Instant;
use vltava_model::NodeId;

use super::{Metrics, Raft};

/// Who leads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Leadership {
    /// Nobody that this controller has heard of lately.
    Unknown,
    /// Another controller.
    Following {
        /// Its number.
        leader: NodeId,
        /// `HOST:PORT`.
        address: String,
    },
    /// This one, with a quorum behind it and everything applied.
    Leading,
}

/// Who leads in which term.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Situation {
    /// The Raft term.
    pub term: u64,
    /// Who leads.
    pub leadership: Leadership,
}

impl Situation {
    /// The leader's number, if there is one; `me` is this controller.
    pub(crate) fn leader(&self, me: NodeId) -> Option<NodeId> {
        match &self.leadership {
            Leadership::Unknown => None,
            Leadership::Following { leader, .. } => Some(*leader),
            Leadership::Leading => Some(me),
        }
    }

    /// Whether this controller leads in `term`.
    pub(crate) fn leads_in(&self, term: u64) -> bool {
        self.term == term && self.leadership == Leadership::Leading
    }
}

/// When the leader was heard of last; told by the server side of Raft.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    start: Instant,
    /// Milliseconds since the start, plus one; 0 is never.
    last: Arc<AtomicU64>,
}

impl Default for Heard {
    fn default() -> Self {
        Self { start: Instant::now(), last: Arc::default() }
    }
}

impl Heard {
    /// It was heard of now.
    pub(crate) fn now(&self) {
        let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.last.store(elapsed + 1, Ordering::Release);
    }

    /// Whether it was heard of within that time.
    pub(crate) fn within(&self, time: Duration) -> bool {
        self.is_within_for(time) > Duration::ZERO
    }

    /// How long it will have been heard of within that time, if it is not heard of again.
    fn is_within_for(&self, time: Duration) -> Duration {
        match self.last.load(Ordering::Acquire) {
            0 => Duration::ZERO,
            last => (Duration::from_millis(last) + time).saturating_sub(self.start.elapsed()),
        }
    }
}

/// Keeps the situation up to date until Raft stops; returns why it stopped, or `None` when it was asked to.
pub(crate) async fn observe(
    raft: Raft,
    heard: Heard,
    election_timeout: Duration,
    situation: watch::Sender<Situation>,
) -> Option<String> {
    let mut metrics = raft.metrics();
    let mut confirmed = None;
    let step = Duration::from_millis(5);
    let (mut seen, mut seen_at) = (metrics.borrow_and_update().clone(), Instant::now());
    let ended = loop {
        if let Err(fatal) = &seen.running_state {
            break (*fatal != Fatal::Stopped).then(|| fatal.to_string());
        }
        let leadership = judge(&raft, &seen, seen_at, &heard, election_timeout, &mut confirmed).await;
        let holds_for = match leadership {
            Leadership::Unknown => election_timeout / 10,
            Leadership::Following { .. } => heard.is_within_for(election_timeout),
            Leadership::Leading => {
                election_timeout.saturating_sub(quorum_age(&seen, seen_at).unwrap_or_default())
            }
        };
        let now = Situation { term: seen.current_term, leadership };
        situation.send_if_modified(|before| {
            let changed = *before != now;
            if changed {
                tracing::info!(term = now.term, leadership = ?now.leadership, "the quorum's leadership changed");
                *before = now;
            }
            changed
        });
        // The figures age without a change: a stuck Raft sends none.
        match tokio::time::timeout(holds_for.max(step), metrics.changed()).await {
            Ok(Ok(())) => (seen, seen_at) = (metrics.borrow_and_update().clone(), Instant::now()),
            Err(_) => {}
            Ok(Err(_)) => {
                let state = metrics.borrow().running_state.clone();
                break (state != Err(Fatal::Stopped)).then(|| "Raft's task is gone".to_owned());
            }
        }
    };
    situation.send_modify(|situation| situation.leadership = Leadership::Unknown);
    ended
}

async fn judge(
    raft: &Raft,
    seen: &Metrics,
    seen_at: Instant,
    heard: &Heard,
    election_timeout: Duration,
    confirmed: &mut Option<u64>,
) -> Leadership {
    if seen.state != ServerState::Leader {
        *confirmed = None;
        return follow(seen, heard, election_timeout);
    }
    if quorum_age(seen, seen_at).is_none_or(|age| age >= election_timeout) {
        *confirmed = None;
        return Leadership::Unknown;
    }
    if *confirmed != Some(seen.current_term) {
        let confirmation = tokio::time::timeout(election_timeout, confirm(raft)).await;
        if confirmation != Ok(true) {
            return Leadership::Unknown;
        }
        *confirmed = Some(seen.current_term);
    }
    Leadership::Leading
}

/// How long ago a quorum answered this leader; `None` when none did yet.
fn quorum_age(seen: &Metrics, seen_at: Instant) -> Option<Duration> {
    seen.millis_since_quorum_ack.map(|age| Duration::from_millis(age) + seen_at.elapsed())
}

/// Waits until a quorum confirms this leader and it has applied all that its log holds: the entries of its predecessors,
/// and those of its own whose fate it did not wait for.
async fn confirm(raft: &Raft) -> bool {
    if raft.ensure_linearizable().await.is_err() {
        return false;
    }
    let last = raft.metrics().borrow().last_log_index;
    raft.wait(None).applied_index_at_least(last, "take office").await.is_ok()
}

fn follow(seen: &Metrics, heard: &Heard, election_timeout: Duration) -> Leadership {
    let Some(leader) = seen.current_leader.filter(|leader| *leader != seen.id) else {
        return Leadership::Unknown;
    };
    match seen.membership_config.membership().get_node(&leader) {
        Some(node) if heard.within(election_timeout) => {
            Leadership::Following { leader: NodeId::new(leader.node), address: node.address.clone() }
        }
        _ => Leadership::Unknown,
    }
}
