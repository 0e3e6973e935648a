//! Proxies between the nodes, and before them, so that a node can be cut off from everybody and live.
//!
//! What is cut is held back, not refused: connections stay open and say nothing, as where packets are lost. When the cut is
//! over everything arrives, late. Which node made a connection is in the kernel's tables, which any user may read of their own
//! processes. Knows nothing of what is said.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// What is read at once.
const CHUNK: usize = 16 * 1024;

/// How often a socket is looked for in the kernel's table, which may skip one while others come and go.
const LOOKS: u32 = 10;

/// The process of each node.
type Processes = Arc<Mutex<BTreeMap<u32, u32>>>;

/// See the module.
pub struct Wires {
    runtime: Runtime,
    cut_off: watch::Sender<BTreeSet<u32>>,
    processes: Processes,
}

/// A connection's way, from whom (`None` for what is no node) to which node.
#[derive(Clone, Copy)]
struct Way {
    from: Option<u32>,
    to: u32,
}

impl Way {
    /// Whether bytes pass: a node reaches itself.
    fn is_open(self, cut_off: &BTreeSet<u32>) -> bool {
        let ends = [self.from, Some(self.to)];
        self.from == Some(self.to) || !ends.into_iter().flatten().any(|end| cut_off.contains(&end))
    }
}

impl Wires {
    /// Proxies for nobody yet.
    ///
    /// # Panics
    /// When no thread can be started.
    pub fn new() -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().expect("threads can be started");
        Self { runtime, cut_off: watch::Sender::new(BTreeSet::new()), processes: Processes::default() }
    }

    /// Takes connections at port `found` to where `node` listens.
    ///
    /// # Panics
    /// When the port is taken.
    pub fn stand_before(&self, node: u32, found: u16, listens: u16) {
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, found)).expect("the port is free");
        listener.set_nonblocking(true).expect("a listener need not block");
        let _inside = self.runtime.enter();
        let listener = TcpListener::from_std(listener).expect("the runtime takes a listener");
        self.runtime.spawn(accept(listener, node, listens, self.processes.clone(), self.cut_off.subscribe()));
    }

    /// Starts a node's process. Until it is known which one that is, no connection is passed on: the node may make some before.
    pub fn start(&self, node: u32, start: impl FnOnce() -> Child) -> Child {
        let mut processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        let child = start();
        processes.insert(node, child.id());
        child
    }

    /// Nobody hears of a node any more, and it hears of nobody.
    pub fn cut_off(&self, node: u32) {
        self.cut_off.send_if_modified(|cut_off| cut_off.insert(node));
    }

    /// Everybody hears of it again, also what was said meanwhile.
    pub fn mend(&self, node: u32) {
        self.cut_off.send_if_modified(|cut_off| cut_off.remove(&node));
    }
}

impl Default for Wires {
    fn default() -> Self {
        Self::new()
    }
}

async fn accept(
    listener: TcpListener,
    to: u32,
    port: u16,
    processes: Processes,
    cut_off: watch::Receiver<BTreeSet<u32>>,
) {
    loop {
        match listener.accept().await {
            Ok((near, peer)) => {
                tokio::spawn(serve(near, peer, (to, port), processes.clone(), cut_off.clone()));
            }
            // Too many files, say: others may be closed soon.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn serve(
    near: TcpStream,
    peer: SocketAddr,
    (to, port): (u32, u16),
    processes: Processes,
    mut cut_off: watch::Receiver<BTreeSet<u32>>,
) {
    let Ok(here) = near.local_addr() else { return };
    // One that nobody has any more is closed.
    let Ok(Some(from)) = tokio::task::spawn_blocking(move || maker(peer, here, &processes)).await else {
        return;
    };
    let way = Way { from, to };
    if cut_off.wait_for(|cut_off| way.is_open(cut_off)).await.is_err() {
        return;
    }
    // Nobody listens: the connection is closed, which says so.
    let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
    if near.set_nodelay(true).and_then(|()| far.set_nodelay(true)).is_err() {
        return;
    }
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    let there = pump(near_read, far_write, way, cut_off.clone());
    let back = pump(far_read, near_write, way, cut_off);
    tokio::join!(there, back);
}

/// Carries bytes in one direction until one end closes, which is held back like everything else.
async fn pump(
    mut read: impl AsyncRead + Unpin,
    mut write: impl AsyncWrite + Unpin,
    way: Way,
    mut cut_off: watch::Receiver<BTreeSet<u32>>,
) {
    let mut chunk = vec![0; CHUNK];
    loop {
        let got = read.read(&mut chunk).await.unwrap_or(0);
        if cut_off.wait_for(|cut_off| way.is_open(cut_off)).await.is_err() {
            return;
        }
        if got == 0 || write.write_all(&chunk[..got]).await.is_err() {
            // The other end has gone, or is told so.
            let _ = write.shutdown().await;
            return;
        }
    }
}

/// Which node's process made a connection from `peer` to `near`, `Some(None)` when somebody else did; `None` when it is gone.
fn maker(peer: SocketAddr, near: SocketAddr, processes: &Processes) -> Option<Option<u32>> {
    let socket = (0..LOOKS).find_map(|_| socket_of(peer, near))?;
    Some(owner(&format!("socket:[{socket}]"), &processes.lock().unwrap_or_else(PoisonError::into_inner)))
}

/// The node whose process has a socket.
fn owner(socket: &str, processes: &BTreeMap<u32, u32>) -> Option<u32> {
    let has = |process: &u32| {
        let files = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
        files
            .map(|file| file.path())
            .any(|file| fs::read_link(file).is_ok_and(|link| link.as_os_str() == socket))
    };
    processes.iter().find(|(_, process)| has(process)).map(|(node, _)| *node)
}

/// The number of the socket at the other end of a connection: from `peer` to `near`. Neither end alone tells it: the same port
/// serves for connections to others, some of which are long over and nobody's.
fn socket_of(peer: SocketAddr, near: SocketAddr) -> Option<String> {
    let (from, to) = (in_table(peer)?, in_table(near)?);
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.find(|line| line.len() > 9 && line[1] == from && line[2] == to).map(|line| line[9].to_owned())
}

/// An address as the kernel's table has it.
fn in_table(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else { return None };
    Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_cut_off_reaches_itself_and_nobody_else() {
        let cut_off = BTreeSet::from([2]);
        let is_open = |from, to| Way { from, to }.is_open(&cut_off);
        assert!(is_open(Some(1), 3) && is_open(None, 1) && is_open(Some(2), 2));
        assert!(!is_open(Some(1), 2) && !is_open(Some(2), 1) && !is_open(None, 2));
    }

    #[test]
    fn a_cut_holds_bytes_back_until_it_is_over() {
        let (server, wires) = (StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(), Wires::new());
        let found = crate::turn::port();
        wires.stand_before(1, found, server.local_addr().unwrap().port());
        // This process stands in for node 2.
        wires.processes.lock().unwrap().insert(2, std::process::id());
        wires.runtime.block_on(async {
            let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, found)).await.unwrap();
            client.write_all(b"a").await.unwrap();
            server.set_nonblocking(true).unwrap();
            let server = TcpListener::from_std(server).unwrap();
            let (mut served, _) = server.accept().await.unwrap();
            let mut byte = [0];
            served.read_exact(&mut byte).await.unwrap();
            wires.cut_off(2);
            client.write_all(b"b").await.unwrap();
            let held = tokio::time::timeout(Duration::from_millis(200), served.read_exact(&mut byte)).await;
            assert!(held.is_err(), "what the one that is cut off says arrives");
            wires.mend(2);
            served.read_exact(&mut byte).await.unwrap();
            assert_eq!(&byte, b"b");
        });
    }
}
