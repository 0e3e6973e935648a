//! Controllers of one process, each on a port and in a directory of its own, and brokers that only follow.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use vltava_controller::{
    ConfiguredVoter, Controller, ControllerHandle, ControllerOptions, ControllerSettings, FatalHook, Listen,
    StartError,
};
use vltava_metadata::Image;
use vltava_model::{ClusterId, MetadataOffset, NodeId};
use vltava_proto::v1::admin_client::AdminClient;
use vltava_proto::v1::controller_client::ControllerClient;
use vltava_proto::v1::*;

pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until `get` gives something.
pub async fn until<T>(what: &str, mut get: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = get().await {
            return found;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy()
}

pub fn settings() -> ControllerSettings {
    ControllerSettings {
        heartbeat: Duration::from_millis(100),
        election_timeout: Duration::from_millis(600),
        broker_heartbeat: Duration::from_millis(50),
        broker_session: Duration::from_millis(2_000),
        rebalance_interval: Some(Duration::from_millis(200)),
        ..ControllerSettings::default()
    }
}

/// Stands before a controller's listener; while it is cut, nobody reaches the controller.
pub struct Proxy {
    pub address: SocketAddr,
    pub cut: watch::Sender<bool>,
    /// How long each piece of what is said to the controller is on its way.
    pub delay: watch::Sender<Duration>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    pub async fn start(to: SocketAddr) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, is_cut) = watch::channel(false);
        let (delay, delayed) = watch::channel(Duration::ZERO);
        let task = tokio::spawn(async move {
            loop {
                let (mut from, _) = listener.accept().await.unwrap();
                let (mut is_cut, delayed) = (is_cut.clone(), delayed.clone());
                tokio::spawn(async move {
                    if *is_cut.borrow() {
                        return;
                    }
                    let Ok(mut to) = tokio::net::TcpStream::connect(to).await else { return };
                    let ((from_read, mut from_write), (mut to_read, to_write)) = (from.split(), to.split());
                    tokio::select! {
                        _ = carry(from_read, to_write, delayed) => {}
                        _ = tokio::io::copy(&mut to_read, &mut from_write) => {}
                        _ = is_cut.wait_for(|cut| *cut) => {}
                    }
                });
            }
        });
        Self { address, cut, delay, task }
    }
}

/// Copies bytes; each piece arrives a while after it was read, and nothing waits for the one before.
async fn carry(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    delay: watch::Receiver<Duration>,
) -> std::io::Result<()> {
    let (sent, mut arriving) = mpsc::channel::<(tokio::time::Instant, Vec<u8>)>(1024);
    let read = async move {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let count = from.read(&mut buffer).await?;
            let due = tokio::time::Instant::now() + *delay.borrow();
            if count == 0 || sent.send((due, buffer[..count].to_vec())).await.is_err() {
                return Ok(());
            }
        }
    };
    let write = async move {
        while let Some((due, bytes)) = arriving.recv().await {
            tokio::time::sleep_until(due).await;
            to.write_all(&bytes).await?;
        }
        Ok(())
    };
    tokio::try_join!(read, write).map(|((), ())| ())
}

pub struct Node {
    pub id: u32,
    pub directory: TempDir,
    pub address: SocketAddr,
    /// What the other controllers are told, if they do not reach it directly.
    pub proxy: Option<Proxy>,
    pub handle: Option<ControllerHandle>,
}

pub struct Cluster {
    pub nodes: Vec<Node>,
    pub voters: Vec<ConfiguredVoter>,
    pub settings: ControllerSettings,
    pub cluster_id: Option<ClusterId>,
    pub deaths: Arc<Mutex<Vec<String>>>,
}

impl Cluster {
    /// Starts `count` controllers that form a cluster.
    pub async fn start(count: u32, settings: ControllerSettings) -> Self {
        let mut cluster = Self::prepare(count, settings);
        for id in 1..=count {
            cluster.run(id).await.unwrap();
        }
        cluster
    }

    /// Prepares directories and ports.
    pub fn prepare(count: u32, settings: ControllerSettings) -> Self {
        // `RUST_LOG=info` shows what the controllers say.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let nodes: Vec<Node> = (1..=count).map(node).collect();
        let voter =
            |node: &Node| ConfiguredVoter { node: NodeId::new(node.id), address: node.address.to_string() };
        let voters = nodes.iter().map(voter).collect();
        Self { nodes, voters, settings, cluster_id: None, deaths: Arc::default() }
    }

    /// As [`Self::start`], with a proxy before each.
    pub async fn start_behind_proxies(count: u32, settings: ControllerSettings) -> Self {
        let mut cluster = Self::prepare(count, settings);
        for (node, voter) in cluster.nodes.iter_mut().zip(&mut cluster.voters) {
            let proxy = Proxy::start(node.address).await;
            voter.address = proxy.address.to_string();
            node.proxy = Some(proxy);
        }
        for id in 1..=count {
            cluster.run(id).await.unwrap();
        }
        cluster
    }

    /// Adds a node that is no configured voter.
    pub fn add_node(&mut self, id: u32) {
        self.nodes.push(node(id));
    }

    pub fn node(&mut self, id: u32) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.id == id).unwrap()
    }

    pub fn handle(&self, id: u32) -> Option<&ControllerHandle> {
        self.nodes.iter().find(|node| node.id == id).and_then(|node| node.handle.as_ref())
    }

    /// Starts one.
    pub async fn run(&mut self, id: u32) -> Result<(), StartError> {
        let deaths = self.deaths.clone();
        let fatal: FatalHook = Arc::new(move |why| deaths.lock().unwrap().push(why));
        let (voters, settings, cluster_id) = (self.voters.clone(), self.settings.clone(), self.cluster_id);
        let node = self.node(id);
        let options = ControllerOptions {
            node_id: NodeId::new(id),
            storage: vltava_storage::RealStorage::shared(),
            directory: node.directory.path().join("metadata"),
            log_engine: None,
            cluster_id,
            voters,
            listen: Listen::Address(node.address),
            advertised: node.proxy.as_ref().map_or(node.address, |proxy| proxy.address).to_string(),
            settings,
            fatal,
        };
        node.handle = Some(Controller::start(options).await?);
        Ok(())
    }

    /// Kills one.
    pub async fn kill(&mut self, id: u32) {
        self.node(id).handle.take().unwrap().kill().await;
    }

    /// Wipes a killed one's disk.
    pub fn wipe(&mut self, id: u32) {
        self.node(id).directory = TempDir::new().unwrap();
    }

    /// The active controller's number.
    pub async fn active(&self) -> u32 {
        until("an active controller", async || {
            let running =
                self.nodes.iter().filter(|node| node.handle.as_ref().is_some_and(|it| it.metrics().active));
            running.map(|node| node.id).next()
        })
        .await
    }

    /// All that run have applied what the active one has.
    pub async fn settled(&self) {
        let active = self.active().await;
        until("all have applied the same", async || {
            let offset = self.handle(active)?.published().image().offset();
            let mut running = self.nodes.iter().filter_map(|node| node.handle.as_ref());
            running.all(|it| it.published().image().offset() == offset).then_some(())
        })
        .await;
    }

    pub fn admin_of(&self, id: u32) -> AdminClient<Channel> {
        AdminClient::new(channel(self.nodes.iter().find(|node| node.id == id).unwrap().address))
    }

    /// Where a controller says that its log ends.
    pub async fn log_end_of(&self, id: u32) -> RaftPosition {
        let address = self.nodes.iter().find(|node| node.id == id).unwrap().address;
        let answer = ControllerClient::new(channel(address)).identify(IdentifyRequest::default()).await;
        answer.unwrap().into_inner().last_log.unwrap()
    }

    pub async fn admin(&self) -> AdminClient<Channel> {
        self.admin_of(self.active().await)
    }

    /// Creates a topic at whoever is active, trying again while nobody is.
    pub async fn create_topic(&self, name: &str, partitions: u32) -> CreatedTopic {
        until("a topic is created", async || {
            let topic = NewTopic {
                name: name.into(),
                partition_count: partitions,
                replication_factor: 1,
                ..NewTopic::default()
            };
            let request = CreateTopicsRequest { topics: vec![topic], validate_only: false };
            let response = self.admin().await.create_topics(request).await.ok()?.into_inner();
            let created = response.topics.into_iter().next().unwrap();
            match &created.error {
                None => Some(created),
                // An earlier attempt whose answer was lost.
                Some(error) if error.name == "TOPIC_ALREADY_EXISTS" => Some(created),
                // The broker is not there yet.
                Some(error)
                    if ["BROKER_NOT_AVAILABLE", "INVALID_REPLICATION_FACTOR"].contains(&&*error.name) =>
                {
                    None
                }
                Some(error) => panic!("{error:?}"),
            }
        })
        .await
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.address).collect()
    }

    pub fn no_deaths(&self) {
        assert_eq!(*self.deaths.lock().unwrap(), Vec::<String>::new());
    }
}

fn node(id: u32) -> Node {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    Node {
        id,
        directory: TempDir::new().unwrap(),
        address: socket.local_addr().unwrap(),
        proxy: None,
        handle: None,
    }
}

/// Where a fake broker stands.
#[derive(Clone, Debug, Default)]
pub struct BrokerView {
    pub image: Image,
    pub epoch: u64,
    pub state: i32,
    pub sessions: u32,
    pub snapshots: u32,
    pub may_shut_down: bool,
    pub last_error: String,
}

/// A broker that registers, sends heartbeats and follows the feed, from session to session.
pub struct FakeBroker {
    pub view: watch::Receiver<BrokerView>,
    pub wants_shutdown: watch::Sender<bool>,
    /// Cleared, the broker sends no heartbeats though its session is open.
    pub beats: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeBroker {
    pub fn start(id: u32, incarnation: u128, controllers: Vec<SocketAddr>) -> Self {
        let (sender, view) = watch::channel(BrokerView::default());
        let (wants_shutdown, wants) = watch::channel(false);
        let (beats, beating) = watch::channel(true);
        let task = tokio::spawn(async move {
            loop {
                if let Some(leader) = locate(&controllers).await {
                    let error = session(id, incarnation, leader, &sender, wants.clone(), beating.clone())
                        .await
                        .unwrap_err();
                    sender.send_modify(|view| view.last_error = error.to_string());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        Self { view, wants_shutdown, beats, task }
    }

    pub async fn until(&self, what: &str, is: impl Fn(&BrokerView) -> bool) -> BrokerView {
        until(what, async || Some(self.view.borrow().clone()).filter(|view| is(view))).await
    }

    pub async fn active(&self) -> BrokerView {
        self.until("the broker is active", |view| view.state == BrokerState::Active as i32).await
    }
}

pub async fn locate(controllers: &[SocketAddr]) -> Option<SocketAddr> {
    for address in controllers {
        let asked = ControllerClient::new(channel(*address)).identify(IdentifyRequest::default()).await;
        if let Ok(answer) = asked
            && let Ok(leader) = answer.get_ref().leader_address.parse()
        {
            return Some(leader);
        }
    }
    None
}

async fn session(
    id: u32,
    incarnation: u128,
    leader: SocketAddr,
    view: &watch::Sender<BrokerView>,
    wants_shutdown: watch::Receiver<bool>,
    beats: watch::Receiver<bool>,
) -> Result<(), Status> {
    let (out, outbound) = mpsc::channel(16);
    let register = RegisterBroker {
        node_id: id,
        incarnation_id: incarnation.to_be_bytes().to_vec().into(),
        endpoints: vec![Endpoint_::grpc(id)],
        directories: vec![(u128::from(id) << 64 | 1).to_be_bytes().to_vec().into()],
        metadata_offset: view.borrow().image.offset().get(),
        features: [("metadata.version".to_owned(), 1)].into(),
        ..RegisterBroker::default()
    };
    out.send(BrokerMessage { message: Some(broker_message::Message::Register(register)) }).await.unwrap();
    let mut client = ControllerClient::new(channel(leader)).max_decoding_message_size(64 << 20);
    let mut inbound = client.session(Request::new(ReceiverStream::new(outbound))).await?.into_inner();
    let mut beat = tokio::time::interval(Duration::from_millis(50));
    view.send_modify(|view| view.sessions += 1);
    loop {
        tokio::select! {
            _ = beat.tick() => {
                if !*beats.borrow() {
                    continue;
                }
                let heartbeat = Heartbeat {
                    metadata_offset: view.borrow().image.offset().get(),
                    wants_shutdown: *wants_shutdown.borrow(),
                    ..Heartbeat::default()
                };
                let _ = out.try_send(BrokerMessage { message: Some(broker_message::Message::Heartbeat(heartbeat)) });
            }
            message = inbound.message() => {
                let Some(message) = message? else { return Err(Status::unavailable("closed")) };
                take(view, message.message.unwrap())?;
            }
        }
    }
}

/// Spells the message's type, which the transport's shadows.
struct Endpoint_;

impl Endpoint_ {
    fn grpc(id: u32) -> vltava_proto::v1::Endpoint {
        vltava_proto::v1::Endpoint { listener: "GRPC".into(), host: "127.0.0.1".into(), port: 7000 + id }
    }
}

fn take(view: &watch::Sender<BrokerView>, message: controller_message::Message) -> Result<(), Status> {
    use controller_message::Message;
    match message {
        Message::Registered(registered) => view.send_modify(|view| view.epoch = registered.broker_epoch),
        Message::Heartbeat(reply) => view.send_modify(|view| {
            view.state = reply.state;
            view.may_shut_down = reply.may_shut_down;
        }),
        Message::Records(records) => view.send_modify(|view| {
            view.image.apply(MetadataOffset::new(records.base_offset), &records.records).unwrap();
        }),
        Message::Snapshot(snapshot) => view.send_modify(|view| {
            view.image.load_snapshot(&snapshot).unwrap();
            view.snapshots += 1;
        }),
        Message::Error(error) => return Err(vltava_proto::status::from_detail(error)),
    }
    Ok(())
}
