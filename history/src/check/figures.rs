//! Throughput and latency, second by second. Knows nothing of what is right or wrong.

use std::collections::BTreeMap;
use std::time::Duration;

/// Steps within each doubling: a quantile is exact to a sixteenth.
const STEPS: u64 = 16;
/// Nanoseconds of the finest step.
const UNIT: u64 = 1 << 14;

/// How many took how long: exact to about 6 % and 16 µs, small enough to have one for each second.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Histogram {
    counts: Vec<u32>,
}

impl Histogram {
    /// Adds `count` that took `time`.
    pub fn add(&mut self, time: Duration, count: u32) {
        let at = bucket(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        if self.counts.len() <= at {
            self.counts.resize(at + 1, 0);
        }
        self.counts[at] = self.counts[at].saturating_add(count);
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.saturating_add(*theirs);
        }
    }

    /// The time that a share of all (`0.99`) did not exceed; `None` when there are none.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let total: u64 = self.counts.iter().map(|count| u64::from(*count)).sum();
        let rank = ((total as f64 * share).ceil() as u64).clamp(1, total.max(1));
        let mut sum = 0;
        for (at, count) in self.counts.iter().enumerate() {
            sum += u64::from(*count);
            if sum >= rank {
                return Some(Duration::from_nanos(upper_bound(at)));
            }
        }
        None
    }
}

/// Linear up to `STEPS` units, then `STEPS` buckets for each doubling.
fn bucket(nanos: u64) -> usize {
    let units = nanos / UNIT;
    if units < STEPS {
        return units as usize;
    }
    let doublings = u64::from(units.ilog2() - STEPS.ilog2());
    (STEPS * doublings + (units >> doublings)) as usize
}

/// The largest time that falls into a bucket.
fn upper_bound(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return (bucket + 1) * UNIT - 1;
    }
    let doublings = bucket / STEPS - 1;
    let first = (bucket % STEPS + STEPS + 1) << doublings;
    first.saturating_mul(UNIT).saturating_sub(1)
}

/// What happened in one second.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Second {
    /// Records acknowledged.
    pub acked: u64,
    /// Records read beside the load, by all consumers.
    pub read: u64,
    /// Records that failed or got no answer.
    pub unacked: u64,
    /// From when a record was handed over to its ack.
    pub latency: Histogram,
}

/// A run's seconds; those in which nothing happened may be missing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// By second since the start.
    pub seconds: BTreeMap<u64, Second>,
}

impl Figures {
    /// The second a time falls into.
    pub(super) fn second(&mut self, nanos: u64) -> &mut Second {
        self.seconds.entry(nanos / 1_000_000_000).or_default()
    }

    /// The latency of all acks.
    pub fn latency(&self) -> Histogram {
        let mut all = Histogram::default();
        self.seconds.values().for_each(|second| all.merge(&second.latency));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_hold_what_falls_into_them() {
        let mut last = 0;
        for nanos in (0..64).flat_map(|shift| [(1u64 << shift) - 1, 1 << shift, 3 << shift >> 1]) {
            let at = bucket(nanos);
            assert!(upper_bound(at) >= nanos, "{nanos} in {at}");
            assert!(at == 0 || upper_bound(at - 1) < nanos, "{nanos} in {at}");
            last = last.max(at);
        }
        assert!(last < 1000, "{last} buckets");
    }

    #[test]
    fn quantiles_are_exact_to_a_sixteenth() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        for millis in 1..=1000 {
            histogram.add(Duration::from_millis(millis), 1);
        }
        for (share, millis) in [(0.0, 1.0), (0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = histogram.quantile(share).unwrap().as_secs_f64() * 1000.0;
            assert!((millis..millis * 1.07).contains(&found), "{share}: {found}");
        }
        let mut twice = histogram.clone();
        twice.merge(&histogram);
        assert_eq!(twice.quantile(0.5), histogram.quantile(0.5));
    }
}
