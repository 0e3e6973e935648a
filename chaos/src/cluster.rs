//! Nodes as processes of the binary, each on a disk of its own and in its place of the network.
//!
//! Knows how to start and end them, and nothing of why.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Fallible;
use crate::disk::{Disk, DiskKind};
use crate::net::{Net, Wires};

/// What a node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Keeps the metadata.
    Controller,
    /// Keeps partitions.
    Broker,
}

/// One node.
pub struct Node {
    /// Its `node.id`.
    pub id: u32,
    /// What it is.
    pub role: Role,
    /// Its disk.
    pub disk: Disk,
    process: Option<Child>,
    /// Whether its process was stopped by SIGSTOP.
    paused: bool,
    /// Where its log was when this process started, in bytes.
    log_start: u64,
}

/// How the cluster is made.
#[derive(Clone, Debug)]
pub struct Shape {
    /// How many nodes are controllers.
    pub controllers: u32,
    /// How many are brokers.
    pub brokers: u32,
    /// The binary.
    pub binary: PathBuf,
    /// Which disks they get.
    pub disks: DiskKind,
    /// Properties that win over what is in the config files, as `NAME=VALUE`.
    pub overrides: Vec<String>,
}

/// See the module.
pub struct Cluster {
    /// The network.
    pub net: Net,
    /// What shifts nodes' wall clocks, if it is there.
    clock_library: Option<PathBuf>,
    binary: PathBuf,
    overrides: Vec<String>,
    dir: PathBuf,
    nodes: Vec<Node>,
}

/// A process that ended without having been told to.
#[derive(Debug)]
pub struct Death {
    /// Whose.
    pub node: u32,
    /// How.
    pub status: ExitStatus,
    /// The end of what it logged.
    pub words: String,
}

/// Small files, frequent snapshots and rolls: more happens in less time. The rest is as shipped.
const SETTINGS: &str = "\
log.journal.file.bytes = \"4MiB\"
log.segment.bytes = \"1MiB\"
log.dir.free.bytes.min = \"16MiB\"
metadata.log.max.records.between.snapshots = 200
num.io.threads = 2
num.network.threads = 2
";

impl Cluster {
    /// Makes disks and config files below `dir`; starts nothing. Says where disks are less than asked for.
    ///
    /// # Errors
    /// When a disk or a file can't be made.
    pub fn prepare(dir: &Path, shape: &Shape, wires: Box<dyn Wires>) -> Fallible<Self> {
        let mut nodes = Vec::new();
        for id in 1..=shape.controllers + shape.brokers {
            let role = if id <= shape.controllers { Role::Controller } else { Role::Broker };
            let disk = insert(dir, id, shape.disks)?;
            nodes.push(Node { id, role, disk, process: None, paused: false, log_start: 0 });
        }
        let mut cluster = Self {
            net: Net::new(wires),
            clock_library: clock_library(),
            binary: shape.binary.clone(),
            overrides: shape.overrides.clone(),
            dir: dir.to_owned(),
            nodes,
        };
        for node in &cluster.nodes {
            fs::write(cluster.file(node.id, "toml"), cluster.config(node))?;
            fs::write(cluster.file(node.id, "clock"), 0_i64.to_ne_bytes())?;
        }
        cluster.net.mend_all()?;
        Ok(cluster)
    }

    fn config(&self, node: &Node) -> String {
        let voters: Vec<String> = self
            .nodes
            .iter()
            .filter(|node| node.role == Role::Controller)
            .map(|node| format!("\"{}@{}\"", node.id, self.net.addresses(node.id).controller.1))
            .collect();
        let addresses = self.net.addresses(node.id);
        let (role, name, (listens, found)) = match node.role {
            Role::Controller => ("controller", "CONTROLLER", addresses.controller),
            Role::Broker => ("broker", "GRPC", addresses.grpc),
        };
        let disk = node.disk.path();
        let mut text = String::new();
        let _ = writeln!(text, "node.id = {}\nprocess.roles = [\"{role}\"]", node.id);
        let _ = writeln!(text, "log.dirs = [\"{}\"]", disk.join("log").display());
        let _ = writeln!(text, "metadata.log.dir = \"{}\"", disk.join("metadata").display());
        let _ = writeln!(text, "controller.quorum.voters = [{}]", voters.join(", "));
        let _ = writeln!(text, "listeners = [\"{name}://{listens}\", \"HTTP://{}\"]", addresses.http);
        if listens != found {
            let _ = writeln!(text, "advertised.listeners = [\"{name}://{found}\"]");
        }
        text + SETTINGS
    }

    fn file(&self, id: u32, ending: &str) -> PathBuf {
        self.dir.join(format!("node{id}.{ending}"))
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The ids of all nodes of a role.
    pub fn ids(&self, role: Role) -> Vec<u32> {
        self.nodes.iter().filter(|node| node.role == role).map(|node| node.id).collect()
    }

    /// A node.
    ///
    /// # Panics
    /// When there is none of that id: ids come from here.
    pub fn node(&self, id: u32) -> &Node {
        self.nodes.iter().find(|node| node.id == id).expect("ids of nodes come from the cluster")
    }

    /// A node, to be changed.
    ///
    /// # Panics
    /// As [`Self::node`].
    pub fn node_mut(&mut self, id: u32) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.id == id).expect("ids of nodes come from the cluster")
    }

    /// `HOST:PORT` of all brokers for clients, comma-separated.
    pub fn servers(&self) -> String {
        let brokers = self.ids(Role::Broker);
        let found: Vec<String> = brokers.iter().map(|id| self.net.addresses(*id).grpc.1).collect();
        found.join(",")
    }

    /// Starts a node's process, if it does not run already.
    ///
    /// # Errors
    /// When the binary can't be run.
    pub fn start(&mut self, id: u32) -> Fallible<()> {
        if self.runs(id) {
            return Ok(());
        }
        let mut log = File::options().create(true).append(true).open(self.file(id, "log"))?;
        let log_start = log.seek(SeekFrom::End(0))?;
        let mut command = self.net.wires().command(id, &self.binary);
        if let Some(library) = &self.clock_library {
            command.env("LD_PRELOAD", library).env("VLTAVA_CHAOS_CLOCK", self.file(id, "clock"));
        }
        let process = command
            .args(["server", "--config"])
            .arg(self.file(id, "toml"))
            .args(self.overrides.iter().flat_map(|setting| ["--override", setting]))
            .env("VLTAVA_LOG", std::env::var("VLTAVA_LOG").unwrap_or_else(|_| "info".to_owned()))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|error| format!("{} does not run: {error}", self.binary.display()))?;
        self.net.wires().started(id, process.id());
        let node = self.node_mut(id);
        node.process = Some(process);
        node.paused = false;
        node.log_start = log_start;
        Ok(())
    }

    /// Whether nodes' wall clocks can be shifted.
    pub fn has_clocks(&self) -> bool {
        self.clock_library.is_some()
    }

    /// Shifts a node's wall clock, at once and also when it is started anew.
    ///
    /// # Errors
    /// When that can't be written.
    pub fn shift_clock(&self, id: u32, nanos: i64) -> Fallible<()> {
        // In place: the node has these eight bytes mapped.
        let file = File::options().write(true).open(self.file(id, "clock"))?;
        Ok(file.write_all_at(&nanos.to_ne_bytes(), 0)?)
    }

    /// Whether a node's process runs (it may be paused).
    pub fn runs(&self, id: u32) -> bool {
        self.node(id).process.is_some()
    }

    /// Whether it runs and is not paused.
    pub fn works(&self, id: u32) -> bool {
        self.runs(id) && !self.node(id).paused
    }

    /// `kill -9`, and waits until the process is gone; nothing when there is none.
    ///
    /// # Errors
    /// When it can't be killed.
    pub fn kill(&mut self, id: u32) -> Fallible<()> {
        self.kill_at_once(&[id])
    }

    /// `kill -9` of several, as near to at once as can be.
    ///
    /// # Errors
    /// When one can't be killed.
    pub fn kill_at_once(&mut self, ids: &[u32]) -> Fallible<()> {
        for &id in ids {
            if let Some(process) = &mut self.node_mut(id).process {
                process.kill()?;
            }
            // What waits for a disk does not die.
            self.node(id).disk.ail(|ailments| ailments.hang = None);
        }
        for &id in ids {
            let node = self.node_mut(id);
            if let Some(mut process) = node.process.take() {
                process.wait()?;
            }
            node.paused = false;
        }
        Ok(())
    }

    fn signal(&self, id: u32, signal: Signal) -> Fallible<()> {
        match &self.node(id).process {
            Some(process) => Ok(kill_process(Pid::from_child(process), signal)?),
            None => Ok(()),
        }
    }

    /// SIGSTOP.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn pause(&mut self, id: u32) -> Fallible<()> {
        self.signal(id, Signal::STOP)?;
        self.node_mut(id).paused = true;
        Ok(())
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn resume(&mut self, id: u32) -> Fallible<()> {
        self.signal(id, Signal::CONT)?;
        self.node_mut(id).paused = false;
        Ok(())
    }

    /// SIGTERM, and does not wait.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn ask_to_end(&mut self, id: u32) -> Fallible<()> {
        self.signal(id, Signal::TERM)
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// When it does not end within `limit`; it is killed then.
    pub fn terminate(&mut self, id: u32, limit: Duration) -> Fallible<Option<i32>> {
        self.signal(id, Signal::TERM)?;
        let deadline = Instant::now() + limit;
        let Some(mut process) = self.node_mut(id).process.take() else { return Ok(None) };
        loop {
            if let Some(status) = process.try_wait()? {
                return Ok(status.code());
            }
            if Instant::now() > deadline {
                process.kill()?;
                process.wait()?;
                return Err(format!("node {id} did not end within {limit:?} of SIGTERM").into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Processes that ended by themselves since the last call.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn deaths(&mut self) -> Fallible<Vec<Death>> {
        let mut deaths = Vec::new();
        for at in 0..self.nodes.len() {
            let node = &mut self.nodes[at];
            let ended = node.process.as_mut().map(Child::try_wait).transpose()?.flatten();
            if let Some(status) = ended {
                node.process = None;
                let id = node.id;
                deaths.push(Death { node: id, status, words: self.last_words(id) });
            }
        }
        Ok(deaths)
    }

    /// What a node's process has logged at the end.
    pub fn last_words(&self, id: u32) -> String {
        let read = || -> std::io::Result<String> {
            let mut log = File::open(self.file(id, "log"))?;
            log.seek(SeekFrom::Start(self.node(id).log_start))?;
            let mut text = Vec::new();
            log.read_to_end(&mut text)?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        };
        let text = read().unwrap_or_else(|error| format!("its log can't be read: {error}"));
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    /// Nodes that have ever panicked, with the line that says so.
    pub fn panics(&self) -> Vec<(u32, String)> {
        let panicked = |node: &Node| {
            let log = fs::read_to_string(self.file(node.id, "log")).unwrap_or_default();
            log.lines().find(|line| line.contains("panicked at")).map(|line| (node.id, line.to_owned()))
        };
        self.nodes.iter().filter_map(panicked).collect()
    }

    /// Whether a node says that it is ready; the reason if it is not.
    ///
    /// # Errors
    /// What it said, or why it can't be asked.
    pub fn ready(&self, id: u32) -> Result<(), String> {
        if !self.runs(id) {
            return Err(format!("node {id} does not run"));
        }
        let address = self.net.addresses(id).http;
        let ask = || -> std::io::Result<String> {
            let address = address.parse().map_err(std::io::Error::other)?;
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(500))?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            write!(stream, "GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        match ask() {
            Ok(answer) if answer.starts_with("HTTP/1.1 200") => Ok(()),
            Ok(answer) => Err(format!("node {id} says {}", answer.lines().last().unwrap_or_default())),
            Err(error) => Err(format!("node {id} can't be asked: {error}")),
        }
    }

    /// Ends everything, with no care.
    pub fn end(&mut self) {
        let ids: Vec<u32> = self.nodes.iter().map(|node| node.id).collect();
        if let Err(error) = self.kill_at_once(&ids) {
            eprintln!("a node can't be ended: {error}");
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.end();
    }
}

/// The library lies beside this program when both were built together.
fn clock_library() -> Option<PathBuf> {
    let library = std::env::current_exe().ok()?.with_file_name("libvltava_chaos_clock.so");
    if library.exists() {
        return Some(library);
    }
    eprintln!("NO CLOCK FAULTS: {} is not there", library.display());
    None
}

fn insert(dir: &Path, id: u32, kind: DiskKind) -> Fallible<Disk> {
    let path = dir.join(format!("disk{id}"));
    if kind == DiskKind::Plain {
        return Disk::plain(&path);
    }
    match Disk::lossy(&path, &dir.join("platters").join(id.to_string())) {
        Ok(disk) => Ok(disk),
        Err(error) if kind == DiskKind::Fuse => Err(error),
        Err(error) => {
            eprintln!("NO LOSSY DISK for node {id}, so no power cuts and no disk faults: {error}");
            Disk::plain(&path)
        }
    }
}
