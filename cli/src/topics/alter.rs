//! `vltava topics alter`.

use clap::Args;
use serde::Serialize;
use vltava_proto::v1::{AlterConfigsRequest, ConfigResource, ConfigTarget, CreatePartitionsRequest};

use crate::args::Context;
use crate::client;
use crate::exit::CliResult;
use crate::{output, text};

/// Add partitions, set and clear configs
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vltava topics alter orders --partitions 12
  vltava topics alter orders --config retention.ms=86400000 --delete-config segment.bytes

The number of partitions can grow and never shrink; records with keys may go to other partitions then.")]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true).args(["partitions", "configs", "delete_configs"]))]
pub struct AlterArgs {
    /// Which topic
    name: String,

    /// How many partitions it has from now on
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    partitions: Option<u32>,

    /// Set a config; may be given several times
    #[arg(long = "config", value_name = "NAME=VALUE", value_parser = text::pair)]
    configs: Vec<(String, String)>,

    /// Clear a config; may be given several times
    #[arg(long = "delete-config", value_name = "NAME")]
    delete_configs: Vec<String>,

    /// Check everything, change nothing
    #[arg(long)]
    validate_only: bool,
}

#[derive(Serialize)]
struct Altered {
    name: String,
    partition_count: Option<u32>,
    set: Vec<String>,
    cleared: Vec<String>,
    altered: bool,
}

pub async fn run(args: AlterArgs, context: &Context) -> CliResult {
    let admin = client::admin(context)?;
    let view = Altered {
        name: args.name.clone(),
        partition_count: args.partitions,
        set: args.configs.iter().map(|(name, _)| name.clone()).collect(),
        cleared: args.delete_configs.clone(),
        altered: !args.validate_only,
    };
    // Configs first: they are checked as a whole, and adding partitions cannot be taken back.
    if !args.configs.is_empty() || !args.delete_configs.is_empty() {
        let target = ConfigTarget { resource: ConfigResource::Topic.into(), name: args.name.clone() };
        let request = AlterConfigsRequest {
            target: Some(target),
            set: args.configs.into_iter().collect(),
            clear: args.delete_configs,
            validate_only: args.validate_only,
        };
        admin.alter_configs(request).await?;
    }
    if let Some(total_count) = args.partitions {
        let request = CreatePartitionsRequest {
            topic: args.name,
            total_count,
            assignments: Vec::new(),
            validate_only: args.validate_only,
        };
        admin.create_partitions(request).await?;
    }
    output::print(context.format, &view, |view| {
        let verb = if view.altered { "Altered" } else { "Nothing is wrong with the change of" };
        format!("{verb} topic {}.\n", view.name)
    })
}
