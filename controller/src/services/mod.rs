//! The gRPC services of the CONTROLLER listener. They translate; what is decided is decided elsewhere.

pub(crate) mod admin;
pub(crate) mod controller;
pub(crate) mod describe;
pub(crate) mod principal;
pub(crate) mod raft;

use tonic::Status;
use vltava_proto::status;

use crate::decide::Refusal;
use crate::queue::QueueError;

/// The status of a request that got no decision.
fn status_of(error: &QueueError) -> Status {
    status::from_detail(error.detail())
}

/// The status of a refusal.
fn refused(refusal: &Refusal) -> Status {
    status::from_detail(refusal.detail())
}
