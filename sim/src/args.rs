//! What the command line asks for.

use crate::run::Plan;
use crate::search::Search;

/// How to call it.
pub const HELP: &str = "\
vltava-sim --seed S [--seconds N] [--trace]   runs one seed
vltava-sim --seeds N [--from S] [--jobs J] [--seconds N] [--limit S]
                                              runs many, each in a process of its own

  --seed S      the seed; everything follows from it
  --seconds N   how long things go wrong, in simulated seconds; by the seed when it is not given
  --trace       print every event
  --seeds N     how many seeds
  --from S      the first of them (1)
  --jobs J      how many processes at a time (1)
  --limit S     how long one seed may take, in real seconds (300)
VLTAVA_SIM_LOG=debug prints the daemons' logs with simulated times.";

/// What to do.
pub enum Command {
    /// One seed.
    Run(Plan),
    /// Many.
    Search(Search),
}

/// Reads the arguments.
///
/// # Errors
/// What is wrong with them.
pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut plan = Plan { seed: 0, duration: None, trace: false };
    let mut search = Search { seeds: 0, from: 1, jobs: 1, limit: 300, pass_on: Vec::new() };
    let mut seed = None;
    while let Some(arg) = args.next() {
        if arg == "--help" {
            return Err(String::new());
        }
        if arg == "--trace" {
            plan.trace = true;
            continue;
        }
        let value = args.next().ok_or_else(|| format!("{arg} needs a value"))?;
        let number: u64 = value.parse().map_err(|_| format!("{arg} {value}: no number"))?;
        match arg.as_str() {
            "--seed" => seed = Some(number),
            "--seconds" => {
                plan.duration = Some(number * 1000);
                search.pass_on = vec![arg, value];
            }
            "--seeds" => search.seeds = number,
            "--from" => search.from = number,
            "--jobs" => search.jobs = number.max(1) as usize,
            "--limit" => search.limit = number,
            _ => return Err(format!("{arg} is unknown")),
        }
    }
    match (seed, search.seeds) {
        (Some(seed), 0) => Ok(Command::Run(Plan { seed, ..plan })),
        (None, 1..) => Ok(Command::Search(search)),
        _ => Err("one of --seed and --seeds is needed".to_owned()),
    }
}
