//! `vltava perf produce`.

use std::sync::Arc;

use clap::Args;
use tokio::task::JoinSet;
use tokio::time::Instant;
use vltava_client::{Client, ClientError, Producer, Record};
use vltava_model::PartitionIndex;
use vltava_node::config::parse_size;

use super::TopicFlags;
use super::load::{Payloads, Schedule, share};
use super::report::{Live, Meter};
use crate::args::Context;
use crate::exit::{CliError, CliResult};
use crate::produce::{Acks, Batching};

/// Write as fast as can be, or at a rate; latency is that of acknowledgements
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vltava perf produce bench --create-partitions 6 --records 1000000 --record-size 1024
  vltava perf produce bench --rate 20000 --records 600000 --producers 4 --output json

With --rate the loop is open: a record's latency counts from when it was due, so a stall shows in all that it delayed.")]
pub struct ProduceArgs {
    #[command(flatten)]
    topic: TopicFlags,

    /// How many records
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    records: u64,

    /// How large each value is
    #[arg(long, default_value = "1024", value_name = "BYTES", value_parser = parse_size)]
    record_size: u64,

    /// How many records a second, of all producers together; as fast as can be without it
    #[arg(long, alias = "throughput", value_name = "N")]
    rate: Option<f64>,

    /// How many producers, each with connections of its own
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    producers: u64,

    /// Write to this partition only
    #[arg(long, value_name = "P")]
    partition: Option<u32>,

    /// When a record counts as written
    #[arg(long, value_enum, default_value_t)]
    acks: Acks,

    #[command(flatten)]
    batching: Batching,
}

/// What one producer of a measurement does.
struct Task {
    producer: Producer,
    topic: String,
    partition: Option<PartitionIndex>,
    payloads: Payloads,
    schedule: Schedule,
    records: u64,
    meter: Arc<Meter>,
}

pub async fn run(args: ProduceArgs, context: &Context) -> CliResult {
    let client = args.topic.connect(context).await?;
    let meter = Meter::new();
    let live = Live::start(&meter, Some(args.records));
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0..args.producers {
        // The first uses the connections that there are; the others get their own.
        let client = if number == 0 { client.clone() } else { args.topic.connect(context).await? };
        tasks.spawn(task(&args, client, number, begun, &meter)?.run());
    }
    let mut failure = None;
    while let Some(ended) = tasks.join_next().await {
        let ended = ended.map_err(|error| CliError::failed(format!("a producer broke: {error}")))?;
        failure = failure.or(ended.err());
    }
    live.finish();
    meter.report(begun.elapsed()).print(context, "acknowledged after")?;
    match (failure, meter.errors()) {
        (Some(error), _) => Err(error.into()),
        (None, 0) => Ok(()),
        (None, errors) => Err(CliError::failed(format!("{errors} records failed"))),
    }
}

fn task(
    args: &ProduceArgs,
    client: Client,
    number: u64,
    begun: Instant,
    meter: &Arc<Meter>,
) -> CliResult<Task> {
    let size = usize::try_from(args.record_size).map_err(CliError::usage)?;
    Ok(Task {
        producer: Producer::new(client, args.batching.options(args.acks)),
        topic: args.topic.topic.clone(),
        partition: args.partition.map(PartitionIndex::new),
        payloads: Payloads::new(size, number + 1),
        schedule: Schedule::new(begun, args.rate.map(|rate| rate / args.producers as f64)),
        records: share(args.records, number, args.producers),
        meter: Arc::clone(meter),
    })
}

impl Task {
    async fn run(mut self) -> Result<(), ClientError> {
        for number in 0..self.records {
            let due = self.schedule.due(number).await;
            let value = self.payloads.take();
            let size = value.len() as u64;
            let mut record = Record::new(self.topic.clone()).value(value);
            record.partition = self.partition;
            let meter = Arc::clone(&self.meter);
            let done = move |outcome: Result<_, ClientError>| match outcome {
                Ok(_) => {
                    meter.count(1, size);
                    meter.latency(due.elapsed());
                }
                Err(_) => meter.error(),
            };
            self.producer.send_with(record, Box::new(done)).await?;
        }
        self.producer.flush().await;
        Ok(())
    }
}
