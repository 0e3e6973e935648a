//! The configuration of topics and of the cluster that can be changed while it runs, as data: names, values, meanings.
//!
//! Names and meanings are Kafka's. Knows nothing of where values are kept; whoever asks brings them along in layers.
//!
//! - `table`: the configs themselves.  - `topic`, `cluster`: all values of one resource, typed.
//! - `nearest`: what a mistyped name may have meant.

mod cluster;
mod nearest;
pub mod table;
mod topic;

use std::fmt;

pub use cluster::ClusterConfig;
pub use nearest::nearest;
pub use topic::TopicConfig;

/// What a config is set on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConfigScope {
    /// One topic.
    Topic,
    /// One broker; goes before what is set for all of them.
    Broker,
    /// All brokers.
    Cluster,
}

impl ConfigScope {
    /// Its name in messages to people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Broker => "broker",
            Self::Cluster => "cluster",
        }
    }
}

impl fmt::Display for ConfigScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which values a config takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigKind {
    /// A plain integer.
    Integer {
        /// The smallest one.
        min: i64,
        /// The largest one.
        max: i64,
    },
    /// A plain integer, or -1 for "no limit".
    Limit {
        /// The smallest one beside -1.
        min: i64,
    },
    /// `true` or `false`.
    Boolean,
    /// One of these words.
    Word(&'static [&'static str]),
}

impl fmt::Display for ConfigKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer { min, max: i64::MAX } => write!(f, "an integer of at least {min}"),
            Self::Integer { min, max } => write!(f, "an integer from {min} to {max}"),
            Self::Limit { min } => write!(f, "an integer of at least {min}, or -1 for no limit"),
            Self::Boolean => f.write_str("true or false"),
            Self::Word([word]) => write!(f, "{word} (nothing else is supported yet)"),
            Self::Word(words) => write!(f, "one of {}", words.join(", ")),
        }
    }
}

/// A value that was read and lies in its config's range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigValue {
    /// Of [`ConfigKind::Integer`] or [`ConfigKind::Limit`].
    Integer(i64),
    /// The -1 of [`ConfigKind::Limit`].
    NoLimit,
    /// Of [`ConfigKind::Boolean`].
    Boolean(bool),
    /// Of [`ConfigKind::Word`].
    Word(&'static str),
}

/// One config.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigKey {
    /// Its name on a topic; `None` when it is none of a topic's.
    pub topic_name: Option<&'static str>,
    /// Its name on a broker or the cluster. For a topic's config that is the default of all topics.
    pub cluster_name: &'static str,
    /// Whether one broker may have a value of its own.
    pub per_broker: bool,
    /// Which values it takes.
    pub kind: ConfigKind,
    /// The value that holds where nobody set one.
    pub default: &'static str,
    /// What it does, in a sentence or two.
    pub doc: &'static str,
}

/// Why a config is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// There is no config of that name.
    #[error("unknown {scope} config \"{}\"{}", shortened(.name), advice(*.nearest))]
    Unknown {
        /// What it was to be set on.
        scope: ConfigScope,
        /// The name that was asked for.
        name: String,
        /// What may have been meant.
        nearest: Option<&'static str>,
    },
    /// The value is of the wrong type or out of range.
    #[error("config {name} is {expected}, not \"{}\"", shortened(.value))]
    InvalidValue {
        /// The config.
        name: &'static str,
        /// The value that was given.
        value: String,
        /// What it takes.
        expected: ConfigKind,
    },
}

fn advice(nearest: Option<&'static str>) -> String {
    nearest.map(|name| format!("; did you mean \"{name}\"?")).unwrap_or_default()
}

/// Names and values come from anywhere and may be long; an error need not be.
fn shortened(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", text[..end].escape_debug()),
        None => text.escape_debug().to_string(),
    }
}

impl ConfigKey {
    /// Its name where it is set on `scope`; `None` where it cannot be.
    pub fn name_on(&self, scope: ConfigScope) -> Option<&'static str> {
        match scope {
            ConfigScope::Topic => self.topic_name,
            ConfigScope::Broker => self.per_broker.then_some(self.cluster_name),
            ConfigScope::Cluster => Some(self.cluster_name),
        }
    }

    /// The most specific of its names, for messages.
    pub const fn name(&self) -> &'static str {
        match self.topic_name {
            Some(name) => name,
            None => self.cluster_name,
        }
    }

    /// Reads a value. Blanks around it do not count, nor does the case of `true` and `false`.
    ///
    /// # Errors
    /// [`ConfigError::InvalidValue`].
    pub fn parse(&self, text: &str) -> Result<ConfigValue, ConfigError> {
        let trimmed = text.trim();
        let integer = || plain_integer(trimmed);
        let value = match self.kind {
            ConfigKind::Integer { min, max } => {
                integer().filter(|value| (min..=max).contains(value)).map(ConfigValue::Integer)
            }
            ConfigKind::Limit { min } => match integer() {
                Some(-1) => Some(ConfigValue::NoLimit),
                other => other.filter(|value| *value >= min).map(ConfigValue::Integer),
            },
            ConfigKind::Boolean if trimmed.eq_ignore_ascii_case("true") => Some(ConfigValue::Boolean(true)),
            ConfigKind::Boolean if trimmed.eq_ignore_ascii_case("false") => Some(ConfigValue::Boolean(false)),
            ConfigKind::Boolean => None,
            ConfigKind::Word(words) => {
                words.iter().find(|word| **word == trimmed).map(|word| ConfigValue::Word(word))
            }
        };
        value.ok_or_else(|| ConfigError::InvalidValue {
            name: self.name(),
            value: text.to_owned(),
            expected: self.kind,
        })
    }
}

/// Digits, perhaps behind a minus: no units, no plus, no blanks.
fn plain_integer(text: &str) -> Option<i64> {
    if text.starts_with('+') { None } else { text.parse().ok() }
}

/// All configs that can be set on `scope`, by their names there, in alphabetical order.
pub fn all(scope: ConfigScope) -> Vec<(&'static str, &'static ConfigKey)> {
    let named = |key: &&'static ConfigKey| key.name_on(scope).map(|name| (name, *key));
    let mut keys: Vec<_> = table::KEYS.iter().filter_map(named).collect();
    keys.sort_unstable_by_key(|(name, _)| *name);
    keys
}

/// The config of that name.
///
/// # Errors
/// [`ConfigError::Unknown`], with what may have been meant.
pub fn find(scope: ConfigScope, name: &str) -> Result<&'static ConfigKey, ConfigError> {
    let known = table::KEYS.iter().find(|key| key.name_on(scope) == Some(name));
    known.copied().ok_or_else(|| {
        // A default's name on a topic, or the other way round, is no typing error: the other name is meant.
        let elsewhere =
            table::KEYS.iter().find(|key| key.topic_name == Some(name) || key.cluster_name == name);
        let nearest = elsewhere.and_then(|key| key.name_on(scope)).or_else(|| {
            let names = table::KEYS.iter().filter_map(|key| key.name_on(scope));
            nearest(name, names)
        });
        ConfigError::Unknown { scope, name: name.to_owned(), nearest }
    })
}

/// Checks a name and a value before they are recorded.
///
/// # Errors
/// When there is no such config on `scope`, or the value is not one of its values.
pub fn validate(scope: ConfigScope, name: &str, value: &str) -> Result<ConfigValue, ConfigError> {
    find(scope, name)?.parse(value)
}

/// Gives the values that were set on one resource, by name: a function that lives for `'l` and texts that live for `'v`.
pub type Layer<'l, 'v> = &'l (dyn Fn(&str) -> Option<&'v str> + 'l);

/// Finds values in layers.
struct Resolver<'l, 'v> {
    topic: Option<Layer<'l, 'v>>,
    /// Those of brokers, most specific first.
    brokers: &'l [Layer<'l, 'v>],
}

impl Resolver<'_, '_> {
    fn value(&self, key: &ConfigKey) -> Result<ConfigValue, ConfigError> {
        let own = self.topic.zip(key.topic_name).and_then(|(layer, name)| layer(name));
        let set = own.or_else(|| self.brokers.iter().find_map(|layer| layer(key.cluster_name)));
        key.parse(set.unwrap_or(key.default))
    }

    /// A value of a config whose range holds nothing negative.
    fn integer(&self, key: &ConfigKey) -> Result<u64, ConfigError> {
        Ok(self.limit(key)?.unwrap_or(u64::MAX))
    }

    fn limit(&self, key: &ConfigKey) -> Result<Option<u64>, ConfigError> {
        match self.value(key)? {
            ConfigValue::Integer(value) => Ok(u64::try_from(value).ok()),
            _ => Ok(None),
        }
    }

    /// A value of a config whose range fits 32 bits.
    fn count(&self, key: &ConfigKey) -> Result<u32, ConfigError> {
        Ok(u32::try_from(self.integer(key)?).unwrap_or(u32::MAX))
    }

    fn boolean(&self, key: &ConfigKey) -> Result<bool, ConfigError> {
        Ok(self.value(key)? == ConfigValue::Boolean(true))
    }
}

#[cfg(test)]
mod tests;
