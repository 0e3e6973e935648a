//! Opening a Raft directory as a whole: log, snapshots and state machine, held against each other.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::OpenError;
use crate::failure::{Failure, FailureReporter};
use crate::meta_log::MetaLog;
use crate::sled_log::SledLog;
use crate::snapshot_store::SnapshotStore;
use crate::state_machine::{MachineStore, StateMachine};
use crate::store::{LogCloser, LogStore, LogStoreOptions};

/// The snapshots' directory in the Raft directory.
pub(crate) const SNAPSHOTS: &str = "snapshots";

/// Where the store is and how much memory it takes.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The Raft directory; created if it is not there.
    pub directory: PathBuf,
    /// sled's page cache, in bytes.
    pub cache_bytes: u64,
    /// The part in front of the log.
    pub log: LogStoreOptions,
}

impl StoreOptions {
    /// The usual settings for `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), cache_bytes: 64 << 20, log: LogStoreOptions::default() }
    }
}

/// An open store.
#[derive(Debug)]
pub struct Opened<M> {
    /// For `Raft::new`.
    pub log: LogStore,
    /// For `Raft::new`; the state machine inside is as the newest snapshot leaves it.
    pub machine: MachineStore<M>,
    /// Whoever runs the process must wait for this, and stop the process when it comes.
    pub failure: Failure,
    /// Waits until the log is closed, after `log` and the `Raft` are gone.
    pub closer: LogCloser,
}

/// Opens the Raft directory, or starts an empty one. Blocks: it reads and checks the whole log and the newest snapshot.
pub fn open<M: StateMachine>(options: &StoreOptions, machine: M) -> Result<Opened<M>, OpenError> {
    let log = SledLog::open(&options.directory, options.cache_bytes)?;
    open_with_log(&options.directory, options.log, log, machine)
}

/// As [`open`], with a log of the caller's making; only the snapshots are in `directory`.
pub fn open_with_log<L: MetaLog, M: StateMachine>(
    directory: &Path,
    options: LogStoreOptions,
    log: L,
    machine: M,
) -> Result<Opened<M>, OpenError> {
    let (snapshots, newest) = SnapshotStore::open(&directory.join(SNAPSHOTS))?;
    let covered = newest.as_ref().and_then(|s| s.meta.last_log_id.map(|id| id.index));
    if let Some(purged) = log.bounds().purged
        && covered.is_none_or(|covered| covered < purged.index)
    {
        let what =
            format!("the log begins after entry {purged}, but the newest whole snapshot ends at {covered:?}");
        return Err(OpenError::damaged(directory, what));
    }
    let (reporter, failure) = FailureReporter::new();
    let durable = snapshots.durable_index();
    let machine = MachineStore::start(machine, Arc::new(snapshots), newest, reporter.clone())
        .map_err(|e| OpenError::damaged(directory, format!("the newest snapshot cannot be restored: {e}")))?;
    let (log, closer) = LogStore::start(log, durable, reporter, options)
        .map_err(OpenError::io("start a thread for", directory))?;
    Ok(Opened { log, machine, failure, closer })
}
