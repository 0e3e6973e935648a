//! Scripts: small inputs that say how good files are to be changed. Any bytes are a script.

use std::path::{Path, PathBuf};

use vltava_storage::{MemoryStorage, Storage};

/// Files by path.
pub type Files = Vec<(PathBuf, Vec<u8>)>;

/// No file is made longer than this by a script.
const FILE_MAX: usize = 64 << 10;

/// Reads a script's bytes; zeroes behind its end.
pub struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    /// Reads from the front.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether nothing is left.
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    /// The next two bytes as a number.
    pub fn short(&mut self) -> usize {
        usize::from(u16::from_be_bytes([self.byte(), self.byte()]))
    }

    /// The next bytes, as many as there are of `count`.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Changes the files: steps of a kind, a file, and what the kind needs.
    pub fn change(&mut self, files: &mut Files) {
        while !self.is_over() && !files.is_empty() {
            let kind = self.byte();
            let at = usize::from(self.byte()) % files.len();
            self.step(kind, at, files);
        }
    }

    fn step(&mut self, kind: u8, at: usize, files: &mut Files) {
        let position = self.short();
        let file = &mut files[at].1;
        match kind % 8 {
            0 | 1 => {
                let count = 1 + usize::from(self.byte()) % 16;
                let bytes = self.bytes(count);
                let from = position.min(file.len());
                let to = (from + bytes.len()).min(file.len());
                file[from..to].copy_from_slice(&bytes[..to - from]);
            }
            2 => file.truncate(position),
            3 => {
                let count = usize::from(self.byte());
                let bytes = self.bytes(count).to_vec();
                let from = position.min(file.len());
                file.splice(from..from, bytes);
                file.truncate(FILE_MAX);
            }
            4 => {
                let count = usize::from(self.byte()) + 1;
                let to = (position + count).min(file.len());
                file[position.min(to)..to].fill(0);
            }
            5 => {
                // Bytes of the file once more, elsewhere in it.
                let (from, count) = (self.short().min(file.len()), usize::from(self.byte()));
                let bytes = file[from..(from + count).min(file.len())].to_vec();
                let to = position.min(file.len());
                let end = (to + bytes.len()).min(file.len());
                file[to..end].copy_from_slice(&bytes[..end - to]);
            }
            6 => {
                // Another file's bytes in place of its own.
                let other = files[position % files.len()].1.clone();
                files[at].1 = other;
            }
            _ => {
                files.remove(at);
            }
        }
    }
}

/// A disk that holds these files, durably.
pub fn disk(files: &Files) -> MemoryStorage {
    let storage = MemoryStorage::new();
    for (path, bytes) in files {
        let dir = path.parent().expect("every file lies in a directory");
        storage.create_dir_all(dir).expect("memory takes every directory");
        let file = storage.create(path).expect("memory takes every file");
        file.write_at(0, bytes).expect("memory takes every byte");
    }
    storage
}

/// All files of a directory.
pub fn files_of(storage: &dyn Storage, dir: &Path) -> Files {
    let names = storage.list(dir).expect("the directory is there");
    let read = |name: String| {
        let path = dir.join(name);
        let file = storage.open(&path).ok()?;
        let mut bytes = vec![0; usize::try_from(file.len().ok()?).ok()?];
        file.read_exact_at(0, &mut bytes).ok()?;
        Some((path, bytes))
    };
    names.into_iter().filter_map(read).collect()
}
