//! Chores of the repository, run as `cargo xtask <chore>`. Each check prints what is wrong, where, and exits with 1.

mod layers;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HELP: &str = "\
cargo xtask <chore>

  layers   hold the crates' dependencies against the layering
  tidy     hold every source file against the house rules
  check    both";

fn main() -> ExitCode {
    let chore = std::env::args().nth(1).unwrap_or_default();
    let root = root();
    let problems = match chore.as_str() {
        "layers" => layers::check(&root),
        "tidy" => tidy::check(&root),
        "check" => layers::check(&root).into_iter().chain(tidy::check(&root)).collect(),
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

/// The workspace's folder.
fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("this crate lies below the workspace").to_path_buf()
}
