//! How long a record takes to be acknowledged, and to be read.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use vltava_client::{Client, Consumer, ConsumerOptions, StartAt};
use vltava_model::Offset;

use super::Bench;
use crate::Fallible;
use crate::cluster::Cluster;
use crate::floors;
use crate::load::{self, Latencies, Pace, Paced};
use crate::report::{Measure, Row, Target};
use crate::topics;

pub fn one_in_flight(bench: &Bench, row: &mut Row) -> Fallible<()> {
    row.setting = "acks=all, synced, linger 0, 1 record a batch, 1 partition, 1 connection; floor: the lower of before and after".to_owned();
    row.measures = vec![
        Measure::new("p50", "ms", Target::AtMost(0.45)),
        Measure::new("p99", "ms", Target::AtMost(0.75)),
        Measure::new("p50 / (gRPC trip+sync)", "x", Target::AtMost(4.0)),
    ];
    let cluster = bench.three()?;
    let servers = cluster.servers();
    for n in 0..bench.repetitions {
        let topic = format!("one-{n}");
        topics::create(&bench.runtime, &servers, topics::replicated(&topic, 1))?;
        let before = floors::durable_trip_ms(&bench.site.dir)?;
        let (taken, sent) = load::one_in_flight(&bench.runtime, &servers, &topic, bench.span)?;
        let floor = before.min(floors::durable_trip_ms(&bench.site.dir)?);
        topics::verify(&bench.runtime, &servers, &topic, sent)?;
        add(row, &[taken.ms(0.5), taken.ms(0.99)]);
        let ratio = taken.ms(0.5) / floor;
        if ratio >= 1.0 {
            row.measures[2].samples.push(ratio);
        } else {
            // No ack is faster than its own sync: such a floor would make anything look good.
            row.notes.push(format!(
                "a ratio of {ratio:.2} to a floor of {floor:.2} ms was dropped: others used the disk"
            ));
        }
    }
    Ok(())
}

/// One sample for each of the row's figures.
fn add(row: &mut Row, samples: &[f64]) {
    for (measure, sample) in row.measures.iter_mut().zip(samples) {
        measure.samples.push(*sample);
    }
}

fn paced(bench: &Bench, cluster: &Cluster, topic: &str, pace: Pace) -> Fallible<Paced> {
    let servers = cluster.servers();
    topics::create(&bench.runtime, &servers, topics::replicated(topic, pace.partitions))?;
    let value = load::value();
    let taken = load::open_loop(&bench.runtime, &servers, topic, pace, |_| value.clone())?;
    topics::verify(&bench.runtime, &servers, topic, taken.sent)?;
    Ok(taken)
}

pub fn open_1k(bench: &Bench, row: &mut Row) -> Fallible<()> {
    row.setting =
        "acks=all, synced, linger 0, batch.size 16384, 1 partition, 1 connection; from the intended time"
            .to_owned();
    row.measures =
        vec![Measure::new("p50", "ms", Target::Unset), Measure::new("p99", "ms", Target::AtMost(2.0))];
    let cluster = bench.three()?;
    let mut lag = Duration::ZERO;
    for n in 0..bench.repetitions {
        let pace = Pace { rate: 1_000, partitions: 1, producers: 1, span: bench.span };
        let taken = paced(bench, &cluster, &format!("open-{n}"), pace)?;
        add(row, &[taken.latencies.ms(0.5), taken.latencies.ms(0.99)]);
        lag = lag.max(taken.worst_lag);
    }
    row.notes.push(format!("the sender was up to {lag:.1?} behind its schedule; that counts"));
    Ok(())
}

pub fn open_5k(bench: &Bench, row: &mut Row) -> Fallible<()> {
    row.setting =
        "acks=all, synced, linger 0, batch.size 16384, 1 connection a broker; from the intended time"
            .to_owned();
    row.measures = vec![
        Measure::new("6 partitions p50", "ms", Target::Unset),
        Measure::new("6 partitions p99", "ms", Target::AtMost(6.0)),
        Measure::new("500 partitions p50", "ms", Target::Unset),
        Measure::new("500 partitions p99", "ms", Target::Unset),
        Measure::new("p99, 500 / 6 partitions", "x", Target::AtMost(3.0)),
    ];
    let cluster = bench.three()?;
    let mut lag = Duration::ZERO;
    for n in 0..bench.repetitions {
        let pace = Pace { rate: 5_000, partitions: 6, producers: 1, span: bench.span };
        let few = paced(bench, &cluster, &format!("few-{n}"), pace)?;
        let pace = Pace { partitions: 500, ..pace };
        let many = paced(bench, &cluster, &format!("many-{n}"), pace)?;
        lag = lag.max(few.worst_lag).max(many.worst_lag);
        let (few, many) = (few.latencies, many.latencies);
        add(row, &[few.ms(0.5), few.ms(0.99), many.ms(0.5), many.ms(0.99), many.ms(0.99) / few.ms(0.99)]);
    }
    row.notes.push(format!("the sender was up to {lag:.1?} behind its schedule; that counts"));
    Ok(())
}

pub fn end_to_end(bench: &Bench, row: &mut Row) -> Fallible<()> {
    row.setting =
        "acks=all, synced, linger 0, 1 partition, 1 producer and 1 consumer; from the intended time to poll"
            .to_owned();
    row.measures =
        vec![Measure::new("p50", "ms", Target::Unset), Measure::new("p99", "ms", Target::AtMost(3.0))];
    let cluster = bench.three()?;
    let servers = cluster.servers();
    for n in 0..bench.repetitions {
        let topic = format!("read-{n}");
        topics::create(&bench.runtime, &servers, topics::replicated(&topic, 1))?;
        let base = Instant::now();
        let pace = Pace { rate: 1_000, partitions: 1, producers: 1, span: bench.span };
        let skip = u64::try_from(bench.span.warm_up.as_millis())?;
        let total = skip + u64::try_from(bench.span.measured.as_millis())?;
        let reading = bench.runtime.spawn(read(servers.clone(), topic.clone(), base, skip, total));
        let filler = load::value();
        let sent = load::open_loop(&bench.runtime, &servers, &topic, pace, |due| stamp(due - base, &filler))?;
        let taken = bench.runtime.block_on(reading)??;
        topics::verify(&bench.runtime, &servers, &topic, sent.sent)?;
        add(row, &[taken.ms(0.5), taken.ms(0.99)]);
    }
    Ok(())
}

/// A value that begins with when it was due.
fn stamp(due: Duration, filler: &Bytes) -> Bytes {
    let mut value = BytesMut::from(&u64::try_from(due.as_nanos()).unwrap_or(u64::MAX).to_be_bytes()[..]);
    value.extend_from_slice(&filler[8..]);
    value.freeze()
}

/// Reads `total` records, and times all but the first `skip`.
async fn read(servers: String, topic: String, base: Instant, skip: u64, total: u64) -> Fallible<Latencies> {
    let mut consumer = Consumer::new(Client::connect(&servers)?, ConsumerOptions::default());
    consumer.assign(&topic, 0, StartAt::Offset(Offset::ZERO)).await?;
    let (mut latencies, mut seen) = (Latencies::new()?, 0);
    while seen < total {
        let records = consumer.poll(Duration::from_secs(20)).await?;
        if records.is_empty() {
            return Err(format!("{seen} of {total} records were read").into());
        }
        let now = base.elapsed();
        for record in records {
            let stamped =
                record.value.as_deref().and_then(<[u8]>::first_chunk).ok_or("a record without value")?;
            if record.offset.get() != seen {
                return Err(format!("offset {} came where {seen} was due", record.offset).into());
            }
            if seen >= skip {
                latencies.record(now.saturating_sub(Duration::from_nanos(u64::from_be_bytes(*stamped))));
            }
            seen += 1;
        }
    }
    Ok(latencies)
}
