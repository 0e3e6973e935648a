//! The figures of controller and broker under the names by which `/metrics` shows them.

use vltava_broker::BrokerHandle;
use vltava_controller::ControllerHandle;
use vltava_node::metrics::{Sample, Value};

fn gauge(name: &'static str, help: &'static str, value: f64) -> Sample {
    Sample { name, help, value: Value::Gauge(value) }
}

/// What a controller counts.
pub fn controller(controller: &ControllerHandle) -> Vec<Sample> {
    let metrics = controller.metrics();
    let count = |name, help, count: usize| gauge(name, help, count as f64);
    let index = |index: Option<u64>| index.map_or(-1.0, |index| index as f64);
    vec![
        gauge(
            "vltava_controller_active",
            "1 where this controller is the active one.",
            f64::from(u8::from(metrics.active)),
        ),
        gauge("vltava_controller_term", "The term of the quorum.", metrics.term as f64),
        gauge(
            "vltava_controller_last_log_index",
            "The last entry of the Raft log; -1 without one.",
            index(metrics.last_log_index),
        ),
        gauge(
            "vltava_controller_last_applied_index",
            "The last entry that was applied; -1 without one.",
            index(metrics.last_applied_index),
        ),
        gauge(
            "vltava_controller_metadata_offset",
            "Metadata records applied.",
            metrics.metadata_offset.get() as f64,
        ),
        count("vltava_controller_voters", "Controllers that vote.", metrics.voters),
        count("vltava_controller_queue", "Requests that wait to be decided.", metrics.queue_depth),
        count("vltava_controller_brokers", "Brokers that are registered.", metrics.brokers),
        count("vltava_controller_active_brokers", "Brokers that may lead.", metrics.active_brokers),
        count("vltava_controller_topics", "Topics.", metrics.topics),
        count("vltava_controller_partitions", "Partitions.", metrics.partitions),
        count(
            "vltava_controller_leaderless_partitions",
            "Partitions without a leader.",
            metrics.leaderless_partitions,
        ),
        count(
            "vltava_controller_under_replicated_partitions",
            "Partitions with fewer in-sync replicas than replicas.",
            metrics.under_replicated_partitions,
        ),
    ]
}

/// What a broker counts.
pub fn broker(broker: &BrokerHandle) -> Vec<Sample> {
    broker.samples()
}
