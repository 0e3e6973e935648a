//! Many partitions, idle nodes, memory, and how fast a node starts.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use vltava_client::{Admin, Client, Producer, ProducerOptions, Record};
use vltava_proto::v1::NewTopic;

use super::Bench;
use crate::Fallible;
use crate::cluster::{Cluster, PATIENCE};
use crate::load;
use crate::report::{Measure, Row, Target};
use crate::topics;

const PARTITIONS: u32 = 1_000;

/// Partitions of the row on restarts, and how many of them are written by one producer.
const MANY: u32 = 10_000;
const AT_ONCE: u32 = 500;

pub fn create_partitions(bench: &Bench, row: &mut Row) -> Fallible<()> {
    row.setting =
        "one topic; until ListOffsets (latest) was answered by the leader of every partition".to_owned();
    row.measures = vec![
        Measure::new("created and serving", "s", Target::AtMost(1.0)),
        Measure::new("create call answered", "s", Target::Unset),
    ];
    for _ in 0..bench.repetitions {
        let cluster = bench.three()?;
        let (called, served) = bench.runtime.block_on(create(&cluster))?;
        row.measures[0].samples.push(served.as_secs_f64());
        row.measures[1].samples.push(called.as_secs_f64());
    }
    Ok(())
}

/// Creates a topic of 1,000 partitions; how long the call took, and all of it.
async fn create(cluster: &Cluster) -> Fallible<(Duration, Duration)> {
    let client = Client::connect(&cluster.servers())?;
    let admin = Admin::new(client.clone());
    admin.describe_cluster().await?;
    let began = Instant::now();
    admin.create_topic(topics::replicated("many", PARTITIONS)).await?;
    let called = began.elapsed();
    topics::all_ends(&client, "many").await?;
    Ok((called, began.elapsed()))
}

pub fn idle(bench: &Bench, row: &mut Row) -> Fallible<()> {
    let window = bench.span.measured.max(Duration::from_secs(5));
    row.setting = format!(
        "1 topic of 1,000 partitions x 3; CPU over {window:?}; memory of the largest node; load: batch.size 16384, linger 5 ms, to all partitions in turn for {:?}, so that batches are not full",
        bench.span.measured
    );
    row.measures = vec![
        Measure::new("memory a node, empty", "MB", Target::AtMost(30.0)),
        Measure::new("CPU of all nodes, idle", "% of a core", Target::AtMost(1.5)),
        Measure::new("memory a node, 1,000 parts", "MB", Target::Unset),
        Measure::new("memory a node, after load", "MB", Target::AtMost(100.0)),
    ];
    for _ in 0..bench.repetitions {
        let cluster = bench.three()?;
        std::thread::sleep(Duration::from_secs(1));
        let empty = largest(&cluster)?;
        bench.runtime.block_on(create(&cluster))?;
        std::thread::sleep(Duration::from_secs(3));
        let (began, before) = (Instant::now(), cluster.cpu_seconds()?);
        std::thread::sleep(window);
        let idle = (cluster.cpu_seconds()? - before) / began.elapsed().as_secs_f64() * 100.0;
        let filled = largest(&cluster)?;
        let producer = {
            let _entered = bench.runtime.enter();
            Producer::new(Client::connect(&cluster.servers())?, ProducerOptions::default())
        };
        let cpu = || cluster.cpu_seconds();
        let taken = load::flood(&bench.runtime, &producer, "many", PARTITIONS, bench.span, cpu)?;
        let samples = [empty, idle, filled, largest(&cluster)?];
        for (measure, sample) in row.measures.iter_mut().zip(samples) {
            measure.samples.push(sample);
        }
        topics::verify(&bench.runtime, &cluster.servers(), "many", taken.acked)?;
    }
    Ok(())
}

/// The memory of the node that has most.
fn largest(cluster: &Cluster) -> Fallible<f64> {
    Ok(cluster.usage()?.iter().map(|usage| usage.rss_mb).fold(0.0, f64::max))
}

pub fn restart(bench: &Bench, row: &mut Row) -> Fallible<()> {
    let many = affordable();
    row.setting = format!(
        "one topic of {many} partitions, a record of 1 KiB in each; from exec of the killed node until ListOffsets (latest) was answered with that record by the leader of every partition"
    );
    if many < MANY {
        row.notes.push(format!("NOT {MANY} partitions: a written one takes two file descriptors of each node, and the system's limit is too low"));
    }
    row.measures = vec![
        Measure::new("all serve", "s", Target::AtMost(3.0)),
        Measure::new("the node itself is ready", "s", Target::Unset),
        Measure::new("all replicas in sync", "s", Target::Unset),
        Measure::new("creating them took", "s", Target::Unset),
    ];
    let mut cluster = bench.three()?;
    let created = Instant::now();
    topics::create(&bench.runtime, &cluster.servers(), topics::replicated("many", many))?;
    let created = created.elapsed();
    bench.runtime.block_on(fill(&cluster.servers(), many))?;
    for repetition in 0..bench.repetitions {
        let node = repetition % 3 + 1;
        cluster.kill(node)?;
        let began = Instant::now();
        cluster.spawn(node)?;
        cluster.wait_ready(node)?;
        let ready = began.elapsed();
        let client = {
            let _entered = bench.runtime.enter();
            Client::connect(&cluster.servers())?
        };
        let ends = bench.runtime.block_on(topics::all_ends(&client, "many"))?;
        let served = began.elapsed();
        if let Some((partition, end)) = ends.iter().find(|(_, end)| **end != 1) {
            return Err(format!("partition {partition} ends at {end}, one record was acknowledged").into());
        }
        bench.runtime.block_on(topics::all_in_sync(&client, "many"))?;
        let samples = [served, ready, began.elapsed(), created].map(|taken| taken.as_secs_f64());
        for (measure, sample) in row.measures.iter_mut().zip(samples) {
            measure.samples.push(sample);
        }
    }
    Ok(())
}

/// How many of the partitions a node has file descriptors for, with some left over.
fn affordable() -> u32 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    u32::try_from(limit.saturating_sub(2_000) / 2).unwrap_or(u32::MAX).min(MANY)
}

/// Writes a record to each partition.
async fn fill(servers: &str, partitions: u32) -> Fallible<()> {
    for first in (0..partitions).step_by(AT_ONCE as usize) {
        let producer = Producer::new(Client::connect(servers)?, load::prompt());
        let mut acks = Vec::new();
        for partition in first..(first + AT_ONCE).min(partitions) {
            acks.push(producer.send(Record::new("many").value(load::value()).partition(partition)).await?);
        }
        for ack in acks {
            ack.await?;
        }
    }
    Ok(())
}

pub fn start(bench: &Bench, row: &mut Row) -> Fallible<()> {
    row.setting =
        "one node, both roles, empty directories; from exec until a record in a new topic of 1 replica is acknowledged (acks=all, synced)"
            .to_owned();
    row.measures = vec![
        Measure::new("start to first ack", "s", Target::AtMost(0.3)),
        Measure::new("start to ready", "s", Target::Unset),
    ];
    for _ in 0..bench.repetitions {
        let mut cluster = Cluster::prepare(&bench.site, 1)?;
        let began = Instant::now();
        cluster.spawn(1)?;
        cluster.wait_ready(1)?;
        let ready = began.elapsed();
        bench.runtime.block_on(first_write(cluster.servers()))?;
        row.measures[0].samples.push(began.elapsed().as_secs_f64());
        row.measures[1].samples.push(ready.as_secs_f64());
    }
    Ok(())
}

async fn first_write(servers: String) -> Fallible<()> {
    let began = Instant::now();
    let client = Client::connect(&servers)?;
    let admin = Admin::new(client.clone());
    let topic = NewTopic {
        name: "first".to_owned(),
        partition_count: 1,
        replication_factor: 1,
        configs: HashMap::new(),
        assignments: Vec::new(),
    };
    while let Err(error) = admin.create_topic(topic.clone()).await {
        if began.elapsed() > PATIENCE {
            return Err(error.into());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let producer = Producer::new(client, load::prompt());
    producer.send(Record::new("first").value(load::value()).partition(0)).await?.await?;
    Ok(())
}
