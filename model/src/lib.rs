//! The nouns of Vltava: numbers that must not be mixed up, record batches, configuration, and the errors that clients
//! see.
//!
//! Knows nothing of disks, networks, clocks or any other crate of the workspace.
//!
//! | module | what |
//! |---|---|
//! | [`ids`] | a type for every offset, epoch and identity |
//! | [`batch`] | record batches, byte for byte Kafka's format 2: checked, read, built, compressed |
//! | [`fields`] | numbers taken off the front of bytes |
//! | [`epochs`] | where each leader epoch begins in a log |
//! | [`configs`] | what can be configured of topics and the cluster, and which value holds |
//! | [`seeded`] | known bugs that can be put back in, to see whether the tests find them |
//! | [`topic_name`] | which names a topic may have |
//! | [`error`] | every error that a client can see, with what to do about it |

pub mod batch;
pub mod configs;
pub mod epochs;
pub mod error;
pub mod fields;
pub mod ids;
pub mod seeded;
pub mod topic_name;

#[cfg(test)]
mod testing;

pub use error::{ErrorClass, ErrorCode};
pub use ids::*;
