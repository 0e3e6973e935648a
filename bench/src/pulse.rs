//! A steady load beside which nodes are killed, and the longest time that it went without an ack.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use vltava_client::{Client, ClientError, Producer, ProducerOptions, Record};

use crate::Fallible;
use crate::load::{lock, value};

/// Between two records.
const PACE: Duration = Duration::from_millis(1);

struct Acks {
    last: Instant,
    longest: Duration,
}

struct Shared {
    acks: Mutex<Acks>,
    failure: Mutex<Option<ClientError>>,
    acked: AtomicU64,
    stop: AtomicBool,
}

/// A load that runs.
pub struct Pulse {
    shared: Arc<Shared>,
    sender: JoinHandle<Fallible<()>>,
}

impl Pulse {
    /// Sends a record each millisecond to partition 0, with a producer as it ships, until finished.
    ///
    /// # Errors
    /// When an address is none.
    pub fn start(runtime: &Handle, servers: &str, topic: &str) -> Fallible<Self> {
        let shared = Arc::new(Shared {
            acks: Mutex::new(Acks { last: Instant::now(), longest: Duration::ZERO }),
            failure: Mutex::default(),
            acked: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let _entered = runtime.enter();
        let producer = Producer::new(Client::connect(servers)?, ProducerOptions::default());
        let (telling, runtime, topic) = (shared.clone(), runtime.clone(), topic.to_owned());
        let sender = std::thread::spawn(move || send(&runtime, &producer, &topic, &telling));
        Ok(Self { shared, sender })
    }

    /// Begins to look for the longest gap anew.
    pub fn reset(&self) {
        lock(&self.shared.acks).longest = Duration::ZERO;
    }

    /// The longest time between two acks since the reset, the one that lasts still among them.
    pub fn longest_gap(&self) -> Duration {
        let acks = lock(&self.shared.acks);
        acks.longest.max(acks.last.elapsed())
    }

    /// Waits at least `least`, and then until acks come again.
    ///
    /// # Errors
    /// When none comes within `most`.
    pub fn settle(&self, least: Duration, most: Duration) -> Fallible<()> {
        let began = Instant::now();
        std::thread::sleep(least);
        while lock(&self.shared.acks).last.elapsed() > Duration::from_millis(100) {
            if began.elapsed() > most {
                return Err(format!("no ack within {most:?}").into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Stops, waits for all acks; returns how many came.
    ///
    /// # Errors
    /// When a record failed.
    pub fn finish(self) -> Fallible<u64> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.sender.join().map_err(|_| "the sender failed")??;
        match lock(&self.shared.failure).take() {
            Some(error) => Err(error.into()),
            None => Ok(self.shared.acked.load(Ordering::Relaxed)),
        }
    }
}

fn send(runtime: &Handle, producer: &Producer, topic: &str, shared: &Arc<Shared>) -> Fallible<()> {
    let value = value();
    while !shared.stop.load(Ordering::Relaxed) {
        let told = shared.clone();
        let callback = move |outcome: Result<_, ClientError>| match outcome {
            Ok(_) => told.acked(),
            Err(error) => *lock(&told.failure) = Some(error),
        };
        let record = Record::new(topic).value(value.clone()).partition(0);
        runtime.block_on(producer.send_with(record, Box::new(callback)))?;
        std::thread::sleep(PACE);
    }
    runtime.block_on(producer.flush());
    Ok(())
}

impl Shared {
    fn acked(&self) {
        self.acked.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let mut acks = lock(&self.acks);
        acks.longest = acks.longest.max(now - acks.last);
        acks.last = now;
    }
}
