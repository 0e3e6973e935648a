//! The same load under other circumstances: from many producers, and beside a follower that has much to catch up on.

use std::time::Duration;

use vltava_client::{Client, Producer, ProducerOptions};

use super::Bench;
use crate::Fallible;
use crate::load::{self, Pace, Paced};
use crate::report::{Measure, Row, Target};
use crate::topics;

const RATE: u32 = 1_000;
const PRODUCERS: u32 = 50;

/// What the follower has missed.
const MISSED_BYTES: u64 = 2_000_000_000;
const MISSED_BYTES_QUICK: u64 = 500_000_000;

fn pace(bench: &Bench, producers: u32) -> Pace {
    Pace { rate: RATE, partitions: 1, producers, span: bench.span }
}

fn paced(bench: &Bench, servers: &str, topic: &str, pace: Pace) -> Fallible<Paced> {
    let value = load::value();
    load::open_loop(&bench.runtime, servers, topic, pace, |_| value.clone())
}

pub fn producers(bench: &Bench, row: &mut Row) -> Fallible<()> {
    row.setting = format!(
        "acks=all, synced, linger 0, 1 partition, {RATE} records/s in all from 1 producer and from {PRODUCERS}, each with a connection of its own"
    );
    row.measures = vec![
        Measure::new("1 producer p99", "ms", Target::Unset),
        Measure::new("50 producers p99", "ms", Target::Unset),
        Measure::new("p99, 50 / 1 producer", "x", Target::AtMost(1.3)),
    ];
    let cluster = bench.three()?;
    let servers = cluster.servers();
    for n in 0..bench.repetitions {
        let mut taken = Vec::new();
        for producers in [1, PRODUCERS] {
            let topic = format!("crowd-{n}-{producers}");
            topics::create(&bench.runtime, &servers, topics::replicated(&topic, 1))?;
            let sent = paced(bench, &servers, &topic, pace(bench, producers))?;
            topics::verify(&bench.runtime, &servers, &topic, sent.sent)?;
            taken.push(sent.latencies.ms(0.99));
        }
        let samples = [taken[0], taken[1], taken[1] / taken[0]];
        row.measures.iter_mut().zip(samples).for_each(|(measure, sample)| measure.samples.push(sample));
    }
    Ok(())
}

pub fn catch_up(bench: &Bench, row: &mut Row) -> Fallible<()> {
    let quick = bench.span.measured < Duration::from_secs(10);
    let missed = if quick { MISSED_BYTES_QUICK } else { MISSED_BYTES };
    row.setting = format!(
        "acks=all, synced, linger 0, {RATE} records/s to 1 partition on nodes 1 and 2, led by node 1; then the same while node 3 catches up on {} MB of another one, led by node 1 too",
        missed / 1_000_000
    );
    row.measures = vec![
        Measure::new("p99 alone", "ms", Target::Unset),
        Measure::new("p99 beside catching up", "ms", Target::Unset),
        Measure::new("p99, beside / alone", "x", Target::AtMost(2.0)),
    ];
    for _ in 0..bench.repetitions {
        let mut cluster = bench.three()?;
        let servers = cluster.servers();
        topics::create(&bench.runtime, &servers, topics::led_by("live", 1, &[1, 2]))?;
        topics::create(&bench.runtime, &servers, topics::led_by("missed", 1, &[1, 2, 3]))?;
        cluster.kill(3)?;
        let sent = bench.runtime.block_on(write(&servers, missed))?;
        topics::verify(&bench.runtime, &servers, "missed", sent)?;
        let alone = paced(bench, &servers, "live", pace(bench, 1))?;
        cluster.spawn(3)?;
        cluster.wait_ready(3)?;
        let beside = paced(bench, &servers, "live", pace(bench, 1))?;
        if bench.runtime.block_on(is_in_sync(&servers))? {
            row.notes.push("the follower had caught up before the load ended".to_owned());
        }
        topics::verify(&bench.runtime, &servers, "live", alone.sent + beside.sent)?;
        let (alone, beside) = (alone.latencies.ms(0.99), beside.latencies.ms(0.99));
        let samples = [alone, beside, beside / alone];
        row.measures.iter_mut().zip(samples).for_each(|(measure, sample)| measure.samples.push(sample));
    }
    Ok(())
}

/// Writes so many bytes in large batches; how many records they were.
async fn write(servers: &str, bytes: u64) -> Fallible<u64> {
    let options = ProducerOptions { batch_size: 256 * 1024, ..ProducerOptions::default() };
    let producer = Producer::new(Client::connect(servers)?, options);
    let (value, records) = (load::value(), bytes / load::RECORD_BYTES as u64);
    for _ in 0..records {
        let record = vltava_client::Record::new("missed").value(value.clone()).partition(0);
        // What was refused is missing when the ends are counted.
        producer.send_with(record, Box::new(drop)).await?;
    }
    producer.flush().await;
    Ok(records)
}

async fn is_in_sync(servers: &str) -> Fallible<bool> {
    let metadata = Client::connect(servers)?.refresh_topic("missed").await?;
    Ok(metadata.partitions.iter().all(|partition| partition.isr.len() == partition.replicas.len()))
}
