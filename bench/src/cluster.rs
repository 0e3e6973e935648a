//! A cluster of real `vltava server` processes with shipped defaults, below one temporary directory.
//!
//! Knows nothing of what is measured.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::Fallible;
use crate::usage::{self, Usage};

/// How long anything may take to become as it should be.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Which binary runs, and where files go.
#[derive(Clone, Debug)]
pub struct Site {
    /// The `vltava` binary.
    pub binary: PathBuf,
    /// Temporary directories are made in here.
    pub dir: PathBuf,
}

struct Node {
    id: u32,
    grpc: u16,
    controller: u16,
    http: u16,
    process: Option<Child>,
}

/// The processes; killed when dropped.
pub struct Cluster {
    binary: PathBuf,
    dir: TempDir,
    nodes: Vec<Node>,
}

impl Cluster {
    /// Starts nodes 1 to `count`, each broker and controller, and waits until all are ready.
    ///
    /// # Errors
    /// When they do not become ready.
    pub fn start(site: &Site, count: u32) -> Fallible<Self> {
        let mut cluster = Self::prepare(site, count)?;
        for id in 1..=count {
            cluster.spawn(id)?;
        }
        for id in 1..=count {
            cluster.wait_ready(id)?;
        }
        Ok(cluster)
    }

    /// Writes the config files, and starts nothing.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn prepare(site: &Site, count: u32) -> Fallible<Self> {
        let mut nodes = Vec::new();
        for id in 1..=count {
            nodes.push(Node { id, grpc: port()?, controller: port()?, http: port()?, process: None });
        }
        let dir = tempfile::Builder::new().prefix("vltava-bench-").tempdir_in(&site.dir)?;
        let cluster = Self { binary: site.binary.clone(), dir, nodes };
        for node in &cluster.nodes {
            fs::write(cluster.file(node.id, "toml"), cluster.config(node))?;
        }
        Ok(cluster)
    }

    fn file(&self, id: u32, ending: &str) -> PathBuf {
        self.dir.path().join(format!("node{id}.{ending}"))
    }

    fn config(&self, node: &Node) -> String {
        let data = self.dir.path().join(format!("node{}", node.id));
        let voters: Vec<String> =
            self.nodes.iter().map(|node| format!("\"{}@127.0.0.1:{}\"", node.id, node.controller)).collect();
        let mut text = String::new();
        let _ = writeln!(text, "node.id = {}\nprocess.roles = [\"controller\", \"broker\"]", node.id);
        let _ = writeln!(text, "log.dirs = [\"{}\"]", data.join("log").display());
        let _ = writeln!(text, "metadata.log.dir = \"{}\"", data.join("metadata").display());
        let _ = writeln!(text, "controller.quorum.voters = [{}]", voters.join(", "));
        let _ = writeln!(
            text,
            "listeners = [\"HTTP://127.0.0.1:{}\", \"CONTROLLER://127.0.0.1:{}\", \"GRPC://127.0.0.1:{}\"]",
            node.http, node.controller, node.grpc
        );
        text
    }

    fn node(&mut self, id: u32) -> Fallible<&mut Node> {
        let found = self.nodes.iter_mut().find(|node| node.id == id);
        found.ok_or_else(|| format!("there is no node {id}").into())
    }

    /// All node ids.
    pub fn ids(&self) -> Vec<u32> {
        self.nodes.iter().map(|node| node.id).collect()
    }

    /// All brokers' addresses, comma-separated.
    pub fn servers(&self) -> String {
        self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.grpc)).collect::<Vec<_>>().join(",")
    }

    /// Starts a node's process.
    ///
    /// # Errors
    /// When the binary can't be run.
    pub fn spawn(&mut self, id: u32) -> Fallible<()> {
        let log = File::options().create(true).append(true).open(self.file(id, "out"))?;
        let process = Command::new(&self.binary)
            .args(["server", "--config"])
            .arg(self.file(id, "toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|error| format!("{} does not run: {error}", self.binary.display()))?;
        self.node(id)?.process = Some(process);
        Ok(())
    }

    /// Waits until a node says that it is ready.
    ///
    /// # Errors
    /// When that takes too long, or its process ends; with the end of its log.
    pub fn wait_ready(&mut self, id: u32) -> Fallible<()> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let node = self.node(id)?;
            if ready(node.http) {
                return Ok(());
            }
            if let Some(Some(status)) = node.process.as_mut().map(Child::try_wait).transpose()? {
                return Err(format!("node {id} ended: {status}\n{}", self.log_end(id)).into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Err(format!("node {id} is not ready after {PATIENCE:?}\n{}", self.log_end(id)).into())
    }

    fn log_end(&self, id: u32) -> String {
        let text = fs::read_to_string(self.file(id, "out")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn pid(&mut self, id: u32) -> Fallible<Pid> {
        let process = self.node(id)?.process.as_ref();
        process.map(Pid::from_child).ok_or_else(|| format!("node {id} does not run").into())
    }

    /// `kill -9`, and waits until the process is gone.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self, id: u32) -> Fallible<()> {
        let process = self.node(id)?.process.take();
        let mut process = process.ok_or_else(|| format!("node {id} does not run"))?;
        process.kill()?;
        process.wait()?;
        Ok(())
    }

    /// SIGSTOP, or SIGCONT.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&mut self, id: u32, signal: Signal) -> Fallible<()> {
        Ok(kill_process(self.pid(id)?, signal)?)
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// When it does not end.
    pub fn terminate(&mut self, id: u32) -> Fallible<()> {
        self.signal(id, Signal::TERM)?;
        let deadline = Instant::now() + PATIENCE;
        let mut process = self.node(id)?.process.take().ok_or("it does not run")?;
        while process.try_wait()?.is_none() {
            if Instant::now() > deadline {
                process.kill()?;
                return Err(format!("node {id} did not end within {PATIENCE:?} of SIGTERM").into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// What each running node has used so far.
    ///
    /// # Errors
    /// When `/proc` can't be read.
    pub fn usage(&self) -> Fallible<Vec<Usage>> {
        let running = self.nodes.iter().filter_map(|node| node.process.as_ref());
        running.map(|process| usage::of(process.id())).collect()
    }

    /// CPU seconds of all running nodes so far.
    ///
    /// # Errors
    /// When `/proc` can't be read.
    pub fn cpu_seconds(&self) -> Fallible<f64> {
        Ok(self.usage()?.iter().map(|usage| usage.cpu_seconds).sum())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in self.nodes.iter_mut().filter_map(|node| node.process.as_mut()) {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn ready(http: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", http))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        write!(stream, "GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// A free port below those that the system gives to outgoing connections, so that none takes a stopped node's port.
fn port() -> Fallible<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..18_000 {
        // Processes that run at once begin apart.
        let step = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id().wrapping_mul(211));
        let port = u16::try_from(12_000 + step % 18_000)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err("no port is free".into())
}
