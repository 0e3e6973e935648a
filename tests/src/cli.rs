//! The binary: built once, then run as a user runs it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// How long one command may take before it is killed.
const LIMIT: Duration = Duration::from_secs(90);

/// The path of the binary: `VLTAVA_BIN`, or built from this tree in the profile of the tests.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("VLTAVA_BIN") {
        Some(path) => PathBuf::from(path),
        None => build(),
    })
}

fn build() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie below the workspace");
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(root).args(["build", "--quiet", "-p", "vltava-cli"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    assert!(command.status().expect("cargo runs").success(), "the binary does not build");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    target.join(if cfg!(debug_assertions) { "debug" } else { "release" }).join("vltava")
}

/// What a run of the command line printed.
#[derive(Debug)]
pub struct Ran {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    /// Standard output of a run that must have succeeded.
    ///
    /// # Panics
    /// When it failed.
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "failed: {}\n{}", self.out, self.err);
        self.out
    }

    /// Standard output as JSON, of a run that must have succeeded.
    ///
    /// # Panics
    /// When it failed or printed no JSON.
    pub fn json(self) -> serde_json::Value {
        let out = self.ok();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("no JSON: {error}\n{out}"))
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs the command line to its end, with `input` on standard input.
///
/// # Panics
/// When the binary can't be run at all.
pub fn run(servers: &str, args: &[&str], input: &[u8]) -> Ran {
    let mut child = command(servers, args).stdin(Stdio::piped()).spawn().expect("the binary runs");
    let mut stdin = child.stdin.take().expect("standard input was piped");
    let input = input.to_vec();
    // A pipe holds little: write beside the reading.
    let writer = std::thread::spawn(move || {
        // The child may end before it has read all.
        let _ = stdin.write_all(&input);
    });
    // A command that hangs is a failure like any other: it must not hang the tests.
    let id = Pid::from_child(&child);
    let ended = Arc::new((Mutex::new(false), Condvar::new()));
    let watchdog = std::thread::spawn({
        let ended = ended.clone();
        move || {
            let guard = ended.0.lock().expect("nobody panics with it");
            let (guard, _) =
                ended.1.wait_timeout_while(guard, LIMIT, |ended| !*ended).expect("nobody panics with it");
            if !*guard {
                let _ = kill_process(id, Signal::KILL);
            }
        }
    });
    let output = child.wait_with_output().expect("the binary ends");
    *ended.0.lock().expect("nobody panics with it") = true;
    ended.1.notify_all();
    watchdog.join().expect("the watchdog does not panic");
    writer.join().expect("the writer does not panic");
    output.into()
}

/// The command line, ready to be spawned.
pub fn command(servers: &str, args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(args).env("VLTAVA_SERVER", servers).env_remove("VLTAVA_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}
