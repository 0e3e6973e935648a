//! The bytes of the write-ahead log: a file's header, groups of records, and the slots that hold the newest groups twice.
//!
//! All numbers are little-endian, all checksums CRC-32C. Each record's checksum continues the one of the record before,
//! through all files, so that the last one vouches for all. A group is what one write and one sync make durable; its
//! header has a checksum of its own, so that it testifies to its predecessor even where its own body is torn, and a
//! salt that no other file of any log has, so that a stale page is never taken for a group. Knows nothing of disks.

use crate::meta_log::LogEntry;
use crate::record::{Reader, StateRecord, put_vote};
use crate::types::{Position, VoteRecord};

/// What a file begins with, twice, each copy on a page of its own.
pub(super) const HEADER_BYTES: usize = 4096;
/// Groups begin at multiples of this, so that no write touches a sector that holds another group.
pub(super) const SECTOR_BYTES: usize = 512;
/// The head of a group.
pub(super) const GROUP_HEAD_BYTES: usize = 40;
/// The head of a record.
pub(super) const RECORD_HEAD_BYTES: usize = 28;
/// The head of a slot.
pub(super) const SLOT_HEAD_BYTES: usize = 24;
/// What a group that only says where the log goes on takes.
pub(super) const ROLL_BYTES: usize = SECTOR_BYTES;

const VERSION: u32 = 1;
const FILE_MAGIC: &[u8; 8] = b"VLRWAL01";
const GROUP_MAGIC: &[u8; 4] = b"VLWG";
const SLOT_MAGIC: &[u8; 4] = b"VLWS";
const CRC_BYTES: usize = 4;

/// Files are numbered without gaps; 1 is the first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct FileNumber(pub u64);

impl FileNumber {
    pub(super) const FIRST: Self = Self(1);

    pub(super) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl std::fmt::Display for FileNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Why bytes are not what they should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Malformed {
    /// They are not what was written.
    Damaged,
    /// They are what was written, by a release that knows more.
    Newer {
        /// What is not known here.
        what: &'static str,
        /// Its number.
        number: u32,
    },
}

/// What a file says of itself. Written once, before anything else in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FileHeader {
    /// A random number that tells this log from every other.
    pub log_id: u64,
    /// The file's number.
    pub number: FileNumber,
    /// The file's length in bytes, for ever.
    pub capacity: u64,
    /// The length of one slot, a multiple of a sector.
    pub slot_bytes: u32,
    /// The state as of the file's beginning: what came before is in the files before.
    pub state: StateRecord,
}

impl FileHeader {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(FILE_MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.slot_bytes.to_le_bytes());
        for number in [self.log_id, self.number.0, self.capacity] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let state = self.state.encode();
        out.extend_from_slice(&(state.len() as u32).to_le_bytes());
        out.extend_from_slice(&state);
        let mut page = [0; HEADER_BYTES];
        page[..out.len()].copy_from_slice(&out);
        let crc = crc32c::crc32c(&page[..HEADER_BYTES - CRC_BYTES]);
        page[HEADER_BYTES - CRC_BYTES..].copy_from_slice(&crc.to_le_bytes());
        page
    }

    /// Every version has its checksum at the same place, so that damage is told from a version that is not known.
    pub(super) fn decode(page: &[u8]) -> Result<Self, Malformed> {
        let (body, crc) = page.split_last_chunk::<CRC_BYTES>().ok_or(Malformed::Damaged)?;
        if page.len() != HEADER_BYTES || crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return Err(Malformed::Damaged);
        }
        let mut reader = Reader(body);
        let magic = reader.array::<8>();
        let version = reader.u32().ok_or(Malformed::Damaged)?;
        if magic != Some(*FILE_MAGIC) {
            return Err(Malformed::Damaged);
        }
        if version != VERSION {
            return Err(Malformed::Newer { what: "version", number: version });
        }
        let parts = Self::parts(&mut reader).ok_or(Malformed::Damaged)?;
        if let Some(version) = StateRecord::newer_version(parts.4) {
            return Err(Malformed::Newer { what: "version of the state", number: version.into() });
        }
        Self::from_parts(parts).ok_or(Malformed::Damaged)
    }

    /// Length of a slot, log id, number, length of the file, the state's bytes.
    fn parts<'a>(reader: &mut Reader<'a>) -> Option<(u32, u64, u64, u64, &'a [u8])> {
        let (slot_bytes, log_id, number, capacity) =
            (reader.u32()?, reader.u64()?, reader.u64()?, reader.u64()?);
        let length = reader.u32()? as usize;
        Some((slot_bytes, log_id, number, capacity, reader.slice(length)?))
    }

    fn from_parts(
        (slot_bytes, log_id, number, capacity, state): (u32, u64, u64, u64, &[u8]),
    ) -> Option<Self> {
        let state = StateRecord::decode(state)?;
        let number = FileNumber(number);
        let header = Self { log_id, number, capacity, slot_bytes, state };
        let legal = slot_bytes as usize >= SECTOR_BYTES
            && slot_bytes.is_multiple_of(SECTOR_BYTES as u32)
            && capacity >= header.groups_start();
        legal.then_some(header)
    }

    /// What stands in each of the file's groups, and in no other file's.
    pub(super) fn salt(&self) -> u64 {
        let mut x = self.log_id ^ self.number.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// Where the slot of the group with this sequence lies.
    pub(super) fn slot_position(&self, sequence: u64) -> u64 {
        2 * HEADER_BYTES as u64 + (sequence % 2) * u64::from(self.slot_bytes)
    }

    /// Where the first group lies.
    pub(super) fn groups_start(&self) -> u64 {
        groups_start(self.slot_bytes)
    }
}

/// Where the first group lies in a file with slots of this size.
pub(super) fn groups_start(slot_bytes: u32) -> u64 {
    2 * HEADER_BYTES as u64 + 2 * u64::from(slot_bytes)
}

/// One thing that happened to the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Record {
    /// An entry that follows the last one.
    Entry(LogEntry),
    /// The entry `from` and all after it are gone; `last` is the last one now.
    Truncate { from: u64, last: Option<Position> },
    /// All entries up to this position are gone; it may lie beyond the last one.
    Purge(Position),
    /// The vote.
    Vote(VoteRecord),
    /// How far entries are committed.
    Committed(Option<Position>),
    /// The log goes on in this file; the last record of every file but the newest.
    Roll(FileNumber),
}

mod kind {
    pub const ENTRY: u8 = 1;
    pub const TRUNCATE: u8 = 2;
    pub const PURGE: u8 = 3;
    pub const VOTE: u8 = 4;
    pub const COMMITTED: u8 = 5;
    pub const UNCOMMITTED: u8 = 6;
    pub const ROLL: u8 = 7;
}

/// What a record says, without an entry's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    Entry(Position),
    Truncate { from: u64, last_term: u64 },
    Purge(Position),
    Vote(VoteRecord),
    Committed(Option<Position>),
    Roll(FileNumber),
}

/// A record's place in its group's body, and its checksums.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RecordPlace {
    /// From the beginning of the body to the record's head.
    pub offset: usize,
    /// The length of what follows the head.
    pub length: u32,
    /// The chain before.
    pub before: u32,
    /// The record's own.
    pub chain: u32,
}

impl Record {
    /// How many bytes it takes.
    pub(super) fn len(&self) -> usize {
        RECORD_HEAD_BYTES
            + match self {
                Self::Entry(entry) => entry.bytes.len(),
                Self::Vote(vote) => vote_bytes(*vote).len(),
                _ => 0,
            }
    }

    fn put(&self, out: &mut Vec<u8>, before: u32) -> (Change, RecordPlace) {
        let none = Position { term: 0, index: 0 };
        let vote;
        let (kind, at, payload, change) = match self {
            Self::Entry(LogEntry { position, bytes }) => {
                (kind::ENTRY, *position, bytes.as_ref(), Change::Entry(*position))
            }
            Self::Truncate { from, last } => {
                let last_term = last.map_or(0, |last| last.term);
                let change = Change::Truncate { from: *from, last_term };
                (kind::TRUNCATE, Position { term: last_term, index: *from }, &[][..], change)
            }
            Self::Purge(upto) => (kind::PURGE, *upto, &[][..], Change::Purge(*upto)),
            Self::Vote(record) => {
                vote = vote_bytes(*record);
                (kind::VOTE, none, vote.as_slice(), Change::Vote(*record))
            }
            Self::Committed(Some(at)) => (kind::COMMITTED, *at, &[][..], Change::Committed(Some(*at))),
            Self::Committed(None) => (kind::UNCOMMITTED, none, &[][..], Change::Committed(None)),
            Self::Roll(to) => (kind::ROLL, Position { term: 0, index: to.0 }, &[][..], Change::Roll(*to)),
        };
        let offset = out.len();
        out.extend_from_slice(&[kind, 0, 0, 0]);
        out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        out.extend_from_slice(&at.index.to_le_bytes());
        out.extend_from_slice(&at.term.to_le_bytes());
        let chain = chain(before, &out[offset..], payload);
        out.extend_from_slice(&chain.to_le_bytes());
        out.extend_from_slice(payload);
        (change, RecordPlace { offset, length: payload.len() as u32, before, chain })
    }
}

fn vote_bytes(vote: VoteRecord) -> Vec<u8> {
    let mut out = Vec::new();
    put_vote(&mut out, vote);
    out
}

/// The checksum of a record over all of it and the checksum before.
fn chain(before: u32, head: &[u8], payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&before.to_le_bytes()), head);
    crc32c::crc32c_append(crc, payload)
}

/// A record read back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RecordView<'a> {
    pub change: Change,
    pub place: RecordPlace,
    pub payload: &'a [u8],
}

/// Reads the record at the front of `bytes`, which continues `before`.
pub(super) fn read_record(bytes: &[u8], before: u32, offset: usize) -> Result<RecordView<'_>, Malformed> {
    let (head, rest) = bytes.split_first_chunk::<RECORD_HEAD_BYTES>().ok_or(Malformed::Damaged)?;
    let mut reader = Reader(head);
    let parts = (reader.array::<4>(), reader.u32(), reader.u64(), reader.u64(), reader.u32());
    let (Some(kind), Some(length), Some(index), Some(term), Some(expected)) = parts else {
        return Err(Malformed::Damaged);
    };
    let payload = rest.get(..length as usize).ok_or(Malformed::Damaged)?;
    if chain(before, &head[..RECORD_HEAD_BYTES - CRC_BYTES], payload) != expected {
        return Err(Malformed::Damaged);
    }
    let at = Position { term, index };
    let change = match kind[0] {
        kind::ENTRY => Change::Entry(at),
        kind::TRUNCATE => Change::Truncate { from: index, last_term: term },
        kind::PURGE => Change::Purge(at),
        kind::VOTE => Change::Vote(Reader(payload).vote().ok_or(Malformed::Damaged)?),
        kind::COMMITTED => Change::Committed(Some(at)),
        kind::UNCOMMITTED => Change::Committed(None),
        kind::ROLL => Change::Roll(FileNumber(index)),
        other => return Err(Malformed::Newer { what: "kind of record", number: other.into() }),
    };
    Ok(RecordView { change, place: RecordPlace { offset, length, before, chain: expected }, payload })
}

/// The head of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct GroupHead {
    /// Counts groups through all files, without gaps.
    pub sequence: u64,
    /// The length of the body.
    pub length: u32,
    /// How many records are in it.
    pub records: u32,
    /// The chain before the first record.
    pub before: u32,
    /// The chain of the last record.
    pub after: u32,
}

impl GroupHead {
    fn encode(&self, salt: u64) -> [u8; GROUP_HEAD_BYTES] {
        let mut out = [0; GROUP_HEAD_BYTES];
        out[..4].copy_from_slice(GROUP_MAGIC);
        out[8..16].copy_from_slice(&salt.to_le_bytes());
        out[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        for (at, number) in [(24, self.length), (28, self.records), (32, self.before), (36, self.after)] {
            out[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out[8..]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The head at the front of `bytes`, if there is one, whole, of a file with this salt.
    pub(super) fn decode(bytes: &[u8], salt: u64) -> Option<Self> {
        let bytes = bytes.get(..GROUP_HEAD_BYTES)?;
        let mut reader = Reader(bytes);
        if reader.array::<4>()? != *GROUP_MAGIC || reader.u32()? != crc32c::crc32c(&bytes[8..]) {
            return None;
        }
        if reader.u64()? != salt {
            return None;
        }
        Some(Self {
            sequence: reader.u64()?,
            length: reader.u32()?,
            records: reader.u32()?,
            before: reader.u32()?,
            after: reader.u32()?,
        })
    }

    /// The room that the group takes in its file.
    pub(super) fn padded(&self) -> u64 {
        padded(self.length as usize)
    }

    /// The records in `body`, if they are all there as they were written.
    pub(super) fn records<'a>(&self, body: &'a [u8]) -> Result<Vec<RecordView<'a>>, Malformed> {
        let body = body.get(..self.length as usize).ok_or(Malformed::Damaged)?;
        let (mut offset, mut chain) = (0, self.before);
        let mut records = Vec::new();
        while offset < body.len() {
            let record = read_record(&body[offset..], chain, offset)?;
            chain = record.place.chain;
            offset += RECORD_HEAD_BYTES + record.payload.len();
            records.push(record);
        }
        let whole = chain == self.after && records.len() == self.records as usize && !records.is_empty();
        if whole { Ok(records) } else { Err(Malformed::Damaged) }
    }
}

/// The room that a group with a body of `length` bytes takes in its file.
pub(super) fn padded(length: usize) -> u64 {
    (GROUP_HEAD_BYTES + length).next_multiple_of(SECTOR_BYTES) as u64
}

/// A group, ready to be written.
pub(super) struct Group {
    /// Head and body, filled up with zeroes to the end of the last sector.
    pub bytes: Vec<u8>,
    pub head: GroupHead,
    pub changes: Vec<(Change, RecordPlace)>,
}

impl Group {
    /// The group of these records, of which there is at least one.
    pub(super) fn new(salt: u64, sequence: u64, before: u32, records: &[Record]) -> Self {
        assert!(!records.is_empty(), "a group without a record says nothing");
        let length: usize = records.iter().map(Record::len).sum();
        let mut body = Vec::with_capacity(padded(length) as usize);
        // The head's place; offsets count from its end.
        body.resize(GROUP_HEAD_BYTES, 0);
        let mut chain = before;
        let mut changes = Vec::with_capacity(records.len());
        for record in records {
            let (change, mut place) = record.put(&mut body, chain);
            place.offset -= GROUP_HEAD_BYTES;
            chain = place.chain;
            changes.push((change, place));
        }
        let records = records.len() as u32;
        let head = GroupHead { sequence, length: length as u32, records, before, after: chain };
        let mut bytes = body;
        bytes[..GROUP_HEAD_BYTES].copy_from_slice(&head.encode(salt));
        bytes.resize(padded(length) as usize, 0);
        Self { bytes, head, changes }
    }
}

/// A slot's content: the second copy of a group, or, where that is too large, its head, as proof that it was durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Slot {
    /// Where in the file the group lies.
    pub position: u64,
    pub head: GroupHead,
    /// Head and body; none where only the head is here.
    pub group: Option<Vec<u8>>,
}

/// The slot for a group that lies at `position` and whose head and body, with padding, are `bytes`.
pub(super) fn encode_slot(position: u64, head: &GroupHead, bytes: &[u8], content: SlotContent) -> Vec<u8> {
    let content = match content {
        SlotContent::Copy => &bytes[..GROUP_HEAD_BYTES + head.length as usize],
        SlotContent::Proof => &bytes[..GROUP_HEAD_BYTES],
    };
    let mut out = Vec::with_capacity(SLOT_HEAD_BYTES + content.len());
    out.extend_from_slice(SLOT_MAGIC);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&position.to_le_bytes());
    out.extend_from_slice(&(content.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(content);
    let crc = crc32c::crc32c(&out[8..]);
    out[4..8].copy_from_slice(&crc.to_le_bytes());
    out
}

/// How much of a group its slot holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SlotContent {
    /// All of it: written together with the group.
    Copy,
    /// Its head: written when the group is durable.
    Proof,
}

impl SlotContent {
    /// What fits.
    pub(super) fn of(head: &GroupHead, slot_bytes: u32) -> Self {
        let whole = SLOT_HEAD_BYTES + GROUP_HEAD_BYTES + head.length as usize;
        if whole <= slot_bytes as usize { Self::Copy } else { Self::Proof }
    }
}

/// What the slot says; `None` for one that is torn, damaged, another file's or was never written.
pub(super) fn decode_slot(slot: &[u8], salt: u64) -> Option<Slot> {
    let mut reader = Reader(slot);
    if reader.array::<4>()? != *SLOT_MAGIC {
        return None;
    }
    let crc = reader.u32()?;
    let position = reader.u64()?;
    let length = reader.u32()? as usize;
    let end = SLOT_HEAD_BYTES.checked_add(length)?;
    if crc32c::crc32c(slot.get(8..end)?) != crc {
        return None;
    }
    let content = &slot[SLOT_HEAD_BYTES..end];
    let head = GroupHead::decode(content, salt)?;
    let whole = GROUP_HEAD_BYTES + head.length as usize;
    match length {
        GROUP_HEAD_BYTES => Some(Slot { position, head, group: None }),
        _ if length == whole => Some(Slot { position, head, group: Some(content.to_vec()) }),
        _ => None,
    }
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
