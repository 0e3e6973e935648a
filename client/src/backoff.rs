//! Pauses between attempts: growing, bounded, and spread by chance so that many clients do not come back as one.

use std::time::Duration;

/// Counts failed attempts.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// Pauses from `min` to `max`, doubling.
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, failures: 0 }
    }

    /// After a success.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait now, and one failure more.
    pub(crate) fn next(&mut self) -> Duration {
        let doubled = self.min.saturating_mul(1 << self.failures.min(16)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        doubled.mul_f64(0.8 + 0.4 * rand::random::<f64>())
    }

    /// Waits.
    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.next()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_and_is_bounded() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(100));
        let pauses: Vec<_> = (0..20).map(|_| backoff.next()).collect();
        assert!(pauses[0] < Duration::from_millis(13));
        assert!(pauses.iter().all(|pause| *pause <= Duration::from_millis(121)));
        backoff.reset();
        assert!(backoff.next() < Duration::from_millis(13));
    }
}
