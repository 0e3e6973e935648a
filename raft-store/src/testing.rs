//! What the tests of several modules share: a small state machine, entries, damage.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use openraft::EntryPayload;
use proptest::prelude::*;
use vltava_storage::RealStorage;

use crate::engine::LogEngine;
use crate::meta_log::{LogBounds, LogEntry, MetaLog};
use crate::open::StoreOptions;
use crate::state_machine::{ApplyError, EncodeSnapshot, RestoreError, StateMachine};
use crate::types::{Command, Position, RaftEntry, RaftMembership, VoteRecord, VoterId};

/// Names and values. `name=value` sets, `-name` removes, `!` cannot be applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub names: BTreeMap<String, String>,
    pub voters: usize,
}

impl StateMachine for Names {
    fn apply(&mut self, log_index: u64, command: &[u8]) -> Result<Bytes, ApplyError> {
        let text = std::str::from_utf8(command).map_err(|e| ApplyError(e.to_string()))?;
        if text == "!" {
            return Err(ApplyError(format!("entry {log_index} makes no sense")));
        }
        match text.split_once('=') {
            Some((name, value)) => self.names.insert(name.into(), value.into()),
            None => self.names.remove(text.trim_start_matches('-')),
        };
        Ok(Bytes::from(format!("{} names", self.names.len())))
    }

    fn snapshot(&self) -> EncodeSnapshot {
        let names = self.names.clone();
        Box::new(move || serde_json::to_vec(&names).unwrap())
    }

    fn restore(&mut self, _log_index: u64, snapshot: &[u8]) -> Result<(), RestoreError> {
        self.names = serde_json::from_slice(snapshot).map_err(|e| RestoreError(e.to_string()))?;
        Ok(())
    }

    fn membership(&mut self, _log_index: u64, membership: &RaftMembership) {
        self.voters = membership.voter_ids().count();
    }
}

/// The options for a store on the real disk.
pub(crate) fn on(engine: LogEngine, directory: &Path) -> StoreOptions {
    StoreOptions { engine: Some(engine), ..StoreOptions::new(RealStorage::shared(), directory, 1) }
}

pub(crate) fn position(term: u64, index: u64) -> Position {
    Position { term, index }
}

pub(crate) fn command(term: u64, index: u64, text: impl Into<Bytes>) -> RaftEntry {
    RaftEntry { log_id: position(term, index).into(), payload: EntryPayload::Normal(Command(text.into())) }
}

/// An entry of `length` bytes that differ from place to place and from entry to entry.
pub(crate) fn stored(term: u64, index: u64, length: usize) -> LogEntry {
    let bytes: Vec<u8> = (0..length as u64).map(|i| (i * 7 + i / 251 + index * 31 + term) as u8).collect();
    LogEntry { position: position(term, index), bytes: bytes.into() }
}

/// A small deterministic generator (splitmix64).
pub(crate) struct Dice(pub u64);

impl Dice {
    pub(crate) fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % below
    }
}

/// How many trials to run: `name` in the environment, else `usual`.
pub(crate) fn trials(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

pub(crate) fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let target = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            copy_directory(&file.path(), &target);
        } else {
            fs::copy(file.path(), target).unwrap();
        }
    }
}

/// All files below a directory, sorted.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for file in fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// What a log says of itself: its reach, its vote, how far it is committed, its entries.
pub(crate) type Account = (LogBounds, Option<VoteRecord>, Option<Position>, Vec<LogEntry>);

/// Everything that a log says of itself.
pub(crate) fn account(log: &impl MetaLog) -> Account {
    (log.bounds(), log.read_vote(), log.read_committed(), log.read(0..u64::MAX, usize::MAX).unwrap())
}

pub(crate) fn vote(term: u64) -> VoteRecord {
    VoteRecord { term, voted_for: Some(VoterId::new(1, 7)), committed: true }
}

/// One call of a log, with its numbers relative to where the log stands.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Append { entries: u64, term_up: u64, bytes: usize },
    Truncate { back: u64 },
    Purge { ahead: u64 },
    Vote { term: u64 },
    Commit { back: u64 },
}

/// Random calls, and for each whether the log is opened again after it.
pub(crate) fn steps(at_most: usize) -> impl Strategy<Value = Vec<(Step, bool)>> {
    let size = prop_oneof![8 => 0..300usize, 2 => 4000..9000usize, 1 => 60_000..80_000usize];
    let step = prop_oneof![
        6 => (1..5u64, 0..2u64, size).prop_map(|(entries, term_up, bytes)| Step::Append { entries, term_up, bytes }),
        2 => (0..4u64).prop_map(|back| Step::Truncate { back }),
        2 => (0..6u64).prop_map(|ahead| Step::Purge { ahead }),
        2 => (0..9u64).prop_map(|term| Step::Vote { term }),
        1 => (0..6u64).prop_map(|back| Step::Commit { back }),
    ];
    proptest::collection::vec((step, prop::bool::weighted(0.8)), 1..at_most)
}

/// Makes one call.
pub(crate) fn play(log: &mut impl MetaLog, step: &Step) -> Result<(), String> {
    let LogBounds { purged, last } = log.bounds();
    let next = last.map_or(0, |l| l.index + 1);
    let term = last.map_or(1, |l| l.term);
    let result = match step {
        Step::Append { entries, term_up, bytes } => {
            let new: Vec<_> = (next..next + entries).map(|i| stored(term + term_up, i, *bytes)).collect();
            log.append(&new)
        }
        Step::Truncate { back } => log.truncate_from(next.saturating_sub(*back)),
        Step::Purge { ahead } => log.purge_up_to(position(term, purged.map_or(0, |p| p.index) + ahead)),
        Step::Vote { term } => log.save_vote(vote(*term)),
        Step::Commit { back } => {
            let committed = log.read_committed().map_or(0, |c| c.index).max(next.saturating_sub(*back));
            log.note_committed(Some(position(term, committed)));
            log.save_committed()
        }
    };
    result.map_err(|_| "refused".into())
}
