//! A controller without a vote follows the quorum: it asks the active controller for it, again whenever it hears of none.
//!
//! So a controller whose vote was taken goes on serving what it knows, and a new one is close to the end of the log before it
//! is given a vote. Whether it may vote is decided elsewhere.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::watch;
use vltava_proto::v1::IdentifyResponse;

use super::Raft;
use super::leadership::{Leadership, Situation};
use super::local::Local;
use super::peers::Peers;
use crate::options::ConfiguredVoter;

/// How often it is looked whether somebody is heard.
const LOOK: Duration = Duration::from_secs(1);
/// How many looks in a row must have found nobody: a voter of a quorum between two leaders asks nothing.
const QUIET: u32 = 3;
const ASK: Duration = Duration::from_secs(1);

/// Works until Raft stops.
pub(crate) async fn observe(
    raft: Raft,
    local: std::sync::Arc<Local>,
    peers: Peers,
    voters: Vec<ConfiguredVoter>,
    situation: watch::Receiver<Situation>,
) {
    let mut quiet = 0;
    loop {
        tokio::time::sleep(LOOK).await;
        let metrics = raft.metrics().borrow().clone();
        if metrics.running_state.is_err() {
            return;
        }
        let heard = situation.borrow().leadership != Leadership::Unknown;
        quiet = if heard { 0 } else { quiet + 1 };
        if quiet < QUIET {
            continue;
        }
        let members = metrics.membership_config.membership().nodes().map(|(_, node)| node.address.clone());
        let configured = voters.iter().map(|voter| voter.address.clone());
        let addresses: BTreeSet<String> =
            members.chain(configured).filter(|address| *address != local.address).collect();
        if let Some(leader) = leader_without(&local, &peers, addresses).await {
            match peers.observe(&leader, ASK).await {
                Ok(()) => tracing::info!(leader, "this controller has no vote and follows the quorum"),
                Err(status) => {
                    tracing::info!(leader, %status, "the quorum does not let this controller follow yet")
                }
            }
            quiet = 0;
        }
    }
}

/// Where the active controller is, if it says that this node has no vote.
async fn leader_without(local: &Local, peers: &Peers, addresses: BTreeSet<String>) -> Option<String> {
    let answers = peers.identify_all(addresses.into_iter().collect(), ASK).await;
    let named: BTreeSet<String> = answers
        .into_iter()
        .flatten()
        .map(|answer| answer.leader_address)
        .filter(|address| !address.is_empty() && *address != local.address)
        .collect();
    for address in named {
        // Only what the active controller itself says of the voters counts.
        if let Ok(answer) = peers.identify(&address, ASK).await
            && has_no_vote(local, &answer)
        {
            return Some(address);
        }
    }
    None
}

fn has_no_vote(local: &Local, leader: &IdentifyResponse) -> bool {
    leader.leader_id == Some(leader.node_id)
        && leader.voters.iter().all(|voter| voter.node_id != local.voter.node)
}
