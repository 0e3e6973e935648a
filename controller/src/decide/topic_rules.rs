//! What a topic's configs say to the controller.

use vltava_metadata::TopicImage;
use vltava_model::configs::TopicConfig;

use super::View;
use crate::elections::{Rules, Unclean};

/// Whether a crash may lose what a replica acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CrashSafety {
    /// Every acknowledged record was synced.
    Synced,
    /// The topic relaxed it.
    Relaxed,
}

/// What a topic's configs say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TopicRules {
    pub(super) min_insync_replicas: u32,
    pub(super) unclean: Unclean,
    pub(super) crash: CrashSafety,
}

impl TopicRules {
    /// Resolves a topic's configs. Where a value was recorded that this version does not understand, the defaults hold, and
    /// no log is trusted after a crash.
    pub(super) fn of(view: &View, topic: &TopicImage) -> Self {
        let resolved = view.image.topic_config(&topic.name, None, &|name| view.settings.in_file(name));
        match resolved {
            Ok(config) => Self::from_config(&config),
            Err(_) => {
                let rules = Self::from_config(&TopicConfig::default());
                Self { crash: CrashSafety::Relaxed, unclean: Unclean::Forbidden, ..rules }
            }
        }
    }

    /// Reads resolved configs.
    pub(super) fn from_config(config: &TopicConfig) -> Self {
        Self {
            min_insync_replicas: config.min_insync_replicas,
            unclean: if config.unclean_leader_election { Unclean::Allowed } else { Unclean::Forbidden },
            crash: if config.is_synced() { CrashSafety::Synced } else { CrashSafety::Relaxed },
        }
    }

    /// What elections ask.
    pub(super) fn elections(self) -> Rules {
        Rules { min_insync_replicas: self.min_insync_replicas, unclean: self.unclean }
    }
}
