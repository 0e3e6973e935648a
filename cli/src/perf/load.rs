//! What is sent, and when: payloads, and the schedule of an open loop.
//!
//! In an open loop a record is due at its time whether or not the ones before it are acknowledged, and its latency counts
//! from when it was due. So a stall of the server shows in every record that it delayed.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

/// Bytes that no compression shrinks, from a seed.
#[derive(Clone, Debug)]
pub struct Payloads {
    pool: Bytes,
    size: usize,
    state: u64,
}

const POOL_BYTES: usize = 1 << 20;

impl Payloads {
    /// Payloads of one size.
    pub fn new(size: usize, seed: u64) -> Self {
        let mut state = seed | 1;
        let mut pool = Vec::with_capacity(POOL_BYTES + size);
        while pool.len() < POOL_BYTES + size {
            pool.extend_from_slice(&next(&mut state).to_le_bytes());
        }
        Self { pool: pool.into(), size, state }
    }

    /// The next one; it shares memory with the others.
    pub fn take(&mut self) -> Bytes {
        let at = next(&mut self.state) as usize % POOL_BYTES;
        self.pool.slice(at..at + self.size)
    }
}

/// xorshift64*: fast, and good enough to be incompressible.
fn next(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

/// When each record of an open loop is due.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    begin: Instant,
    /// Nanoseconds between two records; `None` sends as fast as can be.
    interval_ns: Option<f64>,
}

impl Schedule {
    /// `rate` records a second; `None` or 0 sends as fast as can be.
    pub fn new(begin: Instant, rate: Option<f64>) -> Self {
        Self { begin, interval_ns: rate.filter(|rate| *rate > 0.0).map(|rate| 1e9 / rate) }
    }

    /// Waits until record `number`, counted from 0, is due; returns when that was.
    pub async fn due(&self, number: u64) -> Instant {
        let Some(interval) = self.interval_ns else {
            return Instant::now();
        };
        let due = self.begin + Duration::from_nanos((interval * number as f64) as u64);
        // Timers are a millisecond coarse; what is due within one is sent together, its latency still counting from
        // its own time.
        if due > Instant::now() {
            tokio::time::sleep_until(due).await;
        }
        due
    }
}

/// How many of `total` belong to `part` of `parts`.
pub fn share(total: u64, part: u64, parts: u64) -> u64 {
    total / parts + u64::from(part < total % parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_have_their_size_and_differ() {
        let mut payloads = Payloads::new(100, 7);
        let (one, two) = (payloads.take(), payloads.take());
        assert_eq!((one.len(), two.len()), (100, 100));
        assert_ne!(one, two);
        assert_eq!(Payloads::new(0, 1).take().len(), 0);
        assert_eq!(Payloads::new(100, 7).take(), one);
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_record_keeps_the_time_that_it_was_due() {
        let begin = Instant::now();
        let schedule = Schedule::new(begin, Some(100.0));
        assert_eq!(schedule.due(0).await, begin);
        assert_eq!(schedule.due(5).await, begin + Duration::from_millis(50));
        assert!(Instant::now() >= begin + Duration::from_millis(50));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = Instant::now();
        assert_eq!(schedule.due(6).await, begin + Duration::from_millis(60));
        assert_eq!(Instant::now(), before);
    }

    #[test]
    fn shares_add_up() {
        for (total, parts) in [(10, 3), (2, 5), (0, 1)] {
            assert_eq!((0..parts).map(|part| share(total, part, parts)).sum::<u64>(), total);
        }
    }
}
