//! Features and their levels.

use std::sync::Arc;

use imbl::OrdMap;
use vltava_proto::v1::FeatureRecord;

use crate::error::Fault;

/// The level of each feature that is on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeaturesImage {
    levels: OrdMap<Arc<str>, u32>,
}

impl FeaturesImage {
    /// The level of a feature; `None` when it is off.
    pub fn level(&self, name: &str) -> Option<u32> {
        self.levels.get(name).copied()
    }

    /// All features that are on, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.levels.iter().map(|(name, level)| (&**name, *level))
    }

    pub(super) fn replay(&mut self, record: &FeatureRecord) -> Result<(), Fault> {
        if record.name.is_empty() {
            return Err(Fault::Malformed("feature name"));
        }
        match record.level {
            0 => self.levels.remove(record.name.as_str()),
            level => self.levels.insert(record.name.as_str().into(), level),
        };
        Ok(())
    }
}
