//! Controllers as a quorum: forming, failing over, restarting, replaced disks, changed voters, snapshots.

#![allow(clippy::unwrap_used)]

mod harness;

use std::time::{Duration, Instant};

use harness::{Cluster, FakeBroker, settings};

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_forms_fails_over_and_restarts_with_everything_there() {
    let mut cluster = Cluster::start(3, settings()).await;
    let broker = FakeBroker::start(10, 1, cluster.addresses());
    let epoch = broker.active().await.epoch;
    let first = cluster.create_topic("first", 3).await;
    assert_eq!(first.partition_count, 3);
    cluster.settled().await;

    let active = cluster.active().await;
    let killed = Instant::now();
    cluster.kill(active).await;
    cluster.create_topic("second", 1).await;
    let took = killed.elapsed();
    assert!(took < Duration::from_secs(3), "a new controller decided after {took:?}");
    assert_ne!(cluster.active().await, active);
    let again = broker.until("the broker has both topics", |view| view.image.topic_count() == 2).await;
    assert_eq!(again.epoch, epoch, "the same process keeps its epoch");
    assert_eq!(again.snapshots, 0, "it lagged a little only");

    cluster.run(active).await.unwrap();
    cluster.settled().await;
    for id in 1..=3 {
        cluster.kill(id).await;
    }
    for id in 1..=3 {
        cluster.run(id).await.unwrap();
    }
    cluster.create_topic("third", 1).await;
    cluster.settled().await;
    for id in 1..=3 {
        assert_eq!(cluster.handle(id).unwrap().published().image().topic_count(), 3, "node {id}");
    }
    broker.active().await;
    cluster.no_deaths();
}
