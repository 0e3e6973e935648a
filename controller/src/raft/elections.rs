//! When this controller stands for election.
//!
//! openraft's own timer is off. Here a voter stands when the leader's lease has run out (the election timeout, counted from
//! its last sign of life: nobody votes against a leader before) and, on top of it, another half to whole timeout; at once
//! where the connection to the leader broke and can not be made again, since then its process is gone. Before it stands, it
//! asks the others whether they hear a leader, and where their logs end (what Raft calls a pre-vote): one that was cut off
//! alone can not raise the term, and so does not unseat a leader when it is back; and one whose log is behind does not take
//! votes, its own too, from one that can be elected.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::ServerState;
use rand::RngExt;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use vltava_proto::v1::IdentifyResponse;
use vltava_raft_store::{Position, VoterId};

use super::local::Local;
use super::peers::Peers;
use super::{Metrics, Raft, last_log, network};

/// How often a broken connection to the leader is tried again.
const RECONNECT: Duration = Duration::from_millis(100);

/// What is known of the connection to a leader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Link {
    /// Nothing.
    Unknown,
    /// It stands, in this term.
    Up(u64),
    /// It broke, or could not be made: the leader of this term has no process.
    Down(u64),
}

/// Stands for election whenever it is time to, until Raft stops.
pub(crate) async fn stand(
    raft: Raft,
    local: Arc<Local>,
    peers: Peers,
    election_timeout: Duration,
    mut link: watch::Receiver<Link>,
) {
    let step = (election_timeout / 40).max(Duration::from_millis(5));
    // What else may bring the moment nearer, such as another one's candidacy, is noticed this late at most: nobody stands sooner
    // after that.
    let step_max = (election_timeout / 2).max(step);
    let mut patience = draw(election_timeout);
    let mut pause = step;
    loop {
        wait_for_news(pause, &mut link).await;
        pause = step;
        let seen = raft.metrics().borrow().clone();
        if seen.running_state.is_err() {
            return;
        }
        let voters = seen.membership_config.membership().get_joint_config().clone();
        let votes = voters.iter().any(|config| config.contains(&local.voter));
        if !votes {
            continue;
        }
        if seen.state == ServerState::Leader {
            pause = step_max;
            continue;
        }
        let Ok(touched) =
            raft.with_raft_state(|state| (state.vote_last_modified(), state.vote_ref().is_committed())).await
        else {
            return;
        };
        let alone = voters.iter().all(|config| config.len() == 1);
        let down = *link.borrow() == Link::Down(seen.current_term);
        let lease = if touched.1 { election_timeout } else { Duration::ZERO };
        let wait = match (alone, down) {
            (true, _) => Duration::ZERO,
            (false, true) => lease + election_timeout / 10 * rank(&local, &seen, &voters),
            (false, false) => lease + patience,
        };
        if let Some(silent) = touched.0.map(|at| at.elapsed()).filter(|silent| *silent <= wait) {
            pause = (wait - silent).clamp(step, step_max);
            continue;
        }
        if !alone && !others_agree(&raft, &local, &peers, &seen, &voters, election_timeout).await {
            continue;
        }
        // Asking took its time. Who was heard of or given the vote meanwhile must not be unseated for what was so before.
        match raft.with_raft_state(|state| state.vote_last_modified()).await {
            Ok(again) if again == touched.0 => {}
            Ok(_) => continue,
            Err(_) => return,
        }
        patience = draw(election_timeout);
        tracing::info!(term = seen.current_term, leader_link_down = down, "standing for election");
        if raft.trigger().elect().await.is_err() {
            return;
        }
    }
}

/// Waits for so long, or until something is heard of the connection to the leader.
async fn wait_for_news(pause: Duration, link: &mut watch::Receiver<Link>) {
    let news = async {
        if link.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    // Either way it is time to look again.
    let _ = tokio::time::timeout(pause, news).await;
}

/// How many voters besides the lost leader stand before this one, so that they do not split the votes.
fn rank(local: &Local, seen: &Metrics, voters: &[BTreeSet<VoterId>]) -> u32 {
    let before =
        voters.iter().flatten().filter(|other| **other < local.voter && Some(**other) != seen.current_leader);
    u32::try_from(before.collect::<BTreeSet<_>>().len()).unwrap_or(u32::MAX)
}

/// Half to all of the timeout.
fn draw(election_timeout: Duration) -> Duration {
    election_timeout.mul_f64(rand::rng().random_range(0.5..1.0))
}

/// Whether a quorum, with this controller, hears no leader and has no entry that this controller lacks.
async fn others_agree(
    raft: &Raft,
    local: &Local,
    peers: &Peers,
    seen: &Metrics,
    voters: &[BTreeSet<VoterId>],
    election_timeout: Duration,
) -> bool {
    let Ok(own) = last_log(raft).await else { return false };
    let others: Vec<VoterId> =
        voters.iter().flatten().copied().filter(|voter| *voter != local.voter).collect();
    let address = |voter: &VoterId| {
        seen.membership_config
            .membership()
            .get_node(voter)
            .map(|node| node.address.clone())
            .unwrap_or_default()
    };
    let mut asked = JoinSet::new();
    for voter in others {
        let (peers, address) = (peers.clone(), address(&voter));
        asked.spawn(async move { (voter, peers.identify(&address, election_timeout / 4).await) });
    }
    let mut agree = BTreeSet::from([local.voter]);
    // Whoever does not answer is not waited for once enough have.
    while !is_quorum(voters, &agree) {
        let Some(answer) = asked.join_next().await else { return false };
        let Ok((voter, Ok(answer))) = answer else { continue };
        let is_it = answer.node_id == voter.node && answer.directory_id == voter.directory.to_be_bytes()[..];
        if is_it && would_vote(&answer, own) {
            agree.insert(voter);
        }
    }
    true
}

/// Whether one that answers so hears no leader and has nothing that a log which ends at `own` lacks (Raft §5.4.1).
fn would_vote(answer: &IdentifyResponse, own: Option<Position>) -> bool {
    let theirs = answer.last_log.as_ref().map(|last| Position { term: last.term, index: last.index });
    answer.leader_id.is_none() && theirs <= own
}

fn is_quorum(voters: &[BTreeSet<VoterId>], of: &BTreeSet<VoterId>) -> bool {
    voters.iter().all(|config| config.intersection(of).count() > config.len() / 2)
}

/// Watches the connection to the leader, whoever that is, until Raft stops.
pub(crate) async fn watch_leader(raft: Raft, local: Arc<Local>, link: watch::Sender<Link>) {
    let mut metrics = raft.metrics();
    loop {
        let seen = metrics.borrow_and_update().clone();
        let leader = seen.current_leader.filter(|leader| *leader != local.voter);
        let address = leader
            .and_then(|leader| seen.membership_config.membership().get_node(&leader))
            .map(|node| node.address.clone());
        let Some(address) = address else {
            tell(&link, Link::Unknown);
            if metrics.changed().await.is_err() {
                return;
            }
            continue;
        };
        let term = seen.current_term;
        let other = metrics.wait_for(|now| {
            now.current_term != term || now.current_leader != leader || now.running_state.is_err()
        });
        tokio::select! {
            over = other => match over {
                Ok(now) if now.running_state.is_ok() => {}
                _ => return,
            },
            () = hold(&address, term, &link) => {}
        }
    }
}

/// Says what is known now, if it is news: whoever is woken looks at Raft, which counts as a change of Raft's metrics, which
/// brings this about again.
fn tell(link: &watch::Sender<Link>, known: Link) {
    link.send_if_modified(|before| std::mem::replace(before, known) != known);
}

/// Holds a connection to the leader of a term, again and again.
async fn hold(address: &str, term: u64, link: &watch::Sender<Link>) {
    loop {
        let began = Instant::now();
        if let Ok(channel) = network::channel(address) {
            let request = HealthCheckRequest { service: String::new() };
            if let Ok(answer) = HealthClient::new(channel).watch(request).await {
                let mut answer = answer.into_inner();
                tell(link, Link::Up(term));
                while let Ok(Some(_)) = answer.message().await {}
            }
        }
        tell(link, Link::Down(term));
        tokio::time::sleep(RECONNECT.saturating_sub(began.elapsed())).await;
    }
}

#[cfg(test)]
mod tests {
    use vltava_proto::v1::RaftPosition;

    use super::*;

    #[test]
    fn only_news_of_the_connection_wakes_anybody() {
        let (link, mut seen) = watch::channel(Link::Unknown);
        for (known, is_news) in
            [(Link::Unknown, false), (Link::Up(1), true), (Link::Up(1), false), (Link::Down(1), true)]
        {
            tell(&link, known);
            assert_eq!(seen.has_changed().ok(), Some(is_news), "{known:?}");
            assert_eq!(*seen.borrow_and_update(), known);
        }
    }

    #[test]
    fn nobody_would_vote_for_one_whose_log_is_behind_or_beside_a_leader() {
        let own = Some(Position { term: 2, index: 7 });
        let answer = |leader_id, last: Option<(u64, u64)>| IdentifyResponse {
            leader_id,
            last_log: last.map(|(term, index)| RaftPosition { term, index }),
            ..IdentifyResponse::default()
        };
        for (last, would) in [
            (None, true),
            (Some((2, 7)), true),
            (Some((2, 6)), true),
            (Some((1, 9)), true),
            (Some((2, 8)), false),
            (Some((3, 1)), false),
        ] {
            assert_eq!(would_vote(&answer(None, last), own), would, "{last:?}");
            assert!(!would_vote(&answer(Some(1), last), own), "{last:?}");
        }
        assert!(!would_vote(&answer(None, Some((0, 0))), None));
    }

    #[test]
    fn a_quorum_needs_a_majority_of_every_configuration() {
        let set = |nodes: &[u32]| nodes.iter().map(|n| VoterId::new(*n, 1)).collect::<BTreeSet<_>>();
        let three = [set(&[1, 2, 3])];
        assert!(!is_quorum(&three, &set(&[1])));
        assert!(is_quorum(&three, &set(&[1, 3])));
        let joint = [set(&[1, 2, 3]), set(&[3, 4, 5])];
        assert!(!is_quorum(&joint, &set(&[1, 2, 3])));
        assert!(is_quorum(&joint, &set(&[1, 3, 4])));
        assert!(!is_quorum(&[set(&[1, 2])], &set(&[1])));
    }
}
