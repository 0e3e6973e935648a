//! A log's state in one small record, the same for every log on disk: sled's keeps it with every change and in its
//! witness, the write-ahead log at the beginning of each file.
//!
//! It numbers the changes and pins the last one by a chained checksum, so that two copies of it can be compared. It
//! knows neither sled nor files.

use crate::types::{Position, VoteRecord, VoterId};

const VERSION: u8 = 1;

/// Where the log stands after change number `change`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct StateRecord {
    /// How many durable changes there were; 0 is the empty log.
    pub change: u64,
    /// The index of the first entry present; none in an empty log.
    pub first: Option<u64>,
    /// The last entry present, else `purged`.
    pub last: Option<Position>,
    /// The last entry that was removed from the front.
    pub purged: Option<Position>,
    /// The chained checksum: in sled's log of the last entry present, 0 in an empty one; in the write-ahead log of the
    /// last record of any kind.
    pub chain: u32,
    /// The vote.
    pub vote: Option<VoteRecord>,
    /// How far entries are committed, as far as it was written.
    pub committed: Option<Position>,
}

impl StateRecord {
    /// `version u8, change u64, chain u32`, then each optional part as a presence byte and its numbers, then the
    /// CRC-32C of it all; little-endian.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.change.to_le_bytes());
        out.extend_from_slice(&self.chain.to_le_bytes());
        put(&mut out, self.first, |out, first| out.extend_from_slice(&first.to_le_bytes()));
        put(&mut out, self.last, put_position);
        put(&mut out, self.purged, put_position);
        put(&mut out, self.committed, put_position);
        put(&mut out, self.vote, put_vote);
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// The version that a whole record of a later release states.
    pub(crate) fn newer_version(bytes: &[u8]) -> Option<u8> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        let version = *body.first()?;
        (version > VERSION && crc32c::crc32c(body) == u32::from_le_bytes(*crc)).then_some(version)
    }

    /// The record behind the bytes, if they are one, whole and unharmed.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        let mut reader = Reader(body);
        if reader.u8()? != VERSION {
            return None;
        }
        let change = reader.u64()?;
        let chain = reader.u32()?;
        let first = reader.optional(Reader::u64)?;
        let last = reader.optional(Reader::position)?;
        let purged = reader.optional(Reader::position)?;
        let committed = reader.optional(Reader::position)?;
        let vote = reader.optional(Reader::vote)?;
        reader.0.is_empty().then_some(Self { change, first, last, purged, chain, vote, committed })
    }
}

fn put<T>(out: &mut Vec<u8>, value: Option<T>, write: impl FnOnce(&mut Vec<u8>, T)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        write(out, value);
    }
}

/// `term u64, committed u8`, then whom the vote went to: a presence byte, and `node u32, directory u128`.
pub(crate) fn put_vote(out: &mut Vec<u8>, vote: VoteRecord) {
    out.extend_from_slice(&vote.term.to_le_bytes());
    out.push(u8::from(vote.committed));
    put(out, vote.voted_for, |out, voter| {
        out.extend_from_slice(&voter.node.to_le_bytes());
        out.extend_from_slice(&voter.directory.to_le_bytes());
    });
}

fn put_position(out: &mut Vec<u8>, position: Position) {
    out.extend_from_slice(&position.term.to_le_bytes());
    out.extend_from_slice(&position.index.to_le_bytes());
}

/// Takes little-endian numbers off the front of bytes; `None` where they end.
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    pub(crate) fn slice(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        Some(head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn bool(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.bool()? { read(self).map(Some) } else { Some(None) }
    }

    fn position(&mut self) -> Option<Position> {
        Some(Position { term: self.u64()?, index: self.u64()? })
    }

    /// What [`put_vote`] wrote.
    pub(crate) fn vote(&mut self) -> Option<VoteRecord> {
        let term = self.u64()?;
        let committed = self.bool()?;
        let voted_for = self
            .optional(|r| Some(VoterId { node: r.u32()?, directory: r.array().map(u128::from_le_bytes)? }))?;
        Some(VoteRecord { term, voted_for, committed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> StateRecord {
        StateRecord {
            change: 77,
            first: Some(4),
            last: Some(Position { term: 2, index: 9 }),
            purged: Some(Position { term: 1, index: 3 }),
            chain: 0xdead_beef,
            vote: Some(VoteRecord { term: 2, voted_for: Some(VoterId::new(1, 99)), committed: true }),
            committed: Some(Position { term: 2, index: 8 }),
        }
    }

    #[test]
    fn records_read_back() {
        let undecided = VoteRecord { term: 9, voted_for: None, committed: false };
        for record in [StateRecord::default(), full(), StateRecord { vote: Some(undecided), ..full() }] {
            assert_eq!(StateRecord::decode(&record.encode()), Some(record));
        }
    }

    #[test]
    fn no_changed_bit_and_no_cut_goes_unnoticed() {
        let bytes = full().encode();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(StateRecord::decode(&changed), None, "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert_eq!(StateRecord::decode(&bytes[..length]), None, "cut to {length}");
        }
    }
}
