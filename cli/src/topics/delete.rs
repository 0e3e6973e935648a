//! `vltava topics delete`.

use clap::Args;
use serde::Serialize;

use crate::args::Context;
use crate::client::{self, FirstError};
use crate::exit::{CliResult, Failure};
use crate::output;

/// Delete topics with all their records
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vltava topics delete orders
  vltava topics delete orders payments --if-exists")]
pub struct DeleteArgs {
    /// Which topics
    #[arg(required = true)]
    names: Vec<String>,

    /// Succeed for topics that do not exist
    #[arg(long)]
    if_exists: bool,
}

#[derive(Serialize)]
struct Deleted {
    deleted: Vec<String>,
}

pub async fn run(args: DeleteArgs, context: &Context) -> CliResult {
    let mut errors = FirstError::default();
    let mut deleted = Vec::new();
    for topic in client::admin(context)?.delete_topics(args.names).await?.topics {
        match topic.error.as_ref().map(client::refused) {
            None => deleted.push(topic.name),
            Some(error) if error.failure() == Failure::NotFound && args.if_exists => {}
            Some(error) => errors.note(error),
        }
    }
    output::print(context.format, &Deleted { deleted }, |view| {
        view.deleted.iter().map(|name| format!("Deleted topic {name}.\n")).collect()
    })?;
    errors.end()
}
