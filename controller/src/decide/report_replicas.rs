//! A broker tells that a replica is damaged, has begun anew, or was restored.
//!
//! A damaged replica counts for nothing until it has begun anew and caught up; while nobody leads it may be the only one that
//! has everything, so nobody else is elected cleanly in its place. A report names the leader epoch that its sender knows:
//! one that comes late, or twice, finds another and changes nothing.

use vltava_metadata::{PartitionImage, record};
use vltava_model::{BrokerEpoch, ErrorCode, LeaderEpoch, NodeId, PartitionIndex, TopicId, TopicPartition};
use vltava_proto::v1::{
    MetadataRecord, ReplicaCondition, ReplicaReport, ReplicaReportResult, ReportReplicasRequest,
    ReportReplicasResponse,
};

use super::topic_rules::TopicRules;
use super::{Decision, Refusal, View};
use crate::elections::{Doubt, PartitionChange};

/// The longest description of a damage, in bytes: a record must stay small.
const WHAT_BYTES_MAX: usize = 500;

/// Records how replicas are; each succeeds or fails by itself.
///
/// # Errors
/// STALE_BROKER_EPOCH; INVALID_REQUEST when a partition is named twice.
pub fn decide(
    view: &View,
    request: &ReportReplicasRequest,
) -> Result<Decision<ReportReplicasResponse>, Refusal> {
    let node = NodeId::new(request.broker_id);
    view.check_epoch(node, BrokerEpoch::new(request.broker_epoch))?;
    let mut seen = std::collections::BTreeSet::new();
    let mut records = Vec::new();
    let mut results = Vec::with_capacity(request.replicas.len());
    for report in &request.replicas {
        if !seen.insert((report.topic_id.clone(), report.partition)) {
            let what = format!("partition {} of a topic is named twice", report.partition);
            return Err(Refusal::new(ErrorCode::InvalidRequest, what));
        }
        let error = match take(view, node, report) {
            Ok(record) => {
                records.extend(record);
                None
            }
            Err(refusal) => Some(refusal.detail()),
        };
        results.push(ReplicaReportResult { error });
    }
    let mut decision = Decision { records, response: ReportReplicasResponse { results, metadata_offset: 0 } };
    decision.response.metadata_offset = decision.offset_after(view).get();
    Ok(decision)
}

/// The record that a report makes, if it changes anything.
fn take(view: &View, node: NodeId, report: &ReplicaReport) -> Result<Option<MetadataRecord>, Refusal> {
    let id = TopicId::from_slice(&report.topic_id)
        .ok_or_else(|| Refusal::new(ErrorCode::InvalidRequest, "a topic id is 16 bytes"))?;
    let of = TopicPartition::new(id, PartitionIndex::new(report.partition));
    let topic = view
        .image
        .topic(id)
        .ok_or_else(|| Refusal::new(ErrorCode::UnknownTopicId, format!("no topic has the id {id}")))?;
    let image = topic.partition(of.partition).filter(|image| image.has_replica(node)).ok_or_else(|| {
        let what = format!("broker {node} holds no replica of partition {of}");
        Refusal::new(ErrorCode::UnknownTopicOrPartition, what)
    })?;
    check_epoch(image, LeaderEpoch::new(report.leader_epoch))?;
    let rules = TopicRules::of(view, topic).elections();
    let may_lead = |other: NodeId| view.may_lead(other, image);
    let change = PartitionChange::of(image, rules, &may_lead);
    let change = match report.condition() {
        ReplicaCondition::Damaged => change.damaged(node, cut(&report.what).into()),
        // What is not known to be damaged has nothing to begin anew from, and nothing to be restored to.
        ReplicaCondition::BegunAnew | ReplicaCondition::Whole if !image.is_damaged(node) => return Ok(None),
        ReplicaCondition::BegunAnew => change.doubting(node, Doubt::IsEmpty),
        ReplicaCondition::Whole => change.restored(node),
        ReplicaCondition::Unspecified => {
            return Err(Refusal::new(ErrorCode::InvalidRequest, "unknown condition of a replica"));
        }
    };
    Ok(change.build().map(|after| record::partition(of, &after)))
}

fn check_epoch(image: &PartitionImage, known: LeaderEpoch) -> Result<(), Refusal> {
    if known > image.leader_epoch {
        // Epochs come from committed records: who knows greater ones has heard a newer controller.
        return Err(Refusal::new(ErrorCode::NotController, "this controller lacks what the broker knows"));
    }
    if known < image.leader_epoch {
        let what = format!("the leader epoch is {}, not {known}", image.leader_epoch);
        return Err(Refusal::new(ErrorCode::FencedLeaderEpoch, what));
    }
    Ok(())
}

/// As much of a text as a record may hold.
fn cut(what: &str) -> &str {
    let mut end = what.len().min(WHAT_BYTES_MAX);
    while !what.is_char_boundary(end) {
        end -= 1;
    }
    &what[..end]
}
