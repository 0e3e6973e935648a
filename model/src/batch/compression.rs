//! How the records of a batch are compressed, exactly as Kafka's clients do and accept it.
//!
//! Bytes come from anywhere: output is capped, and nothing is reserved because a frame claims a size.

use std::fmt;

use super::BatchError;

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
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
