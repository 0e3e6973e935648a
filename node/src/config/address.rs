//! Addresses as people write them: `HOST:PORT`, listeners `GRPC://HOST:PORT`, voters `ID@HOST:PORT`.
//!
//! Knows nothing of sockets: a host may be a name that nobody has resolved yet.

use std::fmt;

use vltava_model::NodeId;

/// A host, by name or number, and a port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Address {
    /// A name, an IPv4 address, or an IPv6 address without brackets.
    pub host: String,
    /// The port; 0 lets the system choose when it is bound.
    pub port: u16,
}

impl Address {
    /// Makes an address.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// Reads `HOST:PORT` or `[IPV6]:PORT`; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (host, port) =
            text.rsplit_once(':').ok_or_else(|| format!("`{text}` has no port: write HOST:PORT"))?;
        let port = port
            .parse()
            .map_err(|_| format!("`{port}` in `{text}` is not a port: a number from 0 to 65535"))?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) => inner,
            None if host.contains(':') => {
                return Err(format!("`{text}`: write an IPv6 address in brackets, as in [::1]:7092"));
            }
            None => host,
        };
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
        if !host.chars().all(legal) {
            return Err(format!("`{host}` in `{text}` is not a host name or address"));
        }
        Ok(Self::new(host, port))
    }

    /// Whether this means every interface of the machine, so that nobody could connect to it as written.
    pub fn is_wildcard(&self) -> bool {
        matches!(self.host.as_str(), "" | "0.0.0.0" | "::")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// What a listener serves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ListenerName {
    /// The Kafka wire protocol. Reserved: accepted in the file, served by a later version.
    Kafka,
    /// Clients and other brokers.
    Grpc,
    /// Controllers among themselves, and brokers to controllers.
    Controller,
    /// Health and metrics.
    Http,
}

impl ListenerName {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::Kafka, Self::Grpc, Self::Controller, Self::Http];

    /// As written in `listeners`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kafka => "KAFKA",
            Self::Grpc => "GRPC",
            Self::Controller => "CONTROLLER",
            Self::Http => "HTTP",
        }
    }
}

impl fmt::Display for ListenerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One entry of `listeners` or `advertised.listeners`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Listener {
    /// What it serves.
    pub name: ListenerName,
    /// Where.
    pub address: Address,
}

impl Listener {
    /// Reads `NAME://HOST:PORT`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, address) = text.split_once("://").ok_or_else(|| {
            format!("`{text}` is not of the form NAME://HOST:PORT, as in GRPC://127.0.0.1:7092")
        })?;
        let known = ListenerName::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(name));
        let name = known.ok_or_else(|| {
            format!("`{name}` in `{text}` is no listener's name: there are KAFKA, GRPC, CONTROLLER and HTTP")
        })?;
        Ok(Self { name, address: Address::parse(address)? })
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.name, self.address)
    }
}

/// The listeners of a node, at most one of each name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Listeners {
    entries: Vec<Listener>,
}

impl Listeners {
    /// Collects listeners; the error names the first one that comes twice.
    pub fn new(entries: Vec<Listener>) -> Result<Self, String> {
        let mut listeners = Self::default();
        for entry in entries {
            if let Some(first) = listeners.entry(entry.name) {
                return Err(format!("{} is there twice: `{first}` and `{entry}`", entry.name));
            }
            listeners.entries.push(entry);
        }
        Ok(listeners)
    }

    /// The address of a listener, if the node has one of that name.
    pub fn get(&self, name: ListenerName) -> Option<&Address> {
        self.entry(name).map(|entry| &entry.address)
    }

    /// Sets or replaces the address of a listener: the port that the system chose for port 0, for one.
    pub fn set(&mut self, name: ListenerName, address: Address) {
        self.entries.retain(|entry| entry.name != name);
        self.entries.push(Listener { name, address });
    }

    /// All of them, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Listener> {
        self.entries.iter()
    }

    fn entry(&self, name: ListenerName) -> Option<&Listener> {
        self.entries.iter().find(|entry| entry.name == name)
    }
}

/// A voter of the controller quorum: `ID@HOST:PORT`, the address being that of its CONTROLLER listener.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Voter {
    /// Its `node.id`.
    pub id: NodeId,
    /// Where its CONTROLLER listener is reached.
    pub address: Address,
}

impl Voter {
    /// Reads `ID@HOST:PORT`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form = || format!("`{text}` is not of the form ID@HOST:PORT, as in 1@127.0.0.1:7093");
        let (id, address) = text.split_once('@').ok_or_else(form)?;
        let id: u32 = id.parse().map_err(|_| form())?;
        let address = Address::parse(address)?;
        if address.is_wildcard() || address.port == 0 {
            return Err(format!(
                "`{text}`: other nodes must be able to connect to it: name a host and a port"
            ));
        }
        Ok(Self { id: NodeId::new(id), address })
    }
}

impl fmt::Display for Voter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_as_they_are_shown() {
        for text in ["127.0.0.1:7092", "broker-1.example:0", "[::1]:65535", ":7092"] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        for text in ["localhost", "localhost:", "localhost:70000", "::1:7092", "a b:1", "http://x:1"] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn listeners_have_known_names_once_each() {
        let grpc = Listener::parse("grpc://h:1").unwrap();
        assert_eq!(grpc.to_string(), "GRPC://h:1");
        assert!(Listener::parse("PLAINTEXT://h:1").unwrap_err().contains("KAFKA, GRPC"));
        assert!(Listener::parse("h:1").unwrap_err().contains("NAME://HOST:PORT"));
        let twice = Listeners::new(vec![grpc.clone(), Listener::parse("GRPC://h:2").unwrap()]).unwrap_err();
        assert!(twice.contains("GRPC is there twice"), "{twice}");
        let mut listeners = Listeners::new(vec![grpc]).unwrap();
        listeners.set(ListenerName::Grpc, Address::new("h", 5));
        assert_eq!(listeners.get(ListenerName::Grpc), Some(&Address::new("h", 5)));
        assert_eq!(listeners.get(ListenerName::Http), None);
    }

    #[test]
    fn voters_name_whom_others_can_reach() {
        assert_eq!(Voter::parse("3@[::1]:7093").unwrap().to_string(), "3@[::1]:7093");
        for text in ["1", "x@h:1", "1@0.0.0.0:1", "1@h:0", "-1@h:1"] {
            assert!(Voter::parse(text).is_err(), "{text}");
        }
    }
}
