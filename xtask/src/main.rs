//! Chores of the repository, run as `cargo xtask <chore>`. Each check prints what is wrong, where, and exits with 1.

mod dependencies;
mod fuzz;
mod instructions;
mod layers;
mod mutants;
mod sim;
mod tidy;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const HELP: &str = "\
cargo xtask <chore>

  layers   hold the crates' dependencies against the layering
  tidy     hold every source file against the house rules
  deps     hold what the lock file brings in against the list of licences and sources
  check    all three
  crash    crash and damage logs, and count what is lost; `cargo xtask crash --help`
  chaos    break a cluster of real processes and check what it promised; `cargo xtask chaos --help`
  mutants  put known bugs back in and look whether the tests find them; `--list` names them
  sim      run a whole cluster on simulated time, network and disk; `cargo xtask sim --help`
  instructions  count what the hot paths execute, under valgrind, against bench/instructions.txt; `--record` writes it
  docs     write the documents that are made from the code
  fuzz     give every decoder bytes that it must survive: --minutes M (of a processor, for each), --target T, --disks-only, --merge";

fn main() -> ExitCode {
    let chore = std::env::args().nth(1).unwrap_or_default();
    let root = root();
    let problems = match chore.as_str() {
        "layers" => layers::check(&root),
        "tidy" => tidy::check(&root),
        "deps" => dependencies::check(&root),
        "check" => {
            [layers::check, tidy::check, dependencies::check].iter().flat_map(|check| check(&root)).collect()
        }
        "mutants" => mutants::run(&root, std::env::args().skip(2)),
        "instructions" => instructions::run(&root, &std::env::args().skip(2).collect::<Vec<_>>()),
        "docs" => write_docs(&root),
        "crash" => vec![tool(&root, "sim", "vltava-crash")],
        "chaos" => vec![tool(&root, "release", "vltava-chaos")],
        "sim" => vec![tool(&root, sim::profile(std::env::args().skip(2)), "vltava-sim")],
        "fuzz" => match fuzz::options(&std::env::args().skip(2).collect::<Vec<_>>()) {
            Ok(options) => fuzz::run(&root, &options),
            Err(problem) => vec![problem],
        },
        _ => {
            eprintln!("{HELP}");
            return ExitCode::from(2);
        }
    };
    for problem in &problems {
        eprintln!("{problem}");
    }
    if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Writes what the code says of itself into `docs/`; tests beside that code hold the files up to date.
fn write_docs(root: &Path) -> Vec<String> {
    let printed = Command::new(env!("CARGO"))
        .current_dir(root)
        .args(["run", "--quiet", "-p", "vltava-node", "--example", "configuration_reference"])
        .output();
    let written = match printed {
        Ok(printed) if printed.status.success() => {
            fs::write(root.join("docs/configuration.md"), printed.stdout)
        }
        Ok(printed) => return vec![String::from_utf8_lossy(&printed.stderr).into_owned()],
        Err(error) => Err(error),
    };
    written.err().map(|error| format!("docs/configuration.md: {error}")).into_iter().collect()
}

/// Becomes another tool, built in its profile; returns what went wrong when it can't.
fn tool(root: &Path, profile: &str, name: &str) -> String {
    let mut build = Command::new(env!("CARGO"));
    let built = build.current_dir(root).args(["build", "--profile", profile, "--quiet", "-p", name]).status();
    if !built.is_ok_and(|status| status.success()) {
        return format!("{name} does not build");
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let tool = target.join(profile).join(name);
    // Its exit code and the signals to it are its own.
    let error = Command::new(&tool).args(std::env::args_os().skip(2)).exec();
    format!("{}: {error}", tool.display())
}

/// The workspace's folder.
fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("this crate lies below the workspace").to_path_buf()
}
