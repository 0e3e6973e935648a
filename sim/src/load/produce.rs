//! Producers: bursts of checked records, several under way, each outcome written down.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::RngExt;
use vltava_client::{Certainty, ClientError, Producer, ProducerOptions, Record, Written};
use vltava_history::Payload;
use vltava_history::event::{Acks, At, ClientRef, Event, Outcome, PartitionRef, Produce, Role};
use vltava_model::{Offset, TopicPartition};

use super::{Load, Topic, lock, now};
use crate::clock;

/// Writes until the load ends, and returns when every record has its outcome.
pub(super) async fn produce(load: Load, number: u32, which: u32) {
    let name = format!("producer {number}.{which}");
    let mut random = load.random(&name);
    let Ok(client) = load.client() else { return load.complain(format!("{name} has no address")) };
    let delivery = Duration::from_millis(load.0.habits.delivery);
    let options = ProducerOptions {
        delivery_timeout: delivery,
        request_timeout: Duration::from_secs(5),
        max_block: delivery,
        linger: Duration::from_millis(random.random_range(0..10)),
        max_in_flight: random.random_range(1..=5),
        ..ProducerOptions::default()
    };
    let producer = Producer::new(client, options);
    let who = load.0.recorder.client(&name, Role::IdempotentProducer);
    let mut next: BTreeMap<PartitionRef, u64> = BTreeMap::new();
    while !load.is_stopped() {
        load.rest(&mut random, load.0.habits.rest_max).await;
        let Some(topic) = load.pick(&mut random) else { continue };
        for _ in 0..random.random_range(1..=load.0.habits.burst_max) {
            let index = random.random_range(0..topic.partitions.len());
            let size = random.random_range(60..400);
            let seq = next.entry(topic.partitions[index]).or_default();
            write(&load, &producer, &topic, index, who, *seq, size).await;
            *seq += 1;
        }
    }
    producer.flush().await;
}

async fn write(
    load: &Load,
    producer: &Producer,
    topic: &Topic,
    index: usize,
    who: ClientRef,
    seq: u64,
    size: usize,
) {
    let partition = topic.partitions[index];
    let place = load.0.recorder.place(partition);
    let payload = Payload { run: place.run, producer: who, seq, topic: place.topic, partition: place.index };
    let record = Record::new(&topic.name).topic_id(topic.id);
    let record = record.value(payload.encode(size)).partition(place.index.get());
    let pending = Pending {
        load: load.clone(),
        topic: topic.clone(),
        index,
        who,
        partition,
        seq,
        invoked: now(),
        told: false,
    };
    // Also held here: a record that was not taken has its callback dropped before the error is known.
    let pending = Arc::new(Mutex::new(Some(pending)));
    let called = pending.clone();
    let tell = |pending: &Mutex<Option<Pending>>, outcome| {
        if let Some(pending) = lock(pending).take() {
            pending.tell(outcome);
        }
    };
    let callback = move |outcome: Result<Written, ClientError>| tell(&called, outcome);
    if let Err(error) = producer.send_with(record, Box::new(callback)).await {
        tell(&pending, Err(error));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What the history says of a record that was not acknowledged.
fn failed(error: &ClientError) -> Outcome<Option<Offset>> {
    match error.certainty() {
        Certainty::NotDone => Outcome::Failed(error.to_string()),
        Certainty::Unknown => Outcome::Unknown(error.to_string()),
    }
}

/// A record whose outcome is still to come. Dropped without one, as when its process is killed, it is unknown.
struct Pending {
    load: Load,
    topic: Topic,
    index: usize,
    who: ClientRef,
    partition: PartitionRef,
    seq: u64,
    invoked: At,
    told: bool,
}

impl Pending {
    fn tell(mut self, outcome: Result<Written, ClientError>) {
        self.told = true;
        match outcome {
            Ok(written) => {
                lock(&self.topic.acked)[self.index] = clock::now();
                self.load.0.acked.fetch_add(1, Ordering::Relaxed);
                if let Some(offset) = written.offset {
                    let place = self.load.0.recorder.place(self.partition);
                    let partition = TopicPartition::new(place.topic, place.index);
                    self.load.0.shown.show(partition, offset.next());
                }
                self.record(Outcome::Ok(written.offset));
            }
            Err(error) => self.record(failed(&error)),
        }
    }

    fn record(&self, outcome: Outcome<Option<Offset>>) {
        self.load.0.recorder.record(Event::Produce(Produce {
            producer: self.who,
            partition: self.partition,
            seq: self.seq,
            count: 1,
            acks: Acks::All,
            invoked: self.invoked,
            completed: now(),
            outcome,
        }));
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.told {
            self.record(Outcome::Unknown("nobody was told".to_owned()));
        }
    }
}
