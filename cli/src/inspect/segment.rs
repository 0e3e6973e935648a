//! `vltava inspect segment`: the batches of a `.log` file.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use serde::Serialize;
use vltava_model::Offset;
use vltava_model::batch::{Batch, BatchHeader, HEADER_BYTES};

use super::side::{CheckFile, Home};
use super::{judge, unreadable};
use crate::exit::CliResult;
use crate::output::{self, Format, Rows, grouped, or_dash};

/// A longer batch is none: no topic takes one of that size.
const MAX_BATCH_BYTES: usize = 1 << 30;

/// The batches of a segment (.log), checked against its side file
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vltava inspect segment 00000000000000000000.log
  vltava inspect segment 00000000000000000000.log --records --from-offset 100 --limit 5

Every batch's checksum is verified, and its place against the .check file, where the file lies in its partition's \
directory. `placed` is `-` where there is nothing to compare with.")]
pub struct SegmentArgs {
    #[command(flatten)]
    file: super::FileArg,

    /// List the records too
    #[arg(long)]
    records: bool,

    /// List batches from this offset on
    #[arg(long, default_value_t = 0, value_name = "OFFSET")]
    from_offset: u64,

    /// List so many batches; all are verified
    #[arg(long, default_value_t = 1000, value_name = "N")]
    limit: usize,
}

#[derive(Serialize)]
struct SegmentView {
    file: PathBuf,
    partition: Option<String>,
    bytes: u64,
    batches: u64,
    records: u64,
    first_offset: Option<u64>,
    end_offset: Option<u64>,
    damage: Option<String>,
    listed: Vec<BatchView>,
}

#[derive(Serialize)]
struct BatchView {
    position: u64,
    bytes: usize,
    base_offset: u64,
    last_offset: u64,
    leader_epoch: Option<u32>,
    records: u32,
    compression: String,
    max_timestamp: i64,
    producer: Option<String>,
    control: bool,
    transactional: bool,
    /// Whether the check file has this batch at this place.
    placed: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    content: Vec<RecordView>,
}

#[derive(Serialize)]
struct RecordView {
    offset: u64,
    timestamp_ms: i64,
    key: Option<String>,
    value: Option<String>,
    headers: usize,
}

pub fn run(args: &SegmentArgs, format: Format) -> CliResult {
    let path = &args.file.path;
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let home = Home::of(path);
    let (check, mut damage) = read_check(path, home);
    let mut view = SegmentView {
        file: path.clone(),
        partition: home.map(|home| home.partition.to_string()),
        bytes: file.metadata().map_or(0, |meta| meta.len()),
        batches: 0,
        records: 0,
        first_offset: None,
        end_offset: None,
        damage: None,
        listed: Vec::new(),
    };
    let mut walk = Walk { input: BufReader::with_capacity(1 << 20, file), position: 0 };
    loop {
        match walk.next_batch() {
            Ok(None) => break,
            Err(what) => {
                damage = Some(format!("at byte {}: {what}", walk.position));
                break;
            }
            Ok(Some((position, batch))) => {
                let found = note(&mut view, position, &batch, home.zip(check.as_ref()), args);
                damage = damage.or(found);
            }
        }
    }
    if let Some(check) = &check
        && check.entries.len() as u64 > view.batches
        && damage.is_none()
    {
        damage = Some(format!("the check file knows {} batches", check.entries.len()));
    }
    view.damage = damage;
    output::print(format, &view, table)?;
    judge(path, view.damage.as_deref())
}

/// The check file beside the segment, and what is wrong with it.
fn read_check(path: &Path, home: Option<Home>) -> (Option<CheckFile>, Option<String>) {
    let side = path.with_extension("check");
    match home.map(|home| (home, std::fs::read(&side))) {
        None => (None, None),
        Some((_, Err(error))) if error.kind() == std::io::ErrorKind::NotFound => (None, None),
        Some((_, Err(error))) => (None, Some(format!("{}: {error}", side.display()))),
        Some((home, Ok(bytes))) => match CheckFile::parse(home, &bytes) {
            Ok(check) => {
                let damage = check.damage.as_ref().map(|damage| format!("{}: {damage}", side.display()));
                (Some(check), damage)
            }
            Err(damage) => (None, Some(format!("{}: {damage}", side.display()))),
        },
    }
}

/// Counts a batch and lists it if it was asked for; returns what is wrong with its place.
fn note(
    view: &mut SegmentView,
    position: u64,
    batch: &Batch,
    check: Option<(Home, &CheckFile)>,
    args: &SegmentArgs,
) -> Option<String> {
    let header = batch.header();
    let ordinal = usize::try_from(view.batches).unwrap_or(usize::MAX);
    let expected = view.end_offset.unwrap_or(header.base_offset.get());
    view.batches += 1;
    view.records += u64::from(header.record_count);
    view.first_offset.get_or_insert(header.base_offset.get());
    view.end_offset = Some(header.last_offset().get() + 1);
    let placed = check.and_then(|(home, check)| {
        let entry = check.entries.get(ordinal)?;
        Some(u64::from(entry.position) == position && entry.batch_sum == home.batch_sum(header))
    });
    if header.base_offset.get() >= args.from_offset && view.listed.len() < args.limit {
        view.listed.push(view_batch(position, batch, placed, args.records));
    }
    if header.base_offset.get() < expected {
        return Some(format!("at byte {position}: offset {} comes after {expected}", header.base_offset));
    }
    (placed == Some(false)).then(|| format!("at byte {position}: the check file knows another batch here"))
}

fn view_batch(position: u64, batch: &Batch, placed: Option<bool>, with_records: bool) -> BatchView {
    let header = batch.header();
    let stamp = header.producer.map(|stamp| format!("{}/{}/{}", stamp.id, stamp.epoch, stamp.base_sequence));
    BatchView {
        position,
        bytes: header.length,
        base_offset: header.base_offset.get(),
        last_offset: header.last_offset().get(),
        leader_epoch: header.leader_epoch.map(|epoch| epoch.get()),
        records: header.record_count,
        compression: format!("{:?}", header.compression).to_lowercase(),
        max_timestamp: header.max_timestamp,
        producer: stamp,
        control: header.is_control,
        transactional: header.is_transactional,
        placed,
        content: if with_records { view_records(batch) } else { Vec::new() },
    }
}

fn view_records(batch: &Batch) -> Vec<RecordView> {
    let broken = |why: String| RecordView {
        offset: batch.header().base_offset.get(),
        timestamp_ms: 0,
        key: None,
        value: Some(format!("UNREADABLE: {why}")),
        headers: 0,
    };
    let text = |bytes: Bytes| bytes.escape_ascii().to_string();
    match batch.records() {
        Err(error) => vec![broken(error.to_string())],
        Ok(records) => records
            .map(|record| match record {
                Ok(record) => RecordView {
                    offset: record.offset.get(),
                    timestamp_ms: record.timestamp_ms,
                    key: record.key.map(text),
                    value: record.value.map(text),
                    headers: record.headers.len(),
                },
                Err(error) => broken(error.to_string()),
            })
            .collect(),
    }
}

/// Goes from batch to batch.
struct Walk<R> {
    input: R,
    position: u64,
}

impl<R: Read> Walk<R> {
    /// The next batch and where it begins; the error says what is wrong at the position.
    fn next_batch(&mut self) -> Result<Option<(u64, Batch)>, String> {
        let mut bytes = vec![0; HEADER_BYTES];
        let read = fill(&mut self.input, &mut bytes)?;
        if read == 0 {
            return Ok(None);
        }
        // Room that was preallocated and never written.
        if bytes[..read].iter().all(|byte| *byte == 0) {
            return Err("zeroes up to the end, or something among them".into());
        }
        let header = BatchHeader::peek(&bytes[..read]).map_err(|error| error.to_string())?;
        let header = header.ok_or_else(|| format!("the last {read} bytes are no whole batch"))?;
        if header.length > MAX_BATCH_BYTES || header.length < HEADER_BYTES {
            return Err(format!("a batch of {} bytes", header.length));
        }
        bytes.resize(header.length, 0);
        let rest = fill(&mut self.input, &mut bytes[HEADER_BYTES..])?;
        if HEADER_BYTES + rest < header.length {
            return Err(format!(
                "a batch of {} bytes is cut off after {}",
                header.length,
                HEADER_BYTES + rest
            ));
        }
        let batch = Batch::parse(bytes.into()).map_err(|error| error.to_string())?;
        let position = self.position;
        self.position += header.length as u64;
        Ok(Some((position, batch)))
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> Result<usize, String> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(filled)
}

fn table(view: &SegmentView) -> String {
    let offset = |offset: Option<u64>| or_dash(offset.map(Offset::new));
    let mut text = format!(
        "Segment {}  Partition: {}  Bytes: {}  Batches: {}  Records: {}  Offsets: {} to {}  Damage: {}\n",
        view.file.display(),
        or_dash(view.partition.as_ref()),
        grouped(view.bytes),
        grouped(view.batches),
        grouped(view.records),
        offset(view.first_offset),
        offset(view.end_offset),
        view.damage.as_deref().unwrap_or("none"),
    );
    let mut rows = Rows::new(&[
        "position",
        "bytes",
        "first",
        "last",
        "epoch",
        "records",
        "compression",
        "max timestamp",
        "producer/epoch/sequence",
        "placed",
    ]);
    for batch in &view.listed {
        rows.add([
            batch.position.to_string(),
            batch.bytes.to_string(),
            batch.base_offset.to_string(),
            batch.last_offset.to_string(),
            or_dash(batch.leader_epoch),
            batch.records.to_string(),
            batch.compression.clone(),
            batch.max_timestamp.to_string(),
            or_dash(batch.producer.as_ref()),
            or_dash(batch.placed.map(|placed| if placed { "yes" } else { "NO" })),
        ]);
    }
    text.push_str(&rows.render());
    for record in view.listed.iter().flat_map(|batch| &batch.content) {
        text.push_str(&format!(
            "  {}  {}  key {}  value {}  headers {}\n",
            record.offset,
            record.timestamp_ms,
            record.key.as_deref().unwrap_or("null"),
            record.value.as_deref().unwrap_or("null"),
            record.headers
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use vltava_model::LeaderEpoch;
    use vltava_model::batch::{BatchBuilder, Compression};

    fn batch(base: u64, values: &[&str]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Compression::None);
        for value in values {
            builder.append(1, None, Some(value.as_bytes()), &[]).unwrap();
        }
        let batch = Batch::parse(builder.build()).unwrap();
        batch.with_position(Offset::new(base), LeaderEpoch::new(1)).bytes().to_vec()
    }

    fn walk(bytes: &[u8]) -> (usize, Option<String>) {
        let mut walk = Walk { input: bytes, position: 0 };
        let mut batches = 0;
        loop {
            match walk.next_batch() {
                Ok(None) => return (batches, None),
                Ok(Some(_)) => batches += 1,
                Err(what) => return (batches, Some(what)),
            }
        }
    }

    #[test]
    fn batches_are_walked_and_damage_is_named() {
        let mut bytes = batch(0, &["a", "b"]);
        let first = bytes.len();
        bytes.extend(batch(2, &["c"]));
        assert_eq!(walk(&bytes), (2, None));
        assert_eq!(walk(b""), (0, None));
        let (read, what) = walk(&bytes[..first + 65]);
        assert!(read == 1 && what.clone().unwrap().contains("cut off after 65"), "{what:?}");
        let (read, what) = walk(&bytes[..first + 10]);
        assert!(read == 1 && what.clone().unwrap().contains("no whole batch"), "{what:?}");
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let (read, what) = walk(&bytes);
        assert!(read == 1 && what.is_some());
    }

    #[test]
    fn a_file_is_shown_and_damage_fails() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("00000000000000000000.log");
        let args = SegmentArgs {
            file: super::super::FileArg { path: path.clone() },
            records: true,
            from_offset: 0,
            limit: 10,
        };
        assert_eq!(run(&args, Format::Json).unwrap_err().failure(), crate::exit::Failure::NotFound);
        std::fs::write(&path, batch(0, &["a"])).unwrap();
        run(&args, Format::Table).unwrap();
        std::fs::write(&path, [batch(5, &["a"]), batch(0, &["b"])].concat()).unwrap();
        let error = run(&args, Format::Json).unwrap_err().to_string();
        assert!(error.contains("offset 0 comes after 6"), "{error}");
    }
}
