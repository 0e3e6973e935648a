//! What is left of a disk after a crash.
//!
//! Knows nothing of who crashed, or why.

use rand::RngExt;

use super::disk::{Cached, Change, Disk, FileChange, Inode};

/// The unit that a disk writes as a whole.
const SECTOR_BYTES: u64 = 512;

/// What a crash does to that which was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashMode {
    /// Only the process dies: nothing is lost. What was not synced still is not, and may be lost by a later crash.
    Kill,
    /// Power fails, and nothing unsynced had been written.
    LoseUnsynced,
    /// Power fails, and of the unsynced changes any had been written, in any order, each one whole.
    Reorder,
    /// Power fails, and of the unsynced changes any sector had been written, and any length.
    Tear,
}

impl CrashMode {
    /// Every mode, for tests that go through them.
    pub const ALL: [Self; 4] = [Self::Kill, Self::LoseUnsynced, Self::Reorder, Self::Tear];
}

/// The disk that a restart finds.
pub(super) fn survive(mut disk: Disk, mut rng: &mut dyn rand::Rng, mode: CrashMode) -> Disk {
    if mode == CrashMode::Kill {
        return disk;
    }
    for inode in &mut disk.inodes {
        match inode {
            Inode::File(file) if mode == CrashMode::Tear => tear(file, rng),
            Inode::File(file) => keep(file, &mut rng, mode),
            Inode::Dir(dir) => keep(dir, &mut rng, mode),
        }
    }
    disk.forget_unnamed();
    disk
}

fn keep<T: Clone, C: Change<T>>(content: &mut Cached<T, C>, rng: &mut dyn rand::Rng, mode: CrashMode) {
    match mode {
        // The cache goes on as it is.
        CrashMode::Kill => return,
        CrashMode::LoseUnsynced => content.current.clone_from(&content.durable),
        CrashMode::Reorder | CrashMode::Tear => {
            let kept = content.pending.iter().filter(|_| rng.random_bool(0.5));
            kept.for_each(|change| change.apply(&mut content.durable));
            content.current.clone_from(&content.durable);
        }
    }
    content.pending.clear();
}

/// Keeps any sectors of what was written; where the length was kept and a sector was not, there are zeroes.
fn tear(file: &mut Cached<Vec<u8>, FileChange>, rng: &mut dyn rand::Rng) {
    for change in std::mem::take(&mut file.pending) {
        match change {
            FileChange::SetLen(_) => {
                if rng.random_bool(0.5) {
                    change.apply(&mut file.durable);
                }
            }
            FileChange::Write { pos, bytes } => {
                let end = pos + bytes.len() as u64;
                if end > file.durable.len() as u64 && rng.random_bool(0.5) {
                    FileChange::SetLen(end).apply(&mut file.durable);
                }
                tear_write(&mut file.durable, pos, &bytes, rng);
            }
        }
    }
    file.current.clone_from(&file.durable);
}

fn tear_write(durable: &mut [u8], pos: u64, bytes: &[u8], rng: &mut dyn rand::Rng) {
    let end = pos + bytes.len() as u64;
    let mut at = pos;
    while at < end {
        let next = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
        let reached = next.min(durable.len() as u64);
        if rng.random_bool(0.5) && at < reached {
            let kept = &bytes[(at - pos) as usize..(reached - pos) as usize];
            durable[at as usize..reached as usize].copy_from_slice(kept);
        }
        at = next;
    }
}
