//! Crashes and damages logs and counts what became of them: `cargo xtask crash` runs it; [`HELP`] says how.

mod asked;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Instant;

use asked::{Asked, HELP};
use vltava_crash::count::Counts;
use vltava_crash::{partition, raft};

/// A row of the table.
struct Row<'a> {
    name: &'static str,
    log: &'static str,
    /// Whether refusals are as bad as losses: nothing was damaged, and nothing may stand in the way.
    must_start: bool,
    run: Box<dyn Fn() -> Counts + 'a>,
}

fn rows(asked: &Asked) -> Vec<Row<'_>> {
    let Asked { states, trials, seed, run: only, .. } = *asked;
    // All bits take as long as ten thousand trials are worth; fewer trials, fewer bits, of every place in a byte.
    let stride = (10_000 / trials.max(1)) as usize | 1;
    let mut rows = Vec::new();
    let mut add = |name, must_start, run: Box<dyn Fn() -> Counts>| {
        let log = name_of_log(name);
        rows.push(Row { name, log, must_start, run });
    };
    add("wal, crashes", true, Box::new(move || raft::wal::crashes(seed, states)));
    add(
        "wal, crashes while it starts",
        true,
        Box::new(move || raft::wal::crashes_at_start(seed, states / 4)),
    );
    add("wal, one crash after another", true, Box::new(move || raft::wal::storm(seed, states / 4)));
    add("wal, every bit flipped", false, Box::new(move || raft::wal::every_bit(seed, stride)));
    let harms = raft::wal::Harms::One;
    add("wal, one damage", false, Box::new(move || raft::wal::damage(seed, trials, harms)));
    let harms = raft::wal::Harms::ManyBits;
    add("wal, 2 to 17 bits flipped", false, Box::new(move || raft::wal::damage(seed, trials, harms)));
    add("sled, power cuts", false, Box::new(move || raft::sled::power_cuts(seed, states / 2)));
    let segments = move || raft::sled::power_cuts_across_segments(seed, states / 2);
    add("sled, power cuts, segments", false, Box::new(segments));
    add("sled, one damage", false, Box::new(move || raft::sled::damage(seed, trials)));
    add("partition, crashes", true, Box::new(move || partition::crashes(seed, states, only)));
    let starts = move || partition::crashes_at_start(seed, states / 4, only);
    add("partition, while it starts", true, Box::new(starts));
    let storm = move || partition::storm(seed, states / 4, only);
    add("partition, one after another", true, Box::new(storm));
    let bits = move || partition::every_bit(seed, stride, only);
    add("partition, every bit flipped", false, Box::new(bits));
    use partition::{Harms, Left};
    let harm = move |how| -> Box<dyn Fn() -> Counts> {
        Box::new(move || partition::damage(seed, trials, how, only))
    };
    add("partition, one damage", false, harm((Harms::One, Left::Orderly)));
    add("partition, 2 to 17 bits", false, harm((Harms::ManyBits, Left::Orderly)));
    add("partition, killed, one damage", false, harm((Harms::One, Left::Killed)));
    rows
}

fn name_of_log(row: &'static str) -> &'static str {
    row.split(',').next().unwrap_or(row)
}

fn main() -> ExitCode {
    let asked = match Asked::of(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(why) => {
            eprintln!("{why}\n{HELP}");
            return ExitCode::from(2);
        }
    };
    println!("seed {}", asked.seed);
    println!("{}", Counts::HEAD);
    let mut is_bad = false;
    for row in rows(&asked).into_iter().filter(|row| asked.wants(row.log, row.name)) {
        let start = Instant::now();
        let counts = (row.run)();
        if std::io::stderr().is_terminal() {
            // What was told of it meanwhile goes.
            let _ = write!(std::io::stderr(), "\r{:70}\r", "");
        }
        println!("{} {:>7.1}", counts.row(row.name), start.elapsed().as_secs_f64());
        counts.samples.iter().for_each(|sample| println!("    {sample}"));
        let bad = counts.lost + if row.must_start { counts.refused } else { 0 };
        if bad > 0 && row.log == "partition" {
            let seed = asked.seed;
            println!(
                "    again: cargo xtask crash --log partition --seed {seed} --row {:?} --run RUN",
                row.name
            );
        }
        if asked.run.is_some() && row.must_start && row.name == "partition, crashes" {
            explain(&asked);
        }
        is_bad |= bad > 0;
    }
    if is_bad { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Says what the one run did that was asked for.
fn explain(asked: &Asked) {
    let Some(run) = asked.run else { return };
    println!("    what run {run} does, after so many changes of the disk:");
    partition::explain(asked.seed, run).iter().for_each(|line| println!("    {line}"));
}
