//! A broker asks for producer ids. A block that is given out is never given again, used or not.

use vltava_metadata::record;
use vltava_model::{BrokerEpoch, ErrorCode, NodeId, ProducerId};
use vltava_proto::v1::{AllocateProducerIdsRequest, AllocateProducerIdsResponse};

use super::{Decision, Refusal, View};

/// Gives out a block.
///
/// # Errors
/// STALE_BROKER_EPOCH, or UNKNOWN_SERVER_ERROR when all ids of Kafka's signed 64 bits are used up.
pub fn decide(
    view: &View,
    request: &AllocateProducerIdsRequest,
) -> Result<Decision<AllocateProducerIdsResponse>, Refusal> {
    let (node, epoch) = (NodeId::new(request.broker_id), BrokerEpoch::new(request.broker_epoch));
    view.check_epoch(node, epoch)?;
    let first = view.image.next_producer_id().get();
    let count = view.settings.producer_id_block;
    let next = first.checked_add(count.into()).filter(|next| i64::try_from(*next).is_ok());
    let Some(next) = next else {
        return Err(Refusal::new(ErrorCode::UnknownServerError, "all producer ids are used up"));
    };
    let records = vec![record::producer_ids(node, epoch, ProducerId::new(next))];
    Ok(Decision { records, response: AllocateProducerIdsResponse { first, count } })
}
