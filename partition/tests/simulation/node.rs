//! One node: a disk, and while it runs, a machine whose effects are carried out here.

use std::collections::BTreeMap;

use rand::RngExt;
use vltava_model::{BrokerEpoch, DirectoryId, ErrorCode, LeaderEpoch, NodeId, Offset};
use vltava_partition::{
    Ability, Acked, Acks, Durability, Effect, Event, FollowerSubscribe, FollowerSuspended, IsrOutcome,
    LeaderData, LocalLog, LogPosition, Partition, ProposalId, ReplicaIdentity, Standing, StreamNumber,
    SubscribeReply, Token,
};

use crate::controller::AlterIsr;
use crate::disk::{Crash, Disk, Op, Record};
use crate::network::{Message, StreamId};
use crate::oracle::Checked;
use crate::world::{Happening, MS, Micros, PROPOSAL_LIFETIME, Process, World};

/// What a client asked for.
#[derive(Clone, Debug)]
pub struct Request {
    pub values: Vec<u64>,
    pub acks: Acks,
    /// When it gets an answer at the latest.
    pub deadline: Micros,
}

/// What a leader sends to one follower.
#[derive(Clone, Copy, Debug)]
pub struct Subscriber {
    pub stream: StreamId,
    pub next: Offset,
}

/// See the module.
pub struct Node {
    pub id: NodeId,
    pub disk: Disk,
    life: u64,
    pub machine: Option<Partition>,
    broker_epoch: BrokerEpoch,
    /// How far it has heard of the metadata; it acts on nothing before it has caught up with its own registration.
    metadata: usize,
    caught_up_at: usize,
    pub tick_at: Option<Micros>,
    syncing: bool,
    sync_up_to: Option<LogPosition>,
    pub stream: Option<StreamId>,
    pub asked: BTreeMap<Token, StreamId>,
    pub subscribers: BTreeMap<Token, Subscriber>,
    pub requests: BTreeMap<Token, Request>,
    /// A write or sync of this process failed: nothing that is written from then on counts.
    pub disk_failed: bool,
    /// Whether its disk has room.
    pub ability: Ability,
}

impl Node {
    pub fn new(id: NodeId) -> Self {
        Self {
            id,
            disk: Disk::new(DirectoryId::new(u128::from(id.get()) << 64)),
            life: 0,
            machine: None,
            broker_epoch: BrokerEpoch::ZERO,
            metadata: 0,
            caught_up_at: 0,
            tick_at: None,
            syncing: false,
            sync_up_to: None,
            stream: None,
            asked: BTreeMap::new(),
            subscribers: BTreeMap::new(),
            requests: BTreeMap::new(),
            disk_failed: false,
            ability: Ability::Able,
        }
    }

    pub fn process(&self) -> Option<Process> {
        self.machine.as_ref().map(|_| Process { node: self.id, life: self.life })
    }

    fn clear(&mut self) {
        self.machine = None;
        self.life += 1;
        self.tick_at = None;
        (self.syncing, self.sync_up_to) = (false, None);
        self.stream = None;
        self.asked.clear();
        self.subscribers.clear();
        self.requests.clear();
        self.disk_failed = false;
        self.ability = Ability::Able;
    }
}

impl World {
    fn node(&mut self, node: NodeId) -> &mut Node {
        self.nodes.get_mut(&node).expect("all nodes are known")
    }

    /// A process starts: registers, and opens its log.
    pub fn start(&mut self, id: NodeId) -> Checked {
        if self.nodes[&id].machine.is_some() {
            return Ok(());
        }
        let directory = self.nodes[&id].disk.directory;
        let broker_epoch = self.controller.register(id, directory);
        self.oracle.wiped.remove(&id);
        let caught_up_at = self.controller.version();
        let settings = self.setup.settings.clone();
        let node = self.node(id);
        let log = LocalLog {
            log_start: node.disk.written.start(),
            log_end: node.disk.written.end(),
            durable_end: node.disk.stable.end(),
            high_watermark: node.disk.checkpoint,
            epochs: node.disk.written.epochs().clone(),
        };
        let identity = ReplicaIdentity { node: id, broker_epoch, directory };
        node.machine = Some(Partition::new(identity, log, settings));
        (node.broker_epoch, node.caught_up_at) = (broker_epoch, caught_up_at);
        let process = node.process().expect("it runs");
        self.later(50 * MS, Happening::Unfence(process));
        self.metadata_changed()
    }

    /// A process ends.
    pub fn crash(&mut self, id: NodeId, how: Crash) {
        let (now, power) = (self.now, how == Crash::PowerCut);
        let rng = &mut self.rng;
        let node = self.nodes.get_mut(&id).expect("all nodes are known");
        if node.machine.is_none() {
            return;
        }
        node.disk.crash(how, rng);
        node.clear();
        let streams = self.open_streams();
        for stream in streams {
            let (follower, leader) = self.stream_ends(stream);
            if follower == id || leader == id {
                self.cut(stream, leader == id);
            }
        }
        let session = if power { 300 * MS } else { 50 * MS };
        self.at(now + session, Happening::Fence(id));
    }

    /// The process hears of newer metadata, not always of all.
    pub fn metadata(&mut self, process: Process) -> Checked {
        let newest = self.controller.version();
        let node = &self.nodes[&process.node];
        let next = (node.metadata + 1).max(node.caught_up_at);
        if next > newest {
            return Ok(());
        }
        let version = if self.rng.random_bool(0.7) { newest } else { self.rng.random_range(next..=newest) };
        self.node(process.node).metadata = version;
        if version < newest {
            self.later(10 * MS, Happening::Metadata(process));
        }
        let assignment = self.controller.at(version).assignment();
        self.step(process.node, Event::Assigned(assignment), Vec::new())
    }

    pub fn unfence(&mut self, process: Process) -> Checked {
        let (node, caught_up_at) = (&self.nodes[&process.node], self.nodes[&process.node].caught_up_at);
        if node.metadata < caught_up_at {
            self.later(50 * MS, Happening::Metadata(process));
            self.later(100 * MS, Happening::Unfence(process));
            return Ok(());
        }
        let epoch = node.broker_epoch;
        self.controller.unfence(process.node, epoch);
        self.metadata_changed()
    }

    /// Feeds a machine, does what it says, and checks all that must hold.
    pub fn step(&mut self, id: NodeId, event: Event, payload: Vec<Record>) -> Checked {
        let now = self.time();
        let Some(machine) = self.node(id).machine.as_mut() else { return Ok(()) };
        let (before, committed) = (machine.offsets(), self.oracle.committed_end());
        let machine = self.node(id).machine.as_mut().expect("just seen");
        let mut effects = Vec::new();
        machine.step(event, now, &mut effects);
        if self.prints {
            for effect in &effects {
                eprintln!("          {id}: {effect:?}");
            }
        }
        let mut payload = Some(payload);
        let was_cut =
            effects.iter().any(|effect| matches!(effect, Effect::Truncate { .. } | Effect::StartAt { .. }));
        let mut acked = Vec::new();
        for effect in effects {
            if let Effect::Ack { token, result } = effect {
                acked.push((token, result.ok()));
            } else {
                self.run_effect(id, effect, &mut payload)?;
            }
        }
        let node = &self.nodes[&id];
        let Some(machine) = &node.machine else { return Ok(()) };
        self.oracle.stepped(id, before, machine.offsets(), &node.disk)?;
        self.check_counted(id)?;
        for (token, result) in acked {
            self.acknowledged(id, token, result)?;
        }
        self.pump(id);
        self.sync(id);
        self.wake(id);
        if self.happened.is_multiple_of(64) {
            self.look_closely(id)?;
        }
        // Who is in sync must have what is committed: looked at when more is committed, or a log was cut.
        if was_cut || self.oracle.committed_end() != committed {
            self.check_members()?;
        }
        Ok(())
    }

    fn look_closely(&self, id: NodeId) -> Checked {
        let node = &self.nodes[&id];
        if let Some(machine) = &node.machine {
            self.oracle.whole_log(id, machine.offsets().high_watermark, &node.disk, machine.epochs())?;
        }
        for other in self.nodes.values().filter(|other| other.id != id) {
            self.oracle.matching(&node.disk.written, &other.disk.written)?;
        }
        Ok(())
    }

    fn run_effect(&mut self, id: NodeId, effect: Effect, payload: &mut Option<Vec<Record>>) -> Checked {
        let identity = self.nodes[&id].machine.as_ref().expect("it runs").identity();
        match effect {
            Effect::Append { token, base_offset, leader_epoch } => {
                let values = self.nodes[&id].requests[&token].values.clone();
                let records = values.iter().map(|value| Record { epoch: leader_epoch, value: *value });
                return self.append(id, base_offset, records.collect());
            }
            Effect::AppendReplicated { base_offset, end_offset } => {
                let records = payload.take().expect("one append of what the leader sent");
                assert_eq!(end_offset.since(base_offset), records.len() as u64);
                return self.append(id, base_offset, records);
            }
            Effect::Truncate { to } => self.node(id).disk.write(Op::Truncate(to)),
            Effect::StartAt { offset } => self.node(id).disk.write(Op::StartAt(offset)),
            Effect::AssignEpoch { epoch, start } => self.node(id).disk.write(Op::AssignEpoch(epoch, start)),
            Effect::AdvanceLogStart { to } => self.node(id).disk.write(Op::AdvanceStart(to)),
            Effect::SubscribeReply { token, reply } => self.reply(id, token, reply),
            Effect::DropFollower { subscription, .. } => {
                if let Some(subscriber) = self.node(id).subscribers.remove(&subscription) {
                    self.let_go(subscriber.stream);
                }
            }
            Effect::ProposeIsr { proposal, leader_epoch, partition_epoch, isr } => {
                let broker_epoch = identity.broker_epoch;
                let request = AlterIsr { node: id, broker_epoch, leader_epoch, partition_epoch, isr };
                self.propose(id, proposal, request);
            }
            Effect::Subscribe { leader, leader_epoch, log_start, log_end, durable_end, last_epoch } => {
                let token = Token::new(0);
                let (follower, process) = (identity, self.nodes[&id].process().expect("it runs"));
                let request = FollowerSubscribe {
                    token,
                    follower,
                    // Named when it is sent.
                    stream: StreamNumber::default(),
                    leader_epoch,
                    log_start,
                    log_end,
                    durable_end,
                    last_epoch,
                    // Nothing is ever deleted here up to the midst of a batch.
                    first_batch: Offset::MAX,
                };
                self.open_stream(process, leader, leader_epoch, Message::Subscribe(request));
            }
            Effect::Suspend { leader, leader_epoch } => {
                let word = FollowerSuspended { follower: identity, leader_epoch };
                let process = self.nodes[&id].process().expect("it runs");
                self.open_stream(process, leader, leader_epoch, Message::Suspended(word));
            }
            Effect::Unsubscribe { .. } => {
                if let Some(stream) = self.node(id).stream.take() {
                    self.cut(stream, false);
                }
            }
            Effect::ReportProgress { leader_epoch, log_end, durable_end, .. } => {
                self.report(identity, leader_epoch, log_end, durable_end);
            }
            Effect::WatermarkMoved { high_watermark, log_start } => {
                for stream in self.streams_of(id) {
                    self.send(stream, Message::Watermark { high_watermark, log_start });
                }
                if self.rng.random_bool(0.2) {
                    let node = self.node(id);
                    node.disk.checkpoint =
                        node.machine.as_ref().map_or(Offset::ZERO, Partition::watermark_to_checkpoint);
                }
            }
            Effect::StandingChanged(Standing::Leading { epoch, .. }) => return self.oracle.leads(id, epoch),
            Effect::StandingChanged(_) => {}
            Effect::Alarm(alarm) => return Err(format!("I6: {id}: {alarm:?}")),
            Effect::Ack { .. } => unreachable!("answered apart"),
        }
        Ok(())
    }

    fn propose(&mut self, id: NodeId, proposal: ProposalId, request: AlterIsr) {
        let process = self.nodes[&id].process().expect("it runs");
        let lost = self.faults.are_on && self.rng.random_bool(self.faults.loss);
        if !lost && !self.faults.cut_off.contains(&id) {
            let slow = self.faults.are_on && self.rng.random_bool(0.1);
            let within = if slow { PROPOSAL_LIFETIME } else { 60 * MS };
            let sent = self.now;
            if self.faults.are_on && self.rng.random_bool(self.faults.detours) {
                self.detour(process, proposal, &request);
            } else {
                self.later(within, Happening::AlterIsr { process, proposal, request, sent });
            }
        }
    }

    /// A proposal goes to a controller that was deposed: it says so at once, and yet the proposal is executed, as late as
    /// can be. Meanwhile its members lose their sessions for a moment, and some cannot be reached.
    fn detour(&mut self, process: Process, proposal: ProposalId, request: &AlterIsr) {
        let outcome = IsrOutcome::Failed(ErrorCode::NotController);
        self.later(10 * MS, Happening::IsrAnswered { process, proposal, outcome });
        let at = self.now + self.rng.random_range(PROPOSAL_LIFETIME / 2..PROPOSAL_LIFETIME);
        let (sent, request) = (self.now, request.clone());
        let isr = self.controller.now().state.isr.clone();
        for (member, _) in request.isr.iter().filter(|(member, _)| !isr.contains(member)) {
            self.later(10 * MS, Happening::Fence(*member));
            if self.rng.random_bool(0.7) {
                self.network.blocked.push((process.node, *member));
            }
        }
        self.at(at, Happening::AlterIsr { process, proposal, request, sent });
    }

    fn streams_of(&self, id: NodeId) -> Vec<StreamId> {
        self.nodes[&id].subscribers.values().map(|subscriber| subscriber.stream).collect()
    }

    fn append(&mut self, id: NodeId, base: Offset, records: Vec<Record>) -> Checked {
        if self.nodes[&id].ability == Ability::Hindered {
            return Err(format!("{id} appends at {base} though it has no room"));
        }
        if self.nodes[&id].disk_failed {
            return Err(format!("I38: {id} appends at {base} though its storage failed"));
        }
        assert_eq!(self.nodes[&id].disk.written.end(), base, "appended at the log end");
        for (index, record) in records.iter().enumerate() {
            self.oracle.appended(Offset::new(base.get() + index as u64), *record)?;
        }
        self.node(id).disk.write(Op::Append(records));
        Ok(())
    }

    fn reply(&mut self, id: NodeId, token: Token, reply: SubscribeReply) {
        let Some(stream) = self.node(id).asked.remove(&token) else { return };
        self.send(stream, Message::Reply(reply));
        if let SubscribeReply::Accepted { from, .. } = reply {
            self.node(id).subscribers.insert(token, Subscriber { stream, next: from });
            self.subscribed(stream, token);
        }
    }

    /// A leader sends what its followers lack, in pieces.
    fn pump(&mut self, id: NodeId) {
        let Some(machine) = &self.nodes[&id].machine else { return };
        let Standing::Leading { epoch, .. } = machine.standing() else { return };
        let offsets = machine.offsets();
        let tokens: Vec<_> = self.nodes[&id].subscribers.keys().copied().collect();
        for token in tokens {
            while let Some(Subscriber { stream, next }) = self.nodes[&id].subscribers.get(&token).copied()
                && next < offsets.log_end
            {
                if next < offsets.log_start {
                    self.cut(stream, true);
                    break;
                }
                let most = self.rng.random_range(1..=8);
                let end = offsets.log_end.min(Offset::new(next.get() + most));
                self.node(id).subscribers.get_mut(&token).expect("just seen").next = end;
                let message = self.data(id, epoch, next, end);
                self.send(stream, message);
            }
        }
    }

    fn data(
        &self,
        id: NodeId,
        leader_epoch: LeaderEpoch,
        base_offset: Offset,
        end_offset: Offset,
    ) -> Message {
        let records = self.records(id, base_offset, end_offset);
        let mut batch_epochs: Vec<(LeaderEpoch, Offset)> = Vec::new();
        for (index, record) in records.iter().enumerate() {
            if batch_epochs.last().is_none_or(|(epoch, _)| *epoch != record.epoch) {
                batch_epochs.push((record.epoch, Offset::new(base_offset.get() + index as u64)));
            }
        }
        let offsets = self.nodes[&id].machine.as_ref().expect("it runs").offsets();
        let (high_watermark, log_start) = (offsets.high_watermark, offsets.log_start);
        let data =
            LeaderData { leader_epoch, base_offset, end_offset, batch_epochs, high_watermark, log_start };
        Message::Data { data, records }
    }

    /// One sync at a time, which takes all that has gathered.
    fn sync(&mut self, id: NodeId) {
        let node = &self.nodes[&id];
        let (Some(process), ops) = (node.process(), node.disk.unsynced()) else { return };
        let idle = self.setup.settings.durability == Durability::Relaxed && self.rng.random_bool(0.95);
        if node.syncing || ops == 0 || idle || node.disk_failed {
            return;
        }
        let stalled = self.faults.slow_disk == Some(id);
        let took = self.delay(if stalled { 500 * MS } else { 6 * MS });
        let node = self.node(id);
        node.syncing = true;
        node.sync_up_to = node.machine.as_ref().map(Partition::log_position);
        let at = self.now + took;
        self.at(at, Happening::Synced { process, ops });
    }

    pub fn synced(&mut self, process: Process, ops: usize) -> Checked {
        let node = self.node(process.node);
        node.disk.synced(ops);
        node.syncing = false;
        let up_to = node.sync_up_to.take().expect("a sync has a position");
        self.step(process.node, Event::Durable(up_to), Vec::new())
    }

    /// Ticks come when the machine wants them, or a little later.
    fn wake(&mut self, id: NodeId) {
        let node = &self.nodes[&id];
        let (Some(machine), Some(process)) = (&node.machine, node.process()) else { return };
        let Some(due) = machine.next_tick() else { return };
        let due = due.since_start().as_micros() as Micros + 1 + self.rng.random_range(0..10 * MS);
        if self.nodes[&id].tick_at.is_none_or(|at| at > due) {
            self.node(id).tick_at = Some(due);
            self.at(due, Happening::Tick(process));
        }
    }

    fn acknowledged(&mut self, id: NodeId, token: Token, result: Option<Acked>) -> Checked {
        let Some(request) = self.node(id).requests.remove(&token) else {
            return Err(format!("{token:?} is answered twice"));
        };
        if result.is_some() && self.nodes[&id].disk_failed {
            return Err(format!("I38: {id} acknowledges {token:?} though its storage failed"));
        }
        let Some(acked) = result.filter(|_| request.acks == Acks::All) else { return Ok(()) };
        let settings = &self.setup.settings;
        let enough = (settings.min_insync as usize).min(self.setup.replicas.len());
        for (index, value) in request.values.iter().enumerate() {
            let at = Offset::new(acked.base_offset.get() + index as u64);
            let logs = self.nodes.values().map(|node| match settings.durability {
                Durability::Synced => &node.disk.stable,
                Durability::Relaxed => &node.disk.written,
            });
            self.oracle.acked(at, *value, enough, logs)?;
        }
        Ok(())
    }
}
