//! Topics and their partitions. Knows nothing of configs and brokers.

use std::sync::Arc;

use imbl::{OrdMap, Vector};
use vltava_model::{LeaderEpoch, PartitionEpoch, PartitionIndex, TopicId, TopicPartition};
use vltava_proto::v1::{PartitionRecord, TopicRecord, TopicRemovedRecord};

use super::convert::identity;
use super::{PartitionImage, ReplicaIndex, Source};
use crate::error::Fault;

/// A topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicImage {
    /// Its identity.
    pub id: TopicId,
    /// Its name.
    pub name: Arc<str>,
    partitions: Vector<Arc<PartitionImage>>,
}

impl TopicImage {
    /// One partition.
    pub fn partition(&self, index: PartitionIndex) -> Option<&Arc<PartitionImage>> {
        self.partitions.get(usize::try_from(index.get()).ok()?)
    }

    /// All partitions, by number.
    pub fn partitions(&self) -> impl Iterator<Item = (PartitionIndex, &Arc<PartitionImage>)> {
        (0..).map(PartitionIndex::new).zip(self.partitions.iter())
    }

    /// How many partitions it has.
    pub fn partition_count(&self) -> u32 {
        u32::try_from(self.partitions.len()).expect("partitions are numbered by u32")
    }

    /// How many replicas its first partition has, which is how many all were created with.
    pub fn replication_factor(&self) -> u32 {
        self.partitions.front().map_or(0, |partition| {
            u32::try_from(partition.replicas.len()).expect("replicas are distinct u32 numbers")
        })
    }

    /// Names one of its partitions.
    pub fn name_partition(&self, index: PartitionIndex) -> TopicPartition {
        TopicPartition::new(self.id, index)
    }
}

/// Partitions whose topic has no record yet; nobody sees them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UnfinishedTopic {
    partitions: Vector<Arc<PartitionImage>>,
}

impl UnfinishedTopic {
    /// What has arrived, by number.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = (PartitionIndex, &Arc<PartitionImage>)> {
        (0..).map(PartitionIndex::new).zip(self.partitions.iter())
    }
}

/// All topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicsImage {
    by_id: OrdMap<TopicId, Arc<TopicImage>>,
    by_name: OrdMap<Arc<str>, TopicId>,
    unfinished: OrdMap<TopicId, UnfinishedTopic>,
    index: ReplicaIndex,
    partition_count: usize,
}

impl TopicsImage {
    /// A topic by its identity.
    pub fn get(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.by_id.get(&id)
    }

    /// A topic's identity by its name.
    pub fn id_of(&self, name: &str) -> Option<TopicId> {
        self.by_name.get(name).copied()
    }

    /// All topics, by identity.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.by_id.values()
    }

    /// All topics, by name.
    pub fn iter_by_name(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.by_name.values().filter_map(|id| self.by_id.get(id))
    }

    /// Topics that were begun and have no record yet.
    pub fn unfinished(&self) -> impl Iterator<Item = (TopicId, &UnfinishedTopic)> {
        self.unfinished.iter().map(|(id, topic)| (*id, topic))
    }

    /// Which partitions brokers hold and lead.
    pub fn index(&self) -> &ReplicaIndex {
        &self.index
    }

    /// How many topics there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is no topic.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// How many partitions all topics have.
    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    pub(super) fn replay(&mut self, record: &TopicRecord) -> Result<(), Fault> {
        let id = identity(&record.topic_id, "topic id", TopicId::from_slice)?;
        if record.name.is_empty() {
            return Err(Fault::Malformed("topic name"));
        }
        if self.by_id.contains_key(&id) {
            return Err(Fault::Exists(format!("topic id {id}")));
        }
        if self.by_name.contains_key(record.name.as_str()) {
            return Err(Fault::Exists(format!("topic {}", record.name)));
        }
        let name: Arc<str> = record.name.as_str().into();
        let partitions = self.unfinished.remove(&id).unwrap_or_default().partitions;
        let topic = TopicImage { id, name: name.clone(), partitions };
        for (partition, image) in topic.partitions() {
            self.index.update(topic.name_partition(partition), None, Some(image));
        }
        self.partition_count += topic.partitions.len();
        self.by_name.insert(name, id);
        self.by_id.insert(id, Arc::new(topic));
        Ok(())
    }

    /// Removes a topic and returns it, or drops an unfinished one.
    pub(super) fn replay_removed(
        &mut self,
        record: &TopicRemovedRecord,
    ) -> Result<Option<Arc<TopicImage>>, Fault> {
        let id = identity(&record.topic_id, "topic id", TopicId::from_slice)?;
        if self.unfinished.remove(&id).is_some() {
            return Ok(None);
        }
        let Some(topic) = self.by_id.remove(&id) else {
            return Err(Fault::Missing(format!("topic id {id}")));
        };
        self.by_name.remove(&*topic.name);
        for (partition, image) in topic.partitions() {
            self.index.update(topic.name_partition(partition), Some(image), None);
        }
        self.partition_count -= topic.partitions.len();
        Ok(Some(topic))
    }

    pub(super) fn replay_partition(&mut self, record: &PartitionRecord, source: Source) -> Result<(), Fault> {
        let (of, after) = PartitionImage::from_record(record)?;
        let Some(topic) = self.by_id.get_mut(&of.topic) else {
            let unfinished = self.unfinished.entry(of.topic).or_default();
            return append(&mut unfinished.partitions, of, after, source);
        };
        let topic = Arc::make_mut(topic);
        let known = topic.partition(of.partition).cloned();
        match &known {
            Some(before) => {
                if source == Source::Snapshot {
                    return Err(Fault::Exists(format!("partition {of}")));
                }
                before.check_successor(of, &after)?;
                self.index.update(of, Some(before), Some(&after));
                let position = usize::try_from(of.partition.get()).expect("it was found at this position");
                topic.partitions.set(position, Arc::new(after));
            }
            None => {
                self.index.update(of, None, Some(&after));
                append(&mut topic.partitions, of, after, source)?;
                self.partition_count += 1;
            }
        }
        Ok(())
    }
}

/// Adds a new partition: the next number, in its first epochs unless it comes out of a snapshot.
fn append(
    partitions: &mut Vector<Arc<PartitionImage>>,
    of: TopicPartition,
    image: PartitionImage,
    source: Source,
) -> Result<(), Fault> {
    if usize::try_from(of.partition.get()).ok() != Some(partitions.len()) {
        return Err(Fault::Missing(format!("the partition before {of}")));
    }
    let first = image.partition_epoch == PartitionEpoch::ZERO && image.leader_epoch == LeaderEpoch::ZERO;
    if source == Source::Log && !first {
        return Err(Fault::Missing(format!("partition {of}, which a record changes")));
    }
    partitions.push_back(Arc::new(image));
    Ok(())
}
