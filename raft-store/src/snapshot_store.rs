//! Snapshots as files, the newest two. What is in them only the state machine knows.
//!
//! `<entries covered, 20 digits>-<term, 20 digits>.snapshot` holds, little-endian: `magic [8], version u32, meta length
//! u32, data length u64, meta (JSON), data, CRC-32C u32 of all before it`. A file gets its name only when it is durable.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use vltava_storage::{Storage, TEMPORARY, create_dir_durably, read_file, replace_file};

use crate::error::OpenError;
use crate::types::{Position, RaftSnapshotMeta};

const MAGIC: &[u8; 8] = b"VLSNAP01";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 24;
const SUFFIX: &str = ".snapshot";
const DAMAGED: &str = ".damaged";
/// A snapshot that is just being named anew.
const AGAIN: &str = ".again";
/// A longer file is none of ours.
const BYTES_MAX: u64 = 8 << 30;
/// The newest, and one more in case its medium fails.
const KEPT: usize = 2;

/// A snapshot read back: what it covers, and the state machine's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSnapshot {
    /// The last entry it covers, the voters as of it, its id.
    pub meta: RaftSnapshotMeta,
    /// What the state machine wrote.
    pub data: Vec<u8>,
}

/// The snapshots of one directory. Every call blocks.
pub struct SnapshotStore {
    storage: Arc<dyn Storage>,
    directory: PathBuf,
    /// The name of the newest one; the lock orders writers.
    newest: Mutex<Option<Name>>,
    durable: watch::Sender<Option<u64>>,
}

impl std::fmt::Debug for SnapshotStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotStore").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl SnapshotStore {
    /// Opens `directory`, creating it if need be, and finds the newest snapshot that is whole. Ones that are not are set
    /// aside, with a warning, under a name that ends in `.damaged`; whether an older one will do is the caller's to judge.
    /// One of a later release is not damaged: it is refused.
    pub fn open(
        storage: Arc<dyn Storage>,
        directory: &Path,
    ) -> Result<(Self, Option<StoredSnapshot>), OpenError> {
        let disk = &*storage;
        create_dir_durably(disk, directory).map_err(OpenError::io("create", directory))?;
        for name in list(disk, directory, TEMPORARY).map_err(OpenError::io("list", directory))? {
            let path = directory.join(name);
            disk.remove(&path).map_err(OpenError::io("remove", &path))?;
        }
        for name in list(disk, directory, AGAIN).map_err(OpenError::io("list", directory))? {
            let path = directory.join(&name);
            let named = directory.join(name.trim_end_matches(AGAIN));
            disk.rename(&path, &named).map_err(OpenError::io("rename", &path))?;
        }
        let mut newest = None;
        for name in names(disk, directory).map_err(OpenError::io("list", directory))? {
            let path = directory.join(name.file());
            match load(disk, &path).map_err(OpenError::io("read", &path))? {
                Ok(snapshot) if name == Name::of(&snapshot.meta) => {
                    newest = Some((name, snapshot));
                    break;
                }
                Ok(_) => set_aside(disk, directory, name, "its name is another's")?,
                Err(Unreadable::TooNew(number)) => {
                    return Err(OpenError::Newer { path, what: "version", number });
                }
                Err(why) => set_aside(disk, directory, name, &why.to_string())?,
            }
        }
        let durable = newest.as_ref().and_then(|(_, s)| s.meta.last_log_id.map(|id| id.index));
        if let Some((name, _)) = &newest {
            name_anew(disk, directory, *name)?;
        }
        let store = Self {
            storage,
            directory: directory.to_owned(),
            newest: Mutex::new(newest.as_ref().map(|(name, _)| *name)),
            durable: watch::channel(durable).0,
        };
        Ok((store, newest.map(|(_, snapshot)| snapshot)))
    }

    /// The last index that a durable snapshot covers, as it grows.
    pub fn durable_index(&self) -> watch::Receiver<Option<u64>> {
        self.durable.subscribe()
    }

    /// Makes a snapshot durable, unless one that covers more is there already, and removes those that are too many.
    pub fn save(&self, meta: &RaftSnapshotMeta, data: &[u8]) -> io::Result<()> {
        let mut newest = self.newest.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let name = Name::of(meta);
        if newest.is_some_and(|newest| newest > name) {
            return Ok(());
        }
        let meta_json = serde_json::to_vec(meta)?;
        let mut head = Vec::with_capacity(HEAD_BYTES + meta_json.len());
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(&VERSION.to_le_bytes());
        head.extend_from_slice(&(meta_json.len() as u32).to_le_bytes());
        head.extend_from_slice(&(data.len() as u64).to_le_bytes());
        head.extend_from_slice(&meta_json);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&head), data);
        let path = self.directory.join(name.file());
        replace_file(&*self.storage, &path, &[&head, data, &crc.to_le_bytes()])?;
        *newest = Some(name);
        self.durable.send_replace(meta.last_log_id.map(|id| id.index));
        for old in names(&*self.storage, &self.directory)?.into_iter().skip(KEPT) {
            self.storage.remove(&self.directory.join(old.file()))?;
        }
        Ok(())
    }

    /// Reads the newest snapshot, and checks it.
    pub fn newest(&self) -> io::Result<Option<StoredSnapshot>> {
        let newest = self.newest.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let Some(name) = *newest else { return Ok(None) };
        let path = self.directory.join(name.file());
        match load(&*self.storage, &path)? {
            Ok(snapshot) => Ok(Some(snapshot)),
            Err(why) => Err(io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", path.display()))),
        }
    }
}

/// One file of a snapshot directory, read without changing anything.
#[derive(Debug)]
pub struct SnapshotFile {
    /// Its path.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// What it holds, or what is wrong with it.
    pub content: Result<StoredSnapshot, String>,
}

/// Every snapshot in `directory`, newest first; none if there is no such directory.
pub(crate) fn survey(storage: &dyn Storage, directory: &Path) -> io::Result<Vec<SnapshotFile>> {
    if !storage.exists(directory)? {
        return Ok(Vec::new());
    }
    let read = |name: Name| {
        let path = directory.join(name.file());
        let bytes = read_file(storage, &path, BYTES_MAX)?;
        let length = bytes.len() as u64;
        Ok(SnapshotFile { bytes: length, content: decode(bytes).map_err(|why| why.to_string()), path })
    };
    names(storage, directory)?.into_iter().map(read).collect()
}

/// A snapshot's name: how many entries it covers and in which term the last one was written. Sorts by age.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Name {
    entries: u64,
    term: u64,
}

impl Name {
    fn of(meta: &RaftSnapshotMeta) -> Self {
        match meta.last_log_id.map(Position::from) {
            None => Self { entries: 0, term: 0 },
            Some(Position { term, index }) => Self { entries: index.saturating_add(1), term },
        }
    }

    fn parse(file: &str) -> Option<Self> {
        let (entries, term) = file.strip_suffix(SUFFIX)?.split_once('-')?;
        let name = Self { entries: entries.parse().ok()?, term: term.parse().ok()? };
        (name.file() == file).then_some(name)
    }

    fn file(self) -> String {
        format!("{:020}-{:020}{SUFFIX}", self.entries, self.term)
    }
}

/// The names in `directory` with this ending.
fn list(storage: &dyn Storage, directory: &Path, ending: &str) -> io::Result<Vec<String>> {
    Ok(storage.list(directory)?.into_iter().filter(|name| name.ends_with(ending)).collect())
}

/// The snapshots in `directory`, newest first.
fn names(storage: &dyn Storage, directory: &Path) -> io::Result<Vec<Name>> {
    let mut names: Vec<Name> =
        list(storage, directory, SUFFIX)?.iter().filter_map(|file| Name::parse(file)).collect();
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

fn set_aside(storage: &dyn Storage, directory: &Path, name: Name, why: &str) -> Result<(), OpenError> {
    let path = directory.join(name.file());
    tracing::warn!(path = %path.display(), why, "a snapshot is damaged and set aside");
    let aside = directory.join(name.file() + DAMAGED);
    storage.rename(&path, &aside).map_err(OpenError::io("rename", &path))?;
    storage.sync_dir(directory).map_err(OpenError::io("sync", directory))
}

/// Makes the name of a snapshot that was found durable: the log is purged because of it. The process before may have died of a
/// sync that failed: then so far only the page cache knows the name, and another sync would find nothing left to write and
/// claim success. So there is something new to write. (Bytes are durable before a file gets its name.)
fn name_anew(storage: &dyn Storage, directory: &Path, name: Name) -> Result<(), OpenError> {
    let (path, again) = (directory.join(name.file()), directory.join(name.file() + AGAIN));
    storage.rename(&path, &again).map_err(OpenError::io("rename", &path))?;
    storage.rename(&again, &path).map_err(OpenError::io("rename", &again))?;
    storage.sync_dir(directory).map_err(OpenError::io("sync", directory))
}

/// Why bytes are no snapshot for this release.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("{0}")]
    Damaged(String),
    #[error("it has format version {0}, which this release does not know")]
    TooNew(u32),
}

impl From<&str> for Unreadable {
    fn from(why: &str) -> Self {
        Self::Damaged(why.to_owned())
    }
}

/// Reads and checks one file; the inner error says what is wrong with its bytes.
fn load(storage: &dyn Storage, path: &Path) -> io::Result<Result<StoredSnapshot, Unreadable>> {
    Ok(decode(read_file(storage, path, BYTES_MAX)?))
}

fn decode(mut bytes: Vec<u8>) -> Result<StoredSnapshot, Unreadable> {
    let (body, crc) = bytes.split_last_chunk::<4>().ok_or("it is too short")?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return Err("its checksum is wrong".into());
    }
    let (head, rest) = body.split_first_chunk::<HEAD_BYTES>().ok_or("it is too short")?;
    let number = |at: usize, length: usize| {
        head[at..at + length].iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte))
    };
    let version = u32::try_from(number(8, 4)).unwrap_or(u32::MAX);
    if &head[..8] == MAGIC && version > VERSION {
        return Err(Unreadable::TooNew(version));
    }
    if &head[..8] != MAGIC || version != VERSION {
        return Err("it is no snapshot".into());
    }
    let (meta_length, data_length) = (number(12, 4), number(16, 8));
    if meta_length.checked_add(data_length) != Some(rest.len() as u64) {
        return Err("its lengths do not add up".into());
    }
    let meta_length = meta_length as usize;
    let meta = serde_json::from_slice(&rest[..meta_length]);
    let meta = meta.map_err(|error| Unreadable::Damaged(error.to_string()))?;
    let end = body.len();
    bytes.truncate(end);
    bytes.drain(..HEAD_BYTES + meta_length);
    Ok(StoredSnapshot { meta, data: bytes })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use vltava_storage::{CrashMode, MemoryStorage, RealStorage};

    use super::*;

    fn meta(term: u64, index: u64) -> RaftSnapshotMeta {
        RaftSnapshotMeta {
            last_log_id: Some(Position { term, index }.into()),
            snapshot_id: format!("{term}-{index}"),
            ..RaftSnapshotMeta::default()
        }
    }

    fn files(directory: &Path) -> Vec<String> {
        let mut files = list(&RealStorage, directory, "").unwrap();
        files.sort();
        files
    }

    #[test]
    fn the_newest_two_are_kept_and_the_newest_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let (store, none) = SnapshotStore::open(RealStorage::shared(), dir.path()).unwrap();
        assert_eq!((none, store.newest().unwrap()), (None, None));
        let durable = store.durable_index();
        for index in [9, 100, 1000] {
            store.save(&meta(2, index), &index.to_le_bytes()).unwrap();
            assert_eq!(*durable.borrow(), Some(index));
        }
        assert_eq!(files(dir.path()).len(), 2);
        let (store, newest) = SnapshotStore::open(RealStorage::shared(), dir.path()).unwrap();
        assert_eq!(newest, store.newest().unwrap());
        assert_eq!(
            newest.unwrap(),
            StoredSnapshot { meta: meta(2, 1000), data: 1000u64.to_le_bytes().to_vec() }
        );
    }

    #[test]
    fn an_older_snapshot_does_not_replace_a_newer_one() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = SnapshotStore::open(RealStorage::shared(), dir.path()).unwrap();
        store.save(&meta(2, 50), b"new").unwrap();
        store.save(&meta(2, 40), b"old").unwrap();
        assert_eq!(*store.durable_index().borrow(), Some(50));
        assert_eq!(store.newest().unwrap().unwrap().data, b"new");
        store.save(&RaftSnapshotMeta::default(), b"empty").unwrap();
        assert_eq!(store.newest().unwrap().unwrap().data, b"new");
    }

    #[test]
    fn a_snapshot_of_a_later_release_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = SnapshotStore::open(RealStorage::shared(), dir.path()).unwrap();
        store.save(&meta(1, 1), b"older").unwrap();
        store.save(&meta(1, 2), b"newer").unwrap();
        let path = dir.path().join(Name::of(&meta(1, 2)).file());
        let mut bytes = fs::read(&path).unwrap();
        bytes.truncate(bytes.len() - 4);
        bytes[8..12].copy_from_slice(&2u32.to_le_bytes());
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        fs::write(&path, &bytes).unwrap();
        let before = files(dir.path());
        let refused = SnapshotStore::open(RealStorage::shared(), dir.path()).unwrap_err();
        assert!(matches!(refused, OpenError::Newer { number: 2, .. }), "{refused}");
        assert_eq!((files(dir.path()), fs::read(&path).unwrap()), (before, bytes));
    }

    #[test]
    fn a_damaged_snapshot_gives_way_to_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = SnapshotStore::open(RealStorage::shared(), dir.path()).unwrap();
        store.save(&meta(1, 1), b"older").unwrap();
        store.save(&meta(1, 2), b"newer").unwrap();
        fs::write(dir.path().join("x.snapshot.tmp"), b"half").unwrap();
        let path = dir.path().join(Name::of(&meta(1, 2)).file());
        let whole = fs::read(&path).unwrap();
        for position in 0..whole.len() {
            let mut changed = whole.clone();
            changed[position] ^= 0x10;
            fs::write(&path, &changed).unwrap();
            assert!(store.newest().is_err(), "byte {position}");
            assert!(decode(whole[..position].to_vec()).is_err(), "cut to {position}");
        }
        let (store, newest) = SnapshotStore::open(RealStorage::shared(), dir.path()).unwrap();
        assert_eq!(newest.unwrap().data, b"older");
        assert_eq!(*store.durable_index().borrow(), Some(1));
        let left = files(dir.path());
        assert!(left.len() == 2 && left[1].ends_with(".snapshot.damaged"), "{left:?}");
    }

    #[test]
    fn a_snapshot_whose_name_failed_to_be_synced_is_made_durable_before_it_is_trusted() {
        use std::io::ErrorKind;

        use rand::SeedableRng;
        use rand::rngs::StdRng;
        use vltava_storage::{Fault, FaultPoint};

        let storage = MemoryStorage::new();
        let directory = Path::new("/raft/snapshots");
        let open = |storage: &MemoryStorage| SnapshotStore::open(Arc::new(storage.clone()), directory);
        let index_of =
            |snapshot: Option<StoredSnapshot>| snapshot.and_then(|s| s.meta.last_log_id).map(|id| id.index);
        let (store, _) = open(&storage).unwrap();
        store.save(&meta(1, 1), b"older").unwrap();
        let error = ErrorKind::Other;
        storage.inject(Fault { at: FaultPoint::SyncDir, path: String::new(), after: 0, times: 1, error });
        assert!(store.save(&meta(1, 2), b"newer").is_err());
        assert_eq!(*store.durable_index().borrow(), Some(1));
        drop(store);
        // The process starts again, and the page cache still has the name.
        storage.record();
        let (store, newest) = open(&storage).unwrap();
        assert_eq!(index_of(newest), Some(2));
        assert_eq!(*store.durable_index().borrow(), Some(2));
        let done = storage.operations();
        for operations in 0..=done {
            for (seed, mode) in CrashMode::ALL.into_iter().enumerate() {
                let mut rng = StdRng::seed_from_u64(seed as u64);
                let survivor = storage.at(operations).survivor(&mut rng, mode);
                let found = index_of(open(&survivor).unwrap().1);
                let trusted = operations == done;
                assert!(
                    found == Some(2) || (!trusted && found == Some(1)),
                    "{operations}, {mode:?}: {found:?}"
                );
            }
        }
    }

    #[test]
    fn a_crash_at_any_point_leaves_a_whole_snapshot() {
        use rand::SeedableRng;
        use rand::rngs::StdRng;

        let storage = MemoryStorage::recording();
        let directory = Path::new("/raft/snapshots");
        let open = |storage: &MemoryStorage| SnapshotStore::open(Arc::new(storage.clone()), directory);
        let (store, _) = open(&storage).unwrap();
        let mut saved = vec![(storage.operations(), None)];
        for index in 0..5 {
            store.save(&meta(1, index), &vec![index as u8; 3000]).unwrap();
            saved.push((storage.operations(), Some(index)));
        }
        for operations in saved[0].0..=storage.operations() {
            for (seed, mode) in CrashMode::ALL.into_iter().enumerate() {
                let mut rng = StdRng::seed_from_u64(seed as u64);
                let survivor = storage.at(operations).survivor(&mut rng, mode);
                let (_, newest) = open(&survivor).unwrap();
                let found = newest.and_then(|snapshot| snapshot.meta.last_log_id.map(|id| id.index));
                let at = saved.iter().rposition(|(done, _)| *done <= operations).unwrap();
                let legal = found == saved[at].1 || saved.get(at + 1).is_some_and(|next| found == next.1);
                assert!(legal, "after {operations}, {mode:?}: {found:?}");
                let damaged = list(&survivor, directory, DAMAGED).unwrap();
                assert!(damaged.is_empty(), "after {operations}, {mode:?}: {damaged:?}");
            }
        }
    }
}
