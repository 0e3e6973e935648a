//! A log directory's journal in any state, and the replay of what it holds into a good log.
//!
//! Input: a byte (odd: checksums are put right), then a script of changes to two journal files.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use vltava_commitlog::durability::Journal;
use vltava_commitlog::log::RecoveryInput;
use vltava_model::batch::{Batch, Compression};
use vltava_model::{LeaderEpoch, Offset};

use super::batch::small_batch;
use super::log::{open_and_use, partition};
use crate::damage::{Files, Script, disk};
use crate::seal;

const DIR: &str = "/logs/journal";
const SALT: u64 = 0x5a17;
const SECTOR: usize = 512;

static GOOD: LazyLock<Files> = LazyLock::new(|| {
    let append = |base: u64, epoch: u32| {
        let batch = Batch::parse(small_batch(Compression::None, 2)).expect("a built batch is whole");
        let bytes = batch.with_position(Offset::new(base), LeaderEpoch::new(epoch)).into_bytes();
        frame(1, epoch, base, base + 2, &bytes)
    };
    let first = file(1, 0, &[group(0, &[append(0, 1), append(2, 1)]), group(1, &[frame(3, 2, 0, 2, &[])])]);
    let second = file(
        2,
        0,
        &[
            group(2, &[frame(2, 2, 0, 2, &[]), append(2, 2), append(4, 2)]),
            group(3, &[frame(4, 2, 0, 1, &[])]),
        ],
    );
    let mut files = Vec::new();
    for (number, bytes) in [(1, first), (2, second)] {
        files.push((Path::new(DIR).join(format!("{number:020}.journal")), bytes));
    }
    seal::files(&mut files, partition());
    files
});

/// A frame as in `docs/formats.md`.
fn frame(kind: u8, epoch: u32, base: u64, end: u64, batches: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 0, 0, 0];
    bytes.extend(epoch.to_be_bytes());
    bytes.extend(partition().topic.to_bytes());
    bytes.extend(partition().partition.get().to_be_bytes());
    bytes.extend(u32::try_from(batches.len()).expect("they are small").to_be_bytes());
    bytes.extend(base.to_be_bytes());
    bytes.extend(end.to_be_bytes());
    bytes.extend(batches);
    bytes
}

fn group(sequence: u64, frames: &[Vec<u8>]) -> Vec<u8> {
    let body = frames.concat();
    let mut bytes = b"VJGR\0\0\0\0\0\x01\0\0".to_vec();
    bytes.extend(SALT.to_be_bytes());
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(u32::try_from(40 + body.len()).expect("it is small").to_be_bytes());
    bytes.extend(u32::try_from(frames.len()).expect("they are few").to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
    bytes
}

fn file(generation: u64, floor: u64, groups: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = b"VJRN\0\x01\0\0".to_vec();
    bytes.extend(SALT.to_be_bytes());
    bytes.extend(generation.to_be_bytes());
    bytes.extend(floor.to_be_bytes());
    bytes.resize(4096, 0);
    bytes.extend(groups.concat());
    bytes.resize(bytes.len() + SECTOR, 0);
    bytes
}

pub(super) fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let how = script.byte();
    let mut files = GOOD.clone();
    script.change(&mut files);
    if how & 1 == 1 {
        seal::files(&mut files, partition());
    }
    let storage = disk(&files);
    let Ok(mut recovered) = Journal::recover(&storage, &PathBuf::from(DIR)) else { return };
    let frames = recovered.take(partition());
    let input = RecoveryInput {
        recovery_point: Some(Offset::ZERO),
        frames,
        now_ms: 1_000_000,
        ..RecoveryInput::default()
    };
    open_and_use(&storage, input);
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let recovered = Journal::recover(&disk(&GOOD), &PathBuf::from(DIR)).expect("the good journal is read");
    assert!(!recovered.partitions.is_empty(), "and it holds something");
    let mut seeds = vec![vec![0], vec![1]];
    for file in 0..2 {
        for position in [8u16, 24, 4096, 4096 + 28, 4096 + 40, 4096 + 48 + 40] {
            let [high, low] = position.to_be_bytes();
            seeds.push(vec![1, 0, file, high, low, 3, 0, 0, 0, 2]);
        }
        seeds.push(vec![1, 2, file, 0x11, 0]);
        seeds.push(vec![1, 7, file, 0, 0]);
    }
    seeds
}
