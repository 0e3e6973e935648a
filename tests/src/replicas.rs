//! What lies on the disks of stopped nodes: replicas of a partition must agree batch by batch.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use vltava_model::LeaderEpoch;
use vltava_model::batch::{Batch, BatchHeader};

use crate::cluster::Cluster;

/// One batch on one disk, by what names its content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoredBatch {
    /// The offset of its first record.
    pub base_offset: u64,
    /// In which epoch it was appended.
    pub leader_epoch: Option<LeaderEpoch>,
    /// The checksum of the rest.
    pub crc: u32,
    /// Its records.
    pub records: u32,
}

/// Holds that all nodes that have a replica have the same batches from the latest log start on; returns how many records
/// they agree on. The nodes must have ended in order.
///
/// # Errors
/// The first difference, or what can't be read.
pub fn compare(cluster: &Cluster, topic_id: &str, partition: u32) -> Result<u64, String> {
    let mut replicas = Vec::new();
    for id in cluster.ids() {
        let name = format!("{topic_id}-{partition}");
        if let Some(dir) =
            cluster.log_dirs(id).into_iter().map(|dir| dir.join(&name)).find(|dir| dir.is_dir())
        {
            replicas.push((id, batches(&dir)?));
        }
    }
    let start =
        replicas.iter().filter_map(|(_, batches)| batches.first()).map(|batch| batch.base_offset).max();
    let from_start = |batches: &[StoredBatch]| -> Vec<StoredBatch> {
        batches.iter().filter(|batch| Some(batch.base_offset) >= start).copied().collect()
    };
    let Some(((first_id, first), others)) = replicas.split_first() else {
        return Err(format!("nobody has {topic_id}-{partition}"));
    };
    let first = from_start(first);
    for (id, other) in others {
        let other = from_start(other);
        if first != other {
            let at =
                first.iter().zip(&other).position(|(a, b)| a != b).unwrap_or(first.len().min(other.len()));
            return Err(format!(
                "{topic_id}-{partition}: node {first_id} has {:?} and node {id} has {:?} ({} and {} batches)",
                first.get(at),
                other.get(at),
                first.len(),
                other.len()
            ));
        }
    }
    Ok(first.iter().map(|batch| u64::from(batch.records)).sum())
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
            let header = header.ok_or_else(|| failed(&"a torn batch at the end"))?;
            if header.length > bytes.len() {
                return Err(failed(&"a torn batch at the end"));
            }
            Batch::parse(bytes.split_to(header.length)).map_err(|error| failed(&error))?;
            found.push(StoredBatch {
                base_offset: header.base_offset.get(),
                leader_epoch: header.leader_epoch,
                crc: header.crc,
                records: header.record_count,
            });
        }
    }
    Ok(found)
}
