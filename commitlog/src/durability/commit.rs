//! The journal's first thread: takes all that was submitted, makes it durable as one group, and says so.
//!
//! One write and one sync a group, whatever the number of partitions. A partition that wrote much is not copied into
//! the journal: its segments are synced, and a frame says so. Knows nothing of how files are prepared.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use vltava_model::seeded::{SeededBug, seeded};
use vltava_model::{Offset, TopicPartition};

use super::dirty::{Dirty, add_segment};
use super::entry::{EntryBody, JournalEntry};
use super::error::{Done, JournalError, failed};
use super::file::JournalFile;
use super::format::{FILE_HEADER_BYTES, FRAME_HEADER_BYTES};
use super::group::{GroupBuilder, group_len};
use super::queue::Reservation;
use super::shared::{Growth, SealedFile, Shared, Stage, Want};
use super::syncer::sync_segment;
use vltava_storage::StorageFile;
use vltava_threads::lock;
use vltava_threads::queue::Receiver;

/// What one caller handed over.
pub(super) struct Submission {
    pub entries: Vec<JournalEntry>,
    pub done: Done,
    pub reservation: Reservation,
}

/// The owner of the file being written.
pub(super) struct Committer {
    shared: Arc<Shared>,
    queue: Receiver<Submission>,
    /// Taken from the queue, but too much for the group before.
    held_over: Option<Submission>,
    current: Arc<JournalFile>,
    /// Where the next group begins in it.
    pos: u64,
    next_sequence: u64,
    /// What the current file's groups left unsynced.
    dirty: Dirty,
    /// Full files that may not have been released yet, oldest first.
    sealed: Vec<Arc<SealedFile>>,
    /// The capacity of the current file up to which more was asked for.
    asked_at: Option<u64>,
    builder: GroupBuilder,
    entries: Vec<JournalEntry>,
    waiting: Vec<(Done, Reservation)>,
}

/// What has to be said about segments that a group had synced, once it is durable.
type Synced = BTreeMap<TopicPartition, Option<Offset>>;

impl Committer {
    pub fn new(
        shared: Arc<Shared>,
        queue: Receiver<Submission>,
        current: JournalFile,
        pos: u64,
        next_sequence: u64,
    ) -> Self {
        Self {
            shared,
            queue,
            held_over: None,
            current: Arc::new(current),
            pos,
            next_sequence,
            dirty: Dirty::default(),
            sealed: Vec::new(),
            asked_at: None,
            builder: GroupBuilder::default(),
            entries: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// Works until the journal's handle is gone and the queue is empty.
    pub fn run(mut self) {
        self.ask_ahead();
        while let Some(first) = self.held_over.take().or_else(|| self.queue.recv().ok()) {
            self.gather(first);
            let outcome = self.shared.check().and_then(|()| self.commit());
            if let Err(error) = &outcome {
                self.shared.fail(error);
            }
            // A failure of the other thread's counts as well.
            let outcome = outcome.and_then(|()| self.shared.check());
            for (done, reservation) in self.waiting.drain(..) {
                drop(reservation);
                done(outcome.clone());
            }
            self.entries.clear();
        }
        if self.shared.room().stage == Stage::Closing && self.shared.check().is_ok() {
            self.seal();
        }
    }

    /// Takes `first` and what waits behind it, up to what one group may hold.
    fn gather(&mut self, first: Submission) {
        let options = &self.shared.options;
        let mut bytes = first.reservation.bytes();
        self.entries.extend(first.entries);
        self.waiting.push((first.done, first.reservation));
        while let Ok(Some(next)) = self.queue.try_recv() {
            bytes += next.reservation.bytes();
            if bytes > options.group_bytes_max
                || self.entries.len() + next.entries.len() > options.group_frames_max()
            {
                self.held_over = Some(next);
                return;
            }
            self.entries.extend(next.entries);
            self.waiting.push((next.done, next.reservation));
        }
    }

    /// Makes `entries` durable.
    fn commit(&mut self) -> Result<(), JournalError> {
        let began = Instant::now();
        let (by_segment, payload) = self.plan();
        let synced = self.sync_segments(&by_segment)?;
        let len = group_len(self.entries.len(), payload);
        self.make_room(len)?;
        let sync = self.write_group(&by_segment)?;
        self.pos += len;
        self.next_sequence += 1;
        let entries = mem::take(&mut self.entries);
        for entry in &entries {
            match &entry.body {
                EntryBody::Delete | EntryBody::Empty => self.forget(entry.partition),
                EntryBody::Truncate { .. } => {
                    self.cut(entry.partition);
                    self.dirty.add(entry);
                }
                _ if by_segment.contains(&entry.partition) => {}
                _ => self.dirty.add(entry),
            }
        }
        self.entries = entries;
        for (partition, end) in synced {
            self.forget(partition);
            if let Some(end) = end {
                self.shared.observer.synced(partition, end);
            }
        }
        self.shared.metrics.group(self.entries.len(), len, sync, began.elapsed());
        self.ask_ahead();
        Ok(())
    }

    fn write_group(&mut self, by_segment: &BTreeSet<TopicPartition>) -> Result<Duration, JournalError> {
        let (current, pos) = (&self.current, self.pos);
        self.builder
            .write(self.shared.salt, self.next_sequence, &self.entries, by_segment, |slices| {
                current.file.write_all_at(pos, slices)
            })
            .map_err(failed("writing", &current.path))?;
        let began = Instant::now();
        if !seeded(SeededBug::AcksJournalBeforeSync) {
            current.sync()?;
        }
        Ok(began.elapsed())
    }

    /// Decides which partitions are synced by their segments; returns them, and the bytes of all others.
    fn plan(&self) -> (BTreeSet<TopicPartition>, u64) {
        let options = &self.shared.options;
        let mut by_segment: BTreeSet<_> = self
            .entries
            .iter()
            .filter(|entry| matches!(entry.body, EntryBody::Sync { .. }))
            .map(|entry| entry.partition)
            .collect();
        let total: u64 = self.entries.iter().map(|entry| entry.body.payload().len() as u64).sum();
        let fits = |payload| group_len(self.entries.len(), payload) <= options.group_len_max();
        if by_segment.is_empty() && total < options.segment_sync_bytes && fits(total) {
            return (by_segment, total);
        }
        let mut sizes = BTreeMap::<TopicPartition, u64>::new();
        for entry in &self.entries {
            *sizes.entry(entry.partition).or_default() += entry.body.payload().len() as u64;
        }
        let mut threshold = options.segment_sync_bytes;
        loop {
            let large = sizes.iter().filter(|(_, size)| **size >= threshold && **size > 0);
            by_segment.extend(large.map(|(partition, _)| *partition));
            let small = sizes.iter().filter(|(partition, _)| !by_segment.contains(partition));
            let payload = small.map(|(_, size)| size).sum();
            if fits(payload) {
                return (by_segment, payload);
            }
            // The submission's limit sees to it that the frames alone always fit.
            assert!(threshold > 0, "{} frames do not fit into a group", self.entries.len());
            threshold /= 2;
        }
    }

    /// Syncs all that these partitions have unsynced, earlier groups' segments included: the frame will say that
    /// nothing before it is needed any more.
    fn sync_segments(&self, by_segment: &BTreeSet<TopicPartition>) -> Result<Synced, JournalError> {
        let mut synced = Synced::new();
        let mut segments = Vec::new();
        for entry in self.entries.iter().filter(|entry| by_segment.contains(&entry.partition)) {
            let end = synced.entry(entry.partition).or_default();
            match &entry.body {
                EntryBody::Append { end_offset, segment, .. } => {
                    *end = Some(*end_offset);
                    add_segment(&mut segments, segment);
                }
                EntryBody::Truncate { .. } => *end = None,
                EntryBody::Sync { end_offset, segments: more } => {
                    *end = Some(*end_offset);
                    more.iter().for_each(|segment| add_segment(&mut segments, segment));
                }
                EntryBody::StartOffset { .. } | EntryBody::Delete | EntryBody::Empty => {}
            }
        }
        for partition in by_segment {
            self.earlier_segments(*partition, &mut segments);
        }
        for segment in &segments {
            sync_segment(&self.shared, &**segment)?;
        }
        Ok(synced)
    }

    /// Adds what earlier groups left unsynced of a partition.
    fn earlier_segments(&self, partition: TopicPartition, segments: &mut Vec<Arc<dyn StorageFile>>) {
        let mut add = |dirty: &Dirty| {
            let earlier = dirty.get(partition).into_iter().flat_map(|dirty| &dirty.segments);
            earlier.for_each(|segment| add_segment(segments, segment));
        };
        add(&self.dirty);
        self.earlier().for_each(|dirty| add(&lock(dirty)));
    }

    /// What groups before those of the current file left unsynced.
    fn earlier(&self) -> impl Iterator<Item = &Mutex<Dirty>> {
        self.sealed.iter().map(|sealed| &sealed.dirty).chain([&self.shared.replayed])
    }

    /// What is said elsewhere of the partition's end holds no more: it must not be told to anybody from now on.
    fn cut(&self, partition: TopicPartition) {
        self.earlier().for_each(|dirty| lock(dirty).cut(partition));
    }

    /// Nothing of the partition has to be synced any more.
    fn forget(&mut self, partition: TopicPartition) {
        self.dirty.forget(partition);
        self.earlier().for_each(|dirty| lock(dirty).forget(partition));
    }

    /// Sees to it that `len` bytes fit at `pos`.
    fn make_room(&mut self, len: u64) -> Result<(), JournalError> {
        let end = self.pos + len;
        if end <= self.current.capacity() {
            return Ok(());
        }
        if end <= self.shared.options.file_bytes && self.wait_for_growth(end)? {
            return Ok(());
        }
        // Any empty file has room for any group.
        assert!(self.pos > FILE_HEADER_BYTES, "a group of {len} bytes does not fit into a file");
        self.seal();
        self.take_spare()?;
        Ok(())
    }

    /// Waits until the current file reaches to `end`; says whether it does.
    fn wait_for_growth(&self, end: u64) -> Result<bool, JournalError> {
        let current = &self.current;
        self.shared.change(|room| {
            if !matches!(room.growth, Growth::Refused) {
                room.growth = Growth::Wanted { file: Arc::clone(current), bytes: end };
            }
        });
        self.shared.metrics.stalled();
        self.shared.wait_for(|room| match room.growth {
            _ if end <= current.capacity() => Some(true),
            Growth::Refused => Some(false),
            Growth::Wanted { .. } | Growth::Enough => None,
        })
    }

    /// Gives the current file away, to be synced and prepared anew.
    fn seal(&mut self) {
        let sealed = Arc::new(SealedFile {
            file: Arc::clone(&self.current),
            dirty: Mutex::new(mem::take(&mut self.dirty)),
            end_sequence: self.next_sequence,
        });
        self.shared.change(|room| {
            // Those that the room has no more were released.
            self.sealed.retain(|known| room.sealed.iter().any(|left| Arc::ptr_eq(known, left)));
            room.sealed.push_back(Arc::clone(&sealed));
            room.spare = Want::Yes;
            room.growth = Growth::Enough;
        });
        self.sealed.push(sealed);
    }

    /// Makes the next empty file the current one, waiting for one if need be: this is how a slow disk holds back
    /// its users.
    fn take_spare(&mut self) -> Result<(), JournalError> {
        self.shared.change(|room| {
            if room.spares.is_empty() {
                room.spare = Want::Now;
            }
        });
        let mut waits = 0;
        let metrics = &self.shared.metrics;
        let spare = self.shared.wait_for(|room| {
            let spare = room.spares.pop_front();
            if spare.is_none() {
                waits += 1;
                // Counted when it begins: one that is never over is the one to see.
                if waits == 1 {
                    metrics.stalled();
                }
            }
            spare
        })?;
        self.shared.change(|room| room.spare = Want::No);
        self.current = Arc::new(spare);
        self.pos = FILE_HEADER_BYTES;
        self.asked_at = None;
        Ok(())
    }

    /// Asks for room before it is needed: in the current file, then for another.
    fn ask_ahead(&mut self) {
        let options = &self.shared.options;
        let capacity = self.current.capacity();
        if self.pos + options.ahead_bytes <= capacity || self.asked_at == Some(capacity) {
            return;
        }
        self.asked_at = Some(capacity);
        let bytes = (self.pos + options.ahead_bytes).min(options.file_bytes);
        self.shared.change(|room| {
            if bytes > capacity && !matches!(room.growth, Growth::Refused) {
                room.growth = Growth::Wanted { file: Arc::clone(&self.current), bytes };
            }
            if bytes == options.file_bytes && room.spare == Want::No {
                room.spare = Want::Yes;
            }
        });
    }
}

// A group's frames have to fit into any file; the constants agree on that.
const _: () = assert!(FRAME_HEADER_BYTES < FILE_HEADER_BYTES as usize);
