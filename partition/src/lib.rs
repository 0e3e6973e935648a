//! Replication of one partition as a pure machine.
//!
//! [`Partition::step`] takes an [`Event`] and the time and gives [`Effect`]s, to be carried out in order by whoever owns
//! the partition's log. The machine decides offsets, epochs, truncation, in-sync replicas, the high watermark and when a
//! write counts; it reads no clock and touches no disk, network or thread, so a simulation runs the very same code.
//!
//! | module | holds |
//! |---|---|
//! | [`event`], [`effect`] | what goes in, what comes out |
//! | [`machine`] | roles, and which event goes where |
//! | [`offsets`] | log start ≤ high watermark ≤ log end, asserted after each step |
//! | [`leader`] | the leader's part: appends, followers, the high watermark, acknowledgements |
//! | [`isr`] | in-sync replicas, with a change that is under way |
//! | [`ack_queue`] | writes that wait for their acknowledgement |
//! | [`follower`] | the follower's part: what the leader sends, truncation |

pub mod ack_queue;
pub mod effect;
pub mod event;
pub mod follower;
pub mod isr;
pub mod leader;
pub mod machine;
pub mod offsets;

pub use effect::{Effect, SubscribeAnswer};
pub use event::{
    Acks, Assignment, Durability, Event, IsrOutcome, LocalLog, Recovery, ReplicaIdentity, Settings,
    Subscription, Time, Token,
};
pub use machine::Partition;
