//! What happened, in order: a running checksum that two runs of one seed must agree on, and the lines themselves when
//! somebody wants to read them.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::clock;

static SUM: AtomicU64 = AtomicU64::new(0);
static EVENTS: AtomicU64 = AtomicU64::new(0);
static PRINT: AtomicBool = AtomicBool::new(false);

/// From now on, every event is printed as well.
pub fn print() {
    PRINT.store(true, Ordering::Relaxed);
}

/// Whether events are printed.
pub fn prints() -> bool {
    PRINT.load(Ordering::Relaxed)
}

/// Notes an event by its numbers; `words` are for a reader only.
pub fn note(kind: &'static str, numbers: &[u64], words: fmt::Arguments<'_>) {
    let mut sum = SUM.load(Ordering::Relaxed);
    let mut mix = |number: u64| {
        sum = (sum ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        sum ^= sum >> 29;
    };
    kind.bytes().for_each(|byte| mix(u64::from(byte)));
    mix(clock::now());
    numbers.iter().for_each(|number| mix(*number));
    SUM.store(sum, Ordering::Relaxed);
    EVENTS.fetch_add(1, Ordering::Relaxed);
    if prints() {
        println!("{:>9} {kind} {words} {sum:016x}", clock::now());
    }
}

/// The checksum over all events so far.
pub fn sum() -> u64 {
    SUM.load(Ordering::Relaxed)
}

/// How many there were.
pub fn events() -> u64 {
    EVENTS.load(Ordering::Relaxed)
}
