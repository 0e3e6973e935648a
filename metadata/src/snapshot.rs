//! An image as the records that rebuild it from nothing, in canonical order, and back: equal images give equal bytes.
//!
//! The order: cluster, features by name, brokers by number, topics by id (each with its partitions before its own record),
//! the partitions of unfinished topics, configs by target and name, producer ids. It knows no file and no transport.

use vltava_model::{MetadataOffset, TopicPartition};
use vltava_proto::v1::{MetadataRecord, MetadataSnapshot, metadata_record::Record};

use crate::delta::Delta;
use crate::error::ReplayError;
use crate::image::{Image, Source};
use crate::record;

impl Image {
    /// The whole state as records.
    pub fn to_snapshot(&self) -> MetadataSnapshot {
        let mut records = Vec::with_capacity(self.topics.partition_count() + self.topics.len() + 16);
        records.extend(self.cluster.id().map(record::cluster));
        records.extend(self.features.iter().map(|(name, level)| record::feature(name, level)));
        records.extend(self.brokers.iter().map(|broker| record::broker(broker)));
        self.push_topics(&mut records);
        for target in self.configs.targets() {
            let values = self.configs.of(target);
            records.extend(values.map(|(name, value)| record::config(target, name, Some(value))));
        }
        records.extend(
            self.producer_ids.last().map(|last| MetadataRecord { record: Some(Record::ProducerIds(*last)) }),
        );
        MetadataSnapshot { offset: self.offset.get(), records }
    }

    fn push_topics(&self, records: &mut Vec<MetadataRecord>) {
        for topic in self.topics.iter() {
            let partitions = topic.partitions();
            records.extend(
                partitions.map(|(index, image)| record::partition(topic.name_partition(index), image)),
            );
            records.push(record::topic(topic.id, &topic.name));
        }
        for (id, topic) in self.topics.unfinished() {
            let partitions = topic.partitions();
            records.extend(
                partitions.map(|(index, image)| record::partition(TopicPartition::new(id, index), image)),
            );
        }
    }

    /// Rebuilds a state from nothing.
    ///
    /// # Errors
    /// When a record is unknown or contradicts the others; the offset in the error is then the record's position.
    pub fn from_snapshot(snapshot: &MetadataSnapshot) -> Result<Self, ReplayError> {
        let mut image = Self::empty();
        for record in &snapshot.records {
            image.replay(record, Source::Snapshot)?;
        }
        image.offset = MetadataOffset::new(snapshot.offset);
        Ok(image)
    }

    /// Becomes what the snapshot says. The delta removes what the snapshot lacks.
    ///
    /// # Errors
    /// When the snapshot is older than the image, or as [`Self::from_snapshot`]; the image is then unchanged.
    pub fn load_snapshot(&mut self, snapshot: &MetadataSnapshot) -> Result<Delta, ReplayError> {
        let end = MetadataOffset::new(snapshot.offset);
        if end < self.offset {
            return Err(ReplayError::SnapshotBehind { image: self.offset, snapshot: end });
        }
        let after = Self::from_snapshot(snapshot)?;
        let before = std::mem::replace(self, after.clone());
        Ok(Delta::between(before, after))
    }
}
