//! Which names new topics may have: legal, free, and told apart from others in metrics.

use std::collections::{BTreeMap, BTreeSet};

use vltava_metadata::Image;
use vltava_model::{ErrorCode, topic_name};

use crate::decide::Refusal;

/// The names that are taken, as far as a request needs them.
pub(super) struct Names {
    taken: BTreeSet<String>,
    /// Names that could collide with another, by what they would collide in.
    by_key: BTreeMap<String, String>,
    repeated: BTreeSet<String>,
}

impl Names {
    /// Collects what a request for `wanted` names needs to know of the image.
    pub(super) fn of<'a>(image: &Image, wanted: impl Iterator<Item = &'a str>) -> Self {
        let mut names = Self { taken: BTreeSet::new(), by_key: BTreeMap::new(), repeated: BTreeSet::new() };
        let mut seen = BTreeSet::new();
        let mut collidable = false;
        for name in wanted {
            if !seen.insert(name) {
                names.repeated.insert(name.to_owned());
            }
            if image.topic_named(name).is_some() {
                names.taken.insert(name.to_owned());
            }
            collidable |= may_collide(name);
        }
        if collidable {
            let known = image.topics().filter(|topic| may_collide(&topic.name));
            names.by_key =
                known.map(|topic| (topic_name::collision_key(&topic.name), topic.name.to_string())).collect();
        }
        names
    }

    /// Whether a topic may be created under a name.
    pub(super) fn check(&self, name: &str) -> Result<(), Refusal> {
        topic_name::validate(name)
            .map_err(|error| Refusal::new(ErrorCode::InvalidTopicException, error.to_string()))?;
        if self.repeated.contains(name) {
            return Err(Refusal::new(ErrorCode::InvalidRequest, format!("topic {name} is named twice")));
        }
        if self.taken.contains(name) {
            return Err(Refusal::new(ErrorCode::TopicAlreadyExists, format!("topic {name} exists already")));
        }
        if let Some(other) = self.by_key.get(&topic_name::collision_key(name)) {
            return Err(Refusal::new(
                ErrorCode::InvalidTopicException,
                format!("{name} and {other} would be the same in names of metrics, where '.' becomes '_'"),
            ));
        }
        Ok(())
    }

    /// The name is taken from now on.
    pub(super) fn take(&mut self, name: &str) {
        self.taken.insert(name.to_owned());
        if may_collide(name) {
            self.by_key.insert(topic_name::collision_key(name), name.to_owned());
        }
    }
}

fn may_collide(name: &str) -> bool {
    name.contains(['.', '_'])
}
