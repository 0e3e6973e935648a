//! `vltava cluster`: the cluster as a whole.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde::Serialize;
use vltava_model::ClusterId;
use vltava_proto::v1::DescribeClusterResponse;

use crate::args::Context;
use crate::brokers::state;
use crate::client;
use crate::exit::CliResult;
use crate::output::{self, Rows, or_dash};

/// Show the cluster
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vltava cluster describe
  vltava cluster describe --output json | jq -r .cluster_id")]
pub struct ClusterArgs {
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Subcommand, Debug)]
enum ClusterCommand {
    /// Show the cluster's id, active controller, brokers and features
    #[command(after_help = "Examples:\n  vltava cluster describe\n  vltava cluster describe --output json")]
    Describe,
}

#[derive(Serialize)]
struct Cluster {
    cluster_id: String,
    controller_id: Option<u32>,
    metadata_offset: u64,
    topic_count: u32,
    partition_count: u32,
    features: BTreeMap<String, u32>,
    brokers: Vec<Broker>,
}

#[derive(Serialize)]
struct Broker {
    id: u32,
    state: &'static str,
    rack: Option<String>,
    endpoints: Vec<String>,
}

pub async fn run(args: ClusterArgs, context: &Context) -> CliResult {
    let ClusterCommand::Describe = args.command;
    let cluster = Cluster::from(client::admin(context)?.describe_cluster().await?);
    output::print(context.format, &cluster, table)
}

impl From<DescribeClusterResponse> for Cluster {
    fn from(cluster: DescribeClusterResponse) -> Self {
        let mut brokers: Vec<Broker> = cluster
            .brokers
            .into_iter()
            .map(|broker| Broker {
                id: broker.node_id,
                state: state(broker.state()),
                endpoints: broker
                    .endpoints
                    .iter()
                    .map(|endpoint| format!("{}://{}:{}", endpoint.listener, endpoint.host, endpoint.port))
                    .collect(),
                rack: broker.rack,
            })
            .collect();
        brokers.sort_by_key(|broker| broker.id);
        Self {
            cluster_id: ClusterId::from_slice(&cluster.cluster_id)
                .map(|id| id.to_string())
                .unwrap_or_default(),
            controller_id: cluster.controller_id,
            metadata_offset: cluster.metadata_offset,
            topic_count: cluster.topic_count,
            partition_count: cluster.partition_count,
            features: cluster.features.into_iter().collect(),
            brokers,
        }
    }
}

fn table(cluster: &Cluster) -> String {
    let features = match cluster.features.is_empty() {
        true => "-".to_owned(),
        false => cluster
            .features
            .iter()
            .map(|(name, level)| format!("{name}={level}"))
            .collect::<Vec<_>>()
            .join(","),
    };
    let mut text = format!(
        "Cluster: {}  Controller: {}  Topics: {}  Partitions: {}  Metadata offset: {}  Features: {features}\n",
        cluster.cluster_id,
        or_dash(cluster.controller_id),
        cluster.topic_count,
        cluster.partition_count,
        cluster.metadata_offset,
    );
    let mut rows = Rows::new(&["broker", "state", "rack", "endpoints"]);
    for broker in &cluster.brokers {
        rows.add([
            broker.id.to_string(),
            broker.state.to_owned(),
            or_dash(broker.rack.clone()),
            broker.endpoints.join(","),
        ]);
    }
    text.extend(rows.render().lines().map(|line| format!("  {line}\n")));
    text
}
