//! Which broker processes are alive, from their sessions. Time is an argument: the time since any fixed moment, monotonic.
//! It knows no metadata and decides nothing: it says who is overdue.
//!
//! A session that closes gives its process a short grace to come back; one that falls silent has the session timeout. A
//! controller that becomes active begins with a full session for every broker, since it heard of none.

use std::collections::BTreeMap;
use std::time::Duration;

use vltava_model::{IncarnationId, NodeId};

/// How long silence is forgiven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// After a sign of life (`broker.session.timeout.ms`).
    pub session: Duration,
    /// After a session closed.
    pub closed: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { session: Duration::from_secs(3), closed: Duration::from_millis(150) }
    }
}

/// Names one session; a later one of the same broker is greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct SessionId(u64);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Link {
    /// Not heard of since this controller became active.
    Expected,
    Open(SessionId),
    Closed,
}

#[derive(Clone, Debug)]
struct Entry {
    incarnation: IncarnationId,
    link: Link,
    /// The last sign of life, on a link that is open.
    heard: Duration,
    deadline: Duration,
}

/// The sessions of all brokers.
#[derive(Clone, Debug, Default)]
pub struct Liveness {
    patience: Patience,
    brokers: BTreeMap<NodeId, Entry>,
    sessions: u64,
}

impl Liveness {
    /// The table of a controller that becomes active at `now`: every unfenced broker gets a full session.
    pub fn new(
        patience: Patience,
        now: Duration,
        brokers: impl IntoIterator<Item = (NodeId, IncarnationId)>,
    ) -> Self {
        let deadline = now + patience.session;
        let expected = |incarnation| Entry { incarnation, link: Link::Expected, heard: now, deadline };
        Self {
            patience,
            brokers: brokers.into_iter().map(|(node, process)| (node, expected(process))).collect(),
            sessions: 0,
        }
    }

    /// A process opened a session; older sessions of the broker mean nothing from now on.
    pub fn connected(&mut self, node: NodeId, incarnation: IncarnationId, now: Duration) -> SessionId {
        self.sessions += 1;
        let session = SessionId(self.sessions);
        let deadline = now + self.patience.session;
        self.brokers.insert(node, Entry { incarnation, link: Link::Open(session), heard: now, deadline });
        session
    }

    /// A sign of life; `false` when the session is not the broker's latest, and must end.
    #[must_use]
    pub fn heartbeat(&mut self, node: NodeId, session: SessionId, now: Duration) -> bool {
        let deadline = now + self.patience.session;
        match self.brokers.get_mut(&node) {
            Some(entry) if entry.link == Link::Open(session) => {
                entry.heard = now;
                entry.deadline = deadline.max(entry.deadline);
                true
            }
            _ => false,
        }
    }

    /// A session closed. Nothing happens when a later one is open.
    pub fn disconnected(&mut self, node: NodeId, session: SessionId, now: Duration) {
        let grace = now + self.patience.closed;
        if let Some(entry) = self.brokers.get_mut(&node)
            && entry.link == Link::Open(session)
        {
            entry.link = Link::Closed;
            entry.deadline = grace.min(entry.deadline);
        }
    }

    /// Brokers that were not heard of since this controller became active.
    pub fn expected(&self) -> impl Iterator<Item = NodeId> {
        self.brokers.iter().filter(|(_, entry)| entry.link == Link::Expected).map(|(node, _)| *node)
    }

    /// Nothing listens any more where a broker that is still expected should: its process is gone, as if its session had
    /// closed.
    pub fn vanished(&mut self, node: NodeId, now: Duration) {
        let grace = now + self.patience.closed;
        if let Some(entry) = self.brokers.get_mut(&node)
            && entry.link == Link::Expected
        {
            entry.link = Link::Closed;
            entry.deadline = grace.min(entry.deadline);
        }
    }

    /// The process whose session is open and not overdue.
    pub fn connected_process(&self, node: NodeId, now: Duration) -> Option<IncarnationId> {
        let entry = self.brokers.get(&node)?;
        let lives = matches!(entry.link, Link::Open(_)) && now < entry.deadline;
        lives.then_some(entry.incarnation)
    }

    /// Whether a broker gave a sign of life within the last half of a session: one that is gone without a word is told from
    /// one that lives before its time is up.
    pub fn is_heard(&self, node: NodeId, now: Duration) -> bool {
        let is_recent = |entry: &Entry| {
            matches!(entry.link, Link::Open(_))
                && now.saturating_sub(entry.heard) <= self.patience.session / 2
        };
        self.brokers.get(&node).is_some_and(is_recent)
    }

    /// Brokers whose time is up, to be fenced. They stay in the table until [`Self::forget`].
    pub fn overdue(&self, now: Duration) -> impl Iterator<Item = NodeId> {
        self.brokers.iter().filter(move |(_, entry)| entry.deadline <= now).map(|(node, _)| *node)
    }

    /// When [`Self::overdue`] may name somebody, if nothing else happens.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.brokers.values().map(|entry| entry.deadline).min()
    }

    /// Drops a broker that was fenced or unregistered. A session of its that is still open must end: its next heartbeat is
    /// refused.
    pub fn forget(&mut self, node: NodeId) {
        self.brokers.remove(&node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId::new(1);
    const PROCESS: IncarnationId = IncarnationId::new(7);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn one_that_vanished_before_it_was_heard_of_is_not_waited_for() {
        let patience = Patience { session: ms(3000), closed: ms(150) };
        let mut table = Liveness::new(patience, ms(0), [(NODE, PROCESS)]);
        assert_eq!(table.expected().collect::<Vec<_>>(), [NODE]);
        table.vanished(NODE, ms(100));
        assert_eq!(overdue(&table, 249), []);
        assert_eq!(overdue(&table, 250), [NODE]);
        table.connected(NODE, PROCESS, ms(260));
        table.vanished(NODE, ms(270));
        assert_eq!(overdue(&table, 500), [], "one that is connected has not vanished");
    }

    fn overdue(table: &Liveness, at: u64) -> Vec<NodeId> {
        table.overdue(ms(at)).collect()
    }

    #[test]
    fn everybody_gets_a_full_session_from_a_new_controller() {
        let table = Liveness::new(Patience::default(), ms(1_000), [(NODE, PROCESS)]);
        assert_eq!(overdue(&table, 3_999), []);
        assert_eq!(overdue(&table, 4_000), [NODE]);
        assert_eq!(table.next_deadline(), Some(ms(4_000)));
        assert_eq!(table.connected_process(NODE, ms(1_001)), None, "it was not heard of yet");
    }

    #[test]
    fn a_silent_session_is_overdue_and_a_heartbeat_prolongs_it() {
        let mut table = Liveness::default();
        let session = table.connected(NODE, PROCESS, ms(0));
        assert!(table.heartbeat(NODE, session, ms(2_000)));
        assert_eq!(overdue(&table, 4_999), []);
        assert_eq!(table.connected_process(NODE, ms(4_999)), Some(PROCESS));
        assert_eq!(overdue(&table, 5_000), [NODE]);
        assert_eq!(table.connected_process(NODE, ms(5_000)), None);
        table.forget(NODE);
        assert_eq!(overdue(&table, 5_000), []);
        assert!(!table.heartbeat(NODE, session, ms(5_001)), "a fenced broker must register anew");
    }

    #[test]
    fn one_is_heard_while_it_gave_a_sign_of_life_lately() {
        let mut table = Liveness::new(Patience::default(), ms(0), [(NODE, PROCESS)]);
        assert!(!table.is_heard(NODE, ms(1)), "it is expected, not heard");
        let session = table.connected(NODE, PROCESS, ms(100));
        assert!(table.is_heard(NODE, ms(1_600)));
        assert!(!table.is_heard(NODE, ms(1_601)));
        assert!(table.heartbeat(NODE, session, ms(2_000)));
        assert!(table.is_heard(NODE, ms(3_500)));
        table.disconnected(NODE, session, ms(2_100));
        assert!(!table.is_heard(NODE, ms(2_100)));
        assert!(!table.is_heard(NodeId::new(2), ms(2_100)));
    }

    #[test]
    fn a_closed_session_leaves_a_short_grace() {
        let mut table = Liveness::default();
        let session = table.connected(NODE, PROCESS, ms(0));
        table.disconnected(NODE, session, ms(100));
        assert_eq!(table.connected_process(NODE, ms(100)), None);
        assert_eq!(overdue(&table, 249), []);
        assert_eq!(overdue(&table, 250), [NODE]);
        let again = table.connected(NODE, PROCESS, ms(200));
        assert_eq!(overdue(&table, 250), []);
        table.disconnected(NODE, session, ms(300));
        assert_eq!(overdue(&table, 1_000), [], "the end of an older session means nothing");
        assert!(!table.heartbeat(NODE, session, ms(400)));
        assert!(table.heartbeat(NODE, again, ms(400)));
    }

    #[test]
    fn closing_never_prolongs() {
        let mut table = Liveness::default();
        let session = table.connected(NODE, PROCESS, ms(0));
        table.disconnected(NODE, session, ms(2_950));
        assert_eq!(overdue(&table, 3_000), [NODE]);
    }
}
