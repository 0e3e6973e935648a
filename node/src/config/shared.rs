//! Properties that the file shares with the running cluster: the configs of `vltava_model::configs`, under the names that
//! they have on brokers. The file gives them their defaults; `vltava configs alter` goes before it.

use vltava_model::configs::{self, ConfigKey, ConfigKind, ConfigScope, ConfigValue};

use super::error::Complaint;
use super::property::{self, Fallback, Group, Kind, Property, Value};
use super::source::Setting;

/// All of them.
pub(super) fn properties() -> impl Iterator<Item = Property> {
    configs::all(ConfigScope::Cluster).into_iter().map(|(name, key)| Property {
        name,
        kind: Kind::Shared(key),
        default: Fallback::Value(key.default),
        group: group(name, key),
        doc: key.doc,
        example: example(key),
    })
}

/// What such a property takes, in words.
pub(super) fn describe(key: &ConfigKey) -> String {
    match unit(key) {
        None => key.kind.to_string(),
        Some(Unit::Millis) => format!("{}, or a duration as in \"30s\"", key.kind),
        Some(Unit::Bytes) => format!("{}, or a size as in \"64MiB\"", key.kind),
    }
}

/// Checks a value as the cluster would.
pub(super) fn check(key: &'static ConfigKey, setting: &Setting) -> Result<Value, Complaint> {
    let number = matches!(key.kind, ConfigKind::Integer { .. } | ConfigKind::Limit { .. });
    let text = match setting {
        Setting::Integer(value) if number => value.to_string(),
        Setting::Boolean(value) if key.kind == ConfigKind::Boolean => value.to_string(),
        Setting::Text(text) if number => match with_unit(key, text) {
            Some(value) => value.to_string(),
            None if text.trim().parse::<i64>().is_ok() => {
                return Err(Complaint::new("is text", format!("write {} without quotes", text.trim())));
            }
            None => return Err(mismatch(key, setting)),
        },
        Setting::Text(text) if key.kind != ConfigKind::Boolean => text.clone(),
        // Kafka's lists of words: one of them, as long as there is no more than one to choose.
        Setting::List(items) => match items.as_slice() {
            [Setting::Text(text)] if !number => text.clone(),
            _ => return Err(mismatch(key, setting)),
        },
        _ => return Err(mismatch(key, setting)),
    };
    match key.parse(&text) {
        Ok(ConfigValue::Integer(value)) => Ok(Value::Integer(value)),
        Ok(ConfigValue::NoLimit) => Ok(Value::Integer(-1)),
        Ok(ConfigValue::Boolean(value)) => Ok(Value::Boolean(value)),
        Ok(ConfigValue::Word(word)) => Ok(Value::Text(word.into())),
        Err(_) => Err(mismatch(key, setting)),
    }
}

fn mismatch(key: &ConfigKey, setting: &Setting) -> Complaint {
    Complaint::new(format!("is {}", setting.describe()), format!("write {}", describe(key)))
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unit {
    Millis,
    Bytes,
}

fn unit(key: &ConfigKey) -> Option<Unit> {
    let is_number = matches!(key.kind, ConfigKind::Integer { .. } | ConfigKind::Limit { .. });
    let ends_with = |suffix| is_number && key.cluster_name.ends_with(suffix);
    match () {
        () if ends_with(".ms") => Some(Unit::Millis),
        () if ends_with(".bytes") => Some(Unit::Bytes),
        () => None,
    }
}

fn with_unit(key: &ConfigKey, text: &str) -> Option<i64> {
    match unit(key)? {
        Unit::Millis => property::millis(text),
        Unit::Bytes => property::bytes(text),
    }
}

fn group(name: &str, key: &ConfigKey) -> Group {
    match name.split('.').next() {
        _ if key.topic_name.is_some() => Group::Topics,
        Some("broker") => Group::Brokers,
        Some("replica") => Group::Replication,
        Some("leader") => Group::Controllers,
        Some("auto") if name.starts_with("auto.leader") => Group::Controllers,
        _ => Group::Topics,
    }
}

/// A value that is not the default, where one can be made up.
fn example(key: &ConfigKey) -> &'static str {
    match (key.kind, unit(key)) {
        (_, Some(Unit::Millis)) => "\"30s\"",
        (_, Some(Unit::Bytes)) => "\"1MiB\"",
        (ConfigKind::Boolean, _) => "true",
        (ConfigKind::Integer { .. } | ConfigKind::Limit { .. }, None) => "3",
        (ConfigKind::Word(words), _) => words.last().copied().unwrap_or_default(),
    }
}
