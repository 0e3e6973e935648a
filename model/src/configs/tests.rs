//! The table is sound, values are judged, and layers go before each other in order.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::batch::TimestampType;

const SCOPES: [ConfigScope; 3] = [ConfigScope::Topic, ConfigScope::Broker, ConfigScope::Cluster];

fn layer<'v>(values: &BTreeMap<&str, &'v str>) -> impl Fn(&str) -> Option<&'v str> {
    |name| values.get(name).copied()
}

#[test]
fn every_name_is_found_once_and_every_default_is_legal() {
    for scope in SCOPES {
        let names: Vec<_> = all(scope).into_iter().map(|(name, _)| name).collect();
        assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "{scope}: {names:?}");
        for (name, key) in all(scope) {
            assert_eq!(find(scope, name), Ok(key));
            assert!(validate(scope, name, key.default).is_ok(), "{name}");
            assert!(key.doc.ends_with('.') && !key.doc.contains("  "), "{name}");
        }
    }
    assert_eq!(TopicConfig::default().retention_ms, Some(604_800_000));
    assert_eq!(ClusterConfig::default().leader_imbalance_check_interval_ms, 5_000);
}

#[test]
fn topics_have_the_configs_that_are_promised() {
    let names: Vec<_> = all(ConfigScope::Topic).into_iter().map(|(name, _)| name).collect();
    let promised = [
        "cleanup.policy",
        "compression.type",
        "file.delete.delay.ms",
        "flush.messages",
        "flush.ms",
        "index.interval.bytes",
        "max.message.bytes",
        "message.timestamp.after.max.ms",
        "message.timestamp.before.max.ms",
        "message.timestamp.type",
        "min.insync.replicas",
        "preallocate",
        "retention.bytes",
        "retention.ms",
        "segment.bytes",
        "segment.index.bytes",
        "segment.ms",
        "unclean.leader.election.enable",
    ];
    assert_eq!(names, promised);
}

#[test]
fn unknown_names_get_the_nearest_known_one() {
    let said = |scope, name| find(scope, name).unwrap_err().to_string();
    assert_eq!(
        said(ConfigScope::Topic, "retention.mss"),
        "unknown topic config \"retention.mss\"; did you mean \"retention.ms\"?"
    );
    // The name that a default has elsewhere, however different.
    assert!(said(ConfigScope::Topic, "log.roll.ms").contains("\"segment.ms\""));
    assert!(said(ConfigScope::Cluster, "flush.messages").contains("\"log.flush.interval.messages\""));
    assert_eq!(said(ConfigScope::Topic, "colour"), "unknown topic config \"colour\"");
    // What holds for all brokers alike is not set on one.
    assert!(find(ConfigScope::Broker, "num.partitions").is_err());
    assert!(find(ConfigScope::Broker, "log.retention.ms").is_ok());
    assert!(find(ConfigScope::Topic, "").is_err());
}

#[test]
fn values_out_of_range_are_refused_with_the_range() {
    let bad = [
        ("retention.ms", "-2"),
        ("retention.ms", "7d"),
        ("retention.ms", "1_000"),
        ("retention.ms", "1.0"),
        ("retention.ms", ""),
        ("retention.ms", "+5"),
        ("retention.ms", "9223372036854775808"),
        ("segment.bytes", "-1"),
        ("segment.bytes", "100"),
        ("segment.bytes", "2147483648"),
        ("min.insync.replicas", "0"),
        ("flush.messages", "0"),
        ("preallocate", "yes"),
        ("cleanup.policy", "compact"),
        ("compression.type", "gzip"),
        ("message.timestamp.type", "createtime"),
    ];
    for (name, value) in bad {
        let error = validate(ConfigScope::Topic, name, value).unwrap_err();
        assert!(matches!(error, ConfigError::InvalidValue { .. }), "{name}={value}");
    }
    let said = |name, value| validate(ConfigScope::Topic, name, value).unwrap_err().to_string();
    assert_eq!(
        said("segment.bytes", "1"),
        "config segment.bytes is an integer from 16384 to 2147483647, not \"1\""
    );
    assert_eq!(
        said("retention.ms", "x\n"),
        "config retention.ms is an integer of at least 0, or -1 for no limit, not \"x\\n\""
    );
    assert!(said("cleanup.policy", "compact").contains("delete (nothing else is supported yet)"));
    assert!(said("retention.ms", &"9".repeat(1 << 20)).len() < 500);
}

#[test]
fn values_are_read() {
    let read = |name, value| validate(ConfigScope::Topic, name, value).unwrap();
    assert_eq!(read("retention.ms", "-1"), ConfigValue::NoLimit);
    assert_eq!(read("retention.ms", " 0 "), ConfigValue::Integer(0));
    assert_eq!(read("preallocate", "True"), ConfigValue::Boolean(true));
    assert_eq!(read("message.timestamp.type", "LogAppendTime"), ConfigValue::Word("LogAppendTime"));
}

#[test]
fn the_topics_own_value_goes_first_then_layer_by_layer() {
    let topic = BTreeMap::from([("retention.ms", "1"), ("message.timestamp.type", "LogAppendTime")]);
    let broker = BTreeMap::from([("log.retention.ms", "2"), ("log.segment.bytes", "20000")]);
    let cluster = BTreeMap::from([
        ("log.retention.ms", "3"),
        ("log.segment.bytes", "30000"),
        ("log.roll.ms", "4"),
        // A topic's name means nothing here.
        ("segment.index.bytes", "5"),
        ("log.retention.bytes", "-1"),
        ("unclean.leader.election.enable", "true"),
    ]);
    let (topic, broker, cluster) = (layer(&topic), layer(&broker), layer(&cluster));
    let layers: [Layer<'_, '_>; 2] = [&broker, &cluster];
    let config = TopicConfig::resolve(&topic, &layers).unwrap();
    let expected = TopicConfig {
        retention_ms: Some(1),
        segment_bytes: 20_000,
        segment_ms: 4,
        timestamp_type: TimestampType::LogAppendTime,
        unclean_leader_election: true,
        ..TopicConfig::default()
    };
    assert_eq!(config, expected);
    // And a topic does not read a cluster's names.
    assert_eq!(TopicConfig::resolve(&broker, &[]), Ok(TopicConfig::default()));
}

#[test]
fn a_recorded_value_that_is_none_is_an_error() {
    let topic = BTreeMap::from([("retention.ms", "soon")]);
    assert!(TopicConfig::resolve(&layer(&topic), &[]).is_err());
    let cluster = BTreeMap::from([("num.partitions", "0")]);
    assert!(ClusterConfig::resolve(&[&layer(&cluster)]).is_err());
}

#[test]
fn acknowledged_records_survive_one_loss_by_default() {
    let config = TopicConfig::default();
    assert!(config.is_synced());
    assert!(!config.unclean_leader_election);
    assert_eq!([1, 2, 3, 5].map(|replicas| config.min_in_sync(replicas)), [1, 2, 2, 2]);
}

#[test]
fn timestamps_are_judged_by_both_bounds() {
    let config =
        TopicConfig { timestamp_before_max_ms: 10, timestamp_after_max_ms: 5, ..TopicConfig::default() };
    let accepted = [89, 90, 100, 105, 106].map(|timestamp| config.accepts_timestamp(timestamp, 100));
    assert_eq!(accepted, [false, true, true, true, false]);
    assert!(!config.accepts_timestamp(i64::MAX, i64::MIN) && !config.accepts_timestamp(i64::MIN, i64::MAX));
    let default = TopicConfig::default();
    assert!(default.accepts_timestamp(-1, 1_700_000_000_000));
    assert!(!default.accepts_timestamp(1_700_000_000_000_000, 1_700_000_000_000), "microseconds are noticed");
}

proptest! {
    #![proptest_config(crate::testing::same_every_run())]

    #[test]
    fn any_name_and_value_is_judged(name: String, value: String) {
        for scope in SCOPES {
            if let Err(error) = validate(scope, &name, &value) {
                let _ = error.to_string();
            }
            for (known, _) in all(scope) {
                let _ = validate(scope, known, &value);
            }
        }
    }

    #[test]
    fn what_is_accepted_resolves(value in prop_oneof![any::<i64>().prop_map(|n| n.to_string()), "-?[0-9]{1,12}"]) {
        for (name, _) in all(ConfigScope::Topic) {
            let accepted = validate(ConfigScope::Topic, name, &value).is_ok();
            let set = BTreeMap::from([(name, value.as_str())]);
            prop_assert_eq!(TopicConfig::resolve(&layer(&set), &[]).is_ok(), accepted);
        }
    }
}
