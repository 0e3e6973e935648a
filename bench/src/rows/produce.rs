//! Rate, and what it costs the brokers.

use std::time::Duration;

use vltava_client::{Client, Producer, ProducerOptions};

use super::Bench;
use crate::Fallible;
use crate::load;
use crate::report::{Measure, Row, Target};
use crate::topics;

const PARTITIONS: u32 = 6;

/// What is asked of one size of batches.
struct Goal {
    mb_per_second: f64,
    cpu_per_gb: f64,
}

pub fn batch_16k(bench: &Bench, row: &mut Row) -> Fallible<()> {
    let options = ProducerOptions { batch_size: 16 * 1024, ..ProducerOptions::default() };
    flood(bench, row, options, &Goal { mb_per_second: 150.0, cpu_per_gb: 9.0 })
}

pub fn batch_1m(bench: &Bench, row: &mut Row) -> Fallible<()> {
    // Batches are to be full: with less patience a slow moment would make them smaller.
    let linger = Duration::from_millis(100);
    let options = ProducerOptions { batch_size: 1_000_000, linger, ..ProducerOptions::default() };
    flood(bench, row, options, &Goal { mb_per_second: 350.0, cpu_per_gb: 3.0 })
}

fn flood(bench: &Bench, row: &mut Row, options: ProducerOptions, goal: &Goal) -> Fallible<()> {
    row.setting = format!(
        "acks=all, synced, batch.size {}, linger {:?}, {} batches in flight a partition, {PARTITIONS} partitions, 1 connection a broker",
        options.batch_size, options.linger, options.max_in_flight
    );
    row.measures = vec![
        Measure::new("rate", "MB/s", Target::AtLeast(goal.mb_per_second)),
        Measure::new("CPU of all brokers", "CPU-s/GB", Target::AtMost(goal.cpu_per_gb)),
        Measure::new("brokers' share of a core", "%", Target::Unset),
    ];
    let cluster = bench.three()?;
    let servers = cluster.servers();
    for n in 0..bench.repetitions {
        let topic = format!("flood-{n}");
        topics::create(&bench.runtime, &servers, topics::replicated(&topic, PARTITIONS))?;
        let producer = {
            let _entered = bench.runtime.enter();
            Producer::new(Client::connect(&servers)?, options.clone())
        };
        let cpu = || cluster.cpu_seconds();
        let taken = load::flood(&bench.runtime, &producer, &topic, PARTITIONS, bench.span, cpu)?;
        topics::verify(&bench.runtime, &servers, &topic, taken.acked)?;
        let seconds = taken.time.as_secs_f64();
        let samples = [
            taken.bytes as f64 / 1e6 / seconds,
            taken.cpu_seconds / (taken.bytes as f64 / 1e9),
            taken.cpu_seconds / seconds * 100.0,
        ];
        for (measure, sample) in row.measures.iter_mut().zip(samples) {
            measure.samples.push(sample);
        }
    }
    Ok(())
}
