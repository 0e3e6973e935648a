//! The journal as its users see it.

mod basics;
mod crash;
mod damage;
mod faults;
mod restart;
mod twin;

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use vltava_model::{LeaderEpoch, Offset, PartitionIndex, TopicId, TopicPartition};

use super::*;
use vltava_storage::{MemoryStorage, Storage, StorageFile};

/// Small enough that files fill, grow and are used again within a short test.
fn tiny() -> JournalOptions {
    JournalOptions {
        file_bytes: 32 << 10,
        first_bytes: 16 << 10,
        growth_bytes: 4 << 10,
        ahead_bytes: 6 << 10,
        files_max: 3,
        group_bytes_max: 8 << 10,
        segment_sync_bytes: 3 << 10,
        queue_max: 64,
        queue_bytes_max: 1 << 20,
        stall_max: Duration::from_secs(10),
        fresh_salt: 0x5a17,
    }
}

fn dir() -> PathBuf {
    PathBuf::from("/log/journal")
}

fn partition(index: u32) -> TopicPartition {
    TopicPartition::new(TopicId::new(7), PartitionIndex::new(index))
}

/// Remembers what the journal told it.
#[derive(Default)]
struct Observed {
    synced: Mutex<Vec<(TopicPartition, Offset)>>,
    failed: Mutex<Vec<JournalError>>,
}

impl JournalObserver for Observed {
    fn synced(&self, partition: TopicPartition, end: Offset) {
        self.synced.lock().unwrap().push((partition, end));
    }

    fn failed(&self, error: &JournalError) {
        self.failed.lock().unwrap().push(error.clone());
    }
}

fn start(storage: &MemoryStorage, options: JournalOptions) -> Journal {
    start_observed(storage, options, Arc::new(()))
}

fn start_observed(
    storage: &MemoryStorage,
    options: JournalOptions,
    observer: Arc<dyn JournalObserver>,
) -> Journal {
    let recovered = Journal::recover(storage, &dir()).unwrap();
    Journal::start(Arc::new(storage.clone()), recovered, options, observer).unwrap()
}

/// Makes `/log`, durably, and a segment file in it.
fn segment(storage: &MemoryStorage, name: &str) -> Arc<dyn StorageFile> {
    storage.create_dir_all(Path::new("/log")).unwrap();
    storage.sync_dir(Path::new("/")).unwrap();
    let file = storage.create(&Path::new("/log").join(name)).unwrap();
    storage.sync_dir(Path::new("/log")).unwrap();
    file
}

/// An append of one byte a record.
fn append(index: u32, base: u64, bytes: Vec<u8>, segment: &Arc<dyn StorageFile>) -> JournalEntry {
    let end_offset = Offset::new(base + bytes.len() as u64);
    let body = EntryBody::Append {
        base_offset: Offset::new(base),
        end_offset,
        bytes: Bytes::from(bytes),
        segment: Arc::clone(segment),
    };
    JournalEntry { partition: partition(index), leader_epoch: LeaderEpoch::new(4), body }
}

fn entry(index: u32, body: EntryBody) -> JournalEntry {
    JournalEntry { partition: partition(index), leader_epoch: LeaderEpoch::new(4), body }
}

type Outcome = Result<(), JournalError>;

/// Submits and gives the place where the outcome will be.
fn submit(journal: &Journal, entries: Vec<JournalEntry>) -> Result<mpsc::Receiver<Outcome>, SubmitError> {
    let (send, receive) = mpsc::channel();
    let done = Box::new(move |outcome| send.send(outcome).unwrap_or_default());
    journal.submit(entries, done).map(|()| receive).map_err(|refused| refused.error)
}

/// Submits and waits.
fn commit(journal: &Journal, entries: Vec<JournalEntry>) -> Outcome {
    submit(journal, entries).unwrap().recv().unwrap()
}
