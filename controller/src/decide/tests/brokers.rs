//! Brokers come, go, come back, and stop.

use vltava_metadata::BrokerState;
use vltava_model::{BrokerEpoch, ErrorCode, MetadataOffset, NodeId};
use vltava_proto::v1::{
    AllocateProducerIdsRequest, AssignDirectoriesRequest, DirectoryAssignment, Heartbeat, RegisterBroker,
    UnregisterBrokerRequest,
};

use super::cluster::*;
use crate::decide::heartbeat::Sender;
use crate::decide::shut_down_broker::Farewell;
use crate::decide::*;

const RELAXED: &[(&str, &str)] = &[("flush.messages", "1000")];

/// What is wrong with a registration.
type Slip<'a> = &'a dyn Fn(&mut RegisterBroker);

fn refused(cluster: &Cluster, request: &RegisterBroker) -> ErrorCode {
    register_broker::decide(&cluster.view(), request).unwrap_err().code
}

#[test]
fn a_broker_registers_fenced_and_serves_when_it_has_caught_up() {
    let mut cluster = Cluster::new();
    let at = cluster.image.offset();
    let registered = cluster.take(register_broker::decide(&cluster.view(), &registration(1, 1)).unwrap());
    assert_eq!(registered.broker_epoch, BrokerEpoch::new(at.get()), "the record's own offset");
    assert_eq!(cluster.epoch(1), registered.broker_epoch);
    assert_eq!(registered.caught_up_at, cluster.image.offset());
    assert_eq!(cluster.state(1), BrokerState::Fenced);

    let sender = Sender {
        node: NodeId::new(1),
        broker_epoch: registered.broker_epoch,
        caught_up_at: registered.caught_up_at,
    };
    let beat = |offset: u64| Heartbeat { metadata_offset: offset, ..Heartbeat::default() };
    let behind = heartbeat::decide(&cluster.view(), &sender, &beat(at.get())).unwrap();
    assert!(behind.records.is_empty() && behind.response.state == BrokerState::Fenced);
    let caught_up = heartbeat::decide(&cluster.view(), &sender, &beat(at.get() + 1)).unwrap();
    assert_eq!(cluster.take(caught_up).state, BrokerState::Active);
    assert_eq!(cluster.state(1), BrokerState::Active);

    let stale = Sender { broker_epoch: BrokerEpoch::new(99), ..sender };
    let error = heartbeat::decide(&cluster.view(), &stale, &beat(9)).unwrap_err();
    assert_eq!(error.code, ErrorCode::StaleBrokerEpoch);
}

#[test]
fn registrations_that_cannot_be_are_refused() {
    let mut cluster = Cluster::of(&[1]);
    let good = registration(2, 1);
    let with = |change: &dyn Fn(&mut RegisterBroker)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    let cases: [(Slip, ErrorCode); 8] = [
        (&|it| it.rack = Some("r".repeat(256)), ErrorCode::InvalidRequest),
        (
            &|it| it.directories = (0..257).map(|number| directory(2, number)).collect(),
            ErrorCode::InvalidRequest,
        ),
        (&|it| it.cluster_id = vec![1; 16].into(), ErrorCode::InconsistentClusterId),
        (&|it| it.features.clear(), ErrorCode::UnsupportedVersion),
        (&|it| it.incarnation_id.clear(), ErrorCode::InvalidRequest),
        (&|it| it.directories.clear(), ErrorCode::InvalidRequest),
        (&|it| it.directories = vec![directory(2, 0); 2], ErrorCode::InvalidRequest),
        (&|it| it.directories = vec![directory(1, 0)], ErrorCode::InvalidRequest),
    ];
    for (i, (change, code)) in cases.iter().enumerate() {
        assert_eq!(refused(&cluster, &with(change)), *code, "{i}");
    }
    let new_directories = with(&|it| it.cluster_id.clear());
    assert!(register_broker::decide(&cluster.view(), &new_directories).is_ok());

    cluster.liveness.connected(NodeId::new(1), incarnation_of(1, 1), cluster.now);
    assert_eq!(refused(&cluster, &registration(1, 2)), ErrorCode::DuplicateBrokerRegistration);
    assert!(register_broker::decide(&cluster.view(), &registration(1, 1)).is_ok(), "the same process may");
}

#[test]
fn the_same_process_keeps_its_epoch() {
    let mut cluster = Cluster::of(&[1, 2]);
    let epoch = cluster.epoch(1);
    let again = register_broker::decide(&cluster.view(), &registration(1, 1)).unwrap();
    assert!(again.records.is_empty());
    assert_eq!((again.response.broker_epoch, again.response.caught_up_at), (epoch, cluster.image.offset()));

    cluster.fence(1);
    let mut moved = registration(1, 1);
    moved.rack = Some("r2".into());
    let moved = register_broker::decide(&cluster.view(), &moved).unwrap();
    assert_eq!(moved.records.len(), 1);
    assert_eq!(cluster.take(moved).broker_epoch, epoch);
    assert_eq!(cluster.state(1), BrokerState::Fenced);
    assert_eq!(cluster.image.broker(NodeId::new(1)).unwrap().rack.as_deref(), Some("r2"));
    assert!(cluster.start(1, 2).broker_epoch > epoch);
}

#[test]
fn a_lost_broker_leads_nothing_and_is_in_no_isr() {
    let mut cluster = Cluster::of(&[1, 2, 3]);
    let topic = cluster.topic("t", &[&[1, 2, 3]], &[]);
    cluster.fence(1);
    assert_eq!(cluster.gist(topic), (Some(2), vec![2, 3], vec![], 1));
    assert!(fence_broker::decide(&cluster.view(), NodeId::new(1)).records.is_empty());
    cluster.fence(2);
    assert_eq!(cluster.gist(topic), (Some(3), vec![3], vec![2], 2));
    cluster.fence(3);
    assert_eq!(cluster.gist(topic), (None, vec![], vec![2, 3], 3));
    cluster.unfence(1);
    assert_eq!(cluster.gist(topic).0, None, "it may lack records");
    cluster.unfence(2);
    assert_eq!(cluster.gist(topic), (Some(2), vec![2], vec![3], 4));
    assert!(activate::misplaced(&cluster.view()).is_empty());
}

#[test]
fn a_new_process_is_out_of_the_isr_even_if_nobody_noticed_the_old_one_die() {
    let mut cluster = Cluster::of(&[1, 2, 3]);
    let topic = cluster.topic("t", &[&[1, 2, 3]], &[]);
    let registered = cluster.take(register_broker::decide(&cluster.view(), &registration(1, 2)).unwrap());
    assert_eq!(registered.broker_epoch.get() + 1, cluster.image.offset().get(), "the record is the last one");
    assert_eq!(cluster.gist(topic), (Some(2), vec![2, 3], vec![], 1));
    let alone = cluster.topic("alone", &[&[3]], &[]);
    cluster.start(3, 2);
    assert_eq!(cluster.gist(alone), (Some(3), vec![3], vec![], 2), "it led in epoch 0; nobody did in 1");
}

#[test]
fn a_crash_costs_eligibility_only_where_acks_were_not_synced() {
    for (configs, eligible) in [(&[][..], true), (RELAXED, false)] {
        let mut cluster = Cluster::of(&[1, 2]);
        let topic = cluster.topic("t", &[&[1, 2]], configs);
        cluster.set_isr(1, topic, &[1]);
        cluster.fence(2);
        cluster.take(register_broker::decide(&cluster.view(), &registration(2, 2)).unwrap());
        let elr = cluster.gist(topic).2;
        assert_eq!(elr.contains(&2), eligible);
    }
}

#[test]
fn a_clean_stop_keeps_eligibility() {
    let mut cluster = Cluster::of(&[1, 2]);
    let topic = cluster.topic("t", &[&[1, 2]], RELAXED);
    cluster.set_isr(1, topic, &[1]);
    cluster.fence(2);
    let proof = |epoch: BrokerEpoch| {
        let mut request = registration(2, 2);
        request.previous_broker_epoch = Some(epoch.get());
        request
    };
    let clean = register_broker::decide(&cluster.view(), &proof(cluster.epoch(2))).unwrap();
    let older = register_broker::decide(&cluster.view(), &proof(BrokerEpoch::new(0))).unwrap();
    assert_eq!((clean.records.len(), older.records.len()), (1, 2));
    cluster.take(clean);
    assert_eq!(cluster.gist(topic).2, [2]);
}

#[test]
fn after_a_power_cut_the_last_leader_of_a_relaxed_topic_leads_again() {
    let mut cluster = Cluster::of(&[1, 2]);
    let synced = cluster.topic("synced", &[&[1, 2]], &[]);
    let relaxed = cluster.topic("relaxed", &[&[1, 2]], RELAXED);
    cluster.fence(1);
    cluster.fence(2);
    cluster.start(1, 2);
    assert_eq!(cluster.gist(synced).0, Some(1), "it lost nothing that was acknowledged");
    assert_eq!(cluster.gist(relaxed).0, None, "2 led last");
    cluster.start(2, 2);
    assert_eq!(cluster.gist(relaxed), (Some(2), vec![2], vec![], 3));
    let recovering = vltava_metadata::LeaderRecovery::Recovering;
    assert_eq!(cluster.partition(relaxed, 0).leader_recovery, recovering);
}

#[test]
fn an_empty_disk_is_never_elected() {
    let mut cluster = Cluster::of(&[1, 2]);
    let topic = cluster.topic("t", &[&[1, 2]], &[("unclean.leader.election.enable", "true")]);
    cluster.set_isr(1, topic, &[1]);
    cluster.fence(2);
    let mut wiped = registration(1, 2);
    wiped.directories = vec![directory(1, 5)];
    cluster.take(register_broker::decide(&cluster.view(), &wiped).unwrap());
    cluster.unfence(1);
    assert_eq!(cluster.gist(topic).0, None, "the directory that has the records is not there");

    let assignment = DirectoryAssignment {
        topic_id: topic.to_bytes().to_vec().into(),
        partition: 0,
        directory_id: directory(1, 5),
    };
    let request = AssignDirectoriesRequest {
        broker_id: 1,
        broker_epoch: cluster.epoch(1).get(),
        assignments: vec![assignment],
    };
    let response = cluster.take(assign_directories::decide(&cluster.view(), &request).unwrap());
    assert_eq!(response.metadata_offset, cluster.image.offset().get());
    let image = cluster.partition(topic, 0);
    assert!(raw(&image.elr) == [2] && raw(&image.last_known_elr).is_empty(), "{image:?}");
    assert!(assign_directories::decide(&cluster.view(), &request).unwrap().records.is_empty());
    cluster.unfence(2);
    assert_eq!(cluster.gist(topic).0, Some(2));
}

#[test]
fn replicas_whose_directory_was_never_told_are_lost_with_any_directory() {
    for (directories, eligible) in
        [(vec![directory(1, 0), directory(1, 1)], true), (vec![directory(1, 0)], false)]
    {
        let mut cluster = Cluster::of(&[2]);
        let mut two = registration(1, 1);
        two.directories = vec![directory(1, 0), directory(1, 1)];
        cluster.take(register_broker::decide(&cluster.view(), &two).unwrap());
        cluster.unfence(1);
        let topic = cluster.topic("t", &[&[1, 2]], &[]);
        assert_eq!(cluster.partition(topic, 0).directory_of(NodeId::new(1)), None);
        assert!(cluster.partition(topic, 0).directory_of(NodeId::new(2)).is_some(), "it has only one");
        cluster.fence(2);
        let mut again = registration(1, 2);
        again.directories = directories;
        cluster.take(register_broker::decide(&cluster.view(), &again).unwrap());
        assert_eq!(cluster.gist(topic).2.contains(&1), eligible);
    }
}

#[test]
fn a_failed_directory_takes_its_replicas_with_it() {
    let mut cluster = Cluster::of(&[2]);
    let mut two = registration(1, 1);
    two.directories = vec![directory(1, 0), directory(1, 1)];
    cluster.take(register_broker::decide(&cluster.view(), &two).unwrap());
    cluster.unfence(1);
    let broken = cluster.topic("broken", &[&[1, 2]], &[]);
    let whole = cluster.topic("whole", &[&[1, 2]], &[]);
    let assign = |topic: vltava_model::TopicId, number: u32| DirectoryAssignment {
        topic_id: topic.to_bytes().to_vec().into(),
        partition: 0,
        directory_id: directory(1, number),
    };
    let request = AssignDirectoriesRequest {
        broker_id: 1,
        broker_epoch: cluster.epoch(1).get(),
        assignments: vec![assign(broken, 0), assign(whole, 1)],
    };
    cluster.take(assign_directories::decide(&cluster.view(), &request).unwrap());
    assert_eq!(
        cluster.gist(broken),
        (Some(1), vec![1, 2], vec![], 0),
        "to be told where it lies changes nothing"
    );

    let failed = Heartbeat { failed_directories: vec![directory(1, 0)], ..Heartbeat::default() };
    cluster.beat(1, failed.clone());
    assert_eq!(cluster.gist(broken), (Some(2), vec![2], vec![1], 1));
    assert_eq!(cluster.gist(whole), (Some(1), vec![1, 2], vec![], 0));
    let offset = cluster.image.offset();
    assert_eq!(cluster.beat(1, failed).state, BrokerState::Active);
    assert_eq!(cluster.image.offset(), offset, "once is enough");
    cluster.fence(2);
    assert_eq!(cluster.gist(broken).0, None, "its replica on 1 is eligible, but its disk is gone");
}

#[test]
fn a_stopping_broker_hands_over_and_is_told_when() {
    let mut cluster = Cluster::of(&[1, 2, 3]);
    let shared = cluster.topic("shared", &[&[1, 2, 3]], &[]);
    let follows = cluster.topic("follows", &[&[2, 1]], &[]);
    let lags = cluster.topic("lags", &[&[1, 2]], &[]);
    cluster.set_isr(1, lags, &[1]);
    let stop = Heartbeat { wants_shutdown: true, ..Heartbeat::default() };
    let outcome = cluster.beat(1, stop.clone());
    assert_eq!((outcome.state, outcome.farewell), (BrokerState::ShuttingDown, Farewell::NotYet));
    assert_eq!(cluster.gist(shared), (Some(2), vec![2, 3], vec![], 1));
    assert_eq!(cluster.gist(follows), (Some(2), vec![2], vec![1], 0));
    assert_eq!(cluster.gist(lags), (Some(1), vec![1], vec![2], 0), "2 may still catch up");

    let decision = alter_partitions::decide(&cluster.view(), &cluster.alter(1, lags, &[1, 2])).unwrap();
    let response = cluster.take(decision);
    assert_eq!(error_of(&response.partitions[0].error), "NEW_LEADER_ELECTED");
    assert_eq!(cluster.gist(lags), (Some(2), vec![2], vec![1], 1));
    assert_eq!(cluster.beat(1, stop.clone()).farewell, Farewell::MayStop);
    cluster.fence(1);
    assert_eq!(cluster.beat(1, stop).state, BrokerState::Fenced);
}

#[test]
fn a_stopping_broker_moves_away_before_it_is_recorded_as_stopping() {
    let mut cluster = Cluster::of(&[1, 2]);
    let topic = cluster.topic("t", &[&[1, 2], &[2, 1]], &[]);
    let decision = shut_down_broker::decide(&cluster.view(), NodeId::new(1)).unwrap();
    assert_eq!((decision.records.len(), decision.response), (3, Farewell::MayStop));
    cluster.apply(&decision.records[..2]);
    assert_eq!(cluster.state(1), BrokerState::Active);
    assert_eq!(cluster.gist(topic), (Some(2), vec![2], vec![1], 1));
}

#[test]
fn a_replica_that_begins_anew_in_another_directory_is_not_elected() {
    let mut cluster = Cluster::of(&[2]);
    let mut two = registration(1, 1);
    two.directories = vec![directory(1, 0), directory(1, 1)];
    cluster.take(register_broker::decide(&cluster.view(), &two).unwrap());
    cluster.unfence(1);
    let topic = cluster.topic("t", &[&[1, 2]], &[("unclean.leader.election.enable", "true")]);
    cluster.fence(2);
    for (number, leader) in [(0, Some(1)), (1, None)] {
        let assignment = DirectoryAssignment {
            topic_id: topic.to_bytes().to_vec().into(),
            partition: 0,
            directory_id: directory(1, number),
        };
        let request = AssignDirectoriesRequest {
            broker_id: 1,
            broker_epoch: cluster.epoch(1).get(),
            assignments: vec![assignment],
        };
        cluster.take(assign_directories::decide(&cluster.view(), &request).unwrap());
        assert_eq!(cluster.gist(topic).0, leader);
    }
}

#[test]
fn a_stopping_broker_does_not_wait_for_nobody() {
    let mut cluster = Cluster::of(&[1, 2]);
    let alone = cluster.topic("alone", &[&[1]], &[]);
    let dead = cluster.topic("dead", &[&[1, 2]], &[]);
    cluster.fence(2);
    let outcome = cluster.beat(1, Heartbeat { wants_shutdown: true, ..Heartbeat::default() });
    assert_eq!(outcome.farewell, Farewell::MayStop);
    assert_eq!(cluster.gist(alone), (None, vec![], vec![1], 1));
    assert_eq!(cluster.gist(dead), (None, vec![], vec![1, 2], 1));
    assert_eq!(cluster.image.leader_count(NodeId::new(1)), 0);
}

#[test]
fn only_a_broker_that_is_gone_can_be_forgotten() {
    let mut cluster = Cluster::of(&[1, 2]);
    let topic = cluster.topic("t", &[&[1, 2]], &[]);
    let request = |node_id| UnregisterBrokerRequest { node_id };
    let code = |cluster: &Cluster, node| {
        unregister_broker::decide(&cluster.view(), &request(node)).unwrap_err().code
    };
    assert_eq!(code(&cluster, 9), ErrorCode::BrokerIdNotRegistered);
    assert_eq!(code(&cluster, 1), ErrorCode::InvalidRequest);
    cluster.fence(1);
    let response = cluster.take(unregister_broker::decide(&cluster.view(), &request(1)).unwrap());
    assert_eq!(MetadataOffset::new(response.metadata_offset), cluster.image.offset());
    assert!(cluster.image.broker(NodeId::new(1)).is_none());
    assert_eq!(cluster.gist(topic).0, Some(2));
    let epoch = cluster.start(1, 1).broker_epoch;
    assert_eq!(epoch, cluster.epoch(1), "it may come back, under a new epoch");
}

#[test]
fn producer_ids_come_in_blocks_that_never_overlap() {
    let mut cluster = Cluster::of(&[1, 2]);
    let mut block = |node: u32| {
        let request = AllocateProducerIdsRequest { broker_id: node, broker_epoch: cluster.epoch(node).get() };
        let response = cluster.take(allocate_producer_ids::decide(&cluster.view(), &request).unwrap());
        (response.first, response.count)
    };
    assert_eq!([block(1), block(2), block(1)], [(0, 1000), (1000, 1000), (2000, 1000)]);
    let stale = AllocateProducerIdsRequest { broker_id: 1, broker_epoch: 0 };
    let error = allocate_producer_ids::decide(&cluster.view(), &stale).unwrap_err();
    assert_eq!(error.code, ErrorCode::StaleBrokerEpoch);
}

#[test]
fn a_cluster_is_formed_once() {
    let cluster = Cluster::new();
    assert_eq!(cluster.image.features().level(bootstrap::METADATA_VERSION), Some(1));
    assert!(bootstrap::decide(&cluster.view(), CLUSTER).is_err());
}
