//! This broker's log directories: opened, each with its journal; which partition lies where; what is known to be synced;
//! and which of them have failed.
//!
//! Blocks, except where it is `async`; called from shard threads and at start and end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use vltava_commitlog::directory::{DirectoryError, LastEnd, LogDirectory};
use vltava_commitlog::durability::{
    Journal, JournalError, JournalMetricsSnapshot, JournalObserver, JournalOptions, RecoverError,
    RecoveredBody, RecoveredFrame,
};
use vltava_commitlog::log::{
    Log, LogConfig, LogPlace, NewerFormat, RecoveryError, RecoveryInput, Scan, TailBudget,
};
use vltava_model::seeded::{SeededBug, seeded};
use vltava_model::{BrokerEpoch, ClusterId, DirectoryId, NodeId, Offset, TopicPartition};
use vltava_storage::{FilePool, FilePoolMetrics, Storage};
use vltava_threads::lock;

mod damaged;
mod deleted;
mod opened;
mod placed;
mod points;

pub use damaged::BeginAnewError;
use damaged::give_up_journal;
pub use opened::Journaling;
use placed::Placed;
use points::{Points, Source};

/// How long a look at a disk's free space is good for.
const SPACE_FRESH: Duration = Duration::from_millis(200);

/// Memory that the newest batches of all partitions share, in bytes.
const TAIL_BYTES: usize = 64 * 1024 * 1024;

/// Why a broker can't use its directories.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// One directory; the text says what to do.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A journal that can't be read.
    #[error("{0}: restore the disk, or empty the directory and let its data be replicated anew")]
    Journal(#[from] RecoverError),
    /// None of them works.
    #[error("no log directory works: {0}")]
    NoneWorks(String),
    /// Two directories belong to different clusters.
    #[error("the log directories belong to different clusters: {0} and {1}")]
    TwoClusters(ClusterId, ClusterId),
}

/// Why a replica can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenLogError {
    /// Its bytes are not what was written; in words.
    #[error("{0}")]
    Damaged(String),
    /// A later release wrote it; in words.
    #[error("{0}")]
    Newer(String),
    /// The disk refused.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl From<RecoveryError> for OpenLogError {
    fn from(error: RecoveryError) -> Self {
        match error {
            RecoveryError::Corrupt(damage) => Self::Damaged(damage.to_string()),
            RecoveryError::Io(error) if NewerFormat::of(&error).is_some() => Self::Newer(error.to_string()),
            RecoveryError::Io(error) => Self::Io(error),
        }
    }
}

/// What the journal learned is on stable storage in the segments, until the owner of the log takes it.
#[derive(Default)]
struct Synced {
    ends: Mutex<BTreeMap<TopicPartition, Offset>>,
}

struct Observer {
    directory: DirectoryId,
    synced: Arc<Synced>,
    failed: watch::Sender<BTreeSet<DirectoryId>>,
}

impl JournalObserver for Observer {
    fn synced(&self, partition: TopicPartition, end: Offset) {
        lock(&self.synced.ends).insert(partition, end);
    }

    fn failed(&self, error: &JournalError) {
        tracing::error!(directory = %self.directory, %error, "the journal failed: the log directory is offline");
        self.failed.send_if_modified(|failed| failed.insert(self.directory));
    }
}

struct Directory {
    path: PathBuf,
    storage: Arc<dyn Storage>,
    handle: Mutex<LogDirectory>,
    journal: Mutex<Option<Arc<Journal>>>,
    synced: Arc<Synced>,
    points: Mutex<Points>,
    clean: Option<BrokerEpoch>,
    space: Mutex<Option<(Instant, u64)>>,
}

/// See the module.
pub struct Directories {
    all: BTreeMap<DirectoryId, Directory>,
    configured: usize,
    placed: Mutex<Placed>,
    frames: Mutex<BTreeMap<TopicPartition, Vec<RecoveredFrame>>>,
    failed: watch::Sender<BTreeSet<DirectoryId>>,
    tails: TailBudget,
    files: FilePool,
    min_free_bytes: u64,
}

/// What a start needs to know.
pub struct OpenInput<'a> {
    /// The disk, and the logs' open files.
    pub files: FilePool,
    /// `log.dirs`.
    pub paths: &'a [PathBuf],
    /// `node.id`.
    pub node: NodeId,
    /// `cluster.id`, if pinned.
    pub cluster: Option<ClusterId>,
    /// The size of one journal file.
    pub journal_file_bytes: u64,
    /// Below so many free bytes nothing is appended.
    pub min_free_bytes: u64,
}

impl Directories {
    /// Opens all directories. One whose disk refuses is left out as long as another works.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(input: &OpenInput<'_>) -> Result<Self, OpenError> {
        let (failed, _) = watch::channel(BTreeSet::new());
        let mut directories = Self {
            all: BTreeMap::new(),
            configured: input.paths.len(),
            placed: Mutex::default(),
            frames: Mutex::default(),
            failed,
            tails: TailBudget::new(TAIL_BYTES),
            files: input.files.clone(),
            min_free_bytes: input.min_free_bytes,
        };
        let mut refused = Vec::new();
        let storage = input.files.storage();
        for path in input.paths {
            let fresh = DirectoryId::new(rand::random());
            match LogDirectory::open(storage.clone(), path, input.node, input.cluster, fresh) {
                Ok(handle) => match directories.add(input, &storage, handle) {
                    Err(OpenError::Journal(error @ RecoverError::Io(_))) => {
                        tracing::error!(%error, "a log directory does not work");
                        refused.push(error.to_string());
                    }
                    added => added?,
                },
                Err(error @ DirectoryError::Io { .. }) => {
                    tracing::error!(%error, "a log directory does not work");
                    refused.push(error.to_string());
                }
                Err(error) => return Err(error.into()),
            }
        }
        if directories.all.is_empty() {
            return Err(OpenError::NoneWorks(refused.join("; ")));
        }
        directories.cluster()?;
        Ok(directories)
    }

    fn add(
        &mut self,
        input: &OpenInput<'_>,
        storage: &Arc<dyn Storage>,
        handle: LogDirectory,
    ) -> Result<(), OpenError> {
        let id = handle.identity().directory;
        let path = handle.path().to_owned();
        let disk = |action| {
            let path = path.clone();
            move |source| DirectoryError::Io { action, path, source }
        };
        let mut recovered = match Journal::recover(&**storage, &handle.journal_path()) {
            Err(error @ RecoverError::Corrupt { .. }) => {
                give_up_journal(&handle, &error).map_err(disk("give up the journal in"))?;
                Journal::recover(&**storage, &handle.journal_path())?
            }
            recovered => recovered?,
        };
        let frames = std::mem::take(&mut recovered.partitions);
        let partitions = handle.partitions().map_err(disk("list"))?;
        let synced = Arc::new(Synced::default());
        let observer = Observer { directory: id, synced: synced.clone(), failed: self.failed.clone() };
        let options = JournalOptions {
            file_bytes: input.journal_file_bytes,
            first_bytes: JournalOptions::default().first_bytes.min(input.journal_file_bytes),
            fresh_salt: rand::random(),
            ..JournalOptions::default()
        };
        let journal = Journal::start(storage.clone(), recovered, options, Arc::new(observer))?;
        // Only now that nothing can fail any more: a partition is never placed where there is no directory.
        let mut placed = lock(&self.placed);
        partitions.into_iter().for_each(|partition| placed.insert(partition, id));
        drop(placed);
        lock(&self.frames).extend(frames);
        let directory = Directory {
            points: Mutex::new(match handle.last_end() {
                LastEnd::Damaged => Points::lost(),
                LastEnd::Clean(_) | LastEnd::Unknown => Points::read(&**storage, &path),
            }),
            path,
            storage: storage.clone(),
            clean: handle.left_cleanly(),
            handle: Mutex::new(handle),
            journal: Mutex::new(Some(Arc::new(journal))),
            synced,
            space: Mutex::new(None),
        };
        self.all.insert(id, directory);
        Ok(())
    }

    /// The cluster that the directories belong to, if they do.
    ///
    /// # Errors
    /// When they belong to two.
    pub fn cluster(&self) -> Result<Option<ClusterId>, OpenError> {
        let clusters: BTreeSet<ClusterId> =
            self.all.values().filter_map(|directory| lock(&directory.handle).identity().cluster).collect();
        let mut clusters = clusters.into_iter();
        match (clusters.next(), clusters.next()) {
            (Some(one), Some(other)) => Err(OpenError::TwoClusters(one, other)),
            (one, _) => Ok(one),
        }
    }

    /// The broker epoch under which every directory was closed cleanly, if all were, under the same.
    pub fn left_cleanly(&self) -> Option<BrokerEpoch> {
        let mut epochs = self.all.values().map(|directory| directory.clean);
        let first = epochs.next().flatten()?;
        epochs.all(|epoch| epoch == Some(first)).then_some(first)
    }

    /// Binds all directories to the cluster, durably.
    ///
    /// # Errors
    /// In words.
    pub fn bind(&self, cluster: ClusterId) -> Result<(), String> {
        for directory in self.all.values() {
            lock(&directory.handle).bind(cluster).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// The same beside the runtime: a shard may be deleting or creating something in a directory meanwhile, for as long as its
    /// disk takes.
    ///
    /// # Errors
    /// In words.
    pub async fn adopt(self: &Arc<Self>, cluster: ClusterId) -> Result<(), String> {
        let this = self.clone();
        let binding = vltava_threads::offload_waiting(move || this.bind(cluster));
        binding.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }

    /// Directories that work.
    pub fn working(&self) -> Vec<DirectoryId> {
        let failed = self.failed.borrow();
        self.all.keys().filter(|id| !failed.contains(id)).copied().collect()
    }

    /// Directories that failed since the start.
    pub fn failed(&self) -> Vec<DirectoryId> {
        self.failed.borrow().iter().copied().collect()
    }

    /// Watches for failures.
    pub fn failures(&self) -> watch::Receiver<BTreeSet<DirectoryId>> {
        self.failed.subscribe()
    }

    /// Takes a directory out of service for good.
    pub fn fail(&self, id: DirectoryId, reason: &str) {
        if let Some(directory) = self.all.get(&id) {
            lock(&directory.handle).fail(reason);
        }
        self.failed.send_if_modified(|failed| failed.insert(id));
    }

    /// Where a partition lies.
    pub fn of(&self, partition: TopicPartition) -> Option<DirectoryId> {
        lock(&self.placed).of(partition)
    }

    /// Where a partition lies or shall lie; `None` when that directory has failed: it is never begun anew elsewhere, since
    /// an empty log must not pass for the one that is lost. A recorded directory that is not among these at all belonged
    /// to a disk that was replaced, if all that are configured work.
    pub fn place(&self, partition: TopicPartition, recorded: Option<DirectoryId>) -> Option<DirectoryId> {
        let mut placed = lock(&self.placed);
        if let Some(known) = placed.of(partition) {
            return Some(known);
        }
        let failed = self.failed.borrow();
        let all_work = failed.is_empty() && self.all.len() == self.configured;
        let wanted = match recorded {
            Some(recorded) if self.all.contains_key(&recorded) => {
                (!failed.contains(&recorded)).then_some(recorded)?
            }
            Some(_) if !all_work => return None,
            Some(_) | None => {
                *self.all.keys().filter(|id| !failed.contains(id)).min_by_key(|id| placed.load(**id))?
            }
        };
        placed.insert(partition, wanted);
        Some(wanted)
    }

    /// Opens a partition's log in its directory, which is created if need be.
    ///
    /// # Errors
    /// [`OpenLogError`].
    pub fn open_log(
        &self,
        id: DirectoryId,
        partition: TopicPartition,
        topic_name: &str,
        (config, scan): (LogConfig, Scan),
        now_ms: i64,
    ) -> Result<Log, OpenLogError> {
        let directory = self.get(id);
        let frames = lock(&self.frames).remove(&partition).unwrap_or_default();
        if let Some(what) = self.damage_mark(id, partition)? {
            self.keep_frames(id, partition, &frames)?;
            return Err(OpenLogError::Damaged(what));
        }
        let dir = lock(&directory.handle).create_partition(partition)?;
        let place = LogPlace {
            files: self.files.clone(),
            dir,
            partition,
            topic_name: topic_name.to_owned(),
            tail_budget: self.tails.clone(),
        };
        let input = RecoveryInput {
            recovery_point: lock(&directory.points).of(partition),
            frames: frames.clone(),
            clean: directory.clean.is_some(),
            scan,
            now_ms,
        };
        let opened = Log::open(place, config, input);
        let opened = opened.map_err(OpenLogError::from);
        if let Err(OpenLogError::Damaged(_) | OpenLogError::Newer(_)) = &opened {
            self.keep_frames(id, partition, &frames)?;
        }
        let log = opened?;
        // First: once the journal does not say any more that it was deleted, what that claims would be missed.
        self.note_claim(id, partition, &log)?;
        if let Some(RecoveredBody::Delete | RecoveredBody::Empty) = frames.last().map(|frame| &frame.body) {
            self.tell_journal_of_beginning(partition, id, log.log_start())?;
        }
        Ok(log)
    }

    /// A log that a crash left in the midst of its deletion is empty, and its recovery point on disk still that of before:
    /// once it grows again, the next start would miss what that claims. And one that has nothing to sync never says how far it
    /// is: where the points were lost, nobody would ever know all of them again.
    fn note_claim(&self, id: DirectoryId, partition: TopicPartition, log: &Log) -> std::io::Result<()> {
        let (directory, point) = (self.get(id), log.recovery_point());
        let mut points = lock(&directory.points);
        let points = &mut *points;
        match points.known.get_mut(&partition) {
            Some(claim) if *claim > point && !seeded(SeededBug::BelievesOldClaims) => *claim = point,
            None if points.source == Source::Lost && log.log_end() == Offset::ZERO => {
                points.known.insert(partition, point);
            }
            Some(_) | None => return Ok(()),
        }
        if points.source == Source::Lost {
            return Ok(());
        }
        points.write(&*directory.storage, &directory.path)
    }

    fn get(&self, id: DirectoryId) -> &Directory {
        self.all.get(&id).expect("partitions are placed in directories that exist")
    }

    /// The journal of a directory; `None` when the directory failed or is closed.
    pub fn journal(&self, id: DirectoryId) -> Option<Arc<Journal>> {
        if self.failed.borrow().contains(&id) {
            return None;
        }
        lock(&self.get(id).journal).clone()
    }

    /// Whether there is room for more records. Looks at the disk a few times a second.
    pub fn has_room(&self, id: DirectoryId) -> bool {
        let directory = self.get(id);
        let mut space = lock(&directory.space);
        let free = match *space {
            Some((looked, free)) if looked.elapsed() < SPACE_FRESH => free,
            _ => {
                // A disk that can't even tell is found out by the next write.
                let free = rustix::fs::statvfs(&directory.path)
                    .map_or(u64::MAX, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
                *space = Some((Instant::now(), free));
                free
            }
        };
        free >= self.min_free_bytes
    }

    /// What the journal has synced of the partitions, up to where, that `pick` takes now; the others stay until they are.
    pub fn take_synced(
        &self,
        mut pick: impl FnMut(TopicPartition, Offset) -> bool,
    ) -> Vec<(TopicPartition, Offset)> {
        let mut taken = Vec::new();
        for directory in self.all.values() {
            let mut ends = lock(&directory.synced.ends);
            taken.extend(ends.extract_if(.., |partition, end| pick(*partition, *end)));
        }
        taken
    }

    /// A log is cut: what was synced before says nothing about what is appended from now on.
    pub fn forget_synced(&self, partition: TopicPartition) {
        for directory in self.all.values() {
            lock(&directory.synced.ends).remove(&partition);
        }
    }

    /// Notes recovery points and makes them durable. Gives those that are now, for [`Log::recovery_point_saved`].
    pub fn save_points(
        &self,
        points: &[(DirectoryId, TopicPartition, Offset)],
    ) -> BTreeMap<TopicPartition, Offset> {
        let mut durable = BTreeMap::new();
        let ids: BTreeSet<DirectoryId> = points.iter().map(|(id, ..)| *id).collect();
        for id in ids {
            let directory = self.get(id);
            let mut saved = lock(&directory.points);
            for (_, partition, point) in points.iter().filter(|(of, ..)| *of == id) {
                saved.known.insert(*partition, *point);
            }
            if saved.source == Source::Lost {
                // A file that lacks a log says that nothing of it was ever synced: the next start would take damage in it
                // for a torn end. So none is written before all of them are known again.
                let known = |logs: &Vec<TopicPartition>| logs.iter().all(|log| saved.known.contains_key(log));
                if !lock(&directory.handle).partitions().as_ref().is_ok_and(known) {
                    continue;
                }
                saved.source = Source::Read;
            }
            if let Err(error) = saved.write(&*directory.storage, &directory.path) {
                // Without it the next start reads more than it had to, no worse.
                tracing::warn!(directory = %directory.path.display(), %error, "cannot save recovery points");
                continue;
            }
            // The last one of each counts.
            let own = points.iter().filter(|(of, ..)| *of == id);
            durable.extend(own.map(|(_, partition, point)| (*partition, *point)));
        }
        durable
    }

    /// All recovered frames were applied, and synced or left to the journal ([`Self::secure`]).
    pub fn replay_done(&self) {
        lock(&self.frames).clear();
        for directory in self.all.values() {
            if let Some(journal) = &*lock(&directory.journal) {
                journal.replay_done();
            }
        }
    }

    /// Counters of the logs' open files.
    pub fn file_metrics(&self) -> FilePoolMetrics {
        self.files.metrics()
    }

    /// Counters of all journals.
    pub fn journal_metrics(&self) -> Vec<(DirectoryId, JournalMetricsSnapshot)> {
        let of = |(id, directory): (&DirectoryId, &Directory)| {
            lock(&directory.journal).as_ref().map(|journal| (*id, journal.metrics()))
        };
        self.all.iter().filter_map(of).collect()
    }

    /// Closes the journals and leaves the proof of a clean end; all logs are closed by now.
    pub fn close(&self, epoch: Option<BrokerEpoch>) {
        for (id, directory) in &self.all {
            let Some(journal) = lock(&directory.journal).take() else { continue };
            let Some(journal) = Arc::into_inner(journal) else {
                tracing::warn!(directory = %directory.path.display(), "the journal is still in use: no clean end");
                continue;
            };
            if let Err(error) = journal.close() {
                tracing::error!(%error, "the journal did not close");
                continue;
            }
            let is_well = !self.failed.borrow().contains(id);
            if let Some(epoch) = epoch.filter(|_| is_well)
                && let Err(error) = lock(&directory.handle).mark_clean(epoch)
            {
                tracing::warn!(%error, "cannot leave the mark of a clean end");
            }
        }
    }
}

#[cfg(test)]
mod tests;
