//! What lies on the disks of nodes that ended: replicas of a partition must have the same batches.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use vltava_model::LeaderEpoch;
use vltava_model::batch::{Batch, BatchHeader};

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

/// What replicas have in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Agreement {
    /// The records from the latest log start on.
    pub records: u64,
    /// How many replicas there are.
    pub replicas: usize,
}

/// Holds that all of `dirs` (log directories by node) that have a replica of `partition` (its directory's name) have the
/// same batches from the latest log start on. The nodes must have ended in order.
///
/// # Errors
/// The first difference, or what can't be read.
pub fn compare(dirs: &[(u32, PathBuf)], partition: &str) -> Result<Agreement, String> {
    let mut replicas = Vec::new();
    for (node, dir) in dirs {
        let dir = dir.join(partition);
        if dir.is_dir() {
            replicas.push((*node, batches(&dir)?));
        }
    }
    let start =
        replicas.iter().filter_map(|(_, batches)| batches.first()).map(|batch| batch.base_offset).max();
    for (_, batches) in &mut replicas {
        batches.retain(|batch| Some(batch.base_offset) >= start);
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
    let records = first.iter().map(|batch| u64::from(batch.records)).sum();
    Ok(Agreement { records, replicas: replicas.len() })
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

#[cfg(test)]
mod tests {
    use vltava_model::batch::{BatchBuilder, Compression};

    use super::*;

    fn batch(value: &[u8]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.append(1, None, Some(value), &[]).unwrap();
        builder.build().to_vec()
    }

    /// One replica a node, with one segment of these batches and zeros behind them.
    fn nodes(replicas: &[&[&[u8]]]) -> (tempfile::TempDir, Vec<(u32, PathBuf)>) {
        let home = tempfile::tempdir().unwrap();
        let mut dirs = Vec::new();
        for (node, batches) in (1..).zip(replicas) {
            let dir = home.path().join(node.to_string());
            fs::create_dir_all(dir.join("t-0")).unwrap();
            let mut bytes: Vec<u8> = batches.iter().flat_map(|value| batch(value)).collect();
            bytes.extend([0; 100]);
            fs::write(dir.join("t-0/00000000000000000000.log"), bytes).unwrap();
            dirs.push((node, dir));
        }
        (home, dirs)
    }

    #[test]
    fn equal_replicas_agree_and_others_do_not() {
        let (_home, dirs) = nodes(&[&[b"a", b"b"], &[b"a", b"b"]]);
        assert_eq!(compare(&dirs, "t-0"), Ok(Agreement { records: 2, replicas: 2 }));
        assert!(compare(&dirs, "t-1").unwrap_err().contains("nobody has t-1"));
        let (_home, dirs) = nodes(&[&[b"a", b"b"], &[b"a", b"c"]]);
        assert!(compare(&dirs, "t-0").unwrap_err().contains("batch 1 is"));
        let (_home, dirs) = nodes(&[&[b"a", b"b"], &[b"a"]]);
        assert!(compare(&dirs, "t-0").unwrap_err().contains("(2 and 1 batches)"));
    }

    #[test]
    fn damage_and_torn_ends_are_told() {
        let (_home, dirs) = nodes(&[&[b"a"]]);
        let path = dirs[0].1.join("t-0/00000000000000000000.log");
        let whole = fs::read(&path).unwrap();
        let mut damaged = whole.clone();
        damaged[64] ^= 1;
        fs::write(&path, damaged).unwrap();
        assert!(compare(&dirs, "t-0").is_err());
        fs::write(&path, &whole[..whole.len() - 110]).unwrap();
        assert!(compare(&dirs, "t-0").unwrap_err().contains("torn"));
    }
}
