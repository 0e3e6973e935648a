//! Histories as files: append-only frames of events, compact enough for hundreds of millions of records.
//!
//! A file is the magic `VLTHIST1`, then frames: length (4 bytes), CRC32C of the body (4 bytes), both little-endian, and
//! a body of that length: events, each a tag byte and its fields. Numbers are LEB128; times of completion are written
//! as the (zigzag) difference to the one before in the same frame; texts and lists carry their length in front. A frame is
//! read as a whole or not at all, so a process that was killed costs its last frame only.

mod decode;
mod encode;
mod reader;
mod writer;

pub use reader::{Ended, ReadError, Reader};
pub use writer::Writer;

/// The first bytes of a file.
const MAGIC: [u8; 8] = *b"VLTHIST1";
/// A frame is closed when its body is longer than this.
const FRAME_FULL: usize = 64 << 10;
/// No frame's body is longer than this: a full one and the largest event.
const FRAME_MAX: usize = 512 << 10;
/// Texts are cut at so many bytes.
const TEXT_MAX: usize = 200;
/// Entries of one poll; longer ones are written as several.
const SEEN_MAX: usize = 1024;
/// Nodes of one fault.
const NODES_MAX: usize = 1024;

/// The tag bytes of events and of what they contain. Frozen: a number is never used again for something else.
mod tag {
    pub const BEGIN: u8 = 1;
    pub const CLIENT: u8 = 2;
    pub const PARTITION: u8 = 3;
    pub const PRODUCE: u8 = 4;
    pub const POLL: u8 = 5;
    pub const ASSIGN: u8 = 6;
    pub const ADMIN: u8 = 7;
    pub const FAULT_BEGINS: u8 = 8;
    pub const FAULT_ENDS: u8 = 9;
    pub const END: u8 = 10;

    pub const OK: u8 = 0;
    pub const FAILED: u8 = 1;
    pub const UNKNOWN: u8 = 2;

    pub const RECORDS: u8 = 0;
    pub const CORRUPT: u8 = 1;
    pub const MISPLACED: u8 = 2;
    pub const FOREIGN: u8 = 3;

    pub const CREATE_TOPIC: u8 = 0;
    pub const DELETE_TOPIC: u8 = 1;
    pub const DELETE_RECORDS: u8 = 2;
    pub const OTHER: u8 = 3;
}

#[cfg(test)]
mod tests;
