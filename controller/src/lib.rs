//! The controller quorum: decides what is true of the cluster, and records it.
//!
//! | module | what lives there |
//! |---|---|
//! | [`decide`] | one pure function for each request: image in, records and response out |
//! | [`placement`], [`elections`], [`liveness`] | pure parts of decisions: where replicas go, who leads, who is alive |
//! | [`queue`], `writer` | the single writer: rounds of decisions become entries, answers wait until they are applied |
//! | `tenure` | what lives exactly as long as this controller is the active one of a term |
//! | `session`, `feed` | brokers: registration, heartbeats, the metadata as it is committed |
//! | `upkeep` | fencing, rebalancing, changes of voters that were left half-done |
//! | `machine` | committed entries become the image |
//! | `raft` | openraft's network, forming a cluster, who votes, who leads, when to stand for election |
//! | `services`, `listener` | gRPC |
//! | [`identity`] | the metadata directory's own id |
//! | `home` | the metadata directory at start |
//! | [`controller`], [`handle`], [`options`] | start, figures, stop |
//!
//! What holds:
//! - Metadata changes only by a committed entry. Every answer about a change comes after it was applied.
//! - An entry names the offset that it follows. One that was decided on an older state is refused by all nodes alike.
//! - This controller acts as the active one only while a quorum answers it and it has applied everything before its term.
//! - A voter is a node with its directory. One whose disk was wiped is another, and does not vote until it is added.

pub mod controller;
pub mod decide;
pub mod elections;
mod feed;
pub mod handle;
mod home;
pub mod identity;
mod listener;
pub mod liveness;
mod machine;
pub mod options;
pub mod placement;
pub mod queue;
mod raft;
mod services;
mod session;
mod tenure;
mod upkeep;
mod writer;

pub use controller::Controller;
pub use handle::{ControllerHandle, ControllerMetrics, QuorumView};
pub use home::StartError;
pub use machine::Published;
pub use options::{ConfiguredVoter, ControllerOptions, ControllerSettings, FatalHook, Listen};
pub use vltava_raft_store::Position;

/// For fuzzing only: what reads bytes that another controller sent.
#[doc(hidden)]
pub mod probe {
    pub use crate::raft::wire::decode_any as decode_raft_bodies;
}
