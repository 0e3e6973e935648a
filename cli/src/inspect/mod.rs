//! `vltava inspect`: what lies on the disk of a stopped node, in words. Reads, and never writes.

mod checkpoint;
mod image;
mod index;
mod journal;
mod raft;
mod segment;
mod side;
mod snapshot;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use vltava_model::fields::Fields;

use crate::exit::{CliError, CliResult, Failure};
use crate::output::Format;

/// Explain what lies on the disk of a stopped node
#[derive(Args, Debug)]
#[command(
    long_about = "\
Explains files of a stopped node: what is in them, and whether it is what was written. Ends with exit code 1 where \
something is damaged, after it has shown what can be read. Nothing is changed.",
    after_help = "\
Examples:
  vltava inspect segment data/9f…-0/00000000000000000000.log
  vltava inspect journal data
  vltava inspect raft vltava-data/node1/__metadata
  vltava inspect image vltava-data/node1/__metadata --output json"
)]
pub struct InspectArgs {
    #[command(subcommand)]
    command: InspectCommand,
}

#[derive(Subcommand, Debug)]
enum InspectCommand {
    /// The batches of a segment (.log), checked against its side file
    Segment(segment::SegmentArgs),
    /// The entries of a segment's .index, .timeindex or .check file
    Index(index::IndexArgs),
    /// What the journal of a log directory holds
    Journal(journal::JournalArgs),
    /// A checkpoint: vltava.meta, clean-shutdown, leader-epoch-checkpoint, log-state, recovery points
    Checkpoint(checkpoint::CheckpointArgs),
    /// The producers in a partition's .snapshot file
    Snapshot(snapshot::SnapshotArgs),
    /// The Raft log of a controller: vote, positions, entries, snapshots, damage
    Raft(raft::RaftArgs),
    /// The cluster's metadata as a controller's disk has it
    Image(raft::ImageArgs),
}

/// Runs the command.
pub fn run(args: InspectArgs, format: Format) -> CliResult {
    match args.command {
        InspectCommand::Segment(args) => segment::run(&args, format),
        InspectCommand::Index(args) => index::run(&args, format),
        InspectCommand::Journal(args) => journal::run(&args, format),
        InspectCommand::Checkpoint(args) => checkpoint::run(&args, format),
        InspectCommand::Snapshot(args) => snapshot::run(&args, format),
        InspectCommand::Raft(args) => raft::run(&args, format),
        InspectCommand::Image(args) => raft::image(&args, format),
    }
}

/// A file's bytes. Only for files whose size the formats bound.
fn read(path: &Path) -> CliResult<Vec<u8>> {
    const MAX_BYTES: u64 = 512 << 20;
    let failed = |error| unreadable(path, &error);
    match std::fs::metadata(path).map_err(failed)? {
        meta if meta.len() > MAX_BYTES => {
            Err(CliError::failed(format!("{} is too large to be a file of this kind", path.display())))
        }
        _ => std::fs::read(path).map_err(failed),
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> CliError {
    let failure = match error.kind() {
        std::io::ErrorKind::NotFound => Failure::NotFound,
        _ => Failure::Failed,
    };
    CliError::new(failure, format!("{}: {error}", path.display()))
}

/// What is damaged is shown, and is an error all the same.
fn judge(path: &Path, damage: Option<&str>) -> CliResult {
    damage.map_or(Ok(()), |damage| Err(CliError::failed(format!("{} is damaged: {damage}", path.display()))))
}

/// A path to a file, as every command here takes it.
#[derive(Args, Debug)]
struct FileArg {
    /// The file
    #[arg(value_name = "FILE")]
    path: PathBuf,
}
