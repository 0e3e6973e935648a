//! The machine's behaviour, event by event: node 1 is the one under test, 2 and 3 are its peers.

mod following;
mod isr;
mod leading;
mod stalls;

use std::time::Duration;

use vltava_model::epochs::LeaderEpochs;
use vltava_model::{BrokerEpoch, DirectoryId, LeaderEpoch, NodeId, Offset, PartitionEpoch};

use crate::*;

const LAG: Duration = Duration::from_secs(10);

fn at(offset: u64) -> Offset {
    Offset::new(offset)
}

fn epoch(value: u32) -> LeaderEpoch {
    LeaderEpoch::new(value)
}

fn epochs(list: &[(u32, u64)]) -> LeaderEpochs {
    LeaderEpochs::from_entries(list.iter().map(|(e, s)| (epoch(*e), at(*s))).collect()).unwrap()
}

fn node(id: u32) -> NodeId {
    NodeId::new(id)
}

/// A replica of node `id` in its first process.
fn replica(id: u32) -> ReplicaIdentity {
    let directory = DirectoryId::new(id.into());
    ReplicaIdentity { node: node(id), broker_epoch: BrokerEpoch::new(u64::from(id) * 10), directory }
}

fn state(leader: Option<u32>, leader_epoch: u32, partition_epoch: u32, isr: &[u32]) -> PartitionState {
    PartitionState {
        leader: leader.map(node),
        leader_epoch: epoch(leader_epoch),
        partition_epoch: PartitionEpoch::new(partition_epoch),
        replicas: vec![node(1), node(2), node(3)],
        isr: isr.iter().copied().map(node).collect(),
        elr: Vec::new(),
        recovery: LeaderRecovery::Recovered,
    }
}

fn assigned(state: PartitionState) -> Event {
    let eligible = [1, 2, 3].map(|id| (node(id), replica(id).broker_epoch)).to_vec();
    Event::Assigned(Assignment { state, eligible })
}

/// A machine with a clock.
struct Bench {
    machine: Partition,
    now: Duration,
    tokens: u64,
    /// Where the log's first batch begins, if not at its start.
    first_batch: Option<Offset>,
    /// On which followers subscribe.
    stream: StreamNumber,
}

impl Bench {
    /// An empty replica, or one with a synced log.
    fn new(log_end: u64, known: &[(u32, u64)], min_insync: u32) -> Self {
        Self::with(log_end, known, Settings::new(min_insync, LAG, Durability::Synced))
    }

    fn with(log_end: u64, known: &[(u32, u64)], settings: Settings) -> Self {
        let log = LocalLog {
            log_start: at(0),
            log_end: at(log_end),
            durable_end: at(log_end),
            high_watermark: at(0),
            epochs: epochs(known),
        };
        Self::on(log, settings)
    }

    fn on(log: LocalLog, settings: Settings) -> Self {
        let machine = Partition::new(replica(1), log, settings);
        Self {
            machine,
            now: Duration::from_secs(100),
            tokens: 0,
            first_batch: None,
            stream: StreamNumber::default(),
        }
    }

    fn step(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.machine.step(event, Time::new(self.now), &mut effects);
        effects
    }

    fn wait(&mut self, span: Duration) -> Vec<Effect> {
        self.now += span;
        self.step(Event::Tick)
    }

    fn token(&mut self) -> Token {
        self.tokens += 1;
        Token::new(self.tokens)
    }

    fn produce(&mut self, records: u32, acks: Acks) -> (Token, Vec<Effect>) {
        let token = self.token();
        let deadline = Time::new(self.now).after(Duration::from_secs(30));
        let produce = Produce { token, records, acks, deadline, expected_leader_epoch: None };
        (token, self.step(Event::Produce(produce)))
    }

    /// All that was written so far is synced.
    fn sync(&mut self) -> Vec<Effect> {
        let position = self.machine.log_position();
        self.step(Event::Durable(position))
    }

    fn subscribe(
        &mut self,
        follower: ReplicaIdentity,
        in_epoch: u32,
        log_end: u64,
        last: Option<u32>,
    ) -> (SubscribeReply, Vec<Effect>) {
        let token = self.token();
        let request = FollowerSubscribe {
            token,
            follower,
            stream: self.stream,
            leader_epoch: epoch(in_epoch),
            log_start: at(if last.is_some() { 0 } else { log_end }),
            log_end: at(log_end),
            durable_end: at(log_end),
            last_epoch: last.map(epoch),
            first_batch: self.first_batch.unwrap_or(self.machine.offsets().log_start),
        };
        let mut effects = self.step(Event::FollowerSubscribe(request));
        let place = effects.iter().position(|effect| matches!(effect, Effect::SubscribeReply { .. }));
        match effects.remove(place.expect("every subscription is answered")) {
            Effect::SubscribeReply { token: answered, reply } if answered == token => (reply, effects),
            other => panic!("{other:?} answers another"),
        }
    }

    /// A follower has, on stable storage, everything below `end`.
    fn progress(&mut self, id: u32, in_epoch: u32, end: u64) -> Vec<Effect> {
        self.step(Event::FollowerProgress(FollowerProgress {
            follower: replica(id),
            leader_epoch: epoch(in_epoch),
            log_end: at(end),
            durable_end: at(end),
        }))
    }

    fn high_watermark(&self) -> u64 {
        self.machine.offsets().high_watermark.get()
    }
}

/// The ISR that is proposed among these effects, if any.
fn proposed(effects: &[Effect]) -> Option<(ProposalId, Vec<u32>)> {
    effects.iter().find_map(|effect| match effect {
        Effect::ProposeIsr { proposal, isr, .. } => {
            Some((*proposal, isr.iter().map(|(node, _)| node.get()).collect()))
        }
        _ => None,
    })
}

/// How a client is answered among these effects, if it is.
fn answer(effects: &[Effect], to: Token) -> Option<Result<u64, vltava_model::ErrorCode>> {
    effects.iter().find_map(|effect| match effect {
        Effect::Ack { token, result } if *token == to => Some(result.map(|acked| acked.base_offset.get())),
        _ => None,
    })
}
