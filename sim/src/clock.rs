//! Simulated time: one line of milliseconds for all hosts, and what each host's wall clock makes of it.
//!
//! Everything happens at whole milliseconds, which is what tokio's timers can tell apart. Knows no hosts: whoever runs one
//! sets the clock first.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Milliseconds since the simulation began.
pub type Millis = u64;

/// What the monotonic clock shows at the beginning, in seconds: some time after the machines were started.
const MONOTONIC_START_S: u64 = 1_000_000;
/// What the wall clock shows at the beginning, in seconds since 1970: the first of January 2026.
const WALL_START_S: u64 = 1_767_225_600;

static NOW: AtomicU64 = AtomicU64::new(0);
static WALL_OFFSET: AtomicI64 = AtomicI64::new(0);

/// The time.
pub fn now() -> Millis {
    NOW.load(Ordering::Relaxed)
}

/// Moves the clock of whoever runs now.
pub fn set(now: Millis) {
    NOW.store(now, Ordering::Relaxed);
}

/// Sets by how many milliseconds the wall clock of whoever runs now is ahead.
pub fn set_wall_offset(offset_ms: i64) {
    WALL_OFFSET.store(offset_ms, Ordering::Relaxed);
}

/// The monotonic clock, as seconds and nanoseconds.
pub fn monotonic() -> (i64, i64) {
    split(MONOTONIC_START_S * 1000 + now())
}

/// The wall clock, as seconds and nanoseconds since 1970.
pub fn wall() -> (i64, i64) {
    split((WALL_START_S * 1000 + now()).saturating_add_signed(WALL_OFFSET.load(Ordering::Relaxed)))
}

fn split(millis: u64) -> (i64, i64) {
    ((millis / 1000) as i64, (millis % 1000 * 1_000_000) as i64)
}
