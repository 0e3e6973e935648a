//! `vltava dev`: a whole cluster in one process, to learn and to develop against.

mod layout;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use vltava_node::config::{Config, ListenerName};
use vltava_node::fatal::FatalHandler;
use vltava_node::limits::Descriptors;
use vltava_node::shutdown::Shutdown;
use vltava_node::{limits, telemetry};

use crate::allocator;
use crate::exit::{CliError, CliResult};
use crate::output::{self, Rows};
use crate::server::{self, LogFormat, NodeHandle, run_node};

/// After so long without being ready, the cluster says what it waits for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Run a whole cluster in one process, ready in seconds
#[derive(Args, Debug)]
#[command(
    long_about = "\
Runs a cluster in this process: each node is a controller and a broker, as `vltava server` would run it, on ports of \
its own. Says where the nodes listen and what to try next. Ctrl-C stops it; started again, all data is there.",
    after_help = "\
Examples:
  vltava dev
  vltava dev --nodes 1 --data-dir /tmp/vltava
  vltava dev --port-offset 100 --data-dir ./second      a second cluster beside the first

Ports of node I, counted from 0: gRPC 7092+I, controllers 7193+I, HTTP 8092+I."
)]
pub struct DevArgs {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,

    /// Where the nodes keep their data
    #[arg(long, default_value = "./vltava-data", value_name = "DIR")]
    data_dir: PathBuf,

    /// Add this to every port
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u16).range(..=50_000))]
    port_offset: u16,

    /// Write logs for people, or as JSON objects (VLTAVA_LOG says which; warnings by default)
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
}

/// Runs the command.
pub fn run(args: DevArgs) -> CliResult {
    telemetry::init(args.log_format.into(), "warn").map_err(CliError::usage)?;
    let shape = layout::Shape { nodes: args.nodes, port_offset: args.port_offset };
    layout::claim(&args.data_dir, shape)?;
    let configs = layout::configs(&args.data_dir, shape).map_err(CliError::failed)?;
    limits::refuse_huge_pages();
    allocator::give_back_free_pages().map_err(server::no_thread)?;
    let descriptors = Descriptors::share(limits::raise_open_files(), configs.len());
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let runtime = server::runtime(processors.max(2))?;
    let result = runtime.block_on(serve(&args, configs, descriptors));
    runtime.shutdown_timeout(Duration::from_secs(5));
    result
}

async fn serve(args: &DevArgs, configs: Vec<Config>, descriptors: Descriptors) -> CliResult {
    let shutdown = Shutdown::new();
    shutdown.on_signals().map_err(|error| CliError::failed(format!("signals cannot be handled: {error}")))?;
    let begun = Instant::now();
    let mut nodes = Vec::new();
    for config in configs {
        match run_node(config, descriptors, FatalHandler::process()).await {
            Ok(node) => nodes.push(node),
            Err(error) => {
                stop(nodes).await;
                return Err(CliError::failed(error));
            }
        }
    }
    output::write_out(introduction(args, &nodes).as_bytes())?;
    tokio::select! {
        () = wait_ready(&nodes) => {
            let ready = format!("Ready after {:.1} s. Ctrl-C stops the cluster.\n", begun.elapsed().as_secs_f64());
            output::write_out(ready.as_bytes())?;
            shutdown.requested().await;
        }
        _ = shutdown.requested() => {}
    }
    output::write_out(b"\nStopping; a second Ctrl-C ends at once.\n")?;
    stop(nodes).await;
    output::write_out(b"Stopped. `vltava dev` starts it again with all its data.\n")
}

async fn wait_ready(nodes: &[NodeHandle]) {
    for node in nodes {
        while tokio::time::timeout(PATIENCE, node.health().wait_ready()).await.is_err() {
            for (part, state) in node.health().report().components {
                if let Some(reason) = state.reason {
                    eprintln!("node {} is not ready: {part}: {reason}", node.id());
                }
            }
        }
    }
}

/// All brokers at the same time, then all controllers: brokers need a quorum until the last of them has stopped.
async fn stop(nodes: Vec<NodeHandle>) {
    let mut brokers = tokio::task::JoinSet::new();
    for mut node in nodes {
        brokers.spawn(async move {
            node.stop_broker().await;
            node
        });
    }
    let mut controllers = tokio::task::JoinSet::new();
    for node in brokers.join_all().await {
        controllers.spawn(node.stop());
    }
    controllers.join_all().await;
}

fn introduction(args: &DevArgs, nodes: &[NodeHandle]) -> String {
    let mut rows = Rows::new(&["node", "grpc", "controller", "health and metrics"]);
    for node in nodes {
        let at = |name| node.listeners().get(name).map(ToString::to_string).unwrap_or_default();
        rows.add([
            node.id().to_string(),
            at(ListenerName::Grpc),
            at(ListenerName::Controller),
            format!("http://{}", at(ListenerName::Http)),
        ]);
    }
    let (count, noun) = (nodes.len(), if nodes.len() == 1 { "node" } else { "nodes" });
    let table: String = rows.render().lines().map(|line| format!("  {line}\n")).collect();
    let commands = suggestions(args, &program());
    format!(
        "Vltava {version}: {count} {noun} in this process, data in {data}\n\n{table}\nTry in another terminal:\n\n{commands}\n",
        version = env!("CARGO_PKG_VERSION"),
        data = args.data_dir.display(),
    )
}

/// Three commands to try next, that work as they are printed.
fn suggestions(args: &DevArgs, program: &str) -> String {
    let server = match args.port_offset {
        0 => String::new(),
        offset => format!(" --server 127.0.0.1:{}", 7092 + offset),
    };
    let replicas = args.nodes.min(3);
    format!(
        "  {program}{server} topics create my-topic --partitions 3 --replication-factor {replicas}\n  echo 'hello, river' | \
         {program}{server} produce my-topic\n  {program}{server} consume my-topic --from-beginning\n"
    )
}

/// How this program is called from the directory in which it runs.
fn program() -> String {
    let Ok(path) = std::env::current_exe() else {
        return "vltava".into();
    };
    let on_path = std::env::var_os("PATH").is_some_and(|dirs| {
        std::env::split_paths(&dirs)
            .any(|dir| dir.join("vltava").canonicalize().is_ok_and(|found| found == path))
    });
    match std::env::current_dir() {
        _ if on_path => "vltava".into(),
        Ok(dir) => path.strip_prefix(dir).unwrap_or(&path).display().to_string(),
        Err(_) => path.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions_work_as_printed() {
        let args = |nodes, port_offset| DevArgs {
            nodes,
            data_dir: "d".into(),
            port_offset,
            log_format: LogFormat::Human,
        };
        let plain = suggestions(&args(3, 0), "vltava");
        assert!(
            plain.contains("  vltava topics create my-topic --partitions 3 --replication-factor 3\n"),
            "{plain}"
        );
        let other = suggestions(&args(1, 100), "target/release/vltava");
        assert!(other.contains("release/vltava --server 127.0.0.1:7192 topics create"), "{other}");
        assert!(other.contains("--replication-factor 1\n"), "{other}");
        assert_eq!(other.lines().count(), 3);
    }
}
