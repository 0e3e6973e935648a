//! I33: a topic id is given once, to one name, and never again after its topic is gone; a broker holds partitions under the
//! name that their id was given to.

use std::collections::BTreeMap;
use std::sync::Arc;

use vltava_broker::state::{BrokerState, Partitions};
use vltava_metadata::Image;
use vltava_model::{MetadataOffset, NodeId, TopicId};

use super::Verdict;

/// A topic as all committed states that were seen have it.
struct Life {
    name: Arc<str>,
    /// The first and the last state that has it.
    seen: (MetadataOffset, MetadataOffset),
    /// The first state behind one that has it in which it is gone.
    gone: Option<MetadataOffset>,
}

/// See the module.
#[derive(Default)]
pub struct Topics {
    lives: BTreeMap<TopicId, Life>,
    held: BTreeMap<NodeId, Arc<Partitions>>,
}

impl Topics {
    /// A committed state that was not seen before, in whatever order.
    pub fn state(&mut self, image: &Image) -> Verdict {
        let at = image.offset();
        for topic in image.topics() {
            let new = || Life { name: topic.name.clone(), seen: (at, at), gone: None };
            let life = self.lives.entry(topic.id).or_insert_with(new);
            if life.name != topic.name {
                return Err(format!("I33: topic id {} is '{}' and '{}'", topic.id, life.name, topic.name));
            }
            life.seen = (life.seen.0.min(at), life.seen.1.max(at));
        }
        for (id, life) in self.lives.iter_mut().filter(|(id, _)| image.topic(**id).is_none()) {
            if life.seen.0 < at {
                life.gone = Some(life.gone.map_or(at, |gone| gone.min(at)));
            }
            if let Some(gone) = life.gone
                && gone < life.seen.1
            {
                return Err(format!(
                    "I33: topic {id} is there again at {}, it was gone at {gone}",
                    life.seen.1
                ));
            }
        }
        let back = image.topics().find(|topic| {
            let life = &self.lives[&topic.id];
            life.gone.is_some_and(|gone| gone < life.seen.1)
        });
        back.map_or(Ok(()), |topic| Err(format!("I33: topic {} is there again at {at}", topic.id)))
    }

    /// The partitions that a broker holds.
    pub fn look(&mut self, broker: &BrokerState) -> Verdict {
        let (node, held) = (broker.node_id, broker.partitions());
        if self.held.get(&node).is_some_and(|known| Arc::ptr_eq(known, &held)) {
            return Ok(());
        }
        for handle in held.values() {
            let (of, name) = (handle.partition(), handle.shared().topic_name());
            let life = self.lives.get(&of.topic);
            if life.is_some_and(|life| life.name != *name) {
                return Err(format!("I33: broker {node} holds {of} as '{name}'"));
            }
        }
        self.held.insert(node, held);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use vltava_metadata::record;
    use vltava_model::{PartitionIndex, TopicPartition};

    use super::*;
    use vltava_metadata::PartitionImage;

    fn create(image: &Image, id: TopicId, name: &str) -> Image {
        let partition = PartitionImage {
            replicas: vec![NodeId::new(1)],
            isr: vec![NodeId::new(1)],
            leader: Some(NodeId::new(1)),
            directories: vec![None],
            ..PartitionImage::default()
        };
        let of = TopicPartition::new(id, PartitionIndex::new(0));
        let records = [record::partition(of, &partition), record::topic(id, name)];
        image.replayed(image.offset(), &records).unwrap()
    }

    fn delete(image: &Image, id: TopicId) -> Image {
        image.replayed(image.offset(), &[record::topic_removed(id)]).unwrap()
    }

    #[test]
    fn an_id_that_comes_back_or_changes_its_name_is_told() {
        let (one, other) = (TopicId::new(1), TopicId::new(2));
        let first = create(&Image::empty(), one, "a");
        let gone = delete(&first, one);
        let again = create(&gone, one, "a");
        for order in [[&first, &gone, &again], [&first, &again, &gone], [&gone, &again, &first]] {
            let mut topics = Topics::default();
            let verdicts: Vec<Verdict> = order.iter().map(|image| topics.state(image)).collect();
            let told: Vec<_> = verdicts.into_iter().filter_map(Result::err).collect();
            assert_eq!(told.len(), usize::from(!std::ptr::eq(order[0], &gone)), "{told:?}");
        }
        let mut topics = Topics::default();
        topics.state(&first).unwrap();
        topics.state(&gone).unwrap();
        topics.state(&create(&gone, other, "a")).unwrap();
        assert!(topics.state(&create(&delete(&first, one), one, "b")).unwrap_err().contains("I33"));
    }
}
