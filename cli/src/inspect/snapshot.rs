//! `vltava inspect snapshot`: the idempotent producers that a partition remembers.

use clap::Args;
use serde::Serialize;

use super::side::Home;
use super::{Fields, read};
use crate::exit::{CliError, CliResult};
use crate::output::{self, Format, Rows, or_dash};

/// The producers in a partition's .snapshot file
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vltava inspect snapshot 00000000000000001000.snapshot
  vltava inspect snapshot 00000000000000001000.snapshot --output json

The file must lie in its partition's directory. A damaged one costs a longer start, nothing else.")]
pub struct SnapshotArgs {
    #[command(flatten)]
    file: super::FileArg,
}

#[derive(Serialize)]
struct SnapshotView {
    file: String,
    offset: u64,
    producers: Vec<Producer>,
}

#[derive(Serialize)]
struct Producer {
    producer_id: u64,
    epoch: u16,
    last_append_ms: i64,
    batches: Vec<Batch>,
}

#[derive(Serialize)]
struct Batch {
    base_sequence: u32,
    last_sequence: u32,
    base_offset: u64,
    last_offset: u64,
}

pub fn run(args: &SnapshotArgs, format: Format) -> CliResult {
    let path = &args.file.path;
    let home = Home::of(path).ok_or_else(|| {
        CliError::usage(format!(
            "{} does not lie in a partition's directory, TOPIC_ID-PARTITION",
            path.display()
        ))
    })?;
    let bytes = read(path)?;
    let damaged = |what: &str| CliError::failed(format!("{} is damaged: {what}", path.display()));
    let (body, sum) = bytes.split_last_chunk::<4>().ok_or_else(|| damaged("it is too short"))?;
    if home.sum(body).to_be_bytes() != *sum {
        return Err(damaged("its checksum does not match"));
    }
    let (offset, producers) = parse(body).ok_or_else(|| damaged("its content is impossible"))?;
    let view = SnapshotView { file: path.display().to_string(), offset, producers };
    output::print(format, &view, table)
}

fn parse(body: &[u8]) -> Option<(u64, Vec<Producer>)> {
    let mut fields = Fields(body);
    if fields.take()? != *b"VPRD" || fields.u32()? != 1 {
        return None;
    }
    let offset = fields.u64()?;
    let mut producers = Vec::new();
    for _ in 0..fields.u32()? {
        let (producer_id, epoch, last_append_ms) = (fields.u64()?, fields.u16()?, fields.i64()?);
        let [count] = fields.take()?;
        let mut batches = Vec::new();
        for _ in 0..count {
            batches.push(Batch {
                base_sequence: fields.u32()?,
                last_sequence: fields.u32()?,
                base_offset: fields.u64()?,
                last_offset: fields.u64()?,
            });
            let _timestamp = fields.i64()?;
        }
        producers.push(Producer { producer_id, epoch, last_append_ms, batches });
    }
    Some((offset, producers))
}

fn table(view: &SnapshotView) -> String {
    let mut text =
        format!("Snapshot {}  Offset: {}  Producers: {}\n", view.file, view.offset, view.producers.len());
    let mut rows =
        Rows::new(&["producer", "epoch", "last append", "batches", "last sequence", "last offset"]);
    for producer in &view.producers {
        let last = producer.batches.last();
        rows.add([
            producer.producer_id.to_string(),
            producer.epoch.to_string(),
            producer.last_append_ms.to_string(),
            producer.batches.len().to_string(),
            or_dash(last.map(|batch| batch.last_sequence)),
            or_dash(last.map(|batch| batch.last_offset)),
        ]);
    }
    text.push_str(&rows.render());
    text
}
