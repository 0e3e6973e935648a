//! `vltava perf`: load with live throughput, and percentiles at the end.

mod consume;
mod latency;
mod load;
mod produce;
mod report;

use clap::{Args, Subcommand};
use vltava_client::{Admin, Client};
use vltava_proto::v1::NewTopic;

use crate::args::Context;
use crate::client;
use crate::exit::{CliResult, Failure};

/// Measure throughput and latency
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vltava perf produce bench --create-partitions 6 --records 1000000 --record-size 1024
  vltava perf consume bench
  vltava perf latency bench --rate 1000 --records 30000")]
pub struct PerfArgs {
    #[command(subcommand)]
    command: PerfCommand,
}

#[derive(Subcommand, Debug)]
enum PerfCommand {
    /// Write as fast as can be, or at a rate; latency is that of acknowledgements
    Produce(produce::ProduceArgs),
    /// Read as fast as can be
    Consume(consume::ConsumeArgs),
    /// Write at a rate and read at the same time; latency is that of the whole way
    Latency(latency::LatencyArgs),
}

pub async fn run(args: PerfArgs, context: &Context) -> CliResult {
    match args.command {
        PerfCommand::Produce(args) => produce::run(args, context).await,
        PerfCommand::Consume(args) => consume::run(args, context).await,
        PerfCommand::Latency(args) => latency::run(args, context).await,
    }
}

/// Lets a measurement make its topic.
#[derive(Args, Debug)]
pub struct TopicFlags {
    /// Which topic
    pub topic: String,

    /// Create the topic with so many partitions, unless it exists
    #[arg(long, value_name = "N")]
    pub create_partitions: Option<u32>,

    /// and so many replicas of each
    #[arg(long, value_name = "R", default_value_t = 3, requires = "create_partitions")]
    pub replication_factor: u32,
}

impl TopicFlags {
    /// A client for the topic, which exists once this returns.
    pub async fn connect(&self, context: &Context) -> CliResult<Client> {
        let client = client::connect(context)?;
        if let Some(partition_count) = self.create_partitions {
            let topic = NewTopic {
                name: self.topic.clone(),
                partition_count,
                replication_factor: self.replication_factor,
                ..NewTopic::default()
            };
            let created = Admin::new(client.clone()).create_topics(vec![topic], false).await?;
            let refused = created.topics.iter().filter_map(|topic| topic.error.as_ref()).map(client::refused);
            if let Some(error) = refused.into_iter().find(|error| error.failure() != Failure::Exists) {
                return Err(error);
            }
        }
        client.topic(&self.topic).await?;
        Ok(client)
    }
}
