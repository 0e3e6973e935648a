//! I3, I29: a partition has one leader in a leader epoch and one state in a partition epoch; neither ever goes back, and each
//! change of the metadata raises them by one at most. The leader is in sync, or eligible. I34: a broker that the controller let
//! go leads nothing and is in no ISR.

use std::collections::BTreeMap;
use std::sync::Arc;

use vltava_metadata::{Change, Delta, Image, LeaderRecovery, PartitionImage};
use vltava_model::{LeaderEpoch, NodeId, PartitionEpoch, TopicPartition};

use super::Verdict;

/// Whether a broker that has been let go left nothing behind that needs it.
pub fn are_without(image: &Image, node: NodeId) -> Verdict {
    image.partitions().try_for_each(|(of, known)| is_without(of, known, node))
}

fn is_without(of: TopicPartition, known: &PartitionImage, node: NodeId) -> Verdict {
    if known.leader == Some(node) {
        return Err(format!("I34: broker {node} was let go and still leads {of}: {known:?}"));
    }
    if known.isr.contains(&node) {
        return Err(format!("I34: broker {node} was let go and is still in the ISR of {of}: {known:?}"));
    }
    Ok(())
}

/// See the module.
#[derive(Default)]
pub struct Partitions {
    leaders: BTreeMap<(TopicPartition, LeaderEpoch), Option<NodeId>>,
    states: BTreeMap<(TopicPartition, PartitionEpoch), Arc<PartitionImage>>,
}

impl Partitions {
    /// What changed from one committed state to a later one.
    pub fn step(&mut self, delta: &Delta) -> Verdict {
        let records = delta.after().offset().get() - delta.before().offset().get();
        for (of, change) in delta.partitions() {
            if let Change::Changed { before, after } = change {
                Self::follows(*of, before, after, records)?;
            }
            if let Some(after) = change.after() {
                self.state(*of, after)?;
            }
        }
        Ok(())
    }

    /// A broker says that it leads.
    pub fn leads(&mut self, of: TopicPartition, epoch: LeaderEpoch, node: NodeId) -> Verdict {
        self.claim(of, epoch, Some(node))
    }

    fn claim(&mut self, of: TopicPartition, epoch: LeaderEpoch, leader: Option<NodeId>) -> Verdict {
        let known = *self.leaders.entry((of, epoch)).or_insert(leader);
        match known == leader {
            true => Ok(()),
            false => Err(format!("I3: {of} is led by {leader:?} in epoch {epoch}, in which {known:?} led")),
        }
    }

    fn follows(of: TopicPartition, before: &PartitionImage, after: &PartitionImage, records: u64) -> Verdict {
        let raised = i64::from(after.partition_epoch.get()) - i64::from(before.partition_epoch.get());
        let elections = i64::from(after.leader_epoch.get()) - i64::from(before.leader_epoch.get());
        let (from, to) = (before.partition_epoch, after.partition_epoch);
        if raised < 1 || raised > records as i64 {
            return Err(format!("I29: {of} went from partition epoch {from} to {to} by {records} records"));
        }
        if elections < 0 || elections > raised {
            return Err(format!(
                "I3: {of} went from leader epoch {} to {} while its partition epoch went from {from} to {to}",
                before.leader_epoch, after.leader_epoch
            ));
        }
        Ok(())
    }

    fn state(&mut self, of: TopicPartition, state: &Arc<PartitionImage>) -> Verdict {
        let key = (of, state.partition_epoch);
        let known = self.states.entry(key).or_insert_with(|| state.clone());
        if *known != *state {
            return Err(format!("I29: {of} has two states in partition epoch {}", state.partition_epoch));
        }
        let recovering = state.leader_recovery == LeaderRecovery::Recovering;
        if let Some(leader) = state.leader
            && !state.isr.contains(&leader)
            && !state.elr.contains(&leader)
            && !recovering
        {
            return Err(format!(
                "I3: {of} is led by {leader}, who is neither in sync nor eligible: {state:?}"
            ));
        }
        self.claim(of, state.leader_epoch, state.leader)
    }
}

#[cfg(test)]
mod tests {
    use vltava_model::{PartitionIndex, TopicId};

    use super::*;

    const OF: TopicPartition = TopicPartition { topic: TopicId::new(7), partition: PartitionIndex::new(0) };

    fn state(leader: u32, leader_epoch: u32, partition_epoch: u32) -> Arc<PartitionImage> {
        let isr = vec![NodeId::new(1), NodeId::new(2)];
        Arc::new(PartitionImage {
            replicas: vec![NodeId::new(1), NodeId::new(2), NodeId::new(3)],
            isr,
            leader: Some(NodeId::new(leader)),
            leader_epoch: LeaderEpoch::new(leader_epoch),
            partition_epoch: PartitionEpoch::new(partition_epoch),
            ..PartitionImage::default()
        })
    }

    fn told(verdict: Verdict, words: &str) {
        let violation = verdict.unwrap_err();
        assert!(violation.contains(words), "{violation}");
    }

    #[test]
    fn a_second_leader_in_an_epoch_is_told() {
        let mut partitions = Partitions::default();
        partitions.state(OF, &state(1, 5, 9)).unwrap();
        partitions.leads(OF, LeaderEpoch::new(5), NodeId::new(1)).unwrap();
        told(partitions.leads(OF, LeaderEpoch::new(5), NodeId::new(2)), "I3");
        partitions.leads(OF, LeaderEpoch::new(6), NodeId::new(2)).unwrap();
        told(partitions.state(OF, &state(1, 6, 10)), "I3");
        told(partitions.state(OF, &state(3, 7, 11)), "neither in sync");
    }

    #[test]
    fn a_broker_that_was_let_go_and_still_counts_is_told() {
        let is_without = |state: &PartitionImage, node| is_without(OF, state, NodeId::new(node));
        let led = state(1, 5, 9);
        told(is_without(&led, 1), "still leads");
        told(is_without(&led, 2), "in the ISR");
        is_without(&led, 3).unwrap();
    }

    #[test]
    fn a_second_state_in_an_epoch_and_epochs_that_jump_are_told() {
        let mut partitions = Partitions::default();
        partitions.state(OF, &state(1, 5, 9)).unwrap();
        told(partitions.state(OF, &state(2, 6, 9)), "I29");
        let follows = |from: (u32, u32), to: (u32, u32), records| {
            Partitions::follows(OF, &state(1, from.0, from.1), &state(1, to.0, to.1), records)
        };
        follows((5, 9), (6, 10), 1).unwrap();
        follows((5, 9), (5, 12), 3).unwrap();
        told(follows((5, 9), (5, 9), 1), "I29");
        told(follows((5, 9), (5, 11), 1), "I29");
        told(follows((5, 9), (4, 10), 1), "I3");
        told(follows((5, 9), (7, 10), 1), "I3");
    }
}
