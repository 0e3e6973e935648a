//! `vltava inspect raft` and `vltava inspect image`: a stopped controller's disk.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use prost::Message;
use serde::Serialize;
use vltava_metadata::{ConfigTarget, Image};
use vltava_model::MetadataOffset;
use vltava_proto::v1::{MetadataEntry, MetadataRecord, MetadataSnapshot, metadata_record::Record};
use vltava_raft_store::{Inspection, OpenError, RaftEntry, StoredSnapshot};

use super::image::ImageView;
use super::judge;
use crate::exit::{CliError, CliResult, Failure};
use crate::output::{self, Format, Rows, or_dash};

/// The Raft log of a controller: vote, positions, entries, snapshots, damage
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vltava inspect raft vltava-data/node1/__metadata
  vltava inspect raft vltava-data/node1/__metadata --entries 50 --records")]
pub struct RaftArgs {
    /// The `metadata.log.dir` of a controller that is not running
    directory: PathBuf,

    /// How many of the last entries are listed
    #[arg(long, default_value_t = 20, value_name = "N")]
    entries: usize,

    /// List the records in each entry too
    #[arg(long)]
    records: bool,
}

/// The cluster's metadata as a controller's disk has it
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vltava inspect image vltava-data/node1/__metadata
  vltava inspect image vltava-data/node1/__metadata --output json | jq .topics

Shows the newest snapshot with the entries after it that are known to be committed.")]
pub struct ImageArgs {
    /// The `metadata.log.dir` of a controller that is not running
    directory: PathBuf,

    /// Apply entries that may not be committed, too
    #[arg(long)]
    uncommitted: bool,
}

#[derive(Serialize)]
struct RaftView {
    directory: String,
    engine: String,
    damage: Option<String>,
    changes: u64,
    vote: Option<String>,
    committed: Option<String>,
    purged: Option<String>,
    first_index: Option<u64>,
    last: Option<String>,
    snapshots: Vec<SnapshotView>,
    entries: Vec<EntryView>,
}

#[derive(Serialize)]
struct SnapshotView {
    file: String,
    bytes: u64,
    content: String,
}

#[derive(Serialize)]
struct EntryView {
    index: u64,
    term: u64,
    content: String,
    records: Vec<String>,
}

pub fn run(args: &RaftArgs, format: Format) -> CliResult {
    let inspection = open(&args.directory)?;
    let mut unreadable = None;
    let mut entries = std::collections::VecDeque::new();
    for entry in inspection.entries() {
        match entry {
            Ok(entry) => entries.push_back(entry),
            Err(error) => unreadable = Some(error.to_string()),
        }
        if entries.len() > args.entries {
            entries.pop_front();
        }
    }
    let view = RaftView {
        directory: args.directory.display().to_string(),
        engine: inspection.engine.to_string(),
        damage: inspection.damage.clone().or(unreadable),
        changes: inspection.changes,
        vote: inspection.vote.map(|vote| {
            let known = if vote.committed { ", elected" } else { "" };
            format!("term {} for {}{known}", vote.term, or_dash(vote.voted_for))
        }),
        committed: inspection.committed.map(|position| position.to_string()),
        purged: inspection.purged.map(|position| position.to_string()),
        first_index: inspection.first,
        last: inspection.last.map(|position| position.to_string()),
        snapshots: inspection
            .snapshots
            .iter()
            .map(|file| SnapshotView {
                file: file.path.display().to_string(),
                bytes: file.bytes,
                content: file
                    .content
                    .as_ref()
                    .map_or_else(|why| format!("DAMAGED: {why}"), describe_snapshot),
            })
            .collect(),
        entries: entries.iter().map(|entry| describe_entry(entry, args.records)).collect(),
    };
    output::print(format, &view, table)?;
    judge(&args.directory, view.damage.as_deref())
}

/// Looks at the Raft directory that `directory` is, or has in it.
fn open(directory: &Path) -> CliResult<Inspection> {
    let candidates = [directory.to_path_buf(), directory.join("raft"), directory.join("__metadata")];
    // What a log leaves in its directory, whatever it lies on.
    let traces = ["wal", "wal.origin", "log", "witness"];
    let found = candidates.iter().find(|candidate| traces.iter().any(|trace| candidate.join(trace).exists()));
    let found = found.ok_or_else(|| {
        let here = directory.display();
        CliError::new(
            Failure::NotFound,
            format!("{here} holds no Raft log: name a controller's `metadata.log.dir`"),
        )
    })?;
    vltava_raft_store::inspect(found).map_err(|error| match error {
        OpenError::InUse { .. } => CliError::failed(format!("{error}: stop the node first")),
        error => CliError::failed(error),
    })
}

fn describe_snapshot(snapshot: &StoredSnapshot) -> String {
    let upto =
        snapshot.meta.last_log_id.map(|id| format!("up to entry {id}")).unwrap_or_else(|| "nothing".into());
    match MetadataSnapshot::decode(snapshot.data.as_slice()) {
        Ok(metadata) => {
            format!("{upto}; metadata offset {}, {} records", metadata.offset, metadata.records.len())
        }
        Err(error) => format!("{upto}; not metadata: {error}"),
    }
}

/// What an entry carries.
enum Payload {
    Blank,
    Metadata(MetadataEntry),
    Membership(String),
    Unreadable(String),
}

/// The payload of an entry. Its JSON form is used, since openraft's own types belong to the store and the controller.
fn payload(entry: &RaftEntry) -> Payload {
    let json = match serde_json::to_value(&entry.payload) {
        Ok(json) => json,
        Err(error) => return Payload::Unreadable(error.to_string()),
    };
    if let Some(membership) = json.get("Membership") {
        return Payload::Membership(membership.to_string());
    }
    let Some(command) = json.get("Normal").and_then(serde_json::Value::as_str) else {
        return Payload::Blank;
    };
    match from_hex(command).map(|bytes| MetadataEntry::decode(Bytes::from(bytes))) {
        Some(Ok(entry)) => Payload::Metadata(entry),
        Some(Err(error)) => Payload::Unreadable(error.to_string()),
        None => Payload::Unreadable("no hexadecimal digits".into()),
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    Some(digits?.chunks_exact(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect())
}

fn describe_entry(entry: &RaftEntry, with_records: bool) -> EntryView {
    let (content, records) = match payload(entry) {
        Payload::Blank => ("blank: a leader's first".to_owned(), Vec::new()),
        Payload::Membership(membership) => (format!("membership: {membership}"), Vec::new()),
        Payload::Unreadable(why) => (format!("UNREADABLE: {why}"), Vec::new()),
        Payload::Metadata(metadata) => {
            let records = if with_records {
                metadata.records.iter().map(describe_record).collect()
            } else {
                Vec::new()
            };
            let kinds = metadata.records.iter().map(kind).collect::<Vec<_>>();
            (format!("metadata offset {}: {}", metadata.base_offset, counted(&kinds)), records)
        }
    };
    EntryView { index: entry.log_id.index, term: entry.log_id.leader_id.term, content, records }
}

/// `2 partition, 1 topic`: how often each kind comes.
fn counted(kinds: &[&'static str]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for kind in kinds {
        match counts.iter_mut().find(|(known, _)| known == kind) {
            Some((_, count)) => *count += 1,
            None => counts.push((kind, 1)),
        }
    }
    counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ")
}

fn kind(record: &MetadataRecord) -> &'static str {
    match &record.record {
        None => "unknown",
        Some(Record::Cluster(_)) => "cluster",
        Some(Record::Feature(_)) => "feature",
        Some(Record::Broker(_)) => "broker",
        Some(Record::BrokerRemoved(_)) => "broker removed",
        Some(Record::Topic(_)) => "topic",
        Some(Record::TopicRemoved(_)) => "topic removed",
        Some(Record::Partition(_)) => "partition",
        Some(Record::Config(_)) => "config",
        Some(Record::ProducerIds(_)) => "producer ids",
    }
}

fn describe_record(record: &MetadataRecord) -> String {
    record.record.as_ref().map_or_else(|| "unknown".into(), |record| format!("{record:?}"))
}

fn table(view: &RaftView) -> String {
    let mut text = format!(
        "Raft log in {}\n  engine: {}\n  damage: {}\n  durable changes: {}\n  vote: {}\n  committed: {}\n  purged: {}\n  entries: {} to {}\n",
        view.directory,
        view.engine,
        view.damage.as_deref().unwrap_or("none"),
        view.changes,
        or_dash(view.vote.as_ref()),
        or_dash(view.committed.as_ref()),
        or_dash(view.purged.as_ref()),
        or_dash(view.first_index),
        or_dash(view.last.as_ref()),
    );
    for snapshot in &view.snapshots {
        text.push_str(&format!(
            "  snapshot {} ({} bytes): {}\n",
            snapshot.file, snapshot.bytes, snapshot.content
        ));
    }
    let mut rows = Rows::new(&["entry", "term", "content"]);
    for entry in &view.entries {
        rows.add([entry.index.to_string(), entry.term.to_string(), entry.content.clone()]);
        entry.records.iter().for_each(|record| rows.add(["", "", &format!("  {record}")]));
    }
    text + &rows.render()
}

pub fn image(args: &ImageArgs, format: Format) -> CliResult {
    let inspection = open(&args.directory)?;
    let (image, problem) = replay(&inspection, args.uncommitted)?;
    output::print(format, &ImageView::from(&image), ImageView::text)?;
    judge(&args.directory, inspection.damage.as_deref().or(problem.as_deref()))
}

/// The newest whole snapshot and what comes after it; with what was wrong with an entry, if replay had to end there.
fn replay(inspection: &Inspection, uncommitted: bool) -> CliResult<(Image, Option<String>)> {
    let newest = inspection.snapshots.iter().find_map(|file| file.content.as_ref().ok());
    let mut image = Image::empty();
    let mut covered = None;
    if let Some(snapshot) = newest {
        let broken = |why: String| CliError::failed(format!("the newest snapshot is not metadata: {why}"));
        let metadata =
            MetadataSnapshot::decode(snapshot.data.as_slice()).map_err(|error| broken(error.to_string()))?;
        image = Image::from_snapshot(&metadata).map_err(|error| broken(error.to_string()))?;
        covered = snapshot.meta.last_log_id.map(|id| id.index);
    }
    let end = match uncommitted {
        true => u64::MAX,
        false => inspection.committed.map_or(0, |position| position.index),
    };
    for entry in inspection.entries() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => return Ok((image, Some(error.to_string()))),
        };
        let index = entry.log_id.index;
        if index > end {
            break;
        }
        if covered.is_some_and(|covered| index <= covered) {
            continue;
        }
        match payload(&entry) {
            // An entry whose base was taken by another one is skipped by every node.
            Payload::Metadata(metadata) if metadata.base_offset >= image.offset().get() => {
                let applied = image.replayed(MetadataOffset::new(metadata.base_offset), &metadata.records);
                match applied {
                    Ok(next) => image = next,
                    Err(error) => return Ok((image, Some(format!("entry {index}: {error}")))),
                }
            }
            Payload::Unreadable(why) => return Ok((image, Some(format!("entry {index}: {why}")))),
            Payload::Metadata(_) | Payload::Blank | Payload::Membership(_) => {}
        }
    }
    Ok((image, None))
}

/// A config's owner as people name it.
pub fn target_name(target: &ConfigTarget) -> String {
    match target {
        ConfigTarget::Topic(name) => format!("topic {name}"),
        ConfigTarget::Broker(node) => format!("broker {node}"),
        ConfigTarget::Cluster => "cluster".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_without_a_log_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = open(dir.path()).err().unwrap();
        assert_eq!(error.failure(), Failure::NotFound);
        assert!(error.to_string().contains("metadata.log.dir"), "{error}");
    }

    #[test]
    fn records_are_counted_by_kind() {
        assert_eq!(counted(&["partition", "topic", "partition"]), "2 partition, 1 topic");
        assert_eq!(from_hex("00ff"), Some(vec![0, 255]));
        assert_eq!(from_hex("zz"), None);
    }
}
