//! How the records of a batch are compressed, exactly as Kafka's clients do and accept it.
//!
//! Bytes come from anywhere: output is capped, and nothing is reserved because a frame claims a size.

use std::fmt;
use std::io::{self, Read, Write};

use super::{BatchError, lz4};

/// xerial's framing of snappy: a magic, two version numbers (both 1), then blocks, each behind its length as an i32.
const XERIAL_HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
const XERIAL_MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
/// Kafka's block size, before compression.
const XERIAL_BLOCK_BYTES: usize = 32 << 10;
/// No snappy block gets larger than this many times its size: three bytes stand for 64 at best.
const SNAPPY_MAX_RATIO: usize = 22;
/// Kafka's default level.
const ZSTD_LEVEL: i32 = 3;
/// The largest window that any level up to 22 asks for, as a power of 2. The decoder touches it only as it fills.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// The codec of a batch's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// Not compressed.
    #[default]
    None,
    /// gzip.
    Gzip,
    /// Snappy: written in the blocks of Kafka's Java client (xerial's framing); one raw block is accepted as well.
    Snappy,
    /// LZ4 frames of independent blocks.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// Every codec, in the order of Kafka's numbers.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// Kafka's number, as in a batch's attributes.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Reads Kafka's number.
    ///
    /// # Errors
    /// [`BatchError::UnknownCompression`].
    pub fn from_number(number: u8) -> Result<Self, BatchError> {
        Self::ALL.get(usize::from(number)).copied().ok_or(BatchError::UnknownCompression(number))
    }

    /// Kafka's name, as in `compression.type`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// Reads Kafka's name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|compression| compression.name() == name)
    }

    /// Appends `records`, compressed, to `out`.
    pub(super) fn compress(self, records: &[u8], out: &mut Vec<u8>) {
        let written = match self {
            Self::None => out.write_all(records),
            Self::Gzip => compress_gzip(records, out),
            Self::Snappy => compress_snappy(records, out),
            Self::Lz4 => compress_lz4(records, out),
            Self::Zstd => compress_zstd(records, out),
        };
        written.expect("writing to memory does not fail, and a codec takes any bytes");
    }

    /// What `data` decompresses to, if that is not more than `limit` bytes.
    pub(super) fn decompress(self, data: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
        let decompressed = match self {
            Self::None => read_capped(data, data.len(), limit),
            Self::Gzip => read_capped(flate2::bufread::MultiGzDecoder::new(data), data.len(), limit),
            Self::Snappy => decompress_snappy(data, limit),
            Self::Lz4 => lz4::decompress_frame(data, limit),
            Self::Zstd => decompress_zstd(data, limit),
        };
        match decompressed {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(BatchError::DecompressedTooLarge { limit }),
            Err(error) => Err(BatchError::Decompress { compression: self, reason: error.to_string() }),
        }
    }
}

fn compress_gzip(records: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::default());
    encoder.write_all(records)?;
    encoder.finish().map(drop)
}

fn compress_snappy(records: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    out.extend_from_slice(&XERIAL_HEADER);
    let mut encoder = snap::raw::Encoder::new();
    for block in records.chunks(XERIAL_BLOCK_BYTES) {
        let compressed = encoder.compress_vec(block)?;
        out.extend_from_slice(&(compressed.len() as u32).to_be_bytes());
        out.extend_from_slice(&compressed);
    }
    Ok(())
}

fn compress_lz4(records: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    // Kafka's Java client reads nothing but independent blocks.
    let frame = lz4_flex::frame::FrameInfo::new()
        .block_size(lz4_flex::frame::BlockSize::Max64KB)
        .block_mode(lz4_flex::frame::BlockMode::Independent);
    let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(frame, out);
    encoder.write_all(records)?;
    encoder.finish().map(drop).map_err(io::Error::from)
}

fn compress_zstd(records: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let mut encoder = zstd::stream::write::Encoder::new(out, ZSTD_LEVEL)?;
    encoder.set_pledged_src_size(Some(records.len() as u64))?;
    encoder.write_all(records)?;
    encoder.finish().map(drop)
}

/// All that `reader` gives, or `None` when that is more than `limit` bytes. Memory grows with what really comes.
fn read_capped(reader: impl Read, expected: usize, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::with_capacity(expected.min(limit));
    reader.take((limit as u64).saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= limit).then_some(bytes))
}

fn decompress_snappy(data: &[u8], limit: usize) -> io::Result<Option<Vec<u8>>> {
    let mut out = Vec::new();
    let mut decoder = snap::raw::Decoder::new();
    if !data.starts_with(XERIAL_MAGIC) {
        return Ok(append_snappy_block(&mut decoder, data, &mut out, limit)?.then_some(out));
    }
    let Some(mut rest) = data.get(XERIAL_HEADER.len()..) else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    while !rest.is_empty() {
        let Some((length, behind)) = rest.split_first_chunk() else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let Some((block, behind)) = behind.split_at_checked(u32::from_be_bytes(*length) as usize) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        if !append_snappy_block(&mut decoder, block, &mut out, limit)? {
            return Ok(None);
        }
        rest = behind;
    }
    Ok(Some(out))
}

/// Says whether the block fitted into `limit`.
fn append_snappy_block(
    decoder: &mut snap::raw::Decoder,
    block: &[u8],
    out: &mut Vec<u8>,
    limit: usize,
) -> io::Result<bool> {
    let claimed = snap::raw::decompress_len(block)?;
    if claimed > block.len().saturating_mul(SNAPPY_MAX_RATIO) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a block claims more than it can hold"));
    }
    let start = out.len();
    if claimed > limit.saturating_sub(start) {
        return Ok(false);
    }
    out.resize(start + claimed, 0);
    let written = decoder.decompress(block, &mut out[start..])?;
    out.truncate(start + written);
    Ok(true)
}

fn decompress_zstd(data: &[u8], limit: usize) -> io::Result<Option<Vec<u8>>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(data)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    read_capped(decoder, data.len(), limit)
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CODECS: [Compression; 4] =
        [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    fn compressed(compression: Compression, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        compression.compress(data, &mut out);
        out
    }

    #[test]
    fn names_and_numbers_are_kafkas() {
        let names: Vec<_> = Compression::ALL.map(Compression::name).into();
        assert_eq!(names, ["none", "gzip", "snappy", "lz4", "zstd"]);
        for (number, compression) in (0..).zip(Compression::ALL) {
            assert_eq!(Compression::from_number(number), Ok(compression));
            assert_eq!(Compression::from_name(compression.name()), Some(compression));
        }
        assert_eq!(Compression::from_number(5), Err(BatchError::UnknownCompression(5)));
        assert_eq!(Compression::from_name("producer"), None);
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit() {
        let zeros = vec![0; 3 << 20];
        for codec in CODECS {
            let bomb = compressed(codec, &zeros);
            assert!(bomb.len() < zeros.len() / 15, "{codec}");
            assert_eq!(codec.decompress(&bomb, zeros.len()).as_deref(), Ok(&zeros[..]), "{codec}");
            for limit in [0, 1000, zeros.len() - 1] {
                let refused = Err(BatchError::DecompressedTooLarge { limit });
                assert_eq!(codec.decompress(&bomb, limit), refused, "{codec}");
            }
        }
    }

    #[test]
    fn snappy_is_framed_as_by_javas_client_and_read_raw_too() {
        let data: Vec<u8> = (0..100_000u32).map(|i| (i / 7) as u8).collect();
        let framed = compressed(Compression::Snappy, &data);
        assert_eq!(framed[..16], [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1]);
        let first = u32::from_be_bytes([framed[16], framed[17], framed[18], framed[19]]) as usize;
        assert_eq!(
            snap::raw::Decoder::new().decompress_vec(&framed[20..20 + first]).unwrap(),
            data[..32 << 10]
        );
        let raw = snap::raw::Encoder::new().compress_vec(&data).unwrap();
        for bytes in [framed, raw] {
            assert_eq!(Compression::Snappy.decompress(&bytes, data.len()).as_deref(), Ok(&data[..]));
        }
    }

    #[test]
    fn a_snappy_block_may_not_claim_more_than_it_can_hold() {
        // The claim of 2^32 - 1 bytes, then nothing.
        let claim = [0xff, 0xff, 0xff, 0xff, 0x0f];
        let error = Compression::Snappy.decompress(&claim, usize::MAX).unwrap_err();
        assert!(matches!(error, BatchError::Decompress { .. }), "{error}");
    }

    #[test]
    fn lz4_frames_are_of_independent_blocks_of_64_kib() {
        let frame = compressed(Compression::Lz4, &[7; 200_000]);
        assert_eq!(frame[..4], [0x04, 0x22, 0x4d, 0x18]);
        assert_eq!(frame[4] & 0b1111_0000, 0b0110_0000, "version 1, independent, no block checksums");
        assert_eq!(frame[5], 4 << 4);
    }

    #[test]
    fn what_follows_a_stream_is_refused() {
        for codec in CODECS {
            let mut bytes = compressed(codec, b"some records");
            bytes.extend_from_slice(b"more");
            assert!(matches!(codec.decompress(&bytes, 1000), Err(BatchError::Decompress { .. })), "{codec}");
        }
    }

    #[test]
    fn gzip_may_come_in_members() {
        let mut bytes = compressed(Compression::Gzip, b"one ");
        bytes.extend(compressed(Compression::Gzip, b"two"));
        assert_eq!(Compression::Gzip.decompress(&bytes, 100).as_deref(), Ok(&b"one two"[..]));
    }

    proptest! {
        #![proptest_config(crate::testing::same_every_run())]

        #[test]
        fn what_is_compressed_is_decompressed(
            data in prop::collection::vec(prop_oneof![Just(0), any::<u8>()], 0..5000), repeat in 1usize..40,
        ) {
            let data = data.repeat(repeat);
            for codec in CODECS {
                let bytes = compressed(codec, &data);
                prop_assert_eq!(codec.decompress(&bytes, data.len()).unwrap(), data.clone());
            }
        }

        #[test]
        fn damaged_streams_are_survived(
            data in prop::collection::vec(0u8..4, 0..2000),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
            cut in any::<prop::sample::Index>(),
        ) {
            for codec in CODECS {
                let mut bytes = compressed(codec, &data);
                let _ = codec.decompress(&bytes[..cut.index(bytes.len())], 10_000);
                for (index, value) in &changes {
                    let at = index.index(bytes.len());
                    bytes[at] = *value;
                }
                if let Ok(out) = codec.decompress(&bytes, 10_000) {
                    prop_assert!(out.len() <= 10_000);
                }
            }
        }
    }
}
