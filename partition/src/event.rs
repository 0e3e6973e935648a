//! Everything that can happen to a replica, and the nouns in which it is said.
//!
//! Knows neither bytes nor connections: a batch is a range of offsets here, a stream is a token.

use std::time::Duration;

use vltava_model::epochs::LeaderEpochs;
use vltava_model::{BrokerEpoch, DirectoryId, ErrorCode, LeaderEpoch, NodeId, Offset, PartitionEpoch};

use crate::offsets::LogPosition;
use crate::time::Time;

/// Names one request of the caller's; the effect that answers it carries the same one. The caller never uses one twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Token(u64);

impl Token {
    /// Wraps the caller's number.
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The caller's number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Names one attempt to change the ISR; the answer to it carries the same one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProposalId(u64);

impl ProposalId {
    /// Wraps a number.
    pub(crate) const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The number, for logs.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Counts the streams on which a process has followed: what comes on an earlier one after a later one is old, however late
/// the network delivers it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct StreamNumber(u64);

impl StreamNumber {
    /// The stream of that number.
    pub const fn new(value: u64) -> Self {
        Self(value)
    }
}

/// Who holds a replica: another process or another directory of the same node counts as a new replica, which may hold
/// nothing (I32).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ReplicaIdentity {
    /// The broker.
    pub node: NodeId,
    /// Its process.
    pub broker_epoch: BrokerEpoch,
    /// The directory that holds the partition.
    pub directory: DirectoryId,
}

/// A replica's log as it was opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalLog {
    /// The first offset.
    pub log_start: Offset,
    /// One past the last offset.
    pub log_end: Offset,
    /// Everything below is on stable storage. After a recovery usually the log end.
    pub durable_end: Offset,
    /// From a checkpoint of [`crate::Partition::watermark_to_checkpoint`]. One that was lost may be given as the log start;
    /// one above the log end is cut to it.
    pub high_watermark: Offset,
    /// As the log knows them.
    pub epochs: LeaderEpochs,
}

/// What the high watermark and acknowledgements count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// Only what is on stable storage (`flush.messages=1`).
    Synced,
    /// What was appended, as Kafka does by default.
    Relaxed,
}

/// Whether a replica can append.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ability {
    /// As far as it knows.
    Able,
    /// Not now, and it knows: its disk is full, say. Its log is as it was, and may be read.
    Hindered,
}

/// `unclean.leader.election.enable`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UncleanElection {
    /// Committed records are never given up: a replica that is asked to refuses.
    Forbidden,
    /// Committed records may be given up.
    Allowed,
}

/// What a partition's topic and broker are configured to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// `min.insync.replicas`. More than there are replicas count as all of them.
    pub min_insync: u32,
    /// `replica.lag.time.max.ms`: how long a follower may trail before it leaves the ISR.
    pub lag_time_max: Duration,
    /// `replica.stall.time.max.ms`: how long a follower that lacks something may come no nearer, while records wait for it,
    /// before it leaves the ISR.
    pub stall_time_max: Duration,
    /// What counts as replicated.
    pub durability: Durability,
    /// Whether a truncation below the high watermark is tolerated.
    pub unclean_election: UncleanElection,
    /// How many produce requests may wait for replication; more are refused with THROTTLING_QUOTA_EXCEEDED.
    pub max_waiting_acks: usize,
    /// After this time an ISR proposal without an answer is proposed anew. No request that the caller sent longer ago than
    /// this may still be executed by any controller.
    pub proposal_timeout: Duration,
}

impl Settings {
    /// Settings with the usual bounds; a follower that stands still may do so for as long as it may trail.
    pub const fn new(min_insync: u32, lag_time_max: Duration, durability: Durability) -> Self {
        Self {
            min_insync,
            lag_time_max,
            stall_time_max: lag_time_max,
            durability,
            unclean_election: UncleanElection::Forbidden,
            max_waiting_acks: 10_000,
            proposal_timeout: Duration::from_secs(10),
        }
    }
}

/// When a produce request is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acks {
    /// At once (`acks=0`).
    None,
    /// When the leader has it, on stable storage if the partition is [`Durability::Synced`] (`acks=1`).
    Leader,
    /// When it is committed (`acks=all`).
    All,
}

/// How a leader came to lead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeaderRecovery {
    /// It has all committed records.
    Recovered,
    /// It was elected uncleanly: committed records may be gone.
    Recovering,
}

/// A partition as committed metadata has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionState {
    /// Who leads, if anybody can.
    pub leader: Option<NodeId>,
    /// The leadership.
    pub leader_epoch: LeaderEpoch,
    /// Counts the changes of this state.
    pub partition_epoch: PartitionEpoch,
    /// Who holds a replica.
    pub replicas: Vec<NodeId>,
    /// The in-sync replicas.
    pub isr: Vec<NodeId>,
    /// The eligible leader replicas outside the ISR (KIP-966).
    pub elr: Vec<NodeId>,
    /// How the leader came to lead.
    pub recovery: LeaderRecovery,
}

/// What the metadata feed says about a partition. Comes in the order of the metadata log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Assignment {
    /// Its state.
    pub state: PartitionState,
    /// The registrations of its replicas that may be in the ISR: neither fenced nor stopping.
    pub eligible: Vec<(NodeId, BrokerEpoch)>,
}

/// A client's batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Produce {
    /// Named by the answer.
    pub token: Token,
    /// How many offsets it takes.
    pub records: u32,
    /// When to answer.
    pub acks: Acks,
    /// When to give up waiting.
    pub deadline: Time,
    /// The leader epoch that the client believes in.
    pub expected_leader_epoch: Option<LeaderEpoch>,
}

/// A batch that an idempotent producer sent again, found in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AwaitCommitted {
    /// Named by the answer.
    pub token: Token,
    /// Where the batch begins.
    pub base_offset: Offset,
    /// Where it ends, not above the log end.
    pub end_offset: Offset,
    /// When to answer.
    pub acks: Acks,
    /// When to give up waiting.
    pub deadline: Time,
}

/// A follower wants data; or data again, on another stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FollowerSubscribe {
    /// Names the subscription.
    pub token: Token,
    /// Who.
    pub follower: ReplicaIdentity,
    /// On which of its streams.
    pub stream: StreamNumber,
    /// In which epoch it follows.
    pub leader_epoch: LeaderEpoch,
    /// Its first offset.
    pub log_start: Offset,
    /// Where its log ends, and where it wants to read on.
    pub log_end: Offset,
    /// Up to where its log is on stable storage.
    pub durable_end: Offset,
    /// The newest leader epoch that its log knows.
    pub last_epoch: Option<LeaderEpoch>,
    /// Where this log's first batch begins: at its log start, or below when records were deleted up to the midst of it. No
    /// other log can begin within it.
    pub first_batch: Offset,
}

/// How far a follower has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FollowerProgress {
    /// Who.
    pub follower: ReplicaIdentity,
    /// In which epoch it follows.
    pub leader_epoch: LeaderEpoch,
    /// Where its log ends.
    pub log_end: Offset,
    /// Up to where its log is on stable storage.
    pub durable_end: Offset,
}

/// A follower says that it cannot follow until it subscribes again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FollowerSuspended {
    /// Who.
    pub follower: ReplicaIdentity,
    /// In which epoch it would follow.
    pub leader_epoch: LeaderEpoch,
}

/// Batches from the leader, which the caller keeps until the step is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaderData {
    /// In which epoch they were asked for.
    pub leader_epoch: LeaderEpoch,
    /// The first offset.
    pub base_offset: Offset,
    /// One past the last offset.
    pub end_offset: Offset,
    /// The leader epoch of each batch, or of each first batch of an epoch, with its offset; the first at the base offset.
    pub batch_epochs: Vec<(LeaderEpoch, Offset)>,
    /// The leader's high watermark.
    pub high_watermark: Offset,
    /// The leader's first offset.
    pub log_start: Offset,
}

/// What the controller said to a proposed ISR.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum IsrOutcome {
    /// The partition as it is now.
    Applied(PartitionState),
    /// Refused, or its outcome is unknown.
    Failed(ErrorCode),
}

/// What happens to a replica.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Committed metadata. May repeat itself.
    Assigned(Assignment),
    /// The settings changed.
    Configured(Settings),
    /// A client's batch.
    Produce(Produce),
    /// A client's batch that is in the log already.
    AwaitCommitted(AwaitCommitted),
    /// Everything below this position is on stable storage: appends, truncations and new log starts alike.
    Durable(LogPosition),
    /// A write failed in a way that is not final, such as on a full disk: the log is as it was before the step that asked
    /// for it, or shorter, but holds all that was ever reported as durable, or to a leader. Whatever was left of that
    /// step was not done, and its clients were told KAFKA_STORAGE_ERROR. The watermark in it is ignored.
    LogReopened(LocalLog),
    /// A write or sync failed. Final.
    StorageFailed,
    /// Nothing can be appended for now, or again. Holds in whatever role; [`Event::LogReopened`] says what became of the log.
    Ability(Ability),
    /// A follower subscribes.
    FollowerSubscribe(FollowerSubscribe),
    /// A follower has come further.
    FollowerProgress(FollowerProgress),
    /// A follower cannot follow.
    FollowerSuspended(FollowerSuspended),
    /// A subscription ended.
    FollowerGone {
        /// Whose.
        follower: NodeId,
        /// The subscription.
        subscription: Token,
    },
    /// The leader sends batches.
    LeaderData(LeaderData),
    /// The leader accepts the subscription, or its watermarks moved.
    LeaderWatermark {
        /// In which epoch it was asked.
        leader_epoch: LeaderEpoch,
        /// Its high watermark.
        high_watermark: Offset,
        /// Its first offset.
        log_start: Offset,
    },
    /// The leader refuses the subscription since the logs diverge.
    LeaderDiverging {
        /// In which epoch it was asked.
        leader_epoch: LeaderEpoch,
        /// The largest epoch that it knows, not above the one named in the subscription.
        epoch: LeaderEpoch,
        /// Where that epoch ends in its log.
        end: Offset,
    },
    /// The leader refuses the subscription since it shares nothing with this log.
    LeaderStartAt {
        /// In which epoch it was asked.
        leader_epoch: LeaderEpoch,
        /// Its first offset.
        log_start: Offset,
    },
    /// The stream to the leader, or the subscription on it, ended; or it was refused, and a pause is over.
    StreamLost {
        /// In which epoch the leader was followed.
        leader_epoch: LeaderEpoch,
    },
    /// The controller answered a proposal.
    IsrAnswered {
        /// Which.
        proposal: ProposalId,
        /// What it said.
        outcome: IsrOutcome,
    },
    /// A client deletes old records.
    DeleteRecords {
        /// Named by the answer.
        token: Token,
        /// Below which offset; `None` means all that are committed.
        before: Option<Offset>,
    },
    /// Retention moved the log start; never above the high watermark.
    LogStartMoved {
        /// The first offset now.
        log_start: Offset,
    },
    /// Time passes. See [`crate::Partition::next_tick`].
    Tick,
}

impl Event {
    /// Whether only a leader can take it.
    pub(crate) const fn is_for_leader(&self) -> bool {
        matches!(
            self,
            Self::Produce(_)
                | Self::AwaitCommitted(_)
                | Self::FollowerSubscribe(_)
                | Self::FollowerProgress(_)
                | Self::FollowerSuspended(_)
                | Self::FollowerGone { .. }
        )
    }
}
