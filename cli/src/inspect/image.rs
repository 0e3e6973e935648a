//! The cluster's metadata in words.

use std::collections::BTreeMap;

use serde::Serialize;
use vltava_metadata::Image;

use super::raft::target_name;
use crate::output::{Rows, numbers, or_dash};

/// A metadata image as it is shown.
#[derive(Serialize)]
pub struct ImageView {
    metadata_offset: u64,
    cluster_id: Option<String>,
    features: BTreeMap<String, u32>,
    next_producer_id: u64,
    brokers: Vec<Broker>,
    topics: Vec<Topic>,
    configs: Vec<Config>,
}

#[derive(Serialize)]
struct Broker {
    id: u32,
    state: String,
    broker_epoch: u64,
    rack: Option<String>,
    endpoints: Vec<String>,
}

#[derive(Serialize)]
struct Topic {
    name: String,
    topic_id: String,
    partitions: Vec<Partition>,
}

#[derive(Serialize)]
struct Partition {
    partition: u32,
    leader: Option<u32>,
    leader_epoch: u32,
    partition_epoch: u32,
    replicas: Vec<u32>,
    isr: Vec<u32>,
    elr: Vec<u32>,
}

#[derive(Serialize)]
struct Config {
    target: String,
    name: String,
    value: String,
}

impl From<&Image> for ImageView {
    fn from(image: &Image) -> Self {
        let configs = image.configs();
        Self {
            metadata_offset: image.offset().get(),
            cluster_id: image.cluster_id().map(|id| id.to_string()),
            features: image.features().iter().map(|(name, level)| (name.to_owned(), level)).collect(),
            next_producer_id: image.next_producer_id().get(),
            brokers: image.brokers().map(|broker| view_broker(broker)).collect(),
            topics: image.topics().map(|topic| view_topic(topic)).collect(),
            configs: configs
                .targets()
                .flat_map(|target| {
                    configs.of(target).map(move |(name, value)| Config {
                        target: target_name(target),
                        name: name.to_owned(),
                        value: value.to_owned(),
                    })
                })
                .collect(),
        }
    }
}

fn view_broker(broker: &vltava_metadata::BrokerImage) -> Broker {
    Broker {
        id: broker.node_id.get(),
        state: crate::brokers::state(broker.state.to_proto()).to_owned(),
        broker_epoch: broker.broker_epoch.get(),
        rack: broker.rack.as_ref().map(ToString::to_string),
        endpoints: broker
            .endpoints
            .iter()
            .map(|endpoint| format!("{}://{}:{}", endpoint.listener, endpoint.host, endpoint.port))
            .collect(),
    }
}

fn view_topic(topic: &vltava_metadata::TopicImage) -> Topic {
    let ids = |nodes: &[vltava_model::NodeId]| nodes.iter().map(|node| node.get()).collect();
    let partitions = topic.partitions().map(|(index, partition)| Partition {
        partition: index.get(),
        leader: partition.leader.map(|node| node.get()),
        leader_epoch: partition.leader_epoch.get(),
        partition_epoch: partition.partition_epoch.get(),
        replicas: ids(&partition.replicas),
        isr: ids(&partition.isr),
        elr: ids(&partition.elr),
    });
    Topic { name: topic.name.to_string(), topic_id: topic.id.to_string(), partitions: partitions.collect() }
}

impl ImageView {
    /// For people.
    pub fn text(&self) -> String {
        let features =
            self.features.iter().map(|(name, level)| format!("{name}={level}")).collect::<Vec<_>>();
        let mut text = format!(
            "Cluster: {}  Metadata offset: {}  Features: {}  Next producer id: {}\n\n",
            or_dash(self.cluster_id.as_ref()),
            self.metadata_offset,
            if features.is_empty() { "-".to_owned() } else { features.join(",") },
            self.next_producer_id,
        );
        text.push_str(&self.brokers_table());
        text.push('\n');
        text.push_str(&self.topics_table());
        if !self.configs.is_empty() {
            let mut rows = Rows::new(&["configs of", "name", "value"]);
            self.configs.iter().for_each(|config| rows.add([&config.target, &config.name, &config.value]));
            text.push('\n');
            text.push_str(&rows.render());
        }
        text
    }

    fn brokers_table(&self) -> String {
        let mut rows = Rows::new(&["broker", "state", "epoch", "rack", "endpoints"]);
        for broker in &self.brokers {
            rows.add([
                broker.id.to_string(),
                broker.state.clone(),
                broker.broker_epoch.to_string(),
                or_dash(broker.rack.as_ref()),
                broker.endpoints.join(","),
            ]);
        }
        rows.render()
    }

    fn topics_table(&self) -> String {
        let mut rows = Rows::new(&[
            "topic",
            "partition",
            "leader",
            "epoch",
            "partition epoch",
            "replicas",
            "isr",
            "elr",
        ]);
        for topic in &self.topics {
            for partition in &topic.partitions {
                rows.add([
                    topic.name.clone(),
                    partition.partition.to_string(),
                    or_dash(partition.leader),
                    partition.leader_epoch.to_string(),
                    partition.partition_epoch.to_string(),
                    numbers(&partition.replicas),
                    numbers(&partition.isr),
                    numbers(&partition.elr),
                ]);
            }
        }
        rows.render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_image_is_shown() {
        let view = ImageView::from(&Image::empty());
        assert!(view.text().starts_with("Cluster: -  Metadata offset: 0"), "{}", view.text());
        assert_eq!(serde_json::to_value(&view).unwrap()["topics"], serde_json::json!([]));
    }
}
