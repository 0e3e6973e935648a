//! From names and values to a [`Config`]: every value checked by its property, then all of them against each other.
//!
//! Collects complaints instead of stopping at the first one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use vltava_model::NodeId;

use super::address::{Listener, ListenerName, Listeners, Voter};
use super::error::{Complaint, ConfigError, ConfigErrors};
use super::property::{Fallback, Value};
use super::source::{Entry, Setting};
use super::{
    BrokerConfig, Config, ControllerConfig, LimitsConfig, ReplicationConfig, Roles, StorageConfig,
    TopicsConfig, source, suggest, table, topics,
};

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
struct Draft {
    origin: String,
    values: BTreeMap<&'static str, (Value, Option<usize>)>,
    errors: Vec<ConfigError>,
}

impl Draft {
    fn accept(&mut self, Entry { key, value, line }: Entry) {
        let Some(property) = table::find(&key) else {
            let names = table::properties().iter().map(|property| property.name);
            let advice = match suggest::nearest(&key, names) {
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

    fn blame(&mut self, key: &'static str, problem: impl Into<String>, advice: impl Into<String>) {
        self.complain(Some(key), None, Complaint::new(problem, advice));
    }

    /// The value of a property, or its default; `None` without either.
    fn value(&self, name: &str) -> Option<Value> {
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

    fn integer(&self, name: &str) -> i64 {
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

    fn boolean(&self, name: &str) -> bool {
        matches!(self.value(name), Some(Value::Boolean(true)))
    }

    fn text(&self, name: &str) -> Option<String> {
        match self.value(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn list(&self, name: &str) -> Vec<String> {
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
        let topics = self.topics(&mut warnings);
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
            replication: self.replication(),
            limits: self.limits(),
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

    fn listeners(&mut self, roles: Roles) -> Listeners {
        let given = self.listener_list("listeners");
        let Some(listeners) = given else {
            return default_listeners(roles);
        };
        for (name, needed, role) in [
            (ListenerName::Grpc, roles.broker(), "broker"),
            (ListenerName::Controller, roles.controller(), "controller"),
        ] {
            match (listeners.get(name), needed) {
                (None, true) => self.blame(
                    "listeners",
                    format!("names no {name} listener, which a {role} needs"),
                    format!("add one, as in \"{name}://127.0.0.1:{}\"", default_port(name)),
                ),
                (Some(_), false) => self.blame(
                    "listeners",
                    format!("names a {name} listener, and this node is no {role}"),
                    format!("leave it out, or add \"{role}\" to `process.roles`"),
                ),
                _ => {}
            }
        }
        let all: Vec<&Listener> = listeners.iter().collect();
        for (i, one) in all.iter().enumerate() {
            let twin = all[..i].iter().find(|other| {
                let hosts = one.address.host == other.address.host
                    || one.address.is_wildcard()
                    || other.address.is_wildcard();
                one.address.port == other.address.port && one.address.port != 0 && hosts
            });
            if let Some(twin) = twin {
                self.blame(
                    "listeners",
                    format!("{one} and {twin} share a port"),
                    "give each a port of its own",
                );
            }
        }
        listeners
    }

    fn advertised(&mut self, listeners: &Listeners) -> Listeners {
        let mut advertised = Listeners::default();
        let given = self.listener_list("advertised.listeners").unwrap_or_default();
        for listener in given.iter() {
            if listeners.get(listener.name).is_none() {
                let problem = format!("advertises {}, which is not among `listeners`", listener.name);
                self.blame("advertised.listeners", problem, "add it there, or leave it out here");
            }
            if listener.address.is_wildcard() || listener.address.port == 0 {
                let problem = format!("{listener} is no address that others could connect to");
                self.blame("advertised.listeners", problem, "name a host and a port");
            }
        }
        for listener in listeners.iter() {
            let address = given.get(listener.name).unwrap_or(&listener.address).clone();
            // Nobody is told of the HTTP listener, and nobody listens at the Kafka one yet.
            let told = matches!(listener.name, ListenerName::Grpc | ListenerName::Controller);
            if told && given.get(listener.name).is_none() && address.is_wildcard() {
                let problem = format!("{listener} means every interface: others need a name to connect to");
                let advice =
                    format!("add `advertised.listeners = [\"{}://HOST:{}\"]`", listener.name, address.port);
                self.blame("listeners", problem, advice);
            }
            advertised.set(listener.name, address);
        }
        advertised
    }

    fn listener_list(&mut self, name: &'static str) -> Option<Listeners> {
        self.value(name)?;
        let parsed = self.list(name).iter().map(|item| Listener::parse(item)).collect::<Result<Vec<_>, _>>();
        match parsed.and_then(Listeners::new) {
            Ok(listeners) => Some(listeners),
            Err(problem) => {
                self.blame(name, problem, "");
                Some(Listeners::default())
            }
        }
    }

    fn voters(
        &mut self,
        node: NodeId,
        roles: Roles,
        advertised: &Listeners,
        warnings: &mut Vec<String>,
    ) -> Vec<Voter> {
        const KEY: &str = "controller.quorum.voters";
        let voters: Vec<Voter> = self.list(KEY).iter().filter_map(|text| Voter::parse(text).ok()).collect();
        if self.values.contains_key(KEY) && voters.is_empty() {
            self.blame(KEY, "names no voter", "name 1, 3 or 5 controllers");
        }
        for (i, voter) in voters.iter().enumerate() {
            if voters[..i].iter().any(|other| other.id == voter.id) {
                self.blame(
                    KEY,
                    format!("names node {} twice", voter.id),
                    "give each controller its own `node.id`",
                );
            } else if voters[..i].iter().any(|other| other.address == voter.address) {
                self.blame(
                    KEY,
                    format!("{} is named twice", voter.address),
                    "each controller has its own address",
                );
            }
        }
        let me = voters.iter().find(|voter| voter.id == node);
        match (me, roles.controller(), advertised.get(ListenerName::Controller)) {
            (Some(_), false, _) if self.values.contains_key("node.id") => self.blame(
                KEY,
                format!("names this node ({node}), which is no controller"),
                "add \"controller\" to `process.roles`, or correct `node.id`",
            ),
            (Some(me), true, Some(address)) if me.address.port != address.port && address.port != 0 => self
                .blame(
                    KEY,
                    format!("has this node at {}, and its CONTROLLER listener is at {address}", me.address),
                    "make the two agree (`listeners` or `advertised.listeners`)",
                ),
            _ => {}
        }
        if !voters.is_empty() && voters.len().is_multiple_of(2) {
            warnings.push(format!(
                "{} voters survive no more failures than {}: 1, 3 or 5 are the numbers that make sense",
                voters.len(),
                voters.len() - 1
            ));
        }
        voters
    }

    fn storage(&mut self, base: &Path) -> StorageConfig {
        let mut log_dirs: Vec<PathBuf> = Vec::new();
        for dir in self.list("log.dirs") {
            let dir = base.join(dir);
            if log_dirs.contains(&dir) {
                self.blame("log.dirs", format!("names {} twice", dir.display()), "name each directory once");
            } else {
                log_dirs.push(dir);
            }
        }
        let metadata_dir = match (self.text("metadata.log.dir"), log_dirs.first()) {
            (Some(dir), _) => base.join(dir),
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
            journal_file_bytes: self.unsigned("log.journal.file.bytes"),
            journal_max_append_bytes: self.unsigned("log.journal.max.append.bytes"),
            retention_check_interval: self.millis("log.retention.check.interval.ms"),
            recovery_threads_per_dir: self.count("num.recovery.threads.per.data.dir"),
            free_bytes_min: self.unsigned("log.dir.free.bytes.min"),
        }
    }

    fn controller(&mut self) -> ControllerConfig {
        let config = ControllerConfig {
            election_timeout: self.millis("controller.quorum.election.timeout.ms"),
            heartbeat_interval: self.millis("controller.quorum.heartbeat.interval.ms"),
            request_timeout: self.millis("controller.quorum.request.timeout.ms"),
            records_between_snapshots: self.unsigned("metadata.log.max.records.between.snapshots"),
            leader_imbalance_check_interval: Duration::from_secs(
                self.unsigned("leader.imbalance.check.interval.seconds"),
            ),
            auto_leader_rebalance: self.boolean("auto.leader.rebalance.enable"),
            max_partitions: self.unsigned("max.partitions"),
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

    fn broker(&mut self) -> BrokerConfig {
        let config = BrokerConfig {
            heartbeat_interval: self.millis("broker.heartbeat.interval.ms"),
            session_timeout: self.millis("broker.session.timeout.ms"),
            controlled_shutdown_timeout: self.millis("controlled.shutdown.timeout.ms"),
            producer_id_expiration: self.millis("producer.id.expiration.ms"),
            request_timeout: self.millis("request.timeout.ms"),
        };
        if config.heartbeat_interval * 2 > config.session_timeout {
            self.blame(
                "broker.session.timeout.ms",
                format!(
                    "{} ms leaves no room for one lost heartbeat ({} ms)",
                    config.session_timeout.as_millis(),
                    config.heartbeat_interval.as_millis()
                ),
                "make it at least twice `broker.heartbeat.interval.ms`",
            );
        }
        config
    }

    fn replication(&self) -> ReplicationConfig {
        ReplicationConfig {
            lag_time_max: self.millis("replica.lag.time.max.ms"),
            fetch_response_max_bytes: self.unsigned("replica.fetch.response.max.bytes"),
            fetch_backoff: self.millis("replica.fetch.backoff.ms"),
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
            queued_max_request_bytes: self.unsigned("queued.max.request.bytes"),
            max_connections: self.count("max.connections"),
            fetch_max_bytes: self.unsigned("fetch.max.bytes"),
        }
    }

    fn topics(&mut self, warnings: &mut Vec<String>) -> TopicsConfig {
        let mut configs = BTreeMap::new();
        for (name, topic_name) in topics::names() {
            if let Some((value, _)) = self.values.get(name) {
                configs.insert(topic_name.to_owned(), value.to_text());
            }
        }
        let default_replication_factor =
            u32::try_from(self.integer("default.replication.factor")).unwrap_or(1);
        let min_isr = configs.get("min.insync.replicas").and_then(|text| text.parse::<u32>().ok());
        if min_isr.is_some_and(|min| min > default_replication_factor) {
            warnings.push(
                "`min.insync.replicas` is above `default.replication.factor`: topics created without a replication \
                 factor would refuse acks=all"
                    .into(),
            );
        }
        TopicsConfig {
            num_partitions: u32::try_from(self.integer("num.partitions")).unwrap_or(1),
            default_replication_factor,
            configs,
        }
    }
}

const fn default_port(name: ListenerName) -> u16 {
    match name {
        ListenerName::Kafka => 9092,
        ListenerName::Grpc => 7092,
        ListenerName::Controller => 7093,
        ListenerName::Http => 8092,
    }
}

/// Loopback only: nothing is authenticated yet, so being reachable from elsewhere is a decision of the operator's.
fn default_listeners(roles: Roles) -> Listeners {
    let mut listeners = Listeners::default();
    for (name, wanted) in [
        (ListenerName::Grpc, roles.broker()),
        (ListenerName::Controller, roles.controller()),
        (ListenerName::Http, true),
    ] {
        if wanted {
            listeners.set(name, super::Address::new("127.0.0.1", default_port(name)));
        }
    }
    listeners
}
