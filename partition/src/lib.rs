//! Replication of one partition as a pure machine.
//!
//! [`Partition::step`] takes an [`Event`] and the time, and says by [`Effect`]s what its caller must do. It does no I/O, reads
//! no clock and draws no random number, so the same events give the same effects.
//!
//! | module | what lives there |
//! |---|---|
//! | `machine` | [`Partition`]: takes each event to the role that it concerns; metadata, storage failure |
//! | `view` | what may be asked of it at any time |
//! | `leader` | batches, followers, the high watermark, acknowledgements |
//! | `agreement` | where a follower's log and the leader's part |
//! | `remote` | a follower as its leader sees it |
//! | `pace` | whether a replica that lacks something stands still |
//! | `membership` | who should be in the ISR |
//! | `isr` | the committed ISR and the one change that may be under way |
//! | `follower` | cutting the log to where it agrees with the leader's, appending what that sends |
//! | `offsets` | the offsets of one log and their order |
//! | `ack_queue` | requests that wait for an offset |
//! | `event`, `effect`, `time` | what goes in and out |
//!
//! # What the caller owes
//! - One owner steps a partition. It runs all effects of a step in order before the next step.
//! - An append, truncation or log start that fails is followed by [`Event::StorageFailed`], or by [`Event::LogReopened`]
//!   when the disk is merely full, and by nothing that is left of the step: acknowledgements in it become
//!   KAFKA_STORAGE_ERROR. A new machine in place of that would forget which ISR may have been recorded.
//! - When a group of appends, truncations and log starts is handed to the disk it takes [`Partition::log_position`] along,
//!   and gives it back in [`Event::Durable`] when the group is on stable storage. Groups become durable in order.
//! - Metadata come in the order of the metadata log, and never older than what this broker ever acted upon.
//! - Messages of one stream come in order. Streams may break, and then [`Event::StreamLost`] and [`Event::FollowerGone`]
//!   follow, however late. What one stream carried may still come while the next one is open.
//! - [`Event::Tick`] comes when [`Partition::next_tick`] says, or a little later.

mod ack_queue;
mod agreement;
mod context;
mod effect;
mod event;
mod follower;
mod isr;
mod leader;
mod machine;
mod membership;
mod offsets;
mod pace;
mod remote;
mod time;
mod view;

#[cfg(test)]
mod tests;

pub use effect::{Acked, Alarm, Effect, Standing, SubscribeReply, Verdict};
pub use event::{
    Ability, Acks, Assignment, AwaitCommitted, Durability, Event, FollowerProgress, FollowerSubscribe,
    FollowerSuspended, IsrOutcome, LeaderData, LeaderRecovery, LocalLog, PartitionState, Produce, ProposalId,
    ReplicaIdentity, Settings, StreamNumber, Token, UncleanElection,
};
pub use machine::Partition;
pub use offsets::{LogPosition, Offsets};
pub use time::Time;
pub use view::FollowerView;
