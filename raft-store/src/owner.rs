//! The thread that owns the log. Requests come through one bounded queue and are done strictly in its order; appends
//! that wait together are made durable together. It knows no openraft: answers go through callbacks.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::oneshot;
use vltava_threads::{JoinHandle, Woken};

use crate::failure::FailureReporter;
use crate::meta_log::{LogBounds, LogEntry, LogError, MetaLog};
use crate::types::{Position, VoteRecord};

/// Requests that may wait; a sender waits for room.
const QUEUE: usize = 256;
/// Appends that wait are joined up to this size, so that one sync never covers much more.
const GROUP_BYTES: usize = 4 << 20;
/// How long after the last request a committed position is written that nothing else took along.
const IDLE: Duration = Duration::from_millis(50);

/// An error that several waiters share.
pub(crate) type SharedError = Arc<LogError>;
type Answer<T> = oneshot::Sender<Result<T, SharedError>>;
/// Called once the entries are durable or the log has failed.
pub(crate) type Appended = Box<dyn FnOnce(Result<(), SharedError>) + Send>;

/// What can be asked of the owner.
pub(crate) enum Request {
    Append(Vec<LogEntry>, Appended),
    TruncateFrom(u64, Answer<()>),
    PurgeUpTo(Position, Answer<()>),
    SaveVote(VoteRecord, Answer<()>),
    ReadVote(Answer<Option<VoteRecord>>),
    NoteCommitted(Option<Position>),
    ReadCommitted(Answer<Option<Position>>),
    Read(Range<u64>, usize, Answer<Vec<LogEntry>>),
    Bounds(Answer<LogBounds>),
}

/// Starts the owner of `log`. It ends when the last sender is gone, and then closes the log.
pub(crate) fn spawn<L: MetaLog>(
    log: L,
    failure: FailureReporter,
) -> std::io::Result<(Sender<Request>, JoinHandle)> {
    let (sender, requests) = mpsc::channel(QUEUE);
    // Only for waiting with a time limit.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let owner = Owner { log, requests, failure };
    let run = move || {
        owner.failure.attend();
        owner.run(&runtime);
    };
    let thread = vltava_threads::spawn("raft-log", run)?;
    Ok((sender, thread))
}

/// What the owner has to do next.
enum Next {
    Request(Request),
    /// Nothing was asked for, for a while.
    Idle,
    /// Nobody can ask any more.
    End,
}

struct Owner<L> {
    log: L,
    requests: Receiver<Request>,
    failure: FailureReporter,
}

impl<L: MetaLog> Owner<L> {
    fn run(mut self, runtime: &tokio::runtime::Runtime) {
        let mut committed_waits = false;
        loop {
            let request = match self.next(runtime, committed_waits.then_some(IDLE)) {
                Next::Request(request) => request,
                Next::Idle => {
                    committed_waits = false;
                    let saved = self.log.save_committed();
                    // Whoever needs the log next hears of the failure as well.
                    let _ = self.checked(saved);
                    continue;
                }
                Next::End => break,
            };
            committed_waits |= matches!(request, Request::NoteCommitted(_));
            let mut after = Some(request);
            while let Some(request) = after.take() {
                after = self.handle(request);
            }
        }
        let saved = self.log.save_committed();
        let _ = self.checked(saved);
    }

    /// Waits for a request, up to `limit` if there is one.
    fn next(&mut self, runtime: &tokio::runtime::Runtime, limit: Option<Duration>) -> Next {
        if let Some(simulator) = vltava_threads::simulator() {
            let requests = &self.requests;
            let woken = simulator.park(&|| !requests.is_empty() || requests.is_closed(), limit);
            return match (self.requests.try_recv(), woken) {
                (Ok(request), _) => Next::Request(request),
                (Err(TryRecvError::Empty), Woken::TimedOut) => Next::Idle,
                (Err(_), _) => Next::End,
            };
        }
        let next = match limit {
            None => self.requests.blocking_recv(),
            Some(limit) => {
                match runtime.block_on(async { tokio::time::timeout(limit, self.requests.recv()).await }) {
                    Ok(next) => next,
                    Err(_) => return Next::Idle,
                }
            }
        };
        next.map_or(Next::End, Next::Request)
    }

    /// Does one request; gives back the next one if it was taken off the queue already.
    fn handle(&mut self, request: Request) -> Option<Request> {
        match request {
            Request::Append(entries, done) => return self.append_group(entries, done),
            Request::TruncateFrom(index, answer) => {
                let result = self.log.truncate_from(index);
                self.answer(answer, result);
            }
            Request::PurgeUpTo(upto, answer) => {
                let result = self.log.purge_up_to(upto);
                self.answer(answer, result);
            }
            Request::SaveVote(vote, answer) => {
                let result = self.log.save_vote(vote);
                self.answer(answer, result);
            }
            Request::ReadVote(answer) => self.answer(answer, Ok(self.log.read_vote())),
            Request::NoteCommitted(committed) => self.log.note_committed(committed),
            Request::ReadCommitted(answer) => self.answer(answer, Ok(self.log.read_committed())),
            Request::Read(range, max_bytes, answer) => {
                let result = self.log.read(range, max_bytes);
                self.answer(answer, result);
            }
            Request::Bounds(answer) => self.answer(answer, Ok(self.log.bounds())),
        }
        None
    }

    /// Appends these entries together with those of the appends that wait right behind.
    fn append_group(&mut self, entries: Vec<LogEntry>, done: Appended) -> Option<Request> {
        let mut group = entries;
        let mut waiting = vec![done];
        let mut bytes: usize = group.iter().map(|e| e.bytes.len()).sum();
        let mut after = None;
        while bytes < GROUP_BYTES {
            match self.requests.try_recv() {
                Ok(Request::Append(entries, done)) => {
                    bytes += entries.iter().map(|e| e.bytes.len()).sum::<usize>();
                    group.extend(entries);
                    waiting.push(done);
                }
                // A commit position needs no order against appends, and must not split every group.
                Ok(Request::NoteCommitted(committed)) => self.log.note_committed(committed),
                Ok(other) => {
                    after = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        let result = self.log.append(&group);
        let result = self.checked(result);
        for done in waiting {
            done(result.clone());
        }
        after
    }

    fn answer<T>(&self, answer: Answer<T>, result: Result<T, LogError>) {
        // Whoever asked may have been cancelled; what was done stays done.
        let _ = answer.send(self.checked(result));
    }

    fn checked<T>(&self, result: Result<T, LogError>) -> Result<T, SharedError> {
        result.map_err(|error| {
            self.failure.report(&format!("Raft log: {error}"));
            Arc::new(error)
        })
    }
}

#[cfg(test)]
mod tests;
