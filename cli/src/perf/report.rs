//! What was measured: live on a terminal, and as a summary with percentiles at the end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::args::Context;
use crate::exit::CliResult;
use crate::output::{self, grouped, shows_progress};

/// Three significant figures, microseconds.
const SIGNIFICANT_FIGURES: u8 = 3;
/// Latencies are recorded up to an hour; a longer one counts as that.
const MAX_US: u64 = 3_600_000_000;

/// Counts what goes on; shared by all tasks of a measurement.
#[derive(Debug)]
pub struct Meter {
    records: AtomicU64,
    bytes: AtomicU64,
    errors: AtomicU64,
    latencies: Mutex<Histogram<u64>>,
}

impl Meter {
    /// Nothing counted yet.
    pub fn new() -> Arc<Self> {
        // The bounds are constants and legal, so making the histogram cannot fail.
        let latencies = Histogram::new_with_bounds(1, MAX_US, SIGNIFICANT_FIGURES)
            .unwrap_or_else(|error| panic!("histogram bounds: {error}"));
        Arc::new(Self {
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            latencies: Mutex::new(latencies),
        })
    }

    /// Records came through.
    pub fn count(&self, records: u64, bytes: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A record took so long.
    pub fn latency(&self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(MAX_US).max(1);
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(us);
    }

    /// A record failed.
    pub fn error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// How many records came through.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// How many failed.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// The figures so far.
    pub fn report(&self, elapsed: Duration) -> Report {
        let latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = elapsed.as_secs_f64().max(1e-6);
        let (records, bytes) = (self.records(), self.bytes.load(Ordering::Relaxed));
        Report {
            records,
            bytes,
            errors: self.errors(),
            seconds,
            records_per_second: records as f64 / seconds,
            megabytes_per_second: bytes as f64 / 1e6 / seconds,
            latency_ms: (!latencies.is_empty()).then(|| Latencies::from(&*latencies)),
        }
    }
}

/// The figures of a measurement.
#[derive(Clone, Serialize, Debug)]
pub struct Report {
    /// Records that came through.
    pub records: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Records that failed.
    pub errors: u64,
    /// How long it took.
    pub seconds: f64,
    /// Throughput.
    pub records_per_second: f64,
    /// Throughput, in millions of bytes.
    pub megabytes_per_second: f64,
    /// Latencies, where they were measured.
    pub latency_ms: Option<Latencies>,
}

/// Percentiles, in milliseconds.
#[derive(Clone, Serialize, Debug)]
#[allow(missing_docs)]
pub struct Latencies {
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p95: f64,
    pub p99: f64,
    #[serde(rename = "p99.9")]
    pub p999: f64,
    pub max: f64,
}

impl From<&Histogram<u64>> for Latencies {
    fn from(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            mean: histogram.mean() / 1e3,
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1e3,
        }
    }
}

impl Report {
    /// In words and numbers; `what` names the latency that was measured.
    pub fn text(&self, what: &str) -> String {
        let mut text = format!(
            "{} records, {:.1} MB in {:.2} s: {} records/s, {:.2} MB/s",
            grouped(self.records),
            self.bytes as f64 / 1e6,
            self.seconds,
            grouped(self.records_per_second as u64),
            self.megabytes_per_second,
        );
        if self.errors > 0 {
            text.push_str(&format!(", {} FAILED", grouped(self.errors)));
        }
        text.push('\n');
        if let Some(l) = &self.latency_ms {
            text.push_str(&format!(
                "{what}, ms: mean {:.2}, p50 {:.2}, p90 {:.2}, p95 {:.2}, p99 {:.2}, p99.9 {:.2}, max {:.2}\n",
                l.mean, l.p50, l.p90, l.p95, l.p99, l.p999, l.max
            ));
        }
        text
    }

    /// Prints it as the flags say.
    pub fn print(&self, context: &Context, what: &str) -> CliResult {
        output::print(context.format, self, |report| report.text(what))
    }
}

/// Shows throughput while a measurement runs; on a terminal only.
#[derive(Debug)]
pub struct Live {
    bar: ProgressBar,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Live {
    /// Shows `meter` until it is finished; `total` records are expected, if that is known.
    pub fn start(meter: &Arc<Meter>, total: Option<u64>) -> Self {
        if !shows_progress() {
            return Self { bar: ProgressBar::hidden(), task: None };
        }
        let (bar, template) = match total {
            Some(total) => (ProgressBar::new(total), "{wide_bar} {percent}% {msg}"),
            None => (ProgressBar::new_spinner(), "{spinner} {msg}"),
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = bar.with_style(style);
        let task = tokio::spawn(refresh(bar.clone(), Arc::clone(meter)));
        Self { bar, task: Some(task) }
    }

    /// Takes the line away.
    pub fn finish(self) {
        if let Some(task) = self.task {
            task.abort();
        }
        self.bar.finish_and_clear();
    }
}

async fn refresh(bar: ProgressBar, meter: Arc<Meter>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    let (mut last, mut last_records, mut last_bytes) = (Instant::now(), 0, 0);
    loop {
        ticks.tick().await;
        let (now, records, bytes) = (Instant::now(), meter.records(), meter.bytes.load(Ordering::Relaxed));
        let seconds = (now - last).as_secs_f64().max(1e-3);
        bar.set_position(records);
        bar.set_message(format!(
            "{} records/s {:.1} MB/s",
            grouped(((records - last_records) as f64 / seconds) as u64),
            (bytes - last_bytes) as f64 / 1e6 / seconds
        ));
        (last, last_records, last_bytes) = (now, records, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_come_out_as_they_went_in() {
        let meter = Meter::new();
        for ms in 1..=100 {
            meter.latency(Duration::from_millis(ms));
            meter.count(1, 1000);
        }
        meter.error();
        let report = meter.report(Duration::from_secs(2));
        let latencies = report.latency_ms.clone().unwrap();
        let near = |value: f64, expected: f64| (value - expected).abs() < expected * 0.002;
        assert!(
            near(latencies.p50, 50.0) && near(latencies.p99, 99.0) && near(latencies.max, 100.0),
            "{latencies:?}"
        );
        assert!(
            near(report.records_per_second, 50.0) && near(report.megabytes_per_second, 0.05),
            "{report:?}"
        );
        let text = report.text("acknowledged after");
        assert!(
            text.starts_with("100 records, 0.1 MB in 2.00 s: 50 records/s, 0.05 MB/s, 1 FAILED\n"),
            "{text}"
        );
        assert!(text.contains("acknowledged after, ms: mean 50.5"), "{text}");
        let json = serde_json::to_value(&report).unwrap();
        assert!(json["latency_ms"]["p99.9"].is_number(), "{json}");
    }
}
