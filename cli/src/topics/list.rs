//! `vltava topics list`.

use clap::Args;
use serde::Serialize;
use vltava_proto::v1::TopicMetadata;

use super::topic_id;
use crate::args::Context;
use crate::client;
use crate::exit::CliResult;
use crate::output::{self, Rows};

/// List topics
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vltava topics list
  vltava topics list --output json")]
pub struct ListArgs {}

#[derive(Serialize)]
struct Topics {
    topics: Vec<Topic>,
}

#[derive(Serialize)]
struct Topic {
    name: String,
    topic_id: String,
    partition_count: usize,
    replication_factor: usize,
}

pub async fn run(context: &Context) -> CliResult {
    let metadata = client::connect(context)?.refresh(&[]).await?;
    output::print(context.format, &view(metadata.topics), |view| {
        let mut rows = Rows::new(&["name", "partitions", "replicas"]);
        for topic in &view.topics {
            rows.add([
                &topic.name,
                &topic.partition_count.to_string(),
                &topic.replication_factor.to_string(),
            ]);
        }
        rows.render()
    })
}

fn view(topics: Vec<TopicMetadata>) -> Topics {
    let mut topics: Vec<Topic> = topics
        .into_iter()
        .map(|topic| Topic {
            topic_id: topic_id(&topic.topic_id),
            partition_count: topic.partitions.len(),
            replication_factor: topic.partitions.first().map_or(0, |partition| partition.replicas.len()),
            name: topic.name,
        })
        .collect();
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    Topics { topics }
}
