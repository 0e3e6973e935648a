//! What the tests of several modules share: a small state machine, entries, damage.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use openraft::EntryPayload;

use crate::meta_log::LogEntry;
use crate::state_machine::{ApplyError, EncodeSnapshot, RestoreError, StateMachine};
use crate::types::{Command, Position, RaftEntry, RaftMembership};

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
