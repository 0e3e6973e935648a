//! A broker: hosts partitions, serves clients, replicates from and to its peers, and follows the metadata log.
//!
//! | module | holds |
//! |---|---|
//! | [`broker`] | start, controlled shutdown, end |
//! | [`state`] | what all parts share |
//! | [`shard`] | the threads that own partitions |
//! | [`damages`] | what is known of damaged replicas |
//! | [`directories`] | log directories with their journals |
//! | [`replication`] | streams between brokers |
//! | [`quorum`] | the session with the active controller, the metadata follower, ISR changes |
//! | [`api`] | what clients ask, one request a file |
//! | [`listener`] | the gRPC port |
//! | [`standstill`] | whether a shard waits for a disk in vain |
//! | [`configs`], [`options`], [`metrics`], [`channel`], [`wake`] | what their names say |
//!
//! Knows nothing of controllers' code, config files or command lines.

pub mod api;
pub mod broker;
pub mod channel;
pub mod configs;
pub mod damages;
pub mod directories;
pub mod listener;
pub mod metrics;
pub mod options;
pub mod quorum;
pub mod replication;
pub mod shard;
pub mod standstill;
pub mod state;
pub mod wake;

pub use broker::{Broker, BrokerHandle, HandOver, StartError};
pub use options::{AdvertisedEndpoint, BrokerOptions, FatalHook, FatalReason};
