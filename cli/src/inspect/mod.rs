//! `vltava inspect`: what lies on the disk of a stopped node, in words. Reads, and never writes.

mod image;
mod raft;

use clap::{Args, Subcommand};

use crate::exit::CliResult;
use crate::output::Format;

/// Explain what lies on the disk of a stopped node
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vltava inspect raft vltava-data/node1/__metadata
  vltava inspect image vltava-data/node1/__metadata --output json")]
pub struct InspectArgs {
    #[command(subcommand)]
    command: InspectCommand,
}

#[derive(Subcommand, Debug)]
enum InspectCommand {
    /// The Raft log of a controller: vote, positions, entries, snapshots, damage
    Raft(raft::RaftArgs),
    /// The cluster's metadata as a controller's disk has it
    Image(raft::ImageArgs),
}

/// Runs the command.
pub fn run(args: InspectArgs, format: Format) -> CliResult {
    match args.command {
        InspectCommand::Raft(args) => raft::run(&args, format),
        InspectCommand::Image(args) => raft::image(&args, format),
    }
}
