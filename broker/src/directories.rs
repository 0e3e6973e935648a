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
    EntryBody, Journal, JournalEntry, JournalError, JournalMetricsSnapshot, JournalObserver, JournalOptions,
    RecoverError, RecoveredBody, RecoveredFrame, SubmitError,
};
use vltava_commitlog::log::{
    Log, LogConfig, LogPlace, NewerFormat, RecoveryError, RecoveryInput, Scan, TailBudget, keep_frames,
};
use vltava_metadata::Image;
use vltava_model::seeded::{SeededBug, seeded};
use vltava_model::{BrokerEpoch, ClusterId, DirectoryId, LeaderEpoch, NodeId, Offset, TopicPartition};
use vltava_storage::{FilePool, FilePoolMetrics, Storage};
use vltava_threads::{Bell, lock, queue};

mod opened;
mod placed;
mod points;

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

/// Why a damaged replica was not deleted. Nothing is lost by that: it may be tried again.
#[derive(Debug, thiserror::Error)]
pub enum BeginAnewError {
    /// The journal takes nothing now, or has failed.
    #[error("the journal is not to be had")]
    Journal,
    /// The disk refused.
    #[error(transparent)]
    Io(#[from] std::io::Error),
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

    /// A log that was deleted is there again: a replay must not delete what it gets from now on, all of which the journal may
    /// never see. Not waited for: before the replay is done the journal may have no room.
    fn tell_journal_of_beginning(
        &self,
        partition: TopicPartition,
        id: DirectoryId,
        start: Offset,
    ) -> std::io::Result<()> {
        let journal =
            self.journal(id).ok_or_else(|| std::io::Error::other("the journal is not to be had"))?;
        let body = EntryBody::StartOffset { to: start };
        let entry = JournalEntry { partition, leader_epoch: LeaderEpoch::ZERO, body };
        // A failure takes the directory offline by itself.
        let told = journal.submit(vec![entry], Box::new(|_| ()));
        told.map_err(|refused| std::io::Error::other(refused.error))
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

    /// Keeps what the journal has of a replica that can't be opened, for when it can: the journal forgets it. Where that can't be
    /// kept, the recovery point says that it has to be there, so that its absence will be noticed.
    fn keep_frames(
        &self,
        id: DirectoryId,
        partition: TopicPartition,
        frames: &[RecoveredFrame],
    ) -> std::io::Result<()> {
        use std::io::ErrorKind::{InvalidData, OutOfMemory, StorageFull};
        if frames.is_empty() {
            return Ok(());
        }
        let directory = self.get(id);
        let dir = lock(&directory.handle).partition_path(partition);
        match keep_frames(&*directory.storage, &dir, frames) {
            Err(error) if matches!(error.kind(), InvalidData | OutOfMemory | StorageFull) => {
                tracing::warn!(%partition, %error, "cannot keep what the journal has of a damaged replica");
                let known = lock(&directory.points).known.get(&partition).copied();
                let end = end_of(frames).filter(|end| Some(*end) > known);
                self.save_points(&end.map(|end| (id, partition, end)).into_iter().collect::<Vec<_>>());
                Ok(())
            }
            kept => kept,
        }
    }

    /// What a partition was marked with as damaged, if it was.
    ///
    /// # Errors
    /// What the disk says.
    pub fn damage_mark(&self, id: DirectoryId, partition: TopicPartition) -> std::io::Result<Option<String>> {
        lock(&self.get(id).handle).damage_of(partition)
    }

    /// Where that mark is.
    pub fn damage_mark_path(&self, id: DirectoryId, partition: TopicPartition) -> PathBuf {
        lock(&self.get(id).handle).damage_mark(partition)
    }

    /// Marks a partition as damaged, durably.
    ///
    /// # Errors
    /// What the disk says.
    pub fn mark_damaged(
        &self,
        id: DirectoryId,
        partition: TopicPartition,
        what: &str,
    ) -> std::io::Result<()> {
        lock(&self.get(id).handle).mark_damaged(partition, what)
    }

    /// Deletes a damaged replica with all that the journal and the recovery points say of it, durably, so that it can be
    /// opened empty. Nothing of it may be under way.
    ///
    /// # Errors
    /// [`BeginAnewError`].
    pub fn begin_anew(&self, id: DirectoryId, partition: TopicPartition) -> Result<(), BeginAnewError> {
        let journal = self.journal(id).ok_or(BeginAnewError::Journal)?;
        tell_of_deletion(&journal, partition).map_err(|_| BeginAnewError::Journal)?;
        lock(&self.frames).remove(&partition);
        self.forget_synced(partition);
        let directory = self.get(id);
        lock(&directory.handle).delete_partition(partition)?;
        // A claim about the log that is gone would make the next start miss what it was about.
        let mut points = lock(&directory.points);
        if let Some(claim) = points.known.remove(&partition)
            && let Err(error) = points.write(&*directory.storage, &directory.path)
        {
            // The file still makes it.
            points.known.insert(partition, claim);
            return Err(error.into());
        }
        drop(points);
        Ok(self.tell_journal_of_beginning(partition, id, Offset::ZERO)?)
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

    /// Deletes partitions' directories. The journal was told.
    pub fn delete(&self, partitions: &[TopicPartition]) {
        let mut doomed: BTreeMap<DirectoryId, Vec<TopicPartition>> = BTreeMap::new();
        for partition in partitions {
            if let Some(id) = lock(&self.placed).remove(*partition) {
                doomed.entry(id).or_default().push(*partition);
            }
        }
        for (id, partitions) in doomed {
            self.forget_claims(id, &partitions);
            for partition in partitions {
                let deleted = lock(&self.get(id).handle).delete_partition(partition);
                if let Err(error) = deleted {
                    tracing::error!(%partition, %error, "cannot delete a partition's directory");
                    self.fail(id, &error.to_string());
                }
            }
        }
    }

    /// Makes the recovery points say nothing of partitions any more, durably: what they claim of one that is deleted would be
    /// missed in a replica that is placed here later, which is empty.
    fn forget_claims(&self, id: DirectoryId, partitions: &[TopicPartition]) {
        let directory = self.get(id);
        let mut points = lock(&directory.points);
        let claims = partitions.iter().filter(|partition| points.known.remove(partition).is_some()).count();
        if claims == 0 || points.source == Source::Lost {
            return;
        }
        if let Err(error) = points.write(&*directory.storage, &directory.path) {
            tracing::warn!(directory = %directory.path.display(), %error, "cannot forget recovery points: if such a replica comes back now, it counts as damaged");
        }
    }

    /// Deletes what lies here but is not this broker's (any more) by the metadata that it has caught up with.
    pub async fn remove_strays(self: &Arc<Self>, image: &Image, node: NodeId) {
        let is_stray = |partition: &TopicPartition| {
            !image.partition(*partition).is_some_and(|known| known.has_replica(node))
        };
        let strays: Vec<_> = lock(&self.placed).iter().filter(|(partition, _)| is_stray(partition)).collect();
        // Claims that outlived their partitions.
        let claims = |directory: &Directory| -> Vec<_> {
            lock(&directory.points).known.keys().copied().filter(is_stray).collect()
        };
        let claims: Vec<_> = self.all.iter().map(|(id, directory)| (*id, claims(directory))).collect();
        if strays.is_empty() && claims.iter().all(|(_, claims)| claims.is_empty()) {
            return;
        }
        tracing::info!(
            partitions = strays.len(),
            "deleting partitions that were deleted or moved while this broker was away"
        );
        let this = self.clone();
        let deleting = vltava_threads::offload_waiting(move || {
            for (partition, id) in &strays {
                this.tell_journal_of_deletion(*partition, *id);
            }
            claims.iter().for_each(|(id, claims)| this.forget_claims(*id, claims));
            this.delete(&strays.iter().map(|(partition, _)| *partition).collect::<Vec<_>>());
        });
        if let Err(error) = deleting.await {
            std::panic::resume_unwind(error.into_panic());
        }
    }

    /// A replay must not bring a deleted partition back.
    pub fn tell_journal_of_deletion(&self, partition: TopicPartition, id: DirectoryId) {
        let Some(journal) = self.journal(id) else { return };
        // A failed journal takes its directory offline by itself.
        if let Err(error) = tell_of_deletion(&journal, partition) {
            tracing::warn!(%partition, %error, "the journal was not told of a deletion");
        }
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

/// What a journal that can't be read held is not known: no log in its directory can be trusted to have everything. The marks
/// come first, so that a crash can't make such a log look whole.
fn give_up_journal(handle: &LogDirectory, error: &RecoverError) -> std::io::Result<()> {
    let partitions = handle.partitions()?;
    tracing::error!(directory = %handle.path().display(), %error, partitions = partitions.len(), "the journal is damaged: what only it held is missing in the directory's replicas, which count as damaged");
    for partition in partitions {
        handle
            .mark_damaged(partition, &format!("it may lack records that only the journal held: {error}"))?;
    }
    handle.set_journal_aside()
}

/// Why a journal does not say of a partition that it is deleted.
#[derive(Debug, thiserror::Error)]
enum Untold {
    /// It takes nothing now.
    #[error(transparent)]
    Refused(#[from] SubmitError),
    /// It took it, and failed.
    #[error("the journal has failed")]
    Failed,
}

/// Tells a journal that a partition is deleted, and waits until that is durable.
fn tell_of_deletion(journal: &Journal, partition: TopicPartition) -> Result<(), Untold> {
    let entry = JournalEntry { partition, leader_epoch: LeaderEpoch::ZERO, body: EntryBody::Delete };
    let (done, finished) = queue::bounded(&Bell::new(), 1);
    let told = journal.submit(vec![entry], Box::new(move |result| drop(done.send(result))));
    told.map_err(|refused| refused.error)?;
    match finished.recv() {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Untold::Failed),
    }
}

/// Up to where a log reaches by what the journal holds of it.
fn end_of(frames: &[RecoveredFrame]) -> Option<Offset> {
    let mut reached = None;
    for frame in frames {
        reached = match frame.body {
            RecoveredBody::Append { end_offset, .. } | RecoveredBody::Synced { end_offset } => {
                Some(end_offset)
            }
            RecoveredBody::Truncate { to } => reached.map(|end: Offset| end.min(to)),
            RecoveredBody::StartOffset { .. } => reached,
            RecoveredBody::Delete | RecoveredBody::Empty => None,
        };
    }
    reached
}

#[cfg(test)]
mod tests;
