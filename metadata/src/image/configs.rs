//! Configuration values that were set, by what they belong to. Knows no config's meaning.

use std::sync::Arc;

use imbl::OrdMap;
use vltava_model::NodeId;
use vltava_proto::v1::{ConfigRecord, ConfigResource};

use crate::error::Fault;

/// What configs belong to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum ConfigTarget {
    /// A topic, by name.
    Topic(Arc<str>),
    /// One broker.
    Broker(NodeId),
    /// All brokers.
    Cluster,
}

impl ConfigTarget {
    /// Reads a resource and its name as messages carry them.
    ///
    /// # Errors
    /// When the resource is unknown, or its name is not one.
    pub fn from_proto(resource: i32, name: &str) -> Result<Self, Fault> {
        match ConfigResource::try_from(resource).unwrap_or_default() {
            ConfigResource::Unspecified => Err(Fault::Malformed("config resource")),
            ConfigResource::Topic if name.is_empty() => Err(Fault::Malformed("topic name")),
            ConfigResource::Topic => Ok(Self::Topic(name.into())),
            ConfigResource::Broker => name
                .parse()
                .map(|id| Self::Broker(NodeId::new(id)))
                .map_err(|_| Fault::Malformed("broker id")),
            ConfigResource::Cluster if name.is_empty() => Ok(Self::Cluster),
            ConfigResource::Cluster => Err(Fault::Malformed("name of the cluster's configs")),
        }
    }

    /// What [`Self::from_proto`] reads.
    pub fn to_proto(&self) -> (ConfigResource, String) {
        match self {
            Self::Topic(name) => (ConfigResource::Topic, name.to_string()),
            Self::Broker(node) => (ConfigResource::Broker, node.to_string()),
            Self::Cluster => (ConfigResource::Cluster, String::new()),
        }
    }

    pub(super) fn from_record(record: &ConfigRecord) -> Result<Self, Fault> {
        if record.name.is_empty() {
            return Err(Fault::Malformed("config name"));
        }
        Self::from_proto(record.resource, &record.resource_name)
    }
}

type Values = OrdMap<Arc<str>, Arc<str>>;

/// All values that were set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigsImage {
    by_target: OrdMap<ConfigTarget, Values>,
}

impl ConfigsImage {
    /// One value, if it was set on this very target.
    pub fn value(&self, target: &ConfigTarget, name: &str) -> Option<&str> {
        self.by_target.get(target)?.get(name).map(|value| &**value)
    }

    /// All values that were set on this very target, by name.
    pub fn of(&self, target: &ConfigTarget) -> impl Iterator<Item = (&str, &str)> {
        self.by_target.get(target).into_iter().flatten().map(|(name, value)| (&**name, &**value))
    }

    /// Everything on which something was set.
    pub fn targets(&self) -> impl Iterator<Item = &ConfigTarget> {
        self.by_target.keys()
    }

    /// Whether two images have the same values on a target.
    pub(crate) fn same(&self, other: &Self, target: &ConfigTarget) -> bool {
        self.by_target.get(target) == other.by_target.get(target)
    }

    pub(super) fn forget(&mut self, target: &ConfigTarget) {
        self.by_target.remove(target);
    }

    pub(super) fn replay(&mut self, target: ConfigTarget, record: &ConfigRecord) {
        let values = self.by_target.entry(target.clone()).or_default();
        match &record.value {
            Some(value) => values.insert(record.name.as_str().into(), value.as_str().into()),
            None => values.remove(record.name.as_str()),
        };
        if values.is_empty() {
            self.by_target.remove(&target);
        }
    }
}
