//! Puts the checksums of changed files right, as `docs/formats.md` describes them: an independent reading of it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use vltava_model::TopicPartition;

use crate::damage::Files;

/// Where a batch's checksum lies and from where it covers.
const BATCH_CRC: usize = 17;
const BATCH_COVERED: usize = 21;

/// Seals every file according to its name; `partition` is whose directory it is.
pub fn files(files: &mut Files, partition: TopicPartition) {
    let mut logs: HashMap<PathBuf, Vec<u8>> = HashMap::new();
    for (path, bytes) in files.iter_mut() {
        if path.extension().is_some_and(|extension| extension == "log") {
            batches(bytes);
            logs.insert(path.clone(), bytes.clone());
        }
    }
    for (path, bytes) in files {
        let seed = seed_of(path, partition);
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("check") => check(bytes, seed, logs.get(&path.with_extension("log"))),
            Some("index" | "timeindex" | "snapshot") => last(bytes, seed),
            Some("journal") => journal(bytes),
            Some(_) => {}
            None => last(bytes, 0),
        }
    }
}

/// The checksum from which those of a segment continue.
fn seed_of(path: &Path, partition: TopicPartition) -> u32 {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let base: u64 = stem.parse().unwrap_or_default();
    let sum = crc32c::crc32c(&partition.topic.to_bytes());
    let sum = crc32c::crc32c_append(sum, &partition.partition.get().to_be_bytes());
    crc32c::crc32c_append(sum, &base.to_be_bytes())
}

/// Every batch that lies whole within the bytes, one after the other.
pub fn batches(bytes: &mut [u8]) {
    let mut rest = bytes;
    while let Some(length) = batch_length(rest) {
        let (batch, behind) = rest.split_at_mut(length);
        let sum = crc32c::crc32c(&batch[BATCH_COVERED..]);
        batch[BATCH_CRC..BATCH_COVERED].copy_from_slice(&sum.to_be_bytes());
        rest = behind;
    }
}

/// The length of the batch at the front, prefix included, when it is all there.
fn batch_length(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_be_bytes(*bytes.get(8..)?.first_chunk()?) as usize + 12;
    (61..=bytes.len()).contains(&length).then_some(length)
}

/// A checksum over all before it, as the last four bytes.
fn last(bytes: &mut [u8], seed: u32) {
    if let Some((covered, sum)) = bytes.split_last_chunk_mut::<4>() {
        *sum = crc32c::crc32c_append(seed, covered).to_be_bytes();
    }
}

fn check(bytes: &mut [u8], seed: u32, log: Option<&Vec<u8>>) {
    const HEADER: usize = 48;
    const NOTE: usize = 56;
    const ENTRY: usize = 24;
    if let Some(header) = bytes.get_mut(..HEADER) {
        last(header, 0);
    }
    if let Some(note) = bytes.get_mut(HEADER..HEADER + NOTE) {
        last(note, seed);
    }
    let Some(entries) = bytes.get_mut(HEADER + NOTE..) else { return };
    for (ordinal, entry) in (0u32..).zip(entries.chunks_exact_mut(ENTRY)) {
        let position = u32::from_be_bytes([entry[4], entry[5], entry[6], entry[7]]) as usize;
        let batch = log.and_then(|log| log.get(position..)).filter(|batch| batch.len() >= BATCH_COVERED);
        if let Some(batch) = batch {
            let length = u32::from_be_bytes([batch[8], batch[9], batch[10], batch[11]]).wrapping_add(12);
            let sum = crc32c::crc32c_append(seed, &batch[..8]);
            let sum = crc32c::crc32c_append(sum, &batch[12..16]);
            let sum = crc32c::crc32c_append(sum, &length.to_be_bytes());
            let sum = crc32c::crc32c_append(sum, &batch[BATCH_CRC..BATCH_COVERED]);
            entry[16..20].copy_from_slice(&sum.to_be_bytes());
        }
        let sum = crc32c::crc32c_append(seed, &ordinal.to_be_bytes());
        let sum = crc32c::crc32c_append(sum, &entry[..20]);
        entry[20..].copy_from_slice(&sum.to_be_bytes());
    }
}

fn journal(bytes: &mut [u8]) {
    const HEADER: usize = 36;
    const GROUPS: usize = 4096;
    const SECTOR: usize = 512;
    if let Some(header) = bytes.get_mut(..HEADER) {
        last(header, 0);
    }
    let mut at = GROUPS;
    while let Some(group) = bytes.get_mut(at..).filter(|group| group.len() >= 40) {
        let length = u32::from_be_bytes([group[28], group[29], group[30], group[31]]) as usize;
        if &group[..4] == b"VJGR" && (40..=group.len()).contains(&length) {
            let sum = crc32c::crc32c(&group[8..length]);
            group[4..8].copy_from_slice(&sum.to_be_bytes());
        }
        at += SECTOR;
    }
}

/// A file of the Raft log's write-ahead log.
pub fn wal(bytes: &mut [u8]) {
    const HEADER: usize = 4096;
    const SECTOR: usize = 512;
    for at in [0, HEADER] {
        if let Some(header) = bytes.get_mut(at..at + HEADER) {
            last_little(header);
        }
    }
    let Some(slot_bytes) = bytes.get(12..16).map(|length| little(length) as usize) else { return };
    for at in [2 * HEADER, (2 * HEADER).saturating_add(slot_bytes)] {
        let Some(slot) = bytes.get_mut(at..).filter(|slot| slot.starts_with(b"VLWS") && slot.len() > 24)
        else {
            continue;
        };
        let length = little(&slot[16..20]) as usize;
        if let Some(group) = slot.get_mut(24..).and_then(|group| group.get_mut(..length)) {
            wal_group(group);
            let sum = crc32c::crc32c(&slot[8..24 + length]);
            slot[4..8].copy_from_slice(&sum.to_le_bytes());
        }
    }
    let mut at = (2 * HEADER).saturating_add(slot_bytes.saturating_mul(2));
    while let Some(group) = bytes.get_mut(at..).filter(|group| group.len() >= 40) {
        wal_group(group);
        at += SECTOR;
    }
}

/// A group at the front of the bytes: its records' chain, and its head.
fn wal_group(group: &mut [u8]) {
    const HEAD: usize = 40;
    const RECORD: usize = 28;
    if group.len() < HEAD || !group.starts_with(b"VLWG") {
        return;
    }
    let (head, mut records) = group.split_at_mut(HEAD);
    let mut chain: [u8; 4] = [head[32], head[33], head[34], head[35]];
    for _ in 0..little(&head[28..32]) {
        let Some(length) = records.get(4..8).map(|length| little(length) as usize) else { break };
        let Some((record, behind)) = records.split_at_mut_checked(RECORD.saturating_add(length)) else {
            break;
        };
        let sum = crc32c::crc32c_append(crc32c::crc32c(&chain), &record[..24]);
        chain = crc32c::crc32c_append(sum, &record[RECORD..]).to_le_bytes();
        record[24..RECORD].copy_from_slice(&chain);
        records = behind;
    }
    head[36..].copy_from_slice(&chain);
    let sum = crc32c::crc32c(&head[8..]);
    head[4..8].copy_from_slice(&sum.to_le_bytes());
}

fn little(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

fn last_little(bytes: &mut [u8]) {
    if let Some((covered, sum)) = bytes.split_last_chunk_mut::<4>() {
        *sum = crc32c::crc32c(covered).to_le_bytes();
    }
}
