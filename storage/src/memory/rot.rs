//! Bits of a disk that turn over by themselves, in bytes that were synced.
//!
//! Who will read them, and when, is not known here.

use std::path::{Path, PathBuf};

use rand::RngExt;

use super::{MemoryStorage, disk};

/// How often a byte that is not zero is looked for: most of a preallocated file is zeroes.
const TRIALS: usize = 40;

/// A bit that turned over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rot {
    /// In which file.
    pub path: PathBuf,
    /// Where in it, in bytes.
    pub at: usize,
    /// What the byte is since.
    pub byte: u8,
}

impl MemoryStorage {
    /// Turns one bit of a synced byte in one of the files that are wanted, all files alike; rather one of a byte that is
    /// not zero. `None` when there is no such byte.
    pub fn rot(&self, rng: &mut dyn rand::Rng, wanted: &dyn Fn(&Path) -> bool) -> Option<Rot> {
        let mut state = self.state();
        let mut files = state.disk.files(disk::ROOT, Path::new("/"));
        files.retain(|(path, inode)| wanted(path) && !state.disk.durable(*inode).is_empty());
        if files.is_empty() {
            return None;
        }
        let (path, inode) = files.swap_remove(rng.random_range(0..files.len()));
        let durable = state.disk.durable(inode);
        let mut at = rng.random_range(0..durable.len());
        for _ in 0..TRIALS {
            if durable[at] != 0 {
                break;
            }
            at = rng.random_range(0..durable.len());
        }
        let bits = 1 << rng.random_range(0..8);
        let byte = durable[at] ^ bits;
        state.disk.rot(inode, at, bits);
        Some(Rot { path, at, byte })
    }

    /// Whether what turned over still lies there.
    pub fn has(&self, rot: &Rot) -> bool {
        let state = self.state();
        let Ok(inode) = state.disk.resolve_file(&rot.path) else { return false };
        state.disk.durable(inode).get(rot.at) == Some(&rot.byte)
    }
}
