//! Brokers of new partitions: as a request names them, or as the controller places them.

use rand::SeedableRng;
use rand::rngs::StdRng;
use vltava_metadata::{BrokerState, PartitionImage};
use vltava_model::{DirectoryId, ErrorCode, NodeId};
use vltava_proto::v1::ReplicaAssignment;

use super::first_state;
use crate::decide::{Refusal, View};
use crate::placement::{Candidate, Placement, Standing};

/// The placement of new replicas over all registered brokers.
pub(in crate::decide) fn placement(view: &View, random: &mut StdRng) -> Placement {
    let candidates = view.image.brokers().map(|broker| Candidate {
        node: broker.node_id,
        rack: broker.rack.clone(),
        standing: match broker.state {
            BrokerState::Active => Standing::Active,
            BrokerState::Fenced | BrokerState::ShuttingDown => Standing::Away,
        },
        replicas: view.image.replica_count(broker.node_id),
        leaders: view.image.leader_count(broker.node_id),
    });
    Placement::new(candidates.collect(), StdRng::from_rng(random))
}

/// Checks assignments that a request names; `factor` is how many replicas each must have, where that is given.
///
/// # Errors
/// INVALID_REPLICA_ASSIGNMENT.
pub(in crate::decide) fn check_assignments(
    view: &View,
    assignments: &[ReplicaAssignment],
    factor: Option<usize>,
) -> Result<Vec<Vec<NodeId>>, Refusal> {
    let invalid = |what: String| Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, what));
    let factor = factor.or_else(|| assignments.first().map(|assignment| assignment.brokers.len()));
    let mut checked = Vec::with_capacity(assignments.len());
    for (partition, assignment) in assignments.iter().enumerate() {
        let replicas: Vec<_> = assignment.brokers.iter().map(|id| NodeId::new(*id)).collect();
        if replicas.is_empty() || Some(replicas.len()) != factor {
            return invalid(format!("assignment {partition} has another number of replicas than the others"));
        }
        if let Some(twice) = replicas.iter().enumerate().find(|(i, node)| replicas[..*i].contains(node)) {
            return invalid(format!("assignment {partition} names broker {} twice", twice.1));
        }
        if let Some(stranger) = replicas.iter().find(|node| view.image.broker(**node).is_none()) {
            return invalid(format!(
                "assignment {partition} names broker {stranger}, which is not registered"
            ));
        }
        if !replicas.iter().any(|node| is_active(view, *node)) {
            return invalid(format!("assignment {partition} names no broker that is active"));
        }
        checked.push(replicas);
    }
    Ok(checked)
}

/// The first state of a partition on these brokers: those that are active are in sync, the first of them leads.
pub(in crate::decide) fn new_partition(view: &View, replicas: &[NodeId]) -> PartitionImage {
    let isr = replicas.iter().copied().filter(|node| is_active(view, *node)).collect();
    let directories = replicas.iter().map(|node| only_directory(view, *node)).collect();
    first_state(replicas.to_vec(), isr, directories)
}

fn is_active(view: &View, node: NodeId) -> bool {
    view.image
        .broker(node)
        .is_some_and(|broker| broker.state == BrokerState::Active && !broker.directories.is_empty())
}

/// Where a broker has one directory, its replicas lie there; else the broker chooses, and tells.
fn only_directory(view: &View, node: NodeId) -> Option<DirectoryId> {
    match view.image.broker(node)?.directories[..] {
        [only] => Some(only),
        _ => None,
    }
}
