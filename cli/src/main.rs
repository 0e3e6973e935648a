//! The one binary, `vltava`. Each module is one command: its flags, what it asks of the cluster, what it prints.
//!
//! Commands talk to a cluster through `vltava-client` alone; only `server` and `dev` know what a node consists of.

mod allocator;
mod args;
mod brokers;
mod client;
mod cluster;
mod completions;
mod configs;
mod consume;
mod dev;
mod exit;
mod inspect;
mod output;
mod perf;
mod produce;
mod quorum;
mod server;
mod text;
mod topics;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};
use crate::exit::{CliError, CliResult};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vltava: {error}");
            error.exit_code()
        }
    }
}

fn run(cli: Cli) -> CliResult {
    let context = cli.context();
    match cli.command {
        // These bring their own runtime, or need none.
        Command::Server(args) => server::run(args),
        Command::Dev(args) => dev::run(args),
        Command::Inspect(args) => inspect::run(args, context.format),
        Command::Completions(args) => completions::run(&args),
        Command::Topics(args) => wait(topics::run(args, &context)),
        Command::Produce(args) => wait(produce::run(args, &context)),
        Command::Consume(args) => wait(consume::run(args, &context)),
        Command::Brokers(args) => wait(brokers::run(args, &context)),
        Command::Quorum(args) => wait(quorum::run(args, &context)),
        Command::Configs(args) => wait(configs::run(args, &context)),
        Command::Cluster(args) => wait(cluster::run(args, &context)),
        Command::Perf(args) => wait(perf::run(args, &context)),
    }
}

/// Runs a command of a client's on a runtime of its own.
fn wait(command: impl Future<Output = CliResult>) -> CliResult {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::failed(format!("threads cannot be started: {error}")))?;
    let result = runtime.block_on(command);
    // A read of standard input that nobody waits for must not hold up the end.
    runtime.shutdown_background();
    result
}
