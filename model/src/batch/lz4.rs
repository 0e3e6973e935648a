//! LZ4 frames, read straight into the output.
//!
//! The codec crate's own frame reader reserves whatever block size a frame claims, up to some 12 MiB for a frame of a
//! few bytes; here memory grows only with what a block really holds. The frame's own checksums are not looked at: the
//! batch's covers all of it.

use std::io::{self, ErrorKind};

use lz4_flex::block::{DecompressError, decompress_into_with_dict};

/// The first bytes of a frame. The older "legacy" frames, which Kafka does not know, begin otherwise.
const MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
/// How far back a block may refer.
const WINDOW_BYTES: usize = 64 << 10;

const VERSION_MASK: u8 = 0b1100_0000;
const VERSION: u8 = 0b0100_0000;
const INDEPENDENT: u8 = 1 << 5;
const BLOCK_CHECKSUMS: u8 = 1 << 4;
const CONTENT_SIZE: u8 = 1 << 3;
const CONTENT_CHECKSUM: u8 = 1 << 2;
const RESERVED: u8 = 1 << 1;
const DICTIONARY: u8 = 1;

const STORED_BLOCK: u32 = 1 << 31;

/// What the one frame in `data` decompresses to, or `None` when that is more than `limit` bytes.
pub(super) fn decompress_frame(data: &[u8], limit: usize) -> io::Result<Option<Vec<u8>>> {
    let mut input = Input(data);
    let frame = Frame::read(&mut input)?;
    let mut out = Vec::with_capacity(data.len().min(limit));
    loop {
        let length = u32::from_le_bytes(input.array()?);
        if length == 0 {
            break;
        }
        let block = input.take((length & !STORED_BLOCK) as usize)?;
        if block.len() > frame.max_block_bytes {
            return Err(invalid("a block is larger than the frame allows"));
        }
        let fits = if length & STORED_BLOCK != 0 {
            out.extend_from_slice(block);
            out.len() <= limit
        } else {
            frame.append_block(block, &mut out, limit)?
        };
        if !fits {
            return Ok(None);
        }
        if frame.block_checksums {
            input.take(4)?;
        }
    }
    if frame.content_checksum {
        input.take(4)?;
    }
    if !input.0.is_empty() {
        return Err(invalid("bytes follow the LZ4 frame"));
    }
    Ok(Some(out))
}

/// What the front of a frame says.
struct Frame {
    max_block_bytes: usize,
    /// Blocks refer to those before them. Kafka's own clients do not write such frames, others may.
    linked: bool,
    block_checksums: bool,
    content_checksum: bool,
}

impl Frame {
    fn read(input: &mut Input<'_>) -> io::Result<Self> {
        if input.array()? != MAGIC {
            return Err(invalid("not an LZ4 frame"));
        }
        let [flags, block_size] = input.array()?;
        if flags & VERSION_MASK != VERSION || flags & RESERVED != 0 {
            return Err(invalid("an LZ4 frame of unknown version"));
        }
        if flags & DICTIONARY != 0 {
            return Err(invalid("an LZ4 frame that needs a dictionary"));
        }
        let max_block_bytes = match block_size {
            0x40 => 64 << 10,
            0x50 => 256 << 10,
            0x60 => 1 << 20,
            0x70 => 4 << 20,
            _ => return Err(invalid("an LZ4 frame of unknown block size")),
        };
        if flags & CONTENT_SIZE != 0 {
            input.take(8)?;
        }
        // The checksum of the front.
        input.take(1)?;
        Ok(Self {
            max_block_bytes,
            linked: flags & INDEPENDENT == 0,
            block_checksums: flags & BLOCK_CHECKSUMS != 0,
            content_checksum: flags & CONTENT_CHECKSUM != 0,
        })
    }

    /// Says whether the block fitted into `limit`.
    fn append_block(&self, block: &[u8], out: &mut Vec<u8>, limit: usize) -> io::Result<bool> {
        let start = out.len();
        let most = self.max_block_bytes.min(limit.saturating_sub(start));
        let mut room = block.len().saturating_mul(4).min(most);
        loop {
            out.resize(start + room, 0);
            let (before, behind) = out.split_at_mut(start);
            let window = if self.linked { &before[start.saturating_sub(WINDOW_BYTES)..] } else { &[] };
            match decompress_into_with_dict(block, behind, window) {
                Ok(written) => {
                    out.truncate(start + written);
                    return Ok(true);
                }
                Err(DecompressError::OutputTooSmall { .. }) if room < most => {
                    room = room.saturating_mul(4).min(most);
                }
                Err(DecompressError::OutputTooSmall { .. }) if most < self.max_block_bytes => {
                    return Ok(false);
                }
                Err(error) => return Err(io::Error::new(ErrorKind::InvalidData, error.to_string())),
            }
        }
    }
}

/// What is left to read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> io::Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(ErrorKind::UnexpectedEof)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(ErrorKind::UnexpectedEof)?;
        self.0 = rest;
        Ok(*taken)
    }
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    use proptest::prelude::*;

    use super::*;

    fn frame(info: FrameInfo, data: &[u8]) -> Vec<u8> {
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn data(len: u32) -> Vec<u8> {
        (0..len).map(|i| (i.wrapping_mul(i) >> 11) as u8).collect()
    }

    #[test]
    fn every_kind_of_frame_is_read() {
        let data = data(700_000);
        let sizes = [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB];
        for size in sizes {
            for mode in [BlockMode::Independent, BlockMode::Linked] {
                for checksums in [false, true] {
                    let info = FrameInfo::new()
                        .block_size(size)
                        .block_mode(mode)
                        .block_checksums(checksums)
                        .content_checksum(checksums)
                        .content_size(checksums.then_some(data.len() as u64));
                    let bytes = frame(info, &data);
                    assert!(bytes.len() < data.len());
                    let read = |limit| decompress_frame(&bytes, limit).unwrap();
                    assert!(read(data.len()).as_ref() == Some(&data), "{size:?} {mode:?}");
                    assert!(read(data.len() - 1).is_none() && read(0).is_none());
                }
            }
        }
    }

    #[test]
    fn blocks_that_grow_much_are_read() {
        let zeros = vec![0; 9 << 20];
        let bytes = frame(FrameInfo::new().block_size(BlockSize::Max4MB), &zeros);
        assert!(decompress_frame(&bytes, zeros.len()).unwrap() == Some(zeros));
    }

    #[test]
    fn blocks_that_do_not_shrink_are_stored() {
        let mut state = 1u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .take(100_000)
        .collect();
        let bytes = frame(FrameInfo::new().block_size(BlockSize::Max64KB), &noise);
        assert!(decompress_frame(&bytes, noise.len()).unwrap().as_ref() == Some(&noise));
        assert!(decompress_frame(&bytes, noise.len() - 1).unwrap().is_none());
        // A block that is larger than the frame says.
        let mut bytes = frame(FrameInfo::new().block_size(BlockSize::Max4MB), &noise);
        bytes[5] = 0x40;
        assert!(decompress_frame(&bytes, noise.len()).is_err());
    }

    #[test]
    fn frames_that_nobody_writes_are_refused() {
        let good = frame(FrameInfo::new().block_size(BlockSize::Max64KB), b"records");
        assert_eq!(decompress_frame(&good, 100).unwrap().unwrap(), b"records");
        for (at, value) in [(0, 0x02), (4, 0x20), (4, 0x62), (4, 0x61), (5, 0x30), (5, 0x41), (10, 0x7f)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert!(decompress_frame(&bad, 100).is_err(), "{at}");
        }
        for end in 0..good.len() {
            assert!(decompress_frame(&good[..end], 100).is_err(), "{end}");
        }
        // A block that grows larger than the frame says.
        let mut bytes = frame(FrameInfo::new().block_size(BlockSize::Max4MB), &data(200_000));
        bytes[5] = 0x40;
        assert!(decompress_frame(&bytes, 1 << 20).is_err());
    }

    proptest! {
        #![proptest_config(crate::testing::same_every_run())]

        #[test]
        fn damaged_frames_are_survived(
            linked: bool, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        ) {
            let mode = if linked { BlockMode::Linked } else { BlockMode::Independent };
            let info = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(mode);
            let mut bytes = frame(info, &data(3000).repeat(25));
            for (index, value) in changes {
                // Most of them in front, where the lengths are.
                let at = index.index(bytes.len()).min(index.index(64));
                bytes[at] = value;
            }
            if let Ok(Some(out)) = decompress_frame(&bytes, 100_000) {
                prop_assert!(out.len() <= 100_000);
            }
        }
    }
}
