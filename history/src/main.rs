//! `vltava-history`: checks recorded histories, and makes examples. Exit codes: 0 pass, 1 fail, 3 inconclusive, 2 when
//! there is nothing to judge.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use vltava_history::format::Writer;
use vltava_history::generate::{Shape, break_history, good_history};
use vltava_history::{Judgement, Kind, Options, check_file, report};

/// Checks what clients of a cluster saw.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check a history and print a summary.
    Check {
        /// The history.
        file: PathBuf,
        /// Write a report of one page there.
        #[arg(long, value_name = "OUT")]
        html: Option<PathBuf>,
        /// Seconds after the end of a fault in which unavailability is excused.
        #[arg(long, default_value_t = 10.0, value_parser = seconds)]
        settle: f64,
        /// Seconds without an ack, while no fault is at work, that are a violation.
        #[arg(long, value_parser = seconds)]
        unavailable: Option<f64>,
        /// How many violations of each kind are told in full.
        #[arg(long, default_value_t = 20)]
        told: u64,
    },
    /// Make up a history, a good one or a broken one.
    Example {
        /// Written there.
        file: PathBuf,
        /// The same seed makes the same history.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How long the load runs.
        #[arg(long, default_value_t = 120)]
        seconds: u64,
        /// How many producers.
        #[arg(long, default_value_t = 4)]
        producers: u32,
        /// Records that a producer sends at once, at most.
        #[arg(long, default_value_t = 40)]
        batch: u32,
        /// Put one violation of this kind into it, named as in the summary.
        #[arg(long = "break", value_parser = kind)]
        broken: Option<Kind>,
    },
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=1e9).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds is needed".to_owned()),
    }
}

fn kind(name: &str) -> Result<Kind, String> {
    let names = || Kind::ALL.map(Kind::name).join(", ");
    let known = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    known.ok_or_else(|| format!("known are {}", names()))
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Check { file, html, settle, unavailable, told } => {
            let settle = Duration::from_secs_f64(settle);
            let unavailable = unavailable.map(Duration::from_secs_f64);
            check(&file, html.as_deref(), Options { settle, unavailable, told })
        }
        Command::Example { file, seed, seconds, producers, batch, broken } => {
            let length = Duration::from_secs(seconds);
            let calm = Duration::from_secs(10);
            let shape = Shape { length, producers, batch, calm, partitions: 4, ..Shape::SMALL };
            example(&file, seed, shape, broken)
        }
    };
    done.unwrap_or_else(|problem| {
        eprintln!("{problem}");
        ExitCode::from(2)
    })
}

fn check(file: &Path, html: Option<&Path>, options: Options) -> Result<ExitCode, String> {
    let verdict = check_file(file, options).map_err(|error| format!("{}: {error}", file.display()))?;
    print!("{}", report::summary(&verdict));
    if let Some(html) = html {
        let written = fs::write(html, report::html(&verdict));
        written.map_err(|error| format!("{}: {error}", html.display()))?;
    }
    Ok(match verdict.judgement() {
        Judgement::Pass => ExitCode::SUCCESS,
        Judgement::Fail => ExitCode::FAILURE,
        Judgement::Inconclusive => ExitCode::from(3),
    })
}

fn example(file: &Path, seed: u64, shape: Shape, broken: Option<Kind>) -> Result<ExitCode, String> {
    let mut events = good_history(seed, shape);
    if let Some(kind) = broken {
        let place = break_history(&mut events, kind, seed);
        let place = place.ok_or("this history has no place for it: another seed, or a longer one")?;
        println!("{kind}: {place}");
    }
    let write = || -> std::io::Result<()> {
        let mut writer = Writer::new(File::create(file)?)?;
        events.iter().try_for_each(|event| writer.append(event))?;
        writer.flush()
    };
    write().map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(ExitCode::SUCCESS)
}
