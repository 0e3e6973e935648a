//! The process's own figures, by the names that Prometheus' client libraries agreed on. Read from `/proc` when asked.

use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{Counter, Gauge, Opts};

use super::Metrics;

/// Clock ticks a second in `/proc/self/stat`: the kernel's interface has fixed it at 100 on all platforms we run on.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug)]
pub(super) struct ProcessMetrics {
    cpu_seconds: Counter,
    resident_bytes: Gauge,
    virtual_bytes: Gauge,
    threads: Gauge,
    open_files: Gauge,
    max_files: Gauge,
    start_time: Gauge,
    cpu_seen: Mutex<f64>,
}

const CPU: (&str, &str) = ("process_cpu_seconds_total", "Seconds of CPU time used, user and system.");
const RESIDENT: (&str, &str) = ("process_resident_memory_bytes", "Bytes of memory in RAM.");
const VIRTUAL: (&str, &str) = ("process_virtual_memory_bytes", "Bytes of address space.");
const THREADS: (&str, &str) = ("process_threads", "Threads.");
const OPEN_FILES: (&str, &str) = ("process_open_fds", "Open file descriptors.");
const MAX_FILES: (&str, &str) = ("process_max_fds", "The most file descriptors that the system allows.");
const START_TIME: (&str, &str) =
    ("process_start_time_seconds", "When the process started, in seconds since 1970.");

impl ProcessMetrics {
    pub(super) fn new() -> Self {
        let gauge = |(name, help): (&str, &str)| {
            Gauge::with_opts(Opts::new(name, help)).unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        let (name, help) = CPU;
        Self {
            cpu_seconds: Counter::with_opts(Opts::new(name, help))
                .unwrap_or_else(|error| panic!("{name}: {error}")),
            resident_bytes: gauge(RESIDENT),
            virtual_bytes: gauge(VIRTUAL),
            threads: gauge(THREADS),
            open_files: gauge(OPEN_FILES),
            max_files: gauge(MAX_FILES),
            start_time: gauge(START_TIME),
            cpu_seen: Mutex::new(0.0),
        }
    }

    pub(super) fn register(&self, metrics: &Metrics) {
        metrics.add(CPU.0, "counter", &[], CPU.1, Ok(self.cpu_seconds.clone()));
        for ((name, help), gauge) in [
            (RESIDENT, &self.resident_bytes),
            (VIRTUAL, &self.virtual_bytes),
            (THREADS, &self.threads),
            (OPEN_FILES, &self.open_files),
            (MAX_FILES, &self.max_files),
            (START_TIME, &self.start_time),
        ] {
            metrics.add(name, "gauge", &[], help, Ok(gauge.clone()));
        }
    }

    /// Reads the figures anew. One that cannot be read keeps its last value.
    pub(super) fn update(&self) {
        if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(Stat::parse) {
            let mut seen = self.cpu_seen.lock().unwrap_or_else(PoisonError::into_inner);
            self.cpu_seconds.inc_by((stat.cpu_seconds - *seen).max(0.0));
            *seen = stat.cpu_seconds.max(*seen);
            self.virtual_bytes.set(stat.virtual_bytes);
            self.resident_bytes.set(stat.resident_pages * rustix::param::page_size() as f64);
            self.threads.set(stat.threads);
            if let Some(started) = start_time(stat.started_after_boot) {
                self.start_time.set(started);
            }
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            self.open_files.set(files.count() as f64);
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        self.max_files.set(limit.current.map_or(f64::INFINITY, |limit| limit as f64));
    }
}

/// What `/proc/self/stat` says.
#[derive(PartialEq, Debug)]
struct Stat {
    cpu_seconds: f64,
    threads: f64,
    started_after_boot: f64,
    virtual_bytes: f64,
    resident_pages: f64,
}

impl Stat {
    fn parse(line: &str) -> Option<Self> {
        // The second field is the program's name in parentheses, and may hold anything.
        let (_, fields) = line.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / TICKS_PER_SECOND,
            threads: field(20)?,
            started_after_boot: field(22)? / TICKS_PER_SECOND,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

fn start_time(after_boot: f64) -> Option<f64> {
    let uptime: f64 = fs::read_to_string("/proc/uptime").ok()?.split_whitespace().next()?.parse().ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
    Some((now - uptime + after_boot).round())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_confuse() {
        let line = "42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 7 0 1000 4096 3 99";
        let stat = Stat::parse(line).unwrap();
        let expected = Stat {
            cpu_seconds: 2.0,
            threads: 7.0,
            started_after_boot: 10.0,
            virtual_bytes: 4096.0,
            resident_pages: 3.0,
        };
        assert_eq!(stat, expected);
        assert_eq!(Stat::parse("nonsense"), None);
    }
}
