//! Runs the fuzz targets under libFuzzer, one after the other, and tells what came of it.
//!
//! The compiler's own passes instrument the code, so a stable toolchain will do; a C++ compiler builds libFuzzer.
//! Knows nothing of the targets but that each has a folder in `fuzz/corpus/`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What to run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// Minutes of a processor for each target, at least one: on a busy machine they take longer than the clock's.
    pub minutes: u64,
    /// Only this one.
    pub target: Option<String>,
    /// Without the targets that take the code of brokers and controllers to build.
    pub disks_only: bool,
    /// Afterwards, keep what adds coverage in the committed corpora, and no more.
    pub merge: bool,
}

/// How the compiler is to instrument everything, dependencies included.
const INSTRUMENT: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Ccodegen-units=1 --cfg fuzzing";
/// Inputs are not made longer than this.
const INPUT_MAX: u32 = 8192;
/// What a target may take: none needs a tenth of it.
const MEMORY_MIB: u32 = 2048;
/// Seconds for one input.
const TIMEOUT: u32 = 20;

/// Targets that the build without brokers and controllers lacks.
const CLUSTER: &[&str] = &["config", "messages", "metadata", "raft", "wal"];

/// One target's outcome.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Row {
    executions: u64,
    coverage: u64,
    features: u64,
    crashes: Vec<String>,
    /// What it took of processors.
    took: Duration,
}

/// Reads the words behind `cargo xtask fuzz`.
///
/// # Errors
/// When they make no sense.
pub fn options(words: &[String]) -> Result<Options, String> {
    let mut options = Options { minutes: 1, ..Options::default() };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--minutes" => {
                let minutes: NonZeroU64 =
                    value()?.parse().map_err(|_| "--minutes takes a whole number from 1".to_owned())?;
                options.minutes = minutes.get();
            }
            "--target" => options.target = Some(value()?.clone()),
            "--disks-only" => options.disks_only = true,
            "--merge" => options.merge = true,
            _ => return Err(format!("{word} is none of --minutes M, --target T, --disks-only, --merge")),
        }
    }
    Ok(options)
}

/// Builds, runs, and prints a table; returns what is wrong.
pub fn run(root: &Path, options: &Options) -> Vec<String> {
    match try_run(root, options) {
        Ok(problems) => problems,
        Err(problem) => vec![problem],
    }
}

fn try_run(root: &Path, options: &Options) -> Result<Vec<String>, String> {
    let targets = targets(root, options)?;
    let program = build(root, options)?;
    let mut problems = Vec::new();
    println!(
        "{:<12}{:>10}{:>14}{:>10}{:>10}{:>10}",
        "target", "minutes", "executions", "coverage", "features", "crashes"
    );
    for target in targets {
        let row = fuzz(root, &program, &target, options)?;
        let Row { executions, coverage, features, crashes, took } = &row;
        let minutes = took.as_secs_f64() / 60.0;
        let found = crashes.len();
        println!("{target:<12}{minutes:>10.1}{executions:>14}{coverage:>10}{features:>10}{found:>10}");
        problems.extend(crashes.iter().map(|crash| {
            format!(
                "{target} fails with {crash}: mend its cause, and keep the input in fuzz/corpus/{target}/"
            )
        }));
        if options.merge && crashes.is_empty() {
            merge(root, &program, &target)?;
        }
    }
    Ok(problems)
}

fn targets(root: &Path, options: &Options) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(root.join("fuzz/corpus")).map_err(|error| format!("fuzz/corpus: {error}"))?;
    let mut all: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    all.sort();
    all.retain(|name| !options.disks_only || !CLUSTER.contains(&name.as_str()));
    match &options.target {
        None => Ok(all),
        Some(name) if all.contains(name) => Ok(vec![name.clone()]),
        Some(name) => Err(format!("there is no target {name}, but {}", all.join(", "))),
    }
}

/// The program with all targets.
fn build(root: &Path, options: &Options) -> Result<PathBuf, String> {
    let host = host()?;
    let out = root.join("target/fuzz");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root.join("fuzz/libfuzzer")).env("RUSTFLAGS", INSTRUMENT);
    // A target that is named keeps build scripts and macros free of the instrumentation.
    cargo.args(["build", "--release", "--quiet", "--target", &host, "--target-dir"]).arg(&out);
    if options.disks_only {
        cargo.arg("--no-default-features");
    }
    match cargo.status() {
        Ok(status) if status.success() => Ok(out.join(host).join("release/vltava-libfuzzer")),
        Ok(_) => Err("the targets don't build".to_owned()),
        Err(error) => Err(format!("cargo: {error}")),
    }
}

fn host() -> Result<String, String> {
    let told = Command::new("rustc").arg("-vV").output().map_err(|error| format!("rustc: {error}"))?;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let host = told.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or("rustc does not tell its host".to_owned())
}

/// Where what is found is collected, beside the committed corpus.
fn found(root: &Path, target: &str) -> PathBuf {
    root.join("target/fuzz/corpus").join(target)
}

/// Runs a target, anew where the clock was quicker than the processor, until it has had its time.
fn fuzz(root: &Path, program: &Path, target: &str, options: &Options) -> Result<Row, String> {
    let all = Duration::from_secs(options.minutes * 60);
    let mut row = Row::default();
    while row.took < all && row.crashes.is_empty() {
        let left = (all - row.took).as_secs().max(1);
        let more = turn(root, program, target, left)?;
        if more.took.is_zero() {
            return Err(format!("{target}: ended without having worked"));
        }
        row.add(more);
    }
    Ok(row)
}

/// Runs a target for so many seconds by the clock.
fn turn(root: &Path, program: &Path, target: &str, seconds: u64) -> Result<Row, String> {
    let failed = |error: std::io::Error| format!("{target}: {error}");
    let crashes = root.join("target/fuzz/crashes");
    let (found, seeds) = (found(root, target), root.join("target/fuzz/seeds").join(target));
    for dir in [&crashes, &found, &seeds] {
        fs::create_dir_all(dir).map_err(failed)?;
    }
    let mut child = Command::new(program)
        .env("VLTAVA_FUZZ_TARGET", target)
        .env("VLTAVA_FUZZ_SEEDS", &seeds)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={INPUT_MAX}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
        .arg(format!("-timeout={TIMEOUT}"))
        .arg(format!("-artifact_prefix={}/{target}-", crashes.display()))
        .arg("-print_final_stats=1")
        .args([&found, &seeds, &root.join("fuzz/corpus").join(target)])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let said = child.stderr.take().expect("it was asked for");
    let mut row = Row::default();
    let mut last = Vec::new();
    for line in BufReader::new(said).lines() {
        let line = line.map_err(failed)?;
        row.read(&line);
        last.push(line);
        if last.len() > 60 {
            last.remove(0);
        }
    }
    row.took = processor_time(&child).map_err(failed)?;
    let ended = child.wait().map_err(failed)?;
    if !ended.success() {
        eprintln!("{}", last.join("\n"));
        if row.crashes.is_empty() {
            return Err(format!("{target}: ended with {ended}"));
        }
    }
    Ok(row)
}

/// What a process that has not been waited for took of processors: its time as a user, which the kernel counts in hundredths.
fn processor_time(child: &Child) -> std::io::Result<Duration> {
    let said = fs::read_to_string(format!("/proc/{}/stat", child.id()))?;
    ticks_of(&said).map(|ticks| Duration::from_millis(ticks * 10)).ok_or_else(|| {
        std::io::Error::new(std::io::ErrorKind::InvalidData, format!("/proc/*/stat says {said:?}"))
    })
}

/// The 14th word of `/proc/PID/stat` (proc(5)). The second is a name in brackets that may hold anything.
fn ticks_of(stat: &str) -> Option<u64> {
    let (_, behind_the_name) = stat.rsplit_once(')')?;
    behind_the_name.split_whitespace().nth(11)?.parse().ok()
}

impl Row {
    /// What another turn of the same target came to.
    fn add(&mut self, more: Self) {
        self.executions += more.executions;
        self.coverage = self.coverage.max(more.coverage);
        self.features = self.features.max(more.features);
        self.crashes.extend(more.crashes);
        self.took += more.took;
    }

    /// Picks the figures out of what libFuzzer says.
    fn read(&mut self, line: &str) {
        let mut words = line.split_whitespace().peekable();
        while let Some(word) = words.next() {
            let number = words.peek().and_then(|number| number.parse::<u64>().ok());
            match (word, number) {
                ("cov:", Some(number)) => self.coverage = number,
                ("ft:", Some(number)) => self.features = number,
                ("stat::number_of_executed_units:", Some(number)) => self.executions = number,
                _ => {}
            }
        }
        if let Some((_, path)) = line.split_once("Test unit written to ") {
            self.crashes.push(path.trim().to_owned());
        }
    }
}

/// Adds to the committed corpus what covers more, as small as there is.
fn merge(root: &Path, program: &Path, target: &str) -> Result<(), String> {
    let status = Command::new(program)
        .env("VLTAVA_FUZZ_TARGET", target)
        .args(["-merge=1", "-reduce_inputs=1"])
        .args([root.join("fuzz/corpus").join(target), found(root, target)])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{target}: merging ended with {status}")),
        Err(error) => Err(format!("{target}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn options_are_read_and_nonsense_is_refused() {
        let read = options(&words("--minutes 5 --target log --merge")).unwrap();
        assert_eq!(
            read,
            Options { minutes: 5, target: Some("log".to_owned()), merge: true, disks_only: false }
        );
        assert_eq!(options(&[]).unwrap().minutes, 1);
        for nonsense in ["--minutes", "--minutes x", "--minutes 0", "--fast", "log"] {
            assert!(options(&words(nonsense)).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn figures_are_found_in_what_libfuzzer_says() {
        let mut row = Row::default();
        row.read("#524288 pulse  cov: 1437 ft: 5310 corp: 402/12Kb lim: 4096 exec/s: 21845 rss: 91Mb");
        row.read("stat::number_of_executed_units: 611234");
        row.read("artifact_prefix='x/'; Test unit written to x/log-crash-0abc");
        let crashes = vec!["x/log-crash-0abc".to_owned()];
        let read = Row { executions: 611_234, coverage: 1437, features: 5310, crashes, took: Duration::ZERO };
        assert_eq!(row, read);
        row.add(Row { executions: 1, coverage: 1500, took: Duration::from_secs(3), ..Row::default() });
        assert_eq!(
            (row.executions, row.coverage, row.features, row.took.as_secs()),
            (611_235, 1500, 5310, 3)
        );
    }

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 4242 77 0";
        assert_eq!(ticks_of(stat), Some(4242));
        assert_eq!(ticks_of("7 (a"), None);
        let own = fs::read_to_string("/proc/self/stat").unwrap();
        assert!(ticks_of(&own).is_some(), "{own}");
    }

    #[test]
    fn every_target_has_its_folder() {
        let root = crate::root();
        let all = targets(&root, &Options::default()).unwrap();
        let listed = fs::read_to_string(root.join("fuzz/src/targets/mod.rs")).unwrap();
        let names: Vec<&str> = listed
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Target { name: \"")?.split('"').next())
            .collect();
        assert_eq!(all, names);
        assert!(CLUSTER.iter().all(|name| names.contains(name)));
    }
}
