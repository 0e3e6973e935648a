//! Random calls of a log, and what a log says of itself after them. Knows no log.

use vltava_raft_store::{LogBounds, LogEntry, LogError, MetaLog, Position, VoteRecord, VoterId};

use crate::dice::Dice;

/// Everything that a log says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    bounds: LogBounds,
    vote: Option<VoteRecord>,
    committed: Option<Position>,
    entries: Vec<LogEntry>,
}

impl Account {
    pub fn of(log: &impl MetaLog) -> Result<Self, LogError> {
        Ok(Self {
            bounds: log.bounds(),
            vote: log.read_vote(),
            committed: log.read_committed(),
            entries: log.read(0..u64::MAX, usize::MAX)?,
        })
    }

    /// In a few words.
    pub fn brief(&self) -> String {
        let Self { bounds, vote, committed, entries } = self;
        let vote = vote.map(|vote| vote.term);
        format!("{bounds:?}, vote {vote:?}, committed {committed:?}, {} entries", entries.len())
    }
}

pub fn entry(term: u64, index: u64, length: u64) -> LogEntry {
    let bytes: Vec<u8> = (0..length).map(|i| (i * 7 + i / 251 + index * 31 + term) as u8).collect();
    LogEntry { position: Position { term, index }, bytes: bytes.into() }
}

/// How large entries are, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Nearly all are smaller than this.
    pub usual: u64,
    /// A few are up to a quarter larger than this.
    pub large: u64,
}

/// Makes one random call.
pub fn step(log: &mut impl MetaLog, dice: &mut Dice, sizes: Sizes) -> Result<(), LogError> {
    let LogBounds { purged, last } = log.bounds();
    let next = last.map_or(0, |l| l.index + 1);
    let first = purged.map_or(0, |p| p.index + 1);
    let term = last.map_or(1, |l| l.term) + dice.roll(8) / 7;
    let committed = log.read_committed().map_or(0, |c| c.index + 1);
    match dice.roll(16) {
        0 | 1 => {
            let voted_for = (dice.roll(4) > 0).then(|| VoterId::new(dice.roll(3) as u32, 7));
            log.save_vote(VoteRecord { term: term + dice.roll(3), voted_for, committed: dice.roll(2) == 0 })
        }
        2 if next > committed.max(first) => {
            let from = committed.max(first);
            log.truncate_from(from + dice.roll(next - from))
        }
        3 | 4 if next > first => {
            let upto = Position { term, index: first + dice.roll((next - first) * 2 / 3 + 1) };
            log.purge_up_to(upto)
        }
        5 if next > committed => {
            log.note_committed(Some(Position { term, index: committed + dice.roll(next - committed) }));
            log.save_committed()
        }
        _ => {
            let count = 1 + dice.roll(4);
            let entries: Vec<_> = (next..next + count)
                .map(|index| {
                    let length = match dice.roll(12) {
                        0 => sizes.large / 4 + dice.roll(sizes.large),
                        1 => 0,
                        _ => dice.roll(sizes.usual),
                    };
                    entry(term, index, length)
                })
                .collect();
            log.append(&entries)
        }
    }
}
