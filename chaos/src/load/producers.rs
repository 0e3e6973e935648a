//! Producers that write checked records at a pace, several under way, and record each outcome.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, MissedTickBehavior};
use vltava_client::{Certainty, ClientError, Producer, ProducerOptions, Record, Written};
use vltava_history::Payload;
use vltava_history::event::{Acks, At, ClientRef, Event, Outcome, PartitionRef, Produce, Role};

use super::{Common, Topic};

/// Records that one producer may have under way in each partition, so that one that takes none does not silence the others.
const WINDOW: usize = 150;
/// How long a record may take before its outcome is unknown.
const DELIVERY: Duration = Duration::from_secs(40);
/// How often a producer looks what is due.
const TICK: Duration = Duration::from_millis(20);
/// Sizes of records, in bytes.
const SIZES: std::ops::Range<usize> = 60..500;

/// Writes until the load ends.
pub async fn until_stopped(common: Common, topic: Topic, name: String, rate: u32) {
    let mut stop = common.stop.clone();
    // A sender that is gone means the same as one that says so.
    let stopped = async move { drop(stop.wait_for(|stop| *stop).await) };
    produce(&common, &topic, &name, rate, stopped).await;
}

/// Writes until `stopped`, and returns when every record has its outcome.
pub async fn produce(
    common: &Common,
    topic: &Topic,
    name: &str,
    rate: u32,
    stopped: impl Future<Output = ()>,
) {
    let client = match common.client() {
        Ok(client) => client,
        Err(error) => return common.scribe.violation(&format!("{name} can't begin: {error}")),
    };
    let options = ProducerOptions {
        delivery_timeout: DELIVERY,
        request_timeout: Duration::from_secs(10),
        max_block: DELIVERY,
        ..ProducerOptions::default()
    };
    let who = common.scribe.recorder.client(name, Role::IdempotentProducer);
    let mut writer = Writer {
        common,
        topic,
        who,
        producer: Producer::new(client, options),
        windows: topic.partitions.iter().map(|_| Arc::new(Semaphore::new(WINDOW))).collect(),
        next: vec![0; topic.partitions.len()],
        rng: StdRng::seed_from_u64(common.options.seed ^ (u64::from(who.get()) << 32)),
    };
    tokio::pin!(stopped);
    let began = Instant::now();
    let mut written = 0;
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    'load: loop {
        tokio::select! {
            () = &mut stopped => break,
            _ = ticks.tick() => {}
        }
        let due = (began.elapsed().as_secs_f64() * f64::from(rate)) as u64;
        // What was not sent while nothing could be sent is not made up for.
        written = written.max(due.saturating_sub(u64::from(rate)));
        while written < due {
            tokio::select! {
                () = &mut stopped => break 'load,
                () = writer.write() => {}
            }
            written += 1;
        }
    }
    let all = u32::try_from(WINDOW).unwrap_or(u32::MAX);
    let outcomes = tokio::time::timeout(DELIVERY * 2, async {
        writer.producer.flush().await;
        for window in &writer.windows {
            // Nobody closes them.
            let _all_told = window.acquire_many(all).await;
        }
    });
    if outcomes.await.is_err() {
        common.scribe.violation(&format!("{name} has records without an outcome long after their time"));
    }
}

struct Writer<'a> {
    common: &'a Common,
    topic: &'a Topic,
    who: ClientRef,
    producer: Producer,
    windows: Vec<Arc<Semaphore>>,
    next: Vec<u64>,
    rng: StdRng,
}

impl Writer<'_> {
    /// A partition that has room for one more record: any that has, or one that will.
    async fn room(&mut self) -> Option<(usize, OwnedSemaphorePermit)> {
        let drawn = self.rng.next_u32() as usize % self.windows.len();
        let (before, after) = self.windows.split_at(drawn);
        let mut in_turn = after.iter().chain(before).zip((drawn..self.windows.len()).chain(0..drawn));
        let free =
            in_turn.find_map(|(window, index)| Some((index, window.clone().try_acquire_owned().ok()?)));
        match free {
            Some(free) => Some(free),
            None => Some((drawn, self.windows[drawn].clone().acquire_owned().await.ok()?)),
        }
    }

    async fn write(&mut self) {
        let Some((index, room)) = self.room().await else { return };
        let partition = self.topic.partitions[index];
        let place = self.common.scribe.recorder.place(partition);
        let seq = self.next[index];
        self.next[index] += 1;
        let payload =
            Payload { run: place.run, producer: self.who, seq, topic: place.topic, partition: place.index };
        let value = payload.encode(self.rng.random_range(SIZES));
        let record = Record::new(&self.topic.name).topic_id(self.topic.id);
        let record = record.value(value).partition(place.index.get());
        let told = Told {
            common: self.common.clone(),
            producer: self.who,
            partition,
            seq,
            invoked: self.common.scribe.now(),
        };
        let failing = told.clone();
        let callback = Box::new(move |outcome: Result<Written, ClientError>| {
            match outcome {
                Ok(written) => told.acked(written),
                Err(error) => told.record(failed(&error)),
            }
            drop(room);
        });
        // Dropped in the midst when the load ends: then nothing was handed over, or its callback tells.
        if let Err(error) = self.producer.send_with(record, callback).await {
            failing.record(failed(&error));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// What the history says of a record that was not acknowledged.
fn failed(error: &ClientError) -> Outcome<Option<vltava_model::Offset>> {
    match error.certainty() {
        Certainty::NotDone => Outcome::Failed(error.to_string()),
        Certainty::Unknown => Outcome::Unknown(error.to_string()),
    }
}

#[derive(Clone)]
struct Told {
    common: Common,
    producer: ClientRef,
    partition: PartitionRef,
    seq: u64,
    invoked: At,
}

impl Told {
    fn acked(&self, written: Written) {
        self.record(Outcome::Ok(written.offset));
        self.common.pulse.acked(self.partition, self.common.scribe.now());
    }

    fn record(&self, outcome: Outcome<Option<vltava_model::Offset>>) {
        self.common.scribe.recorder.record(Event::Produce(Produce {
            producer: self.producer,
            partition: self.partition,
            seq: self.seq,
            count: 1,
            acks: Acks::All,
            invoked: self.invoked,
            completed: self.common.scribe.now(),
            outcome,
        }));
    }
}
