//! Opening: reads the log, then brings the disk to where it can be gone on from, and only then.
//!
//! After a process died, what it wrote may be in the page cache and nowhere else, and after a failed sync the cache calls
//! it clean. So the last group is written once more and synced, before anything is built upon it.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use vltava_storage::{Storage, StorageLock, create_dir_durably};

use super::file::WalFile;
use super::format::{FileHeader, FileNumber, SECTOR_BYTES};
use super::origin::{self, Origin};
use super::reading::{DIRECTORY, FoundFile, Reading};
use super::state::State;
use super::{WalLog, WalOptions, capacity, read_entry, slot_bytes};
use crate::error::OpenError;
use crate::meta_log::{LogEntry, LogError};
use crate::open::LOCK;
use crate::record::StateRecord;

pub(super) fn open(
    storage: Arc<dyn Storage>,
    directory: &Path,
    options: WalOptions,
) -> Result<WalLog, OpenError> {
    create_dir_durably(&*storage, directory).map_err(OpenError::io("create", directory))?;
    let lock = lock(&*storage, directory)?;
    let mut reading = Reading::new(storage.clone(), directory);
    reading.run()?;
    let files = directory.join(DIRECTORY);
    create_dir_durably(&*storage, &files).map_err(OpenError::io("create", &files))?;
    if reading.origin == Origin::Absent && reading.is_unused() {
        begin(&*storage, directory, &options, &mut reading)?;
    }
    settle(&*storage, directory, &reading)?;
    let Reading { state, files: found, .. } = reading;
    let position = found.last().map_or(0, |found| found.end);
    let noted = state.record.committed;
    Ok(WalLog {
        storage,
        directory: files,
        options,
        files: found.into_iter().map(|found| found.file).collect(),
        position,
        state,
        noted,
        failed: None,
        _lock: lock,
    })
}

/// Takes the directory for this process.
fn lock(storage: &dyn Storage, directory: &Path) -> Result<Box<dyn StorageLock>, OpenError> {
    let path = directory.join(LOCK);
    let lock = storage.lock(&path).map_err(OpenError::io("lock", &path))?;
    lock.ok_or_else(|| OpenError::InUse { directory: directory.to_owned() })
}

/// Makes the first file of a new log.
fn begin(
    storage: &dyn Storage,
    directory: &Path,
    options: &WalOptions,
    reading: &mut Reading,
) -> Result<(), OpenError> {
    let files = directory.join(DIRECTORY);
    let header = FileHeader {
        log_id: options.log_id,
        number: FileNumber::FIRST,
        capacity: capacity(options, 0),
        slot_bytes: slot_bytes(options),
        state: StateRecord::default(),
    };
    let file = WalFile::create(storage, &files, header).map_err(OpenError::io("begin a log in", &files))?;
    reading.state = State::new(header.state);
    reading.files = vec![FoundFile::new(file)];
    Ok(())
}

/// Removes and mends what the reading noted.
fn settle(storage: &dyn Storage, directory: &Path, reading: &Reading) -> Result<(), OpenError> {
    let files = directory.join(DIRECTORY);
    for path in &reading.leftovers {
        match storage.remove(path) {
            // A log that was begun anew has taken the name.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            removed => removed.map_err(OpenError::io("remove", path))?,
        }
        storage.sync_dir(&files).map_err(OpenError::io("sync", &files))?;
    }
    let last_used = reading.files.iter().rposition(|found| found.last.is_some());
    for (at, found) in reading.files.iter().enumerate() {
        let newest = at + 1 == reading.files.len();
        mend(found, newest, last_used == Some(at)).map_err(OpenError::io("mend", &found.file.path))?;
    }
    if let Some(log_id) = reading.files.last().map(|found| found.file.header.log_id)
        && reading.origin != Origin::Known(log_id)
    {
        origin::write(storage, directory, log_id)?;
    }
    Ok(())
}

fn mend(found: &FoundFile, newest: bool, has_last_group: bool) -> std::io::Result<()> {
    let file = &found.file;
    if found.mend_header {
        tracing::warn!(path = %file.path.display(), "a copy of its header was damaged and is mended");
        file.mend_header()?;
    }
    for (position, bytes) in &found.restored {
        tracing::warn!(path = %file.path.display(), position, "a torn or damaged change is restored from its copy");
        file.mend(*position, bytes)?;
    }
    if newest && found.remains > found.end {
        // Of a change that was never acknowledged. What comes next is written over zeroes only.
        let end = found.remains.next_multiple_of(SECTOR_BYTES as u64).min(file.header.capacity);
        file.mend(found.end, &vec![0; (end - found.end) as usize])?;
    }
    for slot in &found.torn_slots {
        // So that it does not speak against the next change that is torn.
        file.mend(*slot, &[0; SECTOR_BYTES])?;
    }
    match &found.last {
        Some(last) if has_last_group => file.write_group(last.position, &last.head, &last.bytes),
        _ if found.mend_header || !found.restored.is_empty() || !found.torn_slots.is_empty() || newest => {
            file.sync()
        }
        _ => Ok(()),
    }
}

/// A stopped node's log, to look at. Changes nothing, and keeps owners away while it is there.
pub(crate) struct WalCopy {
    reading: Reading,
    damage: Option<String>,
    _held: File,
}

impl std::fmt::Debug for WalCopy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WalCopy").field("damage", &self.damage).finish_non_exhaustive()
    }
}

impl WalCopy {
    /// Reads the log in `directory` as a start would. `held` keeps owners away.
    pub(crate) fn take(storage: Arc<dyn Storage>, directory: &Path, held: File) -> Result<Self, OpenError> {
        let mut reading = Reading::new(storage, directory);
        let damage = match reading.run() {
            Ok(()) => None,
            Err(OpenError::Damaged { what, .. }) => Some(what),
            Err(other) => return Err(other),
        };
        Ok(Self { reading, damage, _held: held })
    }

    /// The state, as far as it could be read.
    pub(crate) fn record(&self) -> &StateRecord {
        &self.reading.state.record
    }

    /// Why it would not open, if it would not.
    pub(crate) fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }

    /// Whatever entries are there.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Result<LogEntry, LogError>> {
        let Reading { state, files, .. } = &self.reading;
        let range = state.record.first.zip(state.record.last).map(|(first, last)| first..last.index + 1);
        range.into_iter().flatten().filter_map(move |index| {
            let place = state.place(index)?;
            let found = files.iter().find(|found| found.file.header.number == place.file)?;
            Some(read_entry(&found.file, place, index))
        })
    }
}
