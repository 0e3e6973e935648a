//! Looks whether a runtime's workers do what they should: run many short things. One that is held up by a long one shows.
//!
//! Asks the runtime's own counters from a thread beside it, so that nothing of it is delayed by being watched. Knows
//! nothing of tasks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeMetrics};

use crate::metrics::{Metrics, Sample, Value};

/// How often it looks.
const EVERY: Duration = Duration::from_millis(25);

/// How often it looks while all workers sleep, so that an idle node is left to sleep, too.
const EVERY_IDLE: Duration = Duration::from_millis(100);

/// A worker that is at one thing for longer than this is stalled: everybody whose turn it would be waits.
const STALL: Duration = Duration::from_millis(50);

#[derive(Default)]
struct Seen {
    stalls: AtomicU64,
    longest_nanos: AtomicU64,
}

/// A watch over a runtime; ends when dropped.
pub struct Watchdog {
    stop: Arc<AtomicBool>,
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Watchdog {
    /// Watches the runtime and shows what it sees among `metrics`.
    ///
    /// # Errors
    /// When there is no room for another thread.
    pub fn start(runtime: &Handle, metrics: &Metrics) -> std::io::Result<Self> {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Seen::default()));
        let shown = seen.clone();
        metrics.source(move || shown.samples());
        let (workers, stopped) = (runtime.metrics(), stop.clone());
        std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
            let mut states = vec![Worker::default(); workers.num_workers()];
            let mut before = Instant::now();
            let mut every = EVERY;
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(every);
                // On a machine that gave this thread no time, the workers had none either: that is no worker's fault.
                let late = before.elapsed() > every + EVERY;
                before = Instant::now();
                for (index, state) in states.iter_mut().enumerate() {
                    state.look(now(&workers, index), before, late, &seen);
                }
                every = if states.iter().all(Worker::sleeps) { EVERY_IDLE } else { EVERY };
            }
        })?;
        Ok(Self { stop })
    }
}

/// What changes whenever a worker comes round: how often it slept, and how long it was at work by its own account.
fn now(workers: &RuntimeMetrics, index: usize) -> (u64, Duration) {
    (workers.worker_park_unpark_count(index), workers.worker_total_busy_duration(index))
}

/// A worker as it was last found to have moved.
#[derive(Clone, Default)]
struct Worker {
    mark: (u64, Duration),
    since: Option<Instant>,
    /// Whether what holds it up now was counted.
    counted: bool,
}

impl Worker {
    /// Whether it slept when last looked at: the count is odd then.
    fn sleeps(&self) -> bool {
        self.mark.0 % 2 == 1
    }

    fn look(&mut self, mark: (u64, Duration), at: Instant, late: bool, seen: &Seen) {
        let is_known = mark == self.mark && self.since.is_some();
        if !is_known || late || self.sleeps() {
            *self = Self { mark, since: Some(at), counted: false };
            return;
        }
        let held = self.since.map_or(Duration::ZERO, |since| at - since);
        if held >= STALL {
            let nanos = u64::try_from(held.as_nanos()).unwrap_or(u64::MAX);
            seen.longest_nanos.fetch_max(nanos, Ordering::Relaxed);
            if !self.counted {
                self.counted = true;
                seen.stalls.fetch_add(1, Ordering::Relaxed);
                tracing::warn!("a worker of the runtime has been at one thing for {held:?}");
            }
        }
    }
}

impl Seen {
    fn samples(&self) -> Vec<Sample> {
        let longest = Duration::from_nanos(self.longest_nanos.load(Ordering::Relaxed));
        vec![
            Sample {
                name: "vltava_runtime_stalls_total",
                help: "How often a worker of the runtime was at one thing for more than 50 ms.",
                value: Value::Counter(self.stalls.load(Ordering::Relaxed) as f64),
            },
            Sample {
                name: "vltava_runtime_longest_stall_seconds",
                help: "The longest such time since the start, in seconds.",
                value: Value::Gauge(longest.as_secs_f64()),
            },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stalls(metrics: &Metrics) -> f64 {
        let page = metrics.render().unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix("vltava_runtime_stalls_total "));
        line.unwrap().parse().unwrap()
    }

    #[test]
    fn a_worker_that_sleeps_in_a_task_is_seen_and_one_that_waits_is_not() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let metrics = Metrics::new();
        let _watchdog = Watchdog::start(runtime.handle(), &metrics).unwrap();
        let waits = async { tokio::time::sleep(Duration::from_millis(300)).await };
        runtime.block_on(runtime.spawn(waits)).unwrap();
        assert_eq!(stalls(&metrics), 0.0);
        let deadline = Instant::now() + Duration::from_secs(20);
        // A machine that gives the watchdog no time for the whole stall hides it; then it is made again.
        while stalls(&metrics) == 0.0 {
            assert!(Instant::now() < deadline, "no stall was seen");
            runtime
                .block_on(runtime.spawn(async { std::thread::sleep(Duration::from_millis(200)) }))
                .unwrap();
        }
    }
}
