//! Consumers: some follow a partition from its beginning, others look in here and there.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngExt;
use vltava_client::{ClientError, ConsumedRecord, Consumer, ConsumerOptions, StartAt};
use vltava_history::event::{Assign, ClientRef, Event, PartitionRef, Poll, Reading, Role};
use vltava_model::{Offset, TopicId, TopicPartition};

use super::{Load, now};

/// How long one poll waits.
const POLL: Duration = Duration::from_millis(500);

/// A partition to be read.
#[derive(Clone)]
pub(super) struct Target {
    pub topic: String,
    /// A later topic of the same name is not meant.
    pub id: TopicId,
    pub index: u32,
    pub partition: PartitionRef,
}

/// A consumer whose every answer is written down.
pub(super) struct Reader {
    load: Load,
    who: ClientRef,
    reading: Reading,
    consumer: Consumer,
    targets: BTreeMap<(String, u32), PartitionRef>,
}

impl Reader {
    /// A consumer without partitions.
    pub fn new(load: &Load, name: &str, reading: Reading) -> Result<Self, ClientError> {
        let who = load.0.recorder.client(name, Role::Consumer);
        let options =
            ConsumerOptions { default_api_timeout: Duration::from_secs(10), ..ConsumerOptions::default() };
        let consumer = Consumer::new(load.client()?, options);
        Ok(Self { load: load.clone(), who, reading, consumer, targets: BTreeMap::new() })
    }

    /// The position in a partition.
    pub fn position(&self, target: &Target) -> Option<Offset> {
        self.consumer.position(&target.topic, target.index)
    }

    /// Puts it somewhere.
    pub async fn assign(&mut self, target: &Target, start: StartAt) -> Result<(), ClientError> {
        self.consumer.assign_in(&target.topic, target.id, target.index, start).await?;
        self.targets.insert((target.topic.clone(), target.index), target.partition);
        let from = self.position(target);
        let assign = Assign { consumer: self.who, partition: target.partition, from, at: now() };
        self.load.0.recorder.record(Event::Assign(assign));
        Ok(())
    }

    /// Reads once.
    pub async fn poll(&mut self) -> Result<(), ClientError> {
        let invoked = now();
        let records = self.consumer.poll(POLL).await?;
        let mut by_partition: BTreeMap<(String, u32), Vec<ConsumedRecord>> = BTreeMap::new();
        for record in records {
            by_partition.entry((record.topic.to_string(), record.partition.get())).or_default().push(record);
        }
        for (key, records) in by_partition {
            let Some(partition) = self.targets.get(&key) else { continue };
            let mut poll = self.blank(*partition);
            poll.invoked = invoked;
            poll.high_watermark = self.consumer.high_watermark(&key.0, key.1);
            let place = self.load.0.recorder.place(*partition);
            let ends = records.iter().map(|record| record.offset.next()).chain(poll.high_watermark);
            if let Some(end) = ends.max() {
                self.load.0.shown.show(TopicPartition::new(place.topic, place.index), end);
            }
            for record in records {
                poll.saw(place, record.offset, record.value.as_deref());
            }
            self.load.0.recorder.record(Event::Poll(poll));
        }
        Ok(())
    }

    /// Notes between which offsets everything was read, also where nothing was there.
    pub fn note_bounds(&self, target: &Target, start: Offset, end: Offset) {
        let mut poll = self.blank(target.partition);
        poll.high_watermark = Some(end);
        poll.log_start = Some(start);
        self.load.0.recorder.record(Event::Poll(poll));
    }

    fn blank(&self, partition: PartitionRef) -> Poll {
        Poll {
            consumer: self.who,
            partition,
            reading: self.reading,
            invoked: now(),
            completed: now(),
            high_watermark: None,
            log_start: None,
            seen: Vec::new(),
        }
    }
}

fn target(load: &Load, random: &mut crate::random::Random) -> Option<Target> {
    let topic = load.pick(random)?;
    let index = random.random_range(0..topic.partitions.len());
    Some(Target { topic: topic.name, id: topic.id, index: index as u32, partition: topic.partitions[index] })
}

/// Follows one partition after the other from its beginning, each for a long while, and goes on where it was after an
/// error.
pub(super) async fn follow(load: Load, number: u32) {
    let name = format!("follower {number}");
    let mut random = load.random(&name);
    while !load.is_stopped() {
        load.rest(&mut random, 1000).await;
        let Some(target) = target(&load, &mut random) else { continue };
        let Ok(mut reader) = Reader::new(&load, &name, Reading::Along) else { return };
        let mut start = StartAt::Earliest;
        for _ in 0..random.random_range(20..200) {
            if load.is_stopped() {
                break;
            }
            if reader.position(&target).is_none() && reader.assign(&target, start).await.is_err() {
                break;
            }
            // The partition is put back next time: it goes on at the last position.
            let _ = reader.poll().await;
            if let Some(position) = reader.position(&target) {
                start = StartAt::Offset(position);
            }
        }
    }
}

/// Looks in here and there for some seconds.
pub(super) async fn wander(load: Load, number: u32) {
    let name = format!("wanderer {number}");
    let mut random = load.random(&name);
    while !load.is_stopped() {
        load.rest(&mut random, 4000).await;
        let Some(target) = target(&load, &mut random) else { continue };
        let Ok(mut reader) = Reader::new(&load, &name, Reading::Along) else { return };
        let start = if random.random_bool(0.5) { StartAt::Latest } else { StartAt::Earliest };
        if reader.assign(&target, start).await.is_err() {
            continue;
        }
        for _ in 0..random.random_range(1..6) {
            // A partition that fell out has ended this walk.
            if reader.poll().await.is_err() || load.is_stopped() {
                break;
            }
        }
    }
}
