//! Crashes and damages the logs that lie on disks, and counts what is lost: `cargo xtask crash`, and a slice with the tests.
//!
//! A run is drawn from a seed and recorded by a disk in memory: behind every single change of the disk it can be crashed,
//! in every way. What is found after a restart is held against what was acknowledged by then.
//!
//! | module | what lives there |
//! |---|---|
//! | [`raft`] | the logs that a controller's Raft log can lie on |
//! | [`partition`] | a broker's log directory: partition logs, journal, checkpoints |
//! | [`count`], [`dice`], [`harm`], [`threads`] | counts, chance, damage and threads, for all of them |
//!
//! Knows nothing of networks and clusters: the simulation and the chaos runs do.

pub mod count;
pub mod dice;
pub mod harm;
pub mod partition;
pub mod raft;
pub mod threads;
