//! The in-sync replicas as committed, and a change of them that is under way.
//!
//! While a change is under way, or its outcome is unknown, the high watermark counts every replica that is in either set
//! (the maximal ISR, KIP-497): whichever the controller has committed, nothing is acknowledged that it lacks.

use std::collections::BTreeSet;

use vltava_model::{BrokerEpoch, NodeId, PartitionEpoch};

use crate::event::Time;

/// How long after a failed proposal the next one goes out, in milliseconds.
const RETRY_MS: u64 = 100;

/// Where a change stands.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Change {
    /// None is wanted or known of.
    None,
    /// The controller was asked.
    Proposed(Vec<(NodeId, BrokerEpoch)>),
    /// The controller was asked, but whether it committed is unknown: it stays in force here until metadata tells.
    Unknown { proposal: Vec<(NodeId, BrokerEpoch)>, retry_at: Time },
    /// The controller refused: nothing is proposed for a while.
    Refused { retry_at: Time },
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Isr {
    committed: BTreeSet<NodeId>,
    partition_epoch: PartitionEpoch,
    change: Change,
}

impl Isr {
    /// As committed.
    pub fn new(members: &[NodeId], partition_epoch: PartitionEpoch) -> Self {
        Self { committed: members.iter().copied().collect(), partition_epoch, change: Change::None }
    }

    /// The version on which a proposal is based.
    pub fn partition_epoch(&self) -> PartitionEpoch {
        self.partition_epoch
    }

    /// The committed members.
    pub fn committed(&self) -> &BTreeSet<NodeId> {
        &self.committed
    }

    /// Every replica that may be in the committed ISR now.
    pub fn maximal(&self) -> BTreeSet<NodeId> {
        let mut all = self.committed.clone();
        if let Change::Proposed(proposal) | Change::Unknown { proposal, .. } = &self.change {
            all.extend(proposal.iter().map(|(node, _)| *node));
        }
        all
    }

    /// Whether a change may be proposed now.
    pub fn may_propose(&self, now: Time) -> bool {
        match &self.change {
            Change::None => true,
            Change::Proposed(_) => false,
            Change::Unknown { retry_at, .. } | Change::Refused { retry_at } => *retry_at <= now,
        }
    }

    /// A proposal whose outcome is unknown, which is to be made again before any other.
    pub fn to_repeat(&self) -> Option<&[(NodeId, BrokerEpoch)]> {
        match &self.change {
            Change::Unknown { proposal, .. } => Some(proposal),
            Change::None | Change::Proposed(_) | Change::Refused { .. } => None,
        }
    }

    /// A change is proposed.
    pub fn propose(&mut self, members: Vec<(NodeId, BrokerEpoch)>) {
        self.change = Change::Proposed(members);
    }

    /// Metadata says how it is; older news changes nothing.
    pub fn commit(&mut self, members: &[NodeId], partition_epoch: PartitionEpoch) {
        if partition_epoch > self.partition_epoch {
            *self = Self::new(members, partition_epoch);
        }
    }

    /// The controller certainly did nothing.
    pub fn refused(&mut self, now: Time) {
        self.change = Change::Refused { retry_at: now.plus(RETRY_MS) };
    }

    /// The controller may have committed it.
    pub fn unknown(&mut self, now: Time) {
        if let Change::Proposed(proposal) = &mut self.change {
            let proposal = std::mem::take(proposal);
            self.change = Change::Unknown { proposal, retry_at: now.plus(RETRY_MS) };
        }
    }

    /// Whether a tick may have something to do.
    pub fn wants_tick(&self) -> bool {
        matches!(self.change, Change::Unknown { .. } | Change::Refused { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_change_stays_in_force_until_metadata_tells() {
        let [one, two] = [NodeId::new(1), NodeId::new(2)];
        let mut isr = Isr::new(&[one], PartitionEpoch::new(4));
        isr.propose(vec![(one, BrokerEpoch::ZERO), (two, BrokerEpoch::ZERO)]);
        isr.unknown(Time::from_millis(0));
        assert!(isr.maximal().contains(&two));
        isr.commit(&[one], PartitionEpoch::new(4));
        assert!(isr.maximal().contains(&two), "old news decides nothing");
        isr.commit(&[one], PartitionEpoch::new(5));
        assert!(!isr.maximal().contains(&two));
    }
}
