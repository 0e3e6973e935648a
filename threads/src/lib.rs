//! Every blocking call of our threads goes through here, so that a simulator can stand in for the operating system.
//!
//! Without one, each function is the plain call after one relaxed atomic load. With one, exactly one thread runs at a
//! time: a call that would block hands the simulator a question (may I go on?) and a time limit, and waits to be resumed.
//! What is behind the calls (logs, Raft, shards) is not known here, nor is how a simulator decides.
//!
//! | instead of | use |
//! |---|---|
//! | `thread::spawn`, `JoinHandle::join` | [`spawn`], [`JoinHandle::join`] |
//! | a channel's `recv`, `recv_timeout` | those of a [`queue`] |
//! | `select!` over several channels | one [`Bell`] for their [`queue`]s |
//! | `Condvar` | [`Changed`] |
//! | `Mutex::lock` where the holder may wait for the disk | [`lock`] |
//! | `spawn_blocking` | [`offload`], or [`offload_waiting`] |
//!
//! A lock that is held across none of these calls needs no care.

mod bell;
mod changed;
mod lock;
#[cfg(feature = "runtime")]
mod offload;
pub mod queue;
mod rest;
mod simulator;
mod thread;

pub use bell::Bell;
pub use changed::Changed;
pub use lock::lock;
#[cfg(feature = "runtime")]
pub use offload::{offload, offload_waiting};
pub use rest::{at_rest, rest};
pub use simulator::{Simulator, Woken, install, simulator};
pub use thread::{JoinHandle, Panicked, spawn};
