//! What everybody may read of a partition without asking its shard: role, epoch, offsets, and a way to its bytes.
//!
//! Written by the owning shard only. Readers see a consistent snapshot of (role, epoch, log) and watermarks that only
//! rise within it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use vltava_commitlog::log::{LogReader, NewerFormat, ReadError};
use vltava_model::{ErrorCode, LeaderEpoch, NodeId, Offset, TopicPartition};

use crate::damages::Cause;

/// What this broker is to a partition.
#[derive(Clone)]
pub enum Standing {
    /// It leads.
    Leading {
        /// In this epoch.
        epoch: LeaderEpoch,
        /// Where the log ended when it was elected. Until the watermark reaches it, the end that clients may see is not
        /// known.
        epoch_start: Offset,
        /// The way to the bytes.
        reader: LogReader,
    },
    /// It follows.
    Following {
        /// In this epoch.
        epoch: LeaderEpoch,
        /// Whom.
        leader: Option<NodeId>,
        /// The way to the bytes.
        reader: LogReader,
    },
    /// Its directory failed, or it is damaged or of a later release.
    Offline,
}

/// Tells the shard of what a reader found that keeps the replica from being served.
pub type DamageHook = Box<dyn Fn(TopicPartition, LogReader, Cause, String) + Send + Sync>;

/// What Linux says of a sector that can't be read.
const EIO: i32 = 5;

/// Whether a file, or a part of it, is not there.
pub fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof)
}

/// The shared part of a partition.
pub struct PartitionShared {
    partition: TopicPartition,
    topic_name: Arc<str>,
    standing: ArcSwap<Standing>,
    log_start: AtomicU64,
    high_watermark: AtomicU64,
    log_end: AtomicU64,
    durable_end: AtomicU64,
    moved: Notify,
    on_damage: DamageHook,
}

impl PartitionShared {
    /// A partition that is being opened.
    pub fn new(partition: TopicPartition, topic_name: Arc<str>, on_damage: DamageHook) -> Self {
        Self {
            partition,
            topic_name,
            standing: ArcSwap::from_pointee(Standing::Offline),
            log_start: AtomicU64::new(0),
            high_watermark: AtomicU64::new(0),
            log_end: AtomicU64::new(0),
            durable_end: AtomicU64::new(0),
            moved: Notify::new(),
            on_damage,
        }
    }

    /// Which partition.
    pub fn partition(&self) -> TopicPartition {
        self.partition
    }

    /// The topic's name.
    pub fn topic_name(&self) -> &Arc<str> {
        &self.topic_name
    }

    /// What this broker is to it.
    pub fn standing(&self) -> Arc<Standing> {
        self.standing.load_full()
    }

    /// The epoch in which this broker leads, if it does.
    pub fn leader_epoch(&self) -> Option<LeaderEpoch> {
        match **self.standing.load() {
            Standing::Leading { epoch, .. } => Some(epoch),
            Standing::Following { .. } | Standing::Offline => None,
        }
    }

    /// The first offset that can be read.
    pub fn log_start(&self) -> Offset {
        Offset::new(self.log_start.load(Ordering::Acquire))
    }

    /// The first offset that is not committed.
    pub fn high_watermark(&self) -> Offset {
        Offset::new(self.high_watermark.load(Ordering::Acquire))
    }

    /// Where the log ends.
    pub fn log_end(&self) -> Offset {
        Offset::new(self.log_end.load(Ordering::Acquire))
    }

    /// Up to where the log is on stable storage.
    pub fn durable_end(&self) -> Offset {
        Offset::new(self.durable_end.load(Ordering::Acquire))
    }

    /// The next change of standing or watermark. Take it before looking, then await it.
    pub fn moved(&self) -> tokio::sync::futures::Notified<'_> {
        self.moved.notified()
    }

    /// A reader met damage, or could not read: the shard decides what that means. What can't be read at all is as good
    /// as damaged; but that this process may open no more files, for instance, says nothing about the log.
    pub fn report_read_error(&self, reader: &LogReader, error: &ReadError) {
        let cause = match error {
            ReadError::Corrupt(_) => Some(Cause::Damage),
            ReadError::Io(error) if NewerFormat::of(error).is_some() => Some(Cause::NewerFormat),
            ReadError::Io(error) if is_missing(error) || error.raw_os_error() == Some(EIO) => {
                Some(Cause::Damage)
            }
            ReadError::Io(_) | ReadError::OutOfRange { .. } => None,
        };
        match cause {
            Some(cause) => (self.on_damage)(self.partition, reader.clone(), cause, error.to_string()),
            None => {
                tracing::error!(partition = %self.partition, topic = %self.topic_name, %error, "cannot read the log");
            }
        }
    }

    /// For the shard: a new standing.
    pub fn set_standing(&self, standing: Standing) {
        self.standing.store(Arc::new(standing));
        self.moved.notify_waiters();
    }

    /// For the shard: offsets after a step. Wakes readers when the watermark or the log start moved.
    pub fn set_offsets(&self, log_start: Offset, high_watermark: Offset, log_end: Offset) {
        self.log_end.store(log_end.get(), Ordering::Release);
        let started = self.log_start.swap(log_start.get(), Ordering::AcqRel) != log_start.get();
        let committed =
            self.high_watermark.swap(high_watermark.get(), Ordering::AcqRel) != high_watermark.get();
        if started || committed {
            self.moved.notify_waiters();
        }
    }

    /// For the shard: what is on stable storage after a step.
    pub fn set_durable_end(&self, durable_end: Offset) {
        self.durable_end.store(durable_end.get(), Ordering::Release);
    }

    /// Access as a leader, in the epoch that the client believes in.
    ///
    /// # Errors
    /// The code that tells the client whom to ask, or to wait.
    pub fn lead(&self, expected: Option<LeaderEpoch>) -> Result<(LeaderEpoch, Offset, LogReader), ErrorCode> {
        match &**self.standing.load() {
            Standing::Leading { epoch, epoch_start, reader } => match expected {
                Some(asked) if asked < *epoch => Err(ErrorCode::FencedLeaderEpoch),
                Some(asked) if asked > *epoch => Err(ErrorCode::UnknownLeaderEpoch),
                _ => Ok((*epoch, *epoch_start, reader.clone())),
            },
            Standing::Following { .. } => Err(ErrorCode::NotLeaderOrFollower),
            Standing::Offline => Err(ErrorCode::KafkaStorageError),
        }
    }
}
