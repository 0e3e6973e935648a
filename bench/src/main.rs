//! One command that measures a cluster of real processes against targets, and against what the machine itself can do.
//!
//! | module | holds |
//! |---|---|
//! | `cluster` | three `vltava server` processes with shipped defaults |
//! | `floors`, `stream` | disk, loopback, gRPC and memory, in the same run |
//! | `load`, `pulse` | loads, and how their acks are timed |
//! | `topics` | topics made, waited for, counted |
//! | `rows` | what is measured |
//! | `report` | figures, targets, the table |
//! | `usage` | CPU and memory from `/proc` |

mod cluster;
mod floors;
mod load;
mod pulse;
mod report;
mod rows;
mod stream;
mod topics;
mod usage;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde_json::json;

use cluster::Site;
use load::Span;
use report::Row;
use rows::Bench;

/// Whatever fails ends a row, and is shown in its place.
pub type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const DETAILS: &str = "\
Every row starts a cluster of its own with shipped defaults: acks=all means that each in-sync replica has the
record on stable storage. Topics have 3 replicas and min.insync.replicas=2, records have 1 KiB. Each figure is the median
of its repetitions, with the least and the most beside it; a target is met when the median meets it. Open loops time each
record from when it was due. After each load the ends of the log are held against what was acknowledged: a row that
miscounts fails. Client and servers share the machine; the load average stands with each row, so that a busy machine shows.

Examples:
  cargo build --release -p vltava-cli
  cargo run --release -p vltava-bench                              everything, about 20 minutes
  cargo run --release -p vltava-bench -- --quick                   shorter loads, about 8 minutes
  cargo run --release -p vltava-bench -- --rows one-in-flight,start
  cargo run --release -p vltava-bench -- --quick --json /tmp/figures.json
  VLTAVA_BIN=/usr/bin/vltava cargo run --release -p vltava-bench   another binary";

/// Measures Vltava: latency, rate, CPU and memory, and the gaps that failures leave
#[derive(Parser, Debug)]
#[command(name = "vltava-bench", version, max_term_width = 120, after_help = DETAILS)]
struct Args {
    /// Loads of 3 s after 1 s of warm-up, instead of 15 s after 5 s
    #[arg(long)]
    quick: bool,
    /// Only these rows, comma-separated; floors are always taken
    #[arg(long, value_delimiter = ',', value_name = "ROW,..")]
    rows: Vec<String>,
    /// Names all rows, and measures nothing
    #[arg(long)]
    list: bool,
    /// How often each figure is taken
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,
    /// Writes all figures, each sample among them, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The `vltava` binary; must be a release build
    #[arg(long, env = "VLTAVA_BIN", value_name = "FILE", default_value = "target/release/vltava")]
    binary: PathBuf,
    /// Where temporary directories are made: the disk that is measured
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("vltava-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Fallible<ExitCode> {
    if args.list {
        rows::ALL.iter().for_each(|row| println!("{:<24} {}", row.id, row.about));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(unknown) = args.rows.iter().find(|id| rows::ALL.iter().all(|row| row.id != id.as_str())) {
        return Err(format!("no row is named '{unknown}': see --list").into());
    }
    if !args.binary.is_file() {
        let binary = args.binary.display();
        return Err(format!("{binary} does not exist: cargo build --release -p vltava-cli makes it").into());
    }
    let seconds = if args.quick { (1, 3) } else { (5, 15) };
    let span = Span { warm_up: Duration::from_secs(seconds.0), measured: Duration::from_secs(seconds.1) };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    println!("vltava-bench {}: {} on {cores} cores", env!("CARGO_PKG_VERSION"), args.binary.display());
    println!("{} repetitions of {:?} after {:?}\n", args.repetitions, span.measured, span.warm_up);
    let floors = floors::take(&args.dir)?;
    print!("{}  note: load average {}\n\n", floors.text(), usage::load_average());
    let mut done = vec![floors];
    let bench = Bench {
        site: Site { binary: args.binary.clone(), dir: args.dir.clone() },
        runtime: tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?,
        repetitions: args.repetitions,
        span,
    };
    let wanted = |id: &str| args.rows.is_empty() || args.rows.iter().any(|row| row == id);
    rows::measure(&bench, wanted, |row| {
        println!("{}", row.text());
        done.push(row);
    });
    let (met, of) = done.iter().map(Row::score).fold((0, 0), |sum, row| (sum.0 + row.0, sum.1 + row.1));
    println!("{met} of {of} targets met");
    if let Some(path) = &args.json {
        let rows: Vec<_> = done.iter().map(Row::json).collect();
        let all = json!({ "version": env!("CARGO_PKG_VERSION"), "cores": cores, "quick": args.quick, "rows": rows });
        std::fs::write(path, serde_json::to_string_pretty(&all)?)?;
    }
    // The producers' tasks of rows that failed may still wait for brokers that are gone.
    bench.runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}
