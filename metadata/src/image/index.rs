//! Which partitions a broker holds and leads, kept with every change, so that the loss of one broker costs what it touches
//! and not what exists.

use imbl::{OrdMap, OrdSet};
use vltava_model::{NodeId, TopicPartition};

use super::PartitionImage;

/// Sets of partitions by what a controller or broker looks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicaIndex {
    replicas: OrdMap<NodeId, OrdSet<TopicPartition>>,
    leaders: OrdMap<NodeId, OrdSet<TopicPartition>>,
    /// Those whose leader is not the preferred one (or none).
    displaced: OrdSet<TopicPartition>,
    /// Those without a leader.
    leaderless: OrdSet<TopicPartition>,
}

impl ReplicaIndex {
    /// Partitions with a replica on a broker.
    pub fn held_by(&self, node: NodeId) -> impl Iterator<Item = TopicPartition> {
        self.replicas.get(&node).into_iter().flatten().copied()
    }

    /// Partitions that a broker leads.
    pub fn led_by(&self, node: NodeId) -> impl Iterator<Item = TopicPartition> {
        self.leaders.get(&node).into_iter().flatten().copied()
    }

    /// How many partitions a broker holds.
    pub fn held_count(&self, node: NodeId) -> usize {
        self.replicas.get(&node).map_or(0, OrdSet::len)
    }

    /// How many partitions a broker leads.
    pub fn led_count(&self, node: NodeId) -> usize {
        self.leaders.get(&node).map_or(0, OrdSet::len)
    }

    /// Partitions that have a leader, but not the preferred one.
    pub fn displaced(&self) -> impl Iterator<Item = TopicPartition> {
        self.displaced.iter().copied()
    }

    /// Partitions without a leader.
    pub fn leaderless(&self) -> impl Iterator<Item = TopicPartition> {
        self.leaderless.iter().copied()
    }

    /// Takes a partition's change into the sets.
    pub(super) fn update(
        &mut self,
        of: TopicPartition,
        before: Option<&PartitionImage>,
        after: Option<&PartitionImage>,
    ) {
        let replicas = |image: Option<&PartitionImage>| image.map_or(Vec::new(), |it| it.replicas.clone());
        if before.map(|it| &it.replicas) != after.map(|it| &it.replicas) {
            let (old, new) = (replicas(before), replicas(after));
            for node in old.iter().filter(|node| !new.contains(node)) {
                remove(&mut self.replicas, *node, of);
            }
            for node in new.iter().filter(|node| !old.contains(node)) {
                insert(&mut self.replicas, *node, of);
            }
        }
        let (old, new) = (before.and_then(|it| it.leader), after.and_then(|it| it.leader));
        if old != new {
            if let Some(node) = old {
                remove(&mut self.leaders, node, of);
            }
            if let Some(node) = new {
                insert(&mut self.leaders, node, of);
            }
        }
        let leaderless = |image: Option<&PartitionImage>| image.is_some_and(|it| it.leader.is_none());
        mark(&mut self.leaderless, of, leaderless(before), leaderless(after));
        let displaced = |image: Option<&PartitionImage>| {
            image.is_some_and(|it| it.leader.is_some() && it.leader != it.preferred_leader())
        };
        mark(&mut self.displaced, of, displaced(before), displaced(after));
    }
}

fn mark(set: &mut OrdSet<TopicPartition>, of: TopicPartition, before: bool, after: bool) {
    match (before, after) {
        (false, true) => {
            set.insert(of);
        }
        (true, false) => {
            set.remove(&of);
        }
        _ => {}
    }
}

fn insert(map: &mut OrdMap<NodeId, OrdSet<TopicPartition>>, node: NodeId, of: TopicPartition) {
    map.entry(node).or_default().insert(of);
}

fn remove(map: &mut OrdMap<NodeId, OrdSet<TopicPartition>>, node: NodeId, of: TopicPartition) {
    let Some(set) = map.get_mut(&node) else { return };
    set.remove(&of);
    if set.is_empty() {
        map.remove(&node);
    }
}
