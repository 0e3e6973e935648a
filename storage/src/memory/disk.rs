//! The state of a disk: what is durable, what readers see, and the changes between the two.
//!
//! Every change is an [`Operation`] on inodes, so that a recorded run can be repeated up to any point. Knows no
//! faults, no threads and no paths beyond resolving them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

/// The index of an inode; given out in order, so that a repeated run gives out the same.
pub(super) type InodeId = usize;

/// The directory that all paths begin in.
pub(super) const ROOT: InodeId = 0;

/// A change of the disk.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    CreateFile { dir: InodeId, name: String },
    CreateDir { dir: InodeId, name: String },
    Rename { from_dir: InodeId, from: String, to_dir: InodeId, to: String },
    Unlink { dir: InodeId, name: String },
    File { inode: InodeId, change: FileChange },
    Sync { inode: InodeId },
    LoseUnsynced { inode: InodeId },
}

/// A change of a file's bytes.
#[derive(Clone, Debug)]
pub(super) enum FileChange {
    Write { pos: u64, bytes: Vec<u8> },
    SetLen(u64),
}

/// A change of a directory's names.
#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Set(String, InodeId),
    Remove(String),
    Rename { from: String, to: String, inode: InodeId },
}

/// Content of which a part is durable.
#[derive(Clone, Debug)]
pub(super) struct Cached<T, C> {
    pub durable: T,
    pub current: T,
    pub pending: Vec<C>,
}

/// How a change turns one content into the next.
pub(super) trait Change<T> {
    fn apply(&self, content: &mut T);
}

#[derive(Clone, Debug)]
pub(super) enum Inode {
    File(Cached<Vec<u8>, FileChange>),
    Dir(Cached<BTreeMap<String, InodeId>, NameChange>),
}

/// All inodes; none is ever given back.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    pub inodes: Vec<Inode>,
}

impl Default for Disk {
    fn default() -> Self {
        Self { inodes: vec![Inode::Dir(Cached::default())] }
    }
}

impl<T: Default, C> Default for Cached<T, C> {
    fn default() -> Self {
        Self { durable: T::default(), current: T::default(), pending: Vec::new() }
    }
}

impl<T, C: Change<T>> Cached<T, C> {
    fn change(&mut self, change: C) {
        change.apply(&mut self.current);
        self.pending.push(change);
    }

    fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.durable);
        }
    }
}

impl Change<Vec<u8>> for FileChange {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { pos, bytes } => {
                let (start, end) = (*pos as usize, *pos as usize + bytes.len());
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[start..end].copy_from_slice(bytes);
            }
            // Zeroes of fresh memory need not be written.
            Self::SetLen(len) if content.is_empty() => *content = vec![0; *len as usize],
            Self::SetLen(len) => content.resize(*len as usize, 0),
        }
    }
}

impl Change<BTreeMap<String, InodeId>> for NameChange {
    fn apply(&self, names: &mut BTreeMap<String, InodeId>) {
        match self {
            Self::Set(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            Self::Remove(name) => {
                names.remove(name);
            }
            Self::Rename { from, to, inode } => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
        }
    }
}

/// The names that a path goes through; `/` and `.` do not count.
pub(super) fn names(path: &Path) -> impl Iterator<Item = Cow<'_, str>> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_string_lossy()),
        _ => None,
    })
}

impl Disk {
    pub fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::CreateFile { dir, name } => self.add(dir, name, Inode::File(Cached::default())),
            Operation::CreateDir { dir, name } => self.add(dir, name, Inode::Dir(Cached::default())),
            Operation::Rename { from_dir, from, to_dir, to } => self.rename(from_dir, from, to_dir, to),
            Operation::Unlink { dir, name } => self.dir_mut(dir).change(NameChange::Remove(name)),
            Operation::File { inode, change } => self.file_mut(inode).change(change),
            Operation::Sync { inode } => match &mut self.inodes[inode] {
                Inode::File(file) => file.sync(),
                Inode::Dir(dir) => dir.sync(),
            },
            Operation::LoseUnsynced { inode } => match &mut self.inodes[inode] {
                Inode::File(file) => file.pending.clear(),
                Inode::Dir(dir) => dir.pending.clear(),
            },
        }
    }

    /// Lets go of the bytes of files that have no name any more. Only where nobody holds them open.
    pub fn forget_unnamed(&mut self) {
        let mut is_named = vec![false; self.inodes.len()];
        let mut ahead = vec![ROOT];
        while let Some(inode) = ahead.pop() {
            is_named[inode] = true;
            if let Inode::Dir(names) = &self.inodes[inode] {
                ahead.extend(names.current.values().filter(|child| !is_named[**child]));
            }
        }
        for (inode, _) in self.inodes.iter_mut().zip(is_named).filter(|(_, is_named)| !is_named) {
            *inode = Inode::File(Cached::default());
        }
    }

    fn add(&mut self, dir: InodeId, name: String, inode: Inode) {
        let id = self.inodes.len();
        self.inodes.push(inode);
        self.dir_mut(dir).change(NameChange::Set(name, id));
    }

    fn rename(&mut self, from_dir: InodeId, from: String, to_dir: InodeId, to: String) {
        let inode = self.entry(from_dir, &from).expect("resolved before");
        if from_dir == to_dir {
            self.dir_mut(from_dir).change(NameChange::Rename { from, to, inode });
        } else {
            self.dir_mut(to_dir).change(NameChange::Set(to, inode));
            self.dir_mut(from_dir).change(NameChange::Remove(from));
        }
    }

    pub fn entry(&self, dir: InodeId, name: &str) -> Option<InodeId> {
        match &self.inodes[dir] {
            Inode::Dir(names) => names.current.get(name).copied(),
            Inode::File(_) => None,
        }
    }

    pub fn resolve(&self, path: &Path) -> io::Result<InodeId> {
        names(path)
            .try_fold(ROOT, |at, name| self.entry(at, &name))
            .ok_or_else(|| io::Error::new(ErrorKind::NotFound, format!("no {}", path.display())))
    }

    pub fn resolve_file(&self, path: &Path) -> io::Result<InodeId> {
        let inode = self.resolve(path)?;
        match self.inodes[inode] {
            Inode::File(_) => Ok(inode),
            Inode::Dir(_) => Err(ErrorKind::IsADirectory.into()),
        }
    }

    /// The directory that holds `path`'s last name, which need not exist.
    pub fn resolve_parent(&self, path: &Path) -> io::Result<(InodeId, String)> {
        let name = names(path).last().ok_or(ErrorKind::InvalidInput)?.into_owned();
        let dir = self.resolve(path.parent().unwrap_or(Path::new("")))?;
        match self.inodes[dir] {
            Inode::Dir(_) => Ok((dir, name)),
            Inode::File(_) => Err(ErrorKind::NotADirectory.into()),
        }
    }

    pub fn names(&self, dir: InodeId) -> io::Result<Vec<String>> {
        match &self.inodes[dir] {
            Inode::Dir(names) => Ok(names.current.keys().cloned().collect()),
            Inode::File(_) => Err(ErrorKind::NotADirectory.into()),
        }
    }

    /// All names below `dir`, the deepest first.
    pub fn subtree(&self, dir: InodeId) -> io::Result<Vec<(InodeId, String)>> {
        let mut below = Vec::new();
        for name in self.names(dir)? {
            let child = self.entry(dir, &name).expect("listed just now");
            if let Inode::Dir(_) = self.inodes[child] {
                below.extend(self.subtree(child)?);
            }
            below.push((dir, name));
        }
        Ok(below)
    }

    pub fn len(&self, inode: InodeId) -> u64 {
        match &self.inodes[inode] {
            Inode::File(file) => file.current.len() as u64,
            Inode::Dir(_) => 0,
        }
    }

    pub fn read(&self, inode: InodeId, pos: u64, buf: &mut [u8]) -> usize {
        let Inode::File(file) = &self.inodes[inode] else { return 0 };
        let start = file.current.len().min(pos as usize);
        let len = buf.len().min(file.current.len() - start);
        buf[..len].copy_from_slice(&file.current[start..start + len]);
        len
    }

    /// The bytes of all files that have a name.
    pub fn used(&self) -> u64 {
        let named = self.inodes.iter().filter_map(|inode| match inode {
            Inode::Dir(names) => Some(names.current.values()),
            Inode::File(_) => None,
        });
        named.flatten().map(|inode| self.len(*inode)).sum()
    }

    pub fn flip_bit(&mut self, inode: InodeId, position: u64, bit: u8) {
        let file = self.file_mut(inode);
        file.sync();
        file.durable[position as usize] ^= 1 << bit;
        file.current[position as usize] ^= 1 << bit;
    }

    /// The paths of all files below `dir`, whose own path is `at`.
    pub fn files(&self, dir: InodeId, at: &Path) -> Vec<(PathBuf, InodeId)> {
        let Inode::Dir(names) = &self.inodes[dir] else { return vec![(at.to_owned(), dir)] };
        names.current.iter().flat_map(|(name, child)| self.files(*child, &at.join(name))).collect()
    }

    /// The bytes of a file that a reader sees.
    pub fn current(&self, inode: InodeId) -> &[u8] {
        match &self.inodes[inode] {
            Inode::File(file) => &file.current,
            Inode::Dir(_) => &[],
        }
    }

    /// The bytes of a file that a power cut would leave.
    pub fn durable(&self, inode: InodeId) -> &[u8] {
        match &self.inodes[inode] {
            Inode::File(file) => &file.durable,
            Inode::Dir(_) => &[],
        }
    }

    /// Turns bits of a byte that was synced, on disk and, where the cache has the same there, in the cache.
    pub fn rot(&mut self, inode: InodeId, at: usize, bits: u8) {
        let file = self.file_mut(inode);
        let before = file.durable[at];
        file.durable[at] = before ^ bits;
        if let Some(cached) = file.current.get_mut(at).filter(|cached| **cached == before) {
            *cached ^= bits;
        }
    }

    fn file_mut(&mut self, inode: InodeId) -> &mut Cached<Vec<u8>, FileChange> {
        match &mut self.inodes[inode] {
            Inode::File(file) => file,
            Inode::Dir(_) => panic!("inode {inode} is a directory"),
        }
    }

    fn dir_mut(&mut self, inode: InodeId) -> &mut Cached<BTreeMap<String, InodeId>, NameChange> {
        match &mut self.inodes[inode] {
            Inode::Dir(dir) => dir,
            Inode::File(_) => panic!("inode {inode} is a file"),
        }
    }
}
