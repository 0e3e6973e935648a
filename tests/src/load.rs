//! A load with a memory: producers that note what they were told of each record, and a consumer that watches.
//!
//! Runs on threads of its own, so that a scenario can kill and start nodes beside it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use vltava_client::producer::Acks;
use vltava_client::{
    Certainty, Client, ClientError, Consumer, ConsumerOptions, Producer, ProducerOptions, Record, StartAt,
    Written,
};
use vltava_model::Offset;

use crate::history::{Attempt, Outcome, Read, RecordId};
use crate::wait;

/// How a load is made.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Written to.
    pub topic: String,
    /// How many partitions it has; each producer writes to all of them in turn.
    pub partitions: u32,
    /// How many producers.
    pub producers: u32,
    /// Bytes of a record's value.
    pub size: usize,
    /// Records that a producer may have under way.
    pub window: usize,
    /// When a record counts as written.
    pub acks: Acks,
    /// How long a record may take before its outcome is unknown.
    pub delivery_timeout: Duration,
    /// Whether a consumer watches.
    pub watch: bool,
    /// How long a producer waits after each record.
    pub pace: Duration,
}

impl LoadOptions {
    /// Two producers of small records.
    pub fn new(topic: &str, partitions: u32) -> Self {
        Self {
            topic: topic.to_owned(),
            partitions,
            producers: 2,
            size: 100,
            window: 100,
            acks: Acks::All,
            delivery_timeout: Duration::from_secs(120),
            watch: true,
            pace: Duration::ZERO,
        }
    }
}

/// What the producers' tasks and the scenario share.
struct Shared {
    attempts: Mutex<Vec<Attempt>>,
    stop: AtomicBool,
    acked: AtomicU64,
    acks: Mutex<Pulse>,
}

/// When acks came.
struct Pulse {
    last: Instant,
    longest_gap: Duration,
}

/// A load that runs.
pub struct Load {
    runtime: Runtime,
    shared: Arc<Shared>,
    producers: Vec<JoinHandle<()>>,
    watcher: Option<JoinHandle<BTreeMap<u32, Read>>>,
}

/// What came of a load.
pub struct Ledger {
    /// All records.
    pub attempts: Vec<Attempt>,
    /// What the consumer saw that watched.
    pub watched: BTreeMap<u32, Read>,
    /// The longest time without an ack.
    pub longest_gap: Duration,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Load {
    /// Starts a load on a topic that exists.
    ///
    /// # Panics
    /// When no thread can be started.
    pub fn start(servers: &str, options: &LoadOptions) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("threads can be started");
        let pulse = Pulse { last: Instant::now(), longest_gap: Duration::ZERO };
        let shared = Arc::new(Shared {
            attempts: Mutex::default(),
            stop: AtomicBool::new(false),
            acked: AtomicU64::new(0),
            acks: Mutex::new(pulse),
        });
        let run: u64 = rand::random();
        let entered = runtime.enter();
        let producers = (0..options.producers).map(|producer| {
            let client = Client::connect(servers).expect("the addresses are well formed");
            runtime.spawn(produce(client, run, producer, options.clone(), shared.clone()))
        });
        let producers = producers.collect();
        let watcher = options.watch.then(|| {
            let client = Client::connect(servers).expect("the addresses are well formed");
            runtime.spawn(watch(client, options.clone(), shared.clone()))
        });
        drop(entered);
        Self { runtime, shared, producers, watcher }
    }

    /// How many records were acknowledged so far.
    pub fn acked(&self) -> u64 {
        self.shared.acked.load(Ordering::SeqCst)
    }

    /// Waits until `more` records have been acknowledged from now on; returns how long that took.
    ///
    /// # Errors
    /// When that takes longer than `limit`.
    pub fn progress(&self, more: u64, limit: Duration) -> Result<Duration, String> {
        let began = Instant::now();
        let target = self.acked() + more;
        wait::until(&format!("{more} more acks"), limit, || match self.acked() {
            acked if acked >= target => Ok(()),
            acked => Err(format!("{} are missing", target - acked)),
        })?;
        Ok(began.elapsed())
    }

    /// The longest time without an ack since the last call.
    pub fn longest_gap(&self) -> Duration {
        let mut pulse = lock(&self.shared.acks);
        let gap = pulse.longest_gap.max(pulse.last.elapsed());
        pulse.longest_gap = Duration::ZERO;
        gap
    }

    /// Ends the load and waits for the outcome of every record.
    ///
    /// # Panics
    /// When a record has no outcome long after its time is over.
    pub fn finish(mut self) -> Ledger {
        self.shared.stop.store(true, Ordering::SeqCst);
        let longest_gap = self.longest_gap();
        let limit = Duration::from_secs(180);
        let producers = std::mem::take(&mut self.producers);
        self.runtime.block_on(async {
            for producer in producers {
                let ended = tokio::time::timeout(limit, producer).await;
                ended.expect("every record gets an outcome in time").expect("the producer does not panic");
            }
        });
        let watched = match self.watcher.take() {
            None => BTreeMap::new(),
            Some(watcher) => {
                let seen = self.runtime.block_on(async { tokio::time::timeout(limit, watcher).await });
                seen.expect("the watcher ends").expect("the watcher does not panic")
            }
        };
        let attempts = std::mem::take(&mut *lock(&self.shared.attempts));
        self.runtime.shutdown_background();
        Ledger { attempts, watched, longest_gap }
    }
}

async fn produce(client: Client, run: u64, producer: u32, options: LoadOptions, shared: Arc<Shared>) {
    let window = Arc::new(Semaphore::new(options.window));
    let sending = ProducerOptions {
        acks: options.acks,
        delivery_timeout: options.delivery_timeout,
        request_timeout: Duration::from_secs(10),
        max_block: options.delivery_timeout,
        ..ProducerOptions::default()
    };
    let sender = Producer::new(client, sending);
    for seq in 0.. {
        if shared.stop.load(Ordering::SeqCst) {
            break;
        }
        let room = window.clone().acquire_owned().await.expect("the window is never closed");
        let id = RecordId { run, producer, seq };
        let partition = u32::try_from(seq % u64::from(options.partitions)).expect("it is below a u32");
        let index = {
            let mut attempts = lock(&shared.attempts);
            attempts.push(Attempt { id, partition, outcome: Outcome::Unknown("no outcome yet".to_owned()) });
            attempts.len() - 1
        };
        let record = Record::new(&options.topic).value(id.value(options.size)).partition(partition);
        let told = shared.clone();
        let callback = Box::new(move |outcome: Result<Written, ClientError>| {
            match outcome {
                Ok(written) => told.acked(index, written.offset.map(Offset::get)),
                Err(error) => lock(&told.attempts)[index].outcome = failed(&error),
            }
            drop(room);
        });
        if let Err(error) = sender.send_with(record, callback).await {
            lock(&shared.attempts)[index].outcome = failed(&error);
            // It failed before it was queued: without a breath this loop would only count failures.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if !options.pace.is_zero() {
            tokio::time::sleep(options.pace).await;
        }
    }
    sender.flush().await;
}

/// What became of a record that was not acknowledged.
fn failed(error: &ClientError) -> Outcome {
    match error.certainty() {
        Certainty::NotDone => Outcome::Failed(error.to_string()),
        Certainty::Unknown => Outcome::Unknown(error.to_string()),
    }
}

impl Shared {
    fn acked(&self, index: usize, offset: Option<u64>) {
        lock(&self.attempts)[index].outcome = Outcome::Acked { offset };
        self.acked.fetch_add(1, Ordering::SeqCst);
        let now = Instant::now();
        let mut pulse = lock(&self.acks);
        pulse.longest_gap = pulse.longest_gap.max(now - pulse.last);
        pulse.last = now;
    }
}

/// Reads along until the load is stopped.
async fn watch(client: Client, options: LoadOptions, shared: Arc<Shared>) -> BTreeMap<u32, Read> {
    let mut seen: BTreeMap<u32, Read> = BTreeMap::new();
    let mut consumer = Consumer::new(client, ConsumerOptions::default());
    for partition in 0..options.partitions {
        let start = StartAt::Offset(Offset::ZERO);
        consumer.assign(&options.topic, partition, start).await.expect("an offset needs no answer");
    }
    while !shared.stop.load(Ordering::SeqCst) {
        let records = consumer.poll(Duration::from_millis(100)).await;
        for record in records.unwrap_or_else(|error| panic!("the watching consumer failed: {error}")) {
            let id = record.value.as_deref().and_then(RecordId::parse);
            seen.entry(record.partition.get()).or_default().push((record.offset.get(), id));
        }
    }
    seen
}

/// Reads partitions from their log start to the end, which is at least what was acknowledged.
///
/// # Errors
/// When they can't be read to there.
pub fn read_back(
    servers: &str,
    topic: &str,
    partitions: u32,
    attempts: &[Attempt],
    limit: Duration,
) -> Result<BTreeMap<u32, Read>, String> {
    let mut ends: BTreeMap<u32, u64> = (0..partitions).map(|partition| (partition, 0)).collect();
    for attempt in attempts {
        if let (Outcome::Acked { offset: Some(offset) }, Some(end)) =
            (&attempt.outcome, ends.get_mut(&attempt.partition))
        {
            *end = (*end).max(offset + 1);
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let client = Client::connect(servers).map_err(|error| error.to_string())?;
        let mut read = BTreeMap::new();
        for (partition, end) in ends {
            read.insert(partition, read_partition(&client, topic, partition, end, limit).await?);
        }
        Ok(read)
    })
}

async fn read_partition(
    client: &Client,
    topic: &str,
    partition: u32,
    acked: u64,
    limit: Duration,
) -> Result<Read, String> {
    let deadline = Instant::now() + limit;
    let failed = |error| format!("{topic}-{partition} can't be read: {error}");
    let mut consumer = Consumer::new(client.clone(), ConsumerOptions::default());
    consumer.assign(topic, partition, StartAt::Latest).await.map_err(failed)?;
    let latest = consumer.position(topic, partition).map_or(0, Offset::get);
    let end = latest.max(acked);
    consumer.assign(topic, partition, StartAt::Earliest).await.map_err(failed)?;
    let mut read = Read::new();
    while consumer.position(topic, partition).is_none_or(|position| position.get() < end) {
        if Instant::now() > deadline {
            let at = consumer.position(topic, partition);
            let mark = consumer.high_watermark(topic, partition);
            return Err(format!(
                "{topic}-{partition} was read to {at:?} and no further; acknowledged {acked}, high watermark {mark:?}"
            ));
        }
        for record in consumer.poll(Duration::from_millis(500)).await.map_err(failed)? {
            read.push((record.offset.get(), record.value.as_deref().and_then(RecordId::parse)));
        }
    }
    Ok(read)
}
