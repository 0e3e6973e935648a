//! Topics come, grow and go.

use std::collections::BTreeSet;

use vltava_metadata::{ConfigTarget, Image};
use vltava_model::{ErrorCode, NodeId, TopicId};
use vltava_proto::v1::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, NewTopic, ReplicaAssignment,
};

use super::cluster::*;
use crate::decide::*;

fn create(topics: Vec<NewTopic>) -> CreateTopicsRequest {
    CreateTopicsRequest { topics, validate_only: false }
}

fn placed(name: &str, partition_count: u32, replication_factor: u32) -> NewTopic {
    NewTopic { name: name.into(), partition_count, replication_factor, ..NewTopic::default() }
}

fn errors(cluster: &Cluster, topics: Vec<NewTopic>) -> Vec<String> {
    let response = create_topics::decide(&cluster.view(), &create(topics)).unwrap().response;
    response.topics.iter().map(|topic| error_of(&topic.error).to_owned()).collect()
}

#[test]
fn each_topic_succeeds_or_fails_alone() {
    let mut cluster = Cluster::of(&[1, 2, 3]);
    cluster.topic("old", &[&[1]], &[]);
    cluster.topic("a.b", &[&[1]], &[]);
    let topics = vec![
        placed("good", 4, 3),
        placed("old", 1, 1),
        placed("b/d", 1, 1),
        placed("", 1, 1),
        placed("a_b", 1, 1),
        placed("x.y", 1, 1),
        placed("x_y", 1, 1),
        placed("twice", 1, 1),
        placed("twice", 1, 1),
        placed("wide", 1, 4),
        new_topic("config", &[&[1]], &[("retention.ms", "-2")]),
        placed("more", 2, 1),
    ];
    let expected = [
        "NONE",
        "TOPIC_ALREADY_EXISTS",
        "INVALID_TOPIC_EXCEPTION",
        "INVALID_TOPIC_EXCEPTION",
        "INVALID_TOPIC_EXCEPTION",
        "NONE",
        "INVALID_TOPIC_EXCEPTION",
        "INVALID_REQUEST",
        "INVALID_REQUEST",
        "INVALID_REPLICATION_FACTOR",
        "INVALID_CONFIG",
        "NONE",
    ];
    assert_eq!(errors(&cluster, topics.clone()), expected);
    let decision = create_topics::decide(&cluster.view(), &create(topics.clone())).unwrap();
    let response = cluster.take(decision);
    assert_eq!(response.metadata_offset, cluster.image.offset().get());
    assert_eq!(cluster.image.topics().count(), 5);
    let good = cluster.image.topic_named("good").unwrap();
    assert_eq!((good.partition_count(), good.replication_factor()), (4, 3));
    for (_, partition) in good.partitions() {
        assert_eq!(partition.isr, partition.replicas);
        assert_eq!(partition.leader, partition.preferred_leader());
        assert!(partition.directories.iter().all(Option::is_some), "each broker has one directory");
    }

    let dry = CreateTopicsRequest { topics: vec![placed("dry", 1, 1)], validate_only: true };
    let decision = create_topics::decide(&cluster.view(), &dry).unwrap();
    assert!(decision.records.is_empty() && decision.response.topics[0].error.is_none());
}

#[test]
fn counts_that_are_left_out_come_from_the_configs() {
    let mut cluster = Cluster::of(&[1, 2]);
    cluster.settings.file = [("num.partitions", "3"), ("default.replication.factor", "2")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let decision = create_topics::decide(&cluster.view(), &create(vec![placed("t", 0, 0)])).unwrap();
    let response = cluster.take(decision);
    assert_eq!((response.topics[0].partition_count, response.topics[0].replication_factor), (3, 2));
}

#[test]
fn assignments_are_checked() {
    let mut cluster = Cluster::of(&[1, 2, 3]);
    cluster.fence(3);
    let bad: [&[&[u32]]; 5] = [&[&[]], &[&[1, 1]], &[&[1, 9]], &[&[1, 2], &[1]], &[&[3]]];
    for assignments in bad {
        let got = errors(&cluster, vec![new_topic("t", assignments, &[])]);
        assert_eq!(got, ["INVALID_REPLICA_ASSIGNMENT"], "{assignments:?}");
    }
    let counted = |partition_count, replication_factor| NewTopic {
        partition_count,
        replication_factor,
        ..new_topic("t", &[&[1, 2]], &[])
    };
    let got = errors(&cluster, vec![counted(2, 0)]);
    assert_eq!(got, ["INVALID_PARTITIONS"]);
    assert_eq!(errors(&cluster, vec![counted(1, 3)]), ["INVALID_REPLICATION_FACTOR"]);
    assert_eq!(errors(&cluster, vec![counted(1, 2)]), ["NONE"]);
    let topic = cluster.topic("t", &[&[3, 1, 2]], &[]);
    assert_eq!(cluster.gist(topic), (Some(1), vec![1, 2], vec![], 0), "3 is fenced");
}

#[test]
fn nobody_active_is_no_fault_of_the_request() {
    let mut cluster = Cluster::of(&[1]);
    cluster.fence(1);
    assert_eq!(errors(&cluster, vec![placed("t", 1, 1)]), ["BROKER_NOT_AVAILABLE"]);
}

#[test]
fn a_large_topic_is_written_in_entries_and_appears_at_once() {
    let mut cluster = Cluster::of(&[1, 2, 3]);
    let request = create(vec![placed("large", 9_999, 3), placed("one", 1, 1), placed("over", 1, 1)]);
    let decision = create_topics::decide(&cluster.view(), &request).unwrap();
    let names = decision.response.topics.iter().map(|topic| error_of(&topic.error));
    assert_eq!(names.collect::<Vec<_>>(), ["NONE", "NONE", "POLICY_VIOLATION"]);
    let entries = entries(decision.records);
    assert!(entries.len() > 1);
    let mut seen = Vec::new();
    for entry in &entries {
        cluster.apply(entry);
        seen.push(cluster.image.topic_named("large").map_or(0, |topic| topic.partition_count()));
    }
    assert_eq!(seen.iter().copied().collect::<BTreeSet<_>>(), BTreeSet::from([0, 9_999]));
    let counts: Vec<_> = (1..4).map(|node| cluster.image.leader_count(NodeId::new(node))).collect();
    assert!(counts.iter().all(|count| count.abs_diff(3_333) <= 1), "{counts:?}");
    assert_eq!(decision.response.metadata_offset, cluster.image.offset().get());
}

#[test]
fn deleted_topics_take_their_configs_and_come_back_as_others() {
    let mut cluster = Cluster::of(&[1]);
    let first = cluster.topic("t", &[&[1]], &[("retention.ms", "5")]);
    let names = ["t", "u", "t"].map(String::from).to_vec();
    let request = DeleteTopicsRequest { names, ..Default::default() };
    let response = cluster.take(delete_topics::decide(&cluster.view(), &request).unwrap());
    let results: Vec<_> = response.topics.iter().map(|topic| error_of(&topic.error)).collect();
    assert_eq!(results, ["NONE", "UNKNOWN_TOPIC_OR_PARTITION", "INVALID_REQUEST"]);
    let target = ConfigTarget::Topic("t".into());
    assert_eq!(cluster.image.configs().value(&target, "retention.ms"), None);
    let second = cluster.topic("t", &[&[1]], &[]);
    assert_ne!(first, second);
    assert_ne!(second, TopicId::default());
    // A deletion by id that is repeated does not reach the topic that has the name now.
    let by_id = |ids: &[&[u8]]| DeleteTopicsRequest {
        names: Vec::new(),
        topic_ids: ids.iter().map(|id| id.to_vec().into()).collect(),
    };
    let request = by_id(&[&first.to_bytes(), b"short", &second.to_bytes(), &second.to_bytes()]);
    let response = cluster.take(delete_topics::decide(&cluster.view(), &request).unwrap());
    let results: Vec<_> = response.topics.iter().map(|topic| error_of(&topic.error)).collect();
    assert_eq!(results, ["UNKNOWN_TOPIC_ID", "INVALID_REQUEST", "NONE", "INVALID_REQUEST"]);
    assert_eq!(response.topics[2].name, "t");
    assert!(cluster.image.topic(second).is_none());
}

#[test]
fn topics_only_grow() {
    let mut cluster = Cluster::of(&[1, 2, 3]);
    cluster.topic("t", &[&[1, 2], &[2, 3]], &[]);
    let request = |total_count, assignments: &[&[u32]]| CreatePartitionsRequest {
        topic: "t".into(),
        total_count,
        assignments: assignments.iter().map(|it| ReplicaAssignment { brokers: it.to_vec() }).collect(),
        validate_only: false,
    };
    let code = |request| create_partitions::decide(&cluster.view(), &request).unwrap_err().code;
    assert_eq!(code(request(2, &[])), ErrorCode::InvalidPartitions);
    assert_eq!(code(request(20_000, &[])), ErrorCode::PolicyViolation);
    assert_eq!(code(request(3, &[&[1, 2], &[2, 3]])), ErrorCode::InvalidReplicaAssignment);
    assert_eq!(code(request(3, &[&[1, 2, 3]])), ErrorCode::InvalidReplicaAssignment);
    let unknown = CreatePartitionsRequest { topic: "u".into(), ..request(3, &[]) };
    assert_eq!(code(unknown), ErrorCode::UnknownTopicOrPartition);
    let dry = CreatePartitionsRequest { validate_only: true, ..request(3, &[]) };
    assert!(create_partitions::decide(&cluster.view(), &dry).unwrap().records.is_empty());

    let decision = create_partitions::decide(&cluster.view(), &request(3, &[])).unwrap();
    let response = cluster.take(decision);
    assert_eq!(response.metadata_offset, cluster.image.offset().get());
    let topic = cluster.image.topic_named("t").unwrap().clone();
    let third = topic.partition(vltava_model::PartitionIndex::new(2)).unwrap();
    assert_eq!((raw(&third.replicas)[0], third.replicas.len()), (3, 2), "3 led nothing yet");
    let decision = create_partitions::decide(&cluster.view(), &request(4, &[&[2, 1]])).unwrap();
    cluster.take(decision);
    assert_eq!(cluster.image.partition_count(), 4);
    assert_eq!(Image::from_snapshot(&cluster.image.to_snapshot()).unwrap(), cluster.image);
}
