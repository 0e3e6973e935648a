//! What the owner of a partition does, in order.

use vltava_model::{BrokerEpoch, ErrorCode, LeaderEpoch, NodeId, Offset, PartitionEpoch};

use crate::event::Token;

/// What a follower is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SubscribeAnswer {
    /// The logs agree up to the follower's end.
    Accepted {
        /// Where data begins.
        from: Offset,
    },
    /// The logs diverge; nothing was counted.
    Diverging {
        /// The largest epoch here that is not above the follower's last.
        epoch: LeaderEpoch,
        /// Where it ends here.
        end: Offset,
    },
    /// Nothing of the follower's is left here.
    StartAt(Offset),
    /// No.
    Refused(ErrorCode),
}

/// One thing to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Append the batch of `token` at this place.
    Append {
        /// Which batch.
        token: Token,
        /// Its first offset.
        base: Offset,
        /// Its leader epoch.
        leader_epoch: LeaderEpoch,
    },
    /// Append the leader's batches that begin at or past `from`.
    AppendReplicated {
        /// The log end before.
        from: Offset,
    },
    /// Cut the log: nothing at or past `to` stays.
    Truncate {
        /// The new log end.
        to: Offset,
    },
    /// Drop all records; the log begins and ends here.
    StartAt {
        /// The offset.
        offset: Offset,
    },
    /// Delete what lies below.
    AdvanceLogStart {
        /// The new log start.
        to: Offset,
    },
    /// Record that an epoch begins, before anything is written in it.
    AssignEpoch {
        /// The epoch.
        epoch: LeaderEpoch,
        /// Its first offset.
        start: Offset,
    },
    /// Answer a produce request.
    Ack {
        /// Which.
        token: Token,
        /// The first offset, or why not.
        result: Result<Offset, ErrorCode>,
    },
    /// Answer a subscription.
    AnswerSubscription {
        /// Which.
        token: Token,
        /// How.
        answer: SubscribeAnswer,
    },
    /// Answer a request to delete records.
    Deleted {
        /// Which.
        token: Token,
        /// The log start, or why not.
        result: Result<Offset, ErrorCode>,
    },
    /// Ask the controller for another ISR.
    ProposeIsr {
        /// In which epoch this replica leads.
        leader_epoch: LeaderEpoch,
        /// On which version the proposal is based.
        partition_epoch: PartitionEpoch,
        /// The new ISR, with the registrations that were seen.
        isr: Vec<(NodeId, BrokerEpoch)>,
    },
    /// Follow, from this log's end on; replaces any subscription.
    Subscribe {
        /// Whom.
        leader: NodeId,
        /// In which epoch.
        leader_epoch: LeaderEpoch,
        /// The epoch of the last record here.
        last_epoch: Option<LeaderEpoch>,
    },
    /// Follow nobody.
    Unsubscribe,
    /// Tell the leader how far this log is.
    ReportProgress {
        /// In which epoch.
        leader_epoch: LeaderEpoch,
    },
    /// The role changed: what others see of it must change before anything else is answered.
    RoleChanged,
    /// Something that must not happen; the replica stops.
    Alarm(String),
}
