//! The bytes that a checked record carries: who sent it, as which of his records, where to; and a checksum over all.
//!
//! A record that lands in another topic, that comes from an earlier run or that lost a bit is recognised by itself.
//! Knows nothing of record batches: this is the value of one record.

use std::fmt;

use vltava_model::{PartitionIndex, TopicId};

use crate::event::{ClientRef, RunId};

const MAGIC: [u8; 4] = *b"VLH1";

/// Names one record among all that any run ever wrote.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Payload {
    /// The run that wrote it.
    pub run: RunId,
    /// The producer, as declared in the run's history.
    pub producer: ClientRef,
    /// Counts the producer's records to this partition from 0. (To all partitions would do, but histories grow by it.)
    pub seq: u64,
    /// The topic it was sent to; a recreated topic has another id.
    pub topic: TopicId,
    /// The partition it was sent to.
    pub partition: PartitionIndex,
}

/// Why bytes are no payload: what was read is not what any producer sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PayloadError {
    /// Shorter than any payload.
    #[error("{0} bytes, shorter than any payload")]
    Short(usize),
    /// Does not begin as payloads do.
    #[error("does not begin like a payload")]
    Magic,
    /// Longer or shorter than when it was sent.
    #[error("{actual} bytes, {sent} were sent")]
    Size {
        /// Read from the payload.
        sent: u32,
        /// What there is.
        actual: usize,
    },
    /// At least one bit differs from what was sent.
    #[error("checksum {actual:08x}, sent with {sent:08x}")]
    Checksum {
        /// Read from the payload.
        sent: u32,
        /// Computed.
        actual: u32,
    },
}

impl Payload {
    /// The size of a payload without padding, in bytes.
    pub const MIN: usize = 52;

    /// The bytes, padded up to `size`; never fewer than [`Self::MIN`].
    ///
    /// # Panics
    /// For sizes of 4 GiB and more.
    pub fn encode(&self, size: usize) -> Vec<u8> {
        let size = size.max(Self::MIN);
        let mut bytes = Vec::with_capacity(size);
        bytes.extend(MAGIC);
        bytes.extend(u32::try_from(size).expect("no record has 4 GiB").to_be_bytes());
        bytes.extend(self.run.get().to_be_bytes());
        bytes.extend(self.producer.get().to_be_bytes());
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.topic.to_bytes());
        bytes.extend(self.partition.get().to_be_bytes());
        // Padding that differs from record to record, so that bytes of a neighbour are not taken for its own.
        let fill =
            (self.seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(self.producer.get())).to_be_bytes();
        let padding = size - Self::MIN;
        bytes.extend(fill.iter().cycle().take(padding).map(|byte| b'a' + byte % 26));
        let sum = crc32c::crc32c(&bytes);
        bytes.extend(sum.to_be_bytes());
        bytes
    }

    /// Reads what [`Self::encode`] made.
    ///
    /// # Errors
    /// When a single bit differs from it.
    pub fn decode(bytes: &[u8]) -> Result<Self, PayloadError> {
        if bytes.len() < Self::MIN {
            return Err(PayloadError::Short(bytes.len()));
        }
        let mut rest = bytes;
        if take::<4>(&mut rest) != MAGIC {
            return Err(PayloadError::Magic);
        }
        let sent = u32::from_be_bytes(take(&mut rest));
        if usize::try_from(sent) != Ok(bytes.len()) {
            return Err(PayloadError::Size { sent, actual: bytes.len() });
        }
        let (covered, sum) = bytes.split_at(bytes.len() - 4);
        let sent = u32::from_be_bytes(sum.try_into().expect("four bytes were split off"));
        let actual = crc32c::crc32c(covered);
        if sent != actual {
            return Err(PayloadError::Checksum { sent, actual });
        }
        Ok(Self {
            run: RunId::new(u64::from_be_bytes(take(&mut rest))),
            producer: ClientRef::new(u32::from_be_bytes(take(&mut rest))),
            seq: u64::from_be_bytes(take(&mut rest)),
            topic: TopicId::new(u128::from_be_bytes(take(&mut rest))),
            partition: PartitionIndex::new(u32::from_be_bytes(take(&mut rest))),
        })
    }
}

/// The next `N` bytes of what was found long enough before.
fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let (taken, rest) = bytes.split_first_chunk::<N>().expect("the length was checked");
    *bytes = rest;
    *taken
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { run, producer, seq, topic, partition } = self;
        write!(f, "run {run} producer {producer} record {seq} for {topic}-{partition}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload() -> Payload {
        Payload {
            run: RunId::new(7),
            producer: ClientRef::new(3),
            seq: 12_345,
            topic: TopicId::new(99),
            partition: PartitionIndex::new(4),
        }
    }

    #[test]
    fn a_payload_of_any_size_comes_back() {
        for size in [0, 1, Payload::MIN, Payload::MIN + 1, 100, 1024, 70_001] {
            let bytes = payload().encode(size);
            assert_eq!(bytes.len(), size.max(Payload::MIN));
            assert_eq!(Payload::decode(&bytes), Ok(payload()));
        }
    }

    #[test]
    fn any_changed_bit_and_any_missing_byte_is_noticed() {
        let bytes = payload().encode(80);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Payload::decode(&damaged).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(Payload::decode(&bytes[..length]).is_err(), "{length} bytes");
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert!(matches!(Payload::decode(&longer), Err(PayloadError::Size { .. })));
    }
}
