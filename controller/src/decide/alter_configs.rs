//! Sets and clears configs of one resource, all or nothing, with what follows from it for partitions.
//!
//! A smaller `min.insync.replicas` lets a leader commit with fewer replicas, so ELRs that grew under the larger one end
//! before it is recorded. An unclean election that is allowed now happens at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use vltava_metadata::{ConfigTarget, TopicImage, record};
use vltava_model::configs::{self, ConfigScope, TopicConfig, table};
use vltava_model::{ErrorCode, NodeId};
use vltava_proto::v1::{AlterConfigsRequest, AlterConfigsResponse, MetadataRecord};

use super::topic_rules::TopicRules;
use super::{Decision, Refusal, View};
use crate::elections::{PartitionChange, Unclean};

/// The longest value, in bytes: none that means anything comes near.
const MAX_VALUE_BYTES: usize = 1_024;

/// Sets and clears configs.
///
/// # Errors
/// INVALID_REQUEST for a malformed target or a name that is both set and cleared; UNKNOWN_TOPIC_OR_PARTITION and
/// RESOURCE_NOT_FOUND for a target that does not exist; INVALID_CONFIG for unknown names and illegal values.
pub fn decide(view: &View, request: &AlterConfigsRequest) -> Result<Decision<AlterConfigsResponse>, Refusal> {
    let (target, scope) = read_target(view, request)?;
    let mut changes: BTreeMap<&str, Option<&str>> = BTreeMap::new();
    for (name, value) in &request.set {
        check_value(scope, name, value)?;
        changes.insert(name, Some(value.trim()));
    }
    for name in &request.clear {
        configs::find(scope, name).map_err(|error| invalid(error.to_string()))?;
        if changes.insert(name, None).is_some_and(|set| set.is_some()) {
            let what = format!("config {name} is both set and cleared");
            return Err(Refusal::new(ErrorCode::InvalidRequest, what));
        }
    }
    let known = view.image.configs();
    changes.retain(|name, value| known.value(&target, name) != *value);
    let mut records = Vec::new();
    if !request.validate_only && !changes.is_empty() {
        records = consequences(view, &target, &changes);
    }
    let mut decision = Decision { records, response: AlterConfigsResponse::default() };
    decision.response.metadata_offset = decision.offset_after(view).get();
    Ok(decision)
}

/// Checks a name and a value that are to be recorded.
pub(super) fn check_value(scope: ConfigScope, name: &str, value: &str) -> Result<(), Refusal> {
    configs::validate(scope, name, value).map_err(|error| invalid(error.to_string()))?;
    if value.trim().len() > MAX_VALUE_BYTES {
        return Err(invalid(format!("the value of {name} is longer than {MAX_VALUE_BYTES} bytes")));
    }
    Ok(())
}

fn invalid(what: String) -> Refusal {
    Refusal::new(ErrorCode::InvalidConfig, what)
}

fn read_target(view: &View, request: &AlterConfigsRequest) -> Result<(ConfigTarget, ConfigScope), Refusal> {
    let named = request.target.clone().unwrap_or_default();
    let target = ConfigTarget::from_proto(named.resource, &named.name)
        .map_err(|fault| Refusal::new(ErrorCode::InvalidRequest, fault.to_string()))?;
    match &target {
        ConfigTarget::Topic(name) if view.image.topic_named(name).is_none() => {
            Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, format!("topic {name} does not exist")))
        }
        ConfigTarget::Broker(node) if view.image.broker(*node).is_none() => {
            Err(Refusal::new(ErrorCode::ResourceNotFound, format!("broker {node} is not registered")))
        }
        ConfigTarget::Topic(_) => Ok((target, ConfigScope::Topic)),
        ConfigTarget::Broker(_) => Ok((target, ConfigScope::Broker)),
        ConfigTarget::Cluster => Ok((target, ConfigScope::Cluster)),
    }
}

/// All records: partitions that must change first, the configs, partitions that can change then.
fn consequences(
    view: &View,
    target: &ConfigTarget,
    changes: &BTreeMap<&str, Option<&str>>,
) -> Vec<MetadataRecord> {
    let values = changes.iter().map(|(name, value)| record::config(target, name, *value));
    let weighty = [&table::MIN_INSYNC_REPLICAS, &table::UNCLEAN_LEADER_ELECTION_ENABLE];
    let elections = weighty.iter().any(|key| changes.keys().any(|name| names_config(key, name)));
    let affected: Vec<&Arc<TopicImage>> = match target {
        _ if !elections => Vec::new(),
        ConfigTarget::Topic(name) => view.image.topic_named(name).into_iter().collect(),
        ConfigTarget::Cluster => view.image.topics().collect(),
        ConfigTarget::Broker(_) => Vec::new(),
    };
    let mut first = Vec::new();
    let mut then = Vec::new();
    for topic in affected {
        let before = TopicRules::of(view, topic);
        let Some(after) = rules_after(view, topic, target, changes) else { continue };
        let shrinks = after.min_insync_replicas < before.min_insync_replicas;
        let opens = after.unclean == Unclean::Allowed && before.unclean == Unclean::Forbidden;
        if !shrinks && !opens {
            continue;
        }
        for (index, image) in topic.partitions() {
            let may_lead = |node: NodeId| view.may_lead(node, image);
            let change = PartitionChange::of(image, after.elections(), &may_lead).build();
            let Some(changed) = change else { continue };
            let record = record::partition(topic.name_partition(index), &changed);
            // An election that the new value allows must not come before it; all else must not come after it.
            if changed.leader != image.leader { then.push(record) } else { first.push(record) }
        }
    }
    first.into_iter().chain(values).chain(then).collect()
}

fn names_config(key: &configs::ConfigKey, name: &str) -> bool {
    key.topic_name == Some(name) || key.cluster_name == name
}

/// What would hold for a topic after the changes; `None` when this version cannot tell.
fn rules_after(
    view: &View,
    topic: &TopicImage,
    target: &ConfigTarget,
    changes: &BTreeMap<&str, Option<&str>>,
) -> Option<TopicRules> {
    let own = ConfigTarget::Topic(topic.name.clone());
    let layer = |of: &ConfigTarget, name: &str| match changes.get(name) {
        Some(changed) if of == target => *changed,
        _ => view.image.configs().value(of, name),
    };
    let of_topic = |name: &str| layer(&own, name);
    let of_cluster = |name: &str| layer(&ConfigTarget::Cluster, name);
    let of_file = |name: &str| view.settings.in_file(name);
    let config = TopicConfig::resolve(&of_topic, &[&of_cluster, &of_file]).ok()?;
    Some(TopicRules::from_config(&config))
}
