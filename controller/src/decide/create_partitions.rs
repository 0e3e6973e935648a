//! Adds partitions to a topic. Records that were spread by key before stay where they are, as in Kafka.

use vltava_metadata::record;
use vltava_model::{ErrorCode, PartitionIndex};
use vltava_proto::v1::{CreatePartitionsRequest, CreatePartitionsResponse};

use super::create_topics::{check_assignments, new_partition, placement, refuse_placement};
use super::{Decision, Refusal, View};

/// Adds partitions.
///
/// # Errors
/// UNKNOWN_TOPIC_OR_PARTITION; INVALID_PARTITIONS when the total is not greater than today's; POLICY_VIOLATION beyond the
/// bound of one request; INVALID_REPLICA_ASSIGNMENT, INVALID_REPLICATION_FACTOR, BROKER_NOT_AVAILABLE from the placement.
pub fn decide(
    view: &View,
    request: &CreatePartitionsRequest,
) -> Result<Decision<CreatePartitionsResponse>, Refusal> {
    let topic = view.image.topic_named(&request.topic).ok_or_else(|| {
        Refusal::new(ErrorCode::UnknownTopicOrPartition, format!("topic {} does not exist", request.topic))
    })?;
    let before = topic.partition_count();
    let added = request.total_count.checked_sub(before).filter(|added| *added > 0).ok_or_else(|| {
        let what = format!(
            "topic {} has {before} partitions: their number can only grow, not become {}",
            topic.name, request.total_count
        );
        Refusal::new(ErrorCode::InvalidPartitions, what)
    })?;
    let most = view.settings.max_partitions_per_request;
    if added > most {
        return Err(Refusal::new(
            ErrorCode::PolicyViolation,
            format!("a request creates at most {most} partitions: add them in several steps"),
        ));
    }
    let factor = topic.replication_factor();
    let assignments = if request.assignments.is_empty() {
        let mut placement = placement(view, &mut view.random());
        placement.begin_topic(topic.partitions().map(|(_, partition)| &partition.replicas[..]));
        placement.place(added, factor).map_err(refuse_placement)?
    } else {
        if u32::try_from(request.assignments.len()).ok() != Some(added) {
            let what =
                format!("{} assignments were given for {added} new partitions", request.assignments.len());
            return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, what));
        }
        check_assignments(view, &request.assignments, Some(factor as usize))?
    };
    let mut records = Vec::new();
    if !request.validate_only {
        for (index, replicas) in (before..).zip(&assignments) {
            let of = topic.name_partition(PartitionIndex::new(index));
            records.push(record::partition(of, &new_partition(view, replicas)));
        }
    }
    let mut decision = Decision { records, response: CreatePartitionsResponse::default() };
    decision.response.metadata_offset = decision.offset_after(view).get();
    Ok(decision)
}
