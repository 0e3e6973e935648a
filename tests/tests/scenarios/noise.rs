//! Bytes that nobody sends who means well: random ones, and messages of every method that were bent. Whatever is answered is
//! right, as long as the nodes live, go on with their work, and nothing that was acknowledged is lost.
//!
//! Left out: messages that are right and lie. Whoever can talk to the listener of brokers and controllers among themselves, and
//! knows the cluster's id, is believed.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use rand::RngExt;
use rand::rngs::StdRng;
use tokio::task::JoinError;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use vltava_proto::v1::admin_client::AdminClient;
use vltava_proto::v1::{DescribeClusterRequest, DescribeTopicsRequest};
use vltava_tests::Cluster;
use vltava_tests::load::{Load, LoadOptions};
use vltava_tests::messages::{self, Grammar, Method, Shape, Words};

use crate::api::Api;
use crate::inputs::encoded;
use crate::support::{conclude, create, number, progress, rng, three, wait_in_sync};

const TOPIC: &str = "noise";
/// Is read and written all the time, and nobody's noise names it.
const BESIDE: &str = "beside";
/// A node that there is not.
const NOBODY: u64 = 99;
/// Calls at once on a connection: others keep theirs.
const CALLS_MAX: usize = 24;
/// Every call that does not stream is answered by then, on a busy machine.
const ANSWERED: Duration = Duration::from_secs(60);

/// Messages as bytes, whatever they are.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// The services of each listener, by the name of its port.
const GRPC: &[&str] = &["vltava.v1.Log", "vltava.v1.Admin", "vltava.v1.Replica"];
const CONTROLLER: &[&str] = &["vltava.v1.Controller", "vltava.v1.Raft", "vltava.v1.Admin"];
/// What is right is obeyed, so those that take brokers and voters away are left out.
const OBEYED: &[&str] = &["UnregisterBroker", "AddVoter", "RemoveVoter"];

/// Bytes that look like a message: fields with small numbers, of all kinds, with lengths that may be wrong.
fn garbage(rng: &mut StdRng, depth: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    if rng.random_bool(0.2) {
        return (0..rng.random_range(0..200)).map(|_| rng.random()).collect();
    }
    for _ in 0..rng.random_range(0..6) {
        let field: u8 = rng.random_range(1..12);
        match rng.random_range(0..4) {
            0 => {
                bytes.push(field << 3);
                let mut number: u64 =
                    if rng.random_bool(0.5) { rng.random_range(0..300) } else { rng.random() };
                while number > 0x7f {
                    bytes.push((number & 0x7f) as u8 | 0x80);
                    number >>= 7;
                }
                bytes.push(number as u8);
            }
            1 if depth < 3 => {
                let inner = garbage(rng, depth + 1);
                bytes.push(field << 3 | 2);
                let length = if rng.random_bool(0.9) { inner.len() } else { rng.random_range(0..128) };
                bytes.push((length & 0x7f) as u8);
                bytes.extend(inner.into_iter().take(127));
            }
            2 => {
                bytes.push(field << 3 | 2);
                bytes.push(TOPIC.len() as u8);
                bytes.extend(TOPIC.as_bytes());
            }
            _ => {
                bytes.push(field << 3 | 1);
                bytes.extend(rng.random::<u64>().to_le_bytes());
            }
        }
    }
    bytes
}

/// Sends messages to a method; says how it ended, if it did in time.
async fn shout(channel: Channel, method: Method, messages: Vec<Bytes>) -> Option<Code> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.ok()?;
    let patience = match method.shape {
        Shape::Unary => ANSWERED,
        Shape::Streaming => Duration::from_millis(200),
    };
    let path = method.path.parse().expect("it is a path");
    let call = grpc.streaming(Request::new(tokio_stream(messages)), path, Raw);
    let answers = async {
        let mut answers = call.await?.into_inner();
        while answers.message().await?.is_some() {}
        Ok(())
    };
    let ended = tokio::time::timeout(patience, answers).await.ok()?;
    Some(ended.map_or_else(|status: Status| status.code(), |()| Code::Ok))
}

/// The messages, one after the other.
fn tokio_stream(messages: Vec<Bytes>) -> impl tonic::codegen::tokio_stream::Stream<Item = Bytes> {
    tonic::codegen::tokio_stream::iter(messages)
}

/// Bytes that are no HTTP at all.
fn noise(port: u16, rng: &mut StdRng) {
    let bytes: Vec<u8> = (0..rng.random_range(1..2_000)).map(|_| rng.random()).collect();
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { panic!("nobody listens on {port}") };
    // The other side may hang up at the first byte.
    let _ = stream.set_read_timeout(Some(Duration::from_millis(20)));
    let _ = stream.write_all(&bytes);
    let _ = stream.read(&mut [0; 64]);
}

/// Three nodes, a topic to make noise about, and one under load that has all that a cluster's defaults could change set.
fn cluster_under_load() -> (Cluster, Load) {
    let cluster = three("");
    let own = ["retention.ms=-1", "max.message.bytes=1048588", "segment.bytes=16777216"];
    create(&cluster, BESIDE, 1, 3, &own);
    create(&cluster, TOPIC, 2, 3, &[]);
    wait_in_sync(&cluster, BESIDE, 1, 3);
    let load = Load::start(&cluster.servers(), &LoadOptions::new(BESIDE, 1));
    progress(&cluster, &load, 100);
    (cluster, load)
}

/// How many calls ended how, for each method; `None` are those that did not end.
type Answers = BTreeMap<String, HashMap<Option<Code>, u64>>;

/// Sends to every method of a listener, at once, what is made for it.
fn shout_at(
    port: u16,
    services: &[&str],
    grammar: &Grammar,
    rounds: u64,
    mut make: impl FnMut(&Method) -> Vec<Bytes>,
) -> Answers {
    let mut all = Answers::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it starts");
    runtime.block_on(async {
        let channel =
            Endpoint::from_shared(format!("http://127.0.0.1:{port}")).expect("it is one").connect_lazy();
        let mut calls = tokio::task::JoinSet::new();
        let mut note = |answer: Result<(Method, Option<Code>), JoinError>| {
            let (method, code) = answer.expect("a call does not panic");
            let answered = code.is_some() || method.shape == Shape::Streaming;
            assert!(answered, "{} was not answered", method.path);
            *all.entry(method.path).or_default().entry(code).or_default() += 1;
        };
        for method in services.iter().flat_map(|service| grammar.methods(service)) {
            if OBEYED.iter().any(|obeyed| method.path.ends_with(obeyed)) {
                continue;
            }
            for _ in 0..rounds {
                if calls.len() >= CALLS_MAX {
                    calls.join_next().await.into_iter().for_each(&mut note);
                }
                let (channel, method, messages) = (channel.clone(), method.clone(), make(method));
                calls.spawn(async move { (method.clone(), shout(channel, method, messages).await) });
            }
        }
        while let Some(answer) = calls.join_next().await {
            note(answer);
        }
    });
    all
}

#[test]
fn random_bytes_harm_nobody() {
    let mut rng = rng("random bytes");
    let grammar = Grammar::new(vltava_proto::DESCRIPTORS);
    let (mut cluster, load) = cluster_under_load();
    let rounds = number("VLTAVA_ROUNDS", 8);
    for id in cluster.ids() {
        let (grpc, controller, http) = {
            let node = cluster.node(id);
            (node.grpc, node.controller, node.http)
        };
        for (port, services) in [(grpc, GRPC), (controller, CONTROLLER)] {
            shout_at(port, services, &grammar, rounds, |_| {
                (0..rng.random_range(1..4)).map(|_| garbage(&mut rng, 0).into()).collect()
            });
        }
        for port in [grpc, controller, http] {
            for _ in 0..rounds {
                noise(port, &mut rng);
            }
        }
        cluster.assert_healthy();
        progress(&cluster, &load, 100);
    }
    cluster.wait_ready();
    wait_in_sync(&cluster, BESIDE, 1, 3);
    conclude(&mut cluster, load, "random bytes", BESIDE, 1);
}

/// What is true of this cluster, and numbers at the edges.
fn words(cluster: &Cluster) -> Words {
    let api = Api::new(cluster.node(1).grpc);
    let mut admin = AdminClient::new(api.channel());
    let described = api.call(admin.describe_cluster(DescribeClusterRequest {})).expect("the cluster answers");
    let topic = DescribeTopicsRequest { names: vec![TOPIC.to_owned()] };
    let topic = api.call(admin.describe_topics(topic)).expect("the cluster answers").topics.remove(0);
    let mut damaged = encoded(b"damaged").to_vec();
    if let Some(last) = damaged.last_mut() {
        *last ^= 1;
    }
    let strings = [TOPIC, "noise-2", "", "segment.bytes", "retention.ms", "1000", "-1", "\u{fffd}"];
    Words {
        strings: strings.map(str::to_owned).to_vec(),
        bytes: vec![encoded(b"whole"), damaged.into(), Bytes::new(), vec![0xff; 300].into()],
        numbers: vec![0, 1, 2, 3, NOBODY, 1 << 31, u64::from(u32::MAX), 1 << 63, u64::MAX],
        fixed: HashMap::from([("cluster_id", described.cluster_id), ("topic_id", topic.topic_id)]),
    }
}

/// The same for services that believe what they are told: from a node that there is not.
fn strangers(words: &Words) -> Words {
    Words { numbers: vec![0, NOBODY, 1 << 31, u64::from(u32::MAX), 1 << 63, u64::MAX], ..words.clone() }
}

#[test]
fn bent_messages_harm_nobody() {
    let mut rng = rng("bent messages");
    let grammar = Grammar::new(vltava_proto::DESCRIPTORS);
    let (mut cluster, load) = cluster_under_load();
    let rounds = number("VLTAVA_ROUNDS", 16);
    let words = words(&cluster);
    let strangers = strangers(&words);
    let fixed = HashMap::from([("cluster_id", Bytes::from_static(&[0x42; 16]))]);
    let foreigners = Words { fixed, ..strangers.clone() };
    let mut made = |method: &Method, words: &Words| -> Vec<Bytes> {
        // The topic is to last, so another one is deleted.
        let others = Words { strings: vec![format!("{TOPIC}-2")], fixed: HashMap::new(), ..words.clone() };
        let words = if method.path.ends_with("/DeleteTopics") { &others } else { words };
        let mut message = || {
            let mut bytes = grammar.message(&method.input, words, &mut rng);
            if rng.random_bool(0.6) {
                messages::bend(&mut bytes, &mut rng);
            }
            bytes.into()
        };
        match method.shape {
            Shape::Unary => vec![message()],
            Shape::Streaming => vec![message(), message(), message()],
        }
    };
    for id in cluster.ids() {
        let (grpc, controller) = {
            let node = cluster.node(id);
            (node.grpc, node.controller)
        };
        let answers = shout_at(grpc, &["vltava.v1.Log", "vltava.v1.Admin"], &grammar, rounds, |method| {
            made(method, &words)
        });
        shout_at(grpc, &["vltava.v1.Replica"], &grammar, rounds * 8, |method| made(method, &strangers));
        let of_controllers = ["vltava.v1.Controller", "vltava.v1.Admin"];
        shout_at(controller, &of_controllers, &grammar, rounds, |method| made(method, &strangers));
        shout_at(controller, &["vltava.v1.Raft"], &grammar, rounds, |method| made(method, &foreigners));
        answers.iter().for_each(|(path, codes)| eprintln!("{path} {codes:?}"));
        let obeyed: u64 = answers.values().filter_map(|codes| codes.get(&Some(Code::Ok))).sum();
        let all: u64 = answers.values().flat_map(HashMap::values).sum();
        assert!(obeyed * 10 > all, "only {obeyed} of {all} calls reached anything");
        cluster.assert_healthy();
        progress(&cluster, &load, 100);
    }
    cluster.wait_ready();
    wait_in_sync(&cluster, BESIDE, 1, 3);
    conclude(&mut cluster, load, "bent messages", BESIDE, 1);
}
