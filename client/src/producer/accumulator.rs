//! The batches of one partition that wait to be sent.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;
use vltava_model::batch::BatchBuilder;
use vltava_model::{Offset, PartitionIndex};

use super::options::ProducerOptions;
use super::{Callback, Record, Written};
use crate::error::ClientError;

/// Who waits for a record's outcome.
pub(super) enum Waiting {
    Delivery(oneshot::Sender<Result<Written, ClientError>>),
    Callback(Callback),
}

impl Waiting {
    fn tell(self, outcome: Result<Written, ClientError>) {
        match self {
            Self::Delivery(tell) => {
                // Whoever sent the record may not care.
                let _ = tell.send(outcome);
            }
            Self::Callback(callback) => callback(outcome),
        }
    }
}

/// A batch that takes no more records.
pub(super) struct Ready {
    pub(super) builder: BatchBuilder,
    pub(super) created: Instant,
    waiting: Vec<Waiting>,
    _room: Vec<OwnedSemaphorePermit>,
}

impl Ready {
    /// All of its records were written, from `base` on where that is known.
    pub(super) fn succeed(self, partition: PartitionIndex, base: Option<Offset>) {
        for (i, waiting) in (0..).zip(self.waiting) {
            let offset = base.and_then(|base| base.checked_add(i));
            waiting.tell(Ok(Written { partition, offset }));
        }
    }

    /// None of its records will be tried again.
    pub(super) fn fail(self, error: &ClientError) {
        for waiting in self.waiting {
            waiting.tell(Err(error.clone()));
        }
    }
}

#[derive(Default)]
struct Batches {
    open: Option<Ready>,
    /// How large the last one became before compression: the next one begins with as much room.
    last_bytes: usize,
    ready: VecDeque<Ready>,
    /// Handed out, outcome unknown.
    out: usize,
    flushing: bool,
    closed: bool,
}

/// See the module.
pub(super) struct Accumulator {
    options: Arc<ProducerOptions>,
    batches: Mutex<Batches>,
    news: Notify,
    drained: Notify,
}

/// Why a record was not taken.
pub(super) enum NotTaken {
    /// No record is taken here any more; these come back, for another accumulator.
    Closed(Waiting, OwnedSemaphorePermit),
    /// It can't be part of a batch.
    Refused(ClientError),
}

/// What the sender should do next.
pub(super) enum Next {
    /// Send this.
    Batch(Box<Ready>),
    /// Nothing is ready; look again then, or when there is news.
    Wait(Option<Instant>),
    /// Nothing will come any more.
    Closed,
}

impl Accumulator {
    pub(super) fn new(options: Arc<ProducerOptions>) -> Self {
        Self { options, batches: Mutex::default(), news: Notify::new(), drained: Notify::new() }
    }

    fn batches(&self) -> MutexGuard<'_, Batches> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a record to the open batch.
    pub(super) fn append(
        &self,
        record: &Record,
        waiting: Waiting,
        room: OwnedSemaphorePermit,
    ) -> Result<(), NotTaken> {
        let timestamp = record.timestamp_ms.unwrap_or_else(now_ms);
        let size = room.num_permits();
        let mut batches = self.batches();
        if batches.closed {
            return Err(NotTaken::Closed(waiting, room));
        }
        let full = batches.open.as_ref().is_some_and(|open| {
            open.builder.encoded_len_estimate() + size > self.options.batch_size.max(size)
        });
        if full {
            batches.close_open();
        }
        let began = batches.open.is_none();
        // A little more: records differ.
        let expected = batches.last_bytes + batches.last_bytes / 16;
        let open = batches.open.get_or_insert_with(|| Ready {
            builder: BatchBuilder::with_room(self.options.compression, expected),
            created: Instant::now(),
            waiting: Vec::new(),
            _room: Vec::new(),
        });
        open.builder
            .append(timestamp, record.key.as_deref(), record.value.as_deref(), &record.headers)
            .map_err(|error| NotTaken::Refused(ClientError::new(error.code(), error.to_string())))?;
        open.waiting.push(waiting);
        match open._room.last_mut() {
            Some(held) => held.merge(room),
            None => open._room.push(room),
        }
        let now_full = open.builder.encoded_len_estimate() >= self.options.batch_size;
        drop(batches);
        if began || full || now_full {
            self.news.notify_one();
        }
        Ok(())
    }

    /// What to send next.
    pub(super) fn next(&self) -> Next {
        let mut batches = self.batches();
        if batches.ready.is_empty() {
            let due = batches.open.as_ref().map(|open| {
                let full = open.builder.encoded_len_estimate() >= self.options.batch_size;
                if full || batches.flushing || batches.closed {
                    Instant::now()
                } else {
                    open.created + self.options.linger
                }
            });
            match due {
                Some(due) if due <= Instant::now() => batches.close_open(),
                Some(due) => return Next::Wait(Some(due)),
                None if batches.closed => return Next::Closed,
                None => return Next::Wait(None),
            }
        }
        match batches.ready.pop_front() {
            Some(batch) => {
                batches.out += 1;
                Next::Batch(Box::new(batch))
            }
            None => Next::Wait(None),
        }
    }

    /// A batch that was handed out has its outcome.
    pub(super) fn settled(&self) {
        let mut batches = self.batches();
        batches.out -= 1;
        if batches.is_empty() {
            batches.flushing = false;
            self.drained.notify_waiters();
        }
    }

    /// Waits for news.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    /// Closes the open batch at once.
    pub(super) fn flush(&self) {
        let mut batches = self.batches();
        if !batches.is_empty() {
            batches.flushing = true;
        }
        drop(batches);
        self.news.notify_one();
    }

    /// Takes no more records; what waits is still sent.
    pub(super) fn close(&self) {
        self.batches().closed = true;
        self.news.notify_one();
    }

    /// Whether no record is without outcome.
    pub(super) fn is_drained(&self) -> bool {
        self.batches().is_empty()
    }

    /// Waits until no record is without outcome.
    pub(super) async fn drained(&self) {
        loop {
            let drained = self.drained.notified();
            if self.batches().is_empty() {
                return;
            }
            drained.await;
        }
    }
}

impl Batches {
    fn close_open(&mut self) {
        if let Some(open) = self.open.take() {
            self.last_bytes = open.builder.encoded_len_estimate();
            self.ready.push_back(open);
        }
    }

    fn is_empty(&self) -> bool {
        self.open.is_none() && self.ready.is_empty() && self.out == 0
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
