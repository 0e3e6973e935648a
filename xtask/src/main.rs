//! Chores of the repository, run as `cargo xtask <chore>`. Each check prints what is wrong, where, and exits with 1.

mod dependencies;
mod layers;
mod tidy;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const HELP: &str = "\
cargo xtask <chore>

  layers   hold the crates' dependencies against the layering
  tidy     hold every source file against the house rules
  deps     hold what the lock file brings in against the list of licences and sources
  check    all three
  docs     write the documents that are made from the code";

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
        "docs" => write_docs(&root),
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

/// The workspace's folder.
fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("this crate lies below the workspace").to_path_buf()
}
