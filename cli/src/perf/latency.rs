//! `vltava perf latency`: from when a record was due to when a consumer has it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use serde::Serialize;
use tokio::time::Instant;
use vltava_client::{Client, ClientError, Consumer, ConsumerOptions, Producer, Record, StartAt};
use vltava_node::config::parse_size;

use super::TopicFlags;
use super::load::{Payloads, Schedule};
use super::report::{Live, Meter, Report};
use crate::args::Context;
use crate::exit::{CliError, CliResult};
use crate::output;
use crate::produce::{Acks, Batching};

/// When the consumer gives up on records that do not come.
const PATIENCE: Duration = Duration::from_secs(30);
/// What stands at the begin of each value: this run's number, the record's number, when it was due.
const STAMP_BYTES: usize = 24;

/// Write at a rate and read at the same time; latency is that of the whole way
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vltava perf latency bench --create-partitions 1 --rate 1000 --records 30000
  vltava perf latency bench --rate 5000 --records 100000 --linger-ms 0 --output json

The loop is open: latencies count from when a record was due. Records of other writers to the topic are ignored.")]
pub struct LatencyArgs {
    #[command(flatten)]
    topic: TopicFlags,

    /// How many records are measured
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    records: u64,

    /// How many go before them and are not measured
    #[arg(long, default_value_t = 500, value_name = "N")]
    warmup: u64,

    /// How many records a second
    #[arg(long, default_value_t = 1000.0, value_name = "N")]
    rate: f64,

    /// How large each value is; at least 24 bytes
    #[arg(long, default_value = "128", value_name = "BYTES", value_parser = parse_size)]
    record_size: u64,

    /// When a record counts as written
    #[arg(long, value_enum, default_value_t)]
    acks: Acks,

    #[command(flatten)]
    batching: Batching,
}

#[derive(Serialize)]
struct Reports {
    end_to_end: Report,
    acknowledged: Report,
}

/// What both sides of the measurement agree on.
#[derive(Clone)]
struct Run {
    id: u64,
    epoch: Instant,
    warmup: u64,
    total: u64,
}

pub async fn run(args: LatencyArgs, context: &Context) -> CliResult {
    if args.rate <= 0.0 {
        return Err(CliError::usage("--rate must be above 0"));
    }
    let client = args.topic.connect(context).await?;
    let mut consumer = Consumer::new(args.topic.connect(context).await?, ConsumerOptions::default());
    consumer.assign_topic(&args.topic.topic, StartAt::Latest).await?;
    let (received, acknowledged) = (Meter::new(), Meter::new());
    let run = Run {
        id: run_id(),
        epoch: Instant::now(),
        warmup: args.warmup,
        total: args.warmup.saturating_add(args.records),
    };
    let live = Live::start(&received, Some(args.records));
    let reading = tokio::spawn(read(consumer, run.clone(), Arc::clone(&received)));
    let written = write(&args, client, &run, &acknowledged).await;
    let read = match written {
        Ok(()) => reading.await.map_err(|error| CliError::failed(format!("the consumer broke: {error}")))?,
        Err(error) => {
            reading.abort();
            Err(error)
        }
    };
    live.finish();
    // The warm-up is no part of the measurement.
    let warmup = Duration::from_secs_f64(args.warmup as f64 / args.rate);
    let elapsed = run.epoch.elapsed().saturating_sub(warmup);
    let reports =
        Reports { end_to_end: received.report(elapsed), acknowledged: acknowledged.report(elapsed) };
    output::print(context.format, &reports, |reports| {
        reports.end_to_end.text("end to end") + &reports.acknowledged.text("acknowledged after")
    })?;
    read?;
    match args.records.saturating_sub(received.records()) {
        0 => Ok(()),
        missing => Err(CliError::failed(format!("{missing} records did not come within {PATIENCE:?}"))),
    }
}

async fn write(args: &LatencyArgs, client: Client, run: &Run, meter: &Arc<Meter>) -> Result<(), ClientError> {
    let size = usize::try_from(args.record_size).unwrap_or(usize::MAX).max(STAMP_BYTES);
    let mut payloads = Payloads::new(size - STAMP_BYTES, run.id);
    let producer = Producer::new(client, args.batching.options(args.acks));
    let schedule = Schedule::new(Instant::now(), Some(args.rate));
    for number in 0..run.total {
        let due = schedule.due(number).await;
        let record = Record::new(args.topic.topic.clone()).value(run.stamp(number, due, &payloads.take()));
        let (meter, measured) = (Arc::clone(meter), number >= run.warmup);
        let done = move |outcome: Result<_, ClientError>| match outcome {
            Ok(_) if measured => {
                meter.count(1, size as u64);
                meter.latency(due.elapsed());
            }
            Ok(_) => {}
            Err(_) => meter.error(),
        };
        producer.send_with(record, Box::new(done)).await?;
    }
    producer.flush().await;
    Ok(())
}

async fn read(mut consumer: Consumer, run: Run, meter: Arc<Meter>) -> Result<(), ClientError> {
    let mut seen = 0;
    while seen < run.total {
        let records = consumer.poll(PATIENCE).await?;
        if records.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        for value in records.iter().filter_map(|record| record.value.as_deref()) {
            let Some((number, due)) = run.read_stamp(value) else { continue };
            seen += 1;
            if number >= run.warmup {
                meter.count(1, value.len() as u64);
                meter.latency(now.saturating_duration_since(due));
            }
        }
    }
    Ok(())
}

impl Run {
    fn stamp(&self, number: u64, due: Instant, payload: &[u8]) -> Bytes {
        let due = due.saturating_duration_since(self.epoch).as_nanos() as u64;
        let mut value = Vec::with_capacity(STAMP_BYTES + payload.len());
        for part in [self.id, number, due] {
            value.extend_from_slice(&part.to_be_bytes());
        }
        value.extend_from_slice(payload);
        value.into()
    }

    /// The number of one of this run's records, and when it was due.
    fn read_stamp(&self, value: &[u8]) -> Option<(u64, Instant)> {
        let part = |i: usize| Some(u64::from_be_bytes(value.get(i * 8..i * 8 + 8)?.try_into().ok()?));
        if part(0)? != self.id {
            return None;
        }
        Some((part(1)?, self.epoch + Duration::from_nanos(part(2)?)))
    }
}

/// Tells this run's records from those of others.
fn run_id() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    (now.as_nanos() as u64).rotate_left(17) ^ u64::from(std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_read_back_and_others_ignored() {
        let run = Run { id: 7, epoch: Instant::now(), warmup: 0, total: 1 };
        let due = run.epoch + Duration::from_micros(1500);
        let value = run.stamp(42, due, b"payload");
        assert_eq!(run.read_stamp(&value), Some((42, due)));
        assert_eq!(Run { id: 8, ..run.clone() }.read_stamp(&value), None);
        assert_eq!(run.read_stamp(b"short"), None);
    }
}
