//! One partition's state, and what makes a state legal. Knows nothing of elections: it judges facts, it makes none.

use std::sync::Arc;

use vltava_model::{
    DirectoryId, LeaderEpoch, NodeId, PartitionEpoch, PartitionIndex, TopicId, TopicPartition,
};
use vltava_proto::v1::{self, PartitionRecord};

use super::convert::{directory, identity, nodes, raw_nodes};
use crate::error::Fault;

/// How the leader came to lead.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub enum LeaderRecovery {
    /// It has every committed record.
    #[default]
    Recovered,
    /// By an unclean election: committed records may be gone.
    Recovering,
}

/// A replica whose bytes on disk are not what was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DamagedReplica {
    /// The broker that holds it.
    pub node: NodeId,
    /// Which file, where, and what is wrong, for operators.
    pub what: Arc<str>,
    /// Whether it was in the ISR or ELR when it was found damaged, and nobody has led since.
    pub was_eligible: bool,
}

/// A partition's state.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PartitionImage {
    /// The brokers that hold it, the preferred leader first.
    pub replicas: Vec<NodeId>,
    /// The in-sync replicas.
    pub isr: Vec<NodeId>,
    /// Eligible leader replicas outside the ISR.
    pub elr: Vec<NodeId>,
    /// Who was eligible before the ELR was given up; the last leader first.
    pub last_known_elr: Vec<NodeId>,
    /// The leader.
    pub leader: Option<NodeId>,
    /// Raised at each change of leadership.
    pub leader_epoch: LeaderEpoch,
    /// Raised by one at each change.
    pub partition_epoch: PartitionEpoch,
    /// The directory of each replica, in the order of `replicas`; `None` where not yet chosen.
    pub directories: Vec<Option<DirectoryId>>,
    /// How the leader came to lead.
    pub leader_recovery: LeaderRecovery,
    /// Replicas being added by a reassignment.
    pub adding: Vec<NodeId>,
    /// Replicas being removed by a reassignment.
    pub removing: Vec<NodeId>,
    /// Replicas that were found damaged and have not begun anew.
    pub damaged: Vec<DamagedReplica>,
    /// Replicas that began with an empty log and have not been in sync since.
    pub emptied: Vec<NodeId>,
}

impl PartitionImage {
    /// Whether a broker holds a replica.
    pub fn has_replica(&self, node: NodeId) -> bool {
        self.replicas.contains(&node)
    }

    /// Whether a broker's replica was found damaged and has not begun anew.
    pub fn is_damaged(&self, node: NodeId) -> bool {
        self.damaged.iter().any(|damaged| damaged.node == node)
    }

    /// The directory of a broker's replica; `None` when it holds none, or its directory is not yet known.
    pub fn directory_of(&self, node: NodeId) -> Option<DirectoryId> {
        let position = self.replicas.iter().position(|replica| *replica == node)?;
        self.directories.get(position).copied().flatten()
    }

    /// The replica that leads when all is well.
    pub fn preferred_leader(&self) -> Option<NodeId> {
        self.replicas.first().copied()
    }

    /// As a record of the partition `of`.
    pub fn to_record(&self, of: TopicPartition) -> PartitionRecord {
        PartitionRecord {
            topic_id: of.topic.to_bytes().to_vec().into(),
            partition: of.partition.get(),
            replicas: raw_nodes(&self.replicas),
            isr: raw_nodes(&self.isr),
            elr: raw_nodes(&self.elr),
            last_known_elr: raw_nodes(&self.last_known_elr),
            leader: self.leader.map(NodeId::get),
            leader_epoch: self.leader_epoch.get(),
            partition_epoch: self.partition_epoch.get(),
            directories: self
                .directories
                .iter()
                .map(|id| id.unwrap_or_default().to_bytes().to_vec().into())
                .collect(),
            leader_recovery: match self.leader_recovery {
                LeaderRecovery::Recovered => v1::LeaderRecovery::Recovered,
                LeaderRecovery::Recovering => v1::LeaderRecovery::Recovering,
            }
            .into(),
            adding_replicas: raw_nodes(&self.adding),
            removing_replicas: raw_nodes(&self.removing),
            damaged_replicas: self.damaged.iter().map(DamagedReplica::to_proto).collect(),
            emptied_replicas: raw_nodes(&self.emptied),
        }
    }

    /// Reads a record: which partition, and its state, checked for contradictions within itself.
    ///
    /// # Errors
    /// When a field is malformed or contradicts another.
    pub fn from_record(record: &PartitionRecord) -> Result<(TopicPartition, Self), Fault> {
        let topic = identity(&record.topic_id, "topic id", TopicId::from_slice)?;
        let of = TopicPartition::new(topic, PartitionIndex::new(record.partition));
        let image = Self {
            replicas: nodes(&record.replicas),
            isr: nodes(&record.isr),
            elr: nodes(&record.elr),
            last_known_elr: nodes(&record.last_known_elr),
            leader: record.leader.map(NodeId::new),
            leader_epoch: LeaderEpoch::new(record.leader_epoch),
            partition_epoch: PartitionEpoch::new(record.partition_epoch),
            directories: record.directories.iter().map(|id| directory(id)).collect::<Result<_, _>>()?,
            leader_recovery: LeaderRecovery::from_number(record.leader_recovery)?,
            adding: nodes(&record.adding_replicas),
            removing: nodes(&record.removing_replicas),
            damaged: record.damaged_replicas.iter().map(DamagedReplica::from_proto).collect(),
            emptied: nodes(&record.emptied_replicas),
        };
        match image.contradiction() {
            Some(why) => Err(Fault::Partition { of: of.to_string(), why }),
            None => Ok((of, image)),
        }
    }

    /// What is wrong with this state by itself, if anything.
    pub fn contradiction(&self) -> Option<&'static str> {
        let replicas = &self.replicas;
        let among_replicas = |some: &[NodeId]| distinct(some) && some.iter().all(|id| replicas.contains(id));
        if replicas.is_empty() || !distinct(replicas) {
            return Some("its replicas are none or repeat");
        }
        if self.directories.len() != replicas.len() {
            return Some("it names not one directory for each replica");
        }
        if !among_replicas(&self.isr) || !among_replicas(&self.elr) {
            return Some("its ISR or ELR repeats or goes beyond the replicas");
        }
        if self.elr.iter().any(|id| self.isr.contains(id)) {
            return Some("a replica is both in the ISR and in the ELR");
        }
        if !distinct(&self.last_known_elr) {
            return Some("its last known ELR repeats");
        }
        if !among_replicas(&self.adding) || !among_replicas(&self.removing) {
            return Some("its reassignment goes beyond the replicas");
        }
        let damaged: Vec<NodeId> = self.damaged.iter().map(|damaged| damaged.node).collect();
        if !among_replicas(&damaged) || !among_replicas(&self.emptied) {
            return Some("its damaged or emptied replicas repeat or go beyond the replicas");
        }
        let counts = |id: &NodeId| self.isr.contains(id) || self.elr.contains(id) || self.leader == Some(*id);
        if damaged.iter().chain(&self.emptied).any(counts) {
            return Some("a damaged or emptied replica leads or is in the ISR or ELR");
        }
        let leader = self.leader?;
        let eligible = self.isr.contains(&leader) || self.elr.contains(&leader);
        let recovering = self.leader_recovery == LeaderRecovery::Recovering && replicas.contains(&leader);
        if !eligible && !recovering {
            return Some("its leader is neither in the ISR nor in the ELR nor recovering");
        }
        None
    }

    /// Checks that `after` may follow this state of the partition `of`.
    pub(super) fn check_successor(&self, of: TopicPartition, after: &Self) -> Result<(), Fault> {
        if after.partition_epoch != self.partition_epoch.next() {
            return Err(Fault::Epoch {
                what: "partition epoch",
                of: of.to_string(),
                before: self.partition_epoch.get().into(),
                after: after.partition_epoch.get().into(),
            });
        }
        let raised = after.leader_epoch == self.leader_epoch.next();
        let kept = after.leader_epoch == self.leader_epoch && after.leader == self.leader;
        if !raised && !kept {
            return Err(Fault::Epoch {
                what: "leader epoch",
                of: of.to_string(),
                before: self.leader_epoch.get().into(),
                after: after.leader_epoch.get().into(),
            });
        }
        Ok(())
    }
}

impl DamagedReplica {
    /// As records and answers carry it.
    pub fn to_proto(&self) -> v1::DamagedReplica {
        v1::DamagedReplica {
            broker_id: self.node.get(),
            what: self.what.to_string(),
            was_eligible: self.was_eligible,
        }
    }

    fn from_proto(damaged: &v1::DamagedReplica) -> Self {
        Self {
            node: NodeId::new(damaged.broker_id),
            what: damaged.what.as_str().into(),
            was_eligible: damaged.was_eligible,
        }
    }
}

impl LeaderRecovery {
    /// Reads the number that records and requests carry.
    ///
    /// # Errors
    /// When it is none.
    pub fn from_number(number: i32) -> Result<Self, Fault> {
        match v1::LeaderRecovery::try_from(number) {
            Ok(v1::LeaderRecovery::Recovered) => Ok(Self::Recovered),
            Ok(v1::LeaderRecovery::Recovering) => Ok(Self::Recovering),
            Err(_) => Err(Fault::Malformed("leader recovery")),
        }
    }
}

fn distinct(ids: &[NodeId]) -> bool {
    ids.iter().enumerate().all(|(i, id)| !ids[..i].contains(id))
}
