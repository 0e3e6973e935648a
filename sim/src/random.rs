//! Streams of chance, one for each concern, all from one seed: drawing more in one leaves the others as they were.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A stream of random numbers.
pub type Random = StdRng;

/// The stream of a concern, for a seed.
pub fn stream(seed: u64, concern: &str) -> Random {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    for (index, byte) in concern.bytes().enumerate() {
        bytes[8 + index % 24] ^= byte.rotate_left(index as u32 / 24);
    }
    StdRng::from_seed(bytes)
}

/// A stream that several parts of one process draw from. Only one thread runs at a time, so nobody ever waits.
pub struct Shared(Mutex<Random>);

impl Shared {
    /// The stream of a concern.
    pub fn new(seed: u64, concern: &str) -> Self {
        Self(Mutex::new(stream(seed, concern)))
    }

    /// To draw more than one number.
    pub fn lock(&self) -> MutexGuard<'_, Random> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number below `bound`, which is above zero.
    pub fn below(&self, bound: u64) -> u64 {
        self.lock().random_range(0..bound)
    }

    /// True so many times out of a thousand.
    pub fn permille(&self, times: u64) -> bool {
        times > 0 && self.below(1000) < times
    }
}
