//! A broker has caught up with the metadata: it may lead and follow, and leads what nobody else could.

use vltava_metadata::{BrokerState, PartitionImage, record};
use vltava_model::NodeId;
use vltava_proto::v1::MetadataRecord;

use super::fence_broker::with_state;
use super::topic_rules::TopicRules;
use super::{Decision, View};
use crate::elections::PartitionChange;

/// Lets a fenced broker serve; nothing to do in any other state.
pub fn decide(view: &View, node: NodeId) -> Decision<()> {
    let Some(broker) = view.image.broker(node).filter(|broker| broker.state == BrokerState::Fenced) else {
        return Decision::unchanged(());
    };
    let active = with_state(broker, BrokerState::Active);
    let mut records = vec![record::broker(&active)];
    records.extend(elect_leaderless(view, |other, partition| match other == node {
        true => active.serves_directory(partition.directory_of(node)),
        false => view.may_lead(other, partition),
    }));
    Decision { records, response: () }
}

/// Elections in all partitions without a leader for which there is one now.
pub(super) fn elect_leaderless(
    view: &View,
    may_lead: impl Fn(NodeId, &PartitionImage) -> bool,
) -> Vec<MetadataRecord> {
    let mut records = Vec::new();
    for of in view.image.leaderless_partitions() {
        let topic = view.image.topic(of.topic).expect("indexed partitions have a topic");
        let image = topic.partition(of.partition).expect("indexed partitions exist");
        if !image.replicas.iter().any(|node| may_lead(*node, image)) {
            continue;
        }
        let may_lead = |node: NodeId| may_lead(node, image);
        let rules = TopicRules::of(view, topic).elections();
        let after = PartitionChange::of(image, rules, &may_lead).build();
        records
            .extend(after.filter(|after| after.leader.is_some()).map(|after| record::partition(of, &after)));
    }
    records
}
