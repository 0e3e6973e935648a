//! The hot paths, each as a function that does nothing else, for a tool that counts their instructions.
//!
//! No clock, no thread, no disk, no random number: the same binary executes the same instructions each time. What threads,
//! sockets and the kernel cost is not seen here; the load profiles of `vltava-bench` see it. Run by
//! `cargo xtask instructions`, which counts what happens within [`measured`].

mod memory;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prost::Message;
use vltava_commitlog::log::{Log, LogConfig, LogPlace, RecoveryInput, TailBudget};
use vltava_model::batch::{Batch, BatchBuilder, Compression, ProducerStamp};
use vltava_model::{
    BrokerEpoch, DirectoryId, LeaderEpoch, NodeId, Offset, PartitionEpoch, PartitionIndex, ProducerEpoch,
    ProducerId, Sequence, TopicId, TopicPartition,
};
use vltava_partition::{
    Acks, Assignment, Durability, Effect, Event, FollowerProgress, FollowerSubscribe, LeaderData,
    LeaderRecovery, LocalLog, Partition, PartitionState, Produce, ReplicaIdentity, Settings, StreamNumber,
    Time, Token,
};
use vltava_proto::v1::{
    FetchResponse, LeaderMessage, ProduceRequest, ProduceResponse, ReplicaData, produce_request,
};
use vltava_storage::FilePool;

use memory::Memory;

/// Bytes of a record's value: the logic counts, not how bytes are copied, which depends on the machine.
const VALUE_BYTES: usize = 1024;

const EPOCH: LeaderEpoch = LeaderEpoch::new(1);

/// A replica with its log.
struct Replica {
    log: Log,
    machine: Partition,
    effects: Vec<Effect>,
    tokens: u64,
}

fn identity(node: u32) -> ReplicaIdentity {
    let directory = DirectoryId::new(node.into());
    ReplicaIdentity { node: NodeId::new(node), broker_epoch: BrokerEpoch::new(node.into()), directory }
}

impl Replica {
    /// One of three, led by node 1.
    fn open(node: u32) -> Self {
        let place = LogPlace {
            files: FilePool::new(Arc::new(Memory::default()), 100, std::thread::sleep),
            dir: "/log/topic-0".into(),
            partition: TopicPartition::new(TopicId::new(7), PartitionIndex::new(0)),
            topic_name: "topic".to_owned(),
            tail_budget: TailBudget::new(64 << 20),
        };
        // What replicates is read from memory, so memory holds it all.
        let config = LogConfig { tail_bytes_max: 64 << 20, ..LogConfig::default() };
        let log = Log::open(place, config, RecoveryInput::default()).expect("an empty log opens");
        let local = LocalLog {
            log_start: Offset::ZERO,
            log_end: Offset::ZERO,
            durable_end: Offset::ZERO,
            high_watermark: Offset::ZERO,
            epochs: log.epochs().clone(),
        };
        let settings = Settings::new(2, Duration::from_secs(10), Durability::Synced);
        let machine = Partition::new(identity(node), local, settings);
        let mut replica = Self { log, machine, effects: Vec::new(), tokens: 0 };
        let nodes: Vec<NodeId> = (1..=3).map(NodeId::new).collect();
        let state = PartitionState {
            leader: Some(NodeId::new(1)),
            leader_epoch: EPOCH,
            partition_epoch: PartitionEpoch::new(1),
            replicas: nodes.clone(),
            isr: nodes,
            elr: Vec::new(),
            recovery: LeaderRecovery::Recovered,
        };
        let eligible = (1..=3).map(|node| (NodeId::new(node), identity(node).broker_epoch)).collect();
        replica.step(Event::Assigned(Assignment { state, eligible }));
        replica.log.assign_epoch(EPOCH, Offset::ZERO);
        replica
    }

    fn step(&mut self, event: Event) {
        self.effects.clear();
        self.machine.step(event, Time::new(Duration::ZERO), &mut self.effects);
    }

    fn token(&mut self) -> Token {
        self.tokens += 1;
        Token::new(self.tokens)
    }

    /// As a shard appends a client's batch; the effects are what the machine says of it.
    fn append(&mut self, batch: Batch) {
        let base = self.log.log_end();
        let token = self.token();
        self.log.producers().check(batch.header());
        self.step(Event::Produce(Produce {
            token,
            records: batch.header().last_offset_delta + 1,
            acks: Acks::All,
            deadline: Time::new(Duration::from_secs(30)),
            expected_leader_epoch: Some(EPOCH),
        }));
        self.log.append(&batch.with_position(base, EPOCH), 0).expect("memory takes every write");
    }

    fn durable(&mut self) {
        let position = self.machine.log_position();
        self.step(Event::Durable(position));
    }

    /// A follower of this leader that has everything.
    fn subscribed(&mut self, node: u32) {
        let (token, log_end) = (self.token(), self.log.log_end());
        self.step(Event::FollowerSubscribe(FollowerSubscribe {
            token,
            follower: identity(node),
            stream: StreamNumber::default(),
            leader_epoch: EPOCH,
            log_start: Offset::ZERO,
            log_end,
            durable_end: log_end,
            last_epoch: None,
            first_batch: Offset::ZERO,
        }));
    }

    fn progress(&mut self, node: u32) {
        let end = self.log.log_end();
        self.step(Event::FollowerProgress(FollowerProgress {
            follower: identity(node),
            leader_epoch: EPOCH,
            log_end: end,
            durable_end: end,
        }));
    }
}

/// The batch that an idempotent producer sends as its `n`th, of one record.
fn batch(n: u32) -> Bytes {
    let stamp =
        ProducerStamp { id: ProducerId::new(5), epoch: ProducerEpoch::ZERO, base_sequence: Sequence::new(n) };
    let mut builder = BatchBuilder::new(Compression::None).producer(stamp);
    builder.append(1, None, Some(&[b'v'; VALUE_BYTES]), &[]).expect("a small record fits");
    builder.build()
}

fn parsed(n: u32) -> Batch {
    Batch::parse(batch(n)).expect("what was built is sound")
}

/// What is counted; everything else is not.
#[inline(never)]
fn measured<R>(work: impl FnOnce() -> R) -> R {
    std::hint::black_box(work())
}

/// A request from its bytes to a checked batch, and its answer to bytes.
fn produce(times: u32) {
    let encoded: Vec<Bytes> = (0..times)
        .map(|n| {
            let request = ProduceRequest {
                correlation_id: n.into(),
                topic: "topic".to_owned(),
                acks: vltava_proto::v1::Acks::All.into(),
                timeout_ms: 30_000,
                leader_epoch: Some(EPOCH.get()),
                payload: Some(produce_request::Payload::Batch(batch(n))),
                ..ProduceRequest::default()
            };
            request.encode_to_vec().into()
        })
        .collect();
    let mut out = BytesMut::with_capacity(1 << 10);
    measured(|| {
        for bytes in encoded {
            let request = ProduceRequest::decode(bytes).expect("what was encoded is sound");
            let Some(produce_request::Payload::Batch(bytes)) = request.payload else { return };
            let batch = Batch::parse(bytes).expect("what was built is sound");
            let base_offset = std::hint::black_box(batch).header().base_offset.get();
            let answer = ProduceResponse {
                correlation_id: request.correlation_id,
                base_offset: Some(base_offset),
                ..ProduceResponse::default()
            };
            out.clear();
            answer.encode(&mut out).expect("memory grows");
        }
    });
}

/// A checked batch through the leader's machine into its log, and to the acknowledgement.
fn append(times: u32) {
    let mut leader = Replica::open(1);
    leader.subscribed(2);
    leader.subscribed(3);
    let batches: Vec<Batch> = (0..times).map(parsed).collect();
    measured(|| {
        for batch in batches {
            leader.append(batch);
            leader.durable();
            leader.progress(2);
            leader.progress(3);
        }
    });
    assert_eq!(leader.machine.offsets().high_watermark, Offset::new(times.into()), "all are acknowledged");
}

/// Four batches at a time: out of the leader's memory, encoded, decoded, checked, and into a follower's log.
fn replicate(times: u32) {
    const AT_ONCE: u32 = 4;
    let (mut leader, mut follower) = (Replica::open(1), Replica::open(2));
    let zero = Offset::ZERO;
    follower.step(Event::LeaderWatermark { leader_epoch: EPOCH, high_watermark: zero, log_start: zero });
    for n in 0..times * AT_ONCE {
        leader.append(parsed(n));
    }
    let (reader, end) = (leader.log.reader(), leader.log.log_end());
    measured(|| {
        while follower.log.log_end() < end {
            let next = follower.log.log_end();
            let limit = next.checked_add(AT_ONCE.into()).unwrap_or(end);
            let read = reader.tail_batches(next, 1 << 20, limit).expect("the tail holds all");
            let data = |batches| ReplicaData { slot: 1, batches, ..ReplicaData::default() };
            let message = LeaderMessage {
                data: read.batches.into_iter().map(data).collect(),
                ..LeaderMessage::default()
            };
            take(&mut follower, message.encode_to_vec().into());
        }
    });
    assert_eq!(follower.machine.offsets().durable_end, end, "the follower has all");
}

fn take(follower: &mut Replica, bytes: Bytes) {
    let message = LeaderMessage::decode(bytes).expect("what was encoded is sound");
    let mut batches = Vec::new();
    for data in message.data {
        batches.extend(Batch::split(data.batches, 1 << 20).expect("what was built is sound"));
    }
    let (first, last) = (batches[0].header(), batches[batches.len() - 1].header());
    follower.step(Event::LeaderData(LeaderData {
        leader_epoch: EPOCH,
        base_offset: first.base_offset,
        end_offset: last.end_offset(),
        batch_epochs: vec![(EPOCH, first.base_offset)],
        high_watermark: Offset::ZERO,
        log_start: Offset::ZERO,
    }));
    let mut rest = &batches[..];
    while !rest.is_empty() {
        rest = &rest[follower.log.append_run(rest, 0).expect("memory takes every write").batches..];
    }
    follower.durable();
}

/// Eight batches at a time from the files, as a consumer that is behind reads them, and encoded.
fn fetch(times: u32) {
    const AT_ONCE: u32 = 8;
    let mut leader = Replica::open(1);
    for n in 0..times * AT_ONCE {
        leader.append(parsed(n));
    }
    leader.log.trim_tail();
    let (reader, end) = (leader.log.reader(), leader.log.log_end());
    let mut out = BytesMut::with_capacity(1 << 20);
    measured(|| {
        let mut next = Offset::ZERO;
        while next < end {
            let limit = next.checked_add(AT_ONCE.into()).unwrap_or(end);
            let read = reader.read(next, 1 << 20, limit).expect("memory is read");
            next = read.end;
            let bytes = read.bytes.len() as u64;
            let response = FetchResponse { batches: read.bytes, bytes, ..FetchResponse::default() };
            out.clear();
            response.encode(&mut out).expect("memory grows");
        }
    });
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let (path, times) = (words.next().unwrap_or_default(), words.next());
    let Some(times) = times.and_then(|times| times.parse().ok()) else {
        eprintln!("usage: vltava-instructions produce|append|replicate|fetch TIMES");
        return ExitCode::from(2);
    };
    match path.as_str() {
        "produce" => produce(times),
        "append" => append(times),
        "replicate" => replicate(times),
        "fetch" => fetch(times),
        _ => {
            eprintln!("no path is named '{path}'");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
