//! `vltava produce`: each line of standard input becomes a record.

mod input;
mod tally;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use vltava_client::producer::Acks as ClientAcks;
use vltava_client::{Producer, ProducerOptions, Record};
use vltava_model::batch::RecordHeader;
use vltava_node::config::{parse_duration, parse_size};

use self::input::{Block, Shape};
use self::tally::Tally;
use crate::args::Context;
use crate::client;
use crate::exit::{CliError, CliResult};
use crate::output::{self, Format};
use crate::text::{self, Separator};

/// Write records: each line of standard input is one
#[derive(Args, Debug)]
#[command(
    long_about = "\
Writes each line of standard input as a record: its exact bytes, without the line break. Ends when the input ends and \
every record is acknowledged, and says on standard error how many were. When a record cannot be written, it stops \
reading, waits for those under way, and ends with exit code 1.",
    after_help = "\
Examples:
  echo 'hello' | vltava produce orders
  vltava produce orders < a-million-lines.txt
  vltava produce orders --key-separator :  <<< 'customer7:two pairs of boots'
  vltava produce orders --headers-separator '\\t' --key-separator :  <<< $'trace:42\\tkey:value'
  vltava produce orders --partition 0 --acks 1 --compression zstd --batch-size 256KiB --linger-ms 20 --file lines.txt"
)]
pub struct ProduceArgs {
    /// Which topic
    topic: String,

    /// Read this file instead of standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Write to this partition; keys, or turns, choose one without it
    #[arg(long, value_name = "P")]
    partition: Option<u32>,

    /// When a record counts as written: by all in-sync replicas, by the leader, or at once
    #[arg(long, value_enum, default_value_t)]
    acks: Acks,

    /// What stands between key and value; without it a line is all value
    #[arg(long, value_name = "TEXT", value_parser = text::separator)]
    key_separator: Option<Separator>,

    /// What stands between headers (KEY:VALUE,KEY:VALUE) and the rest of the line
    #[arg(long, value_name = "TEXT", value_parser = text::separator)]
    headers_separator: Option<Separator>,

    /// Give every record this header; may be given several times
    #[arg(long = "header", value_name = "KEY=VALUE", value_parser = text::header)]
    headers: Vec<(String, String)>,

    #[command(flatten)]
    batching: Batching,
}

/// Flags that say how a producer works.
#[derive(Args, Clone, Debug)]
pub struct Batching {
    /// Send a batch when it has this size
    #[arg(long, value_name = "BYTES", default_value = "64KiB", value_parser = parse_size)]
    pub batch_size: u64,

    /// or when its first record has waited this long
    #[arg(long, value_name = "MS", default_value = "5", value_parser = parse_duration)]
    pub linger_ms: Duration,

    /// How batches are compressed
    #[arg(long, alias = "compression-codec", value_enum, default_value_t)]
    pub compression: Compression,

    /// The largest record that is sent
    #[arg(long, value_name = "BYTES", default_value = "1MiB", value_parser = parse_size)]
    pub max_request_size: u64,

    /// How long a record may take, retries among it
    #[arg(long, value_name = "MS", default_value = "120s", value_parser = parse_duration)]
    pub delivery_timeout_ms: Duration,

    /// Let a retried batch be written twice
    #[arg(long)]
    pub no_idempotence: bool,
}

/// When a record counts as written.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, ValueEnum)]
pub enum Acks {
    /// When every in-sync replica has it on stable storage
    #[default]
    #[value(alias = "-1")]
    All,
    /// When the leader has it
    #[value(name = "1", alias = "leader")]
    Leader,
    /// At once: it may be lost
    #[value(name = "0", alias = "none")]
    None,
}

/// How batches are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, ValueEnum)]
#[allow(missing_docs)]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl From<Compression> for vltava_client::Compression {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::None => Self::None,
            Compression::Gzip => Self::Gzip,
            Compression::Snappy => Self::Snappy,
            Compression::Lz4 => Self::Lz4,
            Compression::Zstd => Self::Zstd,
        }
    }
}

impl Batching {
    /// The options of a producer.
    pub fn options(&self, acks: Acks) -> ProducerOptions {
        let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let defaults = ProducerOptions::default();
        let batch_size = bytes(self.batch_size);
        ProducerOptions {
            acks: match acks {
                Acks::All => ClientAcks::All,
                Acks::Leader => ClientAcks::Leader,
                Acks::None => ClientAcks::None,
            },
            // Without acknowledgements there is nothing to retry.
            idempotence: !self.no_idempotence && acks != Acks::None,
            batch_size,
            linger: self.linger_ms,
            compression: self.compression.into(),
            buffer_memory: defaults.buffer_memory.max(batch_size.saturating_mul(8)),
            max_request_size: bytes(self.max_request_size),
            delivery_timeout: self.delivery_timeout_ms,
            request_timeout: defaults.request_timeout.min(self.delivery_timeout_ms),
            ..defaults
        }
    }
}

pub async fn run(args: ProduceArgs, context: &Context) -> CliResult {
    let client = client::connect(context)?;
    // Says at once that a topic does not exist, instead of after the first line.
    client.topic(&args.topic).await?;
    let producer = Producer::new(client, args.batching.options(args.acks));
    let (blocks, length) = open(args.file.as_ref())?;
    let tally = Arc::new(Tally::new(length));
    let ended = send_all(&args, &producer, blocks, &tally).await;
    tokio::select! {
        () = producer.flush() => {}
        // Whoever interrupts again does not want to wait for acknowledgements.
        _ = tokio::signal::ctrl_c() => {}
    }
    let summary = tally.finish();
    eprintln!("{}", summary.sentence());
    if context.format == Format::Json {
        output::print(Format::Json, &summary, |_| String::new())?;
    }
    ended?;
    match tally.failure() {
        None => Ok(()),
        Some(error) => Err(CliError::from(error)),
    }
}

/// Hands every line to the producer; ends early when a record was refused or the user interrupts.
async fn send_all(
    args: &ProduceArgs,
    producer: &Producer,
    mut blocks: tokio::sync::mpsc::Receiver<io::Result<Block>>,
    tally: &Arc<Tally>,
) -> CliResult {
    let shape = Shape {
        headers_separator: args.headers_separator.clone(),
        key_separator: args.key_separator.clone(),
        constant_headers: args
            .headers
            .iter()
            .map(|(key, value)| (key.clone(), value.clone().into()))
            .collect(),
    };
    let mut number = 0_u64;
    loop {
        let block = tokio::select! {
            block = blocks.recv() => block,
            _ = tokio::signal::ctrl_c() => None,
            () = tally.failed() => None,
        };
        let Some(block) = block else { return Ok(()) };
        let block = block.map_err(|error| CliError::failed(format!("the input cannot be read: {error}")))?;
        for line in block.lines {
            number += 1;
            let record = record(args, &shape, line).map_err(|problem| {
                CliError::failed(format!("line {number} {problem}; nothing after it was sent"))
            })?;
            let tally = Arc::clone(tally);
            let size =
                record.value.as_ref().map_or(0, Bytes::len) + record.key.as_ref().map_or(0, Bytes::len);
            tally.sent();
            let done = Arc::clone(&tally);
            let handed_over =
                producer.send_with(record, Box::new(move |outcome| done.done(outcome.map(drop), size)));
            if let Err(error) = handed_over.await {
                tally.done(Err(error), size);
            }
            if tally.has_failed() {
                return Ok(());
            }
        }
        tally.read_up_to(block.position);
    }
}

fn record(args: &ProduceArgs, shape: &Shape, line: Bytes) -> Result<Record, String> {
    let parts = shape.parts(line)?;
    let headers = parts.headers.into_iter().map(|(key, value)| RecordHeader::new(key, Some(value)));
    Ok(Record {
        topic_id: None,
        topic: args.topic.clone(),
        partition: args.partition.map(vltava_model::PartitionIndex::new),
        key: parts.key,
        value: Some(parts.value),
        headers: headers.collect(),
        timestamp_ms: None,
    })
}

type Blocks = tokio::sync::mpsc::Receiver<io::Result<Block>>;

/// The lines of the file or of standard input, and how long it is where that is known.
fn open(file: Option<&PathBuf>) -> CliResult<(Blocks, Option<u64>)> {
    let Some(path) = file else {
        if io::stdin().is_terminal() {
            eprintln!("A line is a record; Ctrl-D ends.");
            return Ok((input::read_lines(io::stdin()), None));
        }
        // What the shell redirected from a file has a length like any file.
        let length = std::fs::metadata("/dev/stdin").ok().filter(std::fs::Metadata::is_file);
        return Ok((input::read_lines(io::stdin()), length.map(|length| length.len())));
    };
    let failed = |error: io::Error| CliError::usage(format!("{}: {error}", path.display()));
    let file = std::fs::File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?;
    Ok((input::read_lines(file), length.is_file().then_some(length.len())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

    fn parse(flags: &[&str]) -> ProduceArgs {
        let cli = Cli::try_parse_from(["vltava", "produce", "t"].iter().chain(flags)).unwrap();
        match cli.command {
            Command::Produce(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_become_the_options_of_a_producer() {
        let args =
            parse(&["--acks", "1", "--batch-size", "1MiB", "--linger-ms", "20", "--compression", "zstd"]);
        let options = args.batching.options(args.acks);
        assert_eq!(options.acks, ClientAcks::Leader);
        assert_eq!(options.batch_size, 1 << 20);
        assert_eq!(options.linger, Duration::from_millis(20));
        assert_eq!(options.compression, vltava_client::Compression::Zstd);
        assert!(options.idempotence);
        let careless = parse(&["--acks", "0"]);
        assert!(!careless.batching.options(careless.acks).idempotence);
        assert_eq!(parse(&["--acks=-1"]).acks, Acks::All);
    }

    #[test]
    fn a_line_becomes_a_record() {
        let args = parse(&["--key-separator", ":", "--partition", "3", "--header", "a=b"]);
        let shape = Shape {
            key_separator: args.key_separator.clone(),
            headers_separator: None,
            constant_headers: vec![("a".into(), "b".into())],
        };
        let record = record(&args, &shape, "k:v".into()).unwrap();
        assert_eq!((record.key, record.value), (Some("k".into()), Some("v".into())));
        assert_eq!(record.partition.map(|p| p.get()), Some(3));
        assert_eq!(record.headers, [RecordHeader::new("a", Some("b".into()))]);
    }
}
