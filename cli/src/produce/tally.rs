//! What became of the records: counted as their outcomes come in, shown as they do, summed up at the end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::sync::Notify;
use vltava_client::ClientError;

use crate::output::{grouped, shows_progress};

/// Counts outcomes; shared by all callbacks of a producer.
#[derive(Debug)]
pub struct Tally {
    begun: Instant,
    sent: AtomicU64,
    acknowledged: AtomicU64,
    bytes: AtomicU64,
    failure: Mutex<Option<ClientError>>,
    failed: Notify,
    bar: ProgressBar,
}

/// How a run of `produce` went.
#[derive(Clone, PartialEq, Serialize, Debug)]
pub struct Summary {
    /// Records handed over.
    pub sent: u64,
    /// Records acknowledged.
    pub acknowledged: u64,
    /// Bytes of keys and values acknowledged.
    pub bytes: u64,
    /// How long it took.
    pub seconds: f64,
}

impl Tally {
    /// Counts nothing yet. With a known length of input it shows how far it is, on a terminal.
    pub fn new(length: Option<u64>) -> Self {
        let bar = match (shows_progress(), length) {
            (true, Some(length)) => bar(length),
            _ => ProgressBar::hidden(),
        };
        Self {
            begun: Instant::now(),
            sent: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            failure: Mutex::new(None),
            failed: Notify::new(),
            bar,
        }
    }

    /// A record was handed over.
    pub fn sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// A record's outcome came in.
    pub fn done(&self, outcome: Result<(), ClientError>, bytes: usize) {
        match outcome {
            Ok(()) => {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            }
            Err(error) => {
                let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
                failure.get_or_insert(error);
                self.failed.notify_one();
            }
        }
    }

    /// The input has been read up to here.
    pub fn read_up_to(&self, position: u64) {
        self.bar.set_position(position);
    }

    /// Why the first record failed, if one did.
    pub fn failure(&self) -> Option<ClientError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a record failed.
    pub fn has_failed(&self) -> bool {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Waits until a record fails.
    pub async fn failed(&self) {
        while !self.has_failed() {
            self.failed.notified().await;
        }
    }

    /// The end, once every outcome is in.
    pub fn finish(&self) -> Summary {
        self.bar.finish_and_clear();
        Summary {
            sent: self.sent.load(Ordering::Relaxed),
            acknowledged: self.acknowledged.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            seconds: self.begun.elapsed().as_secs_f64(),
        }
    }
}

fn bar(length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    let bar = ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

impl Summary {
    /// In words.
    pub fn sentence(&self) -> String {
        let noun = if self.sent == 1 { "record" } else { "records" };
        let acknowledged = match self.sent == self.acknowledged {
            true => format!("{} {noun} acknowledged", grouped(self.acknowledged)),
            false => format!("{} of {} {noun} acknowledged", grouped(self.acknowledged), grouped(self.sent)),
        };
        let seconds = self.seconds.max(0.001);
        format!(
            "{acknowledged} ({:.1} MB) in {:.2} s: {} records/s, {:.1} MB/s",
            self.bytes as f64 / 1e6,
            self.seconds,
            grouped((self.acknowledged as f64 / seconds) as u64),
            self.bytes as f64 / 1e6 / seconds,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vltava_model::ErrorCode;

    #[tokio::test]
    async fn the_first_failure_is_kept_and_seen() {
        let tally = Tally::new(None);
        tally.sent();
        tally.sent();
        tally.sent();
        tally.done(Ok(()), 5);
        assert!(!tally.has_failed());
        tally.done(Err(ClientError::new(ErrorCode::MessageTooLarge, "first")), 1);
        tally.done(Err(ClientError::new(ErrorCode::NetworkException, "second")), 1);
        tally.failed().await;
        assert_eq!(tally.failure().unwrap().message(), "first");
        let summary = tally.finish();
        assert_eq!((summary.sent, summary.acknowledged, summary.bytes), (3, 1, 5));
    }

    #[test]
    fn the_summary_is_a_sentence() {
        let summary = Summary { sent: 1_000_000, acknowledged: 1_000_000, bytes: 15_000_000, seconds: 2.5 };
        let expected = "1,000,000 records acknowledged (15.0 MB) in 2.50 s: 400,000 records/s, 6.0 MB/s";
        assert_eq!(summary.sentence(), expected);
        let one = Summary { sent: 1, acknowledged: 1, bytes: 3, seconds: 1.0 };
        assert!(one.sentence().starts_with("1 record acknowledged"), "{}", one.sentence());
        let partly = Summary { sent: 10, acknowledged: 7, bytes: 0, seconds: 0.0 };
        assert!(partly.sentence().starts_with("7 of 10 records acknowledged"), "{}", partly.sentence());
    }
}
