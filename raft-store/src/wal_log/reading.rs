//! Reads a log back after a stop, and refuses to guess. Changes nothing: what is to be mended is only noted.
//!
//! Groups are read in order, each chained to the one before. Where the next one cannot be read there are three answers.
//! Its slot may hold it: then it is restored. Nothing may speak for it: then it was being written when the power went,
//! nobody was told that it is durable, and the log ends before it. Or something speaks for it: a later group, even a
//! torn one, or the later group's slot, or a later file, or its own slot that says that it was durable. All of these
//! are written only after it was synced, so it was acknowledged, and the log is damaged. It is damaged, too, where both
//! copies of the group are there and neither is right: a crash leaves sectors as they were before or after a write.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vltava_storage::{Storage, StorageFile};

use super::file::{self, TEMPORARY, WalFile, is_short};
use super::format::{
    Change, FileHeader, FileNumber, GROUP_HEAD_BYTES, GroupHead, HEADER_BYTES, Malformed, SECTOR_BYTES, Slot,
    decode_slot,
};
use super::origin::{self, Origin};
use super::state::State;
use crate::error::OpenError;

/// The directory of the files in the Raft directory.
pub(crate) const DIRECTORY: &str = "wal";

/// A log being read.
pub(super) struct Reading {
    storage: Arc<dyn Storage>,
    /// The Raft directory, for messages.
    directory: PathBuf,
    /// What the log amounts to, as far as it was read.
    pub state: State,
    /// What the Raft directory says of the log.
    pub origin: Origin,
    /// The files that count, oldest first.
    pub files: Vec<FoundFile>,
    /// What a crash left behind and nothing needs.
    pub leftovers: Vec<PathBuf>,
}

/// A file that was read.
pub(super) struct FoundFile {
    pub file: WalFile,
    /// One of the copies of its header cannot be read.
    pub mend_header: bool,
    /// Slots in which there is something that cannot be read: where they begin.
    pub torn_slots: Vec<u64>,
    /// Groups that were restored from their slots: where, and their bytes.
    pub restored: Vec<(u64, Vec<u8>)>,
    /// The last group.
    pub last: Option<LastGroup>,
    /// Where the next group goes.
    pub end: u64,
    /// Up to where there is something behind the end.
    pub remains: u64,
    /// The file in which the log goes on, if this one says so.
    rolled: Option<FileNumber>,
    /// Whether anything here shows that a group was written, even if none can be read.
    used: bool,
}

impl FoundFile {
    /// A file without any group.
    pub(super) fn new(file: WalFile) -> Self {
        let start = file.header.groups_start();
        Self {
            file,
            mend_header: false,
            torn_slots: Vec::new(),
            restored: Vec::new(),
            last: None,
            end: start,
            remains: start,
            rolled: None,
            used: false,
        }
    }
}

/// A group as it lies in its file, without padding.
pub(super) struct LastGroup {
    pub position: u64,
    pub head: GroupHead,
    pub bytes: Vec<u8>,
}

impl Reading {
    /// Looks for the log in the Raft directory `directory`.
    pub(super) fn new(storage: Arc<dyn Storage>, directory: &Path) -> Self {
        Self {
            storage,
            directory: directory.to_owned(),
            state: State::new(Default::default()),
            origin: Origin::Absent,
            files: Vec::new(),
            leftovers: Vec::new(),
        }
    }

    /// Reads all of it. After an error the state is as far as it was read.
    pub(super) fn run(&mut self) -> Result<(), OpenError> {
        self.origin = origin::read(&*self.storage, &self.directory)?;
        let numbers = self.list()?;
        let Some((&newest, older)) = numbers.split_last() else {
            return match self.origin {
                Origin::Absent => Ok(()),
                _ => Err(self.damaged("its files are gone")),
            };
        };
        // The newest file, and those before it without a gap. Behind a gap there is what was removed, and came back.
        let mut first = newest;
        for number in older.iter().rev().take_while(|number| **number < newest) {
            if number.next() != first {
                break;
            }
            first = *number;
        }
        let unneeded: Vec<_> =
            numbers.iter().filter(|number| **number < first).map(|number| self.path(*number)).collect();
        self.leftovers.extend(unneeded);
        for number in numbers.into_iter().filter(|number| *number >= first) {
            self.read_file(number)?;
        }
        if let Some(FoundFile { rolled: Some(to), .. }) = self.files.last() {
            return Err(self.damaged(format!("file {to} of it is gone")));
        }
        match self.state.missing() {
            0 => Ok(()),
            missing => Err(self.damaged(format!(
                "its first {missing} entries, up from {:?}, are gone with a file older than {first}",
                self.state.record.first
            ))),
        }
    }

    /// The numbers of all files, sorted.
    fn list(&mut self) -> Result<Vec<FileNumber>, OpenError> {
        let directory = self.directory.join(DIRECTORY);
        let names = match self.storage.list(&directory) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            names => names.map_err(OpenError::io("list", &directory))?,
        };
        let unfinished = names.iter().filter(|name| name.ends_with(TEMPORARY));
        self.leftovers.extend(unfinished.map(|name| directory.join(name)));
        let mut numbers: Vec<_> = names.iter().filter_map(|name| file::parse_name(name)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn path(&self, number: FileNumber) -> PathBuf {
        self.directory.join(DIRECTORY).join(file::name(number))
    }

    fn damaged(&self, what: impl Into<String>) -> OpenError {
        OpenError::damaged(&self.directory, what)
    }

    fn malformed(&self, path: &Path, what: &str, malformed: Malformed) -> OpenError {
        match malformed {
            Malformed::Damaged => self.damaged(format!("{}: {what} cannot be read", path.display())),
            Malformed::Newer { what, number } => OpenError::Newer { path: path.to_owned(), what, number },
        }
    }

    fn read_file(&mut self, number: FileNumber) -> Result<(), OpenError> {
        let path = self.path(number);
        let file = self.storage.open(&path).map_err(OpenError::io("open", &path))?;
        let (header, mend_header) = self.read_header(&*file, &path)?;
        let length = file.len().map_err(OpenError::io("measure", &path))?;
        if header.number != number || header.capacity != length {
            let what = format!("{} is another file or has another length", path.display());
            return Err(self.damaged(what));
        }
        if let Origin::Known(log_id) = self.origin
            && log_id != header.log_id
        {
            return Err(self.damaged(format!("{} belongs to another log", path.display())));
        }
        let bytes = self.read_bytes(&*file, &path, 0, length)?;
        let file = WalFile::found(header, path, file);
        let used = is_used(&header, &bytes);
        if !self.files.is_empty() && !self.follows(&header, used)? {
            // The file was made, and the power went before the file before it said that the log goes on here.
            self.leftovers.push(file.path);
            return Ok(());
        }
        if self.files.is_empty() {
            self.state = State::new(header.state);
        }
        self.files.push(FoundFile { mend_header, used, ..FoundFile::new(file) });
        let found = self.files.len() - 1;
        self.walk(found, bytes)
    }

    /// Whether the log goes on in the file with this header; if not, that file is one that was never used.
    fn follows(&self, header: &FileHeader, used: bool) -> Result<bool, OpenError> {
        let before = self.files.last().map(|found| (found.rolled, found.file.header.number));
        match before {
            Some((Some(_), _)) if self.state.record == header.state => Ok(true),
            // A file is made once all groups before the one that names it are durable.
            Some((None, _)) if !used && header.state.change == self.state.next_change() => Ok(false),
            Some((_, number)) => {
                let change = self.state.record.change;
                Err(self.damaged(format!(
                    "file {number} ends with change {change}, but file {} goes on after change {}",
                    header.number, header.state.change
                )))
            }
            None => Ok(true),
        }
    }

    /// The header, and whether one of its copies needs to be written again.
    fn read_header(&self, file: &dyn StorageFile, path: &Path) -> Result<(FileHeader, bool), OpenError> {
        let pages = self.read_bytes(file, path, 0, 2 * HEADER_BYTES as u64)?;
        let (one, other) = pages.split_at(HEADER_BYTES);
        match (FileHeader::decode(one), FileHeader::decode(other)) {
            (Ok(header), again) => Ok((header, again != Ok(header))),
            (Err(Malformed::Damaged), Ok(header)) => Ok((header, true)),
            (Err(newer @ Malformed::Newer { .. }), _) => Err(self.malformed(path, "its header", newer)),
            (Err(Malformed::Damaged), Err(why)) => Err(self.malformed(path, "its header", why)),
        }
    }

    fn read_bytes(
        &self,
        file: &dyn StorageFile,
        path: &Path,
        position: u64,
        length: u64,
    ) -> Result<Vec<u8>, OpenError> {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        match file.read_exact_at(position, &mut bytes) {
            Ok(()) => Ok(bytes),
            Err(e) if is_short(&e) => Err(self.damaged(format!("{} was cut", path.display()))),
            Err(e) => Err(OpenError::io("read", path)(e)),
        }
    }

    /// Takes the groups of the file, up to where none follows.
    fn walk(&mut self, found: usize, mut bytes: Vec<u8>) -> Result<(), OpenError> {
        let header = self.files[found].file.header;
        let slots = slots(&header, &bytes);
        let mut position = header.groups_start();
        while self.files[found].rolled.is_none() {
            if !self.take_group(found, position, &bytes)? {
                let Some(copy) = self.in_slot(&slots, position) else { break };
                let there = bytes.get_mut(position as usize..).and_then(|rest| rest.get_mut(..copy.len()));
                let Some(there) = there else { break };
                there.copy_from_slice(copy);
                if !self.take_group(found, position, &bytes)? {
                    break;
                }
                self.files[found].restored.push((position, copy.to_vec()));
            }
            position = self.files[found].end;
        }
        if self.files[found].rolled.is_none() {
            self.expect_nothing_after(found, position, &bytes, &slots)?;
        }
        let torn = [0, 1].into_iter().filter(|sequence| !slot_is_untouched(&header, &bytes, *sequence));
        self.files[found].torn_slots = torn.map(|sequence| header.slot_position(sequence)).collect();
        let remains = bytes[position as usize..].iter().rposition(|byte| *byte != 0);
        self.files[found].remains = remains.map_or(position, |last| position + last as u64 + 1);
        Ok(())
    }

    /// Takes the group at `position`, if it is whole and the next one.
    fn take_group(&mut self, found: usize, position: u64, bytes: &[u8]) -> Result<bool, OpenError> {
        let file = &self.files[found].file;
        let (number, path) = (file.header.number, file.path.clone());
        let Some(rest) = bytes.get(position as usize..) else { return Ok(false) };
        let Some(head) = GroupHead::decode(rest, file.header.salt()) else { return Ok(false) };
        let next = head.sequence == self.state.next_change() && head.before == self.state.record.chain;
        if !next || !file.fits(position, head.padded()) {
            return Ok(false);
        }
        let records = match head.records(&rest[GROUP_HEAD_BYTES..]) {
            Ok(records) => records,
            Err(Malformed::Damaged) => return Ok(false),
            Err(newer) => return Err(self.malformed(&path, "a record", newer)),
        };
        for record in records {
            let applied = self.state.apply(record.change, record.place, number, file::body(position));
            applied.map_err(|what| self.damaged(format!("{}: {what}", path.display())))?;
            if let Change::Roll(to) = record.change {
                self.files[found].rolled = Some(to);
            }
        }
        self.state.end_group(&head);
        let length = GROUP_HEAD_BYTES + head.length as usize;
        let found = &mut self.files[found];
        found.last = Some(LastGroup { position, head, bytes: rest[..length].to_vec() });
        found.end = position + head.padded();
        Ok(true)
    }

    /// The copy of the next group, which should lie at `position`, if a slot has it.
    fn in_slot<'a>(&self, slots: &'a [Slot], position: u64) -> Option<&'a [u8]> {
        let (next, chain) = (self.state.next_change(), self.state.record.chain);
        let slot = slots.iter().find(|slot| {
            slot.position == position && slot.head.sequence == next && slot.head.before == chain
        })?;
        slot.group.as_deref()
    }

    /// Checks that nothing in the file speaks for a group at `end`, where none can be read.
    fn expect_nothing_after(
        &self,
        found: usize,
        end: u64,
        bytes: &[u8],
        slots: &[Slot],
    ) -> Result<(), OpenError> {
        let WalFile { header, path, .. } = &self.files[found].file;
        let next = self.state.next_change();
        let mut witness =
            slots.iter().map(|slot| slot.head.sequence).filter(|sequence| *sequence >= next).max();
        let sectors = bytes[end as usize..].chunks(SECTOR_BYTES);
        let later = sectors.filter_map(|sector| GroupHead::decode(sector, header.salt()));
        witness = witness.max(later.map(|head| head.sequence).filter(|sequence| *sequence > next).max());
        if let Some(witness) = witness {
            return Err(self.damaged(format!(
                "{}: change {next} cannot be read at byte {end}, but was durable, as change {witness} shows",
                path.display()
            )));
        }
        // The slot is written after the group's place, and a disk writes sectors whole: a crash leaves an untouched slot,
        // or a place where sectors are missing.
        if is_torn(header, &bytes[end as usize..]) || slot_is_untouched(header, bytes, next) {
            return Ok(());
        }
        Err(self.damaged(format!(
            "{}: change {next} can be read neither at byte {end} nor in its slot, and no crash leaves both like that",
            path.display()
        )))
    }

    /// Whether this is a new log's first file, which was made but perhaps never became durable.
    pub(super) fn is_unused(&self) -> bool {
        match self.files.as_slice() {
            [] => true,
            [only] => only.file.header.number == FileNumber::FIRST && !only.used,
            _ => false,
        }
    }
}

/// What the file's slots hold.
fn slots(header: &FileHeader, bytes: &[u8]) -> Vec<Slot> {
    let slot = |sequence: u64| {
        let slot = decode_slot(slot_bytes(header, bytes, sequence)?, header.salt())?;
        (slot.head.sequence % 2 == sequence).then_some(slot)
    };
    [slot(0), slot(1)].into_iter().flatten().collect()
}

/// Whether the group at the front of `bytes`, which cannot be read, lacks a sector that was to be written over zeroes.
fn is_torn(header: &FileHeader, bytes: &[u8]) -> bool {
    let length = GroupHead::decode(bytes, header.salt()).map_or(SECTOR_BYTES as u64, |head| head.padded());
    let extent = bytes.get(..usize::try_from(length).unwrap_or(usize::MAX)).unwrap_or(bytes);
    extent.chunks(SECTOR_BYTES).any(is_zero)
}

/// Whether the slot of the group with this sequence is as it was before that group was written.
fn slot_is_untouched(header: &FileHeader, bytes: &[u8], sequence: u64) -> bool {
    let slot = slot_bytes(header, bytes, sequence).unwrap_or_default();
    slot.get(..SECTOR_BYTES).is_some_and(is_zero) || decode_slot(slot, header.salt()).is_some()
}

fn slot_bytes<'a>(header: &FileHeader, bytes: &'a [u8], sequence: u64) -> Option<&'a [u8]> {
    let start = header.slot_position(sequence) as usize;
    bytes.get(start..start + header.slot_bytes as usize)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Whether any group was begun in the file.
fn is_used(header: &FileHeader, bytes: &[u8]) -> bool {
    let mut sectors = bytes.get(header.groups_start() as usize..).unwrap_or_default().chunks(SECTOR_BYTES);
    !slots(header, bytes).is_empty()
        || sectors.any(|sector| GroupHead::decode(sector, header.salt()).is_some())
}
