//! `vltava perf consume`.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::task::JoinSet;
use tokio::time::Instant;
use vltava_client::{Client, ClientError, Consumer, ConsumerOptions, OffsetReset, StartAt};
use vltava_node::config::parse_duration;

use super::TopicFlags;
use super::report::{Live, Meter};
use crate::args::Context;
use crate::exit::{CliError, CliResult};

/// Read as fast as can be
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vltava perf consume bench                         everything that is there, once
  vltava perf consume bench --records 5000000 --consumers 2 --output json")]
pub struct ConsumeArgs {
    #[command(flatten)]
    topic: TopicFlags,

    /// End after so many records
    #[arg(long, value_name = "N")]
    records: Option<u64>,

    /// How many consumers share the partitions, each with connections of its own
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    consumers: u32,

    /// End when no record came for so long
    #[arg(long, value_name = "MS", default_value = "3s", value_parser = parse_duration)]
    timeout_ms: Duration,
}

pub async fn run(args: ConsumeArgs, context: &Context) -> CliResult {
    let client = args.topic.connect(context).await?;
    let partitions = client.topic(&args.topic.topic).await?.partitions.len();
    let partitions = u32::try_from(partitions).unwrap_or(u32::MAX);
    let meter = Meter::new();
    let live = Live::start(&meter, args.records);
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0..args.consumers.min(partitions) {
        let client = if number == 0 { client.clone() } else { args.topic.connect(context).await? };
        let mine = (number..partitions).step_by(args.consumers as usize).collect();
        let reader = Reader {
            topic: args.topic.topic.clone(),
            meter: Arc::clone(&meter),
            limit: args.records.unwrap_or(u64::MAX),
            patience: args.timeout_ms,
        };
        tasks.spawn(reader.run(client, mine));
    }
    // The time that was spent waiting for more at the end is no part of the measurement.
    let mut last = begun;
    let mut failure = None;
    while let Some(ended) = tasks.join_next().await {
        match ended.map_err(|error| CliError::failed(format!("a consumer broke: {error}")))? {
            Ok(at) => last = last.max(at),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    live.finish();
    meter.report(last - begun).print(context, "")?;
    failure.map_or(Ok(()), |error| Err(error.into()))
}

struct Reader {
    topic: String,
    meter: Arc<Meter>,
    limit: u64,
    patience: Duration,
}

impl Reader {
    /// Reads until all have read enough together, or nothing comes any more; returns when the last record came.
    async fn run(self, client: Client, partitions: Vec<u32>) -> Result<Instant, ClientError> {
        let options = ConsumerOptions { offset_reset: OffsetReset::Earliest, ..ConsumerOptions::default() };
        let mut consumer = Consumer::new(client, options);
        for partition in partitions {
            consumer.assign(&self.topic, partition, StartAt::Earliest).await?;
        }
        let mut last = Instant::now();
        while self.meter.records() < self.limit {
            let records = consumer.poll(self.patience).await?;
            if records.is_empty() {
                break;
            }
            last = Instant::now();
            let bytes =
                records.iter().filter_map(|record| record.value.as_ref()).map(|value| value.len() as u64);
            self.meter.count(records.len() as u64, bytes.sum());
        }
        Ok(last)
    }
}
