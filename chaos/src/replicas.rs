//! What lies on the disks in the end: replicas of a partition must have the same batches.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use vltava_model::batch::{Batch, BatchHeader};

/// One batch, by what names its content: base offset, leader epoch, checksum, records.
type StoredBatch = (u64, Option<u32>, u32, u32);

/// Holds that all of `dirs` (log directories by node) that have a replica of `partition` (its directory's name) have the
/// same batches from the latest log start on. Returns how many records they agree on and how many replicas there are.
///
/// # Errors
/// The first difference, or what can't be read.
pub fn compare(dirs: &[(u32, PathBuf)], partition: &str) -> Result<(u64, usize), String> {
    let mut replicas = Vec::new();
    for (node, dir) in dirs {
        let dir = dir.join(partition);
        if dir.is_dir() {
            replicas.push((*node, batches(&dir)?));
        }
    }
    let start = replicas.iter().filter_map(|(_, batches)| batches.first()).map(|batch| batch.0).max();
    for (_, batches) in &mut replicas {
        batches.retain(|batch| Some(batch.0) >= start);
    }
    let Some(((first_node, first), others)) = replicas.split_first() else {
        return Err(format!("nobody has {partition}"));
    };
    for (node, other) in others {
        if first != other {
            let differ = first.iter().zip(other).position(|(a, b)| a != b);
            let at = differ.unwrap_or(first.len().min(other.len()));
            return Err(format!(
                "{partition}: batch {at} is {:?} on node {first_node} and {:?} on node {node} ({} and {} batches)",
                first.get(at),
                other.get(at),
                first.len(),
                other.len()
            ));
        }
    }
    Ok((first.iter().map(|batch| u64::from(batch.3)).sum(), replicas.len()))
}

/// All batches in a partition's directory, each of them valid.
fn batches(dir: &Path) -> Result<Vec<StoredBatch>, String> {
    let listed = fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let mut segments: Vec<PathBuf> = listed.flatten().map(|entry| entry.path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    segments.sort();
    let mut found = Vec::new();
    for path in segments {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let mut bytes = Bytes::from(fs::read(&path).map_err(|error| failed(&error))?);
        // A preallocated segment ends in zeros.
        while bytes.iter().any(|byte| *byte != 0) {
            let header = BatchHeader::peek(&bytes).map_err(|error| failed(&error))?;
            let header = header.filter(|header| header.length <= bytes.len());
            let header = header.ok_or_else(|| failed(&"a torn batch at the end"))?;
            Batch::parse(bytes.split_to(header.length)).map_err(|error| failed(&error))?;
            let epoch = header.leader_epoch.map(|epoch| epoch.get());
            found.push((header.base_offset.get(), epoch, header.crc, header.record_count));
        }
    }
    Ok(found)
}
