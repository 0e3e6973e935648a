//! `vltava brokers`: which brokers there are, what they hold, and how one that left for good is forgotten.

use clap::{Args, Subcommand};
use serde::Serialize;
use vltava_proto::v1::{BrokerMetadata, BrokerState, TopicMetadata};

use crate::args::Context;
use crate::client;
use crate::exit::{CliError, CliResult, Failure};
use crate::output::{self, Rows};

/// Show and forget brokers
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vltava brokers list
  vltava brokers describe 2
  vltava brokers unregister 4")]
pub struct BrokersArgs {
    #[command(subcommand)]
    command: BrokersCommand,
}

#[derive(Subcommand, Debug)]
enum BrokersCommand {
    /// List brokers, with what they lead and hold
    #[command(after_help = "Examples:\n  vltava brokers list\n  vltava brokers list --output json")]
    List,
    /// Show one broker and the partitions on it
    #[command(after_help = "Example:\n  vltava brokers describe 2")]
    Describe {
        /// Its `node.id`
        id: u32,
    },
    /// Forget a broker that left for good
    #[command(after_help = "\
Example:
  vltava brokers unregister 4

The broker must be stopped. Its replicas are not moved: give their partitions other replicas first.")]
    Unregister {
        /// Its `node.id`
        id: u32,
    },
}

#[derive(Serialize)]
struct Brokers {
    controller_id: Option<u32>,
    brokers: Vec<Broker>,
}

#[derive(Serialize)]
struct Broker {
    id: u32,
    state: &'static str,
    rack: Option<String>,
    broker_epoch: u64,
    endpoints: Vec<String>,
    leaders: usize,
    replicas: usize,
    in_sync: usize,
}

#[derive(Serialize)]
struct Description {
    #[serde(flatten)]
    broker: Broker,
    partitions: Vec<Hosted>,
}

#[derive(Serialize)]
struct Hosted {
    topic: String,
    partition: u32,
    leads: bool,
    in_sync: bool,
}

#[derive(Serialize)]
struct Unregistered {
    id: u32,
}

pub async fn run(args: BrokersArgs, context: &Context) -> CliResult {
    match args.command {
        BrokersCommand::List => list(context).await,
        BrokersCommand::Describe { id } => describe(id, context).await,
        BrokersCommand::Unregister { id } => unregister(id, context).await,
    }
}

async fn list(context: &Context) -> CliResult {
    let metadata = client::connect(context)?.refresh(&[]).await?;
    let mut brokers: Vec<Broker> =
        metadata.brokers.into_iter().map(|broker| view(broker, &metadata.topics)).collect();
    brokers.sort_by_key(|broker| broker.id);
    let view = Brokers { controller_id: metadata.controller_id, brokers };
    output::print(context.format, &view, |view| {
        let mut rows = Rows::new(&["id", "state", "leaders", "replicas", "in sync", "rack", "endpoints"]);
        view.brokers.iter().for_each(|broker| rows.add(cells(broker)));
        rows.render()
    })
}

fn cells(broker: &Broker) -> [String; 7] {
    [
        broker.id.to_string(),
        broker.state.to_owned(),
        broker.leaders.to_string(),
        broker.replicas.to_string(),
        broker.in_sync.to_string(),
        broker.rack.clone().unwrap_or_else(|| "-".into()),
        broker.endpoints.join(","),
    ]
}

async fn describe(id: u32, context: &Context) -> CliResult {
    let metadata = client::connect(context)?.refresh(&[]).await?;
    let broker = metadata.brokers.into_iter().find(|broker| broker.node_id == id).ok_or_else(|| {
        CliError::new(
            Failure::NotFound,
            format!("no broker {id} is registered; `vltava brokers list` shows them"),
        )
    })?;
    let mut partitions = Vec::new();
    for topic in &metadata.topics {
        let here = topic.partitions.iter().filter(|partition| partition.replicas.contains(&id));
        partitions.extend(here.map(|partition| Hosted {
            topic: topic.name.clone(),
            partition: partition.partition,
            leads: partition.leader == Some(id),
            in_sync: partition.isr.contains(&id),
        }));
    }
    partitions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    let view = Description { broker: view(broker, &metadata.topics), partitions };
    output::print(context.format, &view, |view| {
        let broker = &view.broker;
        let mut text = format!(
            "Broker: {}  State: {}  Rack: {}  Epoch: {}  Endpoints: {}\n",
            broker.id,
            broker.state,
            broker.rack.as_deref().unwrap_or("-"),
            broker.broker_epoch,
            broker.endpoints.join(",")
        );
        let mut rows = Rows::new(&["topic", "partition", "role", "in sync"]);
        for hosted in &view.partitions {
            let role = if hosted.leads { "leader" } else { "follower" };
            let in_sync = if hosted.in_sync { "yes" } else { "no" };
            rows.add([&hosted.topic, hosted.partition.to_string().as_str(), role, in_sync]);
        }
        text.extend(rows.render().lines().map(|line| format!("  {line}\n")));
        text
    })
}

async fn unregister(id: u32, context: &Context) -> CliResult {
    client::admin(context)?.unregister_broker(id).await?;
    output::print(context.format, &Unregistered { id }, |view| format!("Broker {} is forgotten.\n", view.id))
}

fn view(broker: BrokerMetadata, topics: &[TopicMetadata]) -> Broker {
    let id = broker.node_id;
    let partitions = || topics.iter().flat_map(|topic| &topic.partitions);
    Broker {
        id,
        state: state(broker.state()),
        broker_epoch: broker.broker_epoch,
        leaders: partitions().filter(|partition| partition.leader == Some(id)).count(),
        replicas: partitions().filter(|partition| partition.replicas.contains(&id)).count(),
        in_sync: partitions().filter(|partition| partition.isr.contains(&id)).count(),
        endpoints: broker
            .endpoints
            .into_iter()
            .map(|endpoint| format!("{}://{}:{}", endpoint.listener, endpoint.host, endpoint.port))
            .collect(),
        rack: broker.rack,
    }
}

/// A broker's state in a word.
pub fn state(state: BrokerState) -> &'static str {
    match state {
        BrokerState::Unspecified => "unknown",
        BrokerState::Fenced => "fenced",
        BrokerState::Active => "active",
        BrokerState::ShuttingDown => "stopping",
    }
}
