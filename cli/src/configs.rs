//! `vltava configs`: configs of topics, of single brokers, and of all brokers.

use clap::{Args, Subcommand};
use serde::Serialize;
use vltava_proto::v1::{
    AlterConfigsRequest, ConfigDescription, ConfigEntry, ConfigResource, ConfigSource, ConfigTarget,
};

use crate::args::Context;
use crate::client::{self, FirstError};
use crate::exit::CliResult;
use crate::output::{self, Rows};
use crate::text;

/// Show and change configs of topics, brokers and the cluster
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vltava configs describe --topic orders --all
  vltava configs alter --topic orders --add-config retention.ms=86400000
  vltava configs alter --cluster --add-config min.insync.replicas=2")]
pub struct ConfigsArgs {
    #[command(subcommand)]
    command: ConfigsCommand,
}

#[derive(Subcommand, Debug)]
enum ConfigsCommand {
    /// Show configs with where each value comes from
    #[command(after_help = "\
Examples:
  vltava configs describe --topic orders          what was set on the topic
  vltava configs describe --topic orders --all    everything that holds for it
  vltava configs describe --broker 1
  vltava configs describe --cluster")]
    Describe {
        #[command(flatten)]
        target: Target,
        /// Show defaults and what comes from config files too
        #[arg(long)]
        all: bool,
    },
    /// Set and clear configs: all of them, or none if one is wrong
    #[command(after_help = "\
Examples:
  vltava configs alter --topic orders --add-config retention.ms=86400000 --delete-config segment.bytes
  vltava configs alter --cluster --add-config min.insync.replicas=2")]
    #[command(group = clap::ArgGroup::new("change").required(true).multiple(true).args(["add_config", "delete_config"]))]
    Alter {
        #[command(flatten)]
        target: Target,
        /// Set a config; may be given several times
        #[arg(long, alias = "set", value_name = "NAME=VALUE", value_parser = text::pair)]
        add_config: Vec<(String, String)>,
        /// Clear a config; may be given several times
        #[arg(long, alias = "delete", value_name = "NAME")]
        delete_config: Vec<String>,
        /// Check everything, change nothing
        #[arg(long)]
        validate_only: bool,
    },
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Target {
    /// The configs of a topic
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
    /// The configs of one broker
    #[arg(long, value_name = "ID")]
    broker: Option<u32>,
    /// The configs of all brokers
    #[arg(long)]
    cluster: bool,
}

impl From<Target> for ConfigTarget {
    fn from(target: Target) -> Self {
        let (resource, name) = match (target.topic, target.broker) {
            (Some(name), _) => (ConfigResource::Topic, name),
            (None, Some(id)) => (ConfigResource::Broker, id.to_string()),
            (None, None) => (ConfigResource::Cluster, String::new()),
        };
        Self { resource: resource.into(), name }
    }
}

#[derive(Serialize)]
struct Configs {
    resource: &'static str,
    name: String,
    configs: Vec<Config>,
}

#[derive(Serialize)]
struct Config {
    name: String,
    value: String,
    source: &'static str,
    documentation: String,
}

#[derive(Serialize)]
struct Altered {
    resource: &'static str,
    name: String,
    altered: bool,
}

pub async fn run(args: ConfigsArgs, context: &Context) -> CliResult {
    let admin = client::admin(context)?;
    match args.command {
        ConfigsCommand::Describe { target, all } => {
            let mut errors = FirstError::default();
            for description in admin.describe_configs(vec![target.into()]).await? {
                match &description.error {
                    Some(detail) => errors.note(client::refused(detail)),
                    None => output::print(context.format, &view(description, all), table)?,
                }
            }
            errors.end()
        }
        ConfigsCommand::Alter { target, add_config, delete_config, validate_only } => {
            let target = ConfigTarget::from(target);
            let view =
                Altered { resource: resource(&target), name: target.name.clone(), altered: !validate_only };
            let request = AlterConfigsRequest {
                target: Some(target),
                set: add_config.into_iter().collect(),
                clear: delete_config,
                validate_only,
            };
            admin.alter_configs(request).await?;
            output::print(context.format, &view, |view| {
                let verb = if view.altered { "Altered" } else { "Nothing is wrong with the change of" };
                format!("{verb} the configs of {}.\n", full_name(view.resource, &view.name))
            })
        }
    }
}

fn view(description: ConfigDescription, all: bool) -> Configs {
    let target = description.target.unwrap_or_default();
    let resource = target.resource();
    let mut configs: Vec<Config> = description
        .entries
        .into_iter()
        .filter(|entry| all || set_here(entry.source(), resource))
        .map(|entry: ConfigEntry| Config {
            source: source(entry.source()),
            name: entry.name,
            value: entry.value,
            documentation: entry.documentation,
        })
        .collect();
    configs.sort_by(|a, b| a.name.cmp(&b.name));
    Configs { resource: self::resource(&target), name: target.name, configs }
}

/// Whether a value was set on the resource itself.
fn set_here(source: ConfigSource, resource: ConfigResource) -> bool {
    matches!(
        (source, resource),
        (ConfigSource::Topic, ConfigResource::Topic)
            | (ConfigSource::Broker, ConfigResource::Broker)
            | (ConfigSource::Cluster, ConfigResource::Cluster)
    )
}

fn source(source: ConfigSource) -> &'static str {
    match source {
        ConfigSource::Default => "default",
        ConfigSource::Topic => "topic",
        ConfigSource::Broker => "broker",
        ConfigSource::Cluster => "cluster",
        ConfigSource::File => "file",
    }
}

fn resource(target: &ConfigTarget) -> &'static str {
    match target.resource() {
        ConfigResource::Topic => "topic",
        ConfigResource::Broker => "broker",
        ConfigResource::Cluster | ConfigResource::Unspecified => "cluster",
    }
}

fn full_name(resource: &str, name: &str) -> String {
    format!("{resource} {name}").trim_end().to_owned()
}

fn table(view: &Configs) -> String {
    if view.configs.is_empty() {
        let name = full_name(view.resource, &view.name);
        return format!("Nothing is set on {name} itself; --all shows what holds for it.\n");
    }
    let mut rows = Rows::new(&["name", "value", "source"]);
    for config in &view.configs {
        rows.add([&config.name, &config.value, config.source]);
    }
    rows.render()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;
    use clap::Parser;

    #[test]
    fn only_what_was_set_is_shown_without_all() {
        let entry = |name: &str, source: ConfigSource| ConfigEntry {
            name: name.into(),
            value: "1".into(),
            source: source.into(),
            documentation: "Doc.".into(),
        };
        let description = ConfigDescription {
            target: Some(ConfigTarget { resource: ConfigResource::Topic.into(), name: "t".into() }),
            entries: vec![entry("b", ConfigSource::Topic), entry("a", ConfigSource::Default)],
            error: None,
        };
        assert_eq!(table(&view(description.clone(), false)), "NAME  VALUE  SOURCE\nb     1      topic\n");
        assert_eq!(table(&view(description.clone(), true)).lines().count(), 3);
        let none = ConfigDescription { entries: vec![], ..description };
        assert!(table(&view(none, false)).contains("--all"));
    }

    #[test]
    fn one_target_and_one_change_are_needed() {
        let parse = |flags: &str| Cli::try_parse_from(format!("vltava configs {flags}").split(' ')).map(drop);
        assert!(parse("describe --topic t").is_ok());
        assert!(parse("describe").is_err());
        assert!(parse("describe --topic t --cluster").is_err());
        assert!(parse("alter --cluster").is_err());
        assert!(parse("alter --broker 1 --add-config a=b --delete-config c").is_ok());
    }
}
