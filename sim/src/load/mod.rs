//! What clients do during a run: written down in a history as they see it.
//!
//! Clients are the real client library on machines of their own. What must hold of the history is not known here.

mod admin;
mod consume;
mod last_read;
mod produce;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::RngExt;
use vltava_client::{Client, ClientError};
use vltava_history::Recorder;
use vltava_history::event::{At, Begin, PartitionRef, RunId};
use vltava_history::recorder::Memory;
use vltava_model::TopicId;

use crate::clock::{self, Millis};
use crate::host::Program;
use crate::invariants::Shown;
use crate::programs;
use crate::random::{self, Random};

/// How much clients do, by the seed.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Topics at the beginning.
    pub topics: u32,
    /// Partitions of each.
    pub partitions: u32,
    /// How long a producer rests between two bursts at most.
    pub rest_max: Millis,
    /// Records in a burst at most.
    pub burst_max: u64,
    /// How long the administrator rests between two acts at most.
    pub admin_rest_max: Millis,
    /// How long a record may take before its outcome is unknown.
    pub delivery: Millis,
}

/// What all clients share. Cloning it shares it.
#[derive(Clone)]
pub struct Load(Arc<Shared>);

struct Shared {
    seed: u64,
    habits: Habits,
    recorder: Recorder,
    memory: Memory,
    topics: Mutex<Vec<Topic>>,
    stopped: AtomicBool,
    /// Records acknowledged so far.
    acked: AtomicU64,
    shown: Shown,
    /// Clients that have not ended yet.
    running: AtomicU64,
    /// What must not happen and no history shows.
    complaints: Mutex<Vec<String>>,
}

/// A topic that clients use.
#[derive(Clone, Debug)]
struct Topic {
    name: String,
    id: TopicId,
    partitions: Vec<PartitionRef>,
    /// When a record of each partition was acknowledged last.
    acked: Arc<Mutex<Vec<Millis>>>,
    /// An administrator is about to delete it, or did.
    doomed: bool,
}

/// Now, by the history's clock.
fn now() -> At {
    At::nanos(clock::now() * 1_000_000)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts a client that runs.
struct Running(Load);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Load {
    /// A load that has not begun.
    pub fn new(seed: u64, habits: Habits) -> Self {
        let begin = Begin {
            run: RunId::new(seed ^ 0x5EED),
            seed,
            title: "simulation".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_unix_ms: 0,
        };
        let (recorder, memory) = Recorder::in_memory(begin);
        Self(Arc::new(Shared {
            seed,
            habits,
            recorder,
            memory,
            topics: Mutex::default(),
            stopped: AtomicBool::new(false),
            acked: AtomicU64::new(0),
            shown: Shown::default(),
            running: AtomicU64::new(0),
            complaints: Mutex::default(),
        }))
    }

    /// The history.
    pub fn recorder(&self) -> &Recorder {
        &self.0.recorder
    }

    /// The history's bytes.
    pub fn history(&self) -> Vec<u8> {
        self.0.memory.bytes()
    }

    /// Records acknowledged so far.
    pub fn acked(&self) -> u64 {
        self.0.acked.load(Ordering::Relaxed)
    }

    /// Up to where clients were told that records are committed.
    pub fn shown(&self) -> Shown {
        self.0.shown.clone()
    }

    /// Whether topics are there to be used.
    pub fn is_prepared(&self) -> bool {
        lock(&self.0.topics).len() >= self.0.habits.topics as usize
    }

    /// Tells all clients to end.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether all clients have ended.
    pub fn has_ended(&self) -> bool {
        self.0.running.load(Ordering::Relaxed) == 0
    }

    /// What must not happen and no history shows.
    pub fn complaints(&self) -> Vec<String> {
        lock(&self.0.complaints).clone()
    }

    /// Partitions of lasting topics where nothing was acknowledged since a time.
    pub fn silent_since(&self, since: Millis) -> Vec<String> {
        let mut silent = Vec::new();
        for topic in lock(&self.0.topics).iter().filter(|topic| !topic.doomed) {
            for (index, acked) in lock(&topic.acked).iter().enumerate().filter(|(_, acked)| **acked <= since)
            {
                silent.push(format!("{}-{index} (last {acked} ms)", topic.name));
            }
        }
        silent
    }

    /// The program of a machine with producers and consumers.
    pub fn worker(&self, number: u32) -> Program {
        let load = self.clone();
        Box::pin(async move {
            for which in 0..2 {
                load.spawn(|load| produce::produce(load, number, which));
            }
            load.spawn(|load| consume::follow(load, number));
            load.spawn(|load| consume::wander(load, number));
        })
    }

    /// The program of the administrator's machine.
    pub fn administrator(&self) -> Program {
        let load = self.clone();
        load.0.running.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let _running = Running(load.clone());
            admin::administer(&load).await;
        })
    }

    /// The program that reads everything in the end.
    pub fn last_reader(&self, limit: Millis) -> Program {
        let load = self.clone();
        load.0.running.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let _running = Running(load.clone());
            last_read::read_everything(&load, limit).await;
        })
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, client: impl FnOnce(Self) -> F) {
        self.0.running.fetch_add(1, Ordering::Relaxed);
        let (running, client) = (Running(self.clone()), client(self.clone()));
        tokio::spawn(async move {
            let _running = running;
            client.await;
        });
    }

    fn is_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::Relaxed)
    }

    fn complain(&self, what: String) {
        lock(&self.0.complaints).push(what);
    }

    fn client(&self) -> Result<Client, ClientError> {
        Client::connect(&programs::servers())
    }

    fn random(&self, who: &str) -> Random {
        random::stream(self.0.seed, who)
    }

    /// A topic that may be used now.
    fn pick(&self, random: &mut Random) -> Option<Topic> {
        let topics = lock(&self.0.topics);
        let usable: Vec<&Topic> = topics.iter().filter(|topic| !topic.doomed).collect();
        if usable.is_empty() { None } else { Some(usable[random.random_range(0..usable.len())].clone()) }
    }

    async fn rest(&self, random: &mut Random, max: Millis) {
        tokio::time::sleep(Duration::from_millis(random.random_range(1..=max.max(1)))).await;
    }
}
