//! Chaos on a cluster of real processes: networks that cut, disks that forget, nodes that die; and clients that write down
//! what they saw, so that a checker can say whether every promise held.
//!
//! | module | holds |
//! |---|---|
//! | `args` | what a run is told |
//! | `cage` | namespaces of the run's own, so that nothing is left behind |
//! | `site` | where files lie |
//! | `net` | the network between nodes, and what can be done to it |
//! | `disk` | disks that lose what was not synced, fail, fill up, slow down |
//! | `cluster` | nodes as processes |
//! | `eyes` | what can be seen of the cluster |
//! | `faults` | what can be done to it, one kind a file |
//! | `plan`, `nemesis` | what happens when, drawn from a seed; and letting it happen |
//! | `weather` | what stood in the way of writing, and when |
//! | `load` | clients |
//! | `finale` | healing, waiting, the last reading, the disks |
//! | `scribe`, `summary` | the history, the log, the words at the end |

mod args;
mod cage;
mod cluster;
mod disk;
mod eyes;
mod faults;
mod finale;
mod load;
mod nemesis;
mod net;
mod plan;
mod scribe;
mod site;
mod summary;
mod weather;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use tokio::runtime::Runtime;
use vltava_history::check::{self, Verdict};
use vltava_history::report;

use args::{Args, NetworkKind};
use cluster::{Cluster, Shape};
use eyes::Eyes;
use faults::{Field, KINDS};
use load::{Load, LoadOptions};
use nemesis::{Nemesis, Tally};
use net::{Namespaces, Proxies, Wires};
use plan::Strike;
use scribe::Scribe;
use site::Site;
use summary::Summary;

/// Whatever fails ends a run; it is no violation, but no success either.
pub type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How a run ended.
enum End {
    Passed,
    Failed,
    Interrupted,
}

fn main() -> ExitCode {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        // A disk without its thread would hang whoever uses it: better no run than half of one.
        std::process::abort();
    }));
    let mut args = Args::parse();
    let kinds: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
    if let Some(unknown) = args.faults.iter().find(|name| *name != "none" && !kinds.contains(&name.as_str()))
    {
        eprintln!("no fault is named `{unknown}`; there are {}", kinds.join(", "));
        return ExitCode::from(2);
    }
    // Inside the cage the same seed must be drawn again: it is handed on in the environment.
    let seed = args.seed.or_else(|| std::env::var("VLTAVA_CHAOS_SEED").ok()?.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    args.seed = Some(seed);
    if args.plan {
        print!("{}", describe(&plan::draw(&args.wishes(seed, true))));
        return ExitCode::SUCCESS;
    }
    match start(&args, seed) {
        Ok(End::Passed) => ExitCode::SUCCESS,
        Ok(End::Failed) => ExitCode::from(1),
        Ok(End::Interrupted) => ExitCode::from(130),
        Err(error) => {
            eprintln!("the run itself failed: {error}");
            ExitCode::from(2)
        }
    }
}

/// Builds what is to be tested, enters the cage if there can be one, and runs.
fn start(args: &Args, seed: u64) -> Fallible<End> {
    if cage::is_inside() {
        cage::furnish()?;
        return run(args, seed);
    }
    let binary = binary(args)?;
    if cage::is_allowed() {
        return Err(cage::enter(seed, &binary));
    }
    if args.network == NetworkKind::Netns {
        return Err("network namespaces are not allowed here: they need root".into());
    }
    eprintln!("NO NAMESPACES of its own for this run: they need root");
    run(&Args { bin: Some(binary), ..args.clone() }, seed)
}

/// The binary under test.
fn binary(args: &Args) -> Fallible<PathBuf> {
    if let Some(binary) = &args.bin {
        return Ok(fs::canonicalize(binary).map_err(|error| format!("{}: {error}", binary.display()))?);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("this crate lies below the workspace")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    let built =
        build.current_dir(root).args(["build", "--release", "--quiet", "-p", "vltava-cli"]).status()?;
    if !built.success() {
        return Err("the binary does not build".into());
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(fs::canonicalize(target.join("release/vltava"))?)
}

fn describe(plan: &[Strike]) -> String {
    let mut text = String::new();
    for strike in plan {
        let _ = writeln!(
            text,
            "{:>8.2}s {} for {:.2} s",
            strike.at.as_secs_f64(),
            strike.kind.name,
            strike.lasts.as_secs_f64()
        );
    }
    text
}

fn wires(args: &Args, nodes: Vec<u32>, runtime: &Runtime) -> Fallible<Box<dyn Wires>> {
    if args.network != NetworkKind::Proxy && cage::is_inside() {
        return Ok(Box::new(Namespaces::new(nodes)?));
    }
    Ok(Box::new(Proxies::new(nodes, runtime.handle().clone())?))
}

/// How long a fresh cluster may take to be ready.
const START_LIMIT: Duration = Duration::from_secs(90);

fn run(args: &Args, seed: u64) -> Fallible<End> {
    // Nodes take relative paths for relative to their config files.
    let parent = std::path::absolute(args.dir.clone().unwrap_or_else(std::env::temp_dir))?;
    let mut site = Site::make(&parent, seed)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let stop = Arc::new(AtomicBool::new(false));
    runtime.spawn(watch_for_interrupts(stop.clone()));

    let shape = Shape {
        controllers: args.controllers,
        brokers: args.brokers,
        binary: args.bin.clone().ok_or("the binary was not found outside the cage")?,
        disks: args.disk,
        overrides: args.overrides.clone(),
    };
    let wires = wires(args, (1..=shape.controllers + shape.brokers).collect(), &runtime)?;
    let network = wires.describe();
    let cluster = Cluster::prepare(site.path(), &shape, wires)?;
    let lossy = cluster.nodes().iter().all(|node| node.disk.is_lossy());
    let plan = plan::draw(&args.wishes(seed, lossy));
    let title = format!(
        "chaos: {} controllers, {} brokers, {:.1} minutes, seed {seed}; network: {network}; disks: {}",
        args.controllers,
        args.brokers,
        args.minutes,
        if lossy { "lose what is not synced, fail, fill up, slow down (FUSE)" } else { "plain" }
    );
    let version = version(&shape.binary)?;
    eprintln!("{title}\nbinary: {version}; files: {}\nplan: {} faults", site.path().display(), plan.len());
    fs::write(site.path().join("plan.txt"), describe(&plan))?;
    let history = site.path().join("history.vlh");
    let scribe = Scribe::new(&history, &site.path().join("run.log"), seed, &title, &version, !args.quiet)?;
    let run = Run { args, seed, runtime: &runtime, scribe: Arc::new(scribe), stop: &stop };
    let outcome = run.play(cluster, &plan, &history);
    let keep = args.keep || !matches!(outcome, Ok(End::Passed | End::Interrupted));
    if keep {
        site.keep()?;
        eprintln!("all files are kept in {}", site.path().display());
    }
    // Clients of a run that was cut short wait for a cluster that is gone: they end with the process.
    std::mem::forget(runtime);
    outcome
}

async fn watch_for_interrupts(stop: Arc<AtomicBool>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    loop {
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
        }
        if stop.swap(true, Ordering::SeqCst) {
            // Twice: nothing is tidied up any more; inside the cage the kernel does it.
            std::process::exit(130);
        }
        eprintln!("interrupted: ending everything (once more: at once)");
    }
}

fn version(binary: &Path) -> Fallible<String> {
    let said = Command::new(binary).arg("--version").output();
    let said = said.map_err(|error| format!("{} does not run: {error}", binary.display()))?;
    Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned())
}

struct Run<'a> {
    args: &'a Args,
    seed: u64,
    runtime: &'a Runtime,
    scribe: Arc<Scribe>,
    stop: &'a AtomicBool,
}

impl Run<'_> {
    fn play(&self, mut cluster: Cluster, plan: &[Strike], history: &Path) -> Fallible<End> {
        let nodes: Vec<u32> = cluster.nodes().iter().map(|node| node.id).collect();
        for node in nodes {
            cluster.start(node)?;
        }
        let servers = cluster.servers();
        let eyes = Eyes::new(self.runtime.handle().clone(), &servers)?;
        let mut field = Field::new(cluster, eyes);
        let outcome = self.play_on(&mut field, servers, plan, history);
        field.over.store(true, Ordering::SeqCst);
        if !matches!(outcome, Ok(End::Passed | End::Interrupted)) {
            self.keep_disks(&mut field, history)?;
        }
        outcome
    }

    fn play_on(&self, field: &mut Field, servers: String, plan: &[Strike], history: &Path) -> Fallible<End> {
        finale::wait_ready(field, START_LIMIT)?;
        let options =
            LoadOptions { servers, rate: self.args.rate, partitions: self.args.partitions, seed: self.seed };
        let load = self.runtime.block_on(Load::start(options.clone(), self.scribe.clone()))?;
        self.scribe.say("the load runs");
        let start = Instant::now();
        let end = start + self.args.span();
        let tally = Nemesis::new(field, &self.scribe).run(plan, start, end, self.stop)?;
        if self.stop.load(Ordering::SeqCst) {
            return Ok(End::Interrupted);
        }
        finale::heal(field)?;
        let limit = Duration::from_secs(self.args.whole_within);
        let whole_after = finale::wait_whole(field, &load, &self.scribe, limit)?;
        let compared = finale::conclude(field, load, &options, &self.scribe, self.runtime)?;
        let verdict = check::check_file(history, check::Options::default())?;
        self.tell(&verdict, &tally, field, &compared, whole_after, history)
    }

    fn tell(
        &self,
        verdict: &Verdict,
        tally: &Tally,
        field: &Field,
        compared: &finale::Compared,
        whole_after: Option<Duration>,
        history: &Path,
    ) -> Fallible<End> {
        let violations = self.scribe.violations();
        let summary = Summary { verdict, tally, field, compared, whole_after, violations: &violations };
        let text = summary.text();
        println!("{text}");
        fs::write(history.with_file_name("summary.txt"), &text)?;
        let page = history.with_file_name("report.html");
        fs::write(&page, report::html(verdict))?;
        if let Some(copy) = &self.args.report {
            fs::copy(&page, copy).map_err(|error| format!("{}: {error}", copy.display()))?;
        }
        if summary.passed() {
            return Ok(End::Passed);
        }
        eprintln!("the same faults again: {}", self.args.again(self.seed));
        Ok(End::Failed)
    }

    /// Copies what is on the disks to where it outlives this process.
    fn keep_disks(&self, field: &mut Field, history: &Path) -> Fallible<()> {
        field.cluster.end();
        for node in field.cluster.nodes() {
            node.disk.export(&history.with_file_name(format!("kept{}", node.id)))?;
        }
        Ok(())
    }
}
