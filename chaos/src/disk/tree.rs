//! The names of a lossy disk: directories whose entries are lost by a power cut until the directory is synced.
//!
//! Of a directory's changes since its last sync a cut keeps none, or a prefix: file systems with a journal keep their order.
//! Knows nothing of FUSE, and of time only what is told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rand::rngs::StdRng;
use rand::{Rng, RngExt};

use super::file::{Loss, LossyFile};

/// An inode's number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ino(pub u64);

/// The root directory.
pub const ROOT: Ino = Ino(1);

/// Why an operation can't be done.
#[derive(Debug)]
pub enum TreeError {
    /// There is no such name or inode.
    NotFound,
    /// The name is taken.
    Exists,
    /// The directory is not empty.
    NotEmpty,
    /// It is no directory.
    NotDirectory,
    /// It is a directory.
    IsDirectory,
    /// A rename from one directory into another: nothing under test needs it, and what a cut leaves of it is not modelled.
    AcrossDirectories,
    /// The backing storage failed, which is nobody's plan.
    Backing(io::Error),
}

impl From<io::Error> for TreeError {
    fn from(error: io::Error) -> Self {
        Self::Backing(error)
    }
}

enum Change {
    Set(OsString, Ino),
    Remove(OsString),
    Rename(OsString, OsString),
}

/// A directory: what programs see, and what is on the platter.
#[derive(Default)]
pub struct Directory {
    /// As programs see it.
    pub entries: BTreeMap<OsString, Ino>,
    platter: BTreeMap<OsString, Ino>,
    changes: Vec<Change>,
}

impl Directory {
    fn change(&mut self, change: Change) {
        apply(&mut self.entries, &change);
        self.changes.push(change);
    }

    fn sync(&mut self) {
        self.platter.clone_from(&self.entries);
        self.changes.clear();
    }

    fn cut(&mut self, loss: Loss, rng: &mut StdRng) {
        let kept = match loss {
            Loss::Everything => 0,
            Loss::Torn => rng.random_range(0..=self.changes.len()),
        };
        let changes = std::mem::take(&mut self.changes);
        changes[..kept].iter().for_each(|change| apply(&mut self.platter, change));
        self.entries.clone_from(&self.platter);
    }

    fn references(&self) -> impl Iterator<Item = Ino> + '_ {
        let pending = self.changes.iter().filter_map(|change| match change {
            Change::Set(_, ino) => Some(*ino),
            Change::Remove(_) | Change::Rename(..) => None,
        });
        self.entries.values().chain(self.platter.values()).copied().chain(pending)
    }
}

fn apply(entries: &mut BTreeMap<OsString, Ino>, change: &Change) {
    match change {
        Change::Set(name, ino) => {
            entries.insert(name.clone(), *ino);
        }
        Change::Remove(name) => {
            entries.remove(name);
        }
        Change::Rename(from, to) => {
            if let Some(ino) = entries.remove(from) {
                entries.insert(to.clone(), ino);
            }
        }
    }
}

/// A file or a directory.
pub enum Content {
    /// A file.
    File(LossyFile),
    /// A directory.
    Directory(Directory),
}

/// A file or a directory with what is said of it.
pub struct Inode {
    /// What it holds.
    pub content: Content,
    /// Its permissions.
    pub mode: u16,
    /// When it was last changed.
    pub modified: SystemTime,
    opens: u32,
}

/// See the module.
pub struct Tree {
    store: PathBuf,
    inodes: HashMap<Ino, Inode>,
    next: u64,
    removals: u32,
}

/// After so many removals what nobody can reach any more is dropped.
const REMOVALS_PER_SWEEP: u32 = 256;

impl Tree {
    /// An empty disk whose files' bytes lie in `store`.
    ///
    /// # Errors
    /// When `store` can't be made.
    pub fn new(store: &Path) -> io::Result<Self> {
        fs::create_dir_all(store)?;
        let root = Inode {
            content: Content::Directory(Directory::default()),
            mode: 0o755,
            modified: SystemTime::now(),
            opens: 0,
        };
        let inodes = HashMap::from([(ROOT, root)]);
        Ok(Self { store: store.to_owned(), inodes, next: ROOT.0 + 1, removals: 0 })
    }

    /// An inode.
    ///
    /// # Errors
    /// When there is none.
    pub fn inode(&self, ino: Ino) -> Result<&Inode, TreeError> {
        self.inodes.get(&ino).ok_or(TreeError::NotFound)
    }

    fn inode_mut(&mut self, ino: Ino) -> Result<&mut Inode, TreeError> {
        self.inodes.get_mut(&ino).ok_or(TreeError::NotFound)
    }

    /// A file.
    ///
    /// # Errors
    /// When there is none of that number.
    pub fn file(&mut self, ino: Ino) -> Result<&mut LossyFile, TreeError> {
        match &mut self.inode_mut(ino)?.content {
            Content::File(file) => Ok(file),
            Content::Directory(_) => Err(TreeError::IsDirectory),
        }
    }

    /// A directory.
    ///
    /// # Errors
    /// When there is none of that number.
    pub fn directory(&self, ino: Ino) -> Result<&Directory, TreeError> {
        match &self.inode(ino)?.content {
            Content::Directory(directory) => Ok(directory),
            Content::File(_) => Err(TreeError::NotDirectory),
        }
    }

    fn directory_mut(&mut self, ino: Ino) -> Result<&mut Directory, TreeError> {
        let inode = self.inode_mut(ino)?;
        inode.modified = SystemTime::now();
        match &mut inode.content {
            Content::Directory(directory) => Ok(directory),
            Content::File(_) => Err(TreeError::NotDirectory),
        }
    }

    /// Which inode a name stands for.
    ///
    /// # Errors
    /// When the name is not there.
    pub fn lookup(&self, parent: Ino, name: &OsStr) -> Result<Ino, TreeError> {
        self.directory(parent)?.entries.get(name).copied().ok_or(TreeError::NotFound)
    }

    /// Makes an empty file, not opened.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn create(&mut self, parent: Ino, name: &OsStr, mode: u16) -> Result<Ino, TreeError> {
        let ino = Ino(self.next);
        let path = self.store.join(ino.0.to_string());
        let backing = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        self.insert(parent, name, mode, Content::File(LossyFile::new(backing)))
    }

    /// Makes an empty directory.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn create_directory(&mut self, parent: Ino, name: &OsStr, mode: u16) -> Result<Ino, TreeError> {
        self.insert(parent, name, mode, Content::Directory(Directory::default()))
    }

    fn insert(&mut self, parent: Ino, name: &OsStr, mode: u16, content: Content) -> Result<Ino, TreeError> {
        let ino = Ino(self.next);
        let directory = self.directory_mut(parent)?;
        if directory.entries.contains_key(name) {
            return Err(TreeError::Exists);
        }
        directory.change(Change::Set(name.to_owned(), ino));
        self.next += 1;
        self.inodes.insert(ino, Inode { content, mode, modified: SystemTime::now(), opens: 0 });
        Ok(ino)
    }

    /// Takes a file's name away.
    ///
    /// # Errors
    /// When it is not there, or is a directory.
    pub fn unlink(&mut self, parent: Ino, name: &OsStr) -> Result<(), TreeError> {
        let ino = self.lookup(parent, name)?;
        self.file(ino)?;
        self.remove(parent, name)
    }

    /// Takes an empty directory away.
    ///
    /// # Errors
    /// When it is not there, or not empty.
    pub fn remove_directory(&mut self, parent: Ino, name: &OsStr) -> Result<(), TreeError> {
        let ino = self.lookup(parent, name)?;
        if !self.directory(ino)?.entries.is_empty() {
            return Err(TreeError::NotEmpty);
        }
        self.remove(parent, name)
    }

    fn remove(&mut self, parent: Ino, name: &OsStr) -> Result<(), TreeError> {
        self.directory_mut(parent)?.change(Change::Remove(name.to_owned()));
        self.removed();
        Ok(())
    }

    fn removed(&mut self) {
        self.removals += 1;
        if self.removals >= REMOVALS_PER_SWEEP {
            self.sweep();
        }
    }

    /// Gives what `from` names the name `to`, in the same directory; what had that name loses it.
    ///
    /// # Errors
    /// When `from` is not there, the directories differ, or `to` can't be replaced.
    pub fn rename(&mut self, parent: Ino, from: &OsStr, to_parent: Ino, to: &OsStr) -> Result<(), TreeError> {
        let ino = self.lookup(parent, from)?;
        if parent != to_parent {
            return Err(TreeError::AcrossDirectories);
        }
        if from == to {
            return Ok(());
        }
        if let Ok(replaced) = self.lookup(parent, to) {
            match (&self.inode(ino)?.content, &self.inode(replaced)?.content) {
                (Content::File(_), Content::File(_)) => {}
                (Content::Directory(_), Content::Directory(there)) if there.entries.is_empty() => {}
                (Content::Directory(_), Content::Directory(_)) => return Err(TreeError::NotEmpty),
                (Content::Directory(_), Content::File(_)) => return Err(TreeError::NotDirectory),
                (Content::File(_), Content::Directory(_)) => return Err(TreeError::IsDirectory),
            }
        }
        self.directory_mut(parent)?.change(Change::Rename(from.to_owned(), to.to_owned()));
        self.removed();
        Ok(())
    }

    /// A program opens it.
    ///
    /// # Errors
    /// When it is not there.
    pub fn opened(&mut self, ino: Ino) -> Result<(), TreeError> {
        self.inode_mut(ino)?.opens += 1;
        Ok(())
    }

    /// A program closes it.
    pub fn closed(&mut self, ino: Ino) {
        if let Some(inode) = self.inodes.get_mut(&ino) {
            inode.opens = inode.opens.saturating_sub(1);
        }
    }

    /// Says that a file was changed now, or its mode set.
    ///
    /// # Errors
    /// When it is not there.
    pub fn touch(&mut self, ino: Ino, mode: Option<u16>) -> Result<(), TreeError> {
        let inode = self.inode_mut(ino)?;
        inode.modified = SystemTime::now();
        inode.mode = mode.unwrap_or(inode.mode);
        Ok(())
    }

    /// A directory's entries reach the platter.
    ///
    /// # Errors
    /// When it is none.
    pub fn sync_directory(&mut self, ino: Ino) -> Result<(), TreeError> {
        self.directory_mut(ino)?.sync();
        Ok(())
    }

    /// The power goes.
    ///
    /// # Errors
    /// When the backing storage fails.
    pub fn cut(&mut self, loss: Loss, rng: &mut StdRng) -> io::Result<()> {
        let mut inos: Vec<Ino> = self.inodes.keys().copied().collect();
        // The same seed must do the same.
        inos.sort();
        for ino in inos {
            let Some(inode) = self.inodes.get_mut(&ino) else { continue };
            inode.opens = 0;
            match &mut inode.content {
                Content::File(file) => file.cut(loss, rng)?,
                Content::Directory(directory) => directory.cut(loss, rng),
            }
        }
        self.sweep();
        Ok(())
    }

    /// Drops what has no name on the platter, none that programs see, and is not open.
    fn sweep(&mut self) {
        self.removals = 0;
        let mut reached = BTreeSet::from([ROOT]);
        let mut next = vec![ROOT];
        while let Some(ino) = next.pop() {
            if let Some(Inode { content: Content::Directory(directory), .. }) = self.inodes.get(&ino) {
                next.extend(directory.references().filter(|ino| reached.insert(*ino)));
            }
        }
        let store = &self.store;
        self.inodes.retain(|ino, inode| {
            let keep = inode.opens > 0 || reached.contains(ino);
            if !keep && matches!(inode.content, Content::File(_)) {
                // Only room is lost if that fails.
                let _ = fs::remove_file(store.join(ino.0.to_string()));
            }
            keep
        });
    }

    /// Removes everything below the root, from the platter too: an empty disk is put in.
    pub fn wipe(&mut self) {
        if let Some(root) = self.inodes.get_mut(&ROOT) {
            root.content = Content::Directory(Directory::default());
        }
        self.inodes.values_mut().for_each(|inode| inode.opens = 0);
        self.sweep();
    }

    /// How many bytes all files have.
    pub fn used(&self) -> u64 {
        self.files().map(|(_, file)| file.size()).sum()
    }

    /// Bytes that a cut could forget.
    pub fn unsynced(&self) -> u64 {
        self.files().map(|(_, file)| file.unsynced()).sum()
    }

    fn files(&self) -> impl Iterator<Item = (Ino, &LossyFile)> {
        self.inodes.iter().filter_map(|(ino, inode)| match &inode.content {
            Content::File(file) => Some((*ino, file)),
            Content::Directory(_) => None,
        })
    }

    /// All files by their paths below the root, in order.
    pub fn paths(&self) -> Vec<(PathBuf, Ino)> {
        let mut found = Vec::new();
        let mut next = vec![(PathBuf::new(), ROOT)];
        while let Some((path, ino)) = next.pop() {
            match self.inodes.get(&ino).map(|inode| &inode.content) {
                Some(Content::Directory(directory)) => {
                    next.extend(directory.entries.iter().map(|(name, ino)| (path.join(name), *ino)));
                }
                Some(Content::File(_)) => found.push((path, ino)),
                None => {}
            }
        }
        found.sort();
        found
    }

    /// Copies everything that programs see into an ordinary directory.
    ///
    /// # Errors
    /// When that can't be written.
    pub fn export(&self, to: &Path) -> io::Result<()> {
        fs::create_dir_all(to)?;
        for (path, ino) in self.paths() {
            let target = to.join(&path);
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::copy(self.store.join(ino.0.to_string()), target)?;
        }
        Ok(())
    }
}

/// Picks one of some things.
pub fn pick<'a, T>(of: &'a [T], rng: &mut StdRng) -> Option<&'a T> {
    (!of.is_empty()).then(|| &of[rng.next_u32() as usize % of.len()])
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use tempfile::TempDir;

    use super::*;

    struct Bench {
        tree: Tree,
        _dir: TempDir,
    }

    fn tree() -> Bench {
        let dir = TempDir::new().expect("a temporary directory can be made");
        Bench { tree: Tree::new(dir.path()).expect("a tree can be made"), _dir: dir }
    }

    fn names(tree: &Tree, ino: Ino) -> Vec<String> {
        let directory = tree.directory(ino).expect("it is a directory");
        directory.entries.keys().map(|name| name.to_string_lossy().into_owned()).collect()
    }

    fn cut(tree: &mut Tree, loss: Loss, seed: u64) {
        tree.cut(loss, &mut StdRng::seed_from_u64(seed)).expect("it can be cut");
    }

    #[test]
    fn a_name_is_lost_until_its_directory_is_synced() {
        let Bench { mut tree, _dir } = tree();
        let kept = tree.create(ROOT, OsStr::new("kept"), 0o644).unwrap();
        tree.file(kept).unwrap().write(0, b"bytes").unwrap();
        tree.file(kept).unwrap().sync();
        tree.sync_directory(ROOT).unwrap();
        let lost = tree.create(ROOT, OsStr::new("lost"), 0o644).unwrap();
        tree.file(lost).unwrap().write(0, b"bytes").unwrap();
        tree.file(lost).unwrap().sync();
        tree.unlink(ROOT, OsStr::new("kept")).unwrap();
        assert_eq!(names(&tree, ROOT), ["lost"]);
        cut(&mut tree, Loss::Everything, 1);
        assert_eq!(names(&tree, ROOT), ["kept"]);
        assert_eq!(tree.file(kept).unwrap().read(0, 10).unwrap(), b"bytes");
        assert!(matches!(tree.inode(lost), Err(TreeError::NotFound)));
    }

    #[test]
    fn a_rename_is_done_whole_or_not_at_all() {
        let mut kept = 0;
        for seed in 0..40 {
            let Bench { mut tree, _dir } = tree();
            let old = tree.create(ROOT, OsStr::new("a"), 0o644).unwrap();
            tree.sync_directory(ROOT).unwrap();
            let new = tree.create(ROOT, OsStr::new("a.tmp"), 0o644).unwrap();
            tree.rename(ROOT, OsStr::new("a.tmp"), ROOT, OsStr::new("a")).unwrap();
            assert_eq!(tree.lookup(ROOT, OsStr::new("a")).unwrap(), new);
            cut(&mut tree, Loss::Torn, seed);
            let now = tree.lookup(ROOT, OsStr::new("a")).unwrap();
            assert!(now == old || now == new);
            kept += u32::from(now == new);
        }
        assert!((5..35).contains(&kept), "{kept} of 40 renames survived");
    }

    #[test]
    fn what_is_open_stays_without_a_name_and_what_is_not_goes() {
        let Bench { mut tree, _dir } = tree();
        let open = tree.create(ROOT, OsStr::new("open"), 0o644).unwrap();
        tree.opened(open).unwrap();
        tree.unlink(ROOT, OsStr::new("open")).unwrap();
        tree.sync_directory(ROOT).unwrap();
        tree.sweep();
        assert!(tree.inode(open).is_ok());
        tree.closed(open);
        tree.sweep();
        assert!(tree.inode(open).is_err());
    }

    #[test]
    fn directories_are_refused_what_they_cannot_do() {
        let Bench { mut tree, _dir } = tree();
        let dir = tree.create_directory(ROOT, OsStr::new("d"), 0o755).unwrap();
        tree.create(dir, OsStr::new("f"), 0o644).unwrap();
        assert!(matches!(tree.remove_directory(ROOT, OsStr::new("d")), Err(TreeError::NotEmpty)));
        assert!(matches!(tree.unlink(ROOT, OsStr::new("d")), Err(TreeError::IsDirectory)));
        let across = tree.rename(dir, OsStr::new("f"), ROOT, OsStr::new("f"));
        assert!(matches!(across, Err(TreeError::AcrossDirectories)));
        tree.unlink(dir, OsStr::new("f")).unwrap();
        tree.remove_directory(ROOT, OsStr::new("d")).unwrap();
        assert!(names(&tree, ROOT).is_empty());
    }
}
