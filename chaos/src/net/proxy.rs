//! Nodes on loopback, each behind proxies for its listeners, for where namespaces are not allowed.
//!
//! Every connection goes through this program, which finds out who made it (the kernel's table of sockets names the socket,
//! the process has it open) and holds each direction back, slows it or delays it as the faults want. What is cut is held, not
//! dropped: as if packets were lost and sent again until the cut is mended.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::{Addresses, Pace, Place, Wires};
use crate::Fallible;

/// What is read at once.
const CHUNK: usize = 16 * 1024;

/// What holds now.
#[derive(Clone, Default)]
struct Rules {
    cut: BTreeSet<(Place, Place)>,
    paces: BTreeMap<Place, Pace>,
}

struct Shared {
    rules: watch::Sender<Rules>,
    /// The process of each node.
    processes: Mutex<BTreeMap<u32, u32>>,
}

impl Shared {
    fn processes(&self) -> MutexGuard<'_, BTreeMap<u32, u32>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module.
pub struct Proxies {
    addresses: BTreeMap<u32, Addresses>,
    shared: Arc<Shared>,
}

fn local(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// A port that is free now.
fn free_port() -> Fallible<u16> {
    Ok(StdListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

impl Proxies {
    /// Proxies for these nodes, which run on `runtime`.
    ///
    /// # Errors
    /// When no port is free.
    pub fn new(nodes: Vec<u32>, runtime: Handle) -> Fallible<Self> {
        let shared =
            Arc::new(Shared { rules: watch::Sender::new(Rules::default()), processes: Mutex::default() });
        let mut addresses = BTreeMap::new();
        for node in nodes {
            let pair = || -> Fallible<(String, String)> {
                let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
                listener.set_nonblocking(true)?;
                let (found, listens) = (listener.local_addr()?.port(), free_port()?);
                let _inside = runtime.enter();
                let listener = TcpListener::from_std(listener)?;
                runtime.spawn(accept(listener, Place::Node(node), listens, shared.clone()));
                Ok((local(listens), local(found)))
            };
            let addresses_of = Addresses { grpc: pair()?, controller: pair()?, http: local(free_port()?) };
            addresses.insert(node, addresses_of);
        }
        Ok(Self { addresses, shared })
    }
}

impl Wires for Proxies {
    fn describe(&self) -> String {
        format!(
            "{} nodes on loopback behind proxies (cuts in single directions that hold bytes back, delays, narrow links; packets are never lost)",
            self.addresses.len()
        )
    }

    fn addresses(&self, node: u32) -> Addresses {
        self.addresses[&node].clone()
    }

    fn command(&self, _: u32, program: &Path) -> Command {
        Command::new(program)
    }

    fn started(&mut self, node: u32, pid: u32) {
        self.shared.processes().insert(node, pid);
    }

    fn open(&mut self, from: Place, to: Place, open: bool) -> Fallible<()> {
        self.shared.rules.send_modify(|rules| {
            if open {
                rules.cut.remove(&(from, to));
            } else {
                rules.cut.insert((from, to));
            }
        });
        Ok(())
    }

    fn pace(&mut self, node: u32, pace: Option<Pace>) -> Fallible<()> {
        self.shared.rules.send_modify(|rules| {
            match pace {
                Some(pace) => rules.paces.insert(Place::Node(node), pace),
                None => rules.paces.remove(&Place::Node(node)),
            };
        });
        Ok(())
    }
}

async fn accept(listener: TcpListener, to: Place, port: u16, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                tokio::spawn(serve(stream, peer, to, port, shared.clone()));
            }
            // Too many files, say: others may be closed soon.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn serve(near: TcpStream, peer: SocketAddr, to: Place, port: u16, shared: Arc<Shared>) {
    let processes = shared.processes().clone();
    let from = tokio::task::spawn_blocking(move || whose(peer, &processes)).await.unwrap_or(Place::Clients);
    let mut rules = shared.rules.subscribe();
    // A connection is made only when both directions carry.
    let carries = |rules: &Rules| !rules.cut.contains(&(from, to)) && !rules.cut.contains(&(to, from));
    if rules.wait_for(carries).await.is_err() {
        return;
    }
    // Nobody listens: the connection is closed, which says so.
    let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
    if near.set_nodelay(true).and_then(|()| far.set_nodelay(true)).is_err() {
        return;
    }
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    let there = pump(near_read, far_write, (from, to), shared.rules.subscribe());
    let back = pump(far_read, near_write, (to, from), shared.rules.subscribe());
    tokio::join!(there, back);
}

/// Carries bytes in one direction until one end closes.
async fn pump(
    mut read: impl AsyncRead + Unpin,
    mut write: impl AsyncWrite + Unpin,
    way: (Place, Place),
    mut rules: watch::Receiver<Rules>,
) {
    let mut chunk = vec![0; CHUNK];
    loop {
        // An error is an end, too; it is passed on when the way is free.
        let got = read.read(&mut chunk).await.unwrap_or(0);
        let pace = match rules.wait_for(|rules| !rules.cut.contains(&way)).await {
            Ok(rules) => rules.paces.get(&way.0).or_else(|| rules.paces.get(&way.1)).copied(),
            Err(_) => return,
        };
        if let Some(pace) = pace {
            let rate = f64::from(pace.bytes_per_second.max(1));
            let takes = Duration::from_secs_f64(got as f64 / rate);
            tokio::time::sleep(takes + Duration::from_millis(u64::from(pace.delay_ms))).await;
        }
        if got == 0 || write.write_all(&chunk[..got]).await.is_err() {
            // The other end has gone, or is told so.
            let _ = write.shutdown().await;
            return;
        }
    }
}

/// Which node's process made a connection from `peer`; nobody's means a client's.
fn whose(peer: SocketAddr, processes: &BTreeMap<u32, u32>) -> Place {
    let Some(socket) = socket_of(peer) else { return Place::Clients };
    let wanted = format!("socket:[{socket}]");
    let found = processes.iter().find(|(_, pid)| {
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        files
            .flatten()
            .any(|file| fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str()))
    });
    found.map_or(Place::Clients, |(node, _)| Place::Node(*node))
}

/// The number of the socket whose local address is `peer`.
fn socket_of(peer: SocketAddr) -> Option<String> {
    let SocketAddr::V4(peer) = peer else { return None };
    let address = u32::from_ne_bytes(peer.ip().octets());
    let wanted = format!("{address:08X}:{:04X}", peer.port());
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let line = table.lines().find(|line| line.split_whitespace().nth(1) == Some(wanted.as_str()))?;
    line.split_whitespace().nth(9).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_connection_is_known_by_its_process_and_a_cut_direction_holds_bytes_back() {
        let mut proxies = Proxies::new(vec![1, 2], Handle::current()).unwrap();
        let (listens, found) = proxies.addresses(2).grpc;
        let server = TcpListener::bind(&listens).await.unwrap();
        // This process stands in for node 1.
        proxies.started(1, std::process::id());
        let (one, two) = (Place::Node(1), Place::Node(2));
        let mut client = TcpStream::connect(&found).await.unwrap();
        let (mut served, _) = server.accept().await.unwrap();
        let mut byte = [0];
        client.write_all(b"a").await.unwrap();
        served.read_exact(&mut byte).await.unwrap();
        proxies.open(one, two, false).unwrap();
        client.write_all(b"b").await.unwrap();
        let held = tokio::time::timeout(Duration::from_millis(200), served.read_exact(&mut byte)).await;
        assert!(held.is_err(), "a cut direction carries");
        served.write_all(b"c").await.unwrap();
        client.read_exact(&mut byte).await.unwrap();
        assert_eq!(&byte, b"c", "the other direction does not");
        proxies.open(one, two, true).unwrap();
        served.read_exact(&mut byte).await.unwrap();
        assert_eq!(&byte, b"b");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_no_nodes_connection_is_a_clients() {
        let mut proxies = Proxies::new(vec![1, 2], Handle::current()).unwrap();
        let (listens, found) = proxies.addresses(2).grpc;
        let server = TcpListener::bind(&listens).await.unwrap();
        proxies.open(Place::Clients, Place::Node(2), false).unwrap();
        let mut client = TcpStream::connect(&found).await.unwrap();
        client.write_all(b"a").await.unwrap();
        let made = tokio::time::timeout(Duration::from_millis(200), server.accept()).await;
        assert!(made.is_err(), "a cut client connects");
        proxies.open(Place::Clients, Place::Node(2), true).unwrap();
        let (mut served, _) = server.accept().await.unwrap();
        let mut byte = [0];
        served.read_exact(&mut byte).await.unwrap();
    }
}
