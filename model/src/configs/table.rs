//! The configs, one after the other. Knows nothing of how values are found.
//!
//! A default differs from Kafka's only where a promise of this system asks for it, and its text then says so.

use super::{ConfigKey, ConfigKind};

const NEVER_MS: &str = "9223372036854775807";
const INT: i64 = i32::MAX as i64;

const fn integer(min: i64, max: i64) -> ConfigKind {
    ConfigKind::Integer { min, max }
}

/// A topic's config that every broker may have a default of its own for.
const fn local(
    topic_name: &'static str,
    cluster_name: &'static str,
    kind: ConfigKind,
    default: &'static str,
    doc: &'static str,
) -> ConfigKey {
    ConfigKey { topic_name: Some(topic_name), cluster_name, per_broker: true, kind, default, doc }
}

/// A topic's config whose default must be the same on all brokers, as every replica of a partition answers for it.
const fn common(
    topic_name: &'static str,
    cluster_name: &'static str,
    kind: ConfigKind,
    default: &'static str,
    doc: &'static str,
) -> ConfigKey {
    ConfigKey { topic_name: Some(topic_name), cluster_name, per_broker: false, kind, default, doc }
}

/// A config of the cluster alone.
const fn cluster(
    cluster_name: &'static str,
    kind: ConfigKind,
    default: &'static str,
    doc: &'static str,
) -> ConfigKey {
    ConfigKey { topic_name: None, cluster_name, per_broker: false, kind, default, doc }
}

macro_rules! keys {
    ($($name:ident = $key:expr;)*) => {
        $(
            #[doc = concat!("See [`ConfigKey::doc`] of `", stringify!($name), "`.")]
            pub static $name: ConfigKey = $key;
        )*

        /// Every config.
        pub static KEYS: &[&ConfigKey] = &[$(&$name,)*];
    };
}

keys! {
    RETENTION_MS = local("retention.ms", "log.retention.ms", ConfigKind::Limit { min: 0 }, "604800000",
        "How long records are kept at least, in milliseconds. Older segments are deleted; -1 keeps them for ever.");
    RETENTION_BYTES = local("retention.bytes", "log.retention.bytes", ConfigKind::Limit { min: 0 }, "-1",
        "How many bytes a partition keeps at least. The oldest segments beyond that are deleted; -1 sets no bound.");
    SEGMENT_BYTES = local("segment.bytes", "log.segment.bytes", integer(1 << 14, INT), "1073741824",
        "The size in bytes at which a new segment is begun. Retention deletes whole segments.");
    SEGMENT_MS = local("segment.ms", "log.roll.ms", integer(1, i64::MAX), "604800000",
        "The age in milliseconds at which a new segment is begun even if the last one is not full.");
    SEGMENT_INDEX_BYTES = local("segment.index.bytes", "log.index.size.max.bytes", integer(4, INT), "10485760",
        "The size in bytes that a segment's offset index may reach; a new segment is begun then.");
    INDEX_INTERVAL_BYTES = local("index.interval.bytes", "log.index.interval.bytes", integer(0, INT), "4096",
        "How many bytes of records lie between two entries of the offset index at least.");
    FILE_DELETE_DELAY_MS = local("file.delete.delay.ms", "log.segment.delete.delay.ms", integer(0, i64::MAX), "60000",
        "How long the files of a deleted segment stay on disk, in milliseconds, for readers that have them open.");
    PREALLOCATE = local("preallocate", "log.preallocate", ConfigKind::Boolean, "false",
        "Whether the disk space of a segment is claimed when it is begun.");
    MAX_MESSAGE_BYTES = common("max.message.bytes", "message.max.bytes", integer(0, 100 << 20), "1048588",
        "The largest record batch that is accepted, in bytes as it is sent, that is: compressed.");
    MIN_INSYNC_REPLICAS = common("min.insync.replicas", "min.insync.replicas", integer(1, 32_767), "2",
        "How many replicas must be in sync for a write with acks=all, else it is refused. A partition that has fewer \
         replicas takes their number. Unlike Kafka's 1, the default of 2 lets every such write survive the loss of one node.");
    FLUSH_MESSAGES = common("flush.messages", "log.flush.interval.messages", integer(1, i64::MAX), "1",
        "After how many records a log is synced to disk. Unlike in Kafka the default is 1: an acknowledged record is on \
         stable storage. With more, and within flush.ms, a power cut may cost records.");
    FLUSH_MS = common("flush.ms", "log.flush.interval.ms", integer(0, i64::MAX), NEVER_MS,
        "How long a record may wait to be synced to disk, in milliseconds, where flush.messages is larger than 1.");
    MESSAGE_TIMESTAMP_TYPE = common("message.timestamp.type", "log.message.timestamp.type",
        ConfigKind::Word(&["CreateTime", "LogAppendTime"]), "CreateTime",
        "Whether a record has the time that its producer set, or the time at which the leader appends it.");
    MESSAGE_TIMESTAMP_BEFORE_MAX_MS = common("message.timestamp.before.max.ms", "log.message.timestamp.before.max.ms",
        integer(0, i64::MAX), NEVER_MS,
        "How far a producer's timestamp may lie before the broker's clock, in milliseconds.");
    MESSAGE_TIMESTAMP_AFTER_MAX_MS = common("message.timestamp.after.max.ms", "log.message.timestamp.after.max.ms",
        integer(0, i64::MAX), "3600000",
        "How far a producer's timestamp may lie after the broker's clock, in milliseconds.");
    COMPRESSION_TYPE = common("compression.type", "compression.type", ConfigKind::Word(&["producer"]), "producer",
        "How batches are compressed on disk: producer keeps them as they came.");
    CLEANUP_POLICY = common("cleanup.policy", "log.cleanup.policy", ConfigKind::Word(&["delete"]), "delete",
        "What becomes of old segments: delete drops them by retention.ms and retention.bytes.");
    UNCLEAN_LEADER_ELECTION_ENABLE = common("unclean.leader.election.enable", "unclean.leader.election.enable",
        ConfigKind::Boolean, "false",
        "Whether a replica that may lack acknowledged records can lead when no other is left. Those records are lost then.");

    NUM_PARTITIONS = cluster("num.partitions", integer(1, 100_000), "1",
        "How many partitions a topic gets that is created without a number.");
    DEFAULT_REPLICATION_FACTOR = cluster("default.replication.factor", integer(1, 32_767), "1",
        "How many replicas the partitions of a topic get that is created without a number.");
    AUTO_CREATE_TOPICS_ENABLE = cluster("auto.create.topics.enable", ConfigKind::Boolean, "false",
        "Whether a topic is created when a client first asks for it. Unlike in Kafka it is not: a mistyped name is an error.");
    AUTO_LEADER_REBALANCE_ENABLE = cluster("auto.leader.rebalance.enable", ConfigKind::Boolean, "true",
        "Whether leadership goes back to the preferred replica by itself once that is in sync again.");
    LEADER_IMBALANCE_CHECK_INTERVAL_SECONDS = cluster("leader.imbalance.check.interval.seconds", integer(1, INT), "5",
        "How often the controller looks for partitions that their preferred replica does not lead, in seconds. Kafka waits for 300.");
    REPLICA_LAG_TIME_MAX_MS = cluster("replica.lag.time.max.ms", integer(1, i64::MAX), "30000",
        "How long a follower may lag behind its leader's log end, in milliseconds, before it leaves the ISR.");
    REPLICA_STALL_TIME_MAX_MS = cluster("replica.stall.time.max.ms", integer(1, i64::MAX), "2000",
        "How long a replica may come no nearer to the log end, in milliseconds, while records wait for it: then a follower leaves the ISR, and a leader lets another lead. Kafka has no such bound.");
    BROKER_SESSION_TIMEOUT_MS = cluster("broker.session.timeout.ms", integer(50, 3_600_000), "3000",
        "How long a broker may be silent, in milliseconds, before the controller fences it. Kafka waits for 9,000.");
    BROKER_HEARTBEAT_INTERVAL_MS = cluster("broker.heartbeat.interval.ms", integer(10, 60_000), "500",
        "How often a broker reports to the controller, in milliseconds.");
}
