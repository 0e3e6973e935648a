//! `vltava inspect index`: a segment's `.index`, `.timeindex` and `.check` files.

use std::path::Path;

use clap::Args;
use serde::Serialize;

use super::side::{CheckFile, Home};
use super::{Fields, judge, read};
use crate::exit::{CliError, CliResult};
use crate::output::{self, Format, Rows};

/// The entries of a segment's .index, .timeindex or .check file
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vltava inspect index 00000000000000000000.index
  vltava inspect index 00000000000000000000.check --output json

The files must lie in their partition's directory: their checksums depend on it. A damaged .index or .timeindex costs \
nothing: it is made anew from the .check file.")]
pub struct IndexArgs {
    #[command(flatten)]
    file: super::FileArg,
}

#[derive(Serialize)]
struct IndexView {
    file: String,
    kind: &'static str,
    partition: String,
    covers_batches: Option<u32>,
    covers_bytes: Option<u32>,
    largest_timestamp: Option<i64>,
    created_ms: Option<i64>,
    damage: Option<String>,
    entries: Vec<Entry>,
}

#[derive(Serialize, Default)]
struct Entry {
    last_offset: u64,
    position: Option<u32>,
    ordinal: Option<u32>,
    timestamp: Option<i64>,
}

pub fn run(args: &IndexArgs, format: Format) -> CliResult {
    let path = &args.file.path;
    let home = Home::of(path).ok_or_else(|| {
        CliError::usage(format!(
            "{} does not lie in a partition's directory, TOPIC_ID-PARTITION",
            path.display()
        ))
    })?;
    let bytes = read(path)?;
    let suffix = path.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default();
    let view = match suffix {
        "check" => check(path, home, &bytes),
        "index" => offsets(path, home, &bytes),
        "timeindex" => times(path, home, &bytes),
        _ => {
            return Err(CliError::usage(format!(
                "{} is no .index, .timeindex or .check file",
                path.display()
            )));
        }
    };
    output::print(format, &view, table)?;
    judge(path, view.damage.as_deref())
}

fn empty(path: &Path, home: Home, kind: &'static str) -> IndexView {
    IndexView {
        file: path.display().to_string(),
        kind,
        partition: home.partition.to_string(),
        covers_batches: None,
        covers_bytes: None,
        largest_timestamp: None,
        created_ms: None,
        damage: None,
        entries: Vec::new(),
    }
}

fn check(path: &Path, home: Home, bytes: &[u8]) -> IndexView {
    let view = empty(path, home, "check");
    match CheckFile::parse(home, bytes) {
        Err(damage) => IndexView { damage: Some(damage), ..view },
        Ok(check) => IndexView {
            damage: check.damage,
            created_ms: Some(check.created_ms),
            covers_batches: u32::try_from(check.entries.len()).ok(),
            entries: (0..)
                .zip(&check.entries)
                .map(|(ordinal, entry)| Entry {
                    last_offset: entry.last_offset.get(),
                    position: Some(entry.position),
                    ordinal: Some(ordinal),
                    timestamp: Some(entry.max_timestamp),
                })
                .collect(),
            ..view
        },
    }
}

/// Splits entries and trailer of an index, its checksum verified.
fn sparse<'a>(
    home: Home,
    bytes: &'a [u8],
    magic: &[u8; 4],
    trailer: usize,
) -> Result<(&'a [u8], Fields<'a>), String> {
    let (body, sum) = bytes.split_last_chunk::<4>().ok_or("it is too short")?;
    if home.sum(body).to_be_bytes() != *sum {
        return Err("its checksum does not match".into());
    }
    let at = bytes.len().checked_sub(trailer).ok_or("it is too short")?;
    let mut fields = Fields(&bytes[at..]);
    if fields.take() != Some(*magic) {
        return Err("its trailer is not where it should be".into());
    }
    Ok((&bytes[..at], fields))
}

fn offsets(path: &Path, home: Home, bytes: &[u8]) -> IndexView {
    let mut view = empty(path, home, "offset index");
    match sparse(home, bytes, b"VIDX", 16) {
        Err(damage) => view.damage = Some(damage),
        Ok((entries, mut trailer)) => {
            view.covers_batches = trailer.u32();
            view.covers_bytes = trailer.u32();
            view.entries = entries.chunks_exact(12).filter_map(|entry| offset_entry(home, entry)).collect();
        }
    }
    view
}

fn offset_entry(home: Home, bytes: &[u8]) -> Option<Entry> {
    let mut fields = Fields(bytes);
    let last_offset = home.base.get() + u64::from(fields.u32()?);
    Some(Entry { last_offset, position: fields.u32(), ordinal: fields.u32(), timestamp: None })
}

fn times(path: &Path, home: Home, bytes: &[u8]) -> IndexView {
    let mut view = empty(path, home, "time index");
    match sparse(home, bytes, b"VTIX", 32) {
        Err(damage) => view.damage = Some(damage),
        Ok((entries, mut trailer)) => {
            view.covers_batches = trailer.u32();
            view.covers_bytes = trailer.u32();
            view.largest_timestamp = trailer.i64();
            view.entries = entries.chunks_exact(16).filter_map(|entry| time_entry(home, entry)).collect();
        }
    }
    view
}

fn time_entry(home: Home, bytes: &[u8]) -> Option<Entry> {
    let mut fields = Fields(bytes);
    let timestamp = fields.i64()?;
    let last_offset = home.base.get() + u64::from(fields.u32()?);
    Some(Entry { last_offset, position: None, ordinal: fields.u32(), timestamp: Some(timestamp) })
}

fn table(view: &IndexView) -> String {
    let number = |value: Option<u32>| output::or_dash(value);
    let mut text = format!(
        "{} {}  Partition: {}  Covers: {} batches, {} bytes  Damage: {}\n",
        view.kind,
        view.file,
        view.partition,
        number(view.covers_batches),
        number(view.covers_bytes),
        view.damage.as_deref().unwrap_or("none"),
    );
    let mut rows = Rows::new(&["batch", "last offset", "position", "timestamp"]);
    for entry in &view.entries {
        rows.add([
            number(entry.ordinal),
            entry.last_offset.to_string(),
            number(entry.position),
            output::or_dash(entry.timestamp),
        ]);
    }
    text.push_str(&rows.render());
    text
}
