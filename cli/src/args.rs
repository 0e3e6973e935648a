//! The command line as a whole: the flags that every command has, and the list of commands.

use clap::{Parser, Subcommand};

use crate::exit::EXIT_CODES;
use crate::output::Format;
use crate::{
    brokers, cluster, completions, configs, consume, dev, inspect, perf, produce, quorum, server, topics,
};

const EXAMPLES: &str = "\
Examples:
  vltava dev                                        a cluster of three nodes in this terminal
  vltava topics create orders --partitions 6 --replication-factor 3
  echo 'hello' | vltava produce orders
  vltava consume orders --from-beginning --max-messages 1
  vltava --server a:7092,b:7092 topics describe orders --output json

Environment:
  VLTAVA_SERVER  as --server
  VLTAVA_LOG     what servers log, as in info,vltava_broker=debug";

/// A replicated, partitioned commit log: Apache Kafka's job in one binary
#[derive(Parser, Debug)]
#[command(
    name = "vltava",
    version,
    max_term_width = 110,
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"),
    arg_required_else_help = true,
    propagate_version = true,
    infer_subcommands = false
)]
pub struct Cli {
    /// Nodes to ask, comma-separated; the first one that answers is enough
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT",
        env = "VLTAVA_SERVER",
        default_value = "127.0.0.1:7092",
        value_delimiter = ',',
        value_parser = server_address,
        help_heading = "Global options",
        hide_env_values = true
    )]
    pub server: Vec<String>,

    /// Print tables for people, or JSON for scripts
    #[arg(long, global = true, value_enum, default_value_t, help_heading = "Global options")]
    pub output: Format,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// Everything that `vltava` can do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run a whole cluster in one process, ready in seconds
    Dev(dev::DevArgs),
    /// Run one node: controller, broker or both
    Server(server::ServerArgs),
    /// Create, show, change and delete topics
    Topics(topics::TopicsArgs),
    /// Write records: each line of standard input is one
    Produce(produce::ProduceArgs),
    /// Read records: each value is a line of standard output
    Consume(consume::ConsumeArgs),
    /// Show and forget brokers
    Brokers(brokers::BrokersArgs),
    /// Show and change the controller quorum
    Quorum(quorum::QuorumArgs),
    /// Show and change configs of topics, brokers and the cluster
    Configs(configs::ConfigsArgs),
    /// Show the cluster
    Cluster(cluster::ClusterArgs),
    /// Measure throughput and latency
    Perf(perf::PerfArgs),
    /// Explain what lies on the disk of a stopped node
    Inspect(inspect::InspectArgs),
    /// Print a shell's completion script
    Completions(completions::CompletionsArgs),
}

/// What every command of a client's needs to know.
#[derive(Clone, Debug)]
pub struct Context {
    /// Nodes to ask.
    pub servers: Vec<String>,
    /// How to print.
    pub format: Format,
}

impl Cli {
    /// The flags that every command has.
    pub fn context(&self) -> Context {
        Context { servers: self.server.clone(), format: self.output }
    }
}

fn server_address(text: &str) -> Result<String, String> {
    let text = text.trim();
    let bare = text.strip_prefix("http://").unwrap_or(text);
    let address = vltava_node::config::Address::parse(bare)?;
    match address.host.is_empty() || address.port == 0 {
        true => Err(format!("`{text}` is not of the form HOST:PORT")),
        false => Ok(address.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_go_before_and_after_the_command() {
        let before = Cli::try_parse_from(["vltava", "--server", "a:1,b:2", "topics", "list"]).unwrap();
        assert_eq!(before.context().servers, ["a:1", "b:2"]);
        let after = Cli::try_parse_from(["vltava", "topics", "list", "--output", "json"]).unwrap();
        assert_eq!(after.context().format, Format::Json);
        assert_eq!(after.context().servers, ["127.0.0.1:7092"]);
        let wrong = Cli::try_parse_from(["vltava", "--server", "nowhere", "topics", "list"]).unwrap_err();
        assert!(wrong.to_string().contains("has no port: write HOST:PORT"), "{wrong}");
    }

    #[test]
    fn a_mistyped_command_or_flag_is_answered_with_the_nearest() {
        let said = |args: &[&str]| {
            Cli::try_parse_from(std::iter::once("vltava").chain(args.iter().copied()))
                .unwrap_err()
                .to_string()
        };
        assert!(said(&["topcis", "list"]).contains("'topics'"), "{}", said(&["topcis", "list"]));
        assert!(said(&["produce", "t", "--ack", "all"]).contains("'--acks'"));
        assert!(
            said(&["produce", "t", "--acks", "two"]).contains("all, 1, 0"),
            "{}",
            said(&["produce", "t", "--acks", "two"])
        );
    }

    #[test]
    fn every_command_shows_an_example_in_its_help() {
        for command in Cli::command().get_subcommands_mut() {
            let name = command.get_name().to_owned();
            let help = command.render_long_help().to_string();
            assert!(help.contains("Example"), "{name} has no example:\n{help}");
            for inner in command.get_subcommands_mut() {
                let help = inner.render_long_help().to_string();
                assert!(
                    help.contains("Example") || inner.get_name() == "help",
                    "{name} {}:\n{help}",
                    inner.get_name()
                );
            }
        }
    }

    #[test]
    fn the_long_help_documents_exit_codes_and_the_environment() {
        let help = Cli::command().render_long_help().to_string();
        for expected in ["Exit codes:", "VLTAVA_SERVER", "VLTAVA_LOG", "127.0.0.1:7092", "vltava dev"] {
            assert!(help.contains(expected), "{expected}\n{help}");
        }
    }
}
