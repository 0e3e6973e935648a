//! Crashes and damages Raft logs and counts what became of them: `cargo xtask crash` runs it.
//!
//! `crash --states N --trials N [--log wal|sled|both] [--seed N]`. Exits with 1 when anything acknowledged was lost silently.

mod count;
mod script;
mod sled;
mod wal;

use std::process::ExitCode;
use std::time::Instant;

use count::Counts;

/// What was asked for.
struct Asked {
    states: u64,
    trials: u64,
    seed: u64,
    wal: bool,
    sled: bool,
}

fn asked() -> Result<Asked, String> {
    let mut asked = Asked { states: 2_000, trials: 500, seed: 1, wal: true, sled: true };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        let number = || value.parse().map_err(|_| format!("`{value}` is no number"));
        match word.as_str() {
            "--states" => asked.states = number()?,
            "--trials" => asked.trials = number()?,
            "--seed" => asked.seed = number()?,
            "--log" => match value.as_str() {
                "wal" => asked.sled = false,
                "sled" => asked.wal = false,
                "both" => {}
                other => return Err(format!("no log is called `{other}`: wal, sled or both")),
            },
            other => return Err(format!("`{other}` is not known")),
        }
    }
    Ok(asked)
}

fn main() -> ExitCode {
    let asked = match asked() {
        Ok(asked) => asked,
        Err(why) => {
            eprintln!("{why}\ncrash --states N --trials N [--log wal|sled|both] [--seed N]");
            return ExitCode::from(2);
        }
    };
    println!("seed {}", asked.seed);
    println!("{}", Counts::HEAD);
    let mut lost = 0;
    let mut run = |name: &str, run: &dyn Fn() -> Counts| {
        let start = Instant::now();
        let counts = run();
        println!("{} {:>7.1}", counts.row(name), start.elapsed().as_secs_f64());
        counts.samples.iter().for_each(|sample| println!("    {sample}"));
        lost += counts.lost;
    };
    if asked.wal {
        run("wal, crashes", &|| wal::crashes(asked.seed, asked.states));
        run("wal, crashes while it starts", &|| wal::crashes_at_start(asked.seed, asked.states / 4));
        run("wal, one crash after another", &|| wal::storm(asked.seed, asked.states / 4));
        // All bits take as long as ten thousand trials are worth; fewer trials, fewer bits, of every place in a byte.
        let stride = (10_000 / asked.trials.max(1)) as usize | 1;
        run("wal, every bit flipped", &|| wal::every_bit(asked.seed, stride));
        run("wal, one damage", &|| wal::damage(asked.seed, asked.trials, wal::Harms::One));
        run("wal, 2 to 17 bits flipped", &|| wal::damage(asked.seed, asked.trials, wal::Harms::ManyBits));
    }
    if asked.sled {
        run("sled, power cuts", &|| sled::power_cuts(asked.seed, asked.states / 2));
        run("sled, power cuts, segments", &|| sled::power_cuts_across_segments(asked.seed, asked.states / 2));
        run("sled, one damage", &|| sled::damage(asked.seed, asked.trials));
    }
    if lost == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
