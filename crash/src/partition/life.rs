//! The life of one process: random calls as a broker's shards make them, on a disk that remembers every change.
//!
//! Keeps a [`History`] of every partition; does with logs and journal what `broker/src/shard/host/effects.rs` does, in the
//! same order. Knows nothing of crashes.

mod changes;

use std::collections::BTreeMap;
use std::time::Duration;

use vltava_commitlog::durability::{EntryBody, JournalEntry};
use vltava_commitlog::log::SyncPoint;
use vltava_model::{BrokerEpoch, DirectoryId, LeaderEpoch, Offset, PartitionIndex, TopicId, TopicPartition};
use vltava_storage::MemoryStorage;
use vltava_threads::Bell;
use vltava_threads::queue::{Receiver, Sender, unbounded};

use super::history::{Ack, Content, History};
use super::process::{Assigned, Process, Setup, audit};
use crate::dice::Dice;
use crate::threads;

/// What a process did, and what may be found after it.
pub struct Life {
    /// The disk, with all that was done.
    pub storage: MemoryStorage,
    /// How it was configured.
    pub setup: Setup,
    /// Every partition that it ever had.
    pub histories: Vec<History>,
    /// The directory's identity.
    pub directory: DirectoryId,
    /// After so many changes of the disk it had started.
    pub started: usize,
    /// When it was ended in order, if it was.
    pub closed: Option<Closed>,
    /// Above every leader epoch so far.
    pub epoch: u32,
    /// Replicas that were given up: which, when that was begun and done.
    begun_anew: Vec<(TopicPartition, usize, usize)>,
    /// See [`Assigned::deleted_in`].
    deleted_in: BTreeMap<TopicPartition, u32>,
    /// What it did, after how many changes of the disk.
    pub script: Vec<(usize, String)>,
}

/// How a life is to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// In the midst of everything, or in order.
    Any,
    /// With everything synced, without a proof.
    Settled,
    /// In order.
    Orderly,
}

/// An end in order.
#[derive(Clone, Copy, Debug)]
pub struct Closed {
    /// When it was begun.
    pub issued: usize,
    /// When it was done.
    pub done: usize,
    /// The proof.
    pub epoch: BrokerEpoch,
}

/// Whether appends are journaled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flush {
    /// `flush.messages=1`.
    Journal,
    /// They are left to the page cache.
    PageCache,
}

struct Replica {
    flush: Flush,
    /// The leader epoch of the last record that was deleted: what is committed later has none before it.
    deleted_in: u32,
    sequences: BTreeMap<u64, u32>,
}

/// A sync of a log left to the page cache.
struct Flushed {
    partition: TopicPartition,
    point: SyncPoint,
}

/// A process at work.
pub struct Worker<'a> {
    dice: &'a mut Dice,
    process: Process,
    life: Life,
    replicas: BTreeMap<TopicPartition, Replica>,
    entries: Vec<JournalEntry>,
    marks: BTreeMap<TopicPartition, Ack>,
    in_flight: usize,
    flushing: usize,
    done: (Sender<()>, Receiver<()>),
    flushed: (Sender<Flushed>, Receiver<Flushed>),
    topics: u64,
}

impl Life {
    /// What metadata say after so many changes of the disk.
    pub fn assigned(&self, operations: usize) -> Assigned {
        let serves =
            |history: &&History| history.began() <= operations && history.is_there(operations) == Some(true);
        let served = self.histories.iter().filter(serves).map(|history| history.partition).collect();
        let given_up =
            self.begun_anew.iter().filter(|(_, issued, done)| (issued..done).contains(&&operations));
        let begun_anew = given_up.map(|(partition, ..)| *partition).collect();
        Assigned { served, begun_anew, deleted_in: self.deleted_in.clone() }
    }

    /// What it did last before so many changes of the disk.
    pub fn at_work_on(&self, operations: usize) -> &str {
        let last = self.script.iter().rev().find(|(when, _)| *when <= operations);
        last.map_or("starting", |(_, what)| what)
    }

    /// A life of so many calls on a disk that may hold something.
    ///
    /// # Errors
    /// In words, when it does not start.
    pub fn live(
        storage: MemoryStorage,
        setup: Setup,
        mut assigned: Assigned,
        (epoch, calls, ending): (u32, usize, Ending),
        dice: &mut Dice,
    ) -> Result<Self, String> {
        threads::enter(dice.roll(u64::MAX));
        storage.record();
        if assigned.served.is_empty() {
            assigned.served.extend((0..1 + dice.roll(3) as u32).map(|index| partition(1, index)));
        }
        let process = Process::start(&storage, setup, &assigned)?;
        let started = storage.operations();
        let mut life = Self {
            storage,
            setup,
            histories: Vec::new(),
            directory: process.directory,
            started,
            closed: None,
            epoch: epoch + 1,
            begun_anew: Vec::new(),
            deleted_in: assigned.deleted_in,
            script: Vec::new(),
        };
        for (partition, log) in &process.logs {
            let found = audit(log).map_err(|unread| format!("{unread:?}"))?;
            life.histories.push(History::new(*partition, found, started));
        }
        let mut worker = Worker::new(dice, process, life);
        for _ in 0..calls {
            worker.call();
        }
        Ok(worker.end(ending))
    }
}

/// A partition.
pub fn partition(topic: u64, index: u32) -> TopicPartition {
    TopicPartition::new(TopicId::new(u128::from(topic)), PartitionIndex::new(index))
}

/// A partition's name without what is the same in all of them.
fn short(of: TopicPartition) -> String {
    of.to_string().trim_start_matches('0').to_owned()
}

impl<'a> Worker<'a> {
    fn new(dice: &'a mut Dice, process: Process, life: Life) -> Self {
        let mut worker = Self {
            dice,
            replicas: BTreeMap::new(),
            entries: Vec::new(),
            marks: BTreeMap::new(),
            in_flight: 0,
            flushing: 0,
            done: unbounded(&Bell::new()),
            flushed: unbounded(&Bell::new()),
            topics: 2 + life.epoch as u64,
            process,
            life,
        };
        let all: Vec<_> = worker.process.logs.keys().copied().collect();
        all.into_iter().for_each(|partition| worker.host(partition));
        worker
    }

    fn host(&mut self, partition: TopicPartition) {
        let flush = if self.dice.percent(25) { Flush::PageCache } else { Flush::Journal };
        let deleted_in = self.life.deleted_in.get(&partition).copied().unwrap_or_default();
        self.replicas.insert(partition, Replica { flush, deleted_in, sequences: BTreeMap::new() });
    }

    fn now(&self) -> usize {
        self.process.storage.operations()
    }

    fn history(&mut self, partition: TopicPartition) -> &mut History {
        let found = self.life.histories.iter_mut().rfind(|history| history.partition == partition);
        found.expect("every partition has a history")
    }

    fn content(&mut self, partition: TopicPartition) -> Content {
        self.history(partition).now().clone()
    }

    fn note(&mut self, what: String) {
        let now = self.now();
        self.life.script.push((now, what));
    }

    /// Makes one random call.
    fn call(&mut self) {
        self.take_flushed();
        let kind = self.dice.roll(100);
        if self.replicas.is_empty() {
            return self.create();
        }
        let many: Vec<_> = self.replicas.keys().copied().collect();
        let of = many[self.dice.roll(many.len() as u64) as usize];
        match kind {
            0..30 => self.append_own(of),
            30..42 => self.replicate(of),
            42..55 => self.submit(),
            55..62 => self.settle(),
            62..67 => self.truncate(of),
            67..69 => self.start_at(of),
            69..73 => self.advance_log_start(of),
            73..76 => self.retain(of),
            76..79 => self.lead(of),
            79..86 => self.maintain(),
            86..89 => self.flush(of),
            89..91 => self.reconfigure(of),
            91..93 => self.process.logs[&of].release(),
            93 => self.create(),
            94 => self.delete(of),
            95 => self.begin_anew(of),
            _ => self.idle(),
        }
    }

    /// Lets the other threads work.
    fn idle(&mut self) {
        if let Some(threads) = vltava_threads::simulator() {
            for _ in 0..12 {
                threads.park(&|| false, Some(Duration::ZERO));
            }
        }
    }

    fn journal(&mut self, partition: TopicPartition, epoch: LeaderEpoch, body: EntryBody) {
        self.entries.push(JournalEntry { partition, leader_epoch: epoch, body });
    }

    /// What is acknowledged when the next group is durable.
    fn mark(&mut self, partition: TopicPartition) {
        let ack = self.history(partition).ack();
        self.marks.insert(partition, ack);
    }

    /// Hands over what was gathered.
    fn submit(&mut self) {
        if self.entries.is_empty() {
            return;
        }
        let (entries, marks) = (std::mem::take(&mut self.entries), std::mem::take(&mut self.marks));
        self.note(format!("a group of {} is submitted", entries.len()));
        let (done, storage) = (self.done.0.clone(), self.process.storage.clone());
        let journal = self.process.directories.journal(self.process.directory).expect("the disk is whole");
        let submitted = journal.submit(
            entries,
            Box::new(move |outcome| {
                if outcome.is_ok() {
                    marks.values().for_each(|ack| ack.give(storage.operations()));
                }
                let _ = done.send(());
            }),
        );
        submitted.expect("the queue is longer than a life");
        self.in_flight += 1;
    }

    /// Waits for all that is under way.
    fn settle(&mut self) {
        self.submit();
        while self.in_flight > 0 {
            self.done.1.recv().expect("this holds a sender");
            self.in_flight -= 1;
        }
    }

    /// Ends the process.
    fn end(mut self, ending: Ending) -> Life {
        let is_orderly = ending == Ending::Orderly || (ending == Ending::Any && self.dice.percent(25));
        if is_orderly || ending == Ending::Settled {
            self.settle();
            while self.flushing > 0 {
                let flushed = self.flushed.1.recv().expect("this holds a sender");
                self.take(flushed);
            }
            // What was synced at leisure is known to be with the recovery points: until those are saved, a crash leaves a log
            // that nothing says more of than of any torn one.
            loop {
                let before = self.now();
                self.idle();
                self.maintain();
                if self.now() == before {
                    break;
                }
            }
        }
        if !is_orderly {
            return self.life;
        }
        let (issued, epoch) = (self.now(), BrokerEpoch::new(u64::from(self.life.epoch)));
        self.note("ending in order".to_owned());
        let Self { process, mut life, .. } = self;
        process.close(epoch).expect("the disk is whole");
        life.closed = Some(Closed { issued, done: life.storage.operations(), epoch });
        life
    }

    /// Takes news of syncs.
    fn take_flushed(&mut self) {
        while let Ok(Some(flushed)) = self.flushed.1.try_recv() {
            self.take(flushed);
        }
    }

    fn take(&mut self, Flushed { partition, point }: Flushed) {
        self.flushing -= 1;
        let Some(log) = self.process.logs.get_mut(&partition) else { return };
        if self.process.points.iter().any(|(_, of, _)| *of == partition) {
            let points = std::mem::take(&mut self.process.points);
            self.process.directories.save_points(&points);
        }
        log.synced(&point).expect("the disk is whole");
        self.process.points.push((self.process.directory, partition, log.recovery_point()));
    }

    fn flush(&mut self, of: TopicPartition) {
        if self.replicas[&of].flush == Flush::Journal {
            return;
        }
        self.note(format!("{} is synced", short(of)));
        let ack = self.history(of).ack();
        let log = self.process.logs.get_mut(&of).expect("it is served");
        let point = log.sync_point().expect("the disk is whole");
        let journal = self.process.directories.journal(self.process.directory).expect("the disk is whole");
        let (tell, storage, files) =
            (self.flushed.0.clone(), self.process.storage.clone(), point.files.clone());
        let done = move |outcome: Result<(), _>| {
            if outcome.is_ok() {
                ack.give(storage.operations());
                drop(tell.send(Flushed { partition: of, point }));
            }
        };
        journal.sync_files(files, Box::new(done)).expect("the queue is longer than a life");
        self.flushing += 1;
    }

    /// What a shard does every so often: recovery points move to where the journal has synced.
    fn maintain(&mut self) {
        self.note("recovery points".to_owned());
        self.process.save_points();
        let synced = self.process.directories.take_synced(|_, _| true);
        for (partition, end) in synced {
            let Some(log) = self.process.logs.get_mut(&partition) else { continue };
            log.advance_recovery_point(end).expect("the disk is whole");
            self.process.points.push((self.process.directory, partition, log.recovery_point()));
        }
        self.process.save_points();
    }

    fn epoch(&self) -> LeaderEpoch {
        LeaderEpoch::new(self.life.epoch)
    }

    fn end_of(&self, of: TopicPartition) -> Offset {
        self.process.logs[&of].log_end()
    }
}
