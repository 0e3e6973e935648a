//! A broker's process as far as its disk sees it: starts on a log directory, opens its logs, ends.
//!
//! Directories and recovery points are the broker's own; what its shards do with logs, this does in the same order. Knows
//! nothing of what should be found.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

use vltava_broker::directories::{Directories, Journaling, OpenInput, OpenLogError};
use vltava_commitlog::log::{Log, LogConfig, Scan};
use vltava_model::batch::Batch;
use vltava_model::epochs::LeaderEpochs;
use vltava_model::{BrokerEpoch, ClusterId, DirectoryId, NodeId, Offset, TopicPartition};
use vltava_storage::{FilePool, MemoryStorage, Storage};

use super::disk::BusyDisk;
use super::history::Content;
use crate::dice::Dice;
use crate::threads;

/// Where the log directory is.
pub const DIR: &str = "/data";

/// The time, in milliseconds since 1970: records say when they were made, and here nothing else does.
pub const NOW_MS: i64 = 5;

/// More files than any process here has: which of them are open is not what is tried.
const FILES_MAX: usize = 100_000;

const CLUSTER: ClusterId = ClusterId::new(5);

/// How a broker is configured.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// The size of a journal file, in bytes.
    pub journal_file_bytes: u64,
    /// `segment.bytes`.
    pub segment_bytes: u32,
}

impl Setup {
    /// One in which a few dozen calls see every corner.
    pub fn of(dice: &mut Dice) -> Self {
        Self {
            journal_file_bytes: 8192 + 4096 * dice.roll(3),
            segment_bytes: [500, 900, 4000][dice.roll(3) as usize],
        }
    }

    /// The settings of every log.
    pub fn log_config(&self) -> LogConfig {
        LogConfig {
            segment_bytes: self.segment_bytes,
            index_interval_bytes: 150,
            retention_ms: None,
            tail_bytes_max: 600,
            ..LogConfig::default()
        }
    }
}

/// A disk with nothing on it.
pub fn empty_disk() -> MemoryStorage {
    MemoryStorage::new()
}

/// What metadata say of partitions.
#[derive(Clone, Debug, Default)]
pub struct Assigned {
    /// Those to be served.
    pub served: BTreeSet<TopicPartition>,
    /// Damaged ones that count for nothing any more: another has what they had.
    pub begun_anew: BTreeSet<TopicPartition>,
    /// The newest leader epoch in which a record was written that was deleted since, or may have been. It was committed, so
    /// that no leader has records of an older one behind it: nor does a log that begins behind it know it any more.
    pub deleted_in: BTreeMap<TopicPartition, u32>,
}

/// A started broker.
pub struct Process {
    /// The disk.
    pub storage: MemoryStorage,
    /// Its directories, of which there is one.
    pub directories: Arc<Directories>,
    /// The directory.
    pub directory: DirectoryId,
    /// The proof that the one before ended well.
    pub left_cleanly: Option<BrokerEpoch>,
    /// The logs.
    pub logs: BTreeMap<TopicPartition, Log>,
    /// Those that are not served, and why.
    pub refused: BTreeMap<TopicPartition, String>,
    /// What was there when it started.
    pub found: Vec<TopicPartition>,
    /// Recovery points that moved.
    pub points: Vec<(DirectoryId, TopicPartition, Offset)>,
    setup: Setup,
}

thread_local! {
    static HUSHED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `run`; a panic is a loss, whatever it was about, and is told as such.
pub fn unharmed<R>(run: impl FnOnce() -> R) -> Result<R, String> {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !HUSHED.get() {
                loud(info);
            }
        }));
    });
    HUSHED.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(run));
    HUSHED.set(false);
    outcome.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        format!("a panic: {}", text.unwrap_or_default())
    })
}

impl Process {
    /// Starts on what is on the disk, as far as to where clients are served. Chance among its threads goes on as it is.
    ///
    /// # Errors
    /// In words, when the whole directory cannot be used.
    pub fn start(storage: &MemoryStorage, setup: Setup, assigned: &Assigned) -> Result<Self, String> {
        let input = OpenInput {
            files: FilePool::new(Arc::new(BusyDisk(storage.clone())), FILES_MAX, threads::pause),
            paths: &[PathBuf::from(DIR)],
            node: NodeId::new(1),
            cluster: None,
            journal_file_bytes: setup.journal_file_bytes,
            min_free_bytes: 0,
        };
        let directories = Directories::open(&input).map_err(|error| error.to_string())?;
        directories.bind(CLUSTER)?;
        let directory = directories.working()[0];
        let mut process = Self {
            storage: storage.clone(),
            left_cleanly: directories.left_cleanly(),
            directories: Arc::new(directories),
            directory,
            logs: BTreeMap::new(),
            refused: BTreeMap::new(),
            found: partitions_on(storage),
            points: Vec::new(),
            setup,
        };
        for partition in &assigned.served {
            process.serve(*partition, assigned.begun_anew.contains(partition));
        }
        process.save_points();
        let is_stray = |found: &TopicPartition| !assigned.served.contains(found);
        let strays: Vec<_> = process.found.iter().copied().filter(is_stray).collect();
        process.delete(&strays);
        process.directories.replay_done();
        Ok(process)
    }

    /// Serves a partition, which is created if it is not there.
    pub fn serve(&mut self, partition: TopicPartition, may_begin_anew: bool) {
        let placed = self.directories.place(partition, Some(self.directory));
        assert_eq!(placed, Some(self.directory), "there is one directory, and it works");
        let opened = match self.open(partition) {
            Err(OpenLogError::Damaged(_)) if may_begin_anew => {
                let deleted = self.directories.begin_anew(self.directory, partition);
                deleted.map_err(|error| error.to_string()).and_then(|()| {
                    self.points.retain(|(_, of, _)| *of != partition);
                    self.open(partition).map_err(|error| error.to_string())
                })
            }
            opened => opened.map_err(|error| match error {
                OpenLogError::Damaged(what) => what,
                OpenLogError::Io(error) => format!("the directory goes offline: {error}"),
                newer => newer.to_string(),
            }),
        };
        match opened {
            Ok(log) => drop(self.logs.insert(partition, log)),
            Err(why) => drop(self.refused.insert(partition, why)),
        }
    }

    /// Opens a log and sees to it that all of it is on stable storage, as a shard does.
    fn open(&mut self, partition: TopicPartition) -> Result<Log, OpenLogError> {
        let config = (self.setup.log_config(), Scan::Needed);
        let mut log = self.directories.open_log(self.directory, partition, "topic", config, NOW_MS)?;
        if let Some(point) = self.directories.secure(self.directory, partition, &mut log, Journaling::Each)? {
            self.points.push((self.directory, partition, point));
        }
        Ok(log)
    }

    /// Makes recovery points durable.
    pub fn save_points(&mut self) {
        if self.points.is_empty() {
            return;
        }
        for (partition, point) in self.directories.save_points(&std::mem::take(&mut self.points)) {
            if let Some(log) = self.logs.get_mut(&partition) {
                log.recovery_point_saved(point).expect("the disk is whole");
            }
        }
    }

    /// Deletes partitions, of which nothing is under way.
    pub fn delete(&mut self, partitions: &[TopicPartition]) {
        self.points.retain(|(_, of, _)| !partitions.contains(of));
        for partition in partitions {
            drop(self.logs.remove(partition));
            self.directories.tell_journal_of_deletion(*partition, self.directory);
        }
        self.directories.delete(partitions);
    }

    /// Closes everything and leaves the proof of it.
    ///
    /// # Errors
    /// In words.
    pub fn close(mut self, epoch: BrokerEpoch) -> Result<(), String> {
        self.save_points();
        for (partition, log) in std::mem::take(&mut self.logs) {
            let point = log.close_clean().map_err(|error| error.to_string())?;
            self.points.push((self.directory, partition, point));
        }
        self.save_points();
        self.directories.close(Some(epoch));
        Ok(())
    }
}

/// The partitions that have a directory.
fn partitions_on(storage: &MemoryStorage) -> Vec<TopicPartition> {
    let names = storage.list(Path::new(DIR)).unwrap_or_default();
    let parsed = names.iter().filter_map(|name| {
        let (topic, index) = name.split_at_checked(32)?;
        let index = index.strip_prefix('-')?.parse().ok()?;
        Some(TopicPartition::new(topic.parse().ok()?, vltava_model::PartitionIndex::new(index)))
    });
    parsed.collect()
}

/// Why a log's content is not to be had.
#[derive(Clone, Debug)]
pub enum Unread {
    /// It says that it is damaged.
    Damaged(String),
    /// What it gives contradicts itself.
    Wrong(String),
}

/// Reads all of a log, every way there is, and holds the answers against each other: batches, epochs, producers, offsets,
/// timestamps.
pub fn audit(log: &Log) -> Result<Content, Unread> {
    let reader = log.reader();
    let (start, end) = (log.log_start(), log.log_end());
    let (mut next, mut batches) = (start, Vec::new());
    while next < end {
        let read = reader.read(next, 300, end).map_err(|error| Unread::Damaged(error.to_string()))?;
        if read.bytes.is_empty() || read.end <= next {
            return Err(Unread::Wrong(format!("nothing is read at {next} of {start}..{end}")));
        }
        let split = Batch::split(read.bytes, usize::MAX);
        batches.extend(split.map_err(|error| Unread::Wrong(format!("at {next}: {error}")))?);
        next = read.end;
    }
    let floor = batches.first().map_or(start, |first| first.header().base_offset).get();
    let content = Content { batches, start: start.get(), floor };
    super::checks::epochs(log, &content)?;
    super::checks::producers(log, &content)?;
    super::checks::lookups(log, &content)?;
    Ok(content)
}

/// What a scan of all batches says of epochs.
pub fn scanned_epochs(content: &Content) -> Option<LeaderEpochs> {
    let mut scanned = LeaderEpochs::new();
    for header in content.batches.iter().map(Batch::header) {
        scanned.assign(header.leader_epoch?, header.base_offset).ok()?;
    }
    scanned.advance_start(Offset::new(content.start));
    Some(scanned)
}
