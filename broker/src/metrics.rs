//! Counters of a broker, cheap enough for hot paths; whoever exports them names and formats them.

use std::sync::atomic::{AtomicU64, Ordering};

use vltava_node::metrics::{Distribution, Sample, Value};

/// A number that only rises.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Raises it.
    pub fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    /// Reads it.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a broker counts.
#[derive(Default)]
pub struct BrokerMetrics {
    /// Batches appended by clients.
    pub produced_batches: Counter,
    /// Records appended by clients.
    pub produced_records: Counter,
    /// Bytes appended by clients.
    pub produced_bytes: Counter,
    /// From the arrival of a produce request to its answer, of those that were acknowledged.
    pub produce_time: Distribution,
    /// Bytes read by clients.
    pub fetched_bytes: Counter,
    /// Bytes appended as a follower.
    pub replicated_bytes: Counter,
    /// Produce requests refused because a queue was full.
    pub refused_full_queue: Counter,
    /// Produce requests refused because a disk was full.
    pub refused_full_disk: Counter,
    /// Appends refused because no file could be opened.
    pub refused_no_descriptors: Counter,
    /// Changes of an ISR that were proposed.
    pub isr_proposals: Counter,
    /// Elections that made this broker a leader.
    pub promotions: Counter,
    /// Contradictions between replicas that must not happen.
    pub alarms: Counter,
    /// Replicas that were found damaged.
    pub damage_found: Counter,
    /// Damaged replicas that were deleted and begun anew.
    pub begun_anew: Counter,
}

impl BrokerMetrics {
    /// All counters.
    pub fn samples(&self) -> Vec<Sample> {
        let counter = |name, help, counter: &Counter| Sample {
            name,
            help,
            value: Value::Counter(counter.get() as f64),
        };
        vec![
            counter(
                "vltava_broker_produced_batches_total",
                "Batches appended by clients.",
                &self.produced_batches,
            ),
            counter(
                "vltava_broker_produced_records_total",
                "Records appended by clients.",
                &self.produced_records,
            ),
            counter("vltava_broker_produced_bytes_total", "Bytes appended by clients.", &self.produced_bytes),
            counter("vltava_broker_fetched_bytes_total", "Bytes read by clients.", &self.fetched_bytes),
            counter(
                "vltava_broker_replicated_bytes_total",
                "Bytes appended as a follower.",
                &self.replicated_bytes,
            ),
            counter(
                "vltava_broker_refused_full_queue_total",
                "Produce requests refused because a queue was full.",
                &self.refused_full_queue,
            ),
            counter(
                "vltava_broker_refused_full_disk_total",
                "Produce requests refused because a disk was full.",
                &self.refused_full_disk,
            ),
            counter(
                "vltava_broker_refused_no_descriptors_total",
                "Appends refused because no file could be opened.",
                &self.refused_no_descriptors,
            ),
            counter(
                "vltava_broker_isr_proposals_total",
                "Changes of an ISR that were proposed.",
                &self.isr_proposals,
            ),
            counter(
                "vltava_broker_replication_alarms_total",
                "Contradictions between replicas that must not happen: see the log.",
                &self.alarms,
            ),
            counter(
                "vltava_broker_damage_found_total",
                "Replicas that were found damaged: see the log.",
                &self.damage_found,
            ),
            counter(
                "vltava_broker_begun_anew_total",
                "Damaged replicas that were deleted, to be copied anew from their leaders.",
                &self.begun_anew,
            ),
            counter(
                "vltava_broker_promotions_total",
                "Elections that made this broker the leader of a partition.",
                &self.promotions,
            ),
            Sample {
                name: "vltava_broker_produce_seconds",
                help: "From the arrival of a produce request to its acknowledgement, in seconds.",
                value: Value::Histogram(self.produce_time.observed()),
            },
        ]
    }
}
