//! Makes histories of a cluster that does everything right, from a seed; and breaks them in every way there is.
//!
//! What the checker says of the one and the other is the checker's own test. Knows nothing of how it checks.

mod breaks;

use std::collections::HashMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use vltava_model::{NodeId, Offset, PartitionIndex, TopicId};

pub use breaks::break_history;

use crate::event::{
    Acks, Action, Admin, Assign, At, Begin, Client, ClientRef, Event, FaultBegins, FaultEnds, FaultRef,
    Outcome, Partition, PartitionRef, Poll, Produce, Reading, Retention, Role, RunId, Seen,
};

/// How large a history is to be.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// How long the load runs.
    pub length: Duration,
    /// How often producers and consumers act.
    pub tick: Duration,
    /// Producers; the last of several is not idempotent.
    pub producers: u32,
    /// Consumers beside the load.
    pub consumers: u32,
    /// Partitions of each of the three topics.
    pub partitions: u32,
    /// Records that a producer sends at once, at most.
    pub batch: u32,
    /// The time from one fault to the next, on average.
    pub calm: Duration,
}

impl Shape {
    /// A few thousand records.
    pub const SMALL: Self = Self {
        length: Duration::from_secs(20),
        tick: Duration::from_millis(100),
        producers: 3,
        consumers: 2,
        partitions: 2,
        batch: 8,
        calm: Duration::from_secs(4),
    };
}

/// One partition of the cluster that does everything right.
struct Log {
    partition: PartitionRef,
    topic: TopicId,
    leader: u32,
    records: Vec<(ClientRef, u64)>,
    /// What consumers are shown.
    high_watermark: usize,
    log_start: usize,
    down_until: At,
}

struct Maker {
    random: StdRng,
    shape: Shape,
    now: At,
    /// With the time by which they are put in order.
    events: Vec<(At, Event)>,
    logs: Vec<Log>,
    seqs: HashMap<(ClientRef, PartitionRef), u64>,
    places: HashMap<(ClientRef, PartitionRef), usize>,
    partitions: u32,
    faults: u32,
}

/// The topic that is deleted and created again.
const SHORT_LIVED: u128 = 3;
const ADMINISTRATOR: u32 = 1000;
const READER: u32 = 1001;
const KINDS: [&str; 5] = ["kill", "pause", "partition", "slow disk", "power cut"];
const NODES: u32 = 5;

/// Makes a history that breaks nothing.
pub fn good_history(seed: u64, shape: Shape) -> Vec<Event> {
    let mut maker = Maker {
        random: StdRng::seed_from_u64(seed),
        shape,
        now: At::default(),
        events: Vec::new(),
        logs: Vec::new(),
        seqs: HashMap::new(),
        places: HashMap::new(),
        partitions: 0,
        faults: 0,
    };
    maker.declare(seed);
    let end = At::new(shape.length);
    let half = At::new(shape.length / 2);
    let mut recreated = false;
    while maker.now < end {
        maker.now = maker.now.plus(shape.tick);
        maker.fault();
        maker.produce();
        maker.consume();
        if maker.now >= half && !recreated {
            recreated = true;
            maker.recreate();
            maker.trim();
        }
    }
    // All outcomes are told before the final read begins.
    maker.now = end.plus(Duration::from_secs(60));
    maker.read_finally();
    maker.push(maker.now, Event::End { at: maker.now });
    maker.events.sort_by_key(|(at, _)| *at);
    maker.events.into_iter().map(|(_, event)| event).collect()
}

impl Maker {
    fn push(&mut self, at: At, event: Event) {
        self.events.push((at, event));
    }

    fn declare(&mut self, seed: u64) {
        let begin = Begin {
            run: RunId::new(seed ^ 0x5eed),
            seed,
            title: "an example that was made up".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_unix_ms: 0,
        };
        self.push(self.now, Event::Begin(begin));
        let client =
            |number, name: String, role| Event::Client(Client { client: ClientRef::new(number), name, role });
        for number in 0..self.shape.producers {
            let plain = number > 0 && number + 1 == self.shape.producers;
            let role = if plain { Role::PlainProducer } else { Role::IdempotentProducer };
            self.push(self.now, client(number, format!("producer-{number}"), role));
        }
        for number in 0..self.shape.consumers {
            self.push(self.now, client(500 + number, format!("consumer-{number}"), Role::Consumer));
        }
        self.push(self.now, client(ADMINISTRATOR, "administrator".to_owned(), Role::Administrator));
        self.push(self.now, client(READER, "final-reader".to_owned(), Role::Consumer));
        self.topic(1, "orders", Retention::Everything);
        self.topic(2, "clicks", Retention::Recent);
        self.topic(SHORT_LIVED, "short-lived", Retention::Everything);
    }

    fn topic(&mut self, id: u128, name: &str, retention: Retention) {
        for index in 0..self.shape.partitions {
            let partition = PartitionRef::new(self.partitions);
            self.partitions += 1;
            let declared = Partition {
                partition,
                topic: TopicId::new(id),
                name: name.to_owned(),
                index: PartitionIndex::new(index),
                retention,
            };
            self.push(self.now, Event::Partition(declared));
            self.logs.push(Log {
                partition,
                topic: TopicId::new(id),
                leader: self.partitions % NODES + 1,
                records: Vec::new(),
                high_watermark: 0,
                log_start: 0,
                down_until: At::default(),
            });
        }
    }

    fn chance(&mut self, share: f64) -> bool {
        self.random.random_bool(share.clamp(0.0, 1.0))
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(self.random.random_range(from * 1000..to * 1000))
    }

    /// Perhaps hits a node: its partitions take nothing until another leads them.
    fn fault(&mut self) {
        let share = self.shape.tick.as_secs_f64() / self.shape.calm.as_secs_f64();
        if !self.chance(share) {
            return;
        }
        let node = self.random.random_range(1..=NODES);
        let kind = KINDS[self.random.random_range(0..KINDS.len())];
        let outage = self.millis(300, 2500);
        let fault = FaultRef::new(self.faults);
        self.faults += 1;
        let (now, until) = (self.now, self.now.plus(outage));
        let mut leads = Vec::new();
        for log in self.logs.iter_mut().filter(|log| log.leader == node) {
            leads.push(log.partition);
            log.down_until = log.down_until.max(until);
            log.leader = node % NODES + 1;
        }
        let begins = FaultBegins {
            fault,
            kind: kind.to_owned(),
            nodes: vec![NodeId::new(node)],
            detail: format!("hits node {node} for {outage:.1?}"),
            leads,
            at: now,
        };
        self.push(now, Event::FaultBegins(begins));
        let heals = until.plus(self.millis(1000, 5000));
        self.push(heals, Event::FaultEnds(FaultEnds { fault, at: heals }));
    }

    fn produce(&mut self) {
        for producer in 0..self.shape.producers {
            let index = self.random.random_range(0..self.logs.len());
            let count = self.random.random_range(1..=self.shape.batch);
            self.send(ClientRef::new(producer), index, count);
        }
        for log in &mut self.logs {
            if log.down_until <= self.now {
                log.high_watermark = log.records.len();
            }
        }
    }

    fn send(&mut self, producer: ClientRef, index: usize, count: u32) {
        let invoked = self.now;
        let latency = self.millis(1, 12);
        let plain = producer.get() > 0 && producer.get() + 1 == self.shape.producers;
        let dice: f64 = self.random.random();
        let (given_up, lost_answer) = (self.chance(0.5), self.chance(0.5));
        let log = &mut self.logs[index];
        let down = log.down_until > invoked;
        let partition = log.partition;
        let seq = self.seqs.entry((producer, partition)).or_default();
        let first = *seq;
        *seq += u64::from(count);
        let base = log.records.len();
        let records = (first..).map(|seq| (producer, seq)).take(count as usize);
        let (outcome, took) = if dice < 0.01 {
            (Outcome::Failed("the record is too large".to_owned()), latency)
        } else if down && given_up || dice > 0.995 {
            if lost_answer {
                log.records.extend(records);
            }
            (Outcome::Unknown("no answer in time".to_owned()), Duration::from_secs(5))
        } else {
            log.records.extend(records);
            if plain && dice < 0.05 {
                // A retry that the cluster can't tell from a new record.
                log.records.push((producer, first));
            }
            let offset = Some(Offset::new(base as u64));
            (Outcome::Ok(offset), log.down_until.since(invoked).saturating_add(latency))
        };
        let completed = invoked.plus(took);
        let produce =
            Produce { producer, partition, seq: first, count, acks: Acks::All, invoked, completed, outcome };
        self.push(completed, Event::Produce(produce));
    }

    fn consume(&mut self) {
        for consumer in 0..self.shape.consumers {
            let consumer = ClientRef::new(500 + consumer);
            for index in 0..self.logs.len() {
                // The first partition's consumers lag: what is deleted there has not been read by anybody.
                let share = if index == 0 { 0.02 } else { 0.7 };
                if self.chance(share) {
                    self.poll(consumer, index);
                }
            }
        }
    }

    fn poll(&mut self, consumer: ClientRef, index: usize) {
        let again = self.chance(0.005);
        let most = self.random.random_range(1..4 * self.shape.batch as usize * 3);
        let completed = self.now.plus(self.millis(1, 5));
        let log = &self.logs[index];
        let at = self.places.entry((consumer, log.partition)).or_default();
        if again || *at < log.log_start {
            // Put back to the beginning; or what came next has been removed.
            *at = log.log_start;
            let from = Some(Offset::new(log.log_start as u64));
            let assign = Assign { consumer, partition: log.partition, from, at: self.now };
            self.events.push((self.now, Event::Assign(assign)));
        }
        let to = log.high_watermark.min(*at + most);
        let poll = answer(log, consumer, Reading::Along, (self.now, completed), *at..to);
        *at = (*at).max(to);
        self.push(completed, Event::Poll(poll));
    }

    /// Deletes the short-lived topic and creates it again under another id.
    fn recreate(&mut self) {
        let topic = TopicId::new(SHORT_LIVED);
        let (invoked, completed) = (self.now, self.now.plus(Duration::from_millis(20)));
        let client = ClientRef::new(ADMINISTRATOR);
        let delete = Admin {
            client,
            action: Action::DeleteTopic { topic },
            invoked,
            completed,
            outcome: Outcome::Ok(()),
        };
        let name = "short-lived".to_owned();
        let create = Action::CreateTopic { name, partitions: self.shape.partitions };
        self.push(completed, Event::Admin(delete.clone()));
        self.push(completed, Event::Admin(Admin { action: create, ..delete }));
        self.logs.retain(|log| log.topic != topic);
        self.topic(SHORT_LIVED + 1, "short-lived", Retention::Everything);
    }

    /// Deletes records of one partition by request, and of another by retention.
    fn trim(&mut self) {
        let invoked = self.now;
        for (index, log) in self.logs.iter_mut().enumerate() {
            if index == 0 || index == self.shape.partitions as usize {
                log.log_start = log.high_watermark / 2;
            }
        }
        let action = Action::DeleteRecords {
            partition: self.logs[0].partition,
            before: Offset::new(self.logs[0].log_start as u64),
        };
        let client = ClientRef::new(ADMINISTRATOR);
        let completed = invoked.plus(Duration::from_millis(5));
        let admin = Admin { client, action, invoked, completed, outcome: Outcome::Ok(()) };
        self.push(completed, Event::Admin(admin));
    }

    fn read_finally(&mut self) {
        let consumer = ClientRef::new(READER);
        for index in 0..self.logs.len() {
            self.logs[index].high_watermark = self.logs[index].records.len();
            let log = &self.logs[index];
            let from = Some(Offset::new(log.log_start as u64));
            let mut events =
                vec![Event::Assign(Assign { consumer, partition: log.partition, from, at: self.now })];
            let mut at = log.log_start;
            loop {
                let to = log.high_watermark.min(at + 1000);
                self.now = self.now.plus(Duration::from_millis(1));
                events.push(Event::Poll(answer(log, consumer, Reading::Final, (self.now, self.now), at..to)));
                at = to;
                if at == log.high_watermark {
                    break;
                }
            }
            let now = self.now;
            self.events.extend(events.into_iter().map(|event| (now, event)));
        }
    }
}

/// What a consumer gets of a partition's records.
fn answer(
    log: &Log,
    consumer: ClientRef,
    reading: Reading,
    (invoked, completed): (At, At),
    range: std::ops::Range<usize>,
) -> Poll {
    let mut seen: Vec<Seen> = Vec::new();
    for at in range {
        let now = log.records[at];
        if let Some(Seen::Records { producer, seq, count, .. }) = seen.last_mut()
            && now == (*producer, *seq + u64::from(*count))
        {
            *count += 1;
            continue;
        }
        seen.push(Seen::Records { offset: Offset::new(at as u64), producer: now.0, seq: now.1, count: 1 });
    }
    Poll {
        consumer,
        partition: log.partition,
        reading,
        invoked,
        completed,
        high_watermark: Some(Offset::new(log.high_watermark as u64)),
        log_start: Some(Offset::new(log.log_start as u64)),
        seen,
    }
}

/// One of several, by chance.
fn pick<T: Copy>(random: &mut impl Rng, from: &[T]) -> Option<T> {
    if from.is_empty() { None } else { Some(from[random.random_range(0..from.len())]) }
}

#[cfg(test)]
mod tests;
