//! The nouns of Vltava: numbers that must not be mixed up, record batches, and the errors that clients see.
//!
//! Knows nothing of disks, networks, clocks or any other crate of the workspace.

pub mod batch;
pub mod configs;
pub mod epochs;
pub mod error;
pub mod ids;
pub mod topic_name;

#[cfg(test)]
mod testing;

pub use error::{ErrorClass, ErrorCode};
pub use ids::*;
