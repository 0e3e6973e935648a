//! From names and values to a [`Config`]: every value checked by its property, then all of them against each other.
//!
//! Collects complaints instead of stopping at the first one.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use vltava_model::NodeId;
use vltava_model::configs::{ClusterConfig, TopicConfig, nearest};

use super::address::ListenerName;
use super::error::{Complaint, ConfigError, ConfigErrors};
use super::property::{Fallback, Kind, Value};
use super::source::{Entry, Setting};
use super::{BrokerConfig, Config, ControllerConfig, LimitsConfig, MetadataEngine, Roles, StorageConfig};
use super::{source, table};

/// Reads `text` and lets `overrides` win over it.
pub(super) fn from_text(
    origin: &str,
    base: &Path,
    text: &str,
    overrides: Vec<(String, Setting)>,
) -> Result<Config, ConfigErrors> {
    let (mut entries, errors) = source::parse(origin, text);
    for (key, value) in overrides {
        entries.retain(|entry| entry.key != key);
        entries.push(Entry { key, value, line: None });
    }
    let mut draft = Draft { origin: origin.into(), values: BTreeMap::new(), errors };
    entries.into_iter().for_each(|entry| draft.accept(entry));
    draft.demand_required();
    draft.finish(base)
}

/// The values read so far and all that is wrong with them.
pub(super) struct Draft {
    origin: String,
    pub(super) values: BTreeMap<&'static str, (Value, Option<usize>)>,
    errors: Vec<ConfigError>,
}

impl Draft {
    fn accept(&mut self, Entry { key, value, line }: Entry) {
        let Some(property) = table::find(&key) else {
            let names = table::properties().iter().map(|property| property.name);
            let advice = match nearest(&key, names) {
                Some(name) => format!("did you mean `{name}`?"),
                None => "docs/configuration.md lists all names".into(),
            };
            let complaint = Complaint::new("no property has this name", advice);
            return self.complain(Some(&key), line, complaint);
        };
        if self.values.contains_key(property.name) {
            let complaint = Complaint::new("is set twice", "keep one of the two");
            return self.complain(Some(&key), line, complaint);
        }
        match property.kind.check(&value) {
            Ok(value) => {
                self.values.insert(property.name, (value, line));
            }
            Err(complaint) => self.complain(Some(&key), line, complaint),
        }
    }

    fn demand_required(&mut self) {
        let missing = table::properties().iter().filter(|property| {
            let complained = self.errors.iter().any(|error| error.key.as_deref() == Some(property.name));
            property.default == Fallback::Required && !self.values.contains_key(property.name) && !complained
        });
        let complaints: Vec<_> = missing
            .map(|property| {
                let advice = format!("add it, as in `{} = {}`", property.name, property.example);
                (property.name, Complaint::new("is missing", advice))
            })
            .collect();
        complaints.into_iter().for_each(|(name, complaint)| self.complain(Some(name), None, complaint));
    }

    fn complain(&mut self, key: Option<&str>, line: Option<usize>, complaint: Complaint) {
        let line = line.or_else(|| key.and_then(|key| self.values.get(key)).and_then(|(_, line)| *line));
        self.errors.push(ConfigError {
            origin: self.origin.clone(),
            line,
            key: key.map(str::to_owned),
            problem: complaint.problem,
            advice: complaint.advice,
        });
    }

    pub(super) fn blame(&mut self, key: &'static str, problem: impl Into<String>, advice: impl Into<String>) {
        self.complain(Some(key), None, Complaint::new(problem, advice));
    }

    /// The value of a property, or its default; `None` without either.
    pub(super) fn value(&self, name: &str) -> Option<Value> {
        if let Some((value, _)) = self.values.get(name) {
            return Some(value.clone());
        }
        let property = table::find(name);
        let property = property.unwrap_or_else(|| panic!("`{name}` is missing in the table of properties"));
        match property.default {
            Fallback::Value(text) => property.kind.check(&Setting::from_text(text)).ok(),
            Fallback::Required | Fallback::Words(_) => None,
        }
    }

    pub(super) fn integer(&self, name: &str) -> i64 {
        match self.value(name) {
            Some(Value::Integer(value)) => value,
            // It is missing and complained of, or was not legal and complained of: any value will do.
            _ => 0,
        }
    }

    fn unsigned(&self, name: &str) -> u64 {
        u64::try_from(self.integer(name)).unwrap_or(0)
    }

    fn count(&self, name: &str) -> usize {
        usize::try_from(self.integer(name)).unwrap_or(0)
    }

    fn millis(&self, name: &str) -> Duration {
        Duration::from_millis(self.unsigned(name))
    }

    fn text(&self, name: &str) -> Option<String> {
        match self.value(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn list(&self, name: &str) -> Vec<String> {
        match self.value(name) {
            Some(Value::List(items)) => items,
            _ => Vec::new(),
        }
    }

    fn finish(mut self, base: &Path) -> Result<Config, ConfigErrors> {
        let mut warnings = Vec::new();
        let roles = self.roles();
        let node_id = NodeId::new(u32::try_from(self.integer("node.id")).unwrap_or(0));
        let listeners = self.listeners(roles);
        let advertised = self.advertised(&listeners);
        let voters = self.voters(node_id, roles, &advertised, &mut warnings);
        let storage = self.storage(base);
        let controller = self.controller();
        let broker = self.broker();
        let (shared, cluster, topics) = self.shared();
        if listeners.get(ListenerName::Kafka).is_some() {
            warnings.push(
                "the KAFKA listener is reserved for the Kafka wire protocol: nothing listens there yet"
                    .into(),
            );
        }
        let config = Config {
            node_id,
            roles,
            cluster_id: self.text("cluster.id").and_then(|text| text.parse().ok()),
            rack: self.text("broker.rack").filter(|rack| !rack.is_empty()),
            listeners,
            advertised,
            voters,
            storage,
            controller,
            broker,
            limits: self.limits(),
            shared,
            cluster,
            topics,
            warnings,
            origin: self.origin,
        };
        match self.errors.is_empty() {
            true => Ok(config),
            false => {
                self.errors.sort_by_key(|error| error.line.unwrap_or(usize::MAX));
                Err(ConfigErrors(self.errors))
            }
        }
    }

    fn roles(&mut self) -> Roles {
        let words = self.list("process.roles");
        let has = |role: &str| words.iter().any(|word| word == role);
        match (has("controller"), has("broker")) {
            (true, true) => Roles::Both,
            (true, false) => Roles::Controller,
            (false, true) => Roles::Broker,
            (false, false) => {
                self.blame("process.roles", "names no role", "write [\"controller\"], [\"broker\"] or both");
                Roles::Both
            }
        }
    }

    fn storage(&mut self, base: &Path) -> StorageConfig {
        let mut log_dirs: Vec<PathBuf> = Vec::new();
        for dir in self.list("log.dirs") {
            let dir = resolve(base, &dir);
            if log_dirs.contains(&dir) {
                self.blame("log.dirs", format!("names {} twice", dir.display()), "name each directory once");
            } else {
                log_dirs.push(dir);
            }
        }
        let metadata_dir = match (self.text("metadata.log.dir"), log_dirs.first()) {
            (Some(dir), _) => resolve(base, &dir),
            (None, Some(first)) => first.join("__metadata"),
            (None, None) => PathBuf::new(),
        };
        if log_dirs.contains(&metadata_dir) {
            let problem = format!("{} is one of `log.dirs`", metadata_dir.display());
            self.blame("metadata.log.dir", problem, "give the metadata a directory of its own");
        }
        StorageConfig {
            log_dirs,
            metadata_dir,
            metadata_engine: match self.text("metadata.log.engine").as_deref() {
                Some("wal") => Some(MetadataEngine::Wal),
                Some("sled") => Some(MetadataEngine::Sled),
                // Any other word was refused where the value was read.
                _ => None,
            },
            journal_file_bytes: self.unsigned("log.journal.file.bytes"),
            retention_check_interval: self.millis("log.retention.check.interval.ms"),
            free_bytes_min: self.unsigned("log.dir.free.bytes.min"),
        }
    }

    fn controller(&mut self) -> ControllerConfig {
        let config = ControllerConfig {
            election_timeout: self.millis("controller.quorum.election.timeout.ms"),
            heartbeat_interval: self.millis("controller.quorum.heartbeat.interval.ms"),
            request_timeout: self.millis("controller.quorum.request.timeout.ms"),
            changes_between_snapshots: self.unsigned("metadata.log.max.records.between.snapshots"),
        };
        if config.heartbeat_interval * 3 > config.election_timeout {
            self.blame(
                "controller.quorum.heartbeat.interval.ms",
                format!(
                    "{} ms is more than a third of the election timeout ({} ms): one lost message would elect anew",
                    config.heartbeat_interval.as_millis(),
                    config.election_timeout.as_millis()
                ),
                "lower it, or raise `controller.quorum.election.timeout.ms`",
            );
        }
        config
    }

    fn broker(&self) -> BrokerConfig {
        BrokerConfig {
            controlled_shutdown_timeout: self.millis("controlled.shutdown.timeout.ms"),
            replica_fetch_response_max_bytes: self.unsigned("replica.fetch.response.max.bytes"),
        }
    }

    fn limits(&self) -> LimitsConfig {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = |name| match self.count(name) {
            0 => processors,
            threads => threads,
        };
        LimitsConfig {
            io_threads: threads("num.io.threads"),
            network_threads: threads("num.network.threads"),
            queued_max_requests: self.count("queued.max.requests"),
            request_max_bytes: self.count("socket.request.max.bytes"),
        }
    }

    /// What the file sets of the configs that it shares with the running cluster.
    fn shared(&mut self) -> (BTreeMap<String, String>, ClusterConfig, TopicConfig) {
        let is_shared =
            |name: &&str| table::find(name).is_some_and(|found| matches!(found.kind, Kind::Shared(_)));
        let set: BTreeMap<String, String> = self
            .values
            .iter()
            .filter(|(name, _)| is_shared(name))
            .map(|(name, (value, _))| ((*name).to_owned(), value.to_text()))
            .collect();
        let file = |name: &str| set.get(name).map(String::as_str);
        // Each value has passed the check of its config, so that reading all of them cannot fail.
        let cluster = ClusterConfig::resolve(&[&file]).unwrap_or_default();
        let topics = TopicConfig::resolve(&|_| None, &[&file]).unwrap_or_default();
        if cluster.broker_heartbeat_interval_ms.saturating_mul(2) > cluster.broker_session_timeout_ms {
            self.blame(
                "broker.session.timeout.ms",
                format!(
                    "{} ms leaves no room for one lost heartbeat ({} ms)",
                    cluster.broker_session_timeout_ms, cluster.broker_heartbeat_interval_ms
                ),
                "make it at least twice `broker.heartbeat.interval.ms`",
            );
        }
        (set, cluster, topics)
    }
}

/// A directory of the file, which lies in `base`. The `..` that it begins with are taken off `base`, which has no links.
fn resolve(base: &Path, dir: &str) -> PathBuf {
    let mut resolved = base.to_path_buf();
    let mut components = Path::new(dir).components().peekable();
    while let Some(first) = components.peek() {
        match first {
            Component::CurDir => {}
            Component::ParentDir if resolved.pop() => {}
            _ => break,
        }
        components.next();
    }
    resolved.join(components.collect::<PathBuf>())
}
