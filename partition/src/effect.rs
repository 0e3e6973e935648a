//! What the machine asks of its caller, who does it in order.

use vltava_model::{BrokerEpoch, ErrorCode, LeaderEpoch, NodeId, Offset, PartitionEpoch};

use crate::event::{ProposalId, Token};

/// An answer to a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Acked {
    /// The offset of the first record; of deleted records, the first that is left.
    pub base_offset: Offset,
    /// The log start.
    pub log_start: Offset,
}

/// An answer to a follower.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SubscribeReply {
    /// The logs agree below `from`: send data from there, and watermarks as they move.
    Accepted {
        /// The follower's log end.
        from: Offset,
        /// The high watermark now.
        high_watermark: Offset,
        /// The log start now.
        log_start: Offset,
    },
    /// The logs diverge. Nothing was counted.
    Diverging {
        /// The largest epoch here that is not above the follower's last.
        epoch: LeaderEpoch,
        /// Where it ends here.
        end: Offset,
    },
    /// Nothing that the follower has is here: drop all, and begin at this log start.
    StartAt(Offset),
    /// No. The follower tries again after a pause.
    Refused(ErrorCode),
}

/// What this replica is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Nothing is known yet, the partition has no leader, or this broker holds no replica.
    Idle,
    /// It leads.
    Leading {
        /// The leadership.
        epoch: LeaderEpoch,
        /// Where the log ended when it began. Until the high watermark reaches this, everything below may be committed
        /// without being known to be: the end that clients may see is not known (KIP-207).
        epoch_start: Offset,
    },
    /// It follows.
    Following {
        /// Whom.
        leader: NodeId,
        /// In which epoch.
        epoch: LeaderEpoch,
    },
    /// Its storage failed.
    Failed,
}

/// What became of records that were committed once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// They are kept; the replica stops following until there is another leader.
    Kept,
    /// They are given up, because of an unclean election or relaxed durability.
    GivenUp,
}

/// Something that a human must hear of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alarm {
    /// The leader lacks records that this replica knows to be committed (I6).
    CommittedRecordsDiverge {
        /// The leader.
        leader: NodeId,
        /// Its epoch.
        leader_epoch: LeaderEpoch,
        /// From here on the logs diverge.
        to: Offset,
        /// Up to here the records were committed.
        high_watermark: Offset,
        /// What was done.
        verdict: Verdict,
    },
    /// The leader sent batches that cannot follow this log. The replica stops following until there is another leader.
    LeaderContradictsItself {
        /// The leader.
        leader: NodeId,
        /// Its epoch.
        leader_epoch: LeaderEpoch,
        /// Where the batches were to begin.
        at: Offset,
    },
    /// The metadata name an older leader epoch than the log holds. They are not acted upon.
    MetadataOlderThanLog {
        /// Of the metadata.
        assigned: LeaderEpoch,
        /// Of the log.
        logged: LeaderEpoch,
    },
}

/// What the caller does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Write the batch of the produce request at this offset, with this epoch.
    Append {
        /// Whose batch.
        token: Token,
        /// Where.
        base_offset: Offset,
        /// Under which epoch.
        leader_epoch: LeaderEpoch,
    },
    /// Write the batches of the event, all of them.
    AppendReplicated {
        /// Where they begin: the log end.
        base_offset: Offset,
        /// Where they end.
        end_offset: Offset,
    },
    /// Cut the log, and drop all leader epochs that begin at `to` or behind, also when the log ends there already.
    Truncate {
        /// The new log end.
        to: Offset,
    },
    /// Drop the whole log with its leader epochs, and begin anew.
    StartAt {
        /// The new log start and log end.
        offset: Offset,
    },
    /// Note that an epoch begins in the log, also when nothing is ever written in it.
    AssignEpoch {
        /// The epoch.
        epoch: LeaderEpoch,
        /// The log end.
        start: Offset,
    },
    /// Delete what lies below.
    AdvanceLogStart {
        /// The new log start.
        to: Offset,
    },
    /// Answer a client. Every token of a produce, await or delete gets exactly one.
    Ack {
        /// Whom.
        token: Token,
        /// What.
        result: Result<Acked, ErrorCode>,
    },
    /// Answer a follower.
    SubscribeReply {
        /// Whom; when accepted, the name of the subscription.
        token: Token,
        /// What.
        reply: SubscribeReply,
    },
    /// End what is sent to a follower.
    DropFollower {
        /// Whom.
        follower: NodeId,
        /// The subscription.
        subscription: Token,
    },
    /// Ask the controller to record another ISR.
    ProposeIsr {
        /// Named by the answer.
        proposal: ProposalId,
        /// The leadership.
        leader_epoch: LeaderEpoch,
        /// The state on which the proposal is based.
        partition_epoch: PartitionEpoch,
        /// The members, with the registrations that the leader saw.
        isr: Vec<(NodeId, BrokerEpoch)>,
    },
    /// Subscribe at the leader, in place of any earlier subscription.
    Subscribe {
        /// Whom to ask.
        leader: NodeId,
        /// In which epoch.
        leader_epoch: LeaderEpoch,
        /// The first offset here.
        log_start: Offset,
        /// The log end here.
        log_end: Offset,
        /// Up to where this log is on stable storage.
        durable_end: Offset,
        /// The newest leader epoch that this log knows.
        last_epoch: Option<LeaderEpoch>,
    },
    /// Follow no more.
    Unsubscribe {
        /// Whom.
        leader: NodeId,
    },
    /// Follow no more for now, and tell the leader that it need not wait for this replica.
    Suspend {
        /// Whom to tell.
        leader: NodeId,
        /// In which epoch.
        leader_epoch: LeaderEpoch,
    },
    /// Tell the leader how far this log has come. A later report replaces an earlier one.
    ReportProgress {
        /// Whom to tell.
        leader: NodeId,
        /// In which epoch.
        leader_epoch: LeaderEpoch,
        /// The log end.
        log_end: Offset,
        /// Up to where it is on stable storage.
        durable_end: Offset,
    },
    /// What others may read moved: publish it, and as the leader push it to the followers.
    WatermarkMoved {
        /// The high watermark.
        high_watermark: Offset,
        /// The log start.
        log_start: Offset,
    },
    /// This replica's role changed: publish it.
    StandingChanged(Standing),
    /// Log this at the highest level, and count it.
    Alarm(Alarm),
}
