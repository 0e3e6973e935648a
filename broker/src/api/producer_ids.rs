//! Gives out producer ids from blocks that the controller grants.

use tokio::sync::Mutex;
use tonic::Status;
use vltava_model::ProducerId;
use vltava_proto::v1::AllocateProducerIdsRequest;

use crate::state::BrokerState;

/// What is left of the current block.
#[derive(Default)]
pub struct ProducerIds {
    // An async lock held across the call on purpose: one call to the controller serves all who wait, and the guarded
    // range changes only after the answer, so a dropped request loses at most unused ids.
    block: Mutex<std::ops::Range<u64>>,
}

impl ProducerIds {
    /// An id that nobody else was given.
    ///
    /// # Errors
    /// When a new block is needed and no controller grants one.
    pub async fn next(&self, state: &BrokerState) -> Result<ProducerId, Status> {
        let mut block = self.block.lock().await;
        if block.is_empty() {
            let request = AllocateProducerIdsRequest {
                broker_id: state.node_id.get(),
                broker_epoch: state.broker_epoch().get(),
            };
            let mut controller = state.link.controller().await?;
            let granted = controller.allocate_producer_ids(request).await?.into_inner();
            *block = granted.first..granted.first.saturating_add(granted.count.into());
        }
        match block.next() {
            Some(id) => Ok(ProducerId::new(id)),
            None => Err(Status::internal("the controller granted an empty block of producer ids")),
        }
    }
}
