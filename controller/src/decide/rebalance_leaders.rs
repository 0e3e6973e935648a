//! Leaderships go back to the first replica of the assignment once it is in sync again (`auto.leader.rebalance.enable`).

use vltava_metadata::record;
use vltava_model::NodeId;

use super::topic_rules::TopicRules;
use super::{Decision, View};
use crate::elections::PartitionChange;

/// Whether there is more to move.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Every leadership that could go back has done so.
    Done,
    /// The bound of one round was reached; ask again.
    More,
}

/// Moves leaderships back to preferred replicas that are in the ISR and may lead, a bounded number at once.
pub fn decide(view: &View) -> Decision<Progress> {
    let mut records = Vec::new();
    for of in view.image.displaced_partitions() {
        let topic = view.image.topic(of.topic).expect("indexed partitions have a topic");
        let image = topic.partition(of.partition).expect("indexed partitions exist");
        let may_lead = |node: NodeId| view.may_lead(node, image);
        let preferred = image.preferred_leader().filter(|node| image.isr.contains(node));
        if !preferred.is_some_and(may_lead) {
            continue;
        }
        if records.len() == view.settings.max_leader_moves {
            return Decision { records, response: Progress::More };
        }
        let rules = TopicRules::of(view, topic).elections();
        let after = PartitionChange::of(image, rules, &may_lead).preferring_first().build();
        records.extend(after.map(|after| record::partition(of, &after)));
    }
    Decision { records, response: Progress::Done }
}
