//! Clients that use the cluster while it suffers, and write down what they were told.
//!
//! Everything is bounded: rates, records under way, and the time that any of it may take to end.

mod churn;
mod consumers;
mod last_read;
mod producers;
mod trims;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use vltava_client::{Admin, Client, ClientError};
use vltava_history::event;
use vltava_history::event::{Action, At, ClientRef, Event, Outcome, PartitionRef, Retention, Role};
use vltava_model::{ErrorCode, PartitionIndex, TopicId};
use vltava_proto::v1::NewTopic;

use crate::Fallible;
use crate::scribe::Scribe;
pub use last_read::read_everything;

/// How the load is made.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Where the brokers are.
    pub servers: String,
    /// Records a second, of all producers together.
    pub rate: u32,
    /// Partitions of each lasting topic.
    pub partitions: u32,
    /// What choices are drawn from.
    pub seed: u64,
}

/// A topic that clients use.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: TopicId,
    /// Its partitions, as the history calls them.
    pub partitions: Vec<PartitionRef>,
}

/// When which partition last acknowledged something, and how much was acknowledged in all.
#[derive(Default)]
pub struct Pulse {
    last: Mutex<BTreeMap<PartitionRef, At>>,
    acked: AtomicU64,
}

impl Pulse {
    fn acked(&self, partition: PartitionRef, at: At) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).insert(partition, at);
        self.acked.fetch_add(1, Ordering::Relaxed);
    }

    /// Acknowledged records so far.
    pub fn total(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// Those of `partitions` that have acknowledged nothing since.
    pub fn silent_since<'a>(&self, partitions: &'a [Topic], since: At) -> Vec<&'a str> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = |topic: &&Topic| {
            topic.partitions.iter().any(|partition| last.get(partition).is_none_or(|at| *at < since))
        };
        partitions.iter().filter(silent).map(|topic| topic.name.as_str()).collect()
    }
}

/// What all clients of a run share.
#[derive(Clone)]
pub struct Common {
    /// How the load is made.
    pub options: LoadOptions,
    /// Where everything is written down.
    pub scribe: Arc<Scribe>,
    /// When acks came.
    pub pulse: Arc<Pulse>,
    /// Turns true when clients should end.
    pub stop: watch::Receiver<bool>,
    /// Topics that come and go, as far as one is there now.
    pub passing: Arc<Mutex<Vec<Topic>>>,
}

impl Common {
    fn stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Sleeps, but not longer than until the end. Whether to go on.
    async fn sleep(&mut self, time: Duration) -> bool {
        // A sender that is gone means the same as one that says so.
        let stopped = tokio::time::timeout(time, self.stop.wait_for(|stop| *stop)).await;
        stopped.is_err()
    }

    fn client(&self) -> Result<Client, ClientError> {
        Client::connect(&self.options.servers)
    }

    fn declare(&self, name: &str, id: TopicId, partitions: u32, retention: Retention) -> Topic {
        let refs = (0..partitions)
            .map(|index| self.scribe.recorder.partition(id, name, PartitionIndex::new(index), retention));
        Topic { name: name.to_owned(), id, partitions: refs.collect() }
    }

    fn administered(&self, client: ClientRef, action: Action, invoked: At, outcome: Outcome<()>) {
        let completed = self.scribe.now();
        self.scribe.recorder.record(Event::Admin(event::Admin {
            client,
            action,
            invoked,
            completed,
            outcome,
        }));
    }

    /// Creates a topic with three replicas, and finds it when that was done by an attempt whose answer was lost.
    async fn create(
        self,
        who: ClientRef,
        name: &'static str,
        partitions: u32,
        configs: Configs,
    ) -> Result<Topic, ClientError> {
        let client = self.client()?;
        let invoked = self.scribe.now();
        let configs = configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let topic = NewTopic {
            name: name.to_owned(),
            partition_count: partitions,
            replication_factor: 3,
            configs,
            ..NewTopic::default()
        };
        let created = Admin::new(client.clone()).create_topic(topic).await;
        let action = Action::CreateTopic { name: name.to_owned(), partitions };
        let id = match created {
            Ok(created) => {
                self.administered(who, action, invoked, Outcome::Ok(()));
                TopicId::from_slice(&created.topic_id)
            }
            Err(error) => {
                self.administered(who, action, invoked, Outcome::Unknown(error.to_string()));
                if error.code() != ErrorCode::TopicAlreadyExists {
                    return Err(error);
                }
                TopicId::from_slice(&client.refresh_topic(name).await?.topic_id)
            }
        };
        let id = id.ok_or_else(|| ClientError::new(ErrorCode::UnknownServerError, "an id has 16 bytes"))?;
        Ok(self.declare(name, id, partitions, Retention::Everything))
    }
}

/// A load that runs.
pub struct Load {
    common: Common,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    /// The topics that last.
    pub topics: Vec<Topic>,
}

type Configs = &'static [(&'static str, &'static str)];

/// Lasting topics: name, how many producers, configs.
const TOPICS: [(&str, u32, Configs); 3] = [
    ("orders", 2, &[]),
    ("events", 2, &[("segment.bytes", "262144")]),
    ("trimmed", 1, &[("segment.bytes", "131072")]),
];

/// Producers of lasting topics, and the one of the topic that comes and goes.
const PRODUCERS: u32 = 6;

/// How often the log of the run says how far the load is.
const TELL: Duration = Duration::from_secs(10);

/// Says how much was acknowledged, until the load ends.
async fn tell(mut common: Common) {
    let mut before = 0;
    while common.sleep(TELL).await {
        let total = common.pulse.total();
        common.scribe.say(&format!("{total} records acknowledged, {} in the last {TELL:?}", total - before));
        before = total;
    }
}

/// How long clients may take to end.
const END_LIMIT: Duration = Duration::from_secs(90);

impl Load {
    /// Creates the topics and starts all clients.
    ///
    /// # Errors
    /// When a topic can't be created.
    pub async fn start(options: LoadOptions, scribe: Arc<Scribe>) -> Fallible<Self> {
        let (stop, stopped) = watch::channel(false);
        let common =
            Common { options, scribe, pulse: Arc::default(), stop: stopped, passing: Arc::default() };
        let administrator = common.scribe.recorder.client("creator", Role::Administrator);
        let mut topics = Vec::new();
        let mut tasks = JoinSet::new();
        for (name, producers, configs) in TOPICS {
            let topic =
                common.clone().create(administrator, name, common.options.partitions, configs).await?;
            for producer in 0..producers {
                let rate = common.options.rate / PRODUCERS;
                let who = format!("{name} producer {producer}");
                tasks.spawn(producers::until_stopped(common.clone(), topic.clone(), who, rate));
            }
            tasks.spawn(consumers::tail(common.clone(), topic.clone(), format!("{name} tail")));
            tasks.spawn(consumers::wander(common.clone(), topic.clone(), format!("{name} wanderer")));
            topics.push(topic);
        }
        let trimmed = topics[topics.len() - 1].clone();
        tasks.spawn(trims::trim(common.clone(), trimmed));
        // An administrator's calls can't move between threads (the compiler can't see that they could): it gets one.
        let (runtime, shared) = (tokio::runtime::Handle::current(), common.clone());
        tasks.spawn_blocking(move || runtime.block_on(churn::churn(shared)));
        tasks.spawn(tell(common.clone()));
        Ok(Self { common, stop, tasks, topics })
    }

    /// When acks came.
    pub fn pulse(&self) -> &Pulse {
        &self.common.pulse
    }

    /// Ends all clients, and waits for every outcome. Returns the topics that are there.
    pub async fn end(mut self) -> Vec<Topic> {
        // Clients that ended already need not be told.
        let _ = self.stop.send(true);
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                if let Err(error) = ended {
                    self.common.scribe.violation(&format!("a client of this program failed: {error}"));
                }
            }
        };
        if tokio::time::timeout(END_LIMIT, all).await.is_err() {
            self.common
                .scribe
                .violation(&format!("clients did not end within {END_LIMIT:?} on a whole cluster"));
        }
        self.topics.append(&mut self.common.passing.lock().unwrap_or_else(PoisonError::into_inner));
        self.topics
    }
}
