//! One file of the log: made whole before it gets its name, then filled with groups, never used again.
//!
//! Knows no state: what a group says is decided by others.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vltava_model::seeded::{SeededBug, seeded};
use vltava_storage::{Storage, StorageFile};

use super::format::{
    FileHeader, FileNumber, GROUP_HEAD_BYTES, GroupHead, HEADER_BYTES, SlotContent, encode_slot,
};

/// The ending of a file's name; before it stands its number.
const SUFFIX: &str = ".wal";
/// The ending of a file that has no name yet.
pub(super) const TEMPORARY: &str = ".tmp";

/// An open file of the log.
#[derive(Clone)]
pub(super) struct WalFile {
    pub header: FileHeader,
    pub path: PathBuf,
    file: Arc<dyn StorageFile>,
}

impl std::fmt::Debug for WalFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WalFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The name of a file with this number.
pub(super) fn name(number: FileNumber) -> String {
    format!("{number:020}{SUFFIX}")
}

/// The number of a file with this name.
pub(super) fn parse_name(text: &str) -> Option<FileNumber> {
    let number = FileNumber(text.strip_suffix(SUFFIX)?.parse().ok()?);
    (name(number) == text).then_some(number)
}

impl WalFile {
    /// Makes a file: its room zeroed and its header in it before it has its name, and both durable on return.
    pub(super) fn create(storage: &dyn Storage, directory: &Path, header: FileHeader) -> io::Result<Self> {
        let path = directory.join(name(header.number));
        let temporary = directory.join(name(header.number) + TEMPORARY);
        let file = storage.create(&temporary)?;
        let page = header.encode();
        let made = file
            .set_len(0)
            .and_then(|()| file.allocate_zeroed(header.capacity))
            .and_then(|()| file.write_at(0, &page))
            .and_then(|()| file.write_at(HEADER_BYTES as u64, &page))
            .and_then(|()| file.sync_data());
        if let Err(error) = made.and_then(|()| storage.rename(&temporary, &path)) {
            // A full disk should not stay the fuller for it; that this too may fail changes nothing.
            let _ = storage.remove(&temporary);
            return Err(error);
        }
        storage.sync_dir(directory)?;
        Ok(Self { header, path, file })
    }

    /// The file at `path`, which says `header` of itself.
    pub(super) fn found(header: FileHeader, path: PathBuf, file: Arc<dyn StorageFile>) -> Self {
        Self { header, path, file }
    }

    /// Whether a group with this room fits behind `position`, and after it one that says where the log goes on.
    pub(super) fn fits(&self, position: u64, room: u64) -> bool {
        position.checked_add(room).is_some_and(|end| end <= self.header.capacity)
    }

    /// Writes a group, twice, and makes it durable. One that its slot cannot hold is proved there once it is durable, so
    /// that it can be told from one that was never acknowledged.
    pub(super) fn write_group(&self, position: u64, head: &GroupHead, bytes: &[u8]) -> io::Result<()> {
        assert!(self.fits(position, bytes.len() as u64), "the room was made before");
        let content = SlotContent::of(head, self.header.slot_bytes);
        let slot = encode_slot(position, head, bytes, content);
        self.file.write_at(position, bytes)?;
        if content == SlotContent::Proof {
            self.file.sync_data()?;
        }
        self.file.write_at(self.header.slot_position(head.sequence), &slot)?;
        if seeded(SeededBug::AcksRaftWritesBeforeSync) {
            return Ok(());
        }
        self.file.sync_data()
    }

    /// Writes over what a crash or damage left. Durable with the next group.
    pub(super) fn mend(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(position, bytes)
    }

    /// Writes both copies of the header once more.
    pub(super) fn mend_header(&self) -> io::Result<()> {
        let page = self.header.encode();
        self.file.write_at(0, &page)?;
        self.file.write_at(HEADER_BYTES as u64, &page)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Reads exactly `length` bytes; fewer are an error of the kind that says so.
    pub(super) fn read(&self, position: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(position, &mut bytes)?;
        Ok(bytes)
    }
}

/// Whether an error of a read says that the file ends too early.
pub(super) fn is_short(error: &io::Error) -> bool {
    error.kind() == ErrorKind::UnexpectedEof
}

/// Where a group's body begins if the group lies at `position`.
pub(super) fn body(position: u64) -> u64 {
    position + GROUP_HEAD_BYTES as u64
}
