//! Nodes in network namespaces of their own, on one bridge.
//!
//! A direction is cut by telling its sender a hardware address that nobody has: packets leave and are lost, as in a cable.
//! No firewall is needed. Everything lies within the cage, so it needs no taking down.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Addresses, Pace, Place, Wires};
use crate::Fallible;
use crate::cage::run;

/// A range for tests of networks; here it exists only inside the cage.
const PREFIX: &str = "198.18.0";
const CLIENTS: u32 = 254;
const BRIDGE: &str = "chaos0";

/// See the module.
pub struct Namespaces {
    nodes: Vec<u32>,
}

fn address(place: Place) -> String {
    match place {
        Place::Node(id) => format!("{PREFIX}.{id}"),
        Place::Clients => format!("{PREFIX}.{CLIENTS}"),
    }
}

fn hardware(place: Place) -> String {
    match place {
        Place::Node(id) => format!("02:00:00:00:00:{id:02x}"),
        Place::Clients => format!("02:00:00:00:00:{CLIENTS:02x}"),
    }
}

/// What no interface has.
const NOBODY: &str = "02:00:00:00:ff:ff";

fn namespace(node: u32) -> String {
    format!("chaos{node}")
}

fn batch(namespace: Option<&str>, lines: &str) -> Fallible<()> {
    let mut command = Command::new("ip");
    if let Some(namespace) = namespace {
        command.args(["-n", namespace]);
    }
    let mut child = command.args(["-batch", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().ok_or("ip has no standard input")?;
    stdin.write_all(lines.as_bytes())?;
    drop(stdin);
    let ran = child.wait_with_output()?;
    if ran.status.success() {
        return Ok(());
    }
    Err(format!("ip: {}\nwas told\n{lines}", String::from_utf8_lossy(&ran.stderr).trim()).into())
}

impl Namespaces {
    /// Lays the wires for these nodes.
    ///
    /// # Errors
    /// When the kernel has no bridges or the like.
    pub fn new(nodes: Vec<u32>) -> Fallible<Self> {
        // Names of namespaces lie in a directory that others use too.
        std::fs::create_dir_all("/run/netns")?;
        run("mount", &["-t", "tmpfs", "vltava-chaos", "/run/netns"])?;
        let places: Vec<Place> =
            nodes.iter().map(|node| Place::Node(*node)).chain([Place::Clients]).collect();
        let neighbours = |of: Place, device: &str| -> String {
            let others = places.iter().filter(|other| **other != of);
            others.map(|other| neighbour(*other, &hardware(*other), device)).collect()
        };
        batch(
            None,
            &format!(
                "link add {BRIDGE} address {} type bridge\nlink set {BRIDGE} up\naddr add {}/24 dev {BRIDGE}\n{}",
                hardware(Place::Clients),
                address(Place::Clients),
                neighbours(Place::Clients, BRIDGE)
            ),
        )?;
        for &node in &nodes {
            let (name, place) = (namespace(node), Place::Node(node));
            batch(
                None,
                &format!(
                    "netns add {name}\nlink add port{node} type veth peer name eth0 address {} netns {name}\n\
                     link set port{node} master {BRIDGE}\nlink set port{node} up\n",
                    hardware(place)
                ),
            )?;
            batch(
                Some(&name),
                &format!(
                    "link set lo up\nlink set eth0 up\naddr add {}/24 dev eth0\n{}",
                    address(place),
                    neighbours(place, "eth0")
                ),
            )?;
        }
        Ok(Self { nodes })
    }
}

fn neighbour(to: Place, hardware: &str, device: &str) -> String {
    format!("neigh replace {} lladdr {hardware} nud permanent dev {device}\n", address(to))
}

fn shape(namespace: Option<&str>, device: &str, pace: Option<Pace>) -> Fallible<()> {
    let rate;
    let mut args = match namespace {
        Some(namespace) => vec!["-n", namespace],
        None => vec![],
    };
    match pace {
        Some(pace) => {
            rate = format!("{}bps", pace.bytes_per_second);
            args.extend(["qdisc", "replace", "dev", device, "root", "tbf", "rate", &rate]);
            args.extend(["burst", "16kb", "latency", "2s"]);
        }
        None => args.extend(["qdisc", "del", "dev", device, "root"]),
    }
    run("tc", &args)
}

impl Wires for Namespaces {
    fn describe(&self) -> String {
        format!(
            "{} network namespaces on a bridge (cuts in single directions, narrow links that queue; no pure delay or reordering)",
            self.nodes.len()
        )
    }

    fn addresses(&self, node: u32) -> Addresses {
        let at = |port: u16| format!("{}:{port}", address(Place::Node(node)));
        Addresses { grpc: (at(7092), at(7092)), controller: (at(7093), at(7093)), http: at(8092) }
    }

    fn command(&self, node: u32, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", namespace(node))).arg("--").arg(program);
        command
    }

    fn open(&mut self, from: Place, to: Place, open: bool) -> Fallible<()> {
        let hardware = if open { hardware(to) } else { NOBODY.to_owned() };
        match from {
            Place::Node(node) => batch(Some(&namespace(node)), &neighbour(to, &hardware, "eth0")),
            Place::Clients => batch(None, &neighbour(to, &hardware, BRIDGE)),
        }
    }

    fn pace(&mut self, node: u32, pace: Option<Pace>) -> Fallible<()> {
        shape(Some(&namespace(node)), "eth0", pace)?;
        shape(None, &format!("port{node}"), pace)
    }
}
