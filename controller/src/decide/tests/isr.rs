//! Changes of ISRs by leaders: compare-and-set, and who may be a member.

use std::time::Duration;

use vltava_metadata::{BrokerState, LeaderRecovery};
use vltava_model::{ErrorCode, NodeId, TopicId};
use vltava_proto::v1::{
    AlterPartition, AlterPartitionsRequest, ElectLeadersRequest, ElectionType, Heartbeat,
};

use super::cluster::*;
use crate::decide::*;

fn three() -> (Cluster, TopicId) {
    let mut cluster = Cluster::of(&[1, 2, 3]);
    let topic = cluster.topic("t", &[&[1, 2, 3]], &[]);
    (cluster, topic)
}

/// The error of a request that is right but for one change.
fn error(
    cluster: &Cluster,
    request: &AlterPartitionsRequest,
    change: impl Fn(&mut AlterPartition),
) -> String {
    let mut request = request.clone();
    change(&mut request.partitions[0]);
    let decision = alter_partitions::decide(&cluster.view(), &request).unwrap();
    assert!(decision.records.is_empty());
    error_of(&decision.response.partitions[0].error).to_owned()
}

#[test]
fn each_wrong_field_has_its_error() {
    let (mut cluster, topic) = three();
    cluster.fence(3);
    cluster.unfence(3);
    let request = cluster.alter(1, topic, &[1, 2, 3]);
    let is = |change: &dyn Fn(&mut AlterPartition)| error(&cluster, &request, change);
    assert_eq!(is(&|it| it.topic_id = vec![9; 16].into()), "UNKNOWN_TOPIC_ID");
    assert_eq!(is(&|it| it.topic_id.clear()), "INVALID_REQUEST");
    assert_eq!(is(&|it| it.partition = 7), "UNKNOWN_TOPIC_OR_PARTITION");
    assert_eq!(is(&|it| it.leader_epoch = 9), "NOT_CONTROLLER");
    assert_eq!(is(&|it| it.partition_epoch = 9), "NOT_CONTROLLER");
    assert_eq!(is(&|it| it.partition_epoch = 0), "INVALID_UPDATE_VERSION");
    assert_eq!(is(&|it| it.new_isr.clear()), "INVALID_REQUEST");
    // A leader that steps down must leave enough behind that are in sync and were heard of.
    assert_eq!(is(&|it| it.new_isr.retain(|member| member.broker_id == 2)), "INELIGIBLE_REPLICA");
    assert_eq!(is(&|it| it.new_isr.retain(|member| member.broker_id != 1)), "INELIGIBLE_REPLICA");
    assert_eq!(is(&|it| it.new_isr[1].broker_id = 9), "INVALID_REQUEST");
    assert_eq!(is(&|it| it.new_isr[1].broker_id = 3), "INVALID_REQUEST");
    assert_eq!(is(&|it| it.new_isr[2].broker_epoch = 1), "INELIGIBLE_REPLICA");
    assert_eq!(is(&|it| it.leader_recovery = 1), "INVALID_REQUEST");
    assert_eq!(is(&|it| it.leader_recovery = 5), "INVALID_REQUEST");

    let mut stale = request.clone();
    stale.broker_epoch = 0;
    assert_eq!(
        alter_partitions::decide(&cluster.view(), &stale).unwrap_err().code,
        ErrorCode::StaleBrokerEpoch
    );
    let mut twice = request.clone();
    twice.partitions.push(twice.partitions[0].clone());
    assert_eq!(
        alter_partitions::decide(&cluster.view(), &twice).unwrap_err().code,
        ErrorCode::InvalidRequest
    );
    let mut follower = request.clone();
    (follower.broker_id, follower.broker_epoch) = (2, cluster.epoch(2).get());
    assert_eq!(error(&cluster, &follower, |_| {}), "INVALID_REQUEST");
}

#[test]
fn an_old_leader_is_fenced() {
    let (mut cluster, topic) = three();
    let request = cluster.alter(1, topic, &[1]);
    cluster.fence(1);
    cluster.unfence(1);
    assert_eq!(error(&cluster, &request, |_| {}), "FENCED_LEADER_EPOCH");
}

#[test]
fn a_retry_is_answered_like_the_first_request() {
    let (mut cluster, topic) = three();
    let request = cluster.alter(1, topic, &[1, 3]);
    let first = alter_partitions::decide(&cluster.view(), &request).unwrap();
    let first = cluster.take(first);
    assert_eq!(first.partitions[0].partition.as_ref().unwrap().partition_epoch, 1);
    let again = alter_partitions::decide(&cluster.view(), &request).unwrap();
    assert!(again.records.is_empty());
    assert_eq!(again.response, first);

    cluster.set_isr(1, topic, &[1]);
    assert_eq!(error(&cluster, &request, |_| {}), "INVALID_UPDATE_VERSION");
}

#[test]
fn who_is_fenced_or_stops_or_registered_anew_joins_no_isr() {
    let (mut cluster, topic) = three();
    cluster.set_isr(1, topic, &[1]);
    let seen = cluster.alter(1, topic, &[1, 2]);
    cluster.fence(2);
    assert_eq!(error(&cluster, &seen, |_| {}), "INELIGIBLE_REPLICA");
    cluster.start(2, 2);
    let stale =
        error(&cluster, &seen, |it| it.partition_epoch = cluster.partition(topic, 0).partition_epoch.get());
    assert_eq!(stale, "INELIGIBLE_REPLICA", "the leader saw the process before");
    assert_eq!(error(&cluster, &cluster.alter(1, topic, &[1]), |_| {}), "NONE");
    cluster.beat(3, Heartbeat { wants_shutdown: true, ..Heartbeat::default() });
    assert_eq!(cluster.state(3), BrokerState::ShuttingDown);
    assert_eq!(error(&cluster, &cluster.alter(1, topic, &[1, 3]), |_| {}), "INELIGIBLE_REPLICA");
    cluster.set_isr(1, topic, &[1, 2]);
    assert_eq!(cluster.gist(topic), (Some(1), vec![1, 2], vec![], 0));
}

#[test]
fn a_leader_steps_down_for_members_that_live() {
    let mut cluster = Cluster::of(&[1, 2, 3]);
    let topic = cluster.topic("t", &[&[1, 2, 3]], &[("min.insync.replicas", "2")]);
    cluster.now = Duration::from_secs(10);
    let hear = |cluster: &mut Cluster, node: u32| {
        cluster.liveness.connected(NodeId::new(node), incarnation_of(node, 1), cluster.now);
    };
    hear(&mut cluster, 2);
    hear(&mut cluster, 3);
    let request = cluster.alter(1, topic, &[2, 3]);
    cluster.now = Duration::from_secs(12);
    assert_eq!(error(&cluster, &request, |_| {}), "INELIGIBLE_REPLICA", "neither was heard of for 2 s");
    hear(&mut cluster, 2);
    assert_eq!(error(&cluster, &request, |_| {}), "INELIGIBLE_REPLICA", "3 was not");
    hear(&mut cluster, 3);
    assert_eq!(error(&cluster, &request, |it| it.new_isr.truncate(1)), "INELIGIBLE_REPLICA");
    let decision = alter_partitions::decide(&cluster.view(), &request).unwrap();
    let response = cluster.take(decision);
    assert_eq!(error_of(&response.partitions[0].error), "NEW_LEADER_ELECTED");
    assert_eq!(cluster.gist(topic), (Some(2), vec![2, 3], vec![], 1));
    // Who led is in no ISR, and so no heir.
    assert_eq!(error(&cluster, &cluster.alter(2, topic, &[1, 3]), |_| {}), "INELIGIBLE_REPLICA");
}

#[test]
fn a_shrunk_isr_leaves_eligible_replicas_until_it_grows() {
    let (mut cluster, topic) = three();
    cluster.set_isr(1, topic, &[1]);
    assert_eq!(cluster.gist(topic), (Some(1), vec![1], vec![2, 3], 0));
    cluster.set_isr(1, topic, &[1, 3]);
    assert_eq!(cluster.gist(topic), (Some(1), vec![1, 3], vec![], 0));
}

#[test]
fn a_recovering_leader_says_when_it_has_recovered() {
    let (mut cluster, topic) = three();
    cluster.set_isr(1, topic, &[1]);
    cluster.set_isr(1, topic, &[1, 2]);
    cluster.fence(1);
    cluster.fence(2);
    let request =
        ElectLeadersRequest { r#type: ElectionType::Unclean.into(), ..ElectLeadersRequest::default() };
    let response = cluster.take(elect_leaders::decide(&cluster.view(), &request).unwrap());
    assert_eq!((response.results.len(), response.results[0].leader), (1, Some(3)));
    assert_eq!(cluster.partition(topic, 0).leader_recovery, LeaderRecovery::Recovering);
    cluster.unfence(1);
    let mut both = cluster.alter(3, topic, &[3, 1]);
    both.partitions[0].leader_recovery = 1;
    assert_eq!(error(&cluster, &both, |_| {}), "INVALID_REQUEST");
    cluster.set_isr(3, topic, &[3]);
    assert_eq!(cluster.partition(topic, 0).leader_recovery, LeaderRecovery::Recovered);
}
