//! Opening: sled against its own failings, then what it holds against the witness.
//!
//! Nothing is acknowledged from here; what it decides is whether this voter may go on as the one that it was.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};
use std::{panic, thread};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::layout::{ENTRIES_END, ENTRIES_START, EntryScan, STATE_KEY, sled_error};
use super::witness::{self, Slot, Testimony, WitnessWriter};
use super::{SledLog, batch, check_blobs, sync};
use crate::error::OpenError;
use crate::files;
use crate::meta_log::LogError;
use crate::open::LOCK;
use crate::record::StateRecord;

/// sled's directory in the Raft directory.
pub(crate) const SLED: &str = "log";
/// A sled that has not opened by then is looping over damage.
const OPEN_TIMEOUT: Duration = Duration::from_secs(300);
/// Threads of a sled that was just closed here may hold its file for a moment.
const CLOSE_GRACE: Duration = Duration::from_secs(5);
/// The threads on which a panic means a damaged log.
const OPEN_THREAD: &str = "raft-log-open";

/// Opens the log in `directory` on a thread of its own, which a panicking or looping sled may take with it.
pub(super) fn open(directory: &Path, cache_bytes: u64) -> Result<SledLog, OpenError> {
    files::create_directory(directory).map_err(OpenError::io("create", directory))?;
    let lock = lock(directory)?;
    prepare(directory)?;
    on_expendable_thread(directory, move |directory| open_here(directory, cache_bytes, lock))
}

/// Takes the directory for this process.
fn lock(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join(LOCK);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(OpenError::io("open", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(OpenError::InUse { directory: directory.to_owned() }),
        Err(e) => Err(OpenError::io("lock", &path)(e.into())),
    }
}

/// Brings the directory to where sled can open it: a witness there is, and nothing half-written.
fn prepare(directory: &Path) -> Result<(), OpenError> {
    let sled = directory.join(SLED);
    let witness = directory.join(witness::FILE);
    let exists = |path: &Path| path.try_exists().map_err(OpenError::io("look for", path));
    if !exists(&witness)? {
        if exists(&sled)? {
            return Err(OpenError::damaged(directory, "the file `witness` is missing"));
        }
        // The witness of an empty log comes first: from here on, a missing one is damage.
        witness::create(directory).map_err(OpenError::io("create", &witness))?;
    }
    if let Some(version) =
        witness::written_by_later_release(directory).map_err(OpenError::io("read", &witness))?
    {
        return Err(OpenError::Newer { path: witness, what: "version", number: version.into() });
    }
    files::create_directory(&sled).map_err(OpenError::io("create", &sled))?;
    for file in fs::read_dir(&sled).map_err(OpenError::io("list", &sled))? {
        let file = file.map_err(OpenError::io("list", &sled))?;
        let name = file.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(file.path()).map_err(OpenError::io("remove", &file.path()))?;
        }
    }
    Ok(())
}

/// Runs `work` where a panic, or never coming back, is damage and not the end of the process.
pub(super) fn on_expendable_thread<T: Send + 'static>(
    directory: &Path,
    work: impl FnOnce(&Path) -> Result<T, OpenError> + Send + 'static,
) -> Result<T, OpenError> {
    hint_on_panic(directory);
    let (result, outcome) = sync_channel(1);
    let path = directory.to_owned();
    let spawned = thread::Builder::new().name(OPEN_THREAD.into()).spawn(move || {
        // The receiver is gone only after the timeout, when nobody wants the result.
        let _ = result.send(work(&path));
    });
    let thread = spawned.map_err(OpenError::io("start a thread for", directory))?;
    match outcome.recv_timeout(OPEN_TIMEOUT) {
        Ok(result) => {
            // The thread is past its last statement; waiting for it frees what it held.
            let _ = thread.join();
            result
        }
        Err(RecvTimeoutError::Timeout) => {
            Err(OpenError::damaged(directory, "sled does not come to an end with it"))
        }
        Err(RecvTimeoutError::Disconnected) => {
            let panic = thread.join().err();
            let text = panic.as_ref().and_then(|p| {
                p.downcast_ref::<String>().map(String::as_str).or_else(|| p.downcast_ref::<&str>().copied())
            });
            Err(OpenError::damaged(directory, format!("sled panicked: {}", text.unwrap_or("without a word"))))
        }
    }
}

/// Where release builds abort on a panic nobody returns from it, so the operator's next step is logged from the hook.
fn hint_on_panic(directory: &Path) {
    static LAST: Mutex<Option<PathBuf>> = Mutex::new(None);
    static HOOK: Once = Once::new();
    *LAST.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(directory.to_owned());
    HOOK.call_once(|| {
        let earlier = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if thread::current().name().is_some_and(|name| name == OPEN_THREAD) {
                let last = LAST.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
                let error = OpenError::damaged(&last.unwrap_or_default(), format!("sled panicked: {info}"));
                tracing::error!(%error, "the Raft log does not open");
            }
            earlier(info);
        }));
    });
}

fn open_here(directory: &Path, cache_bytes: u64, lock: File) -> Result<SledLog, OpenError> {
    let db = open_sled(directory, cache_bytes)?;
    let sled = directory.join(SLED);
    let db_path = sled.join("db");
    let db_file = File::open(&db_path).map_err(OpenError::io("open", &db_path))?;
    let log_error = |error: LogError| match error {
        LogError::Io { action, source } => OpenError::Io { action, path: sled.clone(), source },
        other => OpenError::damaged(directory, other.to_string()),
    };
    check_blobs(&sled.join("blobs")).map_err(log_error)?;
    let testimony = read_witness(directory)?;
    let found = read_state(&db).map_err(log_error)?;
    let record = reconcile(&db, found, &testimony)
        .map_err(log_error)?
        .map_err(|what| OpenError::damaged(directory, what))?;
    check_entries(&db, &record).map_err(log_error)?;
    // Whatever was found may so far be in the page cache only.
    sync(&db, &db_file).map_err(log_error)?;
    files::sync_directory(&sled).map_err(OpenError::io("sync", &sled))?;

    let path = directory.join(witness::FILE);
    let witness = WitnessWriter::open(directory).map_err(OpenError::io("open", &path))?;
    if record != testimony.record {
        let rewritten = witness.start(Slot::without_ops(&record)).and_then(|()| witness.finish());
        rewritten.map_err(OpenError::io("write", &path))?;
    }
    let blobs = sled.join("blobs");
    let noted = record.committed;
    Ok(SledLog { db, db_file, blobs, witness, record, noted, failed: None, _lock: lock })
}

pub(super) fn open_sled(directory: &Path, cache_bytes: u64) -> Result<sled::Db, OpenError> {
    let path = directory.join(SLED);
    let config = sled::Config::new().path(&path).cache_capacity(cache_bytes).flush_every_ms(None);
    let deadline = Instant::now() + CLOSE_GRACE;
    loop {
        match config.open() {
            Ok(db) => return Ok(db),
            // Our own lock is held, so only a sled of this process that is closing can have its file.
            Err(e) if e.to_string().contains("could not acquire lock") && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(2));
            }
            Err(e) => {
                return Err(match sled_error("open sled", e) {
                    LogError::Io { action, source } => OpenError::Io { action, path, source },
                    other => OpenError::damaged(directory, other.to_string()),
                });
            }
        }
    }
}

fn read_witness(directory: &Path) -> Result<Testimony, OpenError> {
    let path = directory.join(witness::FILE);
    let slots = witness::read(directory).map_err(|source| match source.kind() {
        std::io::ErrorKind::InvalidData => OpenError::damaged(directory, source.to_string()),
        _ => OpenError::io("read", &path)(source),
    })?;
    let newest = witness::newest(slots);
    newest.ok_or_else(|| OpenError::damaged(directory, "neither slot of the file `witness` can be read"))
}

/// The state that sled holds; the empty log's where it holds none.
pub(super) fn read_state(db: &sled::Db) -> Result<StateRecord, LogError> {
    match db.get(STATE_KEY).map_err(|e| sled_error("read the state", e))? {
        None => Ok(StateRecord::default()),
        Some(bytes) => StateRecord::decode(&bytes)
            .ok_or_else(|| LogError::Damaged("the state record cannot be read".into())),
    }
}

/// Brings sled to where the witness says, if one change can be what lies between them; else says what is wrong.
pub(super) fn reconcile(
    db: &sled::Db,
    found: StateRecord,
    testimony: &Testimony,
) -> Result<Result<StateRecord, String>, LogError> {
    let expected = testimony.record;
    if found == expected {
        return Ok(Ok(found));
    }
    // That change was never acknowledged, but to keep it is as good as to lose it.
    if Some(found.change) == expected.change.checked_add(1) {
        return Ok(Ok(found));
    }
    if let Some(ops) = &testimony.ops
        && Some(expected.change) == found.change.checked_add(1)
    {
        db.apply_batch(batch(ops, &expected)).map_err(|e| sled_error("repeat the last change", e))?;
        return Ok(Ok(expected));
    }
    Ok(Err(format!(
        "it holds change {} up to entry {}, but change {} up to entry {} was acknowledged",
        found.change,
        display(found.last),
        expected.change,
        display(expected.last),
    )))
}

fn display(position: Option<crate::types::Position>) -> String {
    position.map_or_else(|| "none".into(), |p| p.to_string())
}

/// Reads every entry and holds them against the record: nothing missing, nothing more, each chained to the one before.
pub(super) fn check_entries(db: &sled::Db, record: &StateRecord) -> Result<(), LogError> {
    let damaged = |what: String| Err(LogError::Damaged(what));
    let Some((first, last)) = record.first.zip(record.last) else {
        return match db.range(ENTRIES_START..ENTRIES_END).next() {
            None => Ok(()),
            Some(_) => damaged("entries in a log that should be empty".into()),
        };
    };
    let mut chain = if record.purged.is_none() { Some(0) } else { None };
    let mut next = Some(first);
    for found in EntryScan::new(db, 0, u64::MAX) {
        let found = found?;
        let index = found.entry.position.index;
        if Some(index) != next || index > last.index {
            return damaged(format!("entry {index} where entry {next:?} of {first} to {last} should be"));
        }
        if chain.is_some_and(|chain| chain != found.previous) {
            return damaged(format!("entry {index} does not continue the entry before it"));
        }
        chain = Some(found.chain);
        next = index.checked_add(1);
    }
    if next != last.index.checked_add(1) || chain != Some(record.chain) {
        return damaged(format!("the entries end at {next:?} and not with entry {last} as it was written"));
    }
    Ok(())
}
