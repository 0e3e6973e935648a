//! I40: wall clocks that jump change no term, no registration, no leadership.
//!
//! To be asked only where nothing else goes wrong.

use std::sync::Arc;

use vltava_metadata::Image;

use super::Verdict;

/// How the cluster was when it had come to rest.
pub struct Calm {
    image: Arc<Image>,
    term: u64,
}

impl Calm {
    /// The cluster as it is; `None` while it has not come to rest: brokers are fenced, or leaderships about to be moved.
    pub fn of(image: &Arc<Image>, term: u64) -> Option<Self> {
        let rests = image.brokers().count() == image.active_brokers().count()
            && image.displaced_partitions().next().is_none()
            && image.leaderless_partitions().next().is_none()
            && image.under_replicated_partitions().next().is_none();
        rests.then(|| Self { image: image.clone(), term })
    }

    /// Whether everything that was there is as it was.
    pub fn lasts(&self, image: &Image, term: u64) -> Verdict {
        if term != self.term {
            return Err(format!("I40: term {} was followed by {term}, though only clocks jumped", self.term));
        }
        for before in self.image.brokers() {
            let now = image.broker(before.node_id).map(|now| (now.broker_epoch, now.state));
            if now != Some((before.broker_epoch, before.state)) {
                let node = before.node_id;
                return Err(format!(
                    "I40: broker {node} changed from {before:?} to {now:?}, though only clocks jumped"
                ));
            }
        }
        for (of, before) in self.image.partitions() {
            let Some(now) = image.partition(of) else { continue };
            if (now.leader_epoch, &now.isr) != (before.leader_epoch, &before.isr) {
                return Err(format!(
                    "I40: {of} changed from {before:?} to {now:?}, though only clocks jumped"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use vltava_metadata::{PartitionImage, record};
    use vltava_model::{NodeId, PartitionEpoch, PartitionIndex, TopicId, TopicPartition};

    use super::*;

    #[test]
    fn an_election_and_a_new_term_are_told() {
        let of = TopicPartition::new(TopicId::new(7), PartitionIndex::new(0));
        let state = PartitionImage {
            replicas: vec![NodeId::new(1), NodeId::new(2)],
            isr: vec![NodeId::new(1), NodeId::new(2)],
            leader: Some(NodeId::new(1)),
            directories: vec![None, None],
            ..PartitionImage::default()
        };
        let records = [record::partition(of, &state), record::topic(of.topic, "t")];
        let image = Arc::new(Image::empty().replayed(Image::empty().offset(), &records).unwrap());
        let calm = Calm::of(&image, 3).unwrap();
        calm.lasts(&image, 3).unwrap();
        assert!(calm.lasts(&image, 4).unwrap_err().contains("I40"));
        let mut elected = state.clone();
        elected.leader = Some(NodeId::new(2));
        elected.leader_epoch = elected.leader_epoch.next();
        elected.partition_epoch = PartitionEpoch::new(1);
        let elected = image.replayed(image.offset(), &[record::partition(of, &elected)]).unwrap();
        assert!(calm.lasts(&elected, 3).unwrap_err().contains("I40"));
        assert!(Calm::of(&Arc::new(elected), 3).is_none(), "its leader is not the preferred one");
    }
}
