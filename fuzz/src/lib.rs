//! Every decoder of bytes from wire and disk, each as a function that takes any bytes and must return.
//!
//! A *target* decodes, uses what it decoded as the rest of the code would, and panics when that breaks a promise: a
//! round trip that loses something, a log that reads back wrongly, an allocation that is out of proportion. The same
//! functions run in two ways: `cargo xtask fuzz` gives them to libFuzzer (`libfuzzer/`, a workspace of its own), and
//! `tests/corpus.rs` replays the committed inputs and seeded changes of them with every `cargo test`.
//!
//! Checksums would hide most of the code from random bytes. So targets that read files take a *script* of changes to
//! good files ([`damage`]) and may put the checksums right afterwards ([`seal`]).

pub mod allocations;
pub mod damage;
pub mod mutate;
pub mod seal;
mod targets;

pub use targets::{TARGETS, Target};

/// Bytes that a single allocation may have beyond twice the input.
const ALLOCATION_SLACK: usize = 1 << 20;

/// Runs one target on one input.
///
/// # Panics
/// When the target finds a broken promise; also when it allocates more at once than twice the input and 1 MiB, if the
/// process counts allocations ([`allocations::Counting`]).
pub fn run(target: &Target, input: &[u8]) {
    allocations::reset();
    (target.run)(input);
    let largest = allocations::largest();
    let allowed = 2 * (input.len() + target.given) + ALLOCATION_SLACK;
    assert!(largest <= allowed, "an allocation of {largest} bytes for an input of {}", input.len());
}
