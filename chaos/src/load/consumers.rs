//! Consumers that read along: one that follows every partition from its beginning, one that starts anywhere, again and
//! again.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;
use vltava_client::{ConsumedRecord, Consumer, ConsumerOptions, StartAt};
use vltava_history::event::{Assign, ClientRef, Event, Poll, Reading, Role};
use vltava_model::Offset;

use super::{Common, Topic};

const POLL: Duration = Duration::from_millis(250);
/// How long one offset may be looked for: a partition may be away for long, the end of the load may not.
const LOOKUP: Duration = Duration::from_secs(5);

/// A consumer and how its readings are written down.
pub struct Reader<'a> {
    common: &'a Common,
    topic: &'a Topic,
    who: ClientRef,
    reading: Reading,
    consumer: Consumer,
}

impl<'a> Reader<'a> {
    /// A consumer without partitions; `None` when the run's own addresses are none.
    pub fn new(common: &'a Common, topic: &'a Topic, name: &str, reading: Reading) -> Option<Self> {
        let client = common.client().ok()?;
        let who = common.scribe.recorder.client(name, Role::Consumer);
        let options = ConsumerOptions { default_api_timeout: LOOKUP, ..ConsumerOptions::default() };
        Some(Self { common, topic, who, reading, consumer: Consumer::new(client, options) })
    }

    /// The position in a partition.
    pub fn position(&self, index: u32) -> Option<Offset> {
        self.consumer.position(&self.topic.name, index)
    }

    /// The high watermark of a partition as last heard of.
    pub fn high_watermark(&self, index: u32) -> Option<Offset> {
        self.consumer.high_watermark(&self.topic.name, index)
    }

    /// Puts it somewhere.
    ///
    /// # Errors
    /// Why it can't be put there now.
    pub async fn assign(&mut self, index: u32, start: StartAt) -> Result<(), String> {
        let name = self.topic.name.clone();
        let assigned = self.consumer.assign_in(&name, self.topic.id, index, start).await;
        assigned.map_err(|error| error.to_string())?;
        let from = self.position(index);
        let partition = self.topic.partitions[index as usize];
        let at = self.common.scribe.now();
        let assign = Assign { consumer: self.who, partition, from, at };
        self.common.scribe.recorder.record(Event::Assign(assign));
        Ok(())
    }

    /// Reads once; returns whether anything came.
    ///
    /// # Errors
    /// Why a partition can't be read on; it is to be assigned again.
    pub async fn poll(&mut self, wait: Duration) -> Result<bool, String> {
        let invoked = self.common.scribe.now();
        let records = self.consumer.poll(wait).await.map_err(|error| error.to_string())?;
        let completed = self.common.scribe.now();
        let some = !records.is_empty();
        let mut by_partition: BTreeMap<u32, Vec<ConsumedRecord>> = BTreeMap::new();
        for record in records {
            by_partition.entry(record.partition.get()).or_default().push(record);
        }
        for (index, records) in by_partition {
            let partition = self.topic.partitions[index as usize];
            let place = self.common.scribe.recorder.place(partition);
            let mut poll = Poll {
                consumer: self.who,
                partition,
                reading: self.reading,
                invoked,
                completed,
                high_watermark: self.high_watermark(index),
                log_start: None,
                seen: Vec::new(),
            };
            for record in records {
                poll.saw(place, record.offset, record.value.as_deref());
            }
            self.common.scribe.recorder.record(Event::Poll(poll));
        }
        Ok(some)
    }

    /// Notes between which offsets everything was read, also where nothing was there.
    pub fn note_bounds(&self, index: u32, start: Offset, end: Offset) {
        let now = self.common.scribe.now();
        self.common.scribe.recorder.record(Event::Poll(Poll {
            consumer: self.who,
            partition: self.topic.partitions[index as usize],
            reading: self.reading,
            invoked: now,
            completed: now,
            high_watermark: Some(end),
            log_start: Some(start),
            seen: Vec::new(),
        }));
    }

    /// Puts partitions that fell out back to where they were, or to the beginning when that is gone.
    async fn reassign(&mut self, positions: &BTreeMap<u32, Offset>) {
        for index in 0..self.topic.partitions.len() as u32 {
            if self.position(index).is_some() {
                continue;
            }
            let start = match positions.get(&index) {
                // Offsets below the log start are refused: then what is left is read from its beginning.
                Some(offset) if self.earliest(index).await.is_some_and(|first| first <= *offset) => {
                    StartAt::Offset(*offset)
                }
                _ => StartAt::Earliest,
            };
            // Whatever is the matter now may pass: the next round tries again.
            let _ = self.assign(index, start).await;
        }
    }

    async fn earliest(&mut self, index: u32) -> Option<Offset> {
        let client = self.common.client().ok()?;
        let options = ConsumerOptions { default_api_timeout: LOOKUP, ..ConsumerOptions::default() };
        let mut scout = Consumer::new(client, options);
        scout.assign_in(&self.topic.name, self.topic.id, index, StartAt::Earliest).await.ok()?;
        scout.position(&self.topic.name, index)
    }

    fn positions(&self, known: &mut BTreeMap<u32, Offset>) {
        for index in 0..self.topic.partitions.len() as u32 {
            if let Some(position) = self.position(index) {
                known.insert(index, position);
            }
        }
    }
}

/// Follows every partition from its beginning until the load ends.
pub async fn tail(common: Common, topic: Topic, name: String) {
    let mut stop = common.stop.clone();
    follow(&common, &topic, &name, async move { drop(stop.wait_for(|stop| *stop).await) }).await;
}

/// Follows every partition from its beginning until `stopped`.
pub async fn follow(common: &Common, topic: &Topic, name: &str, stopped: impl Future<Output = ()>) {
    let Some(mut reader) = Reader::new(common, topic, name, Reading::Along) else { return };
    let mut positions = BTreeMap::new();
    tokio::pin!(stopped);
    let reading = async {
        loop {
            reader.reassign(&positions).await;
            if let Err(error) = reader.poll(POLL).await {
                common.scribe.say(&format!("{name}: {error}"));
            }
            reader.positions(&mut positions);
        }
    };
    tokio::select! {
        () = reading => {}
        () = &mut stopped => {}
    }
}

/// Starts somewhere, reads for some seconds, and starts elsewhere, until the load ends.
pub async fn wander(mut common: Common, topic: Topic, name: String) {
    let mut rng = StdRng::seed_from_u64(common.options.seed ^ u64::from(topic.partitions[0].get()));
    let mut ends: BTreeMap<u32, u64> = BTreeMap::new();
    let mut walk = 0;
    while common.sleep(Duration::from_millis(rng.random_range(500..4_000))).await {
        walk += 1;
        let shared = common.clone();
        let Some(mut reader) = Reader::new(&shared, &topic, &format!("{name} {walk}"), Reading::Along) else {
            return;
        };
        let index = rng.random_range(0..topic.partitions.len() as u32);
        let start = match rng.random_range(0..3) {
            0 => StartAt::Latest,
            1 => StartAt::Earliest,
            _ => StartAt::Offset(Offset::new(rng.random_range(0..=ends.get(&index).copied().unwrap_or(0)))),
        };
        if reader.assign(index, start).await.is_err() {
            continue;
        }
        let until = Instant::now() + Duration::from_millis(rng.random_range(500..3_000));
        while Instant::now() < until && !common.stopped() {
            // A start below the log start is refused, and this walk is over.
            if reader.poll(POLL).await.is_err() {
                break;
            }
        }
        if let Some(mark) = reader.high_watermark(index) {
            ends.insert(index, mark.get());
        }
    }
}
