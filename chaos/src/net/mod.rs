//! The network between the nodes and the clients, and what can be done to it.
//!
//! Faults overlap: a direction that two of them cut is mended when both are over.

mod netns;
mod proxy;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::Command;

use crate::Fallible;
pub use netns::Namespaces;
pub use proxy::Proxies;

/// An end of a wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Place {
    /// A node, by its id.
    Node(u32),
    /// All clients, and this program's own questions.
    Clients,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(id) => write!(f, "{id}"),
            Self::Clients => write!(f, "clients"),
        }
    }
}

/// How slow a node's network is, in both directions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// Bytes a second.
    pub bytes_per_second: u32,
    /// What each packet or chunk takes longer, in milliseconds. Namespaces have only what queues at that rate.
    pub delay_ms: u32,
}

/// Where a node listens, and where others find it.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// GRPC: (listens, found).
    pub grpc: (String, String),
    /// CONTROLLER: (listens, found).
    pub controller: (String, String),
    /// HTTP, which only this program asks.
    pub http: String,
}

/// One way to connect nodes.
pub trait Wires: Send {
    /// What this network is and can do, for people.
    fn describe(&self) -> String;
    /// A node's addresses.
    fn addresses(&self, node: u32) -> Addresses;
    /// A command that runs `program` in the place of a node.
    fn command(&self, node: u32, program: &Path) -> Command;
    /// A node's process runs under this id from now on.
    fn started(&mut self, _node: u32, _pid: u32) {}
    /// Whether bytes go from one end to the other.
    ///
    /// # Errors
    /// When the system refuses to change that.
    fn open(&mut self, from: Place, to: Place, open: bool) -> Fallible<()>;
    /// Makes a node's network slow, or as fast as it can be.
    ///
    /// # Errors
    /// When the system refuses.
    fn pace(&mut self, node: u32, pace: Option<Pace>) -> Fallible<()>;
}

/// See the module.
pub struct Net {
    wires: Box<dyn Wires>,
    cuts: BTreeMap<(Place, Place), u32>,
}

impl Net {
    /// A whole network.
    pub fn new(wires: Box<dyn Wires>) -> Self {
        Self { wires, cuts: BTreeMap::new() }
    }

    /// The wires.
    pub fn wires(&mut self) -> &mut dyn Wires {
        &mut *self.wires
    }

    /// A node's addresses.
    pub fn addresses(&self, node: u32) -> Addresses {
        self.wires.addresses(node)
    }

    /// Nothing passes in this direction any more.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn cut(&mut self, from: Place, to: Place) -> Fallible<()> {
        let cuts = self.cuts.entry((from, to)).or_default();
        *cuts += 1;
        if *cuts == 1 { self.wires.open(from, to, false) } else { Ok(()) }
    }

    /// Takes one cut of this direction back.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn mend(&mut self, from: Place, to: Place) -> Fallible<()> {
        let Some(cuts) = self.cuts.get_mut(&(from, to)) else { return Ok(()) };
        *cuts -= 1;
        if *cuts > 0 {
            return Ok(());
        }
        self.cuts.remove(&(from, to));
        self.wires.open(from, to, true)
    }

    /// Directions that carry nothing.
    pub fn cuts(&self) -> impl Iterator<Item = (Place, Place)> {
        self.cuts.keys().copied()
    }

    /// Mends everything.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn mend_all(&mut self) -> Fallible<()> {
        for ((from, to), _) in std::mem::take(&mut self.cuts) {
            self.wires.open(from, to, true)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    struct Noted(Arc<Mutex<Vec<(Place, Place, bool)>>>);

    impl Wires for Noted {
        fn describe(&self) -> String {
            String::new()
        }
        fn addresses(&self, _: u32) -> Addresses {
            let none = || (String::new(), String::new());
            Addresses { grpc: none(), controller: none(), http: String::new() }
        }
        fn command(&self, _: u32, program: &Path) -> Command {
            Command::new(program)
        }
        fn open(&mut self, from: Place, to: Place, open: bool) -> Fallible<()> {
            self.0.lock().expect("nobody panics with it").push((from, to, open));
            Ok(())
        }
        fn pace(&mut self, _: u32, _: Option<Pace>) -> Fallible<()> {
            Ok(())
        }
    }

    #[test]
    fn a_direction_is_mended_when_the_last_cut_of_it_is_over() {
        let noted = Arc::new(Mutex::new(Vec::new()));
        let mut net = Net::new(Box::new(Noted(noted.clone())));
        let (a, b) = (Place::Node(1), Place::Node(2));
        net.cut(a, b).unwrap();
        net.cut(a, b).unwrap();
        net.cut(b, a).unwrap();
        net.mend(a, b).unwrap();
        assert_eq!(*noted.lock().unwrap(), [(a, b, false), (b, a, false)]);
        net.mend(a, b).unwrap();
        net.mend(a, b).unwrap();
        net.mend_all().unwrap();
        assert_eq!(noted.lock().unwrap()[2..], [(a, b, true), (b, a, true)]);
    }
}
