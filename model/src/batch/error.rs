//! What can be wrong with the bytes of a record batch.

use super::Compression;
use crate::ErrorCode;

/// Why bytes are not an acceptable record batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end within a batch.
    #[error("the batch needs {need} bytes, there are {have}")]
    Truncated {
        /// How many bytes there are.
        have: usize,
        /// How many there should be.
        need: usize,
    },
    /// There are more bytes than the one batch that was expected.
    #[error("{extra} bytes follow the batch")]
    TrailingBytes {
        /// How many.
        extra: usize,
    },
    /// A field holds a value that no writer writes.
    #[error("malformed batch: {0}")]
    Malformed(&'static str),
    /// The checksum does not match the bytes.
    #[error("the batch's checksum is {stored:#010x}, its bytes have {computed:#010x}")]
    Checksum {
        /// What the header says.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// The format's version is not 2.
    #[error("record batch version {0} is not supported, only 2 is")]
    Magic(i8),
    /// The attributes name a compression that does not exist.
    #[error("compression type {0} is not known")]
    UnknownCompression(u8),
    /// The compressed part cannot be decompressed.
    #[error("{compression} data is damaged: {reason}")]
    Decompress {
        /// How it claims to be compressed.
        compression: Compression,
        /// What the decompressor says.
        reason: String,
    },
    /// The records decompress to more than is allowed.
    #[error("the records are larger than {limit} bytes when decompressed")]
    DecompressedTooLarge {
        /// What is allowed, in bytes.
        limit: usize,
    },
    /// The batch is larger than is allowed.
    #[error("the batch has {bytes} bytes, {limit} are allowed")]
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
        /// What is allowed, in bytes.
        limit: usize,
    },
    /// The batch is whole, but its records break a rule.
    #[error("invalid record: {0}")]
    InvalidRecord(&'static str),
}

impl BatchError {
    /// What a client is told.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Truncated { .. }
            | Self::TrailingBytes { .. }
            | Self::Malformed(_)
            | Self::Checksum { .. }
            | Self::Decompress { .. } => ErrorCode::CorruptMessage,
            Self::Magic(_) => ErrorCode::UnsupportedForMessageFormat,
            Self::UnknownCompression(_) => ErrorCode::UnsupportedCompressionType,
            Self::DecompressedTooLarge { .. } | Self::TooLarge { .. } => ErrorCode::MessageTooLarge,
            Self::InvalidRecord(_) => ErrorCode::InvalidRecord,
        }
    }
}
