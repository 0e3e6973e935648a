//! How often which length of time was seen: cheap enough for a hot path, shown as a histogram.
//!
//! Three relaxed additions an observation, no lock, no allocation. The bounds are those of [`super::latency_buckets`].

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The shortest bound in microseconds; each further one is twice the last.
const FIRST_MICROS: u64 = 50;

/// How many bounds there are; what is longer than the last is only counted.
pub(super) const BOUNDS: usize = 20;

/// Lengths of time, counted by size.
#[derive(Debug)]
pub struct Distribution {
    within: [AtomicU64; BOUNDS],
    count: AtomicU64,
    sum_micros: AtomicU64,
}

impl Default for Distribution {
    fn default() -> Self {
        Self {
            within: array::from_fn(|_| AtomicU64::new(0)),
            count: AtomicU64::new(0),
            sum_micros: AtomicU64::new(0),
        }
    }
}

/// What a distribution held at one moment.
#[derive(Clone, PartialEq, Debug)]
pub struct Observed {
    /// Upper bound in seconds, and how many were at most that long: each includes those before.
    pub within: Vec<(f64, u64)>,
    /// How many in all.
    pub count: u64,
    /// All of them together, in seconds.
    pub sum: f64,
}

/// The upper bounds in seconds.
pub(super) fn bounds() -> impl Iterator<Item = f64> {
    (0..BOUNDS).map(|i| (FIRST_MICROS << i) as f64 / 1e6)
}

impl Distribution {
    /// Counts one.
    pub fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let steps = micros.div_ceil(FIRST_MICROS).max(1).next_power_of_two().trailing_zeros() as usize;
        if let Some(bucket) = self.within.get(steps) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// What it holds now.
    pub fn observed(&self) -> Observed {
        let mut sum = 0;
        let each = self.within.iter().map(|bucket| {
            sum += bucket.load(Ordering::Relaxed);
            sum
        });
        let within: Vec<_> = bounds().zip(each).collect();
        let longest = within.last().map_or(0, |(_, count)| *count);
        Observed {
            within,
            // Read last, and never less than what the buckets say: readers take the difference for those beyond.
            count: self.count.load(Ordering::Relaxed).max(longest),
            sum: self.sum_micros.load(Ordering::Relaxed) as f64 / 1e6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_counted_within_its_bound_and_not_within_the_one_before() {
        for (i, bound) in bounds().enumerate() {
            for (micros, least) in
                [((bound * 1e6).round() as u64, i), ((bound * 1e6).round() as u64 + 1, i + 1)]
            {
                let distribution = Distribution::default();
                distribution.observe(Duration::from_micros(micros));
                let observed = distribution.observed();
                let first = observed.within.iter().position(|(_, count)| *count == 1).unwrap_or(BOUNDS);
                assert_eq!((first, observed.count), (least, 1), "{micros} µs");
                assert!((observed.sum - micros as f64 / 1e6).abs() < 1e-9);
            }
        }
        let nothing = Distribution::default();
        nothing.observe(Duration::ZERO);
        assert_eq!(nothing.observed().within[0].1, 1);
    }
}
