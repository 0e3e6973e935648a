//! What changed between two images, with before and after. Knows nothing of what anybody does about it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use vltava_model::{NodeId, PartitionIndex, TopicId, TopicPartition};
use vltava_proto::v1::{MetadataRecord, metadata_record::Record};

use crate::image::{BrokerImage, ConfigTarget, Image, PartitionImage, TopicImage};
use crate::local::LocalChanges;

/// What became of one thing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change<T> {
    /// It is new.
    Added(T),
    /// It is gone.
    Removed(T),
    /// It is another.
    Changed {
        /// What it was.
        before: T,
        /// What it is.
        after: T,
    },
}

impl<T> Change<T> {
    /// What it was; `None` when it is new.
    pub fn before(&self) -> Option<&T> {
        match self {
            Self::Added(_) => None,
            Self::Removed(before) | Self::Changed { before, .. } => Some(before),
        }
    }

    /// What it is; `None` when it is gone.
    pub fn after(&self) -> Option<&T> {
        match self {
            Self::Removed(_) => None,
            Self::Added(after) | Self::Changed { after, .. } => Some(after),
        }
    }

    fn between(before: Option<T>, after: Option<T>) -> Option<Self>
    where
        T: PartialEq,
    {
        match (before, after) {
            (None, Some(after)) => Some(Self::Added(after)),
            (Some(before), None) => Some(Self::Removed(before)),
            (Some(before), Some(after)) if before != after => Some(Self::Changed { before, after }),
            _ => None,
        }
    }
}

/// All that differs between two images. What was changed and changed back is not in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delta {
    before: Image,
    after: Image,
    topics: BTreeMap<TopicId, Change<Arc<TopicImage>>>,
    partitions: BTreeMap<TopicPartition, Change<Arc<PartitionImage>>>,
    brokers: BTreeMap<NodeId, Change<Arc<BrokerImage>>>,
    configs: BTreeSet<ConfigTarget>,
}

/// What may differ between two images.
#[derive(Default)]
struct Touched {
    topics: BTreeSet<TopicId>,
    partitions: BTreeSet<TopicPartition>,
    brokers: BTreeSet<NodeId>,
    configs: BTreeSet<ConfigTarget>,
}

impl Touched {
    fn by_record(&mut self, before: &Image, after: &Image, record: &Record) {
        match record {
            Record::Broker(record) => {
                self.brokers.insert(NodeId::new(record.node_id));
            }
            Record::BrokerRemoved(record) => {
                let node = NodeId::new(record.node_id);
                self.brokers.insert(node);
                self.configs.insert(ConfigTarget::Broker(node));
            }
            Record::Topic(record) => self.topic(before, after, TopicId::from_slice(&record.topic_id)),
            Record::TopicRemoved(record) => self.topic(before, after, TopicId::from_slice(&record.topic_id)),
            Record::Partition(record) => {
                let topic = TopicId::from_slice(&record.topic_id);
                let partition = PartitionIndex::new(record.partition);
                self.partitions.extend(topic.map(|topic| TopicPartition::new(topic, partition)));
            }
            Record::Config(record) => {
                self.configs.extend(ConfigTarget::from_proto(record.resource, &record.resource_name));
            }
            Record::Cluster(_) | Record::Feature(_) | Record::ProducerIds(_) => {}
        }
    }

    fn topic(&mut self, before: &Image, after: &Image, id: Option<TopicId>) {
        let Some(id) = id else { return };
        self.topics.insert(id);
        for topic in [before.topics.get(id), after.topics.get(id)].into_iter().flatten() {
            self.configs.insert(ConfigTarget::Topic(topic.name.clone()));
            self.partitions.extend(topic.partitions().map(|(index, _)| topic.name_partition(index)));
        }
    }

    fn everything(&mut self, image: &Image) {
        self.brokers.extend(image.brokers.iter().map(|broker| broker.node_id));
        self.configs.extend(image.configs.targets().cloned());
        for topic in image.topics.iter() {
            self.topics.insert(topic.id);
            self.partitions.extend(topic.partitions().map(|(index, _)| topic.name_partition(index)));
        }
    }
}

impl Delta {
    /// What the records that lead from one image to the other changed; looks only at what they name.
    pub(crate) fn of_records(before: Image, after: Image, records: &[MetadataRecord]) -> Self {
        let mut touched = Touched::default();
        for record in records.iter().filter_map(|record| record.record.as_ref()) {
            touched.by_record(&before, &after, record);
        }
        Self::of_touched(before, after, touched)
    }

    /// What differs between any two images; looks at everything.
    pub fn between(before: Image, after: Image) -> Self {
        let mut touched = Touched::default();
        touched.everything(&before);
        touched.everything(&after);
        Self::of_touched(before, after, touched)
    }

    fn of_touched(before: Image, after: Image, touched: Touched) -> Self {
        let partition = |image: &Image, of: &TopicPartition| image.partition(*of).cloned();
        let exists = |image: &Image, id: &TopicId| image.topics.get(*id).cloned();
        let topics = touched.topics.into_iter().filter_map(|id| {
            let change = match (exists(&before, &id), exists(&after, &id)) {
                (Some(_), Some(_)) => return None,
                (before, after) => Change::between(before, after)?,
            };
            Some((id, change))
        });
        let partitions = touched.partitions.into_iter().filter_map(|of| {
            Change::between(partition(&before, &of), partition(&after, &of)).map(|change| (of, change))
        });
        let brokers = touched.brokers.into_iter().filter_map(|node| {
            Change::between(before.brokers.get(node).cloned(), after.brokers.get(node).cloned())
                .map(|change| (node, change))
        });
        let configs =
            touched.configs.into_iter().filter(|target| !before.configs.same(&after.configs, target));
        Self {
            topics: topics.collect(),
            partitions: partitions.collect(),
            brokers: brokers.collect(),
            configs: configs.collect(),
            before: before.clone(),
            after: after.clone(),
        }
    }

    /// The image before.
    pub fn before(&self) -> &Image {
        &self.before
    }

    /// The image after.
    pub fn after(&self) -> &Image {
        &self.after
    }

    /// Topics that are new or gone. A topic whose partitions changed is not in it.
    pub fn topics(&self) -> &BTreeMap<TopicId, Change<Arc<TopicImage>>> {
        &self.topics
    }

    /// Partitions that are new, gone or changed, those of new and deleted topics among them.
    pub fn partitions(&self) -> &BTreeMap<TopicPartition, Change<Arc<PartitionImage>>> {
        &self.partitions
    }

    /// Brokers that are new, gone or changed.
    pub fn brokers(&self) -> &BTreeMap<NodeId, Change<Arc<BrokerImage>>> {
        &self.brokers
    }

    /// Targets whose own values changed.
    pub fn configs(&self) -> &BTreeSet<ConfigTarget> {
        &self.configs
    }

    /// Whether nothing in it concerns topics, brokers or configs.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
            && self.partitions.is_empty()
            && self.brokers.is_empty()
            && self.configs.is_empty()
    }

    /// What this means for the replicas of one broker.
    pub fn local_changes(&self, node: NodeId) -> LocalChanges {
        LocalChanges::of(self, node)
    }
}
