//! A broker leaves the ISRs of its partitions, for whatever reason. Shared by all decisions that fence, stop, replace or
//! remove a broker, or lose one of its directories.

use vltava_metadata::{PartitionImage, TopicImage, record};
use vltava_model::{NodeId, TopicPartition};
use vltava_proto::v1::MetadataRecord;

use super::View;
use super::topic_rules::TopicRules;
use crate::elections::{Doubt, PartitionChange};

/// A partition that the broker holds, with what its topic says.
pub(super) struct Held<'a> {
    pub(super) partition: TopicPartition,
    pub(super) image: &'a PartitionImage,
    pub(super) rules: TopicRules,
}

/// What becomes of one of the broker's replicas.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// Nothing.
    Stays,
    /// It leaves the ISR, and stays eligible where the ISR is too small.
    Leaves,
    /// It leaves the ISR, and what it has is in doubt.
    Doubted(Doubt),
}

/// All partitions that a broker holds, topic by topic.
pub(super) fn held_by<'a>(view: View<'a>, node: NodeId) -> impl Iterator<Item = Held<'a>> {
    let mut current: Option<(&'a TopicImage, TopicRules)> = None;
    view.image.partitions_on(node).map(move |partition| {
        let (topic, rules) = match current {
            Some(known) if known.0.id == partition.topic => known,
            _ => {
                let topic = view.image.topic(partition.topic).expect("indexed partitions have a topic");
                (&**topic, TopicRules::of(&view, topic))
            }
        };
        current = Some((topic, rules));
        let image = topic.partition(partition.partition).expect("indexed partitions exist");
        Held { partition, image, rules }
    })
}

/// The records by which a broker's replicas meet their fate; the broker itself is not elected anywhere.
pub(super) fn depart(view: View, node: NodeId, fate: impl Fn(&Held) -> Fate) -> Vec<MetadataRecord> {
    let mut records = Vec::new();
    for held in held_by(view, node) {
        let image = held.image;
        let may_lead = |other: NodeId| other != node && view.may_lead(other, image);
        let change = PartitionChange::of(image, held.rules.elections(), &may_lead);
        let after = match fate(&held) {
            Fate::Stays => None,
            Fate::Leaves if image.isr.contains(&node) => change.without(node).build(),
            Fate::Leaves => None,
            Fate::Doubted(doubt) if is_known(image, node) || doubt == Doubt::IsEmpty => {
                change.doubting(node, doubt).build()
            }
            Fate::Doubted(_) => None,
        };
        records.extend(after.map(|after| record::partition(held.partition, &after)));
    }
    records
}

fn is_known(image: &PartitionImage, node: NodeId) -> bool {
    image.is_damaged(node)
        || [&image.isr, &image.elr, &image.last_known_elr].iter().any(|set| set.contains(&node))
}
