//! What can be asked of a shard. One variant a concern; answers come back through one-shot channels.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;
use vltava_commitlog::log::LogReader;
use vltava_metadata::PartitionImage;
use vltava_model::batch::Batch;
use vltava_model::configs::TopicConfig;
use vltava_model::{BrokerEpoch, DirectoryId, ErrorCode, LeaderEpoch, NodeId, Offset, TopicPartition};

use super::shared::PartitionShared;
use crate::damages::Cause;
use crate::replication::follower::Receipt;
use crate::wake::WakeSet;

/// When an append is acknowledged.
pub use vltava_partition::Acks;
use vltava_partition::{
    FollowerProgress, FollowerSuspended, IsrOutcome, ProposalId, ReplicaIdentity, StreamNumber,
};

/// Appends one batch.
pub struct Produce {
    /// Where.
    pub partition: TopicPartition,
    /// What: validated, its position not yet set.
    pub batch: Batch,
    /// When to answer.
    pub acks: Acks,
    /// Until when to wait for replication.
    pub deadline: Instant,
    /// The leader epoch that the client believes in.
    pub expected_epoch: Option<LeaderEpoch>,
    /// Where the answer goes. When the asker is gone the append goes on all the same.
    pub reply: oneshot::Sender<Result<Produced, ErrorCode>>,
}

/// An acknowledged append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    /// The offset of the first record.
    pub base_offset: Offset,
    /// The first offset that can be read.
    pub log_start: Offset,
}

/// A follower wants to follow.
pub struct Subscribe {
    /// What.
    pub partition: TopicPartition,
    /// Who.
    pub follower: ReplicaIdentity,
    /// On which of its streams.
    pub stream: StreamNumber,
    /// In which epoch.
    pub epoch: LeaderEpoch,
    /// Its first offset.
    pub log_start: Offset,
    /// Where its log ends.
    pub log_end: Offset,
    /// Up to where its log is on stable storage.
    pub durable_end: Offset,
    /// The leader epoch of its last record.
    pub last_epoch: Option<LeaderEpoch>,
    /// The partition's number on its stream.
    pub slot: u32,
    /// Whom to wake when there is something to send.
    pub wake: Arc<WakeSet>,
    /// The answer.
    pub reply: oneshot::Sender<SubscribeOutcome>,
}

/// What the leader says to a follower.
pub enum SubscribeOutcome {
    /// The logs agree up to the follower's end.
    Accepted {
        /// Where data begins.
        from: Offset,
        /// The leader's high watermark.
        high_watermark: Offset,
        /// The leader's first offset.
        log_start: Offset,
        /// How to read the leader's log.
        reader: LogReader,
    },
    /// The logs diverge.
    Diverging {
        /// The largest epoch of the leader's that is not above the follower's.
        epoch: LeaderEpoch,
        /// Where it ends in the leader's log.
        end: Offset,
    },
    /// The follower's log ends below the leader's log start.
    StartAt(Offset),
    /// No.
    Refused(ErrorCode),
}

/// What a leader answered to this broker as a follower.
pub enum LeaderAnswer {
    /// The logs agree, or watermarks moved.
    Watermark {
        /// The leader's high watermark.
        high_watermark: Offset,
        /// The leader's first offset.
        log_start: Offset,
    },
    /// The logs diverge.
    Diverging {
        /// The largest epoch of the leader's that is not above this broker's.
        epoch: LeaderEpoch,
        /// Where it ends in the leader's log.
        end: Offset,
    },
    /// Everything held here lies below the leader's log start.
    StartAt(Offset),
}

/// A partition as committed metadata has it.
#[derive(Clone)]
pub struct Assign {
    /// Which.
    pub partition: TopicPartition,
    /// The topic's name.
    pub topic_name: Arc<str>,
    /// Its state.
    pub image: Arc<PartitionImage>,
    /// The registrations of its replicas that may be in the ISR; a replica that is fenced or stopping has none.
    pub eligible: Vec<(NodeId, BrokerEpoch)>,
    /// The topic's configuration.
    pub config: Arc<TopicConfig>,
    /// What others may read of it.
    pub shared: Arc<PartitionShared>,
    /// Where it lies; `None` when its directory failed.
    pub directory: Option<DirectoryId>,
}

/// What a shard does.
pub enum Command {
    /// Appends.
    Produce(Box<Produce>),
    /// A follower subscribes.
    Subscribe(Box<Subscribe>),
    /// A follower reports.
    FollowerProgress {
        /// Of what.
        partition: TopicPartition,
        /// How far it is.
        progress: FollowerProgress,
        /// Its first offset.
        log_start: Offset,
    },
    /// A follower cannot follow for now.
    FollowerSuspended {
        /// What.
        partition: TopicPartition,
        /// Who says so.
        word: FollowerSuspended,
    },
    /// A follower's stream or subscription ended.
    FollowerGone {
        /// Of what.
        partition: TopicPartition,
        /// The partition's number on the stream.
        slot: u32,
        /// The stream.
        wake: Arc<WakeSet>,
    },
    /// Data from the leader.
    LeaderData {
        /// Of what.
        partition: TopicPartition,
        /// In which epoch it was asked for.
        epoch: LeaderEpoch,
        /// The batches as the leader stores them.
        batches: Vec<Batch>,
        /// The leader's high watermark.
        high_watermark: Offset,
        /// The leader's first offset.
        log_start: Offset,
        /// Returned to the leader when the data was taken.
        receipt: Receipt,
    },
    /// Another answer of the leader.
    LeaderAnswer {
        /// Of what.
        partition: TopicPartition,
        /// In which epoch it was asked for.
        epoch: LeaderEpoch,
        /// What it says.
        answer: LeaderAnswer,
    },
    /// The stream to the leader, or the subscription on it, ended.
    StreamLost {
        /// Of what.
        partition: TopicPartition,
        /// In which epoch it was followed.
        epoch: LeaderEpoch,
    },
    /// The controller answered an ISR proposal.
    IsrAnswer {
        /// Of what.
        partition: TopicPartition,
        /// To which proposal.
        proposal: ProposalId,
        /// What it said.
        outcome: IsrOutcome,
    },
    /// Committed metadata says how these partitions are now. Those that are not open are opened first.
    Assign {
        /// The partitions.
        partitions: Vec<Assign>,
        /// Told when all is done.
        done: oneshot::Sender<()>,
    },
    /// These partitions are held here no more.
    Remove {
        /// Which.
        partitions: Vec<TopicPartition>,
        /// Told when all is done.
        done: oneshot::Sender<()>,
    },
    /// Deletes records below an offset, or below the high watermark.
    DeleteRecords {
        /// Of what.
        partition: TopicPartition,
        /// Below which offset.
        before: Option<Offset>,
        /// The new log start.
        reply: oneshot::Sender<Result<Offset, ErrorCode>>,
    },
    /// A reader found what keeps the replica from being served.
    Damaged {
        /// In what.
        partition: TopicPartition,
        /// Who: the log may have begun anew since.
        reader: LogReader,
        /// Of which kind.
        cause: Cause,
        /// What, in words.
        what: String,
    },
    /// A log directory failed: its partitions go offline.
    DirectoryFailed {
        /// Which.
        directory: DirectoryId,
    },
    /// Deletes what retention allows, syncs relaxed topics, closes idle files.
    Maintain {
        /// Wall-clock time in milliseconds since 1970, for retention only.
        now_ms: i64,
        /// Whether retention is due.
        retention: bool,
    },
    /// Closes all logs cleanly and ends the thread.
    Close {
        /// Told when all is on disk.
        done: oneshot::Sender<()>,
    },
}
