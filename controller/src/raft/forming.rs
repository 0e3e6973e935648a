//! How a cluster forms at its first start, and what a controller without a Raft log does in a cluster that exists.
//!
//! There is no step that formats anything. Until its Raft log is initialised a controller asks all configured voters who
//! they are. Only when all answer, none is initialised and no two name different clusters, the one with the lowest node id
//! initialises the log with all of them; the others wait for it. Whoever is not among the voters of a cluster that exists
//! waits to be added, and one whose disk was wiped says what to run, but never votes as the one that it was.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use vltava_model::{ClusterId, DirectoryId};
use vltava_proto::v1::IdentifyResponse;
use vltava_raft_store::{VoterId, VoterNode};

use super::Raft;
use super::local::Local;
use super::peers::Peers;
use crate::options::ConfiguredVoter;

const ASK: Duration = Duration::from_secs(1);
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(1000);

/// What a controller without a Raft log does now.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    /// Ask again.
    Wait(String),
    /// Form the cluster of these voters.
    Initialise(BTreeMap<VoterId, VoterNode>),
    /// The cluster exists and this controller is not in it: wait to be added.
    Observe,
    /// The cluster knows this node with another disk.
    Replaced(DirectoryId),
}

/// Works until the Raft log is initialised, by this controller or by another.
///
/// `before_first_write` is called before anything is written by this controller's own doing; when it fails, nothing is.
pub(crate) async fn form(
    raft: Raft,
    local: Arc<Local>,
    peers: Peers,
    voters: Vec<ConfiguredVoter>,
    before_first_write: impl Fn() -> bool + Send,
) {
    let mut said = None;
    let mut pause = PAUSE_MIN;
    loop {
        match raft.is_initialized().await {
            Ok(false) => {}
            // Initialised, or stopped: nothing is left to do here.
            Ok(true) | Err(_) => return,
        }
        let others: Vec<_> = voters.iter().filter(|voter| voter.node != local.node()).cloned().collect();
        let addresses = others.iter().map(|voter| voter.address.clone()).collect();
        let answers = peers.identify_all(addresses, ASK).await;
        let plan = plan(&local, &voters, others.iter().zip(answers.iter().map(Option::as_ref)));
        if said.as_ref() != Some(&plan) {
            report(&local, &plan);
        }
        if let Plan::Initialise(members) = &plan
            && before_first_write()
        {
            // A failure means that another controller was faster, or that Raft stopped: both show in the next round.
            if let Err(error) = raft.initialize(members.clone()).await {
                tracing::info!(%error, "the cluster is not formed by this controller");
            }
            pause = PAUSE_MIN;
        }
        said = Some(plan);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn plan<'a>(
    local: &Local,
    voters: &[ConfiguredVoter],
    answers: impl Iterator<Item = (&'a ConfiguredVoter, Option<&'a IdentifyResponse>)>,
) -> Plan {
    let mut members = BTreeMap::new();
    let mut cluster = local.cluster();
    let mut waits = Vec::new();
    for (voter, answer) in answers {
        let Some(answer) = answer else {
            waits.push(format!("controller {} at {} does not answer", voter.node, voter.address));
            continue;
        };
        if let Some(plan) = existing(local, answer) {
            return plan;
        }
        if answer.node_id != voter.node.get() {
            waits.push(format!(
                "node {} answers at {}, not node {}",
                answer.node_id, voter.address, voter.node
            ));
        }
        match (cluster, ClusterId::from_slice(&answer.cluster_id)) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                waits.push(format!("controller {} wants cluster {theirs}, others {ours}", voter.node));
            }
            (known, theirs) => cluster = known.or(theirs),
        }
        match DirectoryId::from_slice(&answer.directory_id) {
            Some(directory) => {
                members.insert(VoterId::new(voter.node.get(), directory.get()), node(&voter.address));
            }
            None => waits.push(format!("controller {} has no directory id", voter.node)),
        }
    }
    let Some(me) = voters.iter().find(|voter| voter.node == local.node()) else {
        return Plan::Observe;
    };
    if !waits.is_empty() {
        return Plan::Wait(waits.join("; "));
    }
    members.insert(local.voter, node(&me.address));
    match voters.iter().map(|voter| voter.node).min() {
        Some(first) if first == local.node() => Plan::Initialise(members),
        first => Plan::Wait(format!("controller {} forms the cluster", first.unwrap_or_default())),
    }
}

/// What the answer of a controller of a cluster that exists means for this one.
fn existing(local: &Local, answer: &IdentifyResponse) -> Option<Plan> {
    if !answer.initialised {
        return None;
    }
    let ours = local.voter.directory.to_be_bytes();
    let mut own = answer.voters.iter().filter(|voter| voter.node_id == local.voter.node).peekable();
    if own.peek().is_none() {
        return Some(Plan::Observe);
    }
    let other = own.map(|voter| &voter.directory_id).filter(|directory| directory[..] != ours);
    match other.last().and_then(|directory| DirectoryId::from_slice(directory)) {
        Some(directory) => Some(Plan::Replaced(directory)),
        None => Some(Plan::Wait("the cluster is formed, its leader will call".into())),
    }
}

/// Which id a cluster gets that has none yet: the configured one of any voter, else a random one.
pub(crate) async fn choose_cluster(raft: &Raft, local: &Local, peers: &Peers) -> ClusterId {
    if let Some(configured) = local.configured_cluster {
        return configured;
    }
    let members = raft.metrics().borrow().membership_config.clone();
    let others = members.nodes().filter(|(voter, _)| **voter != local.voter);
    let addresses = others.map(|(_, node)| node.address.clone()).collect();
    let answers = peers.identify_all(addresses, ASK).await;
    let named = answers.into_iter().flatten().find_map(|answer| ClusterId::from_slice(&answer.cluster_id));
    named.unwrap_or_else(|| ClusterId::new(rand::rng().random()))
}

fn node(address: &str) -> VoterNode {
    VoterNode { address: address.to_owned() }
}

fn report(local: &Local, plan: &Plan) {
    let (id, address) = (local.node(), &local.address);
    match plan {
        Plan::Wait(why) => tracing::info!("the cluster is not formed yet: {why}"),
        Plan::Initialise(members) => tracing::info!(voters = ?members, "forming the cluster"),
        Plan::Observe => tracing::warn!(
            "this controller is no voter of its cluster; to make it one, run `vltava quorum add {id}@{address}`"
        ),
        Plan::Replaced(old) => tracing::error!(
            "this controller's metadata directory is new (directory id {}), but the cluster's voter {id} has directory \
             id {old}: the disk was wiped or replaced. It does not vote. Run `vltava quorum remove {id} --directory-id {old}`, \
             then `vltava quorum add {id}@{address}`",
            local.directory()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Published;
    use vltava_model::{IncarnationId, NodeId};
    use vltava_proto::v1::VoterIdentity;

    fn local(node: u32, cluster: Option<u128>) -> Local {
        Local {
            voter: VoterId::new(node, node.into()),
            incarnation: IncarnationId::new(1),
            address: format!("h{node}:1"),
            configured_cluster: cluster.map(ClusterId::new),
            published: Published::default(),
        }
    }

    fn voters() -> Vec<ConfiguredVoter> {
        (1..=3).map(|n| ConfiguredVoter { node: NodeId::new(n), address: format!("h{n}:1") }).collect()
    }

    fn answer(node: u32) -> IdentifyResponse {
        let directory_id = u128::from(node).to_be_bytes().to_vec().into();
        IdentifyResponse { node_id: node, directory_id, ..IdentifyResponse::default() }
    }

    fn formed(of: &[(u32, u128)]) -> IdentifyResponse {
        let voter = |(node_id, directory): &(u32, u128)| VoterIdentity {
            node_id: *node_id,
            directory_id: directory.to_be_bytes().to_vec().into(),
            address: String::new(),
        };
        IdentifyResponse { initialised: true, voters: of.iter().map(voter).collect(), ..answer(2) }
    }

    fn plan_of(local: &Local, answers: &[Option<IdentifyResponse>]) -> Plan {
        let voters = voters();
        let others: Vec<_> = voters.iter().filter(|voter| voter.node != local.node()).collect();
        plan(local, &voters, others.into_iter().zip(answers.iter().map(Option::as_ref)))
    }

    #[test]
    fn the_lowest_forms_the_cluster_when_all_are_new() {
        let Plan::Initialise(members) = plan_of(&local(1, None), &[Some(answer(2)), Some(answer(3))]) else {
            panic!("it must initialise");
        };
        let ids: Vec<_> = members.keys().copied().collect();
        assert_eq!(ids, [VoterId::new(1, 1), VoterId::new(2, 2), VoterId::new(3, 3)]);
        assert_eq!(members[&VoterId::new(2, 2)].address, "h2:1");
        let other = plan_of(&local(2, None), &[Some(answer(1)), Some(answer(3))]);
        assert!(matches!(other, Plan::Wait(_)), "{other:?}");
    }

    #[test]
    fn nothing_is_formed_while_anybody_is_missing_or_another() {
        for answers in [
            [Some(answer(2)), None],
            [Some(answer(2)), Some(answer(7))],
            [Some(answer(2)), Some(IdentifyResponse { directory_id: Default::default(), ..answer(3) })],
        ] {
            let plan = plan_of(&local(1, None), &answers);
            assert!(matches!(plan, Plan::Wait(_)), "{plan:?}");
        }
    }

    #[test]
    fn clusters_must_agree_where_they_are_named() {
        let named = |node, id: u128| IdentifyResponse {
            cluster_id: id.to_be_bytes().to_vec().into(),
            ..answer(node)
        };
        let agree = plan_of(&local(1, None), &[Some(named(2, 5)), Some(named(3, 5))]);
        assert!(matches!(agree, Plan::Initialise(_)), "{agree:?}");
        for (ours, answers) in [(Some(4), [named(2, 5), answer(3)]), (None, [named(2, 5), named(3, 6)])] {
            let plan = plan_of(&local(1, ours), &answers.map(Some));
            assert!(matches!(plan, Plan::Wait(_)), "{plan:?}");
        }
    }

    #[test]
    fn a_wiped_disk_never_forms_a_second_cluster() {
        let known = Some(formed(&[(1, 99), (2, 2), (3, 3)]));
        assert_eq!(
            plan_of(&local(1, None), &[known.clone(), Some(answer(3))]),
            Plan::Replaced(DirectoryId::new(99))
        );
        assert_eq!(plan_of(&local(1, None), &[Some(answer(2)), known]), Plan::Replaced(DirectoryId::new(99)));
        let without = Some(formed(&[(2, 2), (3, 3)]));
        assert_eq!(plan_of(&local(1, None), &[without, None]), Plan::Observe);
        let ours = plan_of(&local(1, None), &[Some(formed(&[(1, 1), (2, 2)])), None]);
        assert!(matches!(ours, Plan::Wait(_)), "{ours:?}");
    }
}
