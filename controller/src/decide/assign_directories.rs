//! A broker tells in which directories it put its replicas.
//!
//! A replica that was in another directory before has begun anew there: it is neither in sync nor eligible (I32).

use vltava_metadata::{PartitionImage, record};
use vltava_model::{BrokerEpoch, DirectoryId, ErrorCode, NodeId, PartitionIndex, TopicId, TopicPartition};
use vltava_proto::v1::{AssignDirectoriesRequest, AssignDirectoriesResponse, DirectoryAssignment};

use super::topic_rules::TopicRules;
use super::{Decision, Refusal, View};
use crate::elections::{Doubt, PartitionChange};

/// Records directories. Partitions that are gone, or not on the broker any more, are passed over.
///
/// # Errors
/// STALE_BROKER_EPOCH; INVALID_REQUEST for a directory that is not the broker's, or a partition named twice.
pub fn decide(
    view: &View,
    request: &AssignDirectoriesRequest,
) -> Result<Decision<AssignDirectoriesResponse>, Refusal> {
    let node = NodeId::new(request.broker_id);
    view.check_epoch(node, BrokerEpoch::new(request.broker_epoch))?;
    let broker = view.image.broker(node).expect("its epoch was checked");
    let mut seen = std::collections::BTreeSet::new();
    let mut records = Vec::new();
    for assignment in &request.assignments {
        let (of, directory) = read(assignment)?;
        if !broker.directories.contains(&directory) {
            return Err(Refusal::new(
                ErrorCode::InvalidRequest,
                format!("directory {directory} is none of broker {node}'s working ones"),
            ));
        }
        if !seen.insert(of) {
            return Err(Refusal::new(ErrorCode::InvalidRequest, format!("partition {of} is named twice")));
        }
        let after = reassigned(view, node, of, directory);
        records.extend(after.map(|after| record::partition(of, &after)));
    }
    let mut decision = Decision { records, response: AssignDirectoriesResponse::default() };
    decision.response.metadata_offset = decision.offset_after(view).get();
    Ok(decision)
}

fn read(assignment: &DirectoryAssignment) -> Result<(TopicPartition, DirectoryId), Refusal> {
    let invalid = |what: &str| Refusal::new(ErrorCode::InvalidRequest, what);
    let topic = TopicId::from_slice(&assignment.topic_id);
    let topic = topic.ok_or_else(|| invalid("a topic id is 16 bytes"))?;
    let directory = DirectoryId::from_slice(&assignment.directory_id);
    let directory = directory.ok_or_else(|| invalid("a directory id is 16 bytes"))?;
    Ok((TopicPartition::new(topic, PartitionIndex::new(assignment.partition)), directory))
}

/// The partition with the replica in that directory; `None` when nothing changes.
fn reassigned(
    view: &View,
    node: NodeId,
    of: TopicPartition,
    directory: DirectoryId,
) -> Option<PartitionImage> {
    let topic = view.image.topic(of.topic)?;
    let image = topic.partition(of.partition)?;
    let position = image.replicas.iter().position(|replica| *replica == node)?;
    let before = image.directory_of(node);
    if before == Some(directory) {
        return None;
    }
    let may_lead = |other: NodeId| other != node && view.may_lead(other, image);
    let begun_anew = before.is_some().then(|| {
        let rules = TopicRules::of(view, topic).elections();
        PartitionChange::of(image, rules, &may_lead).doubting(node, Doubt::IsEmpty).build()
    });
    let mut after = begun_anew.flatten().unwrap_or_else(|| PartitionImage {
        partition_epoch: image.partition_epoch.next(),
        ..PartitionImage::clone(image)
    });
    after.directories[position] = Some(directory);
    Some(after)
}
