//! What the active controller decides: one pure function for each request.
//!
//! A decision reads a [`View`] and returns the records that make it a fact, with the response that is true once they are
//! applied; or a [`Refusal`], and then nothing changes. Decisions know no Raft, no sessions' streams, no clock.
//!
//! Several requests are decided in one round: each decision's records are applied to a working image (cheap, images share
//! what did not change) before the next is decided on it. So `metadata_offset` in a response is exact.
//!
//! # Large decisions
//! A decision may have more records than one entry of the Raft log should hold. [`entries`] cuts them where each prefix is a
//! legal state that a later controller can carry on from; every decision orders its records for that:
//! - a topic's partitions come before its own record, and are invisible until it; its configs come with it;
//! - a broker's partitions move away before it is recorded as fenced, shutting down, removed, or under a new epoch: if the
//!   rest is never written, its session ends again, or its heartbeat asks again, and the rest is decided anew;
//! - a broker becomes active before it is elected: leaderless partitions that it could lead are found by [`activate`];
//! - ELRs shrink before a smaller `min.insync.replicas` is recorded.

mod departure;
mod entries;
mod topic_rules;
mod view;

pub mod activate;
pub mod allocate_producer_ids;
pub mod alter_configs;
pub mod alter_partitions;
pub mod assign_directories;
pub mod bootstrap;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_topics;
pub mod elect_leaders;
pub mod failed_directories;
pub mod fence_broker;
pub mod heartbeat;
pub mod rebalance_leaders;
pub mod register_broker;
pub mod report_replicas;
pub mod shut_down_broker;
pub mod unfence_broker;
pub mod unregister_broker;

pub use entries::{MAX_ENTRY_BYTES, entries};
pub use view::{Settings, View};

use vltava_model::{ErrorCode, MetadataOffset};
use vltava_proto::v1::{ErrorDetail, MetadataRecord};

/// What was decided.
#[derive(Clone, PartialEq, Debug)]
pub struct Decision<T> {
    /// The facts to commit; none when nothing changes.
    pub records: Vec<MetadataRecord>,
    /// What to answer once they are applied.
    pub response: T,
}

impl<T> Decision<T> {
    /// A decision that changes nothing.
    pub fn unchanged(response: T) -> Self {
        Self { records: Vec::new(), response }
    }

    /// The metadata offset from which on the decision holds.
    pub fn offset_after(&self, view: &View) -> MetadataOffset {
        offset_after(view, self.records.len())
    }
}

/// The metadata offset after that many records more.
pub(crate) fn offset_after(view: &View, records: usize) -> MetadataOffset {
    MetadataOffset::new(view.image.offset().get() + records as u64)
}

/// Why a request is not done. Nothing changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// The error.
    pub code: ErrorCode,
    /// What is wrong and, where that is known, what to do.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// As responses that answer several things carry it.
    pub fn detail(&self) -> ErrorDetail {
        vltava_proto::status::detail(self.code, self.message.clone())
    }
}

#[cfg(test)]
mod tests;
