//! A copy of a stopped node's log, to look at: opening sled writes, so the original is never opened for looking.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::layout::{ChainedEntry, EntryScan};
use super::open::{self, SLED};
use super::witness::{self, Testimony};
use crate::error::OpenError;
use crate::meta_log::LogError;
use crate::open::LOCK;
use crate::record::StateRecord;

/// Enough to look at a log once.
const CACHE_BYTES: u64 = 16 << 20;

/// A log that was copied and opened, as far as it could be.
#[derive(Debug)]
pub(crate) struct LogCopy {
    // Declared, and so dropped, before the files below it.
    db: Option<sled::Db>,
    record: StateRecord,
    damage: Option<String>,
    _scratch: Scratch,
}

impl LogCopy {
    /// Copies the log in `directory`, of which no process may be the owner, and checks the copy as a start would.
    pub(crate) fn take(directory: &Path) -> Result<Self, OpenError> {
        let _held = hold(directory)?;
        let scratch = Scratch::create().map_err(OpenError::io("create a copy of", directory))?;
        copy_files(&directory.join(SLED), &scratch.0.join(SLED)).map_err(OpenError::io("copy", directory))?;
        let witness_path = directory.join(witness::FILE);
        let testimony = match witness::read(directory) {
            Ok(slots) => {
                witness::newest(slots).ok_or_else(|| "neither slot of the file `witness` is whole".into())
            }
            Err(e) if [io::ErrorKind::NotFound, io::ErrorKind::InvalidData].contains(&e.kind()) => {
                Err(format!("{}: {e}", witness_path.display()))
            }
            Err(e) => return Err(OpenError::io("read", &witness_path)(e)),
        };
        let of_witness = testimony.clone();
        let looked = open::on_expendable_thread(&scratch.0, move |copy| look(copy, &of_witness));
        let (db, record, damage) = looked.unwrap_or_else(|error| {
            let what = match error {
                OpenError::Damaged { what, .. } => what,
                other => other.to_string(),
            };
            (None, testimony.map(|t| t.record).unwrap_or_default(), Some(what))
        });
        Ok(Self { db, record, damage, _scratch: scratch })
    }

    /// The state as sled has it, or as the witness has it where sled has none.
    pub(crate) fn record(&self) -> &StateRecord {
        &self.record
    }

    /// Why the original would not open, if it would not.
    pub(crate) fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }

    /// Whatever entries are there.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Result<ChainedEntry, LogError>> {
        self.db.iter().flat_map(|db| EntryScan::new(db, 0, u64::MAX))
    }
}

type Looked = (Option<sled::Db>, StateRecord, Option<String>);

fn look(copy: &Path, testimony: &Result<Testimony, String>) -> Result<Looked, OpenError> {
    let db = open::open_sled(copy, CACHE_BYTES)?;
    let found = match open::read_state(&db) {
        Ok(found) => found,
        Err(e) => return Ok((Some(db), StateRecord::default(), Some(e.to_string()))),
    };
    let reconciled = match testimony {
        Ok(testimony) => open::reconcile(&db, found, testimony).unwrap_or_else(|e| Err(e.to_string())),
        Err(why) => Err(why.clone()),
    };
    let checked = reconciled.and_then(|record| match open::check_entries(&db, &record) {
        Ok(()) => Ok(record),
        Err(e) => Err(e.to_string()),
    });
    Ok(match checked {
        Ok(record) => (Some(db), record, None),
        Err(why) => (Some(db), found, Some(why)),
    })
}

/// Keeps owners away while the files are copied; nothing to hold where there never was one.
pub(crate) fn hold(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join(LOCK);
    let file = File::open(&path).map_err(OpenError::io("open", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(OpenError::InUse { directory: directory.to_owned() }),
        Err(e) => Err(OpenError::io("lock", &path)(e.into())),
    }
}

fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for file in fs::read_dir(from)? {
        let file = file?;
        let target = to.join(file.file_name());
        if file.file_type()?.is_dir() {
            copy_files(&file.path(), &target)?;
        } else if !file.file_name().to_string_lossy().ends_with(".generating") {
            fs::copy(file.path(), target)?;
        }
    }
    Ok(())
}

/// A directory of our own that goes when we do.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn create() -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("vltava-inspect-{}-{number}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed from a temporary directory is the system's to remove.
        let _ = fs::remove_dir_all(&self.0);
    }
}
