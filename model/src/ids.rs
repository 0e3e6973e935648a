//! A type for every number that could be mistaken for another.
//!
//! None converts into another by itself: what crosses a boundary is named there. There are no sentinels: a missing
//! value is an `Option`.

use std::fmt;

/// Defines an unsigned newtype with `new`, `get`, `next`, ordering and display.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name($inner);

        impl $name {
            /// The smallest value.
            pub const ZERO: Self = Self(0);

            /// Wraps a raw number.
            pub const fn new(value: $inner) -> Self {
                Self(value)
            }

            /// The raw number, for formats and arithmetic at the edges.
            pub const fn get(self) -> $inner {
                self.0
            }

            /// The value after this one.
            ///
            /// # Panics
            /// At the end of the range, which no running cluster reaches: a silent wrap would reuse an identity.
            #[must_use]
            pub const fn next(self) -> Self {
                match self.0.checked_add(1) {
                    Some(value) => Self(value),
                    None => panic!(concat!(stringify!($name), " exhausted")),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

/// Defines a 128-bit identity printed as 32 hexadecimal digits.
macro_rules! identity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(u128);

        impl $name {
            /// Wraps a raw identity; fresh ones come from a random source of the caller's.
            pub const fn new(value: u128) -> Self {
                Self(value)
            }

            /// The raw number.
            pub const fn get(self) -> u128 {
                self.0
            }

            /// Big-endian bytes, as on wire and disk.
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0.to_be_bytes()
            }

            /// Reads what [`Self::to_bytes`] wrote; `None` when there are not exactly 16 bytes.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(|bytes| Self(u128::from_be_bytes(bytes)))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:032x})"), self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let hex: String = text.chars().filter(|c| *c != '-').collect();
                // A sign is no digit, though the standard parser takes one.
                if hex.len() != 32 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    return Err(ParseIdError);
                }
                u128::from_str_radix(&hex, 16).map(Self).map_err(|_| ParseIdError)
            }
        }
    };
}

/// A text that is not 32 hexadecimal digits (dashes may stand between them).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id is 32 hexadecimal digits")]
pub struct ParseIdError;

number! {
    /// The position of a record in a partition, from 0, bound to that record for ever.
    Offset(u64)
}
number! {
    /// Counts the leaderships of one partition; the controller raises it at each election. Kafka's leader epoch.
    LeaderEpoch(u32)
}
number! {
    /// Counts the changes of one partition's record in the metadata; the compare-and-set key of `AlterPartition`.
    PartitionEpoch(u32)
}
number! {
    /// Names one registration of a broker process; a request that carries an older one is refused (KIP-903).
    BrokerEpoch(u64)
}
number! {
    /// The position of a record in the metadata log: how many records lie before it.
    MetadataOffset(u64)
}
number! {
    /// A server's number, from its config file (`node.id`).
    NodeId(u32)
}
number! {
    /// A partition's number within its topic, from 0.
    PartitionIndex(u32)
}
number! {
    /// An idempotent producer's number, given out by the cluster.
    ProducerId(u64)
}
number! {
    /// Fences older incarnations of one producer; Kafka's 16 bits.
    ProducerEpoch(u16)
}
number! {
    /// The number of an idempotent producer's record within one partition; wraps at 2^31 as in Kafka.
    Sequence(u32)
}
number! {
    /// The term of the controller quorum in which its leader was elected; shown to people as the leader epoch.
    ControllerTerm(u64)
}

identity! {
    /// A topic's identity; a topic that is deleted and created again under its old name has another.
    TopicId
}
identity! {
    /// The identity of one directory on one disk; a wiped directory comes back with another (KIP-858).
    DirectoryId
}
identity! {
    /// One start of one process.
    IncarnationId
}
identity! {
    /// The cluster's identity, chosen when it is formed.
    ClusterId
}

/// A partition of a topic, by the topic's identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicId,
    /// The partition within it.
    pub partition: PartitionIndex,
}

impl TopicPartition {
    /// Names a partition.
    pub const fn new(topic: TopicId, partition: PartitionIndex) -> Self {
        Self { topic, partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl Offset {
    /// The largest offset that Kafka's signed field can carry.
    pub const MAX: Self = Self(i64::MAX as u64);

    /// Reads Kafka's signed field; `None` for the negative sentinels.
    pub fn from_wire(value: i64) -> Option<Self> {
        u64::try_from(value).ok().map(Self)
    }

    /// Kafka's signed field. Offsets never pass [`Self::MAX`], so this does not wrap.
    pub const fn to_wire(self) -> i64 {
        self.0 as i64
    }

    /// The offset `records` further on, or `None` past [`Self::MAX`].
    pub fn checked_add(self, records: u64) -> Option<Self> {
        self.0.checked_add(records).map(Self).filter(|offset| *offset <= Self::MAX)
    }

    /// How many offsets lie between `earlier` and this one; 0 when it is not earlier.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Sequence {
    /// The number `records` further on; 0 comes after 2^31 - 1.
    #[must_use]
    pub const fn advance(self, records: u32) -> Self {
        Self(((self.0 as u64 + records as u64) & i32::MAX as u64) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_print_and_parse() {
        let id = TopicId::new(0xfeed_0000_0000_0000_0000_0000_0000_0001);
        assert_eq!(id.to_string().parse::<TopicId>(), Ok(id));
        assert_eq!(TopicId::from_slice(&id.to_bytes()), Some(id));
        assert!("xyz".parse::<TopicId>().is_err());
        assert!("+eed0000000000000000000000000001".parse::<TopicId>().is_err());
    }

    #[test]
    fn offsets_stay_within_kafkas_field() {
        assert_eq!(Offset::from_wire(-1), None);
        assert_eq!(Offset::MAX.checked_add(1), None);
        assert_eq!(Offset::new(3).since(Offset::new(5)), 0);
    }

    #[test]
    fn sequences_wrap_at_31_bits() {
        assert_eq!(Sequence::new(7).advance(3), Sequence::new(10));
        assert_eq!(Sequence::new(i32::MAX as u32).advance(1), Sequence::ZERO);
        assert_eq!(Sequence::new(i32::MAX as u32 - 1).advance(5), Sequence::new(3));
    }
}
