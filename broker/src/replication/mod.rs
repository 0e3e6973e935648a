//! Replication between brokers: one bidirectional stream for each pair (following broker, leading broker).
//!
//! `leader` serves followers, `follower` follows leaders. What an answer means for a partition is decided by the
//! partition's machine on its shard; here bytes only move.

pub mod follower;
pub mod leader;
