//! What decisions cost with 100,000 partitions. Run by hand, in release:
//! `cargo test -p vltava-controller --release --lib -- --ignored --nocapture scale`.

use std::time::Instant;

use vltava_model::NodeId;
use vltava_proto::v1::{CreateTopicsRequest, NewTopic};

use super::cluster::*;
use crate::decide::*;

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = work();
    println!("{what}: {:?}", start.elapsed());
    done
}

#[test]
#[ignore = "a measurement; meaningful in release only"]
fn scale() {
    let nodes: Vec<u32> = (0..12).collect();
    let mut cluster = Cluster::of(&nodes);
    for batch in 0..10 {
        let topic = |i: u32| NewTopic {
            name: format!("topic-{batch}-{i}"),
            partition_count: 100,
            replication_factor: 3,
            ..NewTopic::default()
        };
        let request = CreateTopicsRequest { topics: (0..100).map(topic).collect(), validate_only: false };
        let decision = timed("decide 10,000 partitions", || create_topics::decide(&cluster.view(), &request));
        timed("apply them", || cluster.take(decision.unwrap()));
    }
    assert_eq!(cluster.image.partition_count(), 100_000);
    let fenced = timed("decide to fence one broker of twelve", || {
        fence_broker::decide(&cluster.view(), NodeId::new(3))
    });
    println!("{} records, {} entries", fenced.records.len(), entries(fenced.records.clone()).len());
    timed("apply that", || cluster.take(fenced));
    let unfenced = timed("decide to unfence it", || unfence_broker::decide(&cluster.view(), NodeId::new(3)));
    timed("apply that", || cluster.take(unfenced));
    timed("look for leaders to move back", || rebalance_leaders::decide(&cluster.view()));
    let again = timed("decide a new process of it", || {
        register_broker::decide(&cluster.view(), &registration(3, 2)).unwrap()
    });
    println!("{} records", again.records.len());
}
