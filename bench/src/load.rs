//! Loads: how records are sent and their acks timed.
//!
//! An open loop sends on a schedule of its own and times each record from when it was due, so that a server that stalls
//! is charged for every record that it kept waiting.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use tokio::runtime::Runtime;
use vltava_client::{Client, Producer, ProducerOptions, Record};

use crate::Fallible;

/// Bytes of a record's value in every load.
pub const RECORD_BYTES: usize = 1024;

/// Longer times count as this: ten minutes, longer than any record is tried.
const LONGEST_NANOS: u64 = 600_000_000_000;

/// How long a load takes.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// Sent, but not counted.
    pub warm_up: Duration,
    /// Counted.
    pub measured: Duration,
}

/// A distribution of times.
pub struct Latencies {
    nanos: Histogram<u64>,
}

impl Latencies {
    /// None yet.
    ///
    /// # Errors
    /// Never: the bounds and the precision are ones that exist.
    pub fn new() -> Fallible<Self> {
        // Bounds of its own: a histogram that grows by itself would clip in `saturating_record` instead of growing.
        Ok(Self { nanos: Histogram::new_with_bounds(1, LONGEST_NANOS, 3)? })
    }

    /// One more.
    pub fn record(&mut self, time: Duration) {
        self.nanos.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// A quantile, in ms.
    pub fn ms(&self, quantile: f64) -> f64 {
        self.nanos.value_at_quantile(quantile) as f64 / 1e6
    }
}

/// Locks, whatever became of others who held it.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A record's value.
pub fn value() -> Bytes {
    (0..RECORD_BYTES).map(|n| (n * 31 % 251) as u8).collect::<Vec<u8>>().into()
}

/// Options without lingering: where latency is what is asked for.
pub fn prompt() -> ProducerOptions {
    ProducerOptions { linger: Duration::ZERO, ..ProducerOptions::default() }
}

/// Sends a record when the one before is acknowledged.
///
/// # Errors
/// When a record fails.
pub fn one_in_flight(
    runtime: &Runtime,
    servers: &str,
    topic: &str,
    span: Span,
) -> Fallible<(Latencies, u64)> {
    let (servers, topic) = (servers.to_owned(), topic.to_owned());
    let task = async move {
        let producer = Producer::new(Client::connect(&servers)?, prompt());
        let (value, mut latencies, mut sent) = (value(), Latencies::new()?, 0);
        let start = Instant::now();
        while start.elapsed() < span.warm_up + span.measured {
            let began = Instant::now();
            let record = Record::new(&topic).value(value.clone()).partition(0);
            producer.send(record).await?.await?;
            sent += 1;
            if began - start >= span.warm_up {
                latencies.record(began.elapsed());
            }
        }
        Fallible::Ok((latencies, sent))
    };
    // On a worker, where the producer's own tasks run, as a program would.
    runtime.block_on(runtime.spawn(task))?
}

/// What came of an open loop.
pub struct Paced {
    /// From when a record was due to its ack.
    pub latencies: Latencies,
    /// All records, warm-up among them.
    pub sent: u64,
    /// The longest that the sender itself was behind its schedule.
    pub worst_lag: Duration,
}

/// How an open loop sends.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Records a second.
    pub rate: u32,
    /// In turn to partitions 0 and up.
    pub partitions: u32,
    /// In turn from so many producers.
    pub producers: u32,
    /// How long.
    pub span: Span,
}

/// Sends on schedule; `value_for` makes each value from when the record is due.
///
/// # Errors
/// When a record fails.
pub fn open_loop(
    runtime: &Runtime,
    servers: &str,
    topic: &str,
    pace: Pace,
    value_for: impl Fn(Instant) -> Bytes,
) -> Fallible<Paced> {
    let _entered = runtime.enter();
    let connect = |_| Ok(Producer::new(Client::connect(servers)?, prompt()));
    let producers = (0..pace.producers).map(connect).collect::<Fallible<Vec<_>>>()?;
    let latencies = Arc::new(Mutex::new(Latencies::new()?));
    let failure = Arc::new(Mutex::new(None));
    let start = Instant::now() + Duration::from_millis(10);
    let count =
        u64::from(pace.rate) * u64::try_from((pace.span.warm_up + pace.span.measured).as_millis())? / 1000;
    let mut worst_lag = Duration::ZERO;
    for n in 0..count {
        let due = start + Duration::from_nanos(n * 1_000_000_000 / u64::from(pace.rate));
        // A thread's sleep is exact to some 0.1 ms; a runtime's timer only to 1 ms.
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let counts = due - start >= pace.span.warm_up;
        if counts {
            worst_lag = worst_lag.max(due.elapsed());
        }
        let partition = u32::try_from(n % u64::from(pace.partitions))?;
        let record = Record::new(topic).value(value_for(due)).partition(partition);
        let (latencies, failure) = (latencies.clone(), failure.clone());
        let told = move |outcome: Result<_, vltava_client::ClientError>| match outcome {
            Ok(_) if counts => lock(&latencies).record(due.elapsed()),
            Ok(_) => {}
            Err(error) => *lock(&failure) = Some(error),
        };
        let producer = &producers[n as usize % producers.len()];
        runtime.block_on(producer.send_with(record, Box::new(told)))?;
    }
    for producer in &producers {
        runtime.block_on(producer.flush());
    }
    if let Some(error) = lock(&failure).take() {
        return Err(error.into());
    }
    let latencies = std::mem::replace(&mut *lock(&latencies), Latencies::new()?);
    Ok(Paced { latencies, sent: count, worst_lag })
}

/// What came of sending as fast as goes.
pub struct Flood {
    /// Bytes of values acknowledged while it was measured.
    pub bytes: u64,
    /// For how long.
    pub time: Duration,
    /// CPU seconds of the brokers meanwhile.
    pub cpu_seconds: f64,
    /// Records acknowledged, warm-up among them.
    pub acked: u64,
}

/// Sends as fast as the producer takes records, to partitions in turn.
///
/// # Errors
/// When a record fails.
pub fn flood(
    runtime: &Runtime,
    producer: &Producer,
    topic: &str,
    partitions: u32,
    span: Span,
    cpu_seconds: impl Fn() -> Fallible<f64>,
) -> Fallible<Flood> {
    let (acked, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let stop = Arc::new(AtomicBool::new(false));
    let sending = {
        let (acked, failed, stop) = (acked.clone(), failed.clone(), stop.clone());
        let (producer, topic, value) = (producer.clone(), topic.to_owned(), value());
        runtime.spawn(async move {
            for n in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let (acked, failed) = (acked.clone(), failed.clone());
                let told = move |outcome: Result<_, _>| {
                    let counter = if outcome.is_ok() { acked } else { failed };
                    counter.fetch_add(1, Ordering::Relaxed);
                };
                let record = Record::new(&topic).value(value.clone()).partition(n % partitions);
                producer.send_with(record, Box::new(told)).await?;
            }
            producer.flush().await;
            Ok::<(), vltava_client::ClientError>(())
        })
    };
    std::thread::sleep(span.warm_up);
    let before = (Instant::now(), acked.load(Ordering::Relaxed), cpu_seconds()?);
    std::thread::sleep(span.measured);
    let after = (Instant::now(), acked.load(Ordering::Relaxed), cpu_seconds()?);
    stop.store(true, Ordering::Relaxed);
    runtime.block_on(sending)??;
    match failed.load(Ordering::Relaxed) {
        0 => Ok(Flood {
            bytes: (after.1 - before.1) * RECORD_BYTES as u64,
            time: after.0 - before.0,
            cpu_seconds: after.2 - before.2,
            acked: acked.load(Ordering::Relaxed),
        }),
        failed => Err(format!("{failed} records failed").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_times_are_not_clipped() {
        for order in [[1_u64, 13, 900_000, 30_000_000], [30_000_000, 900_000, 13, 1]] {
            let mut latencies = Latencies::new().expect("the bounds exist");
            order.iter().for_each(|micros| latencies.record(Duration::from_micros(*micros)));
            let close = |ms: f64, wanted: f64| (ms / wanted - 1.0).abs() < 0.002;
            assert!(close(latencies.ms(1.0), 30_000.0), "{}", latencies.ms(1.0));
            assert!(close(latencies.ms(0.75), 900.0), "{}", latencies.ms(0.75));
            assert!(close(latencies.ms(0.5), 0.013), "{}", latencies.ms(0.5));
        }
    }
}
