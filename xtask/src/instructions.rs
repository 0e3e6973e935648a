//! Counts the instructions of the hot paths under valgrind, and holds them against what was recorded.
//!
//! Wall time and CPU time swing by half on a shared machine; instructions do not. Each path is run twice, with few and with
//! many repetitions, and the difference divided: what starting costs falls out. Code that looks at the processor (copying,
//! checksums) makes counts differ a little between machines, which the tolerance allows for.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PATHS: &[&str] = &["produce", "append", "replicate", "fetch"];
const FEW: u32 = 200;
const MANY: u32 = 1_200;

/// By how much a count may lie above the recorded one, in percent.
const TOLERANCE: u64 = 8;

/// Where the counts stand: a path and its instructions for one repetition on each line.
const RECORDED: &str = "bench/instructions.txt";

/// Runs the check; with `--record`, writes what it finds instead.
pub fn run(root: &Path, words: &[String]) -> Vec<String> {
    let record = match words {
        [] => false,
        [word] if word == "--record" => true,
        _ => return vec!["usage: cargo xtask instructions [--record]".to_owned()],
    };
    if !Command::new("valgrind").arg("--version").output().is_ok_and(|found| found.status.success()) {
        eprintln!(
            "SKIPPED: valgrind is not installed, so no instructions were counted and nothing was checked"
        );
        return Vec::new();
    }
    let counts = match build(root).and_then(|binary| PATHS.iter().map(|path| count(&binary, path)).collect())
    {
        Ok(counts) => counts,
        Err(problem) => return vec![problem],
    };
    let counts: Vec<(&str, u64)> = PATHS.iter().copied().zip::<Vec<u64>>(counts).collect();
    let file = root.join(RECORDED);
    if record {
        let written = fs::write(&file, text(&counts));
        return written.err().map(|error| format!("{RECORDED}: {error}")).into_iter().collect();
    }
    match fs::read_to_string(&file) {
        Ok(recorded) => compare(&recorded, &counts),
        Err(error) => vec![format!("{RECORDED}: {error}; `cargo xtask instructions --record` writes it")],
    }
}

fn build(root: &Path) -> Result<PathBuf, String> {
    let words = ["build", "--release", "--quiet", "-p", "vltava-bench", "--bin", "vltava-instructions"];
    let built = Command::new(env!("CARGO")).current_dir(root).args(words).status();
    if !built.is_ok_and(|status| status.success()) {
        return Err("vltava-instructions does not build".to_owned());
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join("release/vltava-instructions"))
}

/// Instructions of one repetition.
fn count(binary: &Path, path: &str) -> Result<u64, String> {
    let (few, many) = (collected(binary, path, FEW)?, collected(binary, path, MANY)?);
    match many.checked_sub(few) {
        Some(more @ 1..) => Ok(more / u64::from(MANY - FEW)),
        _ => Err(format!("{path}: {many} instructions for {MANY} repetitions, {few} for {FEW}")),
    }
}

fn collected(binary: &Path, path: &str, times: u32) -> Result<u64, String> {
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*measured*"])
        .arg(binary)
        .args([path, &times.to_string()])
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let told = String::from_utf8_lossy(&run.stderr);
    if !run.status.success() {
        return Err(format!("{path}: {}\n{told}", run.status));
    }
    // As in `==123== Collected : 456`.
    let found = told.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    found.ok_or_else(|| format!("{path}: valgrind did not say how many instructions it saw\n{told}"))
}

fn text(counts: &[(&str, u64)]) -> String {
    let mut text =
        "# Instructions of one repetition, release profile, made by `cargo xtask instructions --record`.\n"
            .to_owned();
    for (path, count) in counts {
        let _ = writeln!(text, "{path} {count}");
    }
    text
}

/// Shows each path beside what was recorded; what became dearer, or is not recorded, is a problem.
fn compare(recorded: &str, counts: &[(&str, u64)]) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, count) in counts {
        let line = recorded.lines().find_map(|line| line.strip_prefix(path)?.strip_prefix(' '));
        let Some(before) = line.and_then(|number| number.trim().parse::<u64>().ok()).filter(|n| *n > 0)
        else {
            problems.push(format!("{RECORDED} has no count of '{path}'"));
            continue;
        };
        let percent = (*count as f64 / before as f64 - 1.0) * 100.0;
        println!("{path:<10} {count:>8} instructions, recorded {before:>8} ({percent:+.1} %)");
        if *count > before + before * TOLERANCE / 100 {
            problems.push(format!(
                "{path} takes {count} instructions, {percent:.1} % more than recorded: make it cheaper, or record it and say why"
            ));
        } else if *count < before - before * TOLERANCE / 100 {
            println!("{path} became cheaper: record it, so that it stays so");
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_dearer_is_a_problem_and_what_did_not_is_none() {
        let recorded = text(&[("append", 1_000), ("fetch", 1_000)]);
        assert!(compare(&recorded, &[("append", 1_079), ("fetch", 100)]).is_empty());
        let problems = compare(&recorded, &[("append", 1_081), ("fetch", 1_000)]);
        assert!(problems.len() == 1 && problems[0].contains("append"), "{problems:?}");
    }

    #[test]
    fn a_path_that_was_not_recorded_is_a_problem() {
        assert_eq!(compare("appendix 5\nfetch x\n", &[("append", 5), ("fetch", 5)]).len(), 2);
    }
}
