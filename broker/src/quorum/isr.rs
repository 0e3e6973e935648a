//! Sends the ISR changes that shards propose to the active controller, many in one call, and brings back the answers.
//!
//! A change whose answer was lost is reported as failed; the partition's machine proposes again, and the controller's
//! compare-and-set makes that safe.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tonic::Status;
use vltava_metadata::PartitionImage;
use vltava_model::{BrokerEpoch, ErrorCode, LeaderEpoch, NodeId, PartitionEpoch, TopicPartition};
use vltava_partition::{IsrOutcome, ProposalId};
use vltava_proto::status;
use vltava_proto::v1::{AlterPartition, AlterPartitionResult, AlterPartitionsRequest, IsrMember};

use crate::shard::command::Command;
use crate::shard::convert::partition_state;
use crate::shard::handle::ShardHandle;
use crate::state::BrokerState;

/// How many partitions go into one call.
const BATCH: usize = 5_000;

/// How long one call may take. A proposal may wait for one call before its own, and its machine relies on nothing being
/// executed more than ten seconds after it was proposed.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// An ISR that a leader wants recorded.
pub struct Proposal {
    /// Of what.
    pub partition: TopicPartition,
    /// Its name in the answer.
    pub id: ProposalId,
    /// In which epoch it leads.
    pub leader_epoch: LeaderEpoch,
    /// The partition's state on which the proposal is based.
    pub partition_epoch: PartitionEpoch,
    /// The new ISR with the registrations that the leader saw.
    pub isr: Vec<(NodeId, BrokerEpoch)>,
    /// Who wants the answer.
    pub shard: ShardHandle,
}

/// The shards' end. One proposal for each partition is under way at most, so the queue is bounded by the partitions.
pub type Proposals = mpsc::UnboundedSender<Proposal>;

/// Runs until all shards are gone.
pub async fn run(state: Arc<BrokerState>, mut proposals: mpsc::UnboundedReceiver<Proposal>) {
    let mut waiting = Vec::new();
    while proposals.recv_many(&mut waiting, BATCH).await > 0 {
        let batch: BTreeMap<TopicPartition, Proposal> =
            waiting.drain(..).map(|proposal| (proposal.partition, proposal)).collect();
        let answers = match tokio::time::timeout(CALL_TIMEOUT, call(&state, batch.values())).await {
            Ok(answers) => answers,
            Err(_) => {
                Err(status::status(ErrorCode::RequestTimedOut, "the controller did not answer in time"))
            }
        };
        deliver(batch, answers).await;
    }
}

async fn call(
    state: &BrokerState,
    batch: impl Iterator<Item = &Proposal>,
) -> Result<Vec<AlterPartitionResult>, Status> {
    let partitions: Vec<_> = batch.map(request).collect();
    let request = AlterPartitionsRequest {
        broker_id: state.node_id.get(),
        broker_epoch: state.broker_epoch().get(),
        partitions,
    };
    let mut controller = state.link.controller().await?;
    Ok(controller.alter_partitions(request).await?.into_inner().partitions)
}

fn request(proposal: &Proposal) -> AlterPartition {
    let member = |(node, epoch): &(NodeId, BrokerEpoch)| IsrMember {
        broker_id: node.get(),
        broker_epoch: epoch.get(),
    };
    AlterPartition {
        topic_id: proposal.partition.topic.to_bytes().to_vec().into(),
        partition: proposal.partition.partition.get(),
        leader_epoch: proposal.leader_epoch.get(),
        partition_epoch: proposal.partition_epoch.get(),
        new_isr: proposal.isr.iter().map(member).collect(),
        ..AlterPartition::default()
    }
}

async fn deliver(
    batch: BTreeMap<TopicPartition, Proposal>,
    answers: Result<Vec<AlterPartitionResult>, Status>,
) {
    let mut answers = match answers {
        Ok(answers) => answers.into_iter(),
        Err(status) => {
            let code = status::code_of(&status::detail_of(&status));
            tracing::debug!(%status, "ISR changes not recorded");
            for proposal in batch.into_values() {
                tell(&proposal, IsrOutcome::Failed(code)).await;
            }
            return;
        }
    };
    for proposal in batch.into_values() {
        let outcome = answers.next().map_or(IsrOutcome::Failed(ErrorCode::UnknownServerError), outcome);
        tell(&proposal, outcome).await;
    }
}

async fn tell(proposal: &Proposal, outcome: IsrOutcome) {
    let command = Command::IsrAnswer { partition: proposal.partition, proposal: proposal.id, outcome };
    proposal.shard.send_patiently(command).await;
}

fn outcome(answer: AlterPartitionResult) -> IsrOutcome {
    if let Some(error) = answer.error {
        tracing::debug!(code = error.code, reason = error.message, "an ISR change is refused");
        return IsrOutcome::Failed(status::code_of(&error));
    }
    match answer.partition.as_ref().map(PartitionImage::from_record) {
        Some(Ok((_, image))) => IsrOutcome::Applied(partition_state(&image)),
        Some(Err(_)) | None => IsrOutcome::Failed(ErrorCode::UnknownServerError),
    }
}
