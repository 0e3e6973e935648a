//! A cage for the run: network, mounts and processes of its own, so that whatever happens to this program the kernel takes
//! all of it away. Where that is not allowed the run goes on outside, with less.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Fallible;

/// Tells the program inside that it is inside.
const INSIDE: &str = "VLTAVA_CHAOS_INSIDE";

const NAMESPACES: [&str; 7] =
    ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation=private"];

/// Whether this process is inside.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Whether a cage can be had here.
pub fn is_allowed() -> bool {
    let tried = Command::new("unshare").args(NAMESPACES).args(["ip", "link", "set", "lo", "up"]).output();
    tried.is_ok_and(|tried| tried.status.success())
}

/// Runs this program again, with the same arguments, seed and binary, inside. Returns only when that fails.
pub fn enter(seed: u64, binary: &Path) -> Box<dyn std::error::Error + Send + Sync> {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return error.into(),
    };
    Command::new("unshare")
        .args(NAMESPACES)
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .env("VLTAVA_CHAOS_SEED", seed.to_string())
        .env("VLTAVA_BIN", binary)
        .exec()
        .into()
}

/// What every cage needs: a loopback that works.
///
/// # Errors
/// When it can't be had.
pub fn furnish() -> Fallible<()> {
    run("ip", &["link", "set", "lo", "up"])
}

/// Runs a tool of the system.
///
/// # Errors
/// When it fails, with what it said.
pub fn run(tool: &str, args: &[&str]) -> Fallible<()> {
    let ran = Command::new(tool).args(args).stdin(Stdio::null()).output();
    let ran = ran.map_err(|error| format!("{tool} does not run: {error}"))?;
    if ran.status.success() {
        return Ok(());
    }
    Err(format!("{tool} {}: {}", args.join(" "), String::from_utf8_lossy(&ran.stderr).trim()).into())
}
