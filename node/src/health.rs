//! Which parts of the node are ready, and why the others are not. What "ready" means, each part knows itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::watch;

/// Whether a part of the node can do its work.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It can not (yet, or any more), for this reason.
    NotReady(String),
}

/// The readiness of all parts. Clones share it.
#[derive(Clone, Debug)]
pub struct Health {
    parts: Arc<watch::Sender<BTreeMap<&'static str, Readiness>>>,
}

/// One part's way to report. Clones report for the same part.
#[derive(Clone, Debug)]
pub struct Component {
    name: &'static str,
    health: Health,
}

/// What `/health/ready` answers.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct HealthReport {
    /// Whether all parts are.
    pub ready: bool,
    /// Each part by name.
    pub components: BTreeMap<&'static str, ComponentReport>,
}

/// One part's share of a [`HealthReport`].
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct ComponentReport {
    /// Whether it is ready.
    pub ready: bool,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Health {
    /// No parts yet, so not ready.
    pub fn new() -> Self {
        Self { parts: Arc::new(watch::Sender::new(BTreeMap::new())) }
    }

    /// Adds a part. It is not ready until it says so.
    pub fn component(&self, name: &'static str) -> Component {
        let component = Component { name, health: self.clone() };
        component.set(Readiness::NotReady("starting".into()));
        component
    }

    /// How things stand.
    pub fn report(&self) -> HealthReport {
        let parts = self.parts.borrow();
        let components = parts.iter().map(|(name, readiness)| {
            let report = match readiness {
                Readiness::Ready => ComponentReport { ready: true, reason: None },
                Readiness::NotReady(reason) => ComponentReport { ready: false, reason: Some(reason.clone()) },
            };
            (*name, report)
        });
        HealthReport { ready: all_ready(&parts), components: components.collect() }
    }

    /// Waits until every part is ready.
    pub async fn wait_ready(&self) {
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.parts.subscribe().wait_for(all_ready).await;
    }
}

fn all_ready(parts: &BTreeMap<&'static str, Readiness>) -> bool {
    !parts.is_empty() && parts.values().all(|readiness| *readiness == Readiness::Ready)
}

impl Component {
    /// Reports.
    pub fn set(&self, readiness: Readiness) {
        self.health.parts.send_if_modified(|parts| {
            parts.insert(self.name, readiness.clone()).as_ref() != Some(&readiness)
        });
    }

    /// Reports that it is ready.
    pub fn ready(&self) {
        self.set(Readiness::Ready);
    }

    /// Reports that it is not, and why.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.set(Readiness::NotReady(reason.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ready_means_every_part() {
        let health = Health::new();
        assert!(!health.report().ready);
        let controller = health.component("controller");
        let broker = health.component("broker");
        controller.ready();
        broker.not_ready("fenced");
        let json = serde_json::to_string(&health.report()).unwrap();
        let expected = r#"{"ready":false,"components":{"broker":{"ready":false,"reason":"fenced"},"controller":{"ready":true}}}"#;
        assert_eq!(json, expected);
        let waiting = tokio::spawn({
            let health = health.clone();
            async move { health.wait_ready().await }
        });
        broker.clone().ready();
        waiting.await.unwrap();
        assert!(health.report().ready);
    }
}
