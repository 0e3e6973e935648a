//! Configs, and what follows from them.

use vltava_metadata::ConfigTarget;
use vltava_model::ErrorCode;
use vltava_proto::v1::metadata_record::Record;
use vltava_proto::v1::{AlterConfigsRequest, ConfigResource, ConfigTarget as Named};

use super::cluster::*;
use crate::decide::*;

fn request(
    resource: ConfigResource,
    name: &str,
    set: &[(&str, &str)],
    clear: &[&str],
) -> AlterConfigsRequest {
    AlterConfigsRequest {
        target: Some(Named { resource: resource.into(), name: name.into() }),
        set: set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        clear: clear.iter().map(|name| (*name).to_owned()).collect(),
        validate_only: false,
    }
}

fn code(cluster: &Cluster, request: &AlterConfigsRequest) -> ErrorCode {
    alter_configs::decide(&cluster.view(), request).unwrap_err().code
}

#[test]
fn bad_configs_get_clear_errors() {
    let mut cluster = Cluster::of(&[1]);
    cluster.topic("t", &[&[1]], &[]);
    let topic = |set: &[(&str, &str)], clear: &[&str]| request(ConfigResource::Topic, "t", set, clear);
    assert_eq!(code(&cluster, &topic(&[("retention.m", "1")], &[])), ErrorCode::InvalidConfig);
    assert_eq!(code(&cluster, &topic(&[("retention.ms", "soon")], &[])), ErrorCode::InvalidConfig);
    assert_eq!(code(&cluster, &topic(&[], &["retention.m"])), ErrorCode::InvalidConfig);
    assert_eq!(
        code(&cluster, &topic(&[("retention.ms", "1")], &["retention.ms"])),
        ErrorCode::InvalidRequest
    );
    let long = format!("{}1", "0".repeat(2_000));
    assert_eq!(code(&cluster, &topic(&[("retention.ms", &long)], &[])), ErrorCode::InvalidConfig);
    let unknown = request(ConfigResource::Topic, "u", &[], &[]);
    assert_eq!(code(&cluster, &unknown), ErrorCode::UnknownTopicOrPartition);
    let unknown = request(ConfigResource::Broker, "9", &[], &[]);
    assert_eq!(code(&cluster, &unknown), ErrorCode::ResourceNotFound);
    assert_eq!(code(&cluster, &request(ConfigResource::Broker, "x", &[], &[])), ErrorCode::InvalidRequest);
    assert_eq!(code(&cluster, &AlterConfigsRequest::default()), ErrorCode::InvalidRequest);
}

#[test]
fn configs_are_set_and_cleared_once() {
    let mut cluster = Cluster::of(&[1]);
    cluster.topic("t", &[&[1]], &[]);
    let target = ConfigTarget::Topic("t".into());
    let set = request(ConfigResource::Topic, "t", &[("retention.ms", " 5 "), ("flush.ms", "9")], &[]);
    let mut dry = set.clone();
    dry.validate_only = true;
    assert!(alter_configs::decide(&cluster.view(), &dry).unwrap().records.is_empty());
    let response = cluster.take(alter_configs::decide(&cluster.view(), &set).unwrap());
    assert_eq!(response.metadata_offset, cluster.image.offset().get());
    assert_eq!(cluster.image.configs().value(&target, "retention.ms"), Some("5"));
    assert!(alter_configs::decide(&cluster.view(), &set).unwrap().records.is_empty());
    let clear = request(ConfigResource::Topic, "t", &[], &["retention.ms", "segment.ms"]);
    let decision = alter_configs::decide(&cluster.view(), &clear).unwrap();
    assert_eq!(decision.records.len(), 1, "what is not set needs no clearing");
    cluster.take(decision);
    assert_eq!(cluster.image.configs().value(&target, "retention.ms"), None);
}

#[test]
fn a_smaller_min_isr_ends_elrs_before_it_holds() {
    let mut cluster = Cluster::of(&[1, 2]);
    let own = cluster.topic("own", &[&[1, 2]], &[("min.insync.replicas", "2")]);
    let common = cluster.topic("common", &[&[1, 2]], &[]);
    for topic in [own, common] {
        cluster.set_isr(1, topic, &[1]);
        assert_eq!(cluster.gist(topic).2, [2]);
    }
    let lower = request(ConfigResource::Cluster, "", &[("min.insync.replicas", "1")], &[]);
    let decision = alter_configs::decide(&cluster.view(), &lower).unwrap();
    assert_eq!(decision.records.len(), 2);
    assert!(matches!(decision.records[0].record, Some(Record::Partition(_))), "the ELR goes first");
    cluster.take(decision);
    assert_eq!((cluster.gist(own).2, cluster.gist(common).2), (vec![2], vec![]));

    let lower = request(ConfigResource::Topic, "own", &[], &["min.insync.replicas"]);
    cluster.take(alter_configs::decide(&cluster.view(), &lower).unwrap());
    assert_eq!(cluster.gist(own).2, Vec::<u32>::new());
}

#[test]
fn an_unclean_election_that_is_allowed_happens() {
    let mut cluster = Cluster::of(&[1, 2]);
    let topic = cluster.topic("t", &[&[1, 2]], &[("min.insync.replicas", "1")]);
    cluster.set_isr(1, topic, &[1]);
    cluster.fence(1);
    assert_eq!(cluster.gist(topic), (None, vec![], vec![1], 1));
    let allow = request(ConfigResource::Topic, "t", &[("unclean.leader.election.enable", "true")], &[]);
    let decision = alter_configs::decide(&cluster.view(), &allow).unwrap();
    assert!(matches!(decision.records[0].record, Some(Record::Config(_))), "it is allowed first");
    cluster.take(decision);
    assert_eq!(cluster.gist(topic), (Some(2), vec![2], vec![], 2));
}

#[test]
fn the_config_file_is_the_last_layer() {
    let mut cluster = Cluster::of(&[1, 2]);
    cluster.settings.file = [("min.insync.replicas".to_owned(), "1".to_owned())].into();
    let topic = cluster.topic("t", &[&[1, 2]], &[]);
    cluster.set_isr(1, topic, &[1]);
    assert_eq!(cluster.gist(topic).2, Vec::<u32>::new());
}
