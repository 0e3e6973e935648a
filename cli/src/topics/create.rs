//! `vltava topics create`.

use clap::Args;
use serde::Serialize;
use vltava_proto::v1::{NewTopic, ReplicaAssignment};

use super::topic_id;
use crate::args::Context;
use crate::client;
use crate::exit::{CliError, CliResult, Failure};
use crate::{output, text};

/// Create a topic
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vltava topics create orders
  vltava topics create orders --partitions 6 --replication-factor 3 --config retention.ms=86400000
  vltava topics create orders --replica-assignment 1:2:3,2:3:1    two partitions on brokers of your choice")]
pub struct CreateArgs {
    /// Its name: 1 to 249 of letters, digits, '.', '_' and '-'
    name: String,

    /// How many partitions; the cluster's `num.partitions` without it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "replica_assignment")]
    partitions: Option<u32>,

    /// How many replicas of each; the cluster's `default.replication.factor` without it
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "replica_assignment")]
    replication_factor: Option<u32>,

    /// Set a config of the topic; may be given several times
    #[arg(long = "config", value_name = "NAME=VALUE", value_parser = text::pair)]
    configs: Vec<(String, String)>,

    /// The brokers of each partition, the preferred leader first: B:B:B,B:B:B
    #[arg(long, value_name = "BROKERS", value_parser = assignment, value_delimiter = ',')]
    replica_assignment: Vec<ReplicaAssignment>,

    /// Succeed if a topic of that name exists
    #[arg(long)]
    if_not_exists: bool,

    /// Check everything, create nothing
    #[arg(long)]
    validate_only: bool,
}

#[derive(Serialize)]
struct Created {
    name: String,
    topic_id: String,
    partition_count: u32,
    replication_factor: u32,
    created: bool,
}

fn assignment(text: &str) -> Result<ReplicaAssignment, String> {
    let brokers = text.split(':').map(str::parse::<u32>).collect::<Result<Vec<_>, _>>();
    let wrong = |_| format!("`{text}` is not a list of broker numbers, as in 1:2:3");
    Ok(ReplicaAssignment { brokers: brokers.map_err(wrong)? })
}

pub async fn run(args: CreateArgs, context: &Context) -> CliResult {
    let topic = NewTopic {
        name: args.name.clone(),
        partition_count: args.partitions.unwrap_or(0),
        replication_factor: args.replication_factor.unwrap_or(0),
        configs: args.configs.into_iter().collect(),
        assignments: args.replica_assignment,
    };
    let answer = client::admin(context)?.create_topics(vec![topic], args.validate_only).await?;
    let answer = answer.topics.into_iter().next();
    let topic = answer.ok_or_else(|| CliError::failed("the server answered nothing about the topic"))?;
    if let Some(detail) = &topic.error {
        let error = client::refused(detail);
        if error.failure() == Failure::Exists && args.if_not_exists {
            let exists = format!("Topic {} exists.\n", args.name);
            let view = Created { created: false, ..view(&topic, &args.name) };
            return output::print(context.format, &view, |_| exists);
        }
        return Err(error);
    }
    let view = Created { created: !args.validate_only, ..view(&topic, &args.name) };
    output::print(context.format, &view, |topic| {
        let verb = if topic.created { "Created" } else { "Nothing is wrong with" };
        let plural = |count| if count == 1 { "" } else { "s" };
        format!(
            "{verb} topic {}: {} partition{}, {} replica{}.\n",
            topic.name,
            topic.partition_count,
            plural(topic.partition_count),
            topic.replication_factor,
            plural(topic.replication_factor),
        )
    })
}

fn view(topic: &vltava_proto::v1::CreatedTopic, name: &str) -> Created {
    Created {
        name: name.to_owned(),
        topic_id: topic_id(&topic.topic_id),
        partition_count: topic.partition_count,
        replication_factor: topic.replication_factor,
        created: true,
    }
}

#[cfg(test)]
mod tests {
    use crate::args::Cli;
    use clap::Parser;

    fn parse(flags: &[&str]) -> Result<Cli, String> {
        let args = ["vltava", "topics", "create", "t"].iter().chain(flags);
        Cli::try_parse_from(args).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_are_checked_before_anything_is_sent() {
        assert!(parse(&["--partitions", "6", "--replication-factor", "3", "--config", "a=b"]).is_ok());
        assert!(parse(&["--replica-assignment", "1:2:3,2:3:1"]).is_ok());
        assert!(parse(&["--partitions", "0"]).unwrap_err().contains("0 is not in 1.."));
        assert!(parse(&["--config", "retention.ms"]).unwrap_err().contains("NAME=VALUE"));
        assert!(parse(&["--replica-assignment", "a:b"]).unwrap_err().contains("as in 1:2:3"));
        assert!(parse(&["--partitions", "2", "--replica-assignment", "1"]).is_err());
    }
}
