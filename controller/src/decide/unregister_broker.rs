//! A broker that left for good is forgotten. Its replicas stay in the assignments, as in Kafka, but count for nothing.

use vltava_metadata::{BrokerState, record};
use vltava_model::{ErrorCode, NodeId};
use vltava_proto::v1::{UnregisterBrokerRequest, UnregisterBrokerResponse};

use super::departure::{Fate, depart};
use super::{Decision, Refusal, View};

/// Forgets a broker.
///
/// # Errors
/// BROKER_ID_NOT_REGISTERED, or INVALID_REQUEST while the broker runs.
pub fn decide(
    view: &View,
    request: &UnregisterBrokerRequest,
) -> Result<Decision<UnregisterBrokerResponse>, Refusal> {
    let node = NodeId::new(request.node_id);
    let Some(broker) = view.image.broker(node) else {
        return Err(Refusal::new(
            ErrorCode::BrokerIdNotRegistered,
            format!("broker {node} is not registered"),
        ));
    };
    if broker.state != BrokerState::Fenced {
        return Err(Refusal::new(
            ErrorCode::InvalidRequest,
            format!("broker {node} is running: stop it first"),
        ));
    }
    let mut records = depart(*view, node, |_| Fate::Leaves);
    records.push(record::broker_removed(node, broker.broker_epoch));
    let mut decision = Decision { records, response: UnregisterBrokerResponse::default() };
    decision.response.metadata_offset = decision.offset_after(view).get();
    Ok(decision)
}
