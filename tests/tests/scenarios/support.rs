//! What scenarios share.

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use vltava_tests::history::{self, Verdict};
use vltava_tests::load::{self, Load};
use vltava_tests::{Cluster, ClusterOptions, replicas};

/// How long a cluster may go without an ack after anything that leaves it a quorum, on a slow and busy machine.
pub const RECOVERY: Duration = Duration::from_secs(60);

/// A number from the environment.
pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

/// The scenario's randomness; its seed is printed.
pub fn rng(scenario: &str) -> StdRng {
    let seed = number("VLTAVA_SEED", rand::random::<u32>().into());
    eprintln!("{scenario}: VLTAVA_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// Three nodes that are both, with lines for their config files.
pub fn three(extra: &str) -> Cluster {
    Cluster::with(ClusterOptions { extra: extra.to_owned(), ..ClusterOptions::default() })
}

/// Creates a topic.
pub fn create(cluster: &Cluster, topic: &str, partitions: u32, replicas: u32, configs: &[&str]) {
    let (partitions, replicas) = (partitions.to_string(), replicas.to_string());
    let mut args =
        vec!["topics", "create", topic, "--partitions", &partitions, "--replication-factor", &replicas];
    for config in configs {
        args.extend(["--config", config]);
    }
    cluster.cli(&args).ok();
}

/// Waits until every partition has all its replicas in sync.
pub fn wait_in_sync(cluster: &Cluster, topic: &str, partitions: u32, replicas: usize) {
    for partition in 0..partitions as usize {
        cluster.wait_isr(topic, partition, replicas);
    }
}

/// Waits for so many acks.
pub fn progress(cluster: &Cluster, load: &Load, more: u64) {
    if let Err(error) = load.progress(more, RECOVERY) {
        panic!("{error}\n{}", cluster.logs());
    }
}

/// Ends a load, reads everything back, and holds it against what the producers were told.
pub fn conclude(cluster: &mut Cluster, load: Load, scenario: &str, topic: &str, partitions: u32) -> Verdict {
    let ledger = load.finish();
    cluster.assert_healthy();
    let read = load::read_back(&cluster.servers(), topic, partitions, &ledger.attempts, RECOVERY);
    let read = read.unwrap_or_else(|error| panic!("{error}\n{}", cluster.logs()));
    let verdict =
        history::check(&ledger.attempts, &read).unwrap_or_else(|error| panic!("{error}\n{}", cluster.logs()));
    let watched = history::check_watched(&ledger.watched, &read);
    let watched = watched.unwrap_or_else(|error| panic!("{error}\n{}", cluster.logs()));
    eprintln!("{scenario}: {verdict:?}, {watched} watched");
    assert!(verdict.acked > 0, "nothing was written");
    verdict
}

/// Ends all nodes in order, and holds that their replicas agree batch by batch.
pub fn assert_replicas_agree(cluster: &mut Cluster, scenario: &str, topic: &str, partitions: u32) {
    let described = cluster.describe(topic).expect("the topic is there");
    let topic_id = described["topic_id"].as_str().expect("it has an id").to_owned();
    for id in cluster.ids() {
        assert_eq!(cluster.terminate(id), Some(0), "node {id}\n{}", cluster.logs());
    }
    let mut records = 0;
    for partition in 0..partitions {
        let agreed = replicas::compare(cluster, &topic_id, partition);
        records += agreed.unwrap_or_else(|error| panic!("{error}\n{}", cluster.logs()));
    }
    eprintln!("{scenario}: the replicas agree on {records} records");
}
