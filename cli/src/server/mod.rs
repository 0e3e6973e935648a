//! `vltava server`: one node as a process. Reads the config file, starts logs, runs the node, stops it in order.

mod figures;
mod node;
mod options;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use vltava_node::config::{Config, Setting};
use vltava_node::fatal::FatalHandler;
use vltava_node::limits::Descriptors;
use vltava_node::shutdown::Shutdown;
use vltava_node::{limits, notify, telemetry};

pub use self::node::{NodeHandle, run_node};
use crate::allocator;
use crate::exit::{CliError, CliResult};
use crate::{output, text};

/// Run one node: controller, broker or both
#[derive(Args, Debug)]
#[command(
    long_about = "\
Runs one node until SIGTERM or SIGINT, which hand its leaderships over first; a second signal ends it at once.

The config file is TOML with Kafka's property names; docs/configuration.md lists them all, and deploy/examples/ has \
the files of a cluster of three. The first start of all voters forms the cluster: there is no format step.",
    after_help = "\
Examples:
  vltava server --config deploy/examples/node1.toml
  vltava server --config /etc/vltava/node.toml --log-format json
  vltava server --config node.toml --override broker.rack=r1 --override log.retention.ms=1d
  vltava server --config node.toml --check"
)]
pub struct ServerArgs {
    /// The node's config file
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,

    /// Let a value win over the config file; may be given several times
    #[arg(long = "override", value_name = "NAME=VALUE", value_parser = text::pair)]
    overrides: Vec<(String, String)>,

    /// Write logs for people, or as JSON objects
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,

    /// Check the config file, print warnings, and end
    #[arg(long)]
    check: bool,
}

/// In which form logs are written to standard error.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    #[default]
    Human,
    /// An object a line
    Json,
}

impl From<LogFormat> for telemetry::LogFormat {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Human => Self::Human,
            LogFormat::Json => Self::Json,
        }
    }
}

/// Runs the command.
pub fn run(args: ServerArgs) -> CliResult {
    let overrides = args.overrides.iter().map(|(name, value)| (name.clone(), Setting::from_text(value)));
    let config = Config::load_with(&args.config, overrides.collect()).map_err(CliError::usage)?;
    if args.check {
        let warnings = config.warnings.iter().map(|warning| format!("warning: {warning}\n"));
        let text = warnings.chain([format!("{} is in order\n", config.origin)]).collect::<String>();
        return output::write_out(text.as_bytes());
    }
    telemetry::init(args.log_format.into(), "info").map_err(CliError::usage)?;
    limits::refuse_huge_pages();
    allocator::give_back_free_pages().map_err(no_thread)?;
    let descriptors = Descriptors::share(limits::raise_open_files(), 1);
    let runtime = runtime(config.limits.network_threads)?;
    let result = runtime.block_on(serve(config, descriptors));
    runtime.shutdown_timeout(Duration::from_secs(5));
    result
}

/// The threads that serve connections.
pub fn runtime(threads: usize) -> CliResult<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("vltava-net")
        .on_thread_park(vltava_threads::rest)
        .enable_all()
        .build()
        .map_err(no_thread)
}

/// There is no room for another thread.
pub fn no_thread(error: io::Error) -> CliError {
    CliError::failed(format!("threads cannot be started: {error}"))
}

async fn serve(config: Config, descriptors: Descriptors) -> CliResult {
    let shutdown = Shutdown::new();
    shutdown.on_signals().map_err(|error| CliError::failed(format!("signals cannot be handled: {error}")))?;
    let (node, version) = (config.node_id, env!("CARGO_PKG_VERSION"));
    tracing::info!(%node, version, config = %config.origin, roles = ?config.roles, "starting");
    let started = run_node(config, descriptors, FatalHandler::process());
    let node = tokio::select! {
        node = started => node.map_err(CliError::failed)?,
        reason = shutdown.requested() => {
            tracing::info!("{reason} before the node had started");
            return Ok(());
        }
    };
    // Now it serves. Whether the cluster lets it do its work is another matter, for /health/ready: a first node that
    // waited here for the others would keep `systemctl start` from starting them.
    notify::ready("waiting for the cluster");
    tokio::select! {
        () = node.health().wait_ready() => {
            tracing::info!("ready");
            notify::status("ready");
            shutdown.requested().await;
        }
        _ = shutdown.requested() => {}
    }
    notify::stopping();
    node.stop().await;
    tracing::info!("stopped");
    Ok(())
}
