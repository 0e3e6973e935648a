//! What a delta means for the replicas of one broker: what it opens, leads, follows and closes. It must not know how.

use std::sync::Arc;

use vltava_model::{NodeId, TopicId, TopicPartition};

use crate::delta::{Change, Delta};
use crate::image::{ConfigTarget, Image, PartitionImage};

/// A replica that the broker has to open or to change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalPartition {
    /// Which partition.
    pub partition: TopicPartition,
    /// The topic's name.
    pub topic: Arc<str>,
    /// What the broker knew, if it held the partition.
    pub before: Option<Arc<PartitionImage>>,
    /// What holds now.
    pub after: Arc<PartitionImage>,
}

impl LocalPartition {
    /// Whether the broker led the partition before.
    pub fn was_led_by(&self, node: NodeId) -> bool {
        self.before.as_ref().is_some_and(|before| before.leader == Some(node))
    }
}

/// A replica that the broker holds no more although the topic lives on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClosedPartition {
    /// Which partition.
    pub partition: TopicPartition,
    /// The topic's name.
    pub topic: Arc<str>,
    /// What the broker knew.
    pub before: Arc<PartitionImage>,
}

/// A topic that is gone, of which the broker held replicas.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeletedTopic {
    /// Its identity.
    pub id: TopicId,
    /// The name that it had; another topic may have it by now.
    pub name: Arc<str>,
    /// The partitions that the broker held.
    pub partitions: Vec<TopicPartition>,
}

/// What one broker has to do, in this order: delete, close, follow, lead, take over configs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LocalChanges {
    /// Topics of which all replicas go, records and all.
    pub deleted: Vec<DeletedTopic>,
    /// Single replicas that go.
    pub closed: Vec<ClosedPartition>,
    /// Replicas that follow, or wait for a leader, and whose state is new or changed.
    pub followers: Vec<LocalPartition>,
    /// Replicas that lead and whose state is new or changed.
    pub leaders: Vec<LocalPartition>,
    /// Topics that the broker holds replicas of and whose configs may resolve to other values, new topics not among them.
    pub reconfigured: Vec<TopicId>,
}

impl LocalChanges {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn of(delta: &Delta, node: NodeId) -> Self {
        let mut changes = Self::default();
        for (of, change) in delta.partitions() {
            changes.take(delta, node, *of, change);
        }
        changes.reconfigured = reconfigured(delta, node);
        changes
    }

    fn take(
        &mut self,
        delta: &Delta,
        node: NodeId,
        partition: TopicPartition,
        change: &Change<Arc<PartitionImage>>,
    ) {
        let held = |image: &&Arc<PartitionImage>| image.has_replica(node);
        let before = change.before().filter(held).cloned();
        match (before, change.after()) {
            (before, Some(after)) if after.has_replica(node) => {
                let topic = name_of(delta.after(), partition.topic);
                let local = LocalPartition { partition, topic, before, after: after.clone() };
                if after.leader == Some(node) {
                    self.leaders.push(local);
                } else {
                    self.followers.push(local);
                }
            }
            (Some(before), Some(_)) => {
                let topic = name_of(delta.after(), partition.topic);
                self.closed.push(ClosedPartition { partition, topic, before });
            }
            (Some(_), None) => match self.deleted.last_mut() {
                Some(topic) if topic.id == partition.topic => topic.partitions.push(partition),
                _ => self.deleted.push(DeletedTopic {
                    id: partition.topic,
                    name: name_of(delta.before(), partition.topic),
                    partitions: vec![partition],
                }),
            },
            (None, _) => {}
        }
    }
}

/// Topics held before and after whose own configs, or the defaults beneath them, changed.
fn reconfigured(delta: &Delta, node: NodeId) -> Vec<TopicId> {
    let defaults = [ConfigTarget::Cluster, ConfigTarget::Broker(node)];
    let all = defaults.iter().any(|target| delta.configs().contains(target));
    let changed = |id: &TopicId| {
        let Some(topic) = delta.after().topic(*id) else { return false };
        delta.before().topic(*id).is_some()
            && (all || delta.configs().contains(&ConfigTarget::Topic(topic.name.clone())))
    };
    if all {
        let mut held: Vec<_> = delta.after().partitions_on(node).map(|of| of.topic).collect();
        held.dedup();
        held.retain(changed);
        return held;
    }
    let named = delta.configs().iter().filter_map(|target| match target {
        ConfigTarget::Topic(name) => delta.after().topic_named(name),
        _ => None,
    });
    named
        .filter(|topic| topic.partitions().any(|(_, partition)| partition.has_replica(node)))
        .map(|topic| topic.id)
        .filter(changed)
        .collect()
}

fn name_of(image: &Image, id: TopicId) -> Arc<str> {
    image.topic(id).expect("a partition in a delta belongs to a topic of its image").name.clone()
}
