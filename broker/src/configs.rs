//! Configs as they hold on this broker: what was set for a topic, for this broker, for the cluster, in the config file.

use vltava_metadata::{ConfigTarget, Image, TopicImage};
use vltava_model::configs::{self, ConfigScope, TopicConfig};
use vltava_proto::v1::{ConfigEntry, ConfigSource};

use crate::options::BrokerOptions;

/// The configuration of a topic. A value that this version can't read was refused when it was set, so the built-in ones
/// stand in for what a later version may have recorded.
pub fn resolve(image: &Image, options: &BrokerOptions, topic: &TopicImage) -> TopicConfig {
    let file = |name: &str| options.static_configs.get(name).map(String::as_str);
    image.topic_config(&topic.name, Some(options.node_id), &file).unwrap_or_else(|error| {
        tracing::error!(topic = %topic.name, %error, "unreadable configuration, using defaults");
        TopicConfig::default()
    })
}

/// All configs of a target, each with where its value comes from.
pub fn describe(image: &Image, options: &BrokerOptions, target: &ConfigTarget) -> Vec<ConfigEntry> {
    let scope = match target {
        ConfigTarget::Topic(_) => ConfigScope::Topic,
        ConfigTarget::Broker(_) | ConfigTarget::Cluster => ConfigScope::Broker,
    };
    let describe = |(name, key): (&'static str, &'static configs::ConfigKey)| {
        let (value, source) = value_of(image, options, target, name, key);
        ConfigEntry { name: name.to_owned(), value, source: source.into(), documentation: key.doc.to_owned() }
    };
    configs::all(scope).into_iter().map(describe).collect()
}

fn value_of(
    image: &Image,
    options: &BrokerOptions,
    target: &ConfigTarget,
    name: &str,
    key: &configs::ConfigKey,
) -> (String, ConfigSource) {
    let set = |target: &ConfigTarget, name: &str| image.configs().value(target, name).map(str::to_owned);
    if let ConfigTarget::Topic(_) = target
        && let Some(value) = set(target, name)
    {
        return (value, ConfigSource::Topic);
    }
    if let Some(name) = key.name_on(ConfigScope::Broker) {
        let node = match target {
            ConfigTarget::Broker(node) => Some(*node),
            ConfigTarget::Topic(_) => Some(options.node_id),
            ConfigTarget::Cluster => None,
        };
        if let Some(value) = node.and_then(|node| set(&ConfigTarget::Broker(node), name)) {
            return (value, ConfigSource::Broker);
        }
        if let Some(value) = set(&ConfigTarget::Cluster, name) {
            return (value, ConfigSource::Cluster);
        }
        if let Some(value) = options.static_configs.get(name) {
            return (value.clone(), ConfigSource::File);
        }
    }
    (key.default.to_owned(), ConfigSource::Default)
}
