//! Metadata: brokers, topics and leaders as this broker knows them, once or again at each change.

use std::sync::Arc;

use tokio::sync::mpsc;
use tonic::Status;
use vltava_metadata::{Image, PartitionImage, TopicImage};
use vltava_model::{ErrorCode, NodeId, PartitionIndex};
use vltava_proto::status;
use vltava_proto::v1::{BrokerMetadata, MetadataRequest, MetadataResponse, PartitionMetadata, TopicMetadata};

use crate::state::BrokerState;

/// Answers that may wait for a watcher; changes that come meanwhile are told together.
const WATCH_QUEUE: usize = 1;

/// Answers from the current image.
pub fn answer(state: &BrokerState, request: &MetadataRequest) -> MetadataResponse {
    let image = state.image();
    let topics = if request.brokers_only {
        Vec::new()
    } else if request.topics.is_empty() {
        image.topics().map(|topic| topic_metadata(topic)).collect()
    } else {
        request.topics.iter().map(|name| named(&image, name)).collect()
    };
    MetadataResponse {
        cluster_id: state.cluster_id().to_bytes().to_vec().into(),
        controller_id: state.link.node().map(NodeId::get),
        brokers: brokers(&image),
        topics,
        metadata_offset: image.offset().get(),
    }
}

/// All registered brokers.
pub fn brokers(image: &Image) -> Vec<BrokerMetadata> {
    image
        .brokers()
        .map(|broker| BrokerMetadata {
            node_id: broker.node_id.get(),
            endpoints: broker.endpoints.iter().map(|endpoint| endpoint.to_proto()).collect(),
            rack: broker.rack.clone(),
            state: broker.state.to_proto().into(),
            broker_epoch: broker.broker_epoch.get(),
        })
        .collect()
}

fn named(image: &Image, name: &str) -> TopicMetadata {
    match image.topic_named(name) {
        Some(topic) => topic_metadata(topic),
        None => {
            let message = format!("no topic is named '{name}'");
            let error = Some(status::detail(ErrorCode::UnknownTopicOrPartition, message));
            TopicMetadata { name: name.to_owned(), error, ..TopicMetadata::default() }
        }
    }
}

fn topic_metadata(topic: &TopicImage) -> TopicMetadata {
    TopicMetadata {
        name: topic.name.to_string(),
        topic_id: topic.id.to_bytes().to_vec().into(),
        partitions: topic
            .partitions()
            .map(|(index, partition)| partition_metadata(index, partition))
            .collect(),
        error: None,
    }
}

/// One partition.
pub fn partition_metadata(index: PartitionIndex, partition: &PartitionImage) -> PartitionMetadata {
    let raw = |nodes: &[NodeId]| nodes.iter().map(|node| node.get()).collect();
    PartitionMetadata {
        partition: index.get(),
        leader: partition.leader.map(NodeId::get),
        leader_epoch: partition.leader_epoch.get(),
        replicas: raw(&partition.replicas),
        isr: raw(&partition.isr),
        elr: raw(&partition.elr),
    }
}

/// Answers now, and again whenever the answer differs from the last one sent.
pub fn watch(
    state: Arc<BrokerState>,
    request: MetadataRequest,
) -> mpsc::Receiver<Result<MetadataResponse, Status>> {
    let (out, responses) = mpsc::channel(WATCH_QUEUE);
    tokio::spawn(async move {
        let mut published = state.metadata_published();
        let mut last: Option<MetadataResponse> = None;
        loop {
            published.borrow_and_update();
            let response = answer(&state, &request);
            let news = last.as_ref().is_none_or(|last| differs(last, &response));
            if news {
                last = Some(response.clone());
                if out.send(Ok(response)).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                changed = published.changed() => if changed.is_err() { return },
                () = out.closed() => return,
            }
        }
    });
    responses
}

fn differs(last: &MetadataResponse, now: &MetadataResponse) -> bool {
    last.brokers != now.brokers || last.topics != now.topics || last.controller_id != now.controller_id
}
