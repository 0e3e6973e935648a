//! Runs many seeds, each in a process of its own: nothing of one run can reach another.

use std::collections::VecDeque;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::entropy;

/// Which seeds, and how.
pub struct Search {
    /// How many.
    pub seeds: u64,
    /// The first.
    pub from: u64,
    /// How many at a time.
    pub jobs: usize,
    /// How long one may take, in real seconds.
    pub limit: u64,
    /// Arguments for each run.
    pub pass_on: Vec<String>,
}

/// How often it is said how far it has come.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What a search has come to so far.
struct Tally {
    began: Instant,
    /// What earlier children of this process took: a build, when this program took its builder's place.
    cpu_before: Duration,
    of: u64,
    done: u64,
    failed: Vec<u64>,
    /// All runs together.
    simulated_s: u64,
}

impl Tally {
    fn words(&self) -> String {
        let elapsed = self.began.elapsed().as_secs_f64().max(0.001);
        let cpu = entropy::children_cpu().saturating_sub(self.cpu_before).as_secs_f64().max(0.001);
        let left = (self.of - self.done) as f64 * elapsed / (self.done as f64).max(1.0);
        format!(
            "{} of {} seeds in {elapsed:.0} s ({:.2} seeds/s, {left:.0} s left), {} failed; {:.1} simulated hours, {:.0} \
             simulated minutes in a minute of processor time, {:.0} seeds in an hour of it",
            self.done,
            self.of,
            self.done as f64 / elapsed,
            self.failed.len(),
            self.simulated_s as f64 / 3600.0,
            self.simulated_s as f64 / cpu,
            self.done as f64 * 3600.0 / cpu,
        )
    }
}

struct Job {
    seed: u64,
    began: Instant,
    child: Child,
}

/// Runs them; says which failed, and how to run them again.
pub fn search(search: &Search) -> ExitCode {
    let mut waiting: VecDeque<u64> = (search.from..search.from + search.seeds).collect();
    let mut running: Vec<Job> = Vec::new();
    let mut told = Instant::now();
    let mut tally = Tally {
        began: told,
        cpu_before: entropy::children_cpu(),
        of: search.seeds,
        done: 0,
        failed: Vec::new(),
        simulated_s: 0,
    };
    while !waiting.is_empty() || !running.is_empty() {
        while running.len() < search.jobs
            && let Some(seed) = waiting.pop_front()
        {
            match start(search, seed) {
                Ok(child) => running.push(Job { seed, began: Instant::now(), child }),
                Err(error) => {
                    eprintln!("a run can not be started: {error}");
                    return ExitCode::FAILURE;
                }
            }
        }
        let (mut over, mut going) = (Vec::new(), Vec::new());
        for job in running {
            match look(job, search.limit) {
                (true, job) => over.push(job),
                (false, job) => going.push(job),
            }
        }
        running = going;
        for job in over {
            tally.done += 1;
            let seed = job.seed;
            let output = job.child.wait_with_output();
            let text = output.as_ref().map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
            let text = text.unwrap_or_default();
            tally.simulated_s += simulated(&text);
            if !output.is_ok_and(|output| output.status.success()) {
                tally.failed.push(seed);
                println!("FAILED seed {seed}:\n{}", text.lines().take(12).collect::<Vec<_>>().join("\n"));
            }
        }
        if told.elapsed() > TELL_EVERY {
            told = Instant::now();
            eprintln!("{}", tally.words());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    println!("{}: {:?}", tally.words(), tally.failed);
    if tally.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The simulated seconds that a run's output tells.
fn simulated(text: &str) -> u64 {
    let words = text.lines().last().unwrap_or_default().split_once(" simulated_s ");
    words.and_then(|(_, seconds)| seconds.trim().parse().ok()).unwrap_or(0)
}

fn start(search: &Search, seed: u64) -> std::io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(["--seed", &seed.to_string()])
        .args(&search.pass_on)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
}

/// Whether a run is over; one that takes too long is ended.
fn look(mut job: Job, limit: u64) -> (bool, Job) {
    let over = !matches!(job.child.try_wait(), Ok(None));
    if !over && job.began.elapsed() > Duration::from_secs(limit) {
        println!("seed {} takes longer than {limit} s", job.seed);
        // If it ended just now, that is as well.
        let _ = job.child.kill();
    }
    (over, job)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_s_last_line_tells_how_much_was_simulated() {
        assert_eq!(simulated("PROBLEM x\ntrace 00 entropy 11 events 5 simulated_s 67\n"), 67);
        assert_eq!(simulated("PANIC on b11"), 0);
    }
}
