//! The whole state at one metadata offset.
//!
//! An image is immutable to its readers: replay makes another, which shares all that did not change. It must not know who
//! reads it, nor what the facts are for.

mod brokers;
mod cluster;
mod configs;
mod convert;
mod features;
mod index;
mod partitions;
mod producer_ids;
mod topics;

use vltava_model::MetadataOffset;
use vltava_proto::v1::{MetadataRecord, metadata_record::Record};

use crate::delta::Delta;
use crate::error::{Fault, ReplayError};

pub use brokers::{BrokerImage, BrokerState, BrokersImage, Endpoint};
pub use cluster::ClusterImage;
pub use configs::{ConfigTarget, ConfigsImage};
pub use features::FeaturesImage;
pub use index::ReplicaIndex;
pub use partitions::{DamagedReplica, LeaderRecovery, PartitionImage};
pub use producer_ids::ProducerIdsImage;
pub use topics::{TopicImage, TopicsImage, UnfinishedTopic};

/// Whether records continue a log or rebuild a state from nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    /// The log: each record is checked against what was before.
    Log,
    /// A snapshot: things appear with the epochs that they had.
    Snapshot,
}

/// The cluster's state after a prefix of the metadata log. Cloning shares everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    pub(crate) offset: MetadataOffset,
    pub(crate) cluster: ClusterImage,
    pub(crate) features: FeaturesImage,
    pub(crate) brokers: BrokersImage,
    pub(crate) topics: TopicsImage,
    pub(crate) configs: ConfigsImage,
    pub(crate) producer_ids: ProducerIdsImage,
}

impl Image {
    /// The state before any record.
    pub fn empty() -> Self {
        Self::default()
    }

    /// How many records were applied: the base that the next records must have.
    pub fn offset(&self) -> MetadataOffset {
        self.offset
    }

    /// Applies records that follow at `base`, all or none.
    ///
    /// # Errors
    /// See [`ReplayError`]; the image is then unchanged.
    pub fn apply(&mut self, base: MetadataOffset, records: &[MetadataRecord]) -> Result<Delta, ReplayError> {
        let before = self.clone();
        let after = self.replayed(base, records)?;
        *self = after.clone();
        Ok(Delta::of_records(before, after, records))
    }

    /// The state after records that follow at `base`, for one who does not ask what changed.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn replayed(&self, base: MetadataOffset, records: &[MetadataRecord]) -> Result<Image, ReplayError> {
        if base != self.offset {
            return Err(ReplayError::WrongBase { expected: self.offset, given: base });
        }
        let mut after = self.clone();
        for record in records {
            after.replay(record, Source::Log)?;
        }
        Ok(after)
    }

    /// Applies one record and moves the offset. After an error the image is of no use.
    pub(crate) fn replay(&mut self, record: &MetadataRecord, source: Source) -> Result<(), ReplayError> {
        let at = self.offset;
        let Some(record) = &record.record else {
            return Err(ReplayError::UnknownRecord { at });
        };
        self.replay_fact(record, source).map_err(|reason| ReplayError::Inconsistent { at, reason })?;
        self.offset = at.next();
        Ok(())
    }

    fn replay_fact(&mut self, record: &Record, source: Source) -> Result<(), Fault> {
        match record {
            Record::Cluster(record) => self.cluster.replay(record),
            Record::Feature(record) => self.features.replay(record),
            Record::Broker(record) => self.brokers.replay(record),
            Record::BrokerRemoved(record) => {
                let node = self.brokers.replay_removed(record)?;
                self.configs.forget(&ConfigTarget::Broker(node));
                Ok(())
            }
            Record::Topic(record) => self.topics.replay(record),
            Record::TopicRemoved(record) => {
                if let Some(topic) = self.topics.replay_removed(record)? {
                    self.configs.forget(&ConfigTarget::Topic(topic.name.clone()));
                }
                Ok(())
            }
            Record::Partition(record) => self.topics.replay_partition(record, source),
            Record::Config(record) => {
                let target = ConfigTarget::from_record(record)?;
                if let ConfigTarget::Topic(name) = &target
                    && self.topics.id_of(name).is_none()
                {
                    return Err(Fault::Missing(format!("topic {name}")));
                }
                self.configs.replay(target, record);
                Ok(())
            }
            Record::ProducerIds(record) => self.producer_ids.replay(record),
        }
    }
}

#[cfg(test)]
mod tests;
