//! Nodes as processes.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::cli::{self, Ran};
use crate::turn::{self, Turn};
use crate::wait;
use crate::wires::Wires;

/// How long a cluster may take to become ready: generous, since machines that run tests are slow.
pub const READY: Duration = Duration::from_secs(60);

/// What a node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Only a controller.
    Controller,
    /// Only a broker.
    Broker,
    /// Both.
    Both,
}

/// How nodes and clients reach nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Network {
    /// Where they listen.
    Direct,
    /// Through proxies, so that a node can be cut off.
    Wires,
}

/// How a cluster is made.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// The nodes' roles; node ids count from 1.
    pub nodes: Vec<Role>,
    /// Lines for every node's config file.
    pub extra: String,
    /// How many log directories each node has.
    pub log_dirs: usize,
    /// How many files each node may have open; `None` for as many as the tests themselves.
    pub open_files: Option<u32>,
    /// How nodes and clients reach nodes.
    pub network: Network,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            nodes: vec![Role::Both; 3],
            extra: String::new(),
            log_dirs: 1,
            open_files: None,
            network: Network::Direct,
        }
    }
}

/// One node.
pub struct Node {
    /// Its `node.id`.
    pub id: u32,
    /// What it is.
    pub role: Role,
    /// The port where its gRPC listener is found.
    pub grpc: u16,
    /// The port where its controller listener is found.
    pub controller: u16,
    /// The port of its HTTP listener.
    pub http: u16,
    /// The port at which its gRPC listener listens, which is another one behind a proxy.
    pub grpc_listens: u16,
    controller_listens: u16,
    process: Option<Child>,
}

impl Node {
    fn new(id: u32, role: Role, network: Network) -> Self {
        let (grpc, controller) = (turn::port(), turn::port());
        let listens = |found| match network {
            Network::Direct => found,
            Network::Wires => turn::port(),
        };
        let (grpc_listens, controller_listens) = (listens(grpc), listens(controller));
        let http = turn::port();
        Self { id, role, grpc, controller, http, grpc_listens, controller_listens, process: None }
    }
}

/// A cluster of processes below one temporary directory; killed when dropped.
pub struct Cluster {
    dir: TempDir,
    options: ClusterOptions,
    /// The nodes, by id from 1.
    pub nodes: Vec<Node>,
    wires: Option<Wires>,
    _turn: Rc<Turn>,
}

impl Cluster {
    /// Starts three nodes that are both controller and broker, and waits until all are ready.
    ///
    /// # Panics
    /// When they do not become ready.
    pub fn start() -> Self {
        Self::with(ClusterOptions::default())
    }

    /// Starts a cluster and waits until all nodes are ready.
    ///
    /// # Panics
    /// When they do not become ready.
    pub fn with(options: ClusterOptions) -> Self {
        let mut cluster = Self::prepare(options);
        for id in cluster.ids() {
            cluster.spawn(id);
        }
        cluster.wait_ready();
        cluster
    }

    /// Writes the config files of a cluster, and starts nothing.
    ///
    /// # Panics
    /// When they can't be written.
    pub fn prepare(options: ClusterOptions) -> Self {
        let turn = turn::take();
        let nodes: Vec<Node> =
            (1..).zip(&options.nodes).map(|(id, role)| Node::new(id, *role, options.network)).collect();
        let wires = (options.network == Network::Wires).then(Wires::new);
        for (node, wires) in nodes.iter().flat_map(|node| wires.iter().map(move |wires| (node, wires))) {
            wires.stand_before(node.id, node.grpc, node.grpc_listens);
            wires.stand_before(node.id, node.controller, node.controller_listens);
        }
        let dir = TempDir::with_prefix("vltava-test-").expect("a temporary directory can be made");
        let cluster = Self { dir, options, nodes, wires, _turn: turn };
        for id in cluster.ids() {
            cluster.write_config(id, &[]);
        }
        cluster
    }

    /// All node ids.
    pub fn ids(&self) -> Vec<u32> {
        self.nodes.iter().map(|node| node.id).collect()
    }

    /// A node.
    pub fn node(&self, id: u32) -> &Node {
        self.nodes.iter().find(|node| node.id == id).expect("the node exists")
    }

    fn node_mut(&mut self, id: u32) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.id == id).expect("the node exists")
    }

    /// The folder of a node's data.
    pub fn data(&self, id: u32) -> PathBuf {
        self.dir.path().join(format!("node{id}"))
    }

    /// A node's log directories.
    pub fn log_dirs(&self, id: u32) -> Vec<PathBuf> {
        (0..self.options.log_dirs).map(|n| self.data(id).join(format!("log{n}"))).collect()
    }

    /// A scratch folder.
    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }

    /// Adds a node that is not among the configured voters. It is not started.
    pub fn add_node(&mut self, role: Role) -> u32 {
        let id = u32::try_from(self.nodes.len()).expect("few nodes") + 1;
        self.nodes.push(Node::new(id, role, Network::Direct));
        self.write_config(id, &[id]);
        id
    }

    /// Writes a node's config file; `not_voters` are left out of the configured quorum.
    fn write_config(&self, id: u32, not_voters: &[u32]) {
        let node = self.node(id);
        let voters: Vec<String> = self
            .nodes
            .iter()
            .filter(|node| node.role != Role::Broker && !not_voters.contains(&node.id))
            .map(|node| format!("\"{}@127.0.0.1:{}\"", node.id, node.controller))
            .collect();
        let roles = match node.role {
            Role::Controller => "\"controller\"",
            Role::Broker => "\"broker\"",
            Role::Both => "\"controller\", \"broker\"",
        };
        let mut advertised = Vec::new();
        let mut listeners = vec![format!("\"HTTP://127.0.0.1:{}\"", node.http)];
        if node.role != Role::Broker {
            listeners.push(format!("\"CONTROLLER://127.0.0.1:{}\"", node.controller_listens));
            advertised.push(format!("\"CONTROLLER://127.0.0.1:{}\"", node.controller));
        }
        if node.role != Role::Controller {
            listeners.push(format!("\"GRPC://127.0.0.1:{}\"", node.grpc_listens));
            advertised.push(format!("\"GRPC://127.0.0.1:{}\"", node.grpc));
        }
        let log_dirs: Vec<String> =
            self.log_dirs(id).iter().map(|dir| format!("\"{}\"", dir.display())).collect();
        let mut text = String::new();
        let _ = writeln!(text, "node.id = {id}\nprocess.roles = [{roles}]");
        let _ = writeln!(text, "log.dirs = [{}]", log_dirs.join(", "));
        let _ = writeln!(text, "metadata.log.dir = \"{}\"", self.data(id).join("metadata").display());
        let _ = writeln!(text, "controller.quorum.voters = [{}]", voters.join(", "));
        let _ = writeln!(text, "listeners = [{}]", listeners.join(", "));
        let _ = writeln!(text, "advertised.listeners = [{}]\n{}", advertised.join(", "), self.options.extra);
        fs::write(self.config(id), text).expect("the config file can be written");
    }

    /// A node's config file.
    pub fn config(&self, id: u32) -> PathBuf {
        self.dir.path().join(format!("node{id}.toml"))
    }

    /// Starts a node's process.
    ///
    /// # Panics
    /// When it runs already.
    pub fn spawn(&mut self, id: u32) {
        assert!(self.node(id).process.is_none(), "node {id} runs already");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_file(id))
            .expect("the log can be written");
        let mut command = match self.options.open_files {
            None => Command::new(cli::binary()),
            Some(most) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", "ulimit -n \"$0\" && exec \"$@\"", &most.to_string()]).arg(cli::binary());
                shell
            }
        };
        command
            .args(["server", "--config"])
            .arg(self.config(id))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log);
        let mut start = || command.spawn().expect("the binary runs");
        let process = match &self.wires {
            Some(wires) => wires.start(id, start),
            None => start(),
        };
        self.node_mut(id).process = Some(process);
    }

    /// What nodes are reached through.
    ///
    /// # Panics
    /// When they are reached directly.
    pub fn wires(&self) -> &Wires {
        self.wires.as_ref().expect("the cluster was made with wires")
    }

    fn log_file(&self, id: u32) -> PathBuf {
        self.dir.path().join(format!("node{id}.out"))
    }

    /// Runs a server with a node's config file and some overrides until it ends: for starts that must be refused.
    pub fn try_server(&self, id: u32, overrides: &[String]) -> Ran {
        let config = self.config(id).display().to_string();
        let mut args = vec!["server", "--config", &config];
        for setting in overrides {
            args.extend(["--override", setting]);
        }
        cli::run(&self.servers(), &args, b"")
    }

    /// What a node has logged.
    pub fn log(&self, id: u32) -> String {
        fs::read_to_string(self.log_file(id)).unwrap_or_default()
    }

    fn pid(&self, id: u32) -> Pid {
        let process = self.node(id).process.as_ref().expect("the node runs");
        Pid::from_child(process)
    }

    /// Holds that no node died by itself, and none panicked.
    ///
    /// # Panics
    /// When one did.
    pub fn assert_healthy(&mut self) {
        for id in self.ids() {
            let ended = self.node_mut(id).process.as_mut().map(Child::try_wait);
            let healthy = matches!(ended, None | Some(Ok(None))) && !self.log(id).contains("panicked at");
            assert!(healthy, "node {id} died or panicked: {ended:?}\n{}", self.logs());
        }
    }

    /// Whether a node's process runs.
    pub fn runs(&self, id: u32) -> bool {
        self.node(id).process.is_some()
    }

    /// `kill -9`, and waits until the process is gone.
    pub fn kill(&mut self, id: u32) {
        let mut process = self.node_mut(id).process.take().expect("the node runs");
        process.kill().expect("it can be killed");
        process.wait().expect("it ends");
    }

    /// SIGSTOP.
    pub fn pause(&self, id: u32) {
        kill_process(self.pid(id), Signal::STOP).expect("it can be stopped");
    }

    /// SIGCONT.
    pub fn resume(&self, id: u32) {
        kill_process(self.pid(id), Signal::CONT).expect("it can be continued");
    }

    /// SIGTERM, and waits for the end; returns its exit code.
    ///
    /// # Panics
    /// When it does not end within a minute.
    pub fn terminate(&mut self, id: u32) -> Option<i32> {
        kill_process(self.pid(id), Signal::TERM).expect("it can be told to end");
        self.wait_end(id)
    }

    /// Waits until a process ends, and returns its exit code.
    ///
    /// # Panics
    /// When it does not end within a minute.
    pub fn wait_end(&mut self, id: u32) -> Option<i32> {
        let mut process = self.node_mut(id).process.take().expect("the node runs");
        let ended = wait::until("the process to end", Duration::from_secs(60), || {
            process.try_wait().map_err(|error| error.to_string())?.ok_or_else(|| "it runs".to_owned())
        });
        match ended {
            Ok(status) => status.code(),
            Err(error) => {
                // Give the reader of the failure something to look at, and leave no process behind.
                let _ = process.kill();
                panic!("{error}\n{}", self.logs());
            }
        }
    }

    /// Kills a node if it runs, and starts it again.
    pub fn restart(&mut self, id: u32) {
        if self.runs(id) {
            self.kill(id);
        }
        self.spawn(id);
    }

    /// Waits until every running node says that it is ready.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn wait_ready(&mut self) {
        for id in self.ids() {
            if self.runs(id) {
                self.wait_ready_node(id);
            }
        }
    }

    /// Waits until one node says that it is ready.
    ///
    /// # Panics
    /// When that takes too long, or the process ended.
    pub fn wait_ready_node(&mut self, id: u32) {
        let http = self.node(id).http;
        let ready = wait::until(&format!("node {id} to be ready"), READY, || {
            match self.node_mut(id).process.as_mut().map(Child::try_wait) {
                Some(Ok(None)) => ready(http),
                other => Err(format!("its process ended: {other:?}")),
            }
        });
        if let Err(error) = ready {
            panic!("{error}\n{}", self.logs());
        }
    }

    /// The ends of all nodes' logs.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for id in self.ids() {
            let log = self.log(id);
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(40)..].join("\n");
            let _ = writeln!(text, "--- node {id}\n{tail}");
        }
        text
    }

    /// All brokers' addresses, comma-separated; running ones first.
    pub fn servers(&self) -> String {
        let mut brokers: Vec<&Node> =
            self.nodes.iter().filter(|node| node.role != Role::Controller).collect();
        brokers.sort_by_key(|node| node.process.is_none());
        brokers.iter().map(|node| format!("127.0.0.1:{}", node.grpc)).collect::<Vec<_>>().join(",")
    }

    /// Runs the command line against this cluster.
    pub fn cli(&self, args: &[&str]) -> Ran {
        self.cli_with(args, b"")
    }

    /// Runs the command line with something on standard input.
    pub fn cli_with(&self, args: &[&str], input: &[u8]) -> Ran {
        cli::run(&self.servers(), args, input)
    }

    /// A topic as `topics describe` shows it.
    pub fn describe(&self, topic: &str) -> Result<Value, String> {
        let ran = self.cli(&["topics", "describe", topic, "--output", "json"]);
        if ran.code != Some(0) {
            return Err(ran.err);
        }
        let all: Value = serde_json::from_str(&ran.out).map_err(|error| error.to_string())?;
        Ok(all["topics"][0].clone())
    }

    /// Waits until a partition is as `look` wants it.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn wait_partition<T>(
        &self,
        topic: &str,
        partition: usize,
        what: &str,
        mut look: impl FnMut(&Value) -> Option<T>,
    ) -> T {
        let found = wait::until(what, READY, || {
            let described = self.describe(topic)?;
            let partition = &described["partitions"][partition];
            look(partition).ok_or_else(|| partition.to_string())
        });
        found.unwrap_or_else(|error| panic!("{error}\n{}", self.logs()))
    }

    /// Waits until a partition has a leader that runs.
    pub fn leader(&self, topic: &str, partition: usize) -> u32 {
        self.wait_partition(topic, partition, "a leader that runs", |partition| {
            let leader = u32::try_from(partition["leader"].as_u64()?).ok()?;
            self.runs(leader).then_some(leader)
        })
    }

    /// Waits until the ISR has so many members.
    pub fn wait_isr(&self, topic: &str, partition: usize, size: usize) {
        self.wait_partition(topic, partition, &format!("an ISR of {size}"), |partition| {
            (partition["isr"].as_array()?.len() == size).then_some(())
        });
    }

    /// The active controller, as soon as there is one that runs.
    ///
    /// # Panics
    /// When none appears.
    pub fn controller(&self) -> u32 {
        let found = wait::until("an active controller", READY, || {
            let ran = self.cli(&["quorum", "describe", "--output", "json"]);
            let all: Value =
                serde_json::from_str(&ran.out).map_err(|error| format!("{error}: {}", ran.err))?;
            let id = all["leader_id"].as_u64().ok_or("no leader")?;
            u32::try_from(id).ok().filter(|id| self.runs(*id)).ok_or_else(|| "it does not run".to_owned())
        });
        found.unwrap_or_else(|error| panic!("{error}\n{}", self.logs()))
    }
}

fn ready(http: u16) -> Result<(), String> {
    let body = http_get(http, "/health/ready")?;
    if body.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(body) }
}

/// A plain GET; the whole answer, status line and all.
///
/// # Errors
/// When nobody answers.
pub fn http_get(port: u16, path: &str) -> Result<String, String> {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().map_err(|error| error.to_string())
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(mut process) = node.process.take() {
                // It may be stopped, or have ended by itself.
                let _ = process.kill();
                let _ = process.wait();
            }
        }
        if std::thread::panicking() && std::env::var_os("VLTAVA_KEEP").is_some() {
            eprintln!("the nodes' files are kept in {}", self.dir.path().display());
            self.dir.disable_cleanup(true);
        }
    }
}
