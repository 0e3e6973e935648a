//! A leader changes its partitions' in-sync replicas: compare-and-set on leader epoch and partition epoch (I29).
//!
//! A leader that leaves itself out steps down: it can not lead, or nobody follows it. That is granted where enough others are
//! in sync and were heard of a moment ago, so that a leader does not give way to those that are gone before it.
//!
//! A request that was answered before, but whose answer was lost, is answered again from the state that it brought about.
//! Errors tell the leader what to do: ask whom leads now, read the partition anew, wait, or ask another controller.

use vltava_metadata::{BrokerState, LeaderRecovery, PartitionImage, record};
use vltava_model::seeded::{SeededBug, seeded};
use vltava_model::{
    BrokerEpoch, ErrorCode, LeaderEpoch, NodeId, PartitionEpoch, PartitionIndex, TopicId, TopicPartition,
};
use vltava_proto::v1::{
    AlterPartition, AlterPartitionResult, AlterPartitionsRequest, AlterPartitionsResponse, MetadataRecord,
};

use super::topic_rules::TopicRules;
use super::{Decision, Refusal, View};
use crate::elections::{PartitionChange, Rules};

/// Changes ISRs; each partition succeeds or fails by itself.
///
/// The response's stamp is left to the caller.
///
/// # Errors
/// STALE_BROKER_EPOCH when the leader is registered otherwise, or fenced; INVALID_REQUEST when a partition is named twice.
pub fn decide(
    view: &View,
    request: &AlterPartitionsRequest,
) -> Result<Decision<AlterPartitionsResponse>, Refusal> {
    let node = NodeId::new(request.broker_id);
    view.check_epoch(node, BrokerEpoch::new(request.broker_epoch))?;
    let mut seen = std::collections::BTreeSet::new();
    let mut records = Vec::new();
    let mut partitions = Vec::with_capacity(request.partitions.len());
    for wanted in &request.partitions {
        if !seen.insert((wanted.topic_id.clone(), wanted.partition)) {
            let what = format!("partition {} of a topic is named twice", wanted.partition);
            return Err(Refusal::new(ErrorCode::InvalidRequest, what));
        }
        let result = alter(view, node, wanted);
        partitions.push(match result {
            Ok(altered) => {
                records.extend(altered.record);
                match altered.taken_over {
                    None => AlterPartitionResult {
                        partition: Some(altered.partition.to_record(altered.of)),
                        error: None,
                    },
                    Some(leader) => AlterPartitionResult {
                        partition: Some(altered.partition.to_record(altered.of)),
                        error: Some(taken_over(leader).detail()),
                    },
                }
            }
            Err(refusal) => AlterPartitionResult { partition: None, error: Some(refusal.detail()) },
        });
    }
    Ok(Decision { records, response: AlterPartitionsResponse { partitions, stamp: None } })
}

struct Altered {
    of: TopicPartition,
    /// The state that holds now.
    partition: PartitionImage,
    /// The change, unless it was made before.
    record: Option<MetadataRecord>,
    /// Another leads by this change.
    taken_over: Option<NodeId>,
}

fn taken_over(leader: NodeId) -> Refusal {
    Refusal::new(ErrorCode::NewLeaderElected, format!("the ISR was changed, and broker {leader} leads now"))
}

fn alter(view: &View, node: NodeId, wanted: &AlterPartition) -> Result<Altered, Refusal> {
    let id = TopicId::from_slice(&wanted.topic_id)
        .ok_or_else(|| Refusal::new(ErrorCode::InvalidRequest, "a topic id is 16 bytes"))?;
    let of = TopicPartition::new(id, PartitionIndex::new(wanted.partition));
    let topic = view
        .image
        .topic(id)
        .ok_or_else(|| Refusal::new(ErrorCode::UnknownTopicId, format!("no topic has the id {id}")))?;
    let image = topic.partition(of.partition).ok_or_else(|| {
        Refusal::new(ErrorCode::UnknownTopicOrPartition, format!("partition {of} does not exist"))
    })?;
    let isr: Vec<_> = wanted.new_isr.iter().map(|member| NodeId::new(member.broker_id)).collect();
    let recovery = LeaderRecovery::from_number(wanted.leader_recovery)
        .map_err(|fault| Refusal::new(ErrorCode::InvalidRequest, fault.to_string()))?;
    if check_epochs(image, node, wanted, &isr, recovery)? == Freshness::DoneBefore {
        let partition = PartitionImage::clone(image);
        return Ok(Altered { of, partition, record: None, taken_over: None });
    }
    let rules = TopicRules::of(view, topic).elections();
    check_members(image, &isr)?;
    match isr.contains(&node) {
        true => check_recovery(image, &isr, recovery)?,
        false => check_heirs(view, image, rules, &isr, recovery)?,
    }
    check_eligible(view, image, node, wanted)?;

    // A leader that shuts down hands over as soon as somebody else is in sync.
    let others: Vec<_> = isr.iter().copied().filter(|member| view.may_lead(*member, image)).collect();
    let target = if others.is_empty() { isr } else { others };
    let may_lead = |other: NodeId| view.may_lead(other, image);
    let target = in_order(image, &target);
    let after = PartitionChange::of(image, rules, &may_lead).with_isr(target).with_recovery(recovery).build();
    let Some(after) = after else {
        let partition = PartitionImage::clone(image);
        return Ok(Altered { of, partition, record: None, taken_over: None });
    };
    let taken_over = after.leader.filter(|leader| *leader != node);
    let record = Some(record::partition(of, &after));
    Ok(Altered { of, partition: after, record, taken_over })
}

/// Members that are in the ISR stay in their order; new ones follow in the order of the assignment.
fn in_order(image: &PartitionImage, isr: &[NodeId]) -> Vec<NodeId> {
    let stay = image.isr.iter().filter(|member| isr.contains(member));
    let join = image.replicas.iter().filter(|member| isr.contains(member) && !image.isr.contains(member));
    stay.chain(join).copied().collect()
}

#[derive(PartialEq, Eq)]
enum Freshness {
    Current,
    DoneBefore,
}

/// Compares the epochs that the leader knows with the partition's.
fn check_epochs(
    image: &PartitionImage,
    node: NodeId,
    wanted: &AlterPartition,
    isr: &[NodeId],
    recovery: LeaderRecovery,
) -> Result<Freshness, Refusal> {
    let leader_epoch = LeaderEpoch::new(wanted.leader_epoch);
    let partition_epoch = PartitionEpoch::new(wanted.partition_epoch);
    if leader_epoch > image.leader_epoch || partition_epoch > image.partition_epoch {
        // Epochs come from committed records: who knows greater ones has heard a newer controller.
        return Err(Refusal::new(ErrorCode::NotController, "this controller lacks what the broker knows"));
    }
    if leader_epoch < image.leader_epoch {
        return Err(Refusal::new(
            ErrorCode::FencedLeaderEpoch,
            format!("the leader epoch is {}, not {leader_epoch}", image.leader_epoch),
        ));
    }
    if image.leader != Some(node) {
        return Err(Refusal::new(
            ErrorCode::InvalidRequest,
            format!("broker {node} does not lead the partition"),
        ));
    }
    if partition_epoch == image.partition_epoch || seeded(SeededBug::IgnoresPartitionEpoch) {
        return Ok(Freshness::Current);
    }
    let same_members = isr.len() == image.isr.len() && isr.iter().all(|member| image.isr.contains(member));
    let is_known = same_members && !seeded(SeededBug::RefusesRepeatedChange);
    if is_known && recovery == image.leader_recovery {
        return Ok(Freshness::DoneBefore);
    }
    Err(Refusal::new(
        ErrorCode::InvalidUpdateVersion,
        format!("the partition epoch is {}, not {partition_epoch}", image.partition_epoch),
    ))
}

/// Whether the new ISR makes sense for this partition.
fn check_members(image: &PartitionImage, isr: &[NodeId]) -> Result<(), Refusal> {
    let invalid = |what: String| Err(Refusal::new(ErrorCode::InvalidRequest, what));
    if isr.is_empty() {
        return invalid("an ISR that a leader asks for has members".into());
    }
    if let Some(stranger) = isr.iter().find(|member| !image.has_replica(**member)) {
        return invalid(format!("broker {stranger} holds no replica of the partition"));
    }
    if let Some(twice) = isr.iter().enumerate().find(|(i, member)| isr[..*i].contains(member)) {
        return invalid(format!("broker {} is named twice", twice.1));
    }
    Ok(())
}

/// Whether what the leader says of its recovery can be true.
fn check_recovery(image: &PartitionImage, isr: &[NodeId], recovery: LeaderRecovery) -> Result<(), Refusal> {
    let invalid = |what: &str| Err(Refusal::new(ErrorCode::InvalidRequest, what));
    if recovery == LeaderRecovery::Recovering && image.leader_recovery == LeaderRecovery::Recovered {
        return invalid("the leader has recovered already");
    }
    if recovery == LeaderRecovery::Recovering && isr.len() > 1 {
        return invalid("a leader that recovers is alone in the ISR");
    }
    Ok(())
}

/// Whether a leader may step down in favour of these: each has all that is committed, together they can commit more, and
/// they seem to live.
fn check_heirs(
    view: &View,
    image: &PartitionImage,
    rules: Rules,
    isr: &[NodeId],
    recovery: LeaderRecovery,
) -> Result<(), Refusal> {
    let refused = |what: String| Err(Refusal::new(ErrorCode::IneligibleReplica, what));
    if recovery != image.leader_recovery {
        return Err(Refusal::new(
            ErrorCode::InvalidRequest,
            "a leader that steps down says no more of itself",
        ));
    }
    let enough = usize::try_from(rules.min_insync_replicas).unwrap_or(usize::MAX);
    if isr.len() < enough.min(image.replicas.len()).max(1) {
        return refused(format!("{} others are too few to step down for", isr.len()));
    }
    for member in isr {
        if !image.isr.contains(member) {
            return refused(format!("broker {member} is not in sync"));
        }
        if !view.liveness.is_heard(*member, view.now) {
            return refused(format!("broker {member} has not been heard of for a while"));
        }
    }
    Ok(())
}

/// Whether every member may be in an ISR, under the registration that the leader saw (I9, B9, B10). The leader itself may be
/// shutting down: it stays as long as nobody else is in sync.
fn check_eligible(
    view: &View,
    image: &PartitionImage,
    node: NodeId,
    wanted: &AlterPartition,
) -> Result<(), Refusal> {
    for member in &wanted.new_isr {
        let id = NodeId::new(member.broker_id);
        let ineligible = |why: &str| {
            Err(Refusal::new(ErrorCode::IneligibleReplica, format!("broker {id} cannot be in sync: {why}")))
        };
        let Some(broker) = view.image.broker(id) else { return ineligible("it is not registered") };
        let seen = BrokerEpoch::new(member.broker_epoch);
        if broker.broker_epoch != seen && !seeded(SeededBug::AdmitsOldRegistrations) {
            return ineligible("it registered anew since the leader heard of it");
        }
        if !broker.serves_directory(image.directory_of(id)) {
            return ineligible("its directory failed");
        }
        if image.is_damaged(id) {
            return ineligible("it is damaged");
        }
        match broker.state {
            BrokerState::Active => {}
            BrokerState::ShuttingDown if id == node => {}
            BrokerState::Fenced if seeded(SeededBug::AdmitsFencedMembers) => {}
            BrokerState::Fenced => return ineligible("it is fenced"),
            BrokerState::ShuttingDown => return ineligible("it is shutting down"),
        }
    }
    Ok(())
}
