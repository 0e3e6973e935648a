//! Elections that an administrator asks for, and those that the controller makes by itself.

use vltava_metadata::{PartitionImage, record};
use vltava_model::{NodeId, PartitionIndex, TopicId, TopicPartition};
use vltava_proto::v1::{ElectLeadersRequest, ElectionType, NamedPartition};

use super::cluster::*;
use crate::decide::rebalance_leaders::Progress;
use crate::decide::*;

fn request(kind: ElectionType, topics: &[&str]) -> ElectLeadersRequest {
    let named = |topic: &&str| NamedPartition { topic: (*topic).into(), partition: 0 };
    ElectLeadersRequest { r#type: kind.into(), partitions: topics.iter().map(named).collect() }
}

fn errors(cluster: &Cluster, request: &ElectLeadersRequest) -> Vec<String> {
    let decision = elect_leaders::decide(&cluster.view(), request).unwrap();
    decision.response.results.iter().map(|result| error_of(&result.error).to_owned()).collect()
}

#[test]
fn leadership_goes_back_to_the_preferred_replica_when_it_is_in_sync() {
    let mut cluster = Cluster::of(&[1, 2]);
    let topic = cluster.topic("t", &[&[1, 2]], &[]);
    cluster.topic("u", &[&[2, 1]], &[]);
    cluster.fence(1);
    cluster.unfence(1);
    let ask = request(ElectionType::Preferred, &["t", "u", "t", "x"]);
    let expected = [
        "PREFERRED_LEADER_NOT_AVAILABLE",
        "ELECTION_NOT_NEEDED",
        "INVALID_REQUEST",
        "UNKNOWN_TOPIC_OR_PARTITION",
    ];
    assert_eq!(errors(&cluster, &ask), expected);
    assert!(rebalance_leaders::decide(&cluster.view()).records.is_empty());

    cluster.set_isr(2, topic, &[2, 1]);
    let all = elect_leaders::decide(&cluster.view(), &request(ElectionType::Preferred, &[])).unwrap();
    assert_eq!((all.response.results.len(), all.response.results[0].leader), (1, Some(1)));
    let moved = rebalance_leaders::decide(&cluster.view());
    assert_eq!(moved.records, all.records);
    assert_eq!(cluster.take(moved), Progress::Done);
    assert_eq!(cluster.gist(topic), (Some(1), vec![2, 1], vec![], 2));
}

#[test]
fn rebalancing_moves_a_bounded_number_at_once() {
    let mut cluster = Cluster::of(&[1, 2]);
    let topic = cluster.topic("t", &[&[1, 2], &[1, 2], &[1, 2]], &[]);
    cluster.fence(1);
    cluster.start(1, 2);
    for index in 0..3 {
        let of = TopicPartition::new(topic, PartitionIndex::new(index));
        let mut image = (*cluster.partition(topic, index)).clone();
        image.isr.push(NodeId::new(1));
        image.elr.clear();
        image.last_known_elr.clear();
        image.partition_epoch = image.partition_epoch.next();
        cluster.apply(&[record::partition(of, &image)]);
    }
    cluster.settings.max_leader_moves = 2;
    let first = rebalance_leaders::decide(&cluster.view());
    assert_eq!(cluster.take(first), Progress::More);
    assert_eq!(cluster.image.leader_count(NodeId::new(1)), 2);
    let second = rebalance_leaders::decide(&cluster.view());
    assert_eq!(cluster.take(second), Progress::Done);
    assert_eq!(cluster.image.leader_count(NodeId::new(1)), 3);
}

#[test]
fn unclean_elections_are_for_those_who_have_nobody() {
    let mut cluster = Cluster::of(&[1, 2]);
    let topic = cluster.topic("t", &[&[1, 2]], &[]);
    cluster.set_isr(1, topic, &[1]);
    cluster.set_isr(1, topic, &[1, 2]);
    assert_eq!(errors(&cluster, &request(ElectionType::Unclean, &["t"])), ["ELECTION_NOT_NEEDED"]);
    cluster.fence(1);
    cluster.fence(2);
    assert_eq!(errors(&cluster, &request(ElectionType::Unclean, &["t"])), ["ELIGIBLE_LEADERS_NOT_AVAILABLE"]);
    let kind = ElectLeadersRequest { r#type: 7, ..ElectLeadersRequest::default() };
    assert!(elect_leaders::decide(&cluster.view(), &kind).is_err());
}

#[test]
fn a_new_controller_finishes_what_the_last_one_began() {
    let mut cluster = Cluster::of(&[1, 2]);
    let topic = cluster.topic("t", &[&[1]], &[]);
    cluster.fence(1);
    let unfenced = unfence_broker::decide(&cluster.view(), NodeId::new(1));
    assert_eq!(unfenced.records.len(), 2);
    cluster.apply(&unfenced.records[..1]);
    let half = TopicPartition::new(TopicId::new(5), PartitionIndex::ZERO);
    let first = PartitionImage {
        replicas: vec![NodeId::new(1)],
        directories: vec![None],
        ..PartitionImage::default()
    };
    cluster.apply(&[record::partition(half, &first)]);
    assert_eq!(cluster.gist(topic).0, None);

    let finished = activate::decide(&cluster.view());
    cluster.take(finished);
    assert_eq!(cluster.gist(topic).0, Some(1));
    assert_eq!(cluster.image.unfinished_topics().count(), 0);
    assert!(activate::decide(&cluster.view()).records.is_empty());
}
