//! Reads what a journal holds after a restart, and refuses to guess.
//!
//! Files are read in the order of their generations, groups in the order of their sequences. Only one group is ever
//! being written, so only the very last may be torn; an unreadable group with a readable later one after it, in the
//! same file or a newer one, was acknowledged and is lost: that is an error, which names the place.
//!
//! Reads only: starting the journal is what changes files. Knows nothing of logs.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use vltava_model::TopicPartition;

use super::entry::{RecoveredBody, RecoveredFrame};
use super::error::{RecoverError, corrupt, failed};
use super::file::{JournalFile, SUFFIX};
use super::format::{self, FILE_HEADER_BYTES, FileHeader, GroupHeader, Malformed, SECTOR_BYTES};
use vltava_storage::{Storage, StorageFile, create_dir_durably};

/// A larger file is none of ours.
const FILE_BYTES_MAX: u64 = 4 << 30;

/// What a journal held, and where it goes on.
pub struct RecoveredJournal {
    /// For each partition the frames that may be missing in its segments, in order. They have to be applied, and what
    /// they touch has to be synced, before [`super::Journal::replay_done`].
    pub partitions: BTreeMap<TopicPartition, Vec<RecoveredFrame>>,
    pub(super) dir: PathBuf,
    /// All files with a header, in the order of their generations.
    pub(super) files: Vec<JournalFile>,
    /// Files whose making was interrupted.
    pub(super) unfinished: Vec<PathBuf>,
    /// The last group.
    pub(super) tail: Option<Tail>,
    pub(super) next_sequence: u64,
}

/// Where the last group lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    /// The index of its file.
    pub file: usize,
    pub pos: u64,
    /// Its length on disk.
    pub len: u64,
}

/// Reads the journal in `dir`; a directory that is not there is an empty journal.
pub(super) fn recover(storage: &dyn Storage, dir: &Path) -> Result<RecoveredJournal, RecoverError> {
    let mut recovered = RecoveredJournal {
        partitions: BTreeMap::new(),
        dir: dir.to_owned(),
        files: Vec::new(),
        unfinished: Vec::new(),
        tail: None,
        next_sequence: 0,
    };
    let names = match storage.list(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(recovered),
        other => other.map_err(failed("listing", dir))?,
    };
    for name in names.iter().filter(|name| name.ends_with(SUFFIX)) {
        recovered.find(storage, dir.join(name))?;
    }
    recovered.files.sort_unstable_by_key(|file| file.header.generation);
    recovered.check_generations()?;
    let mut expected = None;
    for index in 0..recovered.files.len() {
        expected = recovered.read(index, expected)?;
    }
    let floor = recovered.files.iter().map(|file| file.header.floor).max().unwrap_or(0);
    recovered.next_sequence = expected.unwrap_or(0).max(floor);
    Ok(recovered)
}

impl RecoveredJournal {
    /// The frames of one partition, in order; a partition is asked for once.
    pub fn take(&mut self, partition: TopicPartition) -> Vec<RecoveredFrame> {
        self.partitions.remove(&partition).unwrap_or_default()
    }

    /// Opens a file and reads its header.
    fn find(&mut self, storage: &dyn Storage, path: PathBuf) -> Result<(), RecoverError> {
        let file = storage.open(&path).map_err(failed("opening", &path))?;
        let len = file.len().map_err(failed("measuring", &path))?;
        if len > FILE_BYTES_MAX {
            return Err(corrupt(&path, FILE_BYTES_MAX, "longer than a journal file can be"));
        }
        let header = read(&*file, &path, 0, len.min(FILE_HEADER_BYTES))?;
        match FileHeader::decode(&header).map_err(|malformed| refuse(&path, 0, malformed))? {
            None => self.unfinished.push(path),
            Some(_) if len < FILE_HEADER_BYTES => return Err(corrupt(&path, len, "the file was cut")),
            Some(header) => {
                let len = len / SECTOR_BYTES * SECTOR_BYTES;
                self.files.push(JournalFile::found(path, header, file, len));
            }
        }
        Ok(())
    }

    /// Files are only ever used in turn: a gap means that one is missing.
    fn check_generations(&self) -> Result<(), RecoverError> {
        for pair in self.files.windows(2) {
            let (older, newer) = (&pair[0], &pair[1]);
            if older.header.salt != newer.header.salt {
                return Err(corrupt(&newer.path, 0, "it belongs to another journal"));
            }
            if older.header.generation + 1 != newer.header.generation {
                let reason = format!(
                    "it is of generation {}, the one before it of {}: a file is missing, or there twice",
                    newer.header.generation, older.header.generation
                );
                return Err(corrupt(&newer.path, 0, reason));
            }
        }
        Ok(())
    }

    /// Reads the groups of one file. `expected` is the sequence that has to come next, if that is known; returns the
    /// same for the next file.
    fn read(&mut self, index: usize, expected: Option<u64>) -> Result<Option<u64>, RecoverError> {
        let JournalFile { path, header, file, .. } = &self.files[index];
        let (path, header) = (path.clone(), *header);
        let bytes = read(&**file, &path, 0, self.files[index].capacity())?;
        let mut pos = FILE_HEADER_BYTES;
        let mut next = expected;
        while let Some((group, len)) = group_at(&bytes, pos, &header, &path)? {
            // Without one before it, the first has only to be of this use of the file.
            if next.is_some_and(|next| next != group.sequence) || group.sequence < header.floor {
                break;
            }
            // Files fill up in turn: none is empty before one that is not.
            let empty = self.tail.map_or(0, |tail| tail.file + 1);
            if empty < index {
                let reason =
                    format!("unreadable, though group {} in a later file is readable", group.sequence);
                return Err(corrupt(&self.files[empty].path, FILE_HEADER_BYTES, reason));
            }
            let whole = Bytes::copy_from_slice(&bytes[pos as usize..][..group.length as usize]);
            let frames = format::decode_frames(&whole).map_err(|malformed| refuse(&path, pos, malformed))?;
            frames.into_iter().for_each(|(partition, frame)| self.add(partition, frame));
            self.tail = Some(Tail { file: index, pos, len: len as u64 });
            next = Some(group.sequence + 1);
            pos += len as u64;
        }
        self.expect_nothing_after(index, &bytes, pos, next)?;
        Ok(next)
    }

    /// Checks that no group lies beyond the end of the journal: it would have been written after one that is now
    /// unreadable.
    fn expect_nothing_after(
        &self,
        index: usize,
        bytes: &[u8],
        end: u64,
        next: Option<u64>,
    ) -> Result<(), RecoverError> {
        let JournalFile { path, header, .. } = &self.files[index];
        let live_from = next.unwrap_or(0).max(header.floor);
        let mut pos = end;
        while pos < bytes.len() as u64 {
            if let Some((group, _)) = group_at(bytes, pos, header, path)?
                && group.sequence >= live_from
            {
                // The place to look at is where the readable part ended, which may be in an older file.
                let (path, at) = match self.tail {
                    Some(tail) if tail.file != index => (&self.files[tail.file].path, tail.pos + tail.len),
                    _ => (path, end),
                };
                let reason = format!("unreadable, though group {} after it is readable", group.sequence);
                return Err(corrupt(path, at, reason));
            }
            pos += SECTOR_BYTES;
        }
        Ok(())
    }

    /// Adds a frame, and drops those that it makes pointless.
    fn add(&mut self, partition: TopicPartition, frame: RecoveredFrame) {
        let frames = self.partitions.entry(partition).or_default();
        match frame.body {
            RecoveredBody::Synced { .. } => {
                frames.retain(|frame| matches!(frame.body, RecoveredBody::StartOffset { .. }));
            }
            RecoveredBody::Delete | RecoveredBody::Empty => frames.clear(),
            RecoveredBody::Truncate { to } => frames.retain(
                |frame| !matches!(frame.body, RecoveredBody::Append { base_offset, .. } if base_offset >= to),
            ),
            RecoveredBody::Append { .. } | RecoveredBody::StartOffset { .. } => {}
        }
        frames.push(frame);
    }
}

/// The readable group of this file's journal at `pos`, if there is one.
fn group_at(
    bytes: &[u8],
    pos: u64,
    header: &FileHeader,
    path: &Path,
) -> Result<Option<(GroupHeader, usize)>, RecoverError> {
    let rest = bytes.get(pos as usize..).unwrap_or_default();
    GroupHeader::decode(rest, header.salt).map_err(|malformed| refuse(path, pos, malformed))
}

fn read(file: &dyn StorageFile, path: &Path, pos: u64, len: u64) -> Result<Vec<u8>, RecoverError> {
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(pos, &mut bytes).map_err(failed("reading", path))?;
    Ok(bytes)
}

fn refuse(path: &Path, position: u64, malformed: Malformed) -> RecoverError {
    match malformed {
        Malformed::Damaged(reason) => corrupt(path, position, reason),
        Malformed::Version(version) => RecoverError::UnsupportedVersion { path: path.to_owned(), version },
    }
}

/// Puts a journal's files in order for going on.
pub(super) struct Resumed {
    pub current: JournalFile,
    pub pos: u64,
    pub full: Vec<JournalFile>,
    pub spares: Vec<JournalFile>,
    pub next_generation: u64,
}

/// Makes the journal ready to be written: removes what was left unfinished, makes sure of the last group, and sees to
/// it that there is a file to write.
pub(super) fn resume(
    storage: &Arc<dyn Storage>,
    recovered: &mut RecoveredJournal,
    first_bytes: u64,
    fresh_salt: u64,
) -> Result<Resumed, RecoverError> {
    let dir = &recovered.dir;
    create_dir_durably(&**storage, dir).map_err(failed("creating", dir))?;
    for path in &recovered.unfinished {
        storage.remove(path).map_err(failed("removing", path))?;
    }
    storage.sync_dir(dir).map_err(failed("syncing", dir))?;
    let mut files = std::mem::take(&mut recovered.files);
    if files.is_empty() {
        let header = FileHeader { salt: fresh_salt, generation: 1, floor: 0 };
        let begun = JournalFile::reserve(&**storage, dir, 1, first_bytes)?;
        files.push(begun.finish(&**storage, dir, header)?);
    }
    for file in files.iter().filter(|file| file.capacity() < first_bytes) {
        file.grow(first_bytes)?;
    }
    let (at, pos) = match recovered.tail {
        Some(tail) => {
            rewrite(&files[tail.file], tail)?;
            (tail.file, tail.pos + tail.len)
        }
        None => (0, FILE_HEADER_BYTES),
    };
    // A file without a group may have a header that only the page cache knows: the process that wrote it was killed before it
    // was synced, or the sync failed. A crash would take it, and leave a gap before those that come now. Where a group lies,
    // its header was synced before.
    let unproven = at + usize::from(recovered.tail.is_some());
    for file in &files[unproven..] {
        file.write_header()?;
    }
    let next_generation = files[files.len() - 1].header.generation + 1;
    let spares = files.split_off(at + 1);
    let current = files.remove(at);
    Ok(Resumed { current, pos, full: files, spares, next_generation })
}

/// Writes the last group once more, and syncs it. After a failed sync it may be in the cache and nowhere else, and a
/// sync alone would believe that it is clean; what is written after it would then outlive it.
fn rewrite(file: &JournalFile, tail: Tail) -> Result<(), RecoverError> {
    let group = read(&*file.file, &file.path, tail.pos, tail.len)?;
    file.file.write_at(tail.pos, &group).map_err(failed("writing", &file.path))?;
    file.sync()?;
    Ok(())
}
