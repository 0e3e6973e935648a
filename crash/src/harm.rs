//! Harm to the files on a disk in memory.
//!
//! Knows nothing of what is in them.

use std::path::{Path, PathBuf};

use rand::SeedableRng;
use rand::rngs::StdRng;
use vltava_storage::{CrashMode, MemoryStorage, Storage};

use crate::dice::Dice;

/// The same disk once more.
pub fn copy(storage: &MemoryStorage) -> MemoryStorage {
    storage.survivor(&mut StdRng::seed_from_u64(0), CrashMode::Kill)
}

/// How long a file is, in bytes.
pub fn length(storage: &MemoryStorage, path: &Path) -> u64 {
    storage.open(path).and_then(|file| file.len()).expect("the file is there")
}

/// All files below a directory, sorted.
pub fn files_below(storage: &MemoryStorage, dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for name in storage.list(dir).expect("the directory is there") {
        let path = dir.join(name);
        match storage.list(&path) {
            Ok(_) => found.extend(files_below(storage, &path)),
            Err(_) => found.push(path),
        }
    }
    found
}

fn any_file<'a>(storage: &MemoryStorage, files: &'a [PathBuf], dice: &mut Dice) -> (&'a Path, u64) {
    let path = &files[dice.roll(files.len() as u64) as usize];
    (path, length(storage, path))
}

/// Flips one bit of one of the files; says which.
pub fn flip(storage: &MemoryStorage, files: &[PathBuf], dice: &mut Dice) -> String {
    let (path, length) = any_file(storage, files, dice);
    if length == 0 {
        return format!("{} is empty; ", path.display());
    }
    let bit = dice.roll(length * 8);
    storage.flip_bit(path, bit / 8, (bit % 8) as u8);
    format!("bit {bit} of {} flipped; ", path.display())
}

/// Does one random harm to one of the files; says which.
pub fn one(storage: &MemoryStorage, files: &[PathBuf], dice: &mut Dice) -> String {
    let (path, length) = any_file(storage, files, dice);
    let name = path.display().to_string();
    let file = storage.open(path).expect("it was listed");
    let unit = [512, 4096][dice.roll(2) as usize];
    let page = dice.roll(length.div_ceil(unit).max(1)) * unit;
    let size = unit.min(length - page) as usize;
    match dice.roll(10) {
        0..3 => flip(storage, files, dice),
        3..5 => {
            file.write_at(page, &vec![0; size]).expect("memory takes every write");
            format!("{size} bytes at {page} of {name} zeroed")
        }
        5..7 => {
            // A write that went elsewhere, or did not happen: another place's bytes are here.
            let (from, from_length) = any_file(storage, files, dice);
            let start = dice.roll(from_length.div_ceil(unit).max(1)) * unit;
            let mut bytes = vec![0; size.min((from_length - start) as usize)];
            let from_file = storage.open(from).expect("it was listed");
            from_file.read_exact_at(start, &mut bytes).expect("it is that long");
            file.write_at(page, &bytes).expect("memory takes every write");
            format!("{} bytes at {page} of {name} are those at {start} of {}", bytes.len(), from.display())
        }
        7 => {
            let bytes: Vec<u8> = (0..size).map(|_| dice.roll(256) as u8).collect();
            file.write_at(page, &bytes).expect("memory takes every write");
            format!("{size} bytes at {page} of {name} are any")
        }
        8 => {
            let cut = dice.roll(length.max(1));
            file.set_len(cut).expect("memory takes every length");
            format!("{name} cut to {cut} bytes")
        }
        _ => {
            storage.remove(path).expect("it was listed");
            format!("{name} removed")
        }
    }
}
