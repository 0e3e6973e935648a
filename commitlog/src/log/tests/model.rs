//! The log against a naive twin, a list of batches, through random appends, cuts, syncs, restarts and power cuts.
//!
//! After a crash the log must hold one of the states that it went through since the last one known to be durable, or a
//! beginning of it that lacks nothing durable: no record lost that was durable, none back that was cut.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use vltava_model::batch::{Batch, BatchBuilder, Compression, ProducerStamp};
use vltava_model::epochs::LeaderEpochs;
use vltava_model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

use crate::durability::{RecoveredBody, RecoveredFrame};
use crate::log::testing::{place_with, positioned};
use crate::log::*;
use vltava_storage::{CrashMode, MemoryStorage, Storage};

#[derive(Debug, Clone)]
enum Op {
    Append {
        records: u32,
        new_epoch: bool,
        producer: Option<u64>,
        bytes: usize,
    },
    /// The journal makes all frames so far durable.
    Commit,
    /// The journal syncs the segments instead of keeping bytes.
    CommitBySync,
    /// The segments are synced, the recovery point is persisted, the journal forgets.
    Sync,
    Truncate(prop::sample::Index),
    /// The journal is told first, and waited for; a crash may come between.
    TruncateJournalFirst {
        to: prop::sample::Index,
        crash: Option<CrashMode>,
        seed: u64,
    },
    AdvanceStart(prop::sample::Index),
    Retain {
        bytes: u64,
    },
    EmptyAndStartAt(u64),
    NewLeader,
    Release,
    CloseAndOpen,
    Crash {
        mode: CrashMode,
        seed: u64,
        twice: bool,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let index = || any::<prop::sample::Index>();
    let append = (1..5u32, prop::bool::weighted(0.1), prop::option::of(1..4u64), 0..120usize)
        .prop_map(|(records, new_epoch, producer, bytes)| Op::Append { records, new_epoch, producer, bytes });
    prop_oneof![
        24 => append,
        6 => Just(Op::Commit),
        2 => Just(Op::CommitBySync),
        3 => Just(Op::Sync),
        2 => index().prop_map(Op::Truncate),
        2 => (index(), prop::option::of(prop::sample::select(&CrashMode::ALL[..])), any::<u64>())
            .prop_map(|(to, crash, seed)| Op::TruncateJournalFirst { to, crash, seed }),
        1 => index().prop_map(Op::AdvanceStart),
        1 => (0..2000u64).prop_map(|bytes| Op::Retain { bytes }),
        1 => (0..60u64).prop_map(Op::EmptyAndStartAt),
        1 => Just(Op::NewLeader),
        1 => Just(Op::Release),
        1 => Just(Op::CloseAndOpen),
        4 => (prop::sample::select(&CrashMode::ALL[..]), any::<u64>(), any::<bool>())
            .prop_map(|(mode, seed, twice)| Op::Crash { mode, seed, twice }),
    ]
}

/// What a log should hold.
#[derive(Clone, Default, PartialEq, Debug)]
struct Content {
    batches: Vec<Batch>,
    /// Where an empty log ends.
    floor: u64,
}

impl Content {
    fn end(&self) -> u64 {
        self.batches.last().map_or(self.floor, |last| last.header().end_offset().get()).max(self.floor)
    }

    fn cut(&mut self, to: u64) {
        self.batches.retain(|batch| batch.header().end_offset().get() <= to);
    }
}

/// Whether the owner journals appends, or leaves them to the page cache as `flush.messages` unset does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flush {
    Journal,
    PageCache,
}

struct Twin {
    storage: MemoryStorage,
    flush: Flush,
    log: Option<Log>,
    /// The states since the last one known to be durable, that one first.
    states: Vec<Content>,
    log_start: u64,
    frames: Vec<RecoveredFrame>,
    pending: Vec<RecoveredFrame>,
    persisted: Option<Offset>,
    epoch: u32,
    sequences: BTreeMap<u64, u32>,
}

const CONFIG: fn() -> LogConfig = || LogConfig {
    segment_bytes: 700,
    index_interval_bytes: 150,
    retention_ms: None,
    tail_bytes_max: 600,
    ..LogConfig::default()
};

impl Twin {
    fn new(flush: Flush) -> Self {
        let storage = MemoryStorage::new();
        storage.create_dir_all(Path::new("/logs")).unwrap();
        storage.sync_dir(Path::new("/")).unwrap();
        let log =
            Log::open(place_with(Arc::new(storage.clone()), 3), CONFIG(), RecoveryInput::default()).unwrap();
        Self {
            storage,
            flush,
            log: Some(log),
            states: vec![Content::default()],
            log_start: 0,
            frames: Vec::new(),
            pending: Vec::new(),
            persisted: Some(Offset::ZERO),
            epoch: 1,
            sequences: BTreeMap::new(),
        }
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().unwrap()
    }

    fn now(&self) -> &Content {
        self.states.last().unwrap()
    }

    fn submit(&mut self, body: RecoveredBody) {
        self.pending.push(RecoveredFrame { leader_epoch: LeaderEpoch::new(self.epoch), body });
    }

    /// Everything up to now is durable.
    fn settle(&mut self) {
        let now = self.now().clone();
        self.states = vec![now];
    }

    fn append(&mut self, records: u32, new_epoch: bool, producer: Option<u64>, bytes: usize) {
        self.epoch += u32::from(new_epoch);
        let base = self.now().end();
        let mut builder = BatchBuilder::new(Compression::None);
        if let Some(id) = producer {
            let sequence = self.sequences.entry(id).or_default();
            let base_sequence = vltava_model::Sequence::new(*sequence);
            *sequence += records;
            builder = builder.producer(ProducerStamp {
                id: ProducerId::new(id),
                epoch: ProducerEpoch::new(0),
                base_sequence,
            });
        }
        for n in 0..records {
            let text = format!("{base}-{n}-{}", self.epoch);
            builder
                .append((base * 7 % 90) as i64, Some(text.as_bytes()), Some(&vec![n as u8; bytes]), &[])
                .unwrap();
        }
        let batch = positioned(builder, base, self.epoch);
        let appended = self.log().append(&batch, 5).unwrap();
        assert_eq!((appended.base.get(), appended.end), (base, batch.header().end_offset()));
        if self.flush == Flush::Journal {
            let (base_offset, end_offset, bytes) = (appended.base, appended.end, appended.bytes);
            self.submit(RecoveredBody::Append { base_offset, end_offset, bytes });
        }
        let mut after = self.now().clone();
        after.batches.push(batch);
        self.states.push(after);
    }

    fn sync(&mut self) {
        let point = self.log().sync_point().unwrap();
        point.files.iter().for_each(|file| file.sync_data().unwrap());
        self.log().synced(&point).unwrap();
        self.persisted = Some(self.log().recovery_point());
        (self.frames, self.pending) = (Vec::new(), Vec::new());
        self.settle();
    }

    /// Where a cut at a random offset is to be, and what it leaves.
    fn cut(&self, index: prop::sample::Index) -> (Offset, Content) {
        let (start, end) = (self.log_start, self.now().end());
        let to = start + index.index((end - start + 2) as usize) as u64;
        let mut after = self.now().clone();
        after.cut(to);
        if after.end() < start {
            // The start lies within the batch that goes.
            after = Content { batches: Vec::new(), floor: start };
        }
        (Offset::new(to), after)
    }

    fn truncate(&mut self, index: prop::sample::Index) {
        let (to, after) = self.cut(index);
        // The next leader writes in a newer epoch.
        self.epoch += 1;
        let epoch = LeaderEpoch::new(self.epoch);
        let cut = self.log().truncate_to(to, epoch, 5).unwrap();
        assert_eq!(cut.get(), after.end());
        self.submit(RecoveredBody::Truncate { to: cut });
        self.states.push(after);
    }

    fn truncate_journal_first(&mut self, index: prop::sample::Index, crash: Option<CrashMode>, seed: u64) {
        let (to, after) = self.cut(index);
        self.epoch += 1;
        let epoch = LeaderEpoch::new(self.epoch);
        self.submit(RecoveredBody::Truncate { to });
        self.run(&Op::Commit);
        self.states.push(after.clone());
        match crash {
            None => assert_eq!(self.log().truncate_to(to, epoch, 5).unwrap().get(), after.end()),
            Some(mode) => {
                self.crash(mode, seed);
                assert!(self.now().end() <= after.end(), "the cut that the journal knows of is done");
                self.sync();
            }
        }
    }

    fn move_start(&mut self, to: u64) {
        self.log_start = to;
        self.submit(RecoveredBody::StartOffset { to: Offset::new(to) });
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Append { records, new_epoch, producer, bytes } => {
                self.append(*records, *new_epoch, *producer, *bytes)
            }
            Op::Commit => {
                self.frames.append(&mut self.pending);
                if self.flush == Flush::Journal {
                    self.settle();
                }
            }
            Op::CommitBySync => {
                let point = self.log().sync_point().unwrap();
                point.files.iter().for_each(|file| file.sync_data().unwrap());
                self.submit(RecoveredBody::Synced { end_offset: point.up_to });
                self.frames = self.pending.split_off(self.pending.len() - 1);
                self.pending.clear();
                self.settle();
            }
            Op::Sync => self.sync(),
            Op::Truncate(index) => self.truncate(*index),
            Op::TruncateJournalFirst { to, crash, seed } => self.truncate_journal_first(*to, *crash, *seed),
            Op::AdvanceStart(index) => {
                let to =
                    self.log_start + index.index((self.now().end() - self.log_start + 1) as usize) as u64;
                self.log().advance_log_start(Offset::new(to)).unwrap();
                self.move_start(to);
            }
            Op::Retain { bytes } => {
                let config = LogConfig { retention_bytes: Some(*bytes), ..CONFIG() };
                self.log().configure(config);
                let end = Offset::new(self.now().end());
                self.log().retention(5, end).unwrap();
                let start = self.log().log_start().get();
                assert!(start >= self.log_start);
                self.move_start(start);
            }
            Op::EmptyAndStartAt(to) => {
                self.epoch += 1;
                let epoch = LeaderEpoch::new(self.epoch);
                self.log().delete_all_and_start_at(Offset::new(*to), epoch).unwrap();
                self.submit(RecoveredBody::Delete);
                self.move_start(*to);
                self.states = vec![Content { batches: Vec::new(), floor: *to }];
                self.frames.append(&mut self.pending);
            }
            Op::NewLeader => {
                self.epoch += 1;
                let (epoch, end) = (LeaderEpoch::new(self.epoch), Offset::new(self.now().end()));
                self.log().assign_epoch(epoch, end);
            }
            Op::Release => self.log().release(),
            Op::CloseAndOpen => {
                let log = self.log.take().unwrap();
                let epochs = log.epochs().clone();
                let point = log.close_clean().unwrap();
                (self.frames, self.pending) = (Vec::new(), Vec::new());
                self.persisted = Some(point);
                self.settle();
                self.open(true);
                assert_eq!(self.log().recovery_report(), &RecoveryReport::default());
                assert_eq!(self.log().epochs(), &epochs);
            }
            Op::Crash { mode, seed, twice } => {
                // Nothing is cut off for good before recovery's own work is synced.
                let before = self.states.clone();
                self.crash(*mode, *seed);
                if *twice {
                    self.states = before;
                    self.crash(*mode, seed.wrapping_add(1));
                }
                // What recovery kept is made durable before anything else, as the broker does.
                self.sync();
            }
        }
    }

    fn open(&mut self, clean: bool) {
        let input = RecoveryInput {
            recovery_point: self.persisted,
            frames: self.frames.clone(),
            clean,
            scan: Scan::Needed,
            now_ms: 5,
        };
        let log = Log::open(place_with(Arc::new(self.storage.clone()), 3), CONFIG(), input);
        self.log = Some(log.unwrap_or_else(|error| panic!("{error}")));
    }

    fn crash(&mut self, mode: CrashMode, seed: u64) {
        self.log = None;
        self.storage = self.storage.crash(&mut StdRng::seed_from_u64(seed), mode);
        // The journal had written some of what was pending, in order.
        let many = if self.pending.is_empty() { 0 } else { seed as usize % (self.pending.len() + 1) };
        let all_pending = self.pending.len();
        self.frames.extend(self.pending.drain(..many));
        self.pending.clear();
        self.open(false);
        let found = self.content();
        let fits = |at: usize| {
            let state = &self.states[at];
            let durable = self.states[..=at].iter().map(Content::end).min().unwrap_or(0);
            let begins =
                state.batches.iter().filter(|batch| batch.header().end_offset().get() > self.log_start);
            let kept: Vec<&Batch> = begins.take(found.batches.len()).collect();
            kept.len() == found.batches.len()
                && kept.iter().zip(&found.batches).all(|(a, b)| *a == b)
                && found.end() >= durable.min(state.end())
        };
        let at = (0..self.states.len()).rev().find(|at| fits(*at));
        let at = at.unwrap_or_else(|| {
            let ends: Vec<u64> = self.states.iter().map(Content::end).collect();
            panic!("after {mode:?} the log is {}..{}, its ends were {ends:?}", self.log_start, found.end())
        });
        if mode == CrashMode::Kill && many == all_pending {
            assert_eq!(found.end(), self.now().end(), "a kill loses nothing");
        }
        let durable = self.states[..=at].iter().map(Content::end).min().unwrap_or(0);
        let mut first = found.clone();
        first.cut(durable);
        first.floor = first.floor.min(durable).max(self.log_start.min(durable));
        self.states = vec![first, found];
        self.epoch += 1;
    }

    /// What the log holds, read through a reader, with the batch that holds the start whole.
    fn content(&mut self) -> Content {
        let log = self.log();
        let (reader, start, end) = (log.reader(), log.log_start(), log.log_end());
        let (mut next, mut batches) = (start, Vec::new());
        while next < end {
            let read = reader.read(next, 300, end).unwrap();
            batches.extend(Batch::split(read.bytes, usize::MAX).unwrap());
            next = read.end;
        }
        Content { batches, floor: start.get() }
    }

    fn check(&mut self) {
        let content = self.content();
        let (start, end) = (self.log_start, self.now().end());
        assert_eq!((self.log().log_start().get(), self.log().log_end().get()), (start, end));
        let expected: Vec<&Batch> =
            self.now().batches.iter().filter(|batch| batch.header().end_offset().get() > start).collect();
        assert_eq!(content.batches.iter().collect::<Vec<_>>(), expected);
        self.check_epochs(&content);
        self.check_producers(&content);
        let reader = self.log().reader();
        for from in [start, (start + end) / 2, end] {
            if let Some(tail) = reader.read_tail(Offset::new(from), 300, Offset::new(end)) {
                let read = reader.read(Offset::new(from), 300, Offset::new(end)).unwrap();
                assert!(tail.first == read.first && tail.bytes.starts_with(&read.bytes), "from {from}");
            }
        }
    }

    /// The epochs are what a scan gives, but for one at the end in which nothing was written.
    fn check_epochs(&mut self, content: &Content) {
        let mut scanned = LeaderEpochs::new();
        for batch in &content.batches {
            scanned.assign(batch.header().leader_epoch.unwrap(), batch.header().base_offset).unwrap();
        }
        scanned.advance_start(Offset::new(self.log_start));
        let end = self.log().log_end();
        let mut known = self.log().epochs().clone();
        known.truncate_to(end);
        if content.batches.is_empty() {
            return;
        }
        assert_eq!(known, scanned);
    }

    /// Of every producer at least what a scan gives is known.
    fn check_producers(&mut self, content: &Content) {
        let mut scanned = Producers::new();
        content.batches.iter().for_each(|batch| scanned.update(batch.header(), 5));
        let known: BTreeMap<_, _> =
            self.log().producers().iter().map(|(id, state)| (id, state.clone())).collect();
        for (id, state) in scanned.iter() {
            let known = &known[&id];
            assert_eq!(known.epoch, state.epoch);
            assert!(
                known.batches.iter().rev().zip(state.batches.iter().rev()).all(|(a, b)| a == b),
                "{known:?} {state:?}"
            );
            assert!(known.batches.len() >= state.batches.len());
        }
    }
}

fn run(flush: Flush, ops: &[Op]) {
    let mut twin = Twin::new(flush);
    for op in ops {
        twin.run(op);
        twin.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_journaled_log_is_what_the_twin_says(ops in prop::collection::vec(op(), 1..60)) {
        run(Flush::Journal, &ops);
    }

    #[test]
    fn a_log_left_to_the_page_cache_is_what_the_twin_says(ops in prop::collection::vec(op(), 1..60)) {
        run(Flush::PageCache, &ops);
    }
}
