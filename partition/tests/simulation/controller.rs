//! A model of the controller: compare-and-set on the partition epoch, elections from the ISR, then from those who stayed
//! eligible (KIP-966), fencing, and a broker epoch for each process.

use std::collections::BTreeMap;
use std::rc::Rc;

use vltava_model::{BrokerEpoch, DirectoryId, ErrorCode, LeaderEpoch, NodeId, PartitionEpoch};
use vltava_partition::{Assignment, IsrOutcome, LeaderRecovery, PartitionState};

/// A registered broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broker {
    pub epoch: BrokerEpoch,
    pub directory: DirectoryId,
    pub fenced: bool,
}

/// The metadata after some prefix of the metadata log.
#[derive(Clone, Debug)]
pub struct Meta {
    pub state: PartitionState,
    pub brokers: BTreeMap<NodeId, Broker>,
}

impl Meta {
    pub fn assignment(&self) -> Assignment {
        let active = self.brokers.iter().filter(|(_, broker)| !broker.fenced);
        Assignment {
            state: self.state.clone(),
            eligible: active.map(|(node, broker)| (*node, broker.epoch)).collect(),
        }
    }

    fn may_lead(&self, node: NodeId) -> bool {
        self.brokers.get(&node).is_some_and(|broker| !broker.fenced)
    }
}

/// A request for another ISR.
#[derive(Clone, Debug)]
pub struct AlterIsr {
    pub node: NodeId,
    pub broker_epoch: BrokerEpoch,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: PartitionEpoch,
    pub isr: Vec<(NodeId, BrokerEpoch)>,
}

/// See the module.
pub struct Controller {
    versions: Vec<Rc<Meta>>,
    min_insync: usize,
}

impl Controller {
    pub fn new(replicas: &[NodeId], min_insync: usize) -> Self {
        let state = PartitionState {
            leader: None,
            leader_epoch: LeaderEpoch::ZERO,
            partition_epoch: PartitionEpoch::ZERO,
            replicas: replicas.to_vec(),
            isr: Vec::new(),
            // A partition is created with all of its replicas in the ISR; here they are eligible until they register.
            elr: replicas.to_vec(),
            recovery: LeaderRecovery::Recovered,
        };
        let meta = Meta { state, brokers: BTreeMap::new() };
        Self { versions: vec![Rc::new(meta)], min_insync }
    }

    pub fn now(&self) -> &Rc<Meta> {
        self.versions.last().expect("there is a first version")
    }

    pub fn version(&self) -> usize {
        self.versions.len() - 1
    }

    pub fn at(&self, version: usize) -> &Rc<Meta> {
        &self.versions[version]
    }

    fn commit(&mut self, meta: Meta) {
        self.versions.push(Rc::new(meta));
    }

    /// A process registers. It is fenced until it has caught up; its predecessor is in no ISR any more.
    pub fn register(&mut self, node: NodeId, directory: DirectoryId) -> BrokerEpoch {
        let mut meta = Meta::clone(self.now());
        let wiped = meta.brokers.get(&node).is_some_and(|known| known.directory != directory);
        let epoch = BrokerEpoch::new(self.versions.len() as u64);
        meta.brokers.insert(node, Broker { epoch, directory, fenced: true });
        let stay: Vec<_> = meta.state.isr.iter().copied().filter(|member| *member != node).collect();
        self.change(&mut meta, stay, wiped.then_some(node));
        self.commit(meta);
        epoch
    }

    pub fn unfence(&mut self, node: NodeId, epoch: BrokerEpoch) {
        let mut meta = Meta::clone(self.now());
        let Some(broker) =
            meta.brokers.get_mut(&node).filter(|broker| broker.epoch == epoch && broker.fenced)
        else {
            return;
        };
        broker.fenced = false;
        let isr = meta.state.isr.clone();
        self.change(&mut meta, isr, None);
        self.commit(meta);
    }

    /// A session is lost; `false` when there is nothing to do.
    pub fn fence(&mut self, node: NodeId) -> bool {
        let mut meta = Meta::clone(self.now());
        let Some(broker) = meta.brokers.get_mut(&node).filter(|broker| !broker.fenced) else { return false };
        broker.fenced = true;
        let stay = meta.state.isr.iter().copied().filter(|member| *member != node).collect();
        self.change(&mut meta, stay, None);
        self.commit(meta);
        true
    }

    /// Moves the leadership to another member of the ISR.
    pub fn prefer(&mut self, node: NodeId) {
        let mut meta = Meta::clone(self.now());
        if meta.state.isr.contains(&node) && meta.may_lead(node) && meta.state.leader != Some(node) {
            meta.state.leader = Some(node);
            meta.state.leader_epoch = meta.state.leader_epoch.next();
            meta.state.partition_epoch = meta.state.partition_epoch.next();
            self.commit(meta);
        }
    }

    /// Answers from an older version: a controller that was deposed and does not know.
    pub fn alter_isr_stale(&self, request: &AlterIsr, version: usize) -> IsrOutcome {
        match judge(self.at(version), request, self.min_insync) {
            Ok(Verdict::Change) => IsrOutcome::Failed(ErrorCode::NotController),
            Ok(Verdict::DoneBefore) => IsrOutcome::Applied(self.at(version).state.clone()),
            Err(code) => IsrOutcome::Failed(code),
        }
    }

    pub fn alter_isr(&mut self, request: &AlterIsr) -> IsrOutcome {
        match judge(self.now(), request, self.min_insync) {
            Err(code) => return IsrOutcome::Failed(code),
            Ok(Verdict::DoneBefore) => return IsrOutcome::Applied(self.now().state.clone()),
            Ok(Verdict::Change) => {}
        }
        let mut meta = Meta::clone(self.now());
        self.change(&mut meta, request.isr.iter().map(|(node, _)| *node).collect(), None);
        let outcome = match meta.state.leader == Some(request.node) {
            true => IsrOutcome::Applied(meta.state.clone()),
            false => IsrOutcome::Failed(ErrorCode::NewLeaderElected),
        };
        self.commit(meta);
        outcome
    }

    /// The next state with this ISR.
    fn change(&self, meta: &mut Meta, isr: Vec<NodeId>, emptied: Option<NodeId>) {
        let before = meta.state.clone();
        let was_eligible = |node: &NodeId| before.isr.contains(node) || meta.state.elr.contains(node);
        let enough = self.min_insync.min(before.replicas.len());
        let mut elr: Vec<_> = (before.replicas.iter().copied())
            .filter(|node| was_eligible(node) && !isr.contains(node) && emptied != Some(*node))
            .collect();
        let mut isr = isr;
        let leader = before.leader.filter(|leader| isr.contains(leader));
        let leader = leader.or_else(|| {
            let from = if isr.is_empty() { &elr } else { &isr };
            before.replicas.iter().copied().find(|node| from.contains(node) && meta.may_lead(*node))
        });
        if let Some(leader) = leader
            && !isr.contains(&leader)
        {
            isr = vec![leader];
            elr.retain(|node| *node != leader);
        }
        if isr.len() >= enough {
            elr.clear();
        }
        let changed = (&before.isr, before.leader, &meta.state.elr) != (&isr, leader, &elr);
        meta.state.elr = elr;
        meta.state.isr = isr;
        meta.state.leader = leader;
        if before.leader != leader {
            meta.state.leader_epoch = before.leader_epoch.next();
        }
        if changed {
            meta.state.partition_epoch = before.partition_epoch.next();
        }
    }
}

enum Verdict {
    Change,
    DoneBefore,
}

fn judge(meta: &Meta, request: &AlterIsr, min_insync: usize) -> Result<Verdict, ErrorCode> {
    let state = &meta.state;
    if meta.brokers.get(&request.node).is_none_or(|broker| broker.epoch != request.broker_epoch) {
        return Err(ErrorCode::StaleBrokerEpoch);
    }
    if request.leader_epoch > state.leader_epoch || request.partition_epoch > state.partition_epoch {
        return Err(ErrorCode::NotController);
    }
    if request.leader_epoch < state.leader_epoch {
        return Err(ErrorCode::FencedLeaderEpoch);
    }
    let members: Vec<NodeId> = request.isr.iter().map(|(node, _)| *node).collect();
    if state.leader != Some(request.node) {
        return Err(ErrorCode::InvalidRequest);
    }
    // A leader that steps down leaves enough behind that have all.
    let steps_down = !members.contains(&request.node);
    if steps_down && request.partition_epoch == state.partition_epoch {
        let enough = min_insync.min(state.replicas.len());
        if members.len() < enough || !members.iter().all(|node| state.isr.contains(node)) {
            return Err(ErrorCode::IneligibleReplica);
        }
    }
    if request.partition_epoch < state.partition_epoch {
        let same = members.len() == state.isr.len() && members.iter().all(|node| state.isr.contains(node));
        return if same { Ok(Verdict::DoneBefore) } else { Err(ErrorCode::InvalidUpdateVersion) };
    }
    for (node, epoch) in &request.isr {
        if meta.brokers.get(node).is_none_or(|broker| broker.fenced || broker.epoch != *epoch) {
            return Err(ErrorCode::IneligibleReplica);
        }
    }
    Ok(Verdict::Change)
}
