//! What a run is told on the command line.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::disk::DiskKind;
use crate::plan::Wishes;

/// How nodes are connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum NetworkKind {
    /// Namespaces where they are allowed, else proxies.
    Auto,
    /// A network namespace for each node; needs root.
    Netns,
    /// Loopback, with a proxy in front of each listener.
    Proxy,
}

const DETAILS: &str = "\
Exit code 0: every promise held. 1: one did not; all files are kept, and how to run the same again is printed. 2: the run
itself failed. As root all of it lives in namespaces of its own, which the kernel takes away with this program.

Examples:
  cargo xtask chaos --minutes 3 --seed 7
  cargo xtask chaos --minutes 30 --bit-flips
  cargo xtask chaos --minutes 2 --faults kill-leader,power-cut --every 5
  cargo xtask chaos --network proxy --disk plain
  cargo xtask chaos --seed 7 --plan                 only print what would happen";

/// Breaks a cluster of real processes in every way it knows, and checks that no promise is broken
#[derive(Parser, Clone, Debug)]
#[command(name = "vltava-chaos", version, max_term_width = 120, after_help = DETAILS)]
pub struct Args {
    /// For how long faults come, in minutes
    #[arg(long, default_value_t = 3.0, value_parser = positive)]
    pub minutes: f64,
    /// What everything is drawn from; by default another one each time
    #[arg(long)]
    pub seed: Option<u64>,
    /// The mean time from one fault to the next, in seconds
    #[arg(long, default_value_t = 3.0, value_parser = positive)]
    pub every: f64,
    /// Only these kinds of faults, comma-separated; `none` for none
    #[arg(long, value_delimiter = ',', value_name = "KIND,..")]
    pub faults: Vec<String>,
    /// Also flip bits of what was synced long ago
    #[arg(long)]
    pub bit_flips: bool,
    /// How nodes are connected
    #[arg(long, value_enum, default_value = "auto")]
    pub network: NetworkKind,
    /// What nodes keep their data on
    #[arg(long, value_enum, default_value = "auto")]
    pub disk: DiskKind,
    /// How many nodes are controllers
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=5))]
    pub controllers: u32,
    /// How many nodes are brokers
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(3..=9))]
    pub brokers: u32,
    /// Records a second, of all producers together
    #[arg(long, default_value_t = 2_000)]
    pub rate: u32,
    /// Partitions of each lasting topic
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub partitions: u32,
    /// How long the cluster may take to be whole after the last fault, in seconds
    #[arg(long, default_value_t = 120)]
    pub whole_within: u64,
    /// A property of every node's configuration that wins over this tool's
    #[arg(long = "override", value_name = "NAME=VALUE")]
    pub overrides: Vec<String>,
    /// The binary under test; built from this tree by default
    #[arg(long, value_name = "PATH", env = "VLTAVA_BIN")]
    pub bin: Option<PathBuf>,
    /// Where runs have their files
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Write the report, one HTML page, also to here
    #[arg(long, value_name = "PATH")]
    pub report: Option<PathBuf>,
    /// Keep all files also when every promise held
    #[arg(long)]
    pub keep: bool,
    /// Say only how it ended
    #[arg(long)]
    pub quiet: bool,
    /// Only print what would happen
    #[arg(long)]
    pub plan: bool,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        Ok(_) => Err("it must be above 0".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

impl Args {
    /// What a plan is drawn from.
    pub fn wishes(&self, seed: u64, lossy: bool) -> Wishes {
        Wishes {
            seed,
            span: self.span(),
            every: Duration::from_secs_f64(self.every),
            only: self.faults.clone(),
            also: if self.bit_flips { vec!["bit-flip".to_owned()] } else { Vec::new() },
            lossy,
        }
    }

    /// For how long faults come.
    pub fn span(&self) -> Duration {
        Duration::from_secs_f64(self.minutes * 60.0)
    }

    /// The command line that lets the same faults come again.
    pub fn again(&self, seed: u64) -> String {
        let mut line = format!(
            "cargo xtask chaos --seed {seed} --minutes {} --every {} --rate {} --partitions {} --controllers {} --brokers {}",
            self.minutes, self.every, self.rate, self.partitions, self.controllers, self.brokers
        );
        if !self.faults.is_empty() {
            let _ = write!(line, " --faults {}", self.faults.join(","));
        }
        for setting in &self.overrides {
            let _ = write!(line, " --override {setting}");
        }
        if self.bit_flips {
            line.push_str(" --bit-flips");
        }
        line
    }
}
