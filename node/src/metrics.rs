//! The registry behind `/metrics`: one for each node, so that several nodes in one process do not mix their figures.
//!
//! Knows no figure by name except those of the process. Who registers one says in its help what it counts and in
//! which unit; names begin with `vltava_` and end with the unit, or with `_total` when they only grow.

mod distribution;
mod process;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use distribution::{Distribution, Observed};
use prometheus::core::Collector;
use prometheus::{Encoder, HistogramOpts, Opts, Registry, TextEncoder};
pub use prometheus::{
    Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, exponential_buckets,
};

/// A node's figures. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    process: Arc<process::ProcessMetrics>,
    described: Arc<Mutex<Vec<Description>>>,
    sources: Arc<Mutex<Vec<Source>>>,
}

/// A figure that somebody else counts, at one moment.
#[derive(Clone, PartialEq, Debug)]
pub struct Sample {
    /// Its name.
    pub name: &'static str,
    /// What it says, in which unit.
    pub help: &'static str,
    /// Its value.
    pub value: Value,
}

/// What a figure is, and how much.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// It only grows.
    Counter(f64),
    /// It goes up and down.
    Gauge(f64),
    /// How often which length of time was seen.
    Histogram(Observed),
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Self::Counter(_) => "counter",
            Self::Gauge(_) => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

impl Sample {
    fn write(&self, page: &mut String) {
        let Self { name, help, value } = self;
        page.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {}\n", value.kind()));
        match value {
            Value::Counter(value) | Value::Gauge(value) => page.push_str(&format!("{name} {value}\n")),
            Value::Histogram(Observed { within, count, sum }) => {
                for (bound, count) in within {
                    page.push_str(&format!("{name}_bucket{{le=\"{bound}\"}} {count}\n"));
                }
                page.push_str(&format!(
                    "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}\n"
                ));
            }
        }
    }
}

/// Gives figures when the page is made.
struct Source(Box<dyn Fn() -> Vec<Sample> + Send + Sync>);

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Source")
    }
}

/// A figure by name, for documents.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Description {
    /// Its name.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Its labels.
    pub labels: Vec<String>,
    /// What it says, in which unit.
    pub help: String,
}

/// Upper bounds, in seconds, that fit what a node does: 50 µs to 26 s, each twice the last.
pub fn latency_buckets() -> Vec<f64> {
    distribution::bounds().collect()
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A registry that holds the figures of the process and nothing else yet.
    pub fn new() -> Self {
        let metrics = Self {
            registry: Registry::new(),
            process: Arc::new(process::ProcessMetrics::new()),
            described: Arc::default(),
            sources: Arc::default(),
        };
        metrics.process.register(&metrics);
        metrics
    }

    /// A figure that only grows.
    pub fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.add(name, "counter", &[], help, IntCounter::with_opts(Opts::new(name, help)))
    }

    /// Figures that only grow, one for each set of labels.
    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(name, "counter", labels, help, IntCounterVec::new(Opts::new(name, help), labels))
    }

    /// A figure that goes up and down.
    pub fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.add(name, "gauge", &[], help, IntGauge::with_opts(Opts::new(name, help)))
    }

    /// Figures that go up and down, one for each set of labels.
    pub fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add(name, "gauge", labels, help, IntGaugeVec::new(Opts::new(name, help), labels))
    }

    /// A distribution.
    pub fn histogram(&self, name: &str, help: &str, buckets: Vec<f64>) -> Histogram {
        let options = HistogramOpts::new(name, help).buckets(buckets);
        self.add(name, "histogram", &[], help, Histogram::with_opts(options))
    }

    /// Distributions, one for each set of labels.
    pub fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: Vec<f64>) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(buckets);
        self.add(name, "histogram", labels, help, HistogramVec::new(options, labels))
    }

    /// Shows what `source` gives whenever the page is made. It must be quick and not block.
    pub fn source(&self, source: impl Fn() -> Vec<Sample> + Send + Sync + 'static) {
        lock(&self.sources).push(Source(Box::new(source)));
    }

    /// Forgets all sources, and so drops what they hold on to.
    pub fn forget_sources(&self) {
        lock(&self.sources).clear();
    }

    /// All figures in Prometheus' text format.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        self.process.update();
        let mut page = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut page)?;
        let mut page = String::from_utf8_lossy(&page).into_owned();
        for sample in lock(&self.sources).iter().flat_map(|source| (source.0)()) {
            sample.write(&mut page);
        }
        Ok(page)
    }

    /// What is registered, sorted by name.
    pub fn described(&self) -> Vec<Description> {
        let mut described = lock(&self.described).clone();
        let sources = lock(&self.sources);
        described.extend(sources.iter().flat_map(|source| (source.0)()).map(|sample| Description {
            name: sample.name.into(),
            kind: sample.value.kind(),
            labels: Vec::new(),
            help: sample.help.into(),
        }));
        described.sort();
        described
    }

    /// # Panics
    /// When the name is not legal or is registered already: a mistake of ours that any start of a node shows.
    fn add<C: Collector + Clone + 'static>(
        &self,
        name: &str,
        kind: &'static str,
        labels: &[&str],
        help: &str,
        collector: Result<C, prometheus::Error>,
    ) -> C {
        assert!(name.starts_with("vltava_") || name.starts_with("process_"), "{name}: begin with vltava_");
        assert!(!help.is_empty(), "{name}: say what it counts");
        let collector = collector.unwrap_or_else(|error| panic!("{name}: {error}"));
        let registered = self.registry.register(Box::new(collector.clone()));
        registered.unwrap_or_else(|error| panic!("{name}: {error}"));
        lock(&self.described).push(Description {
            name: name.into(),
            kind,
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            help: help.into(),
        });
        collector
    }
}

/// The lists are whole at any time, so a panic elsewhere does not spoil them.
fn lock<T>(list: &Mutex<T>) -> MutexGuard<'_, T> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_shown_and_described() {
        let metrics = Metrics::new();
        let appends = metrics.counters("vltava_appends_total", "Appends.", &["acks"]);
        appends.with_label_values(&["all"]).inc();
        metrics.gauge("vltava_partitions", "Partitions.").set(-2);
        metrics.histogram("vltava_sync_seconds", "Syncs.", latency_buckets()).observe(0.001);
        let sample = Sample { name: "vltava_queue", help: "Waiting.", value: Value::Gauge(7.0) };
        metrics.source(move || vec![sample.clone()]);
        let page = metrics.clone().render().unwrap();
        assert!(
            page.ends_with("# HELP vltava_queue Waiting.\n# TYPE vltava_queue gauge\nvltava_queue 7\n"),
            "{page}"
        );
        assert!(page.contains("vltava_appends_total{acks=\"all\"} 1"), "{page}");
        assert!(page.contains("vltava_partitions -2"), "{page}");
        assert!(page.contains("vltava_sync_seconds_count 1"), "{page}");
        let names: Vec<_> = metrics.described().into_iter().map(|found| found.name).collect();
        assert!(names.contains(&"vltava_appends_total".to_owned()) && names.is_sorted());
        assert!(names.contains(&"vltava_queue".to_owned()));
        metrics.forget_sources();
        assert!(!metrics.render().unwrap().contains("vltava_queue"));
        assert_eq!(Metrics::new().render().unwrap().matches("vltava_").count(), 0);
    }

    #[test]
    #[should_panic(expected = "vltava_twice")]
    fn a_name_is_given_once() {
        let metrics = Metrics::new();
        metrics.gauge("vltava_twice", "One.");
        metrics.gauge("vltava_twice", "Two.");
    }
}
