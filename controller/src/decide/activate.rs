//! What a controller that becomes active finishes or takes back of the one before it, which may have died between two
//! entries of one decision. Cheap when there is nothing to do, so that it may run again at any time.

use vltava_metadata::{BrokerState, record};
use vltava_model::NodeId;

use super::departure::{Fate, depart};
use super::{Decision, View};
use crate::decide::unfence_broker::elect_leaderless;

/// Removes topics that were never finished, and elects leaders where somebody can lead.
pub fn decide(view: &View) -> Decision<()> {
    let mut records: Vec<_> = view.image.unfinished_topics().map(record::topic_removed).collect();
    records.extend(elect_leaderless(view, |node, partition| view.may_lead(node, partition)));
    Decision { records, response: () }
}

/// Brokers that are fenced and yet lead or are in an ISR. Decisions order their records so that there is none: for tests
/// and alarms.
pub fn misplaced(view: &View) -> Vec<NodeId> {
    let fenced = view.image.brokers().filter(|broker| broker.state == BrokerState::Fenced);
    let nodes = fenced.map(|broker| broker.node_id);
    nodes.filter(|node| !depart(*view, *node, |_| Fate::Leaves).is_empty()).collect()
}
