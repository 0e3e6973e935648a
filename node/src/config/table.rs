//! Every property there is. Parsing, checking, suggestions and `docs/configuration.md` all come from this table, so a
//! property exists when it stands here and nowhere else.

use std::sync::LazyLock;

use super::property::{Fallback, Group, Kind, Property};
use super::shared;

/// Every property, by group.
pub fn properties() -> &'static [Property] {
    static ALL: LazyLock<Vec<Property>> = LazyLock::new(|| {
        let mut all = PROPERTIES.to_vec();
        all.extend(shared::properties());
        all.sort_by_key(|property| property.group);
        all
    });
    &ALL
}

/// The property of that name.
pub(crate) fn find(name: &str) -> Option<&'static Property> {
    properties().iter().find(|property| property.name == name)
}

const HOUR_MS: i64 = 3_600_000;
const GIB: i64 = 1 << 30;

const fn property(
    name: &'static str,
    group: Group,
    kind: Kind,
    default: Fallback,
    example: &'static str,
    doc: &'static str,
) -> Property {
    Property { name, kind, default, group, doc, example }
}

const fn millis(min: i64, max: i64) -> Kind {
    Kind::Millis { min, max }
}

const fn integer(min: i64, max: i64) -> Kind {
    Kind::Integer { min, max }
}

const fn bytes(min: i64, max: i64) -> Kind {
    Kind::Bytes { min, max }
}

use Fallback::{Required, Value, Words};
use Group::{Accepted, Brokers, Controllers, Limits, Network, Node, Replication, Storage};

#[rustfmt::skip]
const PROPERTIES: &[Property] = &[
    property("node.id", Node, integer(0, i32::MAX as i64), Required, "1",
        "The number of this node, different for each node of the cluster and the same at every start."),
    property("process.roles", Node, Kind::Words(&["controller", "broker"]), Value("[\"controller\", \"broker\"]"),
        "[\"controller\", \"broker\"]",
        "What this node does: keep the cluster's metadata (controller), keep partitions (broker), or both."),
    property("cluster.id", Node, Kind::Identity, Words("chosen when the cluster is formed"),
        "\"4f1d2c3b4a5968778695a4b3c2d1e0f9\"",
        "The cluster that this node belongs to. A data directory of another cluster is refused."),
    property("broker.rack", Node, Kind::Text, Words("none"), "\"eu-central-1a\"",
        "Where the node stands. Replicas of a partition are spread over racks."),

    property("listeners", Network, Kind::Listeners, Words("on 127.0.0.1, ports 7092 (GRPC), 7093 (CONTROLLER) and 8092 (HTTP), as the roles need them"),
        "[\"GRPC://0.0.0.0:7092\", \"CONTROLLER://0.0.0.0:7093\", \"HTTP://0.0.0.0:8092\"]",
        "Where the node listens. GRPC serves clients and other brokers, CONTROLLER the quorum, HTTP health and metrics. KAFKA is reserved for the Kafka wire protocol: it is accepted, and nothing listens there yet. An empty host or 0.0.0.0 means all interfaces, and then needs `advertised.listeners`. Nothing is encrypted or authenticated yet: keep it within a trusted network."),
    property("advertised.listeners", Network, Kind::Listeners, Words("as `listeners`"),
        "[\"GRPC://broker1.example:7092\"]",
        "Under which addresses others reach the listeners. Those not named here are advertised as in `listeners`."),
    property("controller.quorum.voters", Network, Kind::Voters, Required,
        "[\"1@10.0.0.1:7093\", \"2@10.0.0.2:7093\", \"3@10.0.0.3:7093\"]",
        "The controllers that form the cluster at its first start, each with its CONTROLLER address: 1, 3 or 5 of them, the same list on all nodes. Later changes are made with `vltava quorum add|remove`; the list then serves to find the quorum."),

    property("log.dirs", Storage, Kind::Directories, Required, "[\"/var/lib/vltava/data\"]",
        "Directories for partitions, best each on a disk of its own. One may fail while the others serve. Relative ones are relative to this file."),
    property("metadata.log.dir", Storage, Kind::Directory, Words("`__metadata` in the first of `log.dirs`"), "\"/var/lib/vltava/metadata\"",
        "Where a controller keeps the metadata log, best on a disk without much other traffic."),
    property("metadata.log.engine", Storage, Kind::Word(&["wal", "sled"]), Words("what `metadata.log.dir` holds; `wal` in a new one"), "\"sled\"",
        "On what a controller's metadata log lies: a write-ahead log of Vltava's own, or the database sled. A directory that holds the other one is refused: to change over, replace the controller with `vltava quorum remove` and `add`."),
    property("log.journal.file.bytes", Storage, bytes(1 << 20, 4 * GIB), Value("67108864"), "\"128MiB\"",
        "The size of a file of the journal that makes the writes of many partitions durable together. Each log directory keeps a few of them."),
    property("log.retention.check.interval.ms", Storage, millis(100, 24 * HOUR_MS), Value("300000"), "\"5m\"",
        "How often segments are looked at for deletion by time and size."),
    property("log.dir.free.bytes.min", Storage, bytes(0, i64::MAX), Value("104857600"), "\"1GiB\"",
        "A log directory on a disk with less room than this refuses writes with a retryable error, and goes on serving reads."),

    property("controller.quorum.election.timeout.ms", Controllers, millis(50, 60_000), Value("1000"), "1000",
        "How long a controller hears nothing from the leader of the quorum before it stands for election; up to twice that, at random."),
    property("controller.quorum.heartbeat.interval.ms", Controllers, millis(10, 30_000), Value("200"), "200",
        "How often the leader of the quorum lets the others hear of it. At most a third of the election timeout."),
    property("controller.quorum.request.timeout.ms", Controllers, millis(100, 600_000), Value("5000"), "5000",
        "How long a controller waits for another one's answer."),
    property("metadata.log.max.records.between.snapshots", Controllers, integer(100, 100_000_000), Value("10000"), "10000",
        "After so many changes of the metadata a snapshot is taken and the log before it is dropped."),

    property("controlled.shutdown.timeout.ms", Brokers, millis(0, HOUR_MS), Value("20000"), "\"20s\"",
        "How long a stopping broker waits for its leaderships to be handed over before it stops all the same."),

    property("replica.fetch.response.max.bytes", Replication, bytes(1 << 16, GIB), Value("10485760"), "\"10MiB\"",
        "How many bytes a follower lets be under way to it from one leader."),

    property("num.io.threads", Limits, integer(0, 1024), Value("0"), "8",
        "How many threads own partitions; each partition belongs to one. 0 means one a processor."),
    property("num.network.threads", Limits, integer(0, 1024), Value("0"), "4",
        "How many threads serve connections. 0 means one a processor."),
    property("queued.max.requests", Limits, integer(1, 1_000_000), Value("1024"), "1024",
        "How many requests may wait for a thread that owns partitions. A full queue refuses, and the client tries again."),
    property("socket.request.max.bytes", Limits, bytes(1 << 20, GIB), Value("104857600"), "\"100MiB\"",
        "The largest request that is read. No record batch may be larger than a quarter of it, whatever `max.message.bytes` says."),

    property("offsets.topic.replication.factor", Accepted, integer(1, 32_767), Value("3"), "3",
        "The replicas of the topic that will hold the offsets of consumer groups. Without effect yet."),
    property("transaction.state.log.replication.factor", Accepted, integer(1, 32_767), Value("3"), "3",
        "The replicas of the topic that will hold the state of transactions. Without effect yet."),
    property("transaction.state.log.min.isr", Accepted, integer(1, 32_767), Value("2"), "2",
        "The `min.insync.replicas` of that topic. Without effect yet."),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::source::Setting;

    #[test]
    fn names_are_unique_and_defaults_and_examples_are_legal() {
        for (i, property) in properties().iter().enumerate() {
            assert!(properties()[..i].iter().all(|other| other.name != property.name), "{}", property.name);
            let check = |text: &str| {
                let setting = Setting::from_text(text);
                property.kind.check(&setting).unwrap_or_else(|e| panic!("{} = {text}: {e:?}", property.name));
            };
            if let Value(text) = property.default {
                check(text);
            }
            check(property.example);
            assert!(property.doc.ends_with('.'), "{}", property.name);
        }
    }
}
