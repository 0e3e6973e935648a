//! Controllers as a quorum: forming, failing over, restarting, replaced disks, changed voters, snapshots.

#![allow(clippy::unwrap_used)]

mod harness;

use std::time::{Duration, Instant};

use harness::{Cluster, FakeBroker, settings, until};
use vltava_controller::ControllerSettings;
use vltava_model::ClusterId;
use vltava_proto::v1::*;

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

#[tokio::test(flavor = "multi_thread")]
async fn one_controller_alone_is_a_quorum() {
    let mut cluster = Cluster::prepare(1, settings());
    cluster.cluster_id = Some(ClusterId::new(0xc1));
    cluster.run(1).await.unwrap();
    assert_eq!(cluster.active().await, 1);
    assert!(cluster.handle(1).unwrap().is_ready());
    let _broker = FakeBroker::start(10, 1, cluster.addresses());
    cluster.create_topic("alone", 1).await;
    cluster.node(1).handle.take().unwrap().shutdown().await;
    cluster.run(1).await.unwrap();
    cluster.active().await;
    let image = cluster.handle(1).unwrap().published().image();
    assert!(image.topic_named("alone").is_some());
    assert_eq!(image.cluster_id(), Some(ClusterId::new(0xc1)));
    cluster.no_deaths();

    cluster.kill(1).await;
    cluster.cluster_id = Some(ClusterId::new(0xc2));
    cluster.run(1).await.unwrap();
    until("it dies of the wrong cluster id", async || {
        let deaths = cluster.deaths.lock().unwrap();
        deaths.iter().any(|why| why.contains("cluster.id")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_forms_until_all_voters_are_there() {
    let mut cluster = Cluster::prepare(3, settings());
    cluster.run(1).await.unwrap();
    cluster.run(2).await.unwrap();
    let waited = Instant::now();
    until("some time passes", async || (waited.elapsed() > Duration::from_secs(2)).then_some(())).await;
    for id in [1, 2] {
        let handle = cluster.handle(id).unwrap();
        assert_eq!(handle.metrics().last_log_index, None, "node {id} formed something");
        assert!(!handle.is_ready());
    }
    cluster.cluster_id = Some(ClusterId::new(0xc3));
    cluster.run(3).await.unwrap();
    cluster.settled().await;
    let image = cluster.handle(1).unwrap().published().image();
    assert_eq!(image.cluster_id(), Some(ClusterId::new(0xc3)), "one voter's `cluster.id` is the cluster's");
    cluster.no_deaths();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_disk_does_not_vote_until_it_is_added_again() {
    let mut cluster = Cluster::start(3, settings()).await;
    let _broker = FakeBroker::start(10, 1, cluster.addresses());
    cluster.create_topic("kept", 1).await;
    let active = cluster.active().await;
    let wiped = (1..=3).find(|id| *id != active).unwrap();
    let other = (1..=3).find(|id| *id != active && *id != wiped).unwrap();
    let before = cluster.handle(wiped).unwrap().directory_id();
    cluster.kill(wiped).await;
    cluster.wipe(wiped);
    cluster.run(wiped).await.unwrap();
    let after = cluster.handle(wiped).unwrap().directory_id();
    assert_ne!(after, before);

    // Were it to vote, it and one more would be a quorum of the three.
    cluster.kill(other).await;
    until("the leader notices that it has no quorum", async || {
        (!cluster.handle(active).unwrap().metrics().active).then_some(())
    })
    .await;
    assert_eq!(cluster.handle(wiped).unwrap().metrics().last_log_index, None);
    cluster.run(other).await.unwrap();

    let address = cluster.node(wiped).address.to_string();
    let add = AddVoterRequest { node_id: wiped, address: address.clone() };
    let error = cluster.admin().await.add_voter(add.clone()).await.unwrap_err();
    assert!(error.message().starts_with("DUPLICATE_VOTER"), "{error}");
    let directory_id = before.to_bytes().to_vec().into();
    let remove = RemoveVoterRequest { node_id: wiped, directory_id };
    cluster.admin().await.remove_voter(remove.clone()).await.unwrap();
    let error = cluster.admin().await.remove_voter(remove).await.unwrap_err();
    assert!(error.message().starts_with("VOTER_NOT_FOUND"), "{error}");
    let added = cluster.admin().await.add_voter(add).await.unwrap().into_inner();
    assert_eq!(added.directory_id, after.to_bytes()[..]);
    cluster.settled().await;

    let quorum = cluster.admin().await.describe_quorum(DescribeQuorumRequest {}).await.unwrap().into_inner();
    assert_eq!((quorum.voters.len(), quorum.observers.len()), (3, 0), "{quorum:?}");
    let voter = quorum.voters.iter().find(|voter| voter.id == wiped).unwrap();
    assert_eq!((&voter.directory_id[..], &voter.address), (&after.to_bytes()[..], &address));
    // Now its vote counts.
    cluster.kill(other).await;
    cluster.create_topic("with-the-new-disk", 1).await;
    cluster.no_deaths();
}

#[tokio::test(flavor = "multi_thread")]
async fn voters_are_added_and_removed_the_active_one_too() {
    let mut cluster = Cluster::start(3, settings()).await;
    let _broker = FakeBroker::start(10, 1, cluster.addresses());
    cluster.create_topic("first", 1).await;
    cluster.add_node(4);
    cluster.run(4).await.unwrap();
    let address = cluster.node(4).address.to_string();
    let wrong = AddVoterRequest { node_id: 5, address: address.clone() };
    let error = cluster.admin().await.add_voter(wrong).await.unwrap_err();
    assert!(error.message().contains("node 4 answers"), "{error}");
    cluster.admin().await.add_voter(AddVoterRequest { node_id: 4, address }).await.unwrap();

    let active = cluster.active().await;
    let remove = RemoveVoterRequest { node_id: active, ..RemoveVoterRequest::default() };
    cluster.admin().await.remove_voter(remove.clone()).await.unwrap();
    let next = until("another is active", async || {
        let next = cluster.active().await;
        (next != active).then_some(next)
    })
    .await;
    cluster.create_topic("second", 1).await;
    // It has no vote, but its process goes on to follow: it is ready, also after a restart.
    follows(&cluster, active, 2).await;
    cluster.kill(active).await;
    cluster.create_topic("third", 1).await;
    cluster.run(active).await.unwrap();
    follows(&cluster, active, 3).await;
    let quorum = cluster.admin().await.describe_quorum(DescribeQuorumRequest {}).await.unwrap().into_inner();
    assert_eq!(quorum.observers.iter().map(|observer| observer.id).collect::<Vec<_>>(), [active]);
    cluster.kill(active).await;
    cluster.admin().await.remove_voter(remove.clone()).await.unwrap();
    let error = cluster.admin().await.remove_voter(remove).await.unwrap_err();
    assert!(error.message().starts_with("VOTER_NOT_FOUND"), "{error}");
    let quorum = cluster.admin().await.describe_quorum(DescribeQuorumRequest {}).await.unwrap().into_inner();
    let mut voters: Vec<u32> = quorum.voters.iter().map(|voter| voter.id).collect();
    voters.sort_unstable();
    let expected: Vec<u32> = (1..=4).filter(|id| *id != active).collect();
    assert_eq!(voters, expected);
    assert_eq!((quorum.leader_id, quorum.observers.len()), (Some(next), 0));
    cluster.no_deaths();
}

async fn follows(cluster: &Cluster, id: u32, topics: usize) {
    until("the one without a vote follows", async || {
        let handle = cluster.handle(id).unwrap();
        (handle.is_ready() && handle.published().image().topic_count() == topics).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_joiner_gets_a_snapshot() {
    let small =
        ControllerSettings { entries_between_snapshots: 20, entries_kept: 5, feed_bytes: 1, ..settings() };
    let mut cluster = Cluster::start(3, small).await;
    let _broker = FakeBroker::start(10, 1, cluster.addresses());
    for i in 0..60 {
        cluster.create_topic(&format!("t{i}"), 1).await;
    }
    let late = FakeBroker::start(11, 2, cluster.addresses());
    let view = late.until("the late broker has it all", |view| view.image.topic_count() == 60).await;
    assert!(view.snapshots > 0, "nobody keeps so many records");

    cluster.add_node(4);
    cluster.run(4).await.unwrap();
    let address = cluster.node(4).address.to_string();
    cluster.admin().await.add_voter(AddVoterRequest { node_id: 4, address }).await.unwrap();
    cluster.settled().await;
    assert_eq!(cluster.handle(4).unwrap().published().image().topic_count(), 60);
    cluster.kill(4).await;
    cluster.run(4).await.unwrap();
    cluster.settled().await;
    assert_eq!(cluster.handle(4).unwrap().published().image().topic_count(), 60);
    let logs = std::fs::read_dir(cluster.node(4).directory.path().join("metadata/snapshots")).unwrap();
    assert!(logs.count() > 0);
    cluster.no_deaths();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_a_quorum_serves_nobody() {
    let mut cluster = Cluster::start(3, settings()).await;
    let broker = FakeBroker::start(10, 1, cluster.addresses());
    cluster.create_topic("before", 1).await;
    broker.active().await;
    let active = cluster.active().await;
    let others: Vec<u32> = (1..=3).filter(|id| *id != active).collect();
    for id in &others {
        cluster.kill(*id).await;
    }
    until("it is active no more", async || (!cluster.handle(active).unwrap().metrics().active).then_some(()))
        .await;
    assert!(!cluster.handle(active).unwrap().is_ready());
    broker.until("the session ended", |view| view.last_error.contains("NOT_CONTROLLER")).await;
    let error = cluster.admin_of(active).describe_cluster(DescribeClusterRequest {}).await.unwrap_err();
    let detail = vltava_proto::status::detail_of(&error);
    assert_eq!((detail.name.as_str(), detail.leader_id), ("NOT_CONTROLLER", None));
    let sessions = broker.view.borrow().sessions;

    cluster.run(others[0]).await.unwrap();
    cluster.create_topic("after", 1).await;
    broker
        .until("the broker is back", |view| view.sessions > sessions && view.image.topic_count() == 2)
        .await;
    broker.active().await;
    cluster.no_deaths();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_nobody_reaches_does_not_disturb_the_others() {
    let mut cluster = Cluster::start_behind_proxies(3, settings()).await;
    cluster.settled().await;
    let active = cluster.active().await;
    let cut = (1..=3).find(|id| *id != active).unwrap();
    let term = cluster.handle(active).unwrap().metrics().term;
    cluster.node(cut).proxy.as_ref().unwrap().cut.send_replace(true);
    until("it hears of no leader", async || (!cluster.handle(cut).unwrap().is_ready()).then_some(())).await;
    // It reaches the others all the time: were it to stand for election, it would unseat the leader.
    let waited = Instant::now();
    until("several election timeouts", async || {
        assert!(cluster.handle(active).unwrap().metrics().active);
        (waited.elapsed() > settings().election_timeout * 4).then_some(())
    })
    .await;
    let _broker = FakeBroker::start(10, 1, vec![cluster.node(active).address]);
    cluster.node(cut).proxy.as_ref().unwrap().cut.send_replace(false);
    until("it follows again", async || cluster.handle(cut).unwrap().is_ready().then_some(())).await;
    cluster.settled().await;
    for id in 1..=3 {
        assert_eq!(cluster.handle(id).unwrap().metrics().term, term, "node {id}");
    }
    cluster.no_deaths();
}

/// Whoever asks whether to stand hears what was true when the others answered. Here answers take so long that another has been
/// elected meanwhile: to stand then would unseat it, it would do the same in its turn, and nobody would decide anything.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_unseats_one_that_was_elected_while_it_asked_whether_to_stand() {
    const KILLS: u64 = 3;
    let slow = ControllerSettings {
        heartbeat: Duration::from_millis(250),
        election_timeout: Duration::from_millis(1_000),
        ..settings()
    };
    let (way, election_timeout) = (slow.heartbeat * 3 / 5, slow.election_timeout);
    let mut cluster = Cluster::start_behind_proxies(5, slow).await;
    cluster.settled().await;
    for node in &cluster.nodes {
        node.proxy.as_ref().unwrap().delay.send_replace(way);
    }
    let mut terms = 0;
    for _ in 0..KILLS {
        cluster.settled().await;
        let active = cluster.active().await;
        let before = cluster.handle(active).unwrap().metrics().term;
        cluster.kill(active).await;
        let next = cluster.active().await;
        // It stays in office: whoever stood beside it would have unseated it by now.
        let waited = Instant::now();
        until("several election timeouts", async || (waited.elapsed() > election_timeout * 2).then_some(()))
            .await;
        let after = cluster.active().await;
        let term = cluster.handle(after).unwrap().metrics().term;
        println!(
            "{active} was killed in term {before}: {next} was active next, {after} in term {term} stayed"
        );
        terms += term - before;
        cluster.run(active).await.unwrap();
    }
    // One each, and a few more where votes were split.
    assert!(terms <= 2 * KILLS, "{terms} terms for {KILLS} elections");
    cluster.no_deaths();
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_says_where_its_log_ends_and_nothing_comes_of_it() {
    let mut cluster = Cluster::start(3, settings()).await;
    let _broker = FakeBroker::start(10, 1, cluster.addresses());
    cluster.create_topic("a", 1).await;
    cluster.settled().await;
    let active = cluster.active().await;
    let behind = (1..=3).find(|id| *id != active).unwrap();
    let term = cluster.handle(active).unwrap().metrics().term;
    let before = cluster.log_end_of(behind).await;
    assert!(before.term == term && before.index > 0, "{before:?}");
    cluster.kill(behind).await;
    cluster.create_topic("b", 1).await;
    let after = cluster.log_end_of(active).await;
    assert!(after.term == term && after.index > before.index, "{after:?} after {before:?}");
    cluster.run(behind).await.unwrap();
    cluster.settled().await;
    until("it has caught up", async || (cluster.log_end_of(behind).await == after).then_some(())).await;
    assert_eq!(cluster.handle(active).unwrap().metrics().term, term);
    cluster.no_deaths();
}

#[tokio::test(flavor = "multi_thread")]
async fn five_controllers_lose_two_and_keep_everything() {
    let mut cluster = Cluster::start(5, settings()).await;
    let _broker = FakeBroker::start(10, 1, cluster.addresses());
    for round in 0..3 {
        cluster.create_topic(&format!("a{round}"), 1).await;
        let first = cluster.active().await;
        cluster.kill(first).await;
        let second = cluster.active().await;
        cluster.kill(second).await;
        cluster.create_topic(&format!("b{round}"), 1).await;
        cluster.run(first).await.unwrap();
        cluster.run(second).await.unwrap();
    }
    cluster.settled().await;
    for id in 1..=5 {
        assert_eq!(cluster.handle(id).unwrap().published().image().topic_count(), 6, "node {id}");
    }
    cluster.no_deaths();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_whose_log_is_gone_does_not_start() {
    let mut cluster = Cluster::start(1, settings()).await;
    cluster.active().await;
    cluster.kill(1).await;
    let directory = cluster.node(1).directory.path().join("metadata");
    let aside = cluster.node(1).directory.path().join("aside");
    // All but the identity.
    std::fs::rename(&directory, &aside).unwrap();
    std::fs::create_dir(&directory).unwrap();
    std::fs::copy(aside.join("identity"), directory.join("identity")).unwrap();
    let error = cluster.run(1).await.unwrap_err().to_string();
    assert!(error.contains("its Raft log is gone") && error.contains("vltava quorum remove"), "{error}");
    // All but the log.
    std::fs::remove_dir_all(&directory).unwrap();
    std::fs::rename(&aside, &directory).unwrap();
    std::fs::remove_file(directory.join("identity")).unwrap();
    let error = cluster.run(1).await.unwrap_err().to_string();
    assert!(error.contains("its identity file is gone"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_default_settings_another_decides_within_two_seconds() {
    let mut cluster = Cluster::start(3, ControllerSettings::default()).await;
    let _broker = FakeBroker::start(10, 1, cluster.addresses());
    cluster.create_topic("before", 1).await;
    let mut took = Vec::new();
    for round in 0..5 {
        cluster.settled().await;
        let active = cluster.active().await;
        let killed = Instant::now();
        cluster.kill(active).await;
        cluster.create_topic(&format!("t{round}"), 1).await;
        took.push(killed.elapsed());
        cluster.run(active).await.unwrap();
    }
    took.sort_unstable();
    // The median, since other tests compete for the same processors.
    assert!(took[2] < Duration::from_secs(2), "{took:?}");
    println!("failovers took {took:?}");
    cluster.no_deaths();
}
