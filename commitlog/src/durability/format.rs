//! The journal's bytes on disk.
//!
//! A file begins with a header block; from [`FILE_HEADER_BYTES`] on, groups follow each other, each beginning on a
//! sector boundary, so that a write torn within a sector never touches a group that was acknowledged before.
//!
//! All integers are big-endian. File header, 36 bytes, the rest of the block zero:
//! `VJRN`, version (2), zero (2), salt (8), generation (8), floor (8), crc32c of all before (4).
//! Generations number the uses of files, without gaps; groups with a sequence below the floor are left over from an
//! earlier use. The salt is the journal's own: bytes that a client sends never look like a group.
//!
//! Group header, 40 bytes: `VJGR`, crc32c of all that follows (4), version (2), zero (2), salt (8), sequence (8),
//! length of header and frames (4), number of frames (4), zero (4). Sequences number the groups, without gaps, for as
//! long as the journal lives. A group is written by one write and then synced, one group at a time: so it is whole or
//! was never acknowledged, and only the newest may be torn.
//!
//! Frame, 48 bytes and the batches: kind (1), zero (3), leader epoch (4), topic id (16), partition (4), length of the
//! batches (4), base offset (8), end offset (8). Kinds: 1 append, 2 synced, 3 truncate, 4 start offset, 5 delete, 6 empty;
//! 2, 3 and 4 use the end offset alone.
//!
//! Knows nothing of files, threads or recovery's rules.

use bytes::Bytes;
use vltava_model::{LeaderEpoch, Offset, PartitionIndex, TopicId, TopicPartition};

use super::entry::{RecoveredBody, RecoveredFrame};

/// Where groups begin, and the unit of their positions.
pub(super) const SECTOR_BYTES: u64 = 512;

/// The room kept for a file's header.
pub(super) const FILE_HEADER_BYTES: u64 = 4096;

/// The length of a group's header.
pub(super) const GROUP_HEADER_BYTES: usize = 40;

/// The length of a frame without its batches.
pub(super) const FRAME_HEADER_BYTES: usize = 48;

const FILE_MAGIC: &[u8; 4] = b"VJRN";
const GROUP_MAGIC: &[u8; 4] = b"VJGR";
const VERSION: u16 = 1;
const FILE_HEADER_USED: usize = 36;

/// Where the bytes that a group's checksum covers begin.
pub(super) const GROUP_CRC_FROM: usize = 8;

/// What is wrong with bytes from disk.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    /// They are not what was written.
    Damaged(&'static str),
    /// A later release wrote them.
    Version(u16),
}

/// The header of a journal file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub salt: u64,
    pub generation: u64,
    pub floor: u64,
}

impl FileHeader {
    /// The whole first sector of a file.
    pub fn encode(&self) -> [u8; SECTOR_BYTES as usize] {
        let mut bytes = [0; SECTOR_BYTES as usize];
        bytes[..4].copy_from_slice(FILE_MAGIC);
        bytes[4..6].copy_from_slice(&VERSION.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.salt.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.generation.to_be_bytes());
        bytes[24..32].copy_from_slice(&self.floor.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[..32]);
        bytes[32..36].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// Reads a file's header; `None` when none was ever written: the file was being made when the process ended.
    pub fn decode(file: &[u8]) -> Result<Option<Self>, Malformed> {
        let block = &file[..file.len().min(FILE_HEADER_BYTES as usize)];
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let Some(header) = block.first_chunk::<FILE_HEADER_USED>() else {
            return Err(Malformed::Damaged("the file is too short for its header"));
        };
        if !header.starts_with(FILE_MAGIC) {
            return Err(Malformed::Damaged("not a journal file"));
        }
        if crc32c::crc32c(&header[..32]) != u32_at(header, 32) {
            return Err(Malformed::Damaged("the checksum of the file's header does not match"));
        }
        match u16::from_be_bytes([header[4], header[5]]) {
            VERSION => {}
            other => return Err(Malformed::Version(other)),
        }
        Ok(Some(Self { salt: u64_at(header, 8), generation: u64_at(header, 16), floor: u64_at(header, 24) }))
    }
}

/// The header of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupHeader {
    pub salt: u64,
    pub sequence: u64,
    /// Header and frames, without what pads the last sector.
    pub length: u32,
    pub frames: u32,
}

impl GroupHeader {
    /// The header; its checksum, bytes 4 to 8, is the caller's to fill in when all that follows is known.
    pub fn encode(&self) -> [u8; GROUP_HEADER_BYTES] {
        let mut bytes = [0; GROUP_HEADER_BYTES];
        bytes[..4].copy_from_slice(GROUP_MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_be_bytes());
        bytes[12..20].copy_from_slice(&self.salt.to_be_bytes());
        bytes[20..28].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[28..32].copy_from_slice(&self.length.to_be_bytes());
        bytes[32..36].copy_from_slice(&self.frames.to_be_bytes());
        bytes
    }

    /// Reads the group that `bytes` begin with; `None` when there is none, or it is torn. Returns its length on disk.
    pub fn decode(bytes: &[u8], salt: u64) -> Result<Option<(Self, usize)>, Malformed> {
        let Some(header) = bytes.first_chunk::<GROUP_HEADER_BYTES>() else { return Ok(None) };
        if !header.starts_with(GROUP_MAGIC) || u64_at(header, 12) != salt {
            return Ok(None);
        }
        let length = u32_at(header, 28) as usize;
        let whole = length >= GROUP_HEADER_BYTES && length <= bytes.len();
        if !whole || crc32c::crc32c(&bytes[GROUP_CRC_FROM..length]) != u32_at(header, 4) {
            return Ok(None);
        }
        match u16::from_be_bytes([header[8], header[9]]) {
            VERSION => {}
            other => return Err(Malformed::Version(other)),
        }
        let group =
            Self { salt, sequence: u64_at(header, 20), length: length as u32, frames: u32_at(header, 32) };
        Ok(Some((group, length.next_multiple_of(SECTOR_BYTES as usize))))
    }
}

/// The kind of a frame, as on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameKind {
    Append = 1,
    Synced = 2,
    Truncate = 3,
    StartOffset = 4,
    Delete = 5,
    Empty = 6,
}

/// A frame without its batches.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameHeader {
    pub kind: FrameKind,
    pub partition: TopicPartition,
    pub leader_epoch: LeaderEpoch,
    pub base_offset: Offset,
    pub end_offset: Offset,
    pub length: u32,
}

impl FrameHeader {
    pub fn encode(&self) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        bytes[0] = self.kind as u8;
        bytes[4..8].copy_from_slice(&self.leader_epoch.get().to_be_bytes());
        bytes[8..24].copy_from_slice(&self.partition.topic.to_bytes());
        bytes[24..28].copy_from_slice(&self.partition.partition.get().to_be_bytes());
        bytes[28..32].copy_from_slice(&self.length.to_be_bytes());
        bytes[32..40].copy_from_slice(&self.base_offset.get().to_be_bytes());
        bytes[40..48].copy_from_slice(&self.end_offset.get().to_be_bytes());
        bytes
    }
}

/// Reads all frames of a group whose checksum matched.
pub(super) fn decode_frames(group: &Bytes) -> Result<Vec<(TopicPartition, RecoveredFrame)>, Malformed> {
    let Some(header) = group.first_chunk::<GROUP_HEADER_BYTES>() else {
        return Err(Malformed::Damaged("a group shorter than its header"));
    };
    let count = u32_at(header, 32) as usize;
    if count > group.len() / FRAME_HEADER_BYTES {
        return Err(Malformed::Damaged("more frames than fit"));
    }
    let mut frames = Vec::with_capacity(count);
    let mut at = GROUP_HEADER_BYTES;
    for _ in 0..count {
        let Some(header) = group[at..].first_chunk::<FRAME_HEADER_BYTES>() else {
            return Err(Malformed::Damaged("a frame shorter than its header"));
        };
        at += FRAME_HEADER_BYTES;
        let length = u32_at(header, 28) as usize;
        if length > group.len() - at {
            return Err(Malformed::Damaged("a frame longer than its group"));
        }
        frames.push(decode_frame(header, group.slice(at..at + length))?);
        at += length;
    }
    if at != group.len() {
        return Err(Malformed::Damaged("bytes after the last frame"));
    }
    Ok(frames)
}

fn decode_frame(
    header: &[u8; FRAME_HEADER_BYTES],
    bytes: Bytes,
) -> Result<(TopicPartition, RecoveredFrame), Malformed> {
    let offset = |at| match u64_at(header, at) {
        raw if raw <= Offset::MAX.get() => Ok(Offset::new(raw)),
        _ => Err(Malformed::Damaged("an offset that cannot be")),
    };
    let (base_offset, end_offset) = (offset(32)?, offset(40)?);
    let body = match header[0] {
        kind if kind == FrameKind::Append as u8 => RecoveredBody::Append { base_offset, end_offset, bytes },
        kind if kind == FrameKind::Synced as u8 => RecoveredBody::Synced { end_offset },
        kind if kind == FrameKind::Truncate as u8 => RecoveredBody::Truncate { to: end_offset },
        kind if kind == FrameKind::StartOffset as u8 => RecoveredBody::StartOffset { to: end_offset },
        kind if kind == FrameKind::Delete as u8 => RecoveredBody::Delete,
        kind if kind == FrameKind::Empty as u8 => RecoveredBody::Empty,
        _ => return Err(Malformed::Damaged("a frame of an unknown kind")),
    };
    let mut topic = [0; 16];
    topic.copy_from_slice(&header[8..24]);
    let partition = TopicPartition::new(
        TopicId::new(u128::from_be_bytes(topic)),
        PartitionIndex::new(u32_at(header, 24)),
    );
    Ok((partition, RecoveredFrame { leader_epoch: LeaderEpoch::new(u32_at(header, 4)), body }))
}

/// The four bytes at `at`, which the caller's array has.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut raw = [0; 4];
    raw.copy_from_slice(&bytes[at..at + 4]);
    u32::from_be_bytes(raw)
}

/// The eight bytes at `at`, which the caller's array has.
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut raw = [0; 8];
    raw.copy_from_slice(&bytes[at..at + 8]);
    u64::from_be_bytes(raw)
}
