//! What one broker alone spends on bytes that come in, and on bytes that go out.

use std::time::Instant;

use vltava_client::producer::Acks;
use vltava_client::{Client, Producer, ProducerOptions};
use vltava_model::NodeId;
use vltava_proto::v1::{FetchRequest, NewTopic, RecordFormat};

use super::Bench;
use crate::Fallible;
use crate::cluster::Cluster;
use crate::load;
use crate::report::{Measure, Row, Target};
use crate::topics;

const PARTITIONS: u32 = 6;

/// Bytes that one fetch asks for.
const FETCH_BYTES: u32 = 1 << 20;

/// How often the backlog is read for one sample: a sample of less CPU time would be coarse.
const PASSES: u32 = 3;

/// One replica, acknowledged when it is appended, synced by the system at leisure: as other logs do by default.
fn relaxed(name: &str) -> NewTopic {
    let mut topic = topics::replicated(name, PARTITIONS);
    topic.replication_factor = 1;
    topic.configs = [("min.insync.replicas", "1"), ("flush.messages", "9223372036854775807")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    topic
}

fn fill(bench: &Bench, cluster: &Cluster, topic: &str, batch_size: usize) -> Fallible<load::Flood> {
    let servers = cluster.servers();
    topics::create(&bench.runtime, &servers, relaxed(topic))?;
    let producer = {
        let _entered = bench.runtime.enter();
        let options = ProducerOptions { acks: Acks::Leader, batch_size, ..ProducerOptions::default() };
        Producer::new(Client::connect(&servers)?, options)
    };
    let cpu = || cluster.cpu_seconds();
    let taken = load::flood(&bench.runtime, &producer, topic, PARTITIONS, bench.span, cpu)?;
    topics::verify(&bench.runtime, &servers, topic, taken.acked)?;
    Ok(taken)
}

pub fn unsynced(bench: &Bench, row: &mut Row) -> Fallible<()> {
    row.setting = format!(
        "1 node, 1 replica, acks=1, flush.messages unlimited, batch.size 16384, {PARTITIONS} partitions, 1 connection"
    );
    row.measures = vec![
        Measure::new("CPU of the broker", "CPU-s/GB", Target::AtMost(1.3)),
        Measure::new("rate", "MB/s", Target::Unset),
    ];
    let cluster = Cluster::start(&bench.site, 1)?;
    for n in 0..bench.repetitions {
        let taken = fill(bench, &cluster, &format!("relaxed-{n}"), 16 * 1024)?;
        let gigabytes = taken.bytes as f64 / 1e9;
        row.measures[0].samples.push(taken.cpu_seconds / gigabytes);
        row.measures[1].samples.push(gigabytes * 1e3 / taken.time.as_secs_f64());
    }
    Ok(())
}

pub fn backlog(bench: &Bench, row: &mut Row) -> Fallible<()> {
    row.setting = format!(
        "1 node, written in batches of 64 KiB for {:?}, then read from the start by Fetch calls of 1 MiB, one at a time, {PASSES} passes, files in the page cache",
        bench.span.measured
    );
    row.measures = vec![
        Measure::new("CPU of the broker", "CPU-s/GB", Target::AtMost(1.5)),
        Measure::new("rate", "MB/s", Target::Unset),
    ];
    let cluster = Cluster::start(&bench.site, 1)?;
    let written = fill(bench, &cluster, "backlog", 64 * 1024)?;
    for _ in 0..bench.repetitions {
        let (before, began) = (cluster.cpu_seconds()?, Instant::now());
        let mut bytes = 0;
        for _ in 0..PASSES {
            for partition in 0..PARTITIONS {
                bytes += bench.runtime.block_on(read_all(&cluster.servers(), partition))?;
            }
        }
        let (spent, time) = (cluster.cpu_seconds()? - before, began.elapsed().as_secs_f64());
        let least = u64::from(PASSES) * written.acked * load::RECORD_BYTES as u64;
        if bytes < least {
            return Err(format!("{bytes} bytes were read where {least} were written").into());
        }
        row.measures[0].samples.push(spent / (bytes as f64 / 1e9));
        row.measures[1].samples.push(bytes as f64 / 1e6 / time);
    }
    Ok(())
}

/// Reads a partition to its end; how many bytes of batches it has.
async fn read_all(servers: &str, partition: u32) -> Fallible<u64> {
    let client = Client::connect(servers)?;
    // There is but one node.
    client.refresh_topic("backlog").await?;
    let address = client.broker_address(NodeId::new(1)).ok_or("node 1 is not known")?;
    let mut log = client.log(&address)?;
    let (mut bytes, mut offset) = (0, 0);
    loop {
        let request = FetchRequest {
            topic: "backlog".to_owned(),
            partition,
            offset,
            max_bytes: FETCH_BYTES,
            format: RecordFormat::Batches.into(),
            ..FetchRequest::default()
        };
        let answer = log.fetch(request).await?.into_inner();
        if answer.batches.is_empty() {
            return Ok(bytes);
        }
        bytes += answer.batches.len() as u64;
        offset = answer.next_offset;
    }
}
