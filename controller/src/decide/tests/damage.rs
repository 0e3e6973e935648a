//! Replicas that are found damaged, begin anew, or are restored.

use vltava_model::{ErrorCode, NodeId, TopicId};
use vltava_proto::v1::{ReplicaCondition, ReplicaReport, ReportReplicasRequest, ReportReplicasResponse};

use super::cluster::*;
use crate::decide::*;

/// What is wrong with a report.
type Slip<'a> = &'a dyn Fn(&mut ReportReplicasRequest);

fn report(
    cluster: &Cluster,
    node: u32,
    topic: TopicId,
    condition: ReplicaCondition,
) -> ReportReplicasRequest {
    ReportReplicasRequest {
        broker_id: node,
        broker_epoch: cluster.epoch(node).get(),
        replicas: vec![ReplicaReport {
            topic_id: topic.to_bytes().to_vec().into(),
            partition: 0,
            leader_epoch: cluster.partition(topic, 0).leader_epoch.get(),
            condition: condition.into(),
            what: "0.log: damaged at byte 7".into(),
        }],
    }
}

fn take(cluster: &mut Cluster, request: &ReportReplicasRequest) -> ReportReplicasResponse {
    let decision = report_replicas::decide(&cluster.view(), request).unwrap();
    cluster.take(decision)
}

fn tell(cluster: &mut Cluster, node: u32, topic: TopicId, condition: ReplicaCondition) {
    let request = report(cluster, node, topic, condition);
    let response = take(cluster, &request);
    assert_eq!(response.results[0].error, None);
    assert_eq!(response.metadata_offset, cluster.image.offset().get());
}

#[test]
fn a_damaged_leader_is_replaced_and_comes_back_by_beginning_anew() {
    let mut cluster = Cluster::of(&[1, 2, 3]);
    let topic = cluster.topic("t", &[&[1, 2, 3]], &[("min.insync.replicas", "2")]);
    let first = report(&cluster, 1, topic, ReplicaCondition::Damaged);
    assert_eq!(take(&mut cluster, &first).results[0].error, None);
    assert_eq!(cluster.gist(topic), (Some(2), vec![2, 3], vec![], 1));
    let image = cluster.partition(topic, 0);
    assert_eq!(&*image.damaged[0].what, "0.log: damaged at byte 7");
    let offset = cluster.image.offset();
    let late = take(&mut cluster, &first);
    assert_eq!(error_of(&late.results[0].error), "FENCED_LEADER_EPOCH", "a report that comes twice");
    assert_eq!(cluster.image.offset(), offset);

    let early = alter_partitions::decide(&cluster.view(), &cluster.alter(2, topic, &[1, 2, 3])).unwrap();
    assert_eq!(error_of(&early.response.partitions[0].error), "INELIGIBLE_REPLICA");
    tell(&mut cluster, 1, topic, ReplicaCondition::BegunAnew);
    let image = cluster.partition(topic, 0);
    assert!(image.damaged.is_empty() && raw(&image.emptied) == [1] && raw(&image.isr) == [2, 3], "{image:?}");
    cluster.set_isr(2, topic, &[1, 2, 3]);
    let image = cluster.partition(topic, 0);
    assert!(image.emptied.is_empty() && raw(&image.isr) == [2, 3, 1], "{image:?}");
}

#[test]
fn a_damaged_follower_leaves_and_its_leader_begins_another_epoch() {
    let mut cluster = Cluster::of(&[1, 2]);
    let topic = cluster.topic("t", &[&[1, 2]], &[("min.insync.replicas", "2")]);
    let stale = cluster.alter(1, topic, &[1, 2]);
    tell(&mut cluster, 2, topic, ReplicaCondition::Damaged);
    assert_eq!(cluster.gist(topic), (Some(1), vec![1], vec![], 1), "it is not eligible either");
    let refused = alter_partitions::decide(&cluster.view(), &stale).unwrap();
    assert_eq!(error_of(&refused.response.partitions[0].error), "FENCED_LEADER_EPOCH");
}

#[test]
fn the_only_one_with_everything_takes_the_partition_offline_until_somebody_decides() {
    let mut cluster = Cluster::of(&[1, 2]);
    let topic = cluster.topic("t", &[&[1, 2]], &[("min.insync.replicas", "1")]);
    cluster.set_isr(1, topic, &[1]);
    tell(&mut cluster, 1, topic, ReplicaCondition::Damaged);
    assert_eq!(cluster.gist(topic), (None, vec![], vec![], 1));
    for node in [1, 2] {
        cluster.fence(node);
        cluster.unfence(node);
        cluster.take(activate::decide(&cluster.view()));
        assert_eq!(cluster.gist(topic).0, None);
    }
    tell(&mut cluster, 1, topic, ReplicaCondition::Whole);
    assert_eq!(cluster.gist(topic), (Some(1), vec![1], vec![], 2));

    tell(&mut cluster, 1, topic, ReplicaCondition::Damaged);
    let unclean = vltava_proto::v1::ElectLeadersRequest {
        r#type: vltava_proto::v1::ElectionType::Unclean.into(),
        ..Default::default()
    };
    cluster.take(elect_leaders::decide(&cluster.view(), &unclean).unwrap());
    assert_eq!(cluster.gist(topic).0, Some(2));
    // Restored too late: another has led.
    tell(&mut cluster, 1, topic, ReplicaCondition::Whole);
    assert_eq!(cluster.gist(topic).1, [2]);
    assert!(cluster.gist(topic).2.is_empty());
}

#[test]
fn an_emptied_disk_is_remembered_until_it_is_in_sync() {
    let mut cluster = Cluster::of(&[1, 2, 3]);
    let topic = cluster.topic("t", &[&[1, 2, 3]], &[("min.insync.replicas", "1")]);
    cluster.set_isr(1, topic, &[1]);
    cluster.fence(2);
    let mut wiped = registration(2, 2);
    wiped.directories = vec![directory(2, 5)];
    cluster.take(register_broker::decide(&cluster.view(), &wiped).unwrap());
    cluster.unfence(2);
    let request = vltava_proto::v1::AssignDirectoriesRequest {
        broker_id: 2,
        broker_epoch: cluster.epoch(2).get(),
        assignments: vec![vltava_proto::v1::DirectoryAssignment {
            topic_id: topic.to_bytes().to_vec().into(),
            partition: 0,
            directory_id: directory(2, 5),
        }],
    };
    cluster.take(assign_directories::decide(&cluster.view(), &request).unwrap());
    assert_eq!(raw(&cluster.partition(topic, 0).emptied), [2]);
    cluster.fence(1);
    let unclean = vltava_proto::v1::ElectLeadersRequest {
        r#type: vltava_proto::v1::ElectionType::Unclean.into(),
        ..Default::default()
    };
    cluster.take(elect_leaders::decide(&cluster.view(), &unclean).unwrap());
    assert_eq!(cluster.gist(topic).0, Some(3), "2 is before it in the assignment, but empty");
}

#[test]
fn reports_that_can_not_be_are_refused() {
    let mut cluster = Cluster::of(&[1, 2]);
    let topic = cluster.topic("t", &[&[1]], &[]);
    let good = report(&cluster, 1, topic, ReplicaCondition::Damaged);
    let code = |change: &dyn Fn(&mut ReportReplicasRequest)| {
        let mut request = good.clone();
        change(&mut request);
        report_replicas::decide(&cluster.view(), &request).map(|decision| {
            assert!(decision.records.is_empty());
            error_of(&decision.response.results[0].error).to_owned()
        })
    };
    assert_eq!(code(&|it| it.broker_epoch += 1).unwrap_err().code, ErrorCode::StaleBrokerEpoch);
    assert_eq!(
        code(&|it| it.replicas.push(it.replicas[0].clone())).unwrap_err().code,
        ErrorCode::InvalidRequest
    );
    let other = cluster.epoch(2).get();
    let cases: [(Slip, &str); 7] = [
        (&|it| it.replicas[0].topic_id = vec![1].into(), "INVALID_REQUEST"),
        (&|it| it.replicas[0].topic_id = vec![1; 16].into(), "UNKNOWN_TOPIC_ID"),
        (&|it| it.replicas[0].partition = 9, "UNKNOWN_TOPIC_OR_PARTITION"),
        (&|it| (it.broker_id, it.broker_epoch) = (2, other), "UNKNOWN_TOPIC_OR_PARTITION"),
        (&|it| it.replicas[0].leader_epoch = 7, "NOT_CONTROLLER"),
        (&|it| it.replicas[0].condition = 77, "INVALID_REQUEST"),
        (&|it| it.replicas[0].condition = 2, "NONE"),
    ];
    for (change, expected) in cases {
        assert_eq!(code(change).unwrap(), expected);
    }
    let mut long = good.clone();
    long.replicas[0].what = "ř".repeat(5_000);
    take(&mut cluster, &long);
    assert_eq!(cluster.partition(topic, 0).damaged[0].what.len(), 500);
    assert!(!cluster.partition(topic, 0).is_damaged(NodeId::new(2)));
}
