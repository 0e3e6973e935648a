//! Creates topics: names, configs, and where their replicas go.
//!
//! A topic's records are its partitions, then itself, then its configs: it exists from its own record on.

mod assignment;
mod names;

use vltava_metadata::{ConfigTarget, PartitionImage, record};
use vltava_model::configs::{self, ConfigScope};
use vltava_model::{ErrorCode, NodeId, PartitionIndex, TopicId, TopicPartition};
use vltava_proto::v1::{CreateTopicsRequest, CreateTopicsResponse, CreatedTopic, MetadataRecord, NewTopic};

use rand::RngExt;
use rand::rngs::StdRng;

pub(super) use assignment::{check_assignments, new_partition, placement};
use names::Names;

use super::alter_configs::check_value;
use super::{Decision, Refusal, View, offset_after};
use crate::placement::{Placement, PlacementError};

/// Creates topics; each succeeds or fails by itself.
///
/// # Errors
/// None of the whole request.
pub fn decide(view: &View, request: &CreateTopicsRequest) -> Result<Decision<CreateTopicsResponse>, Refusal> {
    let mut random = view.random();
    let mut round = Round {
        placement: placement(view, &mut random),
        names: Names::of(view.image, request.topics.iter().map(|topic| topic.name.as_str())),
        partitions_left: view.settings.max_partitions_per_request,
        random,
        view,
    };
    let mut records = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for wanted in &request.topics {
        topics.push(match round.create(wanted) {
            Ok(created) => {
                records.extend(created.records);
                created.response
            }
            Err(refusal) => CreatedTopic {
                name: wanted.name.clone(),
                error: Some(refusal.detail()),
                ..CreatedTopic::default()
            },
        });
    }
    if request.validate_only {
        records.clear();
        for topic in &mut topics {
            topic.topic_id.clear();
        }
    }
    let metadata_offset = offset_after(view, records.len()).get();
    Ok(Decision { records, response: CreateTopicsResponse { topics, metadata_offset } })
}

/// The state of one request.
struct Round<'a> {
    view: &'a View<'a>,
    placement: Placement,
    names: Names,
    partitions_left: u32,
    random: StdRng,
}

struct Created {
    records: Vec<MetadataRecord>,
    response: CreatedTopic,
}

impl Round<'_> {
    fn create(&mut self, wanted: &NewTopic) -> Result<Created, Refusal> {
        self.names.check(&wanted.name)?;
        let configs = check_configs(wanted)?;
        let assignments = match wanted.assignments.is_empty() {
            true => self.place(wanted)?,
            false => self.assigned(wanted)?,
        };
        let partition_count = self.claim(assignments.len())?;
        let id = self.fresh_id();
        let mut records: Vec<_> = (0..)
            .map(|index| TopicPartition::new(id, PartitionIndex::new(index)))
            .zip(&assignments)
            .map(|(of, replicas)| record::partition(of, &new_partition(self.view, replicas)))
            .collect();
        records.push(record::topic(id, &wanted.name));
        let target = ConfigTarget::Topic(wanted.name.as_str().into());
        records.extend(configs.iter().map(|(name, value)| record::config(&target, name, Some(value))));
        self.names.take(&wanted.name);
        let replication_factor = assignments.first().map_or(0, Vec::len);
        let response = CreatedTopic {
            name: wanted.name.clone(),
            topic_id: id.to_bytes().to_vec().into(),
            partition_count,
            replication_factor: u32::try_from(replication_factor).expect("replicas are distinct u32 numbers"),
            error: None,
        };
        Ok(Created { records, response })
    }

    /// Lets the controller choose the brokers.
    fn place(&mut self, wanted: &NewTopic) -> Result<Vec<Vec<NodeId>>, Refusal> {
        let defaults = self.view.cluster_config();
        let or_default = |count: u32, default: u32| if count == 0 { default } else { count };
        let partitions = or_default(wanted.partition_count, defaults.num_partitions);
        let factor = or_default(wanted.replication_factor, defaults.default_replication_factor);
        if partitions > self.partitions_left {
            return Err(self.too_many());
        }
        self.placement.begin_topic([]);
        self.placement.place(partitions, factor).map_err(refuse_placement)
    }

    /// Takes the brokers that the request names.
    fn assigned(&self, wanted: &NewTopic) -> Result<Vec<Vec<NodeId>>, Refusal> {
        let assignments = check_assignments(self.view, &wanted.assignments, None)?;
        let count = u32::try_from(assignments.len()).unwrap_or(u32::MAX);
        if wanted.partition_count != 0 && wanted.partition_count != count {
            return Err(Refusal::new(
                ErrorCode::InvalidPartitions,
                format!("{count} assignments were given for {} partitions", wanted.partition_count),
            ));
        }
        let factor = assignments[0].len();
        if wanted.replication_factor != 0 && wanted.replication_factor as usize != factor {
            return Err(Refusal::new(
                ErrorCode::InvalidReplicationFactor,
                format!("assignments of {factor} replicas were given for {}", wanted.replication_factor),
            ));
        }
        Ok(assignments)
    }

    /// Counts partitions against the request's bound.
    fn claim(&mut self, partitions: usize) -> Result<u32, Refusal> {
        let count = u32::try_from(partitions).unwrap_or(u32::MAX);
        self.partitions_left = self.partitions_left.checked_sub(count).ok_or_else(|| self.too_many())?;
        Ok(count)
    }

    fn too_many(&self) -> Refusal {
        let most = self.view.settings.max_partitions_per_request;
        Refusal::new(
            ErrorCode::PolicyViolation,
            format!("a request creates at most {most} partitions: send the rest in another one"),
        )
    }

    fn fresh_id(&mut self) -> TopicId {
        loop {
            let id = TopicId::new(self.random.random());
            let taken = self.view.image.topic(id).is_some()
                || self.view.image.unfinished_topics().any(|other| other == id);
            if id != TopicId::default() && !taken {
                return id;
            }
        }
    }
}

/// What a placement error is to a client.
pub(super) fn refuse_placement(error: PlacementError) -> Refusal {
    let code = match error {
        PlacementError::NoReplicas | PlacementError::TooFewBrokers { .. } => {
            ErrorCode::InvalidReplicationFactor
        }
        PlacementError::NobodyActive => ErrorCode::BrokerNotAvailable,
    };
    Refusal::new(code, error.to_string())
}

/// The topic's configs by name, in order.
fn check_configs(wanted: &NewTopic) -> Result<Vec<(&str, &str)>, Refusal> {
    let mut checked = Vec::with_capacity(wanted.configs.len());
    for (name, value) in &wanted.configs {
        check_value(ConfigScope::Topic, name, value)?;
        checked.push((name.as_str(), value.trim()));
    }
    checked.sort_unstable();
    debug_assert!(checked.iter().all(|(name, _)| configs::find(ConfigScope::Topic, name).is_ok()));
    Ok(checked)
}

/// A partition's first state.
pub(super) fn first_state(
    replicas: Vec<NodeId>,
    isr: Vec<NodeId>,
    directories: Vec<Option<vltava_model::DirectoryId>>,
) -> PartitionImage {
    PartitionImage { leader: isr.first().copied(), replicas, isr, directories, ..PartitionImage::default() }
}
