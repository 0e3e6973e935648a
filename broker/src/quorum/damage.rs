//! Tells the active controller of damaged replicas and of those that began anew, until committed metadata say so.

use std::sync::Arc;
use std::time::Duration;

use tonic::Status;
use vltava_model::MetadataOffset;
use vltava_proto::v1::{ReplicaReport, ReportReplicasRequest};

use crate::damages::Report;
use crate::state::BrokerState;

/// How soon a report that was not recorded is sent again.
const AGAIN: Duration = Duration::from_millis(300);

/// How many replicas one request names.
const REPORTS_MAX: usize = 2_000;

/// Runs until the task is aborted.
pub async fn run(state: Arc<BrokerState>) {
    let mut published = state.metadata_published();
    loop {
        published.borrow_and_update();
        let mut reports = state.damages.pending(state.node_id, &state.image());
        if reports.is_empty() {
            tokio::select! {
                () = state.damages.news() => {}
                changed = published.changed() => if changed.is_err() { return },
            }
            continue;
        }
        reports.truncate(REPORTS_MAX);
        match tell(&state, &reports).await {
            Ok(known_from) => {
                // Metadata that come late only make it say the same again.
                let _ = tokio::time::timeout(AGAIN, state.wait_for_metadata(known_from)).await;
            }
            Err(status) => {
                tracing::debug!(%status, "the controller does not know yet which replicas are damaged");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// From which metadata offset on everything is known.
async fn tell(state: &BrokerState, reports: &[Report]) -> Result<MetadataOffset, Status> {
    let replicas = reports.iter().map(|report| ReplicaReport {
        topic_id: report.partition.topic.to_bytes().to_vec().into(),
        partition: report.partition.partition.get(),
        leader_epoch: report.leader_epoch.get(),
        condition: report.condition.into(),
        what: report.what.to_string(),
    });
    let request = ReportReplicasRequest {
        broker_id: state.node_id.get(),
        broker_epoch: state.broker_epoch().get(),
        replicas: replicas.collect(),
    };
    let response = state.link.controller().await?.report_replicas(request).await?.into_inner();
    match response.results.into_iter().find_map(|result| result.error) {
        Some(refused) => Err(vltava_proto::status::from_detail(refused)),
        None => Ok(MetadataOffset::new(response.metadata_offset)),
    }
}
