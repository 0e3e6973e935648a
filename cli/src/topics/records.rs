//! `vltava topics delete-records`.

use clap::Args;
use serde::Serialize;

use crate::args::Context;
use crate::client;
use crate::exit::CliResult;
use crate::output;

/// Delete the oldest records of a partition
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vltava topics delete-records orders --partition 0 --before-offset 1000
  vltava topics delete-records orders --partition 0 --all")]
#[command(group = clap::ArgGroup::new("which").required(true).args(["before_offset", "all"]))]
pub struct DeleteRecordsArgs {
    /// Which topic
    name: String,

    /// Which partition
    #[arg(long, value_name = "P")]
    partition: u32,

    /// Delete the records below this offset
    #[arg(long, value_name = "OFFSET")]
    before_offset: Option<u64>,

    /// Delete all committed records
    #[arg(long)]
    all: bool,
}

#[derive(Serialize)]
struct Deleted {
    name: String,
    partition: u32,
    log_start_offset: u64,
}

pub async fn run(args: DeleteRecordsArgs, context: &Context) -> CliResult {
    let admin = client::admin(context)?;
    let log_start_offset = admin.delete_records(&args.name, args.partition, args.before_offset).await?;
    let view = Deleted { name: args.name, partition: args.partition, log_start_offset };
    output::print(context.format, &view, |view| {
        format!("{}-{} begins at offset {} now.\n", view.name, view.partition, view.log_start_offset)
    })
}
