//! Opening a Raft directory as a whole: log, snapshots and state machine, held against each other.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use vltava_storage::Storage;

use crate::engine::{self, LogEngine};
use crate::error::OpenError;
use crate::failure::{Failure, FailureReporter};
use crate::meta_log::MetaLog;
use crate::sled_log::SledLog;
use crate::snapshot_store::SnapshotStore;
use crate::state_machine::{MachineStore, StateMachine};
use crate::store::{LogCloser, LogStore, LogStoreOptions};
use crate::wal_log::{WalLog, WalOptions};

/// The snapshots' directory in the Raft directory.
pub(crate) const SNAPSHOTS: &str = "snapshots";
/// The file in the Raft directory that is locked as long as a log is open.
pub(crate) const LOCK: &str = "lock";

/// Where the store is, on what, and how much memory it takes.
#[derive(Clone)]
pub struct StoreOptions {
    /// The disk. sled knows only the operating system's files, whatever is said here.
    pub storage: Arc<dyn Storage>,
    /// The Raft directory; created if it is not there.
    pub directory: PathBuf,
    /// On what the log lies; `None` leaves an existing log as it is, and begins a new one on [`LogEngine::default`].
    pub engine: Option<LogEngine>,
    /// How a write-ahead log is laid out.
    pub wal: WalOptions,
    /// sled's page cache, in bytes.
    pub cache_bytes: u64,
    /// The part in front of the log.
    pub log: LogStoreOptions,
}

impl StoreOptions {
    /// The usual settings for `directory`; `log_id` is a random number, see [`WalOptions::log_id`].
    pub fn new(storage: Arc<dyn Storage>, directory: impl Into<PathBuf>, log_id: u64) -> Self {
        Self {
            storage,
            directory: directory.into(),
            engine: None,
            wal: WalOptions::new(log_id),
            cache_bytes: 64 << 20,
            log: LogStoreOptions::default(),
        }
    }
}

impl std::fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreOptions")
            .field("directory", &self.directory)
            .field("engine", &self.engine)
            .finish_non_exhaustive()
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
    let StoreOptions { storage, directory, engine, wal, cache_bytes, log } = options;
    match engine::choose(&**storage, directory, *engine)? {
        LogEngine::Wal => {
            let opened = WalLog::open(storage.clone(), directory, *wal)?;
            open_with_log(storage.clone(), directory, *log, opened, machine)
        }
        LogEngine::Sled => {
            let opened = SledLog::open(directory, *cache_bytes)?;
            open_with_log(storage.clone(), directory, *log, opened, machine)
        }
    }
}

/// As [`open`], with a log of the caller's making; only the snapshots are in `directory`.
pub fn open_with_log<L: MetaLog, M: StateMachine>(
    storage: Arc<dyn Storage>,
    directory: &Path,
    options: LogStoreOptions,
    log: L,
    machine: M,
) -> Result<Opened<M>, OpenError> {
    let (snapshots, newest) = SnapshotStore::open(storage, &directory.join(SNAPSHOTS))?;
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
