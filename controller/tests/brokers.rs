//! What brokers, administrators and strangers get from a quorum of controllers.

#![allow(clippy::unwrap_used)]

mod harness;

use std::time::{Duration, Instant};

use bytes::Bytes;
use harness::{Cluster, FakeBroker, channel, settings, until};
use tonic::Code;
use vltava_controller::ControllerSettings;
use vltava_metadata::PartitionImage;
use vltava_model::{NodeId, PartitionIndex};
use vltava_proto::status::detail_of;
use vltava_proto::v1::controller_client::ControllerClient;
use vltava_proto::v1::raft_client::RaftClient;
use vltava_proto::v1::*;

/// A cluster of one controller and two brokers with a topic on both, led by broker 10.
async fn two_brokers(settings: ControllerSettings) -> (Cluster, FakeBroker, FakeBroker) {
    let cluster = Cluster::start(1, settings).await;
    let one = FakeBroker::start(10, 1, cluster.addresses());
    let two = FakeBroker::start(11, 2, cluster.addresses());
    one.active().await;
    two.active().await;
    let assignments = vec![ReplicaAssignment { brokers: vec![10, 11] }];
    let topic = NewTopic { name: "t".into(), assignments, ..NewTopic::default() };
    let request = CreateTopicsRequest { topics: vec![topic], validate_only: false };
    let created = cluster.admin().await.create_topics(request).await.unwrap().into_inner();
    assert_eq!(created.topics[0].error, None);
    assert_eq!(partition(&cluster).leader, Some(NodeId::new(10)));
    (cluster, one, two)
}

fn partition(cluster: &Cluster) -> PartitionImage {
    let image = cluster.handle(1).unwrap().published().image();
    let topic = image.topic_named("t").unwrap().clone();
    PartitionImage::clone(topic.partition(PartitionIndex::new(0)).unwrap())
}

async fn until_partition(
    cluster: &Cluster,
    what: &str,
    is: impl Fn(&PartitionImage) -> bool,
) -> PartitionImage {
    until(what, async || Some(partition(cluster)).filter(|partition| is(partition))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_broker_is_fenced_at_once_and_leads_again_when_it_is_back() {
    let (cluster, one, two) = two_brokers(settings()).await;
    let epoch = one.view.borrow().epoch;
    drop(one);
    let died = Instant::now();
    let moved = until_partition(&cluster, "broker 11 leads", |now| now.leader == Some(NodeId::new(11))).await;
    let took = died.elapsed();
    assert!(took < Duration::from_millis(1_500), "noticed after {took:?}, not by the connection's end");
    assert_eq!(moved.isr, [NodeId::new(11)]);

    // The same process: it keeps its epoch, however often it registers.
    let one = FakeBroker::start(10, 1, cluster.addresses());
    assert_eq!(one.active().await.epoch, epoch);
    let address = cluster.addresses()[0];
    let request = AlterPartitionsRequest {
        broker_id: 11,
        broker_epoch: two.view.borrow().epoch,
        partitions: vec![AlterPartition {
            topic_id: topic_id(&cluster),
            leader_epoch: moved.leader_epoch.get(),
            partition_epoch: moved.partition_epoch.get(),
            new_isr: vec![
                IsrMember { broker_id: 11, broker_epoch: two.view.borrow().epoch },
                IsrMember { broker_id: 10, broker_epoch: epoch },
            ],
            ..AlterPartition::default()
        }],
    };
    let mut controller = ControllerClient::new(channel(address));
    let changed = controller.alter_partitions(request.clone()).await.unwrap().into_inner();
    assert_eq!(changed.partitions[0].error, None);
    assert!(changed.stamp.is_some());
    // Leadership goes back by itself.
    until_partition(&cluster, "broker 10 leads", |now| now.leader == Some(NodeId::new(10))).await;
    // The same change again is compared with what is, and refused.
    let again = controller.alter_partitions(request).await.unwrap().into_inner();
    assert!(again.partitions[0].error.is_some());
    two.until("the feed told the other broker", |view| {
        let topic = view.image.topic_named("t").unwrap();
        topic.partition(PartitionIndex::new(0)).unwrap().leader == Some(NodeId::new(10))
    })
    .await;
    cluster.no_deaths();
}

fn topic_id(cluster: &Cluster) -> Bytes {
    let image = cluster.handle(1).unwrap().published().image();
    image.topic_named("t").unwrap().id.to_bytes().to_vec().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_broker_is_fenced_and_comes_back() {
    let short = ControllerSettings { broker_session: Duration::from_millis(500), ..settings() };
    let (cluster, one, _two) = two_brokers(short).await;
    let before = one.view.borrow().clone();
    one.beats.send_replace(false);
    until_partition(&cluster, "broker 11 leads", |now| now.leader == Some(NodeId::new(11))).await;
    one.beats.send_replace(true);
    let view = one.until("it has another session", |view| view.sessions > before.sessions).await;
    assert_eq!(view.epoch, before.epoch);
    one.active().await;
    cluster.no_deaths();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_are_not_one_broker() {
    let (cluster, one, _two) = two_brokers(settings()).await;
    let (epoch, sessions) = (one.view.borrow().epoch, one.view.borrow().sessions);
    let second = FakeBroker::start(10, 99, cluster.addresses());
    second.until("it is refused", |view| view.last_error.contains("DUPLICATE_BROKER_REGISTRATION")).await;
    assert_eq!(one.view.borrow().sessions, sessions, "the first one is not disturbed");
    drop(one);
    let view = second.active().await;
    assert!(view.epoch > epoch, "another process has another epoch");
    cluster.no_deaths();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_stops_hands_over_first() {
    let (cluster, one, _two) = two_brokers(settings()).await;
    one.wants_shutdown.send_replace(true);
    one.until("it may stop", |view| view.may_shut_down).await;
    let after = partition(&cluster);
    assert_eq!((after.leader, after.isr), (Some(NodeId::new(11)), vec![NodeId::new(11)]));
    cluster.no_deaths();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_active_controller_decides_and_the_others_name_it() {
    let cluster = Cluster::start(3, settings()).await;
    cluster.settled().await;
    let active = cluster.active().await;
    let other = (1..=3).find(|id| *id != active).unwrap();
    until("the other follows", async || cluster.handle(other).unwrap().is_ready().then_some(())).await;
    let mut admin = cluster.admin_of(other);
    let refusals = [
        admin.create_topics(CreateTopicsRequest::default()).await.unwrap_err(),
        admin.describe_cluster(DescribeClusterRequest {}).await.unwrap_err(),
        admin.describe_quorum(DescribeQuorumRequest {}).await.unwrap_err(),
        admin.add_voter(AddVoterRequest::default()).await.unwrap_err(),
    ];
    for refusal in refusals {
        let detail = detail_of(&refusal);
        assert_eq!((&*detail.name, detail.leader_id), ("NOT_CONTROLLER", Some(active)), "{refusal}");
    }
    let address = cluster.nodes.iter().find(|node| node.id == other).unwrap().address;
    let who = ControllerClient::new(channel(address))
        .identify(IdentifyRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!((who.node_id, who.leader_id, who.voters.len()), (other, Some(active), 3));
    let known = cluster.nodes.iter().find(|node| node.id == active).unwrap().address.to_string();
    assert_eq!(who.leader_address, known);
    let described =
        cluster.admin().await.describe_cluster(DescribeClusterRequest {}).await.unwrap().into_inner();
    assert_eq!(described.controller_id, Some(active));
    assert_eq!(described.features["metadata.version"], 1);
    let quorum = cluster.admin().await.describe_quorum(DescribeQuorumRequest {}).await.unwrap().into_inner();
    assert_eq!(quorum.leader_id, Some(active));
    assert!(quorum.voters.iter().all(|voter| voter.log_end_offset.is_some()), "{quorum:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn raft_calls_that_mean_another_are_refused() {
    let cluster = Cluster::start(1, settings()).await;
    cluster.active().await;
    let handle = cluster.handle(1).unwrap();
    let right = RaftRequest {
        cluster_id: handle.published().image().cluster_id().unwrap().to_bytes().to_vec().into(),
        sender_node_id: 2,
        sender_directory_id: vec![7; 16].into(),
        target_node_id: 1,
        target_directory_id: handle.directory_id().to_bytes().to_vec().into(),
        body: Bytes::from_static(b"nonsense"),
    };
    let zero = Bytes::from(vec![0; 16]);
    let wrong = [
        RaftRequest { cluster_id: zero.clone(), ..right.clone() },
        RaftRequest { cluster_id: Bytes::from_static(b"x"), ..right.clone() },
        RaftRequest { sender_node_id: 1, ..right.clone() },
        RaftRequest { sender_directory_id: Bytes::new(), ..right.clone() },
        RaftRequest { target_node_id: 3, ..right.clone() },
        RaftRequest { target_directory_id: zero, ..right.clone() },
        RaftRequest { target_directory_id: Bytes::new(), ..right.clone() },
        // Named rightly, and still nonsense.
        right,
    ];
    let mut raft = RaftClient::new(channel(cluster.addresses()[0]));
    let term = handle.metrics().term;
    for request in wrong {
        for error in [
            raft.append_entries(request.clone()).await.unwrap_err(),
            raft.vote(request.clone()).await.unwrap_err(),
            raft.install_snapshot(request.clone()).await.unwrap_err(),
        ] {
            assert_eq!(error.code(), Code::InvalidArgument, "{request:?}: {error}");
        }
    }
    assert_eq!((handle.metrics().term, handle.metrics().active), (term, true));
    cluster.no_deaths();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_together_share_an_entry() {
    let cluster = Cluster::start(1, settings()).await;
    let broker = FakeBroker::start(10, 1, cluster.addresses());
    broker.active().await;
    let handle = cluster.handle(1).unwrap();
    let before = handle.metrics().last_log_index.unwrap();
    let mut asked = tokio::task::JoinSet::new();
    let admin = cluster.admin().await;
    for i in 0..200 {
        let mut admin = admin.clone();
        asked.spawn(async move {
            let topic = NewTopic { name: format!("t{i}"), ..NewTopic::default() };
            // Every name twice, once of them in vain.
            let request = CreateTopicsRequest { topics: vec![topic.clone(), topic], validate_only: false };
            let response = admin.create_topics(request).await.unwrap().into_inner();
            let done = response.topics.iter().filter(|topic| topic.error.is_none()).count();
            (done, response.metadata_offset)
        });
    }
    let mut created = 0;
    while let Some(answer) = asked.join_next().await {
        let (done, offset) = answer.unwrap();
        assert!(handle.published().image().offset().get() >= offset, "answered before it was applied");
        created += done;
    }
    let metrics = handle.metrics();
    let entries = metrics.last_log_index.unwrap() - before;
    assert_eq!(metrics.topics, created);
    assert!(entries < 150, "{entries} entries for 200 requests");
    broker.until("the feed has it all", |view| view.image.topic_count() == created).await;
    cluster.no_deaths();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_of_very_many_partitions_takes_several_entries() {
    let cluster = Cluster::start(1, settings()).await;
    let broker = FakeBroker::start(10, 1, cluster.addresses());
    broker.active().await;
    let created = cluster.create_topic("wide", 10_000).await;
    assert_eq!(created.partition_count, 10_000);
    broker.until("the feed has it", |view| view.image.partition_count() == 10_000).await;
    drop(broker);
    until("all is without a leader", async || {
        (cluster.handle(1).unwrap().metrics().leaderless_partitions == 10_000).then_some(())
    })
    .await;
    cluster.no_deaths();
}
