//! Descriptions for administrators: topics with their leaders' offsets, configs with their sources, the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use vltava_metadata::{ConfigTarget, DamagedReplica, TopicImage};
use vltava_model::{ErrorCode, NodeId, PartitionIndex, TopicPartition};
use vltava_proto::status;
use vltava_proto::v1::log_client::LogClient;
use vltava_proto::v1::{
    ConfigDescription, DescribeClusterResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    DescribeTopicsRequest, DescribeTopicsResponse, ErrorDetail, ListOffsetsRequest, OffsetQuery,
    PartitionDescription, TopicDescription, offset_query,
};

use super::metadata;
use crate::channel;
use crate::configs as broker_configs;
use crate::state::BrokerState;

/// How long one leader may take to tell its offsets; without them the description goes out all the same.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// Log start and high watermark of partitions, as far as their leaders told.
type Offsets = BTreeMap<TopicPartition, (u64, u64)>;

/// Describes topics.
pub async fn topics(state: &Arc<BrokerState>, request: &DescribeTopicsRequest) -> DescribeTopicsResponse {
    let image = state.image();
    let wanted: Vec<Result<Arc<TopicImage>, String>> = if request.names.is_empty() {
        image.topics().cloned().map(Ok).collect()
    } else {
        request
            .names
            .iter()
            .map(|name| image.topic_named(name).cloned().ok_or_else(|| name.clone()))
            .collect()
    };
    let offsets = offsets(state, wanted.iter().flatten()).await;
    let describe = |topic: Result<Arc<TopicImage>, String>| match topic {
        Ok(topic) => {
            let target = ConfigTarget::Topic(topic.name.clone());
            TopicDescription {
                name: topic.name.to_string(),
                topic_id: topic.id.to_bytes().to_vec().into(),
                replication_factor: topic.replication_factor(),
                configs: image.configs().of(&target).map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
                partitions: partitions(&topic, &offsets),
                error: None,
            }
        }
        Err(name) => {
            TopicDescription { error: Some(unknown_topic(&name)), name, ..TopicDescription::default() }
        }
    };
    DescribeTopicsResponse { topics: wanted.into_iter().map(describe).collect() }
}

fn unknown_topic(name: &str) -> ErrorDetail {
    status::detail(ErrorCode::UnknownTopicOrPartition, format!("no topic is named '{name}'"))
}

fn partitions(topic: &TopicImage, offsets: &Offsets) -> Vec<PartitionDescription> {
    topic
        .partitions()
        .map(|(index, partition)| {
            let found = offsets.get(&topic.name_partition(index));
            PartitionDescription {
                metadata: Some(metadata::partition_metadata(index, partition)),
                log_start_offset: found.map(|(start, _)| *start),
                high_watermark: found.map(|(_, end)| *end),
                damaged_replicas: partition.damaged.iter().map(DamagedReplica::to_proto).collect(),
            }
        })
        .collect()
}

/// Asks each leader once for each topic, all at the same time.
async fn offsets<'a>(state: &Arc<BrokerState>, topics: impl Iterator<Item = &'a Arc<TopicImage>>) -> Offsets {
    let mut known = Offsets::new();
    let mut asked = JoinSet::new();
    for topic in topics {
        let mut by_leader: BTreeMap<NodeId, Vec<PartitionIndex>> = BTreeMap::new();
        for (index, partition) in topic.partitions() {
            let Some(leader) = partition.leader else { continue };
            if leader != state.node_id {
                by_leader.entry(leader).or_default().push(index);
            } else if let Some(handle) = state.partition(topic.name_partition(index)) {
                let shared = handle.shared();
                let offsets = (shared.log_start().get(), shared.high_watermark().get());
                known.insert(topic.name_partition(index), offsets);
            }
        }
        for (leader, indexes) in by_leader {
            let Some(address) = state.broker_address(leader) else { continue };
            let topic = topic.clone();
            asked.spawn(async move { tokio::time::timeout(ASK_TIMEOUT, ask(address, topic, indexes)).await });
        }
    }
    while let Some(answer) = asked.join_next().await {
        if let Ok(Ok(Some(answer))) = answer {
            known.extend(answer);
        }
    }
    known
}

async fn ask(address: String, topic: Arc<TopicImage>, indexes: Vec<PartitionIndex>) -> Option<Offsets> {
    let query =
        |index: &PartitionIndex, at: offset_query::At| OffsetQuery { partition: index.get(), at: Some(at) };
    let earliest = indexes.iter().map(|index| query(index, offset_query::At::Earliest(true)));
    let latest = indexes.iter().map(|index| query(index, offset_query::At::Latest(true)));
    let request = ListOffsetsRequest {
        topic: topic.name.to_string(),
        partitions: earliest.chain(latest).collect(),
        topic_id: topic.id.to_bytes().to_vec().into(),
    };
    let channel = channel::lazy(&address).ok()?;
    let answers = LogClient::new(channel).list_offsets(request).await.ok()?.into_inner().partitions;
    let (earliest, latest) = answers.split_at_checked(indexes.len())?;
    let pairs = earliest.iter().zip(latest).filter_map(|(earliest, latest)| {
        let key = topic.name_partition(PartitionIndex::new(earliest.partition));
        Some((key, (earliest.offset?, latest.offset?)))
    });
    Some(pairs.collect())
}

/// Describes configs.
pub fn configs(state: &BrokerState, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let image = state.image();
    let targets = request
        .targets
        .into_iter()
        .map(|asked| {
            let described = ConfigTarget::from_proto(asked.resource, &asked.name)
                .map_err(|fault| status::detail(ErrorCode::InvalidRequest, fault.to_string()))
                .and_then(|target| match &target {
                    ConfigTarget::Topic(name) if image.topic_named(name).is_none() => {
                        Err(unknown_topic(name))
                    }
                    ConfigTarget::Broker(node) if image.broker(*node).is_none() => {
                        let message = format!("no broker {node} is registered");
                        Err(status::detail(ErrorCode::BrokerIdNotRegistered, message))
                    }
                    _ => Ok(broker_configs::describe(&image, &state.options, &target)),
                });
            let target = Some(asked);
            match described {
                Ok(entries) => ConfigDescription { target, entries, error: None },
                Err(error) => ConfigDescription { target, entries: Vec::new(), error: Some(error) },
            }
        })
        .collect();
    DescribeConfigsResponse { targets }
}

/// Describes the cluster.
pub fn cluster(state: &BrokerState) -> DescribeClusterResponse {
    let image = state.image();
    DescribeClusterResponse {
        cluster_id: state.cluster_id().to_bytes().to_vec().into(),
        controller_id: state.link.node().map(NodeId::get),
        brokers: metadata::brokers(&image),
        features: image.features().iter().map(|(name, level)| (name.to_owned(), level)).collect(),
        metadata_offset: image.offset().get(),
        topic_count: u32::try_from(image.topic_count()).unwrap_or(u32::MAX),
        partition_count: u32::try_from(image.partition_count()).unwrap_or(u32::MAX),
    }
}
