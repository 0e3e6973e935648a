//! An administrator asks for elections: back to the preferred replica, or, at the price of records, of any that lives.

use std::collections::BTreeSet;

use vltava_metadata::{PartitionImage, TopicImage, record};
use vltava_model::{ErrorCode, NodeId, PartitionIndex};
use vltava_proto::v1::{
    ElectLeadersRequest, ElectLeadersResponse, ElectionResult, ElectionType, MetadataRecord, NamedPartition,
};

use super::topic_rules::TopicRules;
use super::{Decision, Refusal, View};
use crate::elections::{PartitionChange, Rules, Unclean};

/// Elects leaders; each partition succeeds or fails by itself. Asked for all partitions, those where nothing is to be
/// elected are not in the response.
///
/// # Errors
/// INVALID_REQUEST for an unknown kind of election.
pub fn decide(view: &View, request: &ElectLeadersRequest) -> Result<Decision<ElectLeadersResponse>, Refusal> {
    let kind = ElectionType::try_from(request.r#type)
        .map_err(|_| Refusal::new(ErrorCode::InvalidRequest, "unknown kind of election"))?;
    let mut records = Vec::new();
    let mut results = Vec::new();
    if request.partitions.is_empty() {
        for (named, elected) in all(view, kind) {
            results.push(result(named, elected, &mut records));
        }
    }
    let mut seen = BTreeSet::new();
    for named in &request.partitions {
        let elected = match seen.insert((&named.topic, named.partition)) {
            true => one(view, kind, named),
            false => Err(Refusal::new(ErrorCode::InvalidRequest, "the partition is named twice")),
        };
        results.push(result(named.clone(), elected, &mut records));
    }
    let mut decision = Decision { records, response: ElectLeadersResponse { results, metadata_offset: 0 } };
    decision.response.metadata_offset = decision.offset_after(view).get();
    Ok(decision)
}

type Elected = (MetadataRecord, NodeId);

fn result(
    partition: NamedPartition,
    elected: Result<Elected, Refusal>,
    records: &mut Vec<MetadataRecord>,
) -> ElectionResult {
    let partition = Some(partition);
    match elected {
        Ok((record, leader)) => {
            records.push(record);
            ElectionResult { partition, leader: Some(leader.get()), error: None }
        }
        Err(refusal) => ElectionResult { partition, leader: None, error: Some(refusal.detail()) },
    }
}

/// Every partition in which that kind of election could change something.
fn all(view: &View, kind: ElectionType) -> Vec<(NamedPartition, Result<Elected, Refusal>)> {
    let candidates: Vec<_> = match kind {
        ElectionType::Preferred => {
            view.image.displaced_partitions().chain(view.image.leaderless_partitions()).collect()
        }
        ElectionType::Unclean => view.image.leaderless_partitions().collect(),
    };
    let elect_one = |of: vltava_model::TopicPartition| {
        let topic = view.image.topic(of.topic).expect("indexed partitions have a topic");
        let image = topic.partition(of.partition).expect("indexed partitions exist");
        let named = NamedPartition { topic: topic.name.to_string(), partition: of.partition.get() };
        (named, elect(view, kind, topic, of.partition, image))
    };
    candidates.into_iter().map(elect_one).collect()
}

fn one(view: &View, kind: ElectionType, named: &NamedPartition) -> Result<Elected, Refusal> {
    let missing = || {
        let what = format!("partition {} of topic {} does not exist", named.partition, named.topic);
        Refusal::new(ErrorCode::UnknownTopicOrPartition, what)
    };
    let topic = view.image.topic_named(&named.topic).ok_or_else(missing)?;
    let index = PartitionIndex::new(named.partition);
    let image = topic.partition(index).ok_or_else(missing)?;
    elect(view, kind, topic, index, image)
}

fn elect(
    view: &View,
    kind: ElectionType,
    topic: &TopicImage,
    index: PartitionIndex,
    image: &PartitionImage,
) -> Result<Elected, Refusal> {
    let rules = TopicRules::of(view, topic).elections();
    let may_lead = |node: NodeId| view.may_lead(node, image);
    let not_needed = |what: String| Err(Refusal::new(ErrorCode::ElectionNotNeeded, what));
    let change = match (kind, image.leader) {
        (ElectionType::Preferred, leader) => {
            let preferred = image.preferred_leader();
            if leader.is_some() && leader == preferred {
                return not_needed("the preferred replica leads".into());
            }
            if !preferred.is_some_and(|node| image.isr.contains(&node) && may_lead(node)) {
                return Err(Refusal::new(
                    ErrorCode::PreferredLeaderNotAvailable,
                    "the preferred replica is not in sync, or may not lead now",
                ));
            }
            PartitionChange::of(image, rules, &may_lead).preferring_first()
        }
        (ElectionType::Unclean, Some(leader)) => return not_needed(format!("broker {leader} leads")),
        (ElectionType::Unclean, None) => {
            let rules = Rules { unclean: Unclean::Allowed, ..rules };
            PartitionChange::of(image, rules, &may_lead)
        }
    };
    let after = change.build().and_then(|after| after.leader.map(|leader| (after, leader)));
    match after {
        Some((after, leader)) => Ok((record::partition(topic.name_partition(index), &after), leader)),
        None => Err(Refusal::new(ErrorCode::EligibleLeadersNotAvailable, "no replica may lead now")),
    }
}
