//! Properties that give topics their defaults: Kafka's broker-level names, and which topic config each one stands for.

use super::property::{Fallback, Group, Kind, Property};

const DAY_MS: &str = "604800000";

/// A property, the topic config it is the default of (`None` for those that only creation looks at), its kind,
/// default, example and meaning.
type Row = (&'static str, Option<&'static str>, Kind, &'static str, &'static str, &'static str);

const ANY: i64 = i64::MAX;

#[rustfmt::skip]
const ROWS: &[Row] = &[
    ("num.partitions", None, Kind::Integer { min: 1, max: 100_000 }, "1", "6",
        "Partitions of a topic that is created without a number."),
    ("default.replication.factor", None, Kind::Integer { min: 1, max: 32_767 }, "1", "3",
        "Replicas of a topic that is created without a number. With the default of 1 such a topic does not survive the loss of its broker's disk."),
    ("min.insync.replicas", Some("min.insync.replicas"), Kind::Integer { min: 1, max: 32_767 }, "1", "2",
        "How many replicas must be in sync for a write with acks=all. 2 with three replicas survives any one node."),
    ("log.retention.ms", Some("retention.ms"), Kind::Millis { min: -1, max: ANY }, DAY_MS, "\"7d\"",
        "How long records are kept; -1 keeps them for ever."),
    ("log.retention.bytes", Some("retention.bytes"), Kind::Bytes { min: -1, max: ANY }, "-1", "\"10GiB\"",
        "How many bytes of each partition are kept; -1 sets no bound."),
    ("log.segment.bytes", Some("segment.bytes"), Kind::Bytes { min: 1 << 14, max: i32::MAX as i64 }, "1073741824", "\"512MiB\"",
        "The size at which a new segment is begun. Retention deletes whole segments."),
    ("log.roll.ms", Some("segment.ms"), Kind::Millis { min: 1, max: ANY }, DAY_MS, "\"1d\"",
        "The age at which a new segment is begun even if the last one is small."),
    ("log.index.interval.bytes", Some("index.interval.bytes"), Kind::Bytes { min: 0, max: i32::MAX as i64 }, "4096", "4096",
        "How many bytes lie between two entries of an index."),
    ("log.segment.delete.delay.ms", Some("file.delete.delay.ms"), Kind::Millis { min: 0, max: ANY }, "60000", "1000",
        "How long files that are no longer needed stay on disk."),
    ("log.flush.interval.messages", Some("flush.messages"), Kind::Integer { min: 1, max: ANY }, "1", "10000",
        "After how many records a log is synced. 1, unlike in Kafka: an acknowledged record is on stable storage."),
    ("log.flush.interval.ms", Some("flush.ms"), Kind::Millis { min: 0, max: ANY }, "9223372036854775807", "1000",
        "After what time a log is synced that `log.flush.interval.messages` does not sync at once."),
    ("log.cleanup.policy", Some("cleanup.policy"), Kind::Words(&["delete"]), "\"delete\"", "\"delete\"",
        "What becomes of old records."),
    ("log.message.timestamp.type", Some("message.timestamp.type"), Kind::Words(&["CreateTime", "LogAppendTime"]), "\"CreateTime\"", "\"LogAppendTime\"",
        "Whether a record carries its producer's time or the broker's."),
    ("compression.type", Some("compression.type"), Kind::Words(&["producer"]), "\"producer\"", "\"producer\"",
        "How batches are compressed on disk: as the producer did."),
    ("message.max.bytes", Some("max.message.bytes"), Kind::Bytes { min: 0, max: 1 << 30 }, "1048588", "\"8MiB\"",
        "The largest batch that is accepted."),
    ("unclean.leader.election.enable", Some("unclean.leader.election.enable"), Kind::Boolean, "false", "false",
        "Whether a replica that lacks acknowledged records may lead when no other lives. Those records are then lost."),
];

/// The properties of the table.
pub(super) fn properties() -> impl Iterator<Item = Property> {
    ROWS.iter().map(|&(name, _, kind, default, example, doc)| Property {
        name,
        kind,
        default: Fallback::Value(default),
        group: Group::Topics,
        doc,
        example,
    })
}

/// Each property with the topic config that it is the default of.
pub(super) fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    ROWS.iter().filter_map(|&(name, topic_name, ..)| Some((name, topic_name?)))
}
