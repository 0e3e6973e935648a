//! How entries lie in sled: keys, chunks, and the checksum that chains each entry to the one before.
//!
//! Values stay small, because sled writes leaves above some 128 KiB to files of their own that it never syncs. The first
//! chunk of an entry starts with a header: `length u32, previous chain u32, chain u32, term u64, index u64`.

use bytes::{Bytes, BytesMut};

use crate::meta_log::{LogEntry, LogError, MAX_ENTRY_BYTES};
use crate::record::Reader;
use crate::types::Position;

/// The largest value given to sled.
pub(crate) const CHUNK_BYTES: usize = 4096;
const HEADER_BYTES: usize = 28;
const ENTRY_PREFIX: u8 = b'e';
const KEY_BYTES: usize = 13;

/// The key of the state record.
pub(crate) const STATE_KEY: &[u8] = b"s";

/// One change of one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    /// The key gets the value.
    Put(Vec<u8>, Vec<u8>),
    /// The key goes.
    Delete(Vec<u8>),
}

/// An entry with its checksums.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ChainedEntry {
    pub entry: LogEntry,
    /// The chain of the entry before.
    pub previous: u32,
    /// This entry's.
    pub chain: u32,
}

/// The key of one chunk of one entry; keys sort as the entries do.
pub(crate) fn key(index: u64, chunk: u32) -> [u8; KEY_BYTES] {
    let mut key = [ENTRY_PREFIX; KEY_BYTES];
    key[1..9].copy_from_slice(&index.to_be_bytes());
    key[9..].copy_from_slice(&chunk.to_be_bytes());
    key
}

/// Below every entry's key.
pub(crate) const ENTRIES_START: &[u8] = &[ENTRY_PREFIX];
/// Above every entry's key.
pub(crate) const ENTRIES_END: &[u8] = &[ENTRY_PREFIX + 1];

/// Index and chunk number of a key of an entry.
pub(crate) fn parse_key(key: &[u8]) -> Option<(u64, u32)> {
    let key: &[u8; KEY_BYTES] = key.try_into().ok()?;
    let (head, chunk) = key.split_last_chunk::<4>()?;
    let (_, index) = head.split_last_chunk::<8>()?;
    (key[0] == ENTRY_PREFIX).then(|| (u64::from_be_bytes(*index), u32::from_be_bytes(*chunk)))
}

/// The checksum of an entry over all of it and the checksum before, so that the last one vouches for all.
pub(crate) fn chain(previous: u32, position: Position, bytes: &[u8]) -> u32 {
    let mut head = [0; 24];
    head[..4].copy_from_slice(&previous.to_le_bytes());
    head[4..8].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
    head[8..16].copy_from_slice(&position.term.to_le_bytes());
    head[16..].copy_from_slice(&position.index.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&head), bytes)
}

/// Adds what stores `entry` to `ops`; gives its chain.
pub(crate) fn put_entry(ops: &mut Vec<Op>, entry: &LogEntry, previous: u32) -> u32 {
    assert!(entry.bytes.len() <= MAX_ENTRY_BYTES, "checked before anything is written");
    let LogEntry { position, bytes } = entry;
    let chain = chain(previous, *position, bytes);
    let (head, mut rest) = bytes.split_at(bytes.len().min(CHUNK_BYTES - HEADER_BYTES));
    let mut value = Vec::with_capacity(HEADER_BYTES + head.len());
    for number in [bytes.len() as u32, previous, chain] {
        value.extend_from_slice(&number.to_le_bytes());
    }
    value.extend_from_slice(&position.term.to_le_bytes());
    value.extend_from_slice(&position.index.to_le_bytes());
    value.extend_from_slice(head);
    ops.push(Op::Put(key(position.index, 0).to_vec(), value));
    let mut number = 1;
    while !rest.is_empty() {
        let (part, after) = rest.split_at(rest.len().min(CHUNK_BYTES));
        ops.push(Op::Put(key(position.index, number).to_vec(), part.to_vec()));
        rest = after;
        number += 1;
    }
    chain
}

/// Reads entries off sled in order, checking every one of them.
pub(crate) struct EntryScan {
    chunks: sled::Iter,
    end: u64,
}

impl EntryScan {
    /// All entries with an index of `start` or more, below `end`.
    pub(crate) fn new(db: &sled::Db, start: u64, end: u64) -> Self {
        Self { chunks: db.range::<&[u8], _>(key(start, 0).as_slice()..ENTRIES_END), end }
    }

    fn chunk(&mut self) -> Option<Result<(u64, u32, sled::IVec), LogError>> {
        Some(match self.chunks.next()? {
            Err(e) => Err(sled_error("read the log", e)),
            Ok((key, value)) => match parse_key(&key) {
                Some((index, number)) => Ok((index, number, value)),
                None => Err(LogError::Damaged(format!("a key that is none of ours: {key:?}"))),
            },
        })
    }

    fn entry(&mut self, index: u64, value: &[u8]) -> Result<ChainedEntry, LogError> {
        let damaged = |what: &str| LogError::Damaged(format!("entry {index}: {what}"));
        let mut header = Reader(value);
        let mut fields = || Some((header.u32()?, header.u32()?, header.u32()?, header.u64()?, header.u64()?));
        let (length, previous, expected, term, stored_index) =
            fields().ok_or_else(|| damaged("no header"))?;
        let length = length as usize;
        if stored_index != index || length > MAX_ENTRY_BYTES {
            return Err(damaged("its header is another's"));
        }
        let mut bytes = BytesMut::with_capacity(length);
        bytes.extend_from_slice(header.0);
        let mut number = 1;
        while bytes.len() < length {
            match self.chunk() {
                Some(Ok((i, n, part))) if i == index && n == number => bytes.extend_from_slice(&part),
                Some(Err(e)) => return Err(e),
                _ => return Err(damaged("a part of it is missing")),
            }
            number += 1;
        }
        let position = Position { term, index };
        let bytes: Bytes = bytes.freeze();
        if bytes.len() != length || chain(previous, position, &bytes) != expected {
            return Err(damaged("its checksum is wrong"));
        }
        Ok(ChainedEntry { entry: LogEntry { position, bytes }, previous, chain: expected })
    }
}

impl Iterator for EntryScan {
    type Item = Result<ChainedEntry, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.chunk()? {
            Err(e) => Some(Err(e)),
            Ok((index, ..)) if index >= self.end => None,
            Ok((index, 0, value)) => Some(self.entry(index, &value)),
            Ok((index, ..)) => {
                Some(Err(LogError::Damaged(format!("entry {index}: a part without a beginning"))))
            }
        }
    }
}

/// sled's error in our words: what only the disk can have caused, and what only lost bytes can.
pub(crate) fn sled_error(action: &'static str, error: sled::Error) -> LogError {
    match error {
        sled::Error::Io(source) if source.raw_os_error().is_some() => LogError::Io { action, source },
        other => LogError::Damaged(format!("could not {action}: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(length: usize) -> LogEntry {
        LogEntry { position: Position { term: 2, index: 300 }, bytes: vec![7; length].into() }
    }

    #[test]
    fn keys_sort_as_entries_do() {
        assert!(key(255, 9) < key(256, 0) && key(256, 0) < key(256, 256));
        assert!(ENTRIES_START < key(0, 0).as_slice() && key(u64::MAX, u32::MAX).as_slice() < ENTRIES_END);
        assert_eq!(parse_key(&key(70_000, 3)), Some((70_000, 3)));
        assert_eq!(parse_key(STATE_KEY), None);
    }

    #[test]
    fn no_value_is_larger_than_a_chunk() {
        for length in [0, 1, CHUNK_BYTES - HEADER_BYTES, CHUNK_BYTES - HEADER_BYTES + 1, 3 * CHUNK_BYTES] {
            let mut ops = Vec::new();
            put_entry(&mut ops, &entry(length), 0);
            let sizes: Vec<_> = ops
                .iter()
                .map(|op| match op {
                    Op::Put(_, value) => value.len(),
                    Op::Delete(_) => unreachable!("an entry only puts"),
                })
                .collect();
            assert!(sizes.iter().all(|size| *size <= CHUNK_BYTES), "{sizes:?}");
            assert_eq!(sizes.iter().sum::<usize>(), HEADER_BYTES + length);
        }
    }

    #[test]
    fn the_chain_depends_on_everything() {
        let base = chain(1, Position { term: 2, index: 3 }, b"x");
        assert_ne!(base, chain(2, Position { term: 2, index: 3 }, b"x"));
        assert_ne!(base, chain(1, Position { term: 3, index: 3 }, b"x"));
        assert_ne!(base, chain(1, Position { term: 2, index: 4 }, b"x"));
        assert_ne!(base, chain(1, Position { term: 2, index: 3 }, b"y"));
    }
}
