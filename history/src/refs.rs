//! The small types that events are made of: times, and numbers that stand for what was declared.

use std::fmt;
use std::time::Duration;

/// A point in time: nanoseconds since the run's start, by the clock of the process that records.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct At(u64);

impl At {
    /// So many nanoseconds after the start.
    pub const fn nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// So long after the start (585 years at most).
    pub fn new(since_start: Duration) -> Self {
        Self(u64::try_from(since_start.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Nanoseconds since the start.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// How long after `earlier`; zero when it was before.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// So much later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(Self::new(duration).0))
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0 / 1_000_000;
        write!(f, "{}.{:03}s", millis / 1000, millis % 1000)
    }
}

/// Defines a number that stands for something declared earlier in the same history.
macro_rules! reference {
    ($(#[$doc:meta])* $name:ident($inner:ty), $format:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name($inner);

        impl $name {
            /// Wraps a raw number.
            pub const fn new(value: $inner) -> Self {
                Self(value)
            }

            /// The raw number.
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }
    };
}

reference! {
    /// One run: different for each, so that what an earlier one left behind is recognised.
    RunId(u64), "{:016x}"
}
reference! {
    /// A client of this history.
    ClientRef(u32), "{}"
}
reference! {
    /// A partition of a topic (by id) of this history.
    PartitionRef(u32), "{}"
}
reference! {
    /// A fault of this history.
    FaultRef(u32), "{}"
}
