//! Puts known bugs back in, one after the other, and looks whether the tests find them.
//!
//! One build holds them all (the feature `seeded-bugs` of the model); a variable plants one when a harness starts. A harness
//! finds a bug when it fails with it; that it passes without is seen first.

#[path = "../../model/src/seeded/bugs.rs"]
mod bugs;
mod plan;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bugs::{Harm, SeededBug};
use plan::{Harness, Recipe, SLICE, harnesses};

/// The variable that names the bug, as in the model.
const VARIABLE: &str = "VLTAVA_BUG";

const HELP: &str = "\
cargo xtask mutants [--bug NAME]... [--slice] [--list]

  --bug NAME   only this bug
  --slice      only a handful that is found within seconds
  --list       say which bugs there are and who is to find them";

/// Does what the arguments say; returns what is wrong.
pub fn run(root: &Path, arguments: impl Iterator<Item = String>) -> Vec<String> {
    let chosen = match choose(arguments) {
        Ok(Choice::Run(chosen)) => chosen,
        Ok(Choice::List) => {
            list();
            return Vec::new();
        }
        Err(problem) => return vec![format!("{problem}\n{HELP}")],
    };
    let found = Builds::new(root, &chosen).and_then(|builds| find(&builds, &chosen));
    match found {
        Ok(findings) => judge(&findings),
        Err(problem) => vec![problem],
    }
}

enum Choice {
    List,
    Run(Vec<SeededBug>),
}

fn choose(mut arguments: impl Iterator<Item = String>) -> Result<Choice, String> {
    let mut chosen = Vec::new();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--list" => return Ok(Choice::List),
            "--slice" => chosen.extend(SLICE),
            "--bug" => {
                let name = arguments.next().ok_or("--bug needs a name")?;
                let bug = SeededBug::ALL.iter().find(|bug| bug.name() == name);
                chosen.push(*bug.ok_or_else(|| format!("no bug is called {name:?}; --list names them"))?);
            }
            _ => return Err(format!("what is {argument:?}?")),
        }
    }
    Ok(Choice::Run(if chosen.is_empty() { SeededBug::ALL.to_vec() } else { chosen }))
}

fn list() {
    for bug in SeededBug::ALL {
        let names: Vec<_> = harnesses(*bug).iter().map(|harness| harness.recipe().name).collect();
        println!("{:<30} {:<8} {}; {}", bug.name(), bug.row(), bug.what(), names.join(", then "));
    }
}

/// The harnesses' programs, built once for all bugs.
struct Builds {
    root: PathBuf,
    runs: PathBuf,
    programs: BTreeMap<String, PathBuf>,
}

impl Builds {
    fn new(root: &Path, chosen: &[SeededBug]) -> Result<Self, String> {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let target = target.join("mutants");
        let mut folders: Vec<_> =
            chosen.iter().flat_map(|bug| harnesses(*bug)).map(|harness| harness.recipe().folder).collect();
        folders.sort_unstable();
        folders.dedup();
        let mut programs = BTreeMap::new();
        for folder in folders {
            programs.extend(build(root, &target, folder)?);
        }
        let runs = target.join("runs");
        fs::create_dir_all(&runs).map_err(|error| format!("{}: {error}", runs.display()))?;
        Ok(Self { root: root.to_path_buf(), runs, programs })
    }

    /// Runs a harness with a bug, or without one.
    fn run(&self, harness: Harness, bug: Option<SeededBug>, seeds: Option<u32>) -> Result<Outcome, String> {
        let recipe = harness.recipe();
        let program = self.programs.get(recipe.target);
        let program = program.ok_or_else(|| format!("{} was not built", recipe.target))?;
        let log = self.runs.join(format!("{}-{}.log", recipe.target, bug.map_or("none", SeededBug::name)));
        let begun = Instant::now();
        let ended = start(&self.root, program, &recipe, bug, seeds, &log)
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let took = begun.elapsed();
        let said = fs::read(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let said = String::from_utf8_lossy(&said);
        if !said.contains(&format!("running {} test", recipe.tests.len())) {
            return Err(format!("{} does not have all tests it should: see {}", recipe.name, log.display()));
        }
        Ok(Outcome { ended, took, seed: failing_seed(&said) })
    }
}

/// What a run of a harness came to.
struct Outcome {
    ended: Ended,
    took: Duration,
    /// The seed that failed.
    seed: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ended {
    Passed,
    Failed,
    GivenUp,
}

/// Builds a crate's tests with all bugs in; returns its programs by the names of their targets.
fn build(root: &Path, target: &Path, folder: &str) -> Result<Vec<(String, PathBuf)>, String> {
    let package = format!("vltava-{folder}");
    let features = "vltava-model/seeded-bugs";
    let output = Command::new(env!("CARGO"))
        .current_dir(root)
        .args(["test", "--no-run", "--tests", "-p", &package, "--features", features])
        .args(["--message-format", "json-render-diagnostics", "--target-dir"])
        .arg(target)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("{package} does not build with {features}"));
    }
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let artifacts = lines.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    Ok(artifacts.filter_map(|artifact| program_of(&artifact)).collect())
}

fn program_of(artifact: &serde_json::Value) -> Option<(String, PathBuf)> {
    let program = artifact.get("executable")?.as_str()?;
    let name = artifact.get("target")?.get("name")?.as_str()?;
    Some((name.to_owned(), PathBuf::from(program)))
}

fn start(
    root: &Path,
    program: &Path,
    recipe: &Recipe,
    bug: Option<SeededBug>,
    seeds: Option<u32>,
    log: &Path,
) -> io::Result<Ended> {
    let said = File::create(log)?;
    let mut command = Command::new(program);
    command.current_dir(root.join(recipe.folder)).args(["--test-threads=1", "--exact"]).args(recipe.tests);
    command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
    // Random cases repeat, and a failing one need not be made small.
    command.env("PROPTEST_RNG_SEED", "1").env("PROPTEST_MAX_SHRINK_ITERS", "0");
    command.env_remove(VARIABLE);
    if let Some(bug) = bug {
        command.env(VARIABLE, bug.name());
    }
    if let Some((name, most)) = recipe.seeds {
        command.env(name, seeds.unwrap_or(most).to_string());
    }
    let mut child = command.spawn()?;
    let until = Instant::now() + recipe.patience;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(if status.success() { Ended::Passed } else { Ended::Failed });
        }
        if Instant::now() >= until {
            child.kill()?;
            child.wait()?;
            return Ok(Ended::GivenUp);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The seed that a harness says it failed with, or how many random cases it had passed.
fn failing_seed(said: &str) -> Option<u32> {
    said.lines().find_map(|line| {
        let line = line.trim();
        let rest = line.strip_prefix("seed ").or_else(|| line.strip_prefix("successes: "))?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    })
}

/// What became of a bug.
struct Finding {
    bug: SeededBug,
    /// Who found it, after how long and with which seed.
    found: Option<(Harness, Outcome)>,
}

fn find(builds: &Builds, chosen: &[SeededBug]) -> Result<Vec<Finding>, String> {
    let mut sound: Vec<Harness> = Vec::new();
    let mut findings = Vec::new();
    print_row(&["bug", "row", "loses data", "found by", "seeds", "seconds"]);
    print_row(&["---"; 6]);
    for bug in chosen {
        let mut finding = Finding { bug: *bug, found: None };
        for harness in harnesses(*bug) {
            if !sound.contains(harness) {
                must_pass(builds, *harness)?;
                sound.push(*harness);
            }
            let outcome = builds.run(*harness, Some(*bug), None)?;
            if outcome.ended == Ended::Failed {
                finding.found = Some((*harness, outcome));
                break;
            }
        }
        finding.print();
        findings.push(finding);
    }
    Ok(findings)
}

/// A harness that fails anyway finds nothing.
fn must_pass(builds: &Builds, harness: Harness) -> Result<(), String> {
    let outcome = builds.run(harness, None, Some(20))?;
    match outcome.ended {
        Ended::Passed => Ok(()),
        Ended::Failed | Ended::GivenUp => {
            let name = harness.recipe().name;
            Err(format!("{name} does not pass without a bug: see {}", builds.runs.display()))
        }
    }
}

impl Finding {
    fn print(&self) {
        let loses = if self.bug.harm() == Harm::LosesData { "yes" } else { "no" };
        let (by, seeds, seconds) = match &self.found {
            None => ("**nobody**", String::new(), String::new()),
            Some((harness, outcome)) => {
                let seeds = outcome.seed.map_or(String::new(), |seed| (seed + 1).to_string());
                (harness.recipe().name, seeds, format!("{:.1}", outcome.took.as_secs_f64()))
            }
        };
        print_row(&[&format!("`{}`", self.bug.name()), self.bug.row(), loses, by, &seeds, &seconds]);
    }
}

fn print_row(cells: &[&str]) {
    println!("| {} |", cells.join(" | "));
}

/// All bugs that lose data must be found, and 95 of 100 of all.
fn judge(findings: &[Finding]) -> Vec<String> {
    let missed: Vec<_> = findings.iter().filter(|finding| finding.found.is_none()).collect();
    println!("\n{} of {} found", findings.len() - missed.len(), findings.len());
    let losing = missed.iter().filter(|finding| finding.bug.harm() == Harm::LosesData);
    let mut problems: Vec<_> =
        losing.map(|finding| format!("{} loses data, and nobody noticed", finding.bug.name())).collect();
    if missed.len() * 100 > findings.len() * 5 {
        problems.push(format!("{} of {} were not found", missed.len(), findings.len()));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(bug: SeededBug, is_found: bool) -> Finding {
        let outcome = Outcome { ended: Ended::Failed, took: Duration::ZERO, seed: Some(3) };
        Finding { bug, found: is_found.then_some((Harness::Partition, outcome)) }
    }

    #[test]
    fn a_missed_bug_that_loses_data_is_a_problem_and_so_are_many_of_others() {
        let all = |missed: &[SeededBug]| -> Vec<Finding> {
            SeededBug::ALL.iter().map(|bug| finding(*bug, !missed.contains(bug))).collect()
        };
        assert_eq!(judge(&all(&[])), Vec::<String>::new());
        assert_eq!(judge(&all(&[SeededBug::NeverProposesAgain])), Vec::<String>::new());
        assert_eq!(judge(&all(&[SeededBug::AcksBeforeSync])).len(), 1);
        assert_eq!(judge(&[finding(SeededBug::NeverProposesAgain, false)]).len(), 1);
    }

    #[test]
    fn seeds_are_read_from_what_harnesses_print() {
        assert_eq!(failing_seed("thread 'x' panicked\nseed 12: I10: lost\n"), Some(12));
        assert_eq!(failing_seed("\tsuccesses: 7\n"), Some(7));
        assert_eq!(failing_seed("test result: ok"), None);
    }

    #[test]
    fn arguments_choose_bugs() {
        let chosen = |line: &str| match choose(line.split_whitespace().map(str::to_owned)) {
            Ok(Choice::Run(chosen)) => chosen.len(),
            Ok(Choice::List) => 0,
            Err(_) => usize::MAX,
        };
        assert_eq!(chosen(""), SeededBug::ALL.len());
        assert_eq!(chosen("--bug AcksBeforeSync"), 1);
        assert_eq!(chosen("--slice"), SLICE.len());
        assert_eq!(chosen("--list"), 0);
        assert_eq!(chosen("--bug Nonsense"), usize::MAX);
    }
}
