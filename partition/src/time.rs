//! Monotonic time as an argument. Nothing here reads a clock.

use std::time::Duration;

/// A point of monotonic time: how long ago the caller's clock was started. Wall-clock time never comes in here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Time(Duration);

impl Time {
    /// The point `since_start` after the start of the caller's clock.
    pub const fn new(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// How long after the start of the caller's clock.
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// How long ago `earlier` was; zero when it was not earlier.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The point `span` later.
    #[must_use]
    pub const fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}
