//! `vltava topics describe`.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;
use vltava_proto::v1::{PartitionDescription, TopicDescription};

use super::topic_id;
use crate::args::Context;
use crate::client::{self, FirstError};
use crate::exit::CliResult;
use crate::output::{self, Rows, numbers, or_dash};

/// Show topics: leaders, replicas, ISR, offsets
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vltava topics describe                      all topics
  vltava topics describe orders payments
  vltava topics describe orders --output json | jq '.topics[0].partitions[0].leader'

ISR are the replicas in sync; ELR those that may lead although they are not (KIP-966). A damaged replica is not served; \
it is copied anew as soon as another one leads.")]
pub struct DescribeArgs {
    /// Which topics; all without one
    names: Vec<String>,
}

#[derive(Serialize)]
struct Topics {
    topics: Vec<Topic>,
}

#[derive(Serialize)]
struct Topic {
    name: String,
    topic_id: String,
    partition_count: usize,
    replication_factor: u32,
    configs: BTreeMap<String, String>,
    partitions: Vec<Partition>,
}

#[derive(Serialize)]
struct Partition {
    partition: u32,
    leader: Option<u32>,
    leader_epoch: u32,
    replicas: Vec<u32>,
    isr: Vec<u32>,
    elr: Vec<u32>,
    log_start_offset: Option<u64>,
    high_watermark: Option<u64>,
    /// Only where there are some.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    damaged: Vec<Damaged>,
}

#[derive(Serialize)]
struct Damaged {
    broker: u32,
    what: String,
}

pub async fn run(args: DescribeArgs, context: &Context) -> CliResult {
    let mut errors = FirstError::default();
    let mut topics = Vec::new();
    for topic in client::admin(context)?.describe_topics(args.names).await? {
        match &topic.error {
            Some(detail) => errors.note(client::refused(detail)),
            None => topics.push(Topic::from(topic)),
        }
    }
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    output::print(context.format, &Topics { topics }, table)?;
    errors.end()
}

impl From<TopicDescription> for Topic {
    fn from(topic: TopicDescription) -> Self {
        let mut partitions: Vec<Partition> = topic.partitions.into_iter().map(Partition::from).collect();
        partitions.sort_by_key(|partition| partition.partition);
        Self {
            name: topic.name,
            topic_id: topic_id(&topic.topic_id),
            partition_count: partitions.len(),
            replication_factor: topic.replication_factor,
            configs: topic.configs.into_iter().collect(),
            partitions,
        }
    }
}

impl From<PartitionDescription> for Partition {
    fn from(description: PartitionDescription) -> Self {
        let metadata = description.metadata.unwrap_or_default();
        Self {
            partition: metadata.partition,
            leader: metadata.leader,
            leader_epoch: metadata.leader_epoch,
            replicas: metadata.replicas,
            isr: metadata.isr,
            elr: metadata.elr,
            log_start_offset: description.log_start_offset,
            high_watermark: description.high_watermark,
            damaged: description
                .damaged_replicas
                .into_iter()
                .map(|damaged| Damaged { broker: damaged.broker_id, what: damaged.what })
                .collect(),
        }
    }
}

fn table(view: &Topics) -> String {
    let blocks: Vec<String> = view.topics.iter().map(block).collect();
    blocks.join("\n")
}

fn block(topic: &Topic) -> String {
    let configs = match topic.configs.is_empty() {
        true => "-".to_owned(),
        false => {
            topic.configs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
        }
    };
    let mut rows =
        Rows::new(&["partition", "leader", "epoch", "replicas", "isr", "elr", "log start", "high watermark"]);
    for partition in &topic.partitions {
        rows.add([
            partition.partition.to_string(),
            or_dash(partition.leader),
            partition.leader_epoch.to_string(),
            numbers(&partition.replicas),
            numbers(&partition.isr),
            numbers(&partition.elr),
            or_dash(partition.log_start_offset),
            or_dash(partition.high_watermark),
        ]);
    }
    let mut table: String = rows.render().lines().map(|line| format!("  {line}\n")).collect();
    for partition in &topic.partitions {
        for Damaged { broker, what } in &partition.damaged {
            table.push_str(&format!(
                "  partition {}: the replica on broker {broker} is damaged and not served: {what}\n",
                partition.partition
            ));
        }
    }
    format!(
        "Topic: {}  Id: {}  Partitions: {}  Replicas: {}  Configs: {configs}\n{table}",
        topic.name, topic.topic_id, topic.partition_count, topic.replication_factor,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use vltava_proto::v1::{DamagedReplica, PartitionMetadata};

    fn topics() -> Topics {
        let metadata = |partition, leader| PartitionMetadata {
            partition,
            leader,
            leader_epoch: 4,
            replicas: vec![1, 2, 3],
            isr: vec![2, 3],
            elr: vec![],
        };
        let description = TopicDescription {
            name: "t".into(),
            topic_id: vec![0xab; 16].into(),
            replication_factor: 3,
            configs: [("retention.ms".to_owned(), "5".to_owned())].into(),
            partitions: vec![
                PartitionDescription {
                    metadata: Some(metadata(1, None)),
                    log_start_offset: None,
                    high_watermark: None,
                    damaged_replicas: vec![DamagedReplica {
                        broker_id: 1,
                        what: "0.log: damaged at byte 7".into(),
                        was_eligible: true,
                    }],
                },
                PartitionDescription {
                    metadata: Some(metadata(0, Some(2))),
                    log_start_offset: Some(0),
                    high_watermark: Some(10),
                    damaged_replicas: Vec::new(),
                },
            ],
            error: None,
        };
        Topics { topics: vec![description.into()] }
    }

    #[test]
    fn json_has_the_documented_shape() {
        let partition = |partition, leader: &str, start: &str, end: &str, damaged: &str| {
            format!(
                r#"{{"partition":{partition},"leader":{leader},"leader_epoch":4,"replicas":[1,2,3],"isr":[2,3],"elr":[],"log_start_offset":{start},"high_watermark":{end}{damaged}}}"#
            )
        };
        let expected = format!(
            r#"{{"topics":[{{"name":"t","topic_id":"{}","partition_count":2,"replication_factor":3,"configs":{{"retention.ms":"5"}},"partitions":[{},{}]}}]}}"#,
            "ab".repeat(16),
            partition(0, "2", "0", "10", ""),
            partition(
                1,
                "null",
                "null",
                "null",
                r#","damaged":[{"broker":1,"what":"0.log: damaged at byte 7"}]"#
            ),
        );
        assert_eq!(serde_json::to_string(&topics()).unwrap(), expected);
    }

    #[test]
    fn the_table_is_for_people() {
        let text = table(&topics());
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("Topic: t  Id: abab") && lines[0].ends_with("Configs: retention.ms=5"));
        assert_eq!(lines[1], "  PARTITION  LEADER  EPOCH  REPLICAS  ISR  ELR  LOG START  HIGH WATERMARK");
        assert_eq!(lines[2], "  0          2       4      1,2,3     2,3  -    0          10");
        assert_eq!(lines[3], "  1          -       4      1,2,3     2,3  -    -          -");
        let damaged =
            "  partition 1: the replica on broker 1 is damaged and not served: 0.log: damaged at byte 7";
        assert_eq!(lines[4], damaged);
    }
}
