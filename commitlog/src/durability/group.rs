//! Turns what was submitted into the one write of a group.
//!
//! Small batches are copied next to their frame headers, large ones are written from where they lie. All buffers are
//! kept from group to group. Knows nothing of files or of what is done with the slices.

use std::collections::BTreeSet;
use std::io::IoSlice;
use std::ops::Range;

use vltava_model::{Offset, TopicPartition};

use super::entry::{EntryBody, JournalEntry};
use super::format::{
    FRAME_HEADER_BYTES, FrameHeader, FrameKind, GROUP_CRC_FROM, GROUP_HEADER_BYTES, GroupHeader, SECTOR_BYTES,
};

/// From this size on a slice of its own costs less than a copy.
const COPY_BELOW_BYTES: usize = 4096;

/// Builds one group after the other.
#[derive(Default)]
pub(super) struct GroupBuilder {
    /// Headers, small batches and padding.
    scratch: Vec<u8>,
    pieces: Vec<Piece>,
    slices: Vec<IoSlice<'static>>,
}

/// A part of the group, in order.
enum Piece {
    Scratch(Range<usize>),
    /// The batches of the entry of that index.
    Payload(usize),
}

/// The length on disk of a group of that many frames with that many bytes of batches.
pub(super) fn group_len(frames: usize, payload: u64) -> u64 {
    let headers = GROUP_HEADER_BYTES + frames * FRAME_HEADER_BYTES;
    (headers as u64 + payload).next_multiple_of(SECTOR_BYTES)
}

impl GroupBuilder {
    /// Lays out a group of `entries`, those of `by_segment` without their batches, and hands its slices to `write`.
    pub fn write<R>(
        &mut self,
        salt: u64,
        sequence: u64,
        entries: &[JournalEntry],
        by_segment: &BTreeSet<TopicPartition>,
        write: impl FnOnce(&[IoSlice<'_>]) -> R,
    ) -> R {
        self.lay_out(salt, sequence, entries, by_segment);
        let mut slices: Vec<IoSlice<'_>> = std::mem::take(&mut self.slices);
        slices.extend(self.pieces.iter().map(|piece| match piece {
            Piece::Scratch(range) => IoSlice::new(&self.scratch[range.clone()]),
            Piece::Payload(entry) => IoSlice::new(entries[*entry].body.payload()),
        }));
        let result = write(&slices);
        slices.clear();
        // An empty vector borrows nothing; collecting it in place keeps its memory for the next group.
        self.slices = slices.into_iter().map(|_| IoSlice::new(&[])).collect();
        result
    }

    fn lay_out(
        &mut self,
        salt: u64,
        sequence: u64,
        entries: &[JournalEntry],
        by_segment: &BTreeSet<TopicPartition>,
    ) {
        self.scratch.clear();
        self.pieces.clear();
        self.scratch.extend_from_slice(&[0; GROUP_HEADER_BYTES]);
        let mut scratch_from = 0;
        let mut elsewhere = 0;
        for (index, entry) in entries.iter().enumerate() {
            let synced = by_segment.contains(&entry.partition);
            let payload: &[u8] = if synced { &[] } else { entry.body.payload() };
            self.scratch.extend_from_slice(&frame_header(entry, synced, payload.len()).encode());
            if payload.len() < COPY_BELOW_BYTES {
                self.scratch.extend_from_slice(payload);
            } else {
                self.pieces.push(Piece::Scratch(scratch_from..self.scratch.len()));
                self.pieces.push(Piece::Payload(index));
                scratch_from = self.scratch.len();
                elsewhere += payload.len();
            }
        }
        let length = self.scratch.len() + elsewhere;
        let header = GroupHeader { salt, sequence, length: length as u32, frames: entries.len() as u32 };
        self.scratch[..GROUP_HEADER_BYTES].copy_from_slice(&header.encode());
        let unpadded = scratch_from..self.scratch.len();
        let crc = self.checksum(entries, unpadded);
        self.scratch[4..8].copy_from_slice(&crc.to_be_bytes());
        let padding = length.next_multiple_of(SECTOR_BYTES as usize) - length;
        self.scratch.resize(self.scratch.len() + padding, 0);
        self.pieces.push(Piece::Scratch(scratch_from..self.scratch.len()));
    }

    /// The checksum over all pieces so far and the last one, not yet among them.
    fn checksum(&self, entries: &[JournalEntry], last: Range<usize>) -> u32 {
        let mut crc = 0;
        for piece in &self.pieces {
            let bytes = match piece {
                Piece::Scratch(range) => &self.scratch[range.start.max(GROUP_CRC_FROM)..range.end],
                Piece::Payload(entry) => entries[*entry].body.payload(),
            };
            crc = crc32c::crc32c_append(crc, bytes);
        }
        crc32c::crc32c_append(crc, &self.scratch[last.start.max(GROUP_CRC_FROM)..last.end])
    }
}

fn frame_header(entry: &JournalEntry, synced: bool, length: usize) -> FrameHeader {
    let (kind, base_offset, end_offset) = match &entry.body {
        EntryBody::Append { base_offset, end_offset, .. } if synced => {
            (FrameKind::Synced, *base_offset, *end_offset)
        }
        EntryBody::Append { base_offset, end_offset, .. } => (FrameKind::Append, *base_offset, *end_offset),
        EntryBody::Sync { end_offset, .. } => (FrameKind::Synced, Offset::ZERO, *end_offset),
        EntryBody::Truncate { to } => (FrameKind::Truncate, Offset::ZERO, *to),
        EntryBody::StartOffset { to } => (FrameKind::StartOffset, Offset::ZERO, *to),
        EntryBody::Delete => (FrameKind::Delete, Offset::ZERO, Offset::ZERO),
        EntryBody::Empty => (FrameKind::Empty, Offset::ZERO, Offset::ZERO),
    };
    FrameHeader {
        kind,
        partition: entry.partition,
        leader_epoch: entry.leader_epoch,
        base_offset,
        end_offset,
        length: length as u32,
    }
}
