//! A leader that is silent: when to ask others whether it still leads, whom, and whether what they say counts.
//!
//! A connection to a machine that is cut off says nothing until its keep-alive runs out, ten seconds later; others know after
//! three. Pure: time, addresses and answers are arguments.

use std::time::Duration;

use tokio::time::Instant;
use vltava_model::{LeaderEpoch, NodeId};
use vltava_proto::v1::TopicMetadata;

/// Silence of a leader that owes an answer: others are asked when it has lasted so long, and again after as much more.
pub(crate) const LATE: Duration = Duration::from_secs(1);

/// How many others are asked at once, at most: each of them may be cut off together with the leader.
pub(crate) const WITNESSES: usize = 2;

/// A leader owes an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Silence {
    since: Instant,
    ask_at: Instant,
    late: Duration,
}

impl Silence {
    /// It begins to owe one; others are asked when it is `late`.
    pub(crate) fn begins(now: Instant, late: Duration) -> Self {
        Self { since: now, ask_at: now + late, late }
    }

    /// It answered, and may owe another answer.
    pub(crate) fn broken(&mut self, now: Instant) {
        *self = Self::begins(now, self.late);
    }

    /// When others are to be asked, whatever else happens until then.
    pub(crate) fn ask_at(&self) -> Instant {
        self.ask_at
    }

    /// They were asked, and know of no other leader.
    pub(crate) fn asked(&mut self, now: Instant) {
        self.ask_at = now + self.late;
    }

    /// How long it has lasted.
    pub(crate) fn lasts(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }
}

/// Whom to ask about a leader: others than itself, which may be the only one that does not know, and not the same ones each
/// `turn`.
pub(crate) fn witnesses(addresses: &[String], leader: Option<&str>, turn: usize, most: usize) -> Vec<String> {
    let others: Vec<&String> = addresses.iter().filter(|address| Some(address.as_str()) != leader).collect();
    let begin = turn.checked_rem(others.len()).unwrap_or(0);
    others.iter().cycle().skip(begin).take(others.len().min(most)).map(|address| (*address).clone()).collect()
}

/// The leader that a partition has by these metadata, if it was elected after the one that is known. Who still names the known
/// one, or one before it, has only not heard.
pub(crate) fn successor(
    topic: &TopicMetadata,
    partition: u32,
    known: (NodeId, LeaderEpoch),
) -> Option<(NodeId, LeaderEpoch)> {
    let found = topic.partitions.iter().find(|found| found.partition == partition)?;
    let now = (NodeId::new(found.leader?), LeaderEpoch::new(found.leader_epoch));
    (now.1 > known.1).then_some(now)
}

#[cfg(test)]
mod tests {
    use vltava_proto::v1::PartitionMetadata;

    use super::*;

    #[tokio::test]
    async fn a_silence_is_asked_about_each_second_whatever_else_happens() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut silence = Silence::begins(start, LATE);
        assert_eq!(silence.ask_at(), at(1000));
        silence.asked(at(1040));
        assert_eq!((silence.ask_at(), silence.lasts(at(1040))), (at(2040), Duration::from_millis(1040)));
        silence.broken(at(1500));
        assert_eq!((silence.ask_at(), silence.lasts(at(1600))), (at(2500), Duration::from_millis(100)));
    }

    #[test]
    fn others_are_asked_in_turns_and_never_the_leader_itself() {
        let all: Vec<String> = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
        assert_eq!(witnesses(&all, Some("b"), 0, 2), ["a", "c"]);
        assert_eq!(witnesses(&all, Some("b"), 1, 2), ["c", "d"]);
        assert_eq!(witnesses(&all, Some("b"), 2, 2), ["d", "a"]);
        assert_eq!(witnesses(&all, None, 7, 9), ["d", "a", "b", "c"]);
        assert!(witnesses(&all[..1], Some("a"), 3, 2).is_empty());
    }

    #[test]
    fn only_a_later_leader_is_a_successor() {
        let named = |leader, leader_epoch| TopicMetadata {
            partitions: vec![PartitionMetadata { partition: 4, leader, leader_epoch, ..Default::default() }],
            ..TopicMetadata::default()
        };
        let known = (NodeId::new(1), LeaderEpoch::new(7));
        assert_eq!(successor(&named(Some(1), 7), 4, known), None);
        assert_eq!(successor(&named(Some(2), 6), 4, known), None, "one that is older than what is known");
        assert_eq!(successor(&named(None, 8), 4, known), None, "nobody leads now");
        assert_eq!(successor(&named(Some(2), 8), 5, known), None, "another partition");
        let elected_again = Some((NodeId::new(1), LeaderEpoch::new(8)));
        assert_eq!(successor(&named(Some(1), 8), 4, known), elected_again);
    }
}
