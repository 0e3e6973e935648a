//! `vltava inspect checkpoint`: small files that are replaced whole.

use clap::Args;
use serde::Serialize;
use vltava_model::{ClusterId, DirectoryId, TopicId};
use vltava_storage::RealStorage;
use vltava_storage::checkpoint::{CheckpointKind, read_checkpoint};

use super::{Fields, read};
use crate::exit::{CliError, CliResult};
use crate::output::{self, Format};

/// Where a checkpoint's header names its kind.
const KIND_AT: std::ops::Range<usize> = 4..8;

/// A checkpoint: vltava.meta, clean-shutdown, leader-epoch-checkpoint, log-state, recovery points
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vltava inspect checkpoint vltava-data/node1/vltava.meta
  vltava inspect checkpoint vltava-data/node1/TOPIC_ID-0/leader-epoch-checkpoint")]
pub struct CheckpointArgs {
    #[command(flatten)]
    file: super::FileArg,
}

#[derive(Serialize)]
struct CheckpointView {
    file: String,
    kind: String,
    version: u16,
    payload_bytes: usize,
    content: Vec<String>,
}

pub fn run(args: &CheckpointArgs, format: Format) -> CliResult {
    let path = &args.file.path;
    let bytes = read(path)?;
    let kind: Option<[u8; 4]> = bytes.get(KIND_AT).and_then(|kind| kind.try_into().ok());
    let kind = kind.filter(|_| bytes.starts_with(b"VLTC"));
    let kind = kind.ok_or_else(|| CliError::failed(format!("{} is no checkpoint", path.display())))?;
    let checkpoint = read_checkpoint(&RealStorage, path, CheckpointKind(kind)).map_err(CliError::failed)?;
    let checkpoint = checkpoint.ok_or_else(|| CliError::failed(format!("{} went away", path.display())))?;
    let view = CheckpointView {
        file: path.display().to_string(),
        kind: kind.escape_ascii().to_string(),
        version: checkpoint.version,
        payload_bytes: checkpoint.payload.len(),
        content: explain(kind, &checkpoint.payload),
    };
    output::print(format, &view, |view| {
        let content: String = view.content.iter().map(|line| format!("  {line}\n")).collect();
        format!(
            "Checkpoint {}  Kind: {}  Version: {}  Payload: {} bytes, checksum in order\n{content}",
            view.file, view.kind, view.version, view.payload_bytes
        )
    })
}

/// The payload in words, where the kind is known; else in hexadecimal.
fn explain(kind: [u8; 4], payload: &[u8]) -> Vec<String> {
    let known = match &kind {
        b"meta" => meta(payload),
        b"clsh" => Fields(payload).u64().map(|epoch| vec![format!("broker epoch: {epoch}")]),
        b"EPOC" => epochs(payload),
        b"LOGS" => state(payload),
        b"rcvp" => recovery_points(payload),
        _ => None,
    };
    known.unwrap_or_else(|| payload.chunks(32).map(hex).collect())
}

fn meta(payload: &[u8]) -> Option<Vec<String>> {
    let mut fields = Fields(payload);
    let directory = DirectoryId::from_slice(&fields.take::<16>()?)?;
    let node = fields.u32()?;
    let [known] = fields.take()?;
    let cluster = ClusterId::from_slice(&fields.take::<16>()?)?;
    let cluster = if known == 0 { "none yet".to_owned() } else { cluster.to_string() };
    Some(vec![
        format!("directory id: {directory}"),
        format!("node id: {node}"),
        format!("cluster id: {cluster}"),
    ])
}

fn epochs(payload: &[u8]) -> Option<Vec<String>> {
    // Version 2 says behind them whose they are, which is no multiple of an entry.
    let epochs = if payload.len().is_multiple_of(12) { payload } else { payload.split_last_chunk::<20>()?.0 };
    let entries = epochs.chunks(12).map(|entry| {
        let mut fields = Fields(entry);
        Some(format!("leader epoch {} begins at offset {}", fields.u32()?, fields.u64()?))
    });
    entries.collect()
}

fn recovery_points(payload: &[u8]) -> Option<Vec<String>> {
    let entries = payload.chunks(28).map(|entry| {
        let mut fields = Fields(entry);
        let topic = TopicId::from_slice(&fields.take::<16>()?)?;
        Some(format!("{topic}-{} is synced below offset {}", fields.u32()?, fields.u64()?))
    });
    entries.collect()
}

fn state(payload: &[u8]) -> Option<Vec<String>> {
    let mut fields = Fields(payload);
    let start = fields.u64()?;
    let [phase] = fields.take()?;
    let phase = if phase == 0 { "normal" } else { "being emptied" };
    Some(vec![format!("log start offset: {start}"), format!("phase: {phase}")])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use vltava_storage::checkpoint::write_checkpoint;

    #[test]
    fn payloads_are_explained() {
        let mut payload = vec![0xab; 16];
        payload.extend(7_u32.to_be_bytes());
        payload.extend([0; 17]);
        let lines = explain(*b"meta", &payload);
        assert_eq!(lines[1..], ["node id: 7", "cluster id: none yet"]);
        assert_eq!(explain(*b"clsh", &9_u64.to_be_bytes()), ["broker epoch: 9"]);
        let old = [0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 9];
        assert_eq!(explain(*b"EPOC", &old), ["leader epoch 2 begins at offset 9"]);
        let epoch = [old.as_slice(), &[0; 20]].concat();
        assert_eq!(explain(*b"EPOC", &epoch), ["leader epoch 2 begins at offset 9"]);
        let point = [[0; 16].as_slice(), &[0, 0, 0, 1], &9_u64.to_be_bytes()].concat();
        assert!(explain(*b"rcvp", &point)[0].ends_with("0-1 is synced below offset 9"));
        assert_eq!(explain(*b"????", &[1, 255]), ["01ff"]);
        assert_eq!(explain(*b"meta", &[1]), ["01"]);
    }

    #[test]
    fn a_file_is_read_and_a_damaged_one_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clean-shutdown");
        let args = CheckpointArgs { file: super::super::FileArg { path: path.clone() } };
        write_checkpoint(&RealStorage, &path, CheckpointKind(*b"clsh"), 1, &5_u64.to_be_bytes()).unwrap();
        run(&args, Format::Table).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[17] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(run(&args, Format::Json).unwrap_err().to_string().contains("damaged"));
        std::fs::write(&path, b"text").unwrap();
        assert!(run(&args, Format::Json).unwrap_err().to_string().contains("no checkpoint"));
    }
}
