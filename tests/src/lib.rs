//! A cluster of real processes of the real binary, for scenarios: started, killed, stopped, wiped and asked as a user would.
//!
//! Waiting is always for a condition with a deadline; a failure shows the ends of all nodes' logs.

pub mod cli;
pub mod cluster;
pub mod history;
pub mod load;
pub mod messages;
pub mod replicas;
pub mod turn;
pub mod wait;
pub mod wires;

pub use cluster::{Cluster, ClusterOptions, Network, Role};
