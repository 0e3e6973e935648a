//! openraft's log storage on a `MetaLog`.
//!
//! One thread owns the log. Vote, entries, truncation and purge reach it in the order in which openraft issued them,
//! and openraft hears of an append only when it is durable. Entries can be read from the moment `append` returns.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, ErrorSubject, ErrorVerb, LogState, OptionalSend, RaftLogReader, StorageIOError};
use tokio::sync::mpsc::Sender;
use tokio::sync::{oneshot, watch};

use crate::codec::{decode_entry, encode_entry};
use crate::failure::FailureReporter;
use crate::meta_log::{LogBounds, LogEntry, LogError, MetaLog};
use crate::owner::{self, Request, SharedError};
use crate::tail::Tail;
use crate::types::{RaftEntry, RaftLogId, RaftStorageError, RaftVote, TypeConfig};

/// How long a purge waits for the snapshot that must cover it: installing one may take a while.
const PURGE_PATIENCE: Duration = Duration::from_secs(120);

/// How much the store keeps in memory and gives out at once.
#[derive(Clone, Copy, Debug)]
pub struct LogStoreOptions {
    /// Newest entries kept in memory, in bytes; entries that are not durable yet are kept beyond it.
    pub tail_bytes: usize,
    /// What one read for a follower holds, in bytes, unless a single entry is larger.
    pub replication_bytes: usize,
}

impl Default for LogStoreOptions {
    fn default() -> Self {
        Self { tail_bytes: 32 << 20, replication_bytes: 1 << 20 }
    }
}

/// openraft's view of the log; also its reader. Clones share the log.
#[derive(Clone, Debug)]
pub struct LogStore {
    requests: Sender<Request>,
    tail: Arc<RwLock<Tail>>,
    /// The last index that a durable snapshot covers; nothing beyond it is purged.
    snapshotted: watch::Receiver<Option<u64>>,
    failure: FailureReporter,
    options: LogStoreOptions,
}

/// Waits for the log to be closed after the last [`LogStore`] is dropped.
#[derive(Debug)]
pub struct LogCloser(vltava_threads::JoinHandle);

impl LogCloser {
    /// Blocks until the log's files are closed. Drop every `LogStore`, and the `Raft` that has one, first.
    pub fn wait(self) {
        // A panic of that thread has been reported where it happened.
        let _ = self.0.join();
    }
}

impl LogStore {
    /// Starts the thread that owns `log`. Purging waits for `snapshotted` to reach what is to be purged.
    pub(crate) fn start<L: MetaLog>(
        log: L,
        snapshotted: watch::Receiver<Option<u64>>,
        failure: FailureReporter,
        options: LogStoreOptions,
    ) -> io::Result<(Self, LogCloser)> {
        let (requests, thread) = owner::spawn(log, failure.clone())?;
        let tail = Arc::new(RwLock::new(Tail::new(options.tail_bytes)));
        Ok((Self { requests, tail, snapshotted, failure, options }, LogCloser(thread)))
    }

    async fn ask<T>(
        &self,
        subject: Subject,
        request: impl FnOnce(oneshot::Sender<Result<T, SharedError>>) -> Request,
    ) -> Result<T, RaftStorageError> {
        let (answer, answered) = oneshot::channel();
        self.send(request(answer), subject).await?;
        match answered.await {
            Ok(result) => result.map_err(|e| subject.error(&e)),
            Err(_) => Err(self.owner_gone(subject)),
        }
    }

    async fn send(&self, request: Request, subject: Subject) -> Result<(), RaftStorageError> {
        self.requests.send(request).await.map_err(|_| self.owner_gone(subject))
    }

    fn owner_gone(&self, subject: Subject) -> RaftStorageError {
        let why = "Raft log: its thread is gone";
        self.failure.report(why);
        subject.error(&LogError::Failed(why.into()))
    }

    async fn read(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<RaftEntry>, RaftStorageError> {
        // The tail first: an entry can leave it only for the log.
        let (before, newest) = self.tail().read(range, max_bytes);
        if before.is_empty() {
            return Ok(newest);
        }
        let older =
            self.ask(Subject::READ_LOGS, |answer| Request::Read(before.clone(), max_bytes, answer)).await?;
        let mut entries = Vec::with_capacity(older.len() + newest.len());
        for entry in &older {
            let decoded = decode_entry(entry).map_err(|e| {
                let error = LogError::Damaged(format!("entry {}: {e}", entry.position));
                self.failure.report(&format!("Raft log: {error}"));
                Subject::READ_LOGS.error(&error)
            })?;
            entries.push(decoded);
        }
        // A limited read that stopped before the tail begins must not skip to it.
        let reaches_tail = match (entries.last(), newest.first()) {
            (Some(last), Some(first)) => last.log_id.index + 1 == first.log_id.index,
            _ => true,
        };
        if reaches_tail {
            entries.extend(newest);
        }
        Ok(entries)
    }

    /// Waits until a durable snapshot covers `upto`: openraft may purge while the snapshot is still being installed,
    /// and a crash in between would leave neither.
    async fn wait_for_snapshot(&mut self, upto: RaftLogId) -> Result<(), RaftStorageError> {
        let covered = self.snapshotted.wait_for(|index| index.is_some_and(|index| index >= upto.index));
        match tokio::time::timeout(PURGE_PATIENCE, covered).await {
            Ok(Ok(_)) => Ok(()),
            _ => {
                let error =
                    LogError::Refused(format!("purge up to {upto}, which no durable snapshot covers"));
                self.failure.report(&format!("Raft log: {error}"));
                Err(Subject::WRITE_LOGS.error(&error))
            }
        }
    }

    fn tail(&self) -> RwLockReadGuard<'_, Tail> {
        self.tail.read().unwrap_or_else(|_| unreachable!("no code under the tail's lock panics"))
    }

    fn tail_mut(&self) -> RwLockWriteGuard<'_, Tail> {
        self.tail.write().unwrap_or_else(|_| unreachable!("no code under the tail's lock panics"))
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<RaftEntry>, RaftStorageError> {
        self.read(half_open(&range), usize::MAX).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<RaftEntry>, RaftStorageError> {
        self.read(start..end, self.options.replication_bytes).await
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, RaftStorageError> {
        let LogBounds { purged, last } = self.ask(Subject::READ_LOGS, Request::Bounds).await?;
        Ok(LogState { last_purged_log_id: purged.map(Into::into), last_log_id: last.map(Into::into) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> Result<(), RaftStorageError> {
        let vote = (*vote).into();
        self.ask(Subject::WRITE_VOTE, |answer| Request::SaveVote(vote, answer)).await
    }

    async fn read_vote(&mut self) -> Result<Option<RaftVote>, RaftStorageError> {
        Ok(self.ask(Subject::READ_VOTE, Request::ReadVote).await?.map(Into::into))
    }

    /// Does not wait: it is called for every commit, and to lose the latest costs only a little replay.
    async fn save_committed(&mut self, committed: Option<RaftLogId>) -> Result<(), RaftStorageError> {
        self.send(Request::NoteCommitted(committed.map(Into::into)), Subject::WRITE_LOGS).await
    }

    async fn read_committed(&mut self) -> Result<Option<RaftLogId>, RaftStorageError> {
        Ok(self.ask(Subject::READ_LOGS, Request::ReadCommitted).await?.map(Into::into))
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<TypeConfig>,
    ) -> Result<(), RaftStorageError>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<RaftEntry> = entries.into_iter().collect();
        let Some(end) = entries.last().map(|last| last.log_id.index + 1) else {
            callback.log_io_completed(Ok(()));
            return Ok(());
        };
        let encoded: Vec<LogEntry> = entries.iter().map(encode_entry).collect();
        self.tail_mut().push(&entries);
        let tail = self.tail.clone();
        let done = Box::new(move |result: Result<(), SharedError>| {
            if result.is_ok()
                && let Ok(mut tail) = tail.write()
            {
                tail.durable(end);
            }
            callback.log_io_completed(result.map_err(io::Error::other));
        });
        self.send(Request::Append(encoded, done), Subject::WRITE_LOGS).await
    }

    async fn truncate(&mut self, log_id: RaftLogId) -> Result<(), RaftStorageError> {
        self.tail_mut().truncate_from(log_id.index);
        self.ask(Subject::WRITE_LOGS, |answer| Request::TruncateFrom(log_id.index, answer)).await?;
        // An append that was still under way has meanwhile called what is gone durable.
        self.tail_mut().truncate_from(log_id.index);
        Ok(())
    }

    async fn purge(&mut self, log_id: RaftLogId) -> Result<(), RaftStorageError> {
        self.wait_for_snapshot(log_id).await?;
        self.tail_mut().purge_up_to(log_id);
        self.ask(Subject::WRITE_LOGS, |answer| Request::PurgeUpTo(log_id.into(), answer)).await
    }
}

/// The range as `start..end`; an open end is the largest index, which no log reaches.
fn half_open(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end.max(start)
}

/// What openraft's errors call the thing that failed.
#[derive(Clone, Copy)]
enum Subject {
    Logs(ErrorVerb),
    Vote(ErrorVerb),
}

impl Subject {
    const READ_LOGS: Self = Self::Logs(ErrorVerb::Read);
    const WRITE_LOGS: Self = Self::Logs(ErrorVerb::Write);
    const READ_VOTE: Self = Self::Vote(ErrorVerb::Read);
    const WRITE_VOTE: Self = Self::Vote(ErrorVerb::Write);

    fn error(self, error: &LogError) -> RaftStorageError {
        let (subject, verb) = match self {
            Self::Logs(verb) => (ErrorSubject::Logs, verb),
            Self::Vote(verb) => (ErrorSubject::Vote, verb),
        };
        StorageIOError::new(subject, verb, AnyError::new(error)).into()
    }
}

#[cfg(test)]
mod tests;
