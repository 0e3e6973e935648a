//! The cluster's state as facts.
//!
//! The controller quorum commits records (`vltava_proto::v1::MetadataRecord`), and every node replays them into the same
//! [`Image`]. Nothing here knows networks, disks, clocks or randomness, nor why a fact came to be.
//!
//! | module | holds |
//! |---|---|
//! | [`image`] | [`Image`]: one file for each concept, persistent maps, so that a clone costs nothing and a change costs what it touches |
//! | [`delta`] | [`Delta`]: what a replay changed, with before and after |
//! | [`local`] | [`LocalChanges`]: what a delta means for the replicas of one broker, its only input |
//! | [`snapshot`] | image to records in canonical order, and back |
//! | [`lookup`] | what brokers and the controller ask of an image |
//! | [`record`] | small constructors of records |
//! | [`error`] | [`ReplayError`]: why a record is not a fact about this state |
//!
//! # A topic exists from its `TopicRecord` on
//! A topic of many partitions does not fit in one log entry. Its partitions are written first and gather out of sight
//! ([`Image::unfinished_topics`]); the `TopicRecord` comes last and makes all of them visible at once. What is left behind
//! when a controller dies half-way is taken away by a `TopicRemovedRecord`. Partitions that are added to a topic that
//! exists are visible one by one, in the order of their numbers.

pub mod delta;
pub mod error;
pub mod image;
pub mod local;
pub mod lookup;
pub mod record;
pub mod snapshot;

pub use delta::{Change, Delta};
pub use error::ReplayError;
pub use image::{
    BrokerImage, BrokerState, ConfigTarget, DamagedReplica, Endpoint, Image, LeaderRecovery, PartitionImage,
    TopicImage,
};
pub use local::{ClosedPartition, LocalChanges, LocalPartition};
