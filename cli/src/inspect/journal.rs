//! `vltava inspect journal`: what the journal of a log directory holds, as recovery would read it.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use vltava_commitlog::durability::{Journal, RecoveredBody, RecoveredFrame};
use vltava_storage::RealStorage;

use crate::exit::{CliError, CliResult, Failure};
use crate::output::{self, Format, Rows, grouped};

/// What the journal of a log directory holds
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vltava inspect journal vltava-data/node1
  vltava inspect journal vltava-data/node1 --frames --output json

Shows what a start would apply to the segments: appends that they may lack, truncations, deletions.")]
pub struct JournalArgs {
    /// One of `log.dirs`, or its journal/
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// List every frame
    #[arg(long)]
    frames: bool,
}

#[derive(Serialize)]
struct JournalView {
    directory: PathBuf,
    partitions: Vec<Partition>,
}

#[derive(Serialize)]
struct Partition {
    partition: String,
    frames: usize,
    bytes: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    listed: Vec<Frame>,
}

#[derive(Serialize)]
struct Frame {
    leader_epoch: u32,
    what: String,
}

pub fn run(args: &JournalArgs, format: Format) -> CliResult {
    let inner = args.directory.join("journal");
    let directory = if inner.is_dir() { inner } else { args.directory.clone() };
    if !directory.is_dir() {
        let message = format!("{} is no directory: name one of `log.dirs`", directory.display());
        return Err(CliError::new(Failure::NotFound, message));
    }
    let recovered = Journal::recover(&RealStorage, &directory).map_err(CliError::failed)?;
    let partitions = recovered.partitions.iter().map(|(partition, frames)| Partition {
        partition: partition.to_string(),
        frames: frames.len(),
        bytes: frames.iter().map(bytes).sum(),
        listed: if args.frames { frames.iter().map(frame).collect() } else { Vec::new() },
    });
    let view = JournalView { partitions: partitions.collect(), directory };
    output::print(format, &view, table)
}

fn bytes(frame: &RecoveredFrame) -> u64 {
    match &frame.body {
        RecoveredBody::Append { bytes, .. } => bytes.len() as u64,
        _ => 0,
    }
}

fn frame(frame: &RecoveredFrame) -> Frame {
    let what = match &frame.body {
        RecoveredBody::Append { base_offset, end_offset, bytes } => {
            format!("append of offsets {base_offset} to {end_offset}, {} bytes", bytes.len())
        }
        RecoveredBody::Synced { end_offset } => format!("segments are synced below offset {end_offset}"),
        RecoveredBody::Truncate { to } => format!("cut at offset {to}"),
        RecoveredBody::StartOffset { to } => format!("deleted below offset {to}"),
        RecoveredBody::Delete => "deleted".into(),
        RecoveredBody::Empty => "emptied".into(),
    };
    Frame { leader_epoch: frame.leader_epoch.get(), what }
}

fn table(view: &JournalView) -> String {
    let mut text = format!(
        "Journal in {}: {} partitions have frames that their segments may lack\n",
        view.directory.display(),
        view.partitions.len()
    );
    let mut rows = Rows::new(&["partition", "frames", "bytes"]);
    for partition in &view.partitions {
        rows.add([partition.partition.clone(), partition.frames.to_string(), grouped(partition.bytes)]);
        for frame in &partition.listed {
            rows.add([format!("  epoch {}: {}", frame.leader_epoch, frame.what)]);
        }
    }
    text.push_str(&rows.render());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_journal_is_shown_and_a_missing_directory_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        let args = |directory: PathBuf| JournalArgs { directory, frames: true };
        run(&args(dir.path().to_owned()), Format::Json).unwrap();
        let error = run(&args(dir.path().join("nothing")), Format::Table).unwrap_err();
        assert_eq!(error.failure(), Failure::NotFound);
    }
}
