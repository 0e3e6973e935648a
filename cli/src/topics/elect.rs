//! `vltava topics elect-leaders`.

use clap::{Args, ValueEnum};
use serde::Serialize;
use vltava_model::ErrorCode;
use vltava_proto::status;
use vltava_proto::v1::{ElectLeadersRequest, ElectionType, NamedPartition};

use crate::args::Context;
use crate::client::{self, FirstError};
use crate::exit::CliResult;
use crate::output::{self, Rows, or_dash};

/// Move leaderships, to the preferred replica for one
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vltava topics elect-leaders                                     every partition to its preferred replica
  vltava topics elect-leaders orders --partition 0
  vltava topics elect-leaders orders --partition 0 --election-type unclean

An unclean election lets a replica lead that lacks committed records: THEY ARE LOST. It is for partitions whose other \
replicas will never come back.")]
pub struct ElectArgs {
    /// Which topic; all without one
    #[arg(required_if_eq("election_type", "unclean"))]
    name: Option<String>,

    /// Which partition; all of the topic without one
    #[arg(long, value_name = "P", requires = "name", required_if_eq("election_type", "unclean"))]
    partition: Option<u32>,

    /// Which replica is to lead
    #[arg(long, value_enum, default_value_t)]
    election_type: Election,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, ValueEnum)]
enum Election {
    /// The first one of the replicas, if it is in sync
    #[default]
    Preferred,
    /// Any living one, even if committed records are lost
    Unclean,
}

#[derive(Serialize)]
struct Elections {
    elections: Vec<Outcome>,
}

#[derive(Serialize)]
struct Outcome {
    topic: String,
    partition: u32,
    leader: Option<u32>,
    elected: bool,
}

pub async fn run(args: ElectArgs, context: &Context) -> CliResult {
    let partitions = match (&args.name, args.partition) {
        (None, _) => Vec::new(),
        (Some(topic), Some(partition)) => vec![NamedPartition { topic: topic.clone(), partition }],
        (Some(topic), None) => {
            let metadata = client::connect(context)?.topic(topic).await?;
            let name = |partition: u32| NamedPartition { topic: topic.clone(), partition };
            metadata.partitions.iter().map(|partition| name(partition.partition)).collect()
        }
    };
    let kind = match args.election_type {
        Election::Preferred => ElectionType::Preferred,
        Election::Unclean => ElectionType::Unclean,
    };
    let request = ElectLeadersRequest { r#type: kind.into(), partitions };
    let answer = client::admin(context)?.elect_leaders(request).await?;
    let mut errors = FirstError::default();
    let mut elections = Vec::new();
    for result in answer.results {
        let partition = result.partition.unwrap_or_default();
        let not_needed = result
            .error
            .as_ref()
            .is_some_and(|detail| status::code_of(detail) == ErrorCode::ElectionNotNeeded);
        match &result.error {
            Some(detail) if !not_needed => {
                errors.note(
                    client::refused(detail).context(format!("{}-{}", partition.topic, partition.partition)),
                );
            }
            _ => elections.push(Outcome {
                topic: partition.topic,
                partition: partition.partition,
                leader: result.leader,
                elected: !not_needed,
            }),
        }
    }
    output::print(context.format, &Elections { elections }, |view| {
        let mut rows = Rows::new(&["topic", "partition", "leader", "changed"]);
        for one in &view.elections {
            let changed = if one.elected { "yes" } else { "no" };
            rows.add([&one.topic, &one.partition.to_string(), &or_dash(one.leader), changed]);
        }
        rows.render()
    })?;
    errors.end()
}

#[cfg(test)]
mod tests {
    use crate::args::Cli;
    use clap::Parser;

    #[test]
    fn an_unclean_election_names_its_partition() {
        let parse = |flags: &[&str]| {
            Cli::try_parse_from(["vltava", "topics", "elect-leaders"].iter().chain(flags)).map(drop)
        };
        assert!(parse(&[]).is_ok());
        assert!(parse(&["t", "--partition", "0", "--election-type", "unclean"]).is_ok());
        assert!(parse(&["--election-type", "unclean"]).is_err());
        assert!(parse(&["t", "--election-type", "unclean"]).is_err());
    }
}
