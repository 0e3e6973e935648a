//! `vltava quorum`: the controllers, who leads them, and how voters come and go.

use clap::{Args, Subcommand};
use serde::Serialize;
use vltava_model::DirectoryId;
use vltava_node::config::Voter;
use vltava_proto::v1::{DescribeQuorumResponse, QuorumReplica, RemoveVoterRequest};

use crate::args::Context;
use crate::client;
use crate::exit::CliResult;
use crate::output::{self, Rows, or_dash};

/// Show and change the controller quorum
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vltava quorum describe
  vltava quorum add 4@10.0.0.4:7093
  vltava quorum remove 1")]
pub struct QuorumArgs {
    #[command(subcommand)]
    command: QuorumCommand,
}

#[derive(Subcommand, Debug)]
enum QuorumCommand {
    /// Show the active controller, voters and observers
    #[command(after_help = "\
Examples:
  vltava quorum describe
  vltava quorum describe --output json | jq .leader_id")]
    Describe,
    /// Make a running controller a voter
    #[command(after_help = "\
Example:
  vltava quorum add 4@10.0.0.4:7093

Start the controller first, with its own `node.id` and the `controller.quorum.voters` of the cluster: it follows the \
quorum as an observer. This waits until it has caught up, and then gives it a vote.")]
    Add {
        /// Its `node.id` and the address of its CONTROLLER listener
        #[arg(value_name = "ID@HOST:PORT", value_parser = Voter::parse)]
        voter: Voter,
    },
    /// Take the vote from a controller
    #[command(after_help = "\
Examples:
  vltava quorum remove 1
  vltava quorum remove 1 --directory-id 4f1d2c3b4a5968778695a4b3c2d1e0f9

A controller that runs on follows as an observer: stop it and remove it once more to have it forgotten. \
A controller whose disk was replaced has another directory id: remove the old one's vote, then add it anew.")]
    Remove {
        /// Its `node.id`
        id: u32,
        /// Whose disk's vote, where the node has more than one
        #[arg(long, value_name = "ID", value_parser = directory)]
        directory_id: Option<DirectoryId>,
    },
}

#[derive(Serialize)]
struct Quorum {
    leader_id: Option<u32>,
    leader_epoch: u64,
    high_watermark: u64,
    voters: Vec<Replica>,
    observers: Vec<Replica>,
}

#[derive(Serialize)]
struct Replica {
    id: u32,
    directory_id: String,
    log_end_offset: Option<u64>,
    lag: Option<u64>,
    address: String,
}

#[derive(Serialize)]
struct Changed {
    id: u32,
    directory_id: Option<String>,
}

fn directory(text: &str) -> Result<DirectoryId, String> {
    text.parse().map_err(|error| format!("`{text}`: {error}"))
}

pub async fn run(args: QuorumArgs, context: &Context) -> CliResult {
    let admin = client::admin(context)?;
    match args.command {
        QuorumCommand::Describe => {
            let quorum = Quorum::from(admin.describe_quorum().await?);
            output::print(context.format, &quorum, table)
        }
        QuorumCommand::Add { voter } => {
            let id = voter.id.get();
            let answer = admin.add_voter(id, &voter.address.to_string()).await?;
            let view = Changed { id, directory_id: directory_id(&answer.directory_id) };
            output::print(context.format, &view, |view| {
                format!("Controller {} votes as directory {}.\n", view.id, or_dash(view.directory_id.clone()))
            })
        }
        QuorumCommand::Remove { id, directory_id } => {
            let bytes = directory_id.map(|id| id.to_bytes().to_vec()).unwrap_or_default();
            admin.remove_voter(RemoveVoterRequest { node_id: id, directory_id: bytes.into() }).await?;
            let view = Changed { id, directory_id: directory_id.map(|id| id.to_string()) };
            output::print(context.format, &view, |view| format!("Controller {} votes no more.\n", view.id))
        }
    }
}

fn directory_id(bytes: &[u8]) -> Option<String> {
    DirectoryId::from_slice(bytes).map(|id| id.to_string())
}

impl From<DescribeQuorumResponse> for Quorum {
    fn from(quorum: DescribeQuorumResponse) -> Self {
        let replicas = |replicas: Vec<QuorumReplica>| {
            let mut replicas: Vec<Replica> = replicas.into_iter().map(Replica::from).collect();
            replicas.sort_by_key(|replica| replica.id);
            replicas
        };
        Self {
            leader_id: quorum.leader_id,
            leader_epoch: quorum.leader_epoch,
            high_watermark: quorum.high_watermark,
            voters: replicas(quorum.voters),
            observers: replicas(quorum.observers),
        }
    }
}

impl From<QuorumReplica> for Replica {
    fn from(replica: QuorumReplica) -> Self {
        Self {
            id: replica.id,
            directory_id: directory_id(&replica.directory_id).unwrap_or_default(),
            log_end_offset: replica.log_end_offset,
            lag: replica.lag,
            address: replica.address,
        }
    }
}

fn table(quorum: &Quorum) -> String {
    let mut text = format!(
        "Leader: {}  Epoch: {}  High watermark: {}\n",
        or_dash(quorum.leader_id),
        quorum.leader_epoch,
        quorum.high_watermark
    );
    let mut rows = Rows::new(&["id", "role", "log end", "lag", "address", "directory id"]);
    for (role, replicas) in [("voter", &quorum.voters), ("observer", &quorum.observers)] {
        for replica in replicas {
            let role = if quorum.leader_id == Some(replica.id) && role == "voter" { "leader" } else { role };
            rows.add([
                replica.id.to_string(),
                role.to_owned(),
                or_dash(replica.log_end_offset),
                or_dash(replica.lag),
                replica.address.clone(),
                replica.directory_id.clone(),
            ]);
        }
    }
    text.extend(rows.render().lines().map(|line| format!("  {line}\n")));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quorum(leader_id: Option<u32>) -> Quorum {
        let replica = |id, log_end_offset| QuorumReplica {
            id,
            directory_id: vec![1; 16].into(),
            address: format!("h:{id}"),
            log_end_offset,
            lag: log_end_offset.map(|end| 9 - end),
        };
        DescribeQuorumResponse {
            leader_id,
            leader_epoch: 3,
            high_watermark: 9,
            voters: vec![replica(2, None), replica(1, Some(9))],
            observers: vec![],
        }
        .into()
    }

    #[test]
    fn json_has_the_documented_shape() {
        let json = serde_json::to_value(quorum(None)).unwrap();
        assert_eq!(json["leader_id"], serde_json::Value::Null);
        let json = serde_json::to_value(quorum(Some(1))).unwrap();
        let directory = "01".repeat(16);
        assert_eq!(
            json,
            serde_json::json!({
                "leader_id": 1, "leader_epoch": 3, "high_watermark": 9,
                "voters": [
                    {"id": 1, "directory_id": directory, "log_end_offset": 9, "lag": 0, "address": "h:1"},
                    {"id": 2, "directory_id": directory, "log_end_offset": null, "lag": null, "address": "h:2"},
                ],
                "observers": [],
            })
        );
    }

    #[test]
    fn the_table_names_the_leader() {
        let text = table(&quorum(Some(1)));
        assert!(text.starts_with("Leader: 1  Epoch: 3  High watermark: 9\n"), "{text}");
        assert!(text.contains("  1   leader  9"), "{text}");
        assert!(text.contains("  2   voter   -"), "{text}");
    }
}
