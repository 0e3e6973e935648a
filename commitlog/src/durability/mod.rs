//! The journal of a log directory: makes what many partitions appended durable by one write and one sync.
//!
//! ```text
//! submit ──▶ queue ──▶ committer: one group = one write + one sync ──▶ done, in the order of submission
//!                          │ full file           ▲ empty file, room in the current one
//!                          ▼                     │
//!                       syncer: the segments     preparer
//!                       that its groups touched
//! ```
//!
//! Rules that hold for its users:
//! - Bytes are in the segment (a buffered write) before they are submitted; the segment's name is synced by then.
//! - One partition's entries are submitted in order, by its one writer.
//! - A log is cut or deleted only while none of its submissions is under way; see [`EntryBody::Truncate`] and
//!   [`EntryBody::Delete`].
//! - After a restart every recovered frame is applied, in order, whatever the recovery point says: an append whose
//!   bytes the segment has already is written again in place (the cache may show what the disk lost), any other cuts
//!   the log at its base offset first. What was touched is synced, or left to [`Journal::sync_later`], then
//!   [`Journal::replay_done`] is called: until then no file is used again.
//! - A log that stops submitting its appends (`flush.messages` above 1) submits an [`EntryBody::Sync`] first.
//!
//! The first failed write or sync is final (a second sync would lie): everything waiting and everything later gets
//! that error. Only room that cannot be had is waited for. Knows nothing of logs, replication or configuration files.

mod commit;
mod dirty;
mod entry;
mod error;
mod file;
mod format;
mod group;
mod metrics;
mod options;
mod preparer;
mod queue;
mod recovery;
mod shared;
mod syncer;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use vltava_model::{Offset, TopicPartition};
use vltava_threads::queue::{self as channel, Sender};
use vltava_threads::{Bell, JoinHandle, lock};

use commit::{Committer, Submission};
use error::failed;
use queue::Admission;
use shared::{Growth, Replay, Room, Shared, Stage, SyncRequest, Want};
use vltava_storage::{Storage, StorageFile};

pub use entry::{EntryBody, JournalEntry, RecoveredBody, RecoveredFrame};
pub use error::{Done, JournalError, RecoverError, Refused, SubmitError};
pub use metrics::{JournalMetrics, JournalMetricsSnapshot};
pub use options::{JournalObserver, JournalOptions};
pub use queue::Reservation;
pub use recovery::RecoveredJournal;

/// A running journal. Dropping it finishes what was submitted; [`Journal::close`] empties it besides.
pub struct Journal {
    shared: Arc<Shared>,
    admission: Arc<Admission>,
    /// `None` once it is being closed.
    queue: Option<Sender<Submission>>,
    committer: Option<JoinHandle>,
    keepers: Vec<JoinHandle>,
}

impl Journal {
    /// Reads the journal in `dir`, without changing anything.
    ///
    /// # Errors
    /// [`RecoverError::Corrupt`] when something that was acknowledged cannot be read.
    pub fn recover(storage: &dyn Storage, dir: &Path) -> Result<RecoveredJournal, RecoverError> {
        recovery::recover(storage, dir)
    }

    /// Goes on where `recovered` ended. The frames in it are the caller's to apply; when none was found, or all were
    /// applied before, the next call is [`Self::replay_done`].
    ///
    /// # Errors
    /// What the disk says.
    ///
    /// # Panics
    /// When `options` contradict each other.
    pub fn start(
        storage: Arc<dyn Storage>,
        mut recovered: RecoveredJournal,
        options: JournalOptions,
        observer: Arc<dyn JournalObserver>,
    ) -> Result<Self, RecoverError> {
        options.check();
        let resumed = recovery::resume(&storage, &mut recovered, options.first_bytes, options.fresh_salt)?;
        let full =
            resumed.full.into_iter().map(|file| shared::SealedFile::recovered(file, recovered.next_sequence));
        let sealed: VecDeque<_> = full.map(Arc::new).collect();
        let room = Room {
            files: sealed.len() + 1 + resumed.spares.len(),
            sealed,
            spares: resumed.spares.into(),
            spare: Want::No,
            growth: Growth::Enough,
            replay: Replay::Pending,
            stage: Stage::Running,
            syncs: VecDeque::new(),
        };
        let salt = resumed.current.header.salt;
        let admission = Arc::new(Admission::new(options.queue_max, options.queue_bytes_max));
        let shared = Arc::new(Shared::new(
            storage,
            recovered.dir,
            options,
            salt,
            observer,
            resumed.next_generation,
            room,
        ));
        // Bounded by the admission, which counts bytes as well.
        let (queue, receiver) = channel::unbounded(&Bell::new());
        let committer = Committer::new(
            Arc::clone(&shared),
            receiver,
            resumed.current,
            resumed.pos,
            recovered.next_sequence,
        );
        let (preparing, syncing) = (Arc::clone(&shared), Arc::clone(&shared));
        let mut journal =
            Self { shared, admission, queue: Some(queue), committer: None, keepers: Vec::new() };
        journal.keepers.push(journal.spawn("journal-prepare", move || preparer::run(&preparing))?);
        journal.keepers.push(journal.spawn("journal-sync", move || syncer::run(&syncing))?);
        journal.committer = Some(journal.spawn("journal-commit", move || committer.run())?);
        Ok(journal)
    }

    fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle, JournalError> {
        vltava_threads::spawn(name, run).map_err(failed("starting a thread for", &self.shared.dir))
    }

    /// Syncs at leisure, once the replay is done, what a log was found to hold of the recovered frames, all of it up to `end`
    /// and in `segments`: until then the frames are what keeps it, and no file that may hold them is used again. To be called
    /// before anything of the partition is submitted.
    pub fn sync_later(&self, partition: TopicPartition, end: Offset, segments: Vec<Arc<dyn StorageFile>>) {
        lock(&self.shared.replayed).keep(partition, end, segments);
    }

    /// All recovered frames are in segments that were synced, or left to [`Self::sync_later`]: when those are, the files that
    /// hold the frames may be used again.
    pub fn replay_done(&self) {
        self.shared.change(|room| room.replay = Replay::Done);
    }

    /// Takes a place in the queue for entries with `bytes` bytes of batches, so that a later
    /// [`Self::submit_reserved`] cannot be refused for want of it: ask before appending, then nothing has to be undone.
    ///
    /// # Errors
    /// [`SubmitError::Full`], or [`SubmitError::Failed`].
    pub fn reserve(&self, bytes: u64) -> Result<Reservation, SubmitError> {
        self.shared.check()?;
        self.admission.reserve(bytes).ok_or(SubmitError::Full)
    }

    /// Hands over entries; `done` is called when all of them are on stable storage, or none can be trusted to be.
    /// Submissions are done in the order in which they were taken.
    ///
    /// # Errors
    /// [`Refused`] with all that was handed over; `done` is then not called.
    pub fn submit(&self, entries: Vec<JournalEntry>, done: Done) -> Result<(), Refused> {
        let bytes = entries.iter().map(|entry| entry.body.payload().len() as u64).sum();
        match self.reserve(bytes) {
            Ok(reservation) => self.submit_reserved(reservation, entries, done),
            Err(error) => Err(Refused { error, entries, done }),
        }
    }

    /// As [`Self::submit`], in a place taken before, whose size may be an estimate.
    ///
    /// # Errors
    /// As [`Self::submit`], but never [`SubmitError::Full`].
    pub fn submit_reserved(
        &self,
        reservation: Reservation,
        entries: Vec<JournalEntry>,
        done: Done,
    ) -> Result<(), Refused> {
        let max = self.shared.options.group_frames_max();
        if entries.len() > max {
            let error = SubmitError::TooManyEntries { entries: entries.len(), max };
            return Err(Refused { error, entries, done });
        }
        if let Err(error) = self.shared.check() {
            return Err(Refused { error: error.into(), entries, done });
        }
        let queue = self.queue.as_ref().expect("the queue is there until the journal is closed or dropped");
        let sent = queue.send(Submission { entries, done, reservation });
        assert!(sent.is_ok(), "the committer works until the queue is gone");
        Ok(())
    }

    /// Syncs files that the journal knows nothing of, at leisure, on the thread that syncs segments; `done` is called
    /// when all are on stable storage. For topics whose appends are not synced one by one.
    ///
    /// # Errors
    /// [`SubmitError::Full`], or [`SubmitError::Failed`]; `done` is then not called.
    pub fn sync_files(&self, files: Vec<Arc<dyn StorageFile>>, done: Done) -> Result<(), SubmitError> {
        self.shared.check()?;
        self.shared.change(|room| {
            if room.syncs.len() >= self.shared.options.queue_max {
                return Err(SubmitError::Full);
            }
            room.syncs.push_back(SyncRequest { files, done });
            Ok(())
        })
    }

    /// The counters.
    pub fn metrics(&self) -> JournalMetricsSnapshot {
        self.shared.metrics.snapshot()
    }

    /// The failure, if there was one.
    pub fn failure(&self) -> Option<JournalError> {
        self.shared.check().err()
    }

    /// Finishes what was submitted, syncs every segment, and leaves a journal with nothing to recover. Before
    /// [`Self::replay_done`] it only finishes what was submitted.
    ///
    /// # Errors
    /// The failure, if there was one; what was acknowledged before it is in the journal.
    pub fn close(mut self) -> Result<(), JournalError> {
        self.end(Stage::Emptying);
        self.shared.check()
    }

    /// Ends all threads, the committer first: it may need the others.
    fn end(&mut self, last: Stage) {
        if last == Stage::Emptying {
            self.shared.change(|room| room.stage = Stage::Closing);
        }
        self.queue = None;
        join(self.committer.take());
        self.shared.change(|room| room.stage = last);
        self.keepers.drain(..).for_each(|keeper| join(Some(keeper)));
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if self.queue.is_some() {
            self.end(Stage::Stopping);
        }
    }
}

/// Waits for a thread, unless it is this one: a callback may hold the last handle.
fn join(thread: Option<JoinHandle>) {
    if let Some(thread) = thread
        && !thread.is_current()
        && thread.join().is_err()
    {
        tracing::error!("a thread of the journal panicked");
    }
}

#[cfg(test)]
mod tests;
