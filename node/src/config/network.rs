//! How addresses fit together: what the roles need, what others can connect to, and that the quorum's list agrees.

use vltava_model::NodeId;

use super::Roles;
use super::address::{Address, Listener, ListenerName, Listeners, Voter};
use super::build::Draft;

impl Draft {
    pub(super) fn listeners(&mut self, roles: Roles) -> Listeners {
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

    pub(super) fn advertised(&mut self, listeners: &Listeners) -> Listeners {
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

    pub(super) fn voters(
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
            listeners.set(name, Address::new("127.0.0.1", default_port(name)));
        }
    }
    listeners
}
