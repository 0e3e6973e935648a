//! `vltava consume`: each record's value becomes a line of standard output.

mod print;

use std::io::{self, BufWriter, Write};
use std::time::{Duration, Instant};

use clap::Args;
use vltava_client::{ConsumedRecord, Consumer, ConsumerOptions, OffsetReset, StartAt};
use vltava_model::Offset;
use vltava_node::config::parse_duration;

use self::print::{Style, View};
use crate::args::Context;
use crate::client;
use crate::exit::{CliError, CliResult, Failure};
use crate::output::{Format, written};
use crate::text::{self, Separator};

/// How often an idle consumer looks whether it should end.
const IDLE: Duration = Duration::from_millis(200);

/// Read records: each value is a line of standard output
#[derive(Args, Debug)]
#[command(
    long_about = "\
Reads all partitions of a topic, or one, and prints each record's value, its exact bytes and a line break. Begins with \
records written from now on, unless told otherwise. Ends with exit code 0 when --max-messages or --timeout-ms says so, \
or on Ctrl-C. Records of one partition come in order.",
    after_help = "\
Examples:
  vltava consume orders --from-beginning
  vltava consume orders --from-beginning --max-messages 10 --print-key --print-offset --print-partition
  vltava consume orders --partition 2 --offset 1000 --timeout-ms 5000
  vltava consume orders --timestamp 1767225600000 --output json | jq -r .value"
)]
#[command(group = clap::ArgGroup::new("start").args(["from_beginning", "offset", "timestamp"]))]
pub struct ConsumeArgs {
    /// Which topic
    topic: String,

    /// Begin with the oldest records
    #[arg(long)]
    from_beginning: bool,

    /// Read only this partition; may be given several times
    #[arg(long = "partition", value_name = "P", value_delimiter = ',')]
    partitions: Vec<u32>,

    /// Begin with this offset (needs --partition), or `earliest`, or `latest`
    #[arg(long, value_name = "OFFSET", value_parser = offset)]
    offset: Option<StartAt>,

    /// Begin with the first records of this time or later, in milliseconds since 1970
    #[arg(long, value_name = "MS")]
    timestamp: Option<i64>,

    /// End after so many records
    #[arg(long, value_name = "N")]
    max_messages: Option<u64>,

    /// End when no record came for so long
    #[arg(long, value_name = "MS", value_parser = parse_duration)]
    timeout_ms: Option<Duration>,

    /// Print keys
    #[arg(long)]
    print_key: bool,

    /// Print offsets
    #[arg(long)]
    print_offset: bool,

    /// Print partitions
    #[arg(long)]
    print_partition: bool,

    /// Print timestamps
    #[arg(long)]
    print_timestamp: bool,

    /// Print headers
    #[arg(long)]
    print_headers: bool,

    /// What stands between these and the value
    #[arg(long, value_name = "TEXT", default_value = "\\t", value_parser = text::separator)]
    key_separator: Separator,
}

fn offset(text: &str) -> Result<StartAt, String> {
    match text {
        "earliest" | "beginning" => Ok(StartAt::Earliest),
        "latest" | "end" => Ok(StartAt::Latest),
        number => match number.parse::<u64>().map(Offset::new) {
            Ok(offset) if offset <= Offset::MAX => Ok(StartAt::Offset(offset)),
            _ => Err(format!("`{number}` is not an offset, `earliest` or `latest`")),
        },
    }
}

impl ConsumeArgs {
    fn start(&self) -> StartAt {
        match (self.from_beginning, self.offset, self.timestamp) {
            (true, ..) => StartAt::Earliest,
            (false, Some(offset), _) => offset,
            (false, None, Some(timestamp)) => StartAt::Timestamp(timestamp),
            (false, None, None) => StartAt::Latest,
        }
    }

    fn style(&self, format: Format) -> Style {
        Style {
            timestamp: self.print_timestamp,
            partition: self.print_partition,
            offset: self.print_offset,
            headers: self.print_headers,
            key: self.print_key,
            separator: self.key_separator.clone(),
            json: format == Format::Json,
        }
    }
}

pub async fn run(args: ConsumeArgs, context: &Context) -> CliResult {
    let start = args.start();
    if matches!(start, StartAt::Offset(_)) && args.partitions.is_empty() {
        return Err(CliError::usage(
            "--offset with a number needs --partition: each partition counts by itself",
        ));
    }
    let client = client::connect(context)?;
    let known = client.topic(&args.topic).await?;
    if let Some(missing) =
        args.partitions.iter().find(|p| known.partitions.iter().all(|known| known.partition != **p))
    {
        let message = format!(
            "topic {} has {} partitions, and no partition {missing}",
            args.topic,
            known.partitions.len()
        );
        return Err(CliError::new(Failure::NotFound, message));
    }
    // Who asked for the oldest records that there are goes on with them when retention overtakes the reading. Who
    // asked for an offset is told.
    let offset_reset = if start == StartAt::Earliest { OffsetReset::Earliest } else { OffsetReset::None };
    let mut consumer = Consumer::new(client, ConsumerOptions { offset_reset, ..ConsumerOptions::default() });
    match args.partitions.as_slice() {
        [] => drop(consumer.assign_topic(&args.topic, start).await?),
        partitions => {
            for partition in partitions {
                consumer.assign(&args.topic, *partition, start).await?;
            }
        }
    }
    let mut printer = Printer {
        out: BufWriter::with_capacity(256 * 1024, io::stdout()),
        style: args.style(context.format),
        printed: 0,
        limit: args.max_messages.unwrap_or(u64::MAX),
    };
    let result = tokio::select! {
        result = read(&mut consumer, &mut printer, args.timeout_ms) => result,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    written(printer.out.flush())?;
    eprintln!("Processed a total of {} messages", printer.printed);
    result
}

/// Reads until the limit, the timeout or an error.
async fn read(consumer: &mut Consumer, printer: &mut Printer, timeout: Option<Duration>) -> CliResult {
    let mut last = Instant::now();
    while printer.printed < printer.limit {
        let mut records = consumer.poll(Duration::ZERO).await?;
        if records.is_empty() {
            // Nothing waits: who looks at a terminal or a pipe sees all that there is.
            written(printer.out.flush())?;
            let left = timeout.map_or(IDLE, |timeout| timeout.saturating_sub(last.elapsed()).min(IDLE));
            records = consumer.poll(left).await?;
        }
        match records.is_empty() {
            true if timeout.is_some_and(|timeout| last.elapsed() >= timeout) => return Ok(()),
            true => {}
            false => {
                last = Instant::now();
                written(printer.print(&records))?;
            }
        }
    }
    Ok(())
}

struct Printer {
    out: BufWriter<io::Stdout>,
    style: Style,
    printed: u64,
    limit: u64,
}

impl Printer {
    fn print(&mut self, records: &[ConsumedRecord]) -> io::Result<()> {
        for record in records {
            if self.printed == self.limit {
                return Ok(());
            }
            let view = View {
                topic: &record.topic,
                partition: record.partition.get(),
                offset: record.offset.get(),
                timestamp_ms: record.timestamp_ms,
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers: &record.headers,
            };
            self.style.print(&mut self.out, &view)?;
            self.printed += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

    fn parse(flags: &[&str]) -> Result<ConsumeArgs, String> {
        let cli = Cli::try_parse_from(["vltava", "consume", "t"].iter().chain(flags));
        match cli.map_err(|error| error.to_string())?.command {
            Command::Consume(args) => Ok(args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn where_to_begin() {
        let start = |flags: &[&str]| parse(flags).unwrap().start();
        assert_eq!(start(&[]), StartAt::Latest);
        assert_eq!(start(&["--from-beginning"]), StartAt::Earliest);
        assert_eq!(start(&["--offset", "earliest"]), StartAt::Earliest);
        assert_eq!(start(&["--partition", "1", "--offset", "7"]), StartAt::Offset(Offset::new(7)));
        assert_eq!(start(&["--timestamp", "5"]), StartAt::Timestamp(5));
        assert!(parse(&["--from-beginning", "--offset", "7"]).is_err());
        assert!(parse(&["--offset", "-2"]).is_err());
        assert!(parse(&["--offset", "soon"]).unwrap_err().contains("`earliest` or `latest`"));
    }

    #[test]
    fn what_is_printed() {
        let args =
            parse(&["--print-key", "--print-offset", "--key-separator", "|", "--timeout-ms", "10s"]).unwrap();
        let style = args.style(Format::Table);
        assert!(style.key && style.offset && !style.partition && !style.json);
        assert_eq!(style.separator, Separator(b"|".to_vec()));
        assert_eq!(args.timeout_ms, Some(Duration::from_secs(10)));
        assert!(parse(&[]).unwrap().style(Format::Json).json);
    }

    #[tokio::test]
    async fn an_offset_needs_its_partition() {
        let args = parse(&["--offset", "7"]).unwrap();
        let context = Context { servers: vec!["127.0.0.1:1".into()], format: Format::Table };
        assert!(run(args, &context).await.unwrap_err().to_string().contains("--partition"));
    }
}
