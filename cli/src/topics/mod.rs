//! `vltava topics`: what topics there are, and how they come, change and go.

mod alter;
mod create;
mod delete;
mod describe;
mod elect;
mod list;
mod records;

use clap::{Args, Subcommand};

use crate::args::Context;
use crate::exit::CliResult;

/// Create, show, change and delete topics
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vltava topics create orders --partitions 6 --replication-factor 3
  vltava topics describe orders
  vltava topics alter orders --config retention.ms=86400000")]
pub struct TopicsArgs {
    #[command(subcommand)]
    command: TopicsCommand,
}

#[derive(Subcommand, Debug)]
enum TopicsCommand {
    /// Create a topic
    Create(create::CreateArgs),
    /// List topics
    List(list::ListArgs),
    /// Show topics: leaders, replicas, ISR, offsets
    Describe(describe::DescribeArgs),
    /// Add partitions, set and clear configs
    Alter(alter::AlterArgs),
    /// Delete topics with all their records
    Delete(delete::DeleteArgs),
    /// Delete the oldest records of a partition
    DeleteRecords(records::DeleteRecordsArgs),
    /// Move leaderships, to the preferred replica for one
    ElectLeaders(elect::ElectArgs),
}

pub async fn run(args: TopicsArgs, context: &Context) -> CliResult {
    match args.command {
        TopicsCommand::Create(args) => create::run(args, context).await,
        TopicsCommand::List(_) => list::run(context).await,
        TopicsCommand::Describe(args) => describe::run(args, context).await,
        TopicsCommand::Alter(args) => alter::run(args, context).await,
        TopicsCommand::Delete(args) => delete::run(args, context).await,
        TopicsCommand::DeleteRecords(args) => records::run(args, context).await,
        TopicsCommand::ElectLeaders(args) => elect::run(args, context).await,
    }
}

/// A topic's id as people see it: 32 hexadecimal digits.
pub fn topic_id(bytes: &[u8]) -> String {
    vltava_model::TopicId::from_slice(bytes).map(|id| id.to_string()).unwrap_or_default()
}
