//! Runs many seeds, each in a process of its own: nothing of one run can reach another.

use std::collections::VecDeque;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

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

struct Job {
    seed: u64,
    began: Instant,
    child: Child,
}

/// Runs them; says which failed, and how to run them again.
pub fn search(search: &Search) -> ExitCode {
    let mut waiting: VecDeque<u64> = (search.from..search.from + search.seeds).collect();
    let mut running: Vec<Job> = Vec::new();
    let (mut done, mut failed) = (0, Vec::new());
    let mut told = Instant::now();
    let began = told;
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
            done += 1;
            let seed = job.seed;
            let output = job.child.wait_with_output();
            let text = output.as_ref().map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
            let text = text.unwrap_or_default();
            if !output.is_ok_and(|output| output.status.success()) {
                failed.push(seed);
                println!("FAILED seed {seed}:\n{}", text.lines().take(12).collect::<Vec<_>>().join("\n"));
            }
        }
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            let rate = f64::from(done) / began.elapsed().as_secs_f64();
            eprintln!("{done} of {} seeds, {} failed, {rate:.2} seeds/s", search.seeds, failed.len());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    println!("{done} seeds in {:.1} s, {} failed: {failed:?}", began.elapsed().as_secs_f64(), failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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
