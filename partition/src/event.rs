//! What a partition is told.

use vltava_model::epochs::LeaderEpochs;
use vltava_model::{BrokerEpoch, DirectoryId, ErrorCode, LeaderEpoch, NodeId, Offset, PartitionEpoch};

/// Monotonic time in milliseconds from an origin of the caller's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Time(u64);

impl Time {
    /// Wraps milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// This much later.
    #[must_use]
    pub const fn plus(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// How many milliseconds have passed since `earlier`.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Names a request of the owner's in the effect that answers it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Token(pub u64);

/// When a write is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acks {
    /// At once.
    None,
    /// When the leader has it (on stable storage, for a synced partition).
    Leader,
    /// When every in-sync replica has it, and these are enough.
    All,
}

/// What counts as having a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// To have it on stable storage (`flush.messages=1`).
    Synced,
    /// To have it in the log.
    Relaxed,
}

/// Which process and disk a replica is: a wiped disk or a restarted process is another one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplicaIdentity {
    /// The broker.
    pub node: NodeId,
    /// Its registration.
    pub broker_epoch: BrokerEpoch,
    /// Its directory.
    pub directory: DirectoryId,
}

/// The log as it was opened.
#[derive(Clone, Debug, Default)]
pub struct LocalLog {
    /// The first offset.
    pub log_start: Offset,
    /// The last known high watermark; the log start when none is known.
    pub high_watermark: Offset,
    /// Up to where it is on stable storage.
    pub durable_end: Offset,
    /// Where it ends.
    pub log_end: Offset,
    /// Its leader epochs.
    pub epochs: LeaderEpochs,
}

/// What the topic's configuration means for replication.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// `min.insync.replicas`, at most the number of replicas.
    pub min_insync: usize,
    /// `replica.lag.time.max.ms`.
    pub lag_max_ms: u64,
    /// What counts as having a record.
    pub durability: Durability,
    /// How many writes may wait for their acknowledgement.
    pub waiting_max: usize,
}

/// How the leader came to lead.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Recovery {
    /// It has every committed record.
    #[default]
    Recovered,
    /// By an unclean election: committed records may be gone, and followers may cut them off.
    Recovering,
}

/// The partition as committed metadata has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Assignment {
    /// Who leads.
    pub leader: Option<NodeId>,
    /// Since which epoch.
    pub leader_epoch: LeaderEpoch,
    /// Of which version this assignment is.
    pub partition_epoch: PartitionEpoch,
    /// All replicas.
    pub replicas: Vec<NodeId>,
    /// The in-sync ones.
    pub isr: Vec<NodeId>,
    /// Replicas that may join the ISR, with their registrations.
    pub eligible: Vec<(NodeId, BrokerEpoch)>,
    /// How the leader came to lead.
    pub recovery: Recovery,
}

/// A follower's wish to follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscription {
    /// Who.
    pub follower: ReplicaIdentity,
    /// In which epoch it follows.
    pub leader_epoch: LeaderEpoch,
    /// Where its log ends.
    pub log_end: Offset,
    /// The epoch of its last record; `None` without records.
    pub last_epoch: Option<LeaderEpoch>,
    /// Up to where its log is on stable storage.
    pub durable_end: Offset,
}

/// What the controller said to a proposed ISR.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum IsrOutcome {
    /// Committed: the partition is so now.
    Applied {
        /// Since which epoch it is led.
        leader_epoch: LeaderEpoch,
        /// Of which version this is.
        partition_epoch: PartitionEpoch,
        /// The ISR.
        isr: Vec<NodeId>,
    },
    /// Refused, or lost on the way.
    Failed(ErrorCode),
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Committed metadata, or the registrations of its brokers, changed.
    Assigned(Assignment),
    /// The topic's configuration changed.
    Configured(Settings),
    /// A client's batch passed all other checks.
    Produce {
        /// Names the answer.
        token: Token,
        /// How many offsets it takes: at least 1.
        records: u64,
        /// When to answer.
        acks: Acks,
        /// The leader epoch that the client believes in.
        expected_epoch: Option<LeaderEpoch>,
        /// Until when to wait.
        deadline: Time,
    },
    /// A client's batch is in the log already: it wants its acknowledgement.
    ProduceAgain {
        /// Names the answer.
        token: Token,
        /// Its first offset.
        base: Offset,
        /// One past its last offset.
        end: Offset,
        /// When to answer.
        acks: Acks,
        /// Until when to wait.
        deadline: Time,
    },
    /// The log is on stable storage up to here.
    Durable {
        /// At most the log end.
        up_to: Offset,
    },
    /// The disk failed: final.
    StorageFailed,
    /// A follower wants to follow.
    FollowerSubscribed {
        /// Names the answer.
        token: Token,
        /// What it says.
        subscription: Subscription,
    },
    /// A follower that was accepted reports how far it is.
    FollowerProgress {
        /// Who.
        node: NodeId,
        /// Its registration.
        broker_epoch: BrokerEpoch,
        /// In which epoch it was accepted.
        leader_epoch: LeaderEpoch,
        /// Where its log ends.
        log_end: Offset,
        /// Up to where it is on stable storage.
        durable_end: Offset,
    },
    /// The controller answered a proposal.
    IsrAnswered(IsrOutcome),
    /// The leader sent batches.
    LeaderData {
        /// In which epoch this was asked for.
        leader_epoch: LeaderEpoch,
        /// The first offset.
        base: Offset,
        /// One past the last offset.
        end: Offset,
        /// The leader epochs in the batches, each with its first offset.
        epochs: Vec<(LeaderEpoch, Offset)>,
        /// The leader's high watermark.
        high_watermark: Offset,
        /// The leader's first offset.
        log_start: Offset,
    },
    /// The leader accepted the subscription, or its watermarks moved.
    LeaderWatermark {
        /// In which epoch this was asked for.
        leader_epoch: LeaderEpoch,
        /// The leader's high watermark.
        high_watermark: Offset,
        /// The leader's first offset.
        log_start: Offset,
    },
    /// The logs diverge.
    LeaderDiverging {
        /// In which epoch this was asked for.
        leader_epoch: LeaderEpoch,
        /// The leader's largest epoch that is not above this replica's last.
        epoch: LeaderEpoch,
        /// Where it ends in the leader's log.
        end: Offset,
    },
    /// Nothing here is left in the leader's log, which begins at `offset`.
    LeaderStartsAt {
        /// In which epoch this was asked for.
        leader_epoch: LeaderEpoch,
        /// The leader's first offset.
        offset: Offset,
    },
    /// The subscription ended, for whatever reason.
    SubscriptionLost {
        /// Of which epoch it was.
        leader_epoch: LeaderEpoch,
    },
    /// Records below an offset are to go.
    DeleteRecords {
        /// Names the answer.
        token: Token,
        /// Below which; `None` is the high watermark.
        before: Option<Offset>,
    },
    /// Retention removed what lay below.
    LogStartMoved {
        /// The new log start.
        to: Offset,
    },
    /// Time passed.
    Tick,
}
