//! What may be asked of a replica at any time, without changing it.

use vltava_model::epochs::LeaderEpochs;
use vltava_model::{LeaderEpoch, NodeId, Offset};

use crate::effect::Standing;
use crate::event::{Assignment, ReplicaIdentity};
use crate::machine::{Partition, Role};
use crate::offsets::{LogPosition, Offsets};
use crate::remote::RemoteReplica;
use crate::time::Time;

/// How far a follower has come, for people and metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FollowerView {
    /// The follower.
    pub node: NodeId,
    /// Its log end, when known in this epoch.
    pub log_end: Option<Offset>,
    /// Up to where it is on stable storage, when known in this epoch.
    pub durable_end: Option<Offset>,
}

impl Partition {
    /// Who this replica is.
    pub fn identity(&self) -> ReplicaIdentity {
        self.local
    }

    /// Its role.
    pub fn standing(&self) -> Standing {
        match &self.role {
            Role::Idle => Standing::Idle,
            Role::Failed => Standing::Failed,
            Role::Leader(leader) => {
                Standing::Leading { epoch: leader.epoch(), epoch_start: leader.epoch_start() }
            }
            Role::Follower(follower) => {
                Standing::Following { leader: follower.leader(), epoch: follower.epoch() }
            }
        }
    }

    /// The leader epoch of the metadata that it acts upon.
    pub fn leader_epoch(&self) -> Option<LeaderEpoch> {
        self.assignment.as_ref().map(|known| known.state.leader_epoch)
    }

    /// The newest committed metadata that it knows.
    pub fn assignment(&self) -> Option<&Assignment> {
        self.assignment.as_ref()
    }

    /// Its offsets.
    pub fn offsets(&self) -> Offsets {
        *self.log.offsets()
    }

    /// The high watermark as far as it may be remembered over a crash: a power cut may undo a truncation that is not on
    /// stable storage yet, and what is brought back then must not pass for committed.
    pub fn watermark_to_checkpoint(&self) -> Offset {
        let offsets = self.log.offsets();
        offsets.high_watermark.min(offsets.durable_end)
    }

    /// Where the log ends after all effects so far: to be taken along when they are handed to the disk, and given back in
    /// [`crate::Event::Durable`] when they are on stable storage.
    pub fn log_position(&self) -> LogPosition {
        self.log.position()
    }

    /// The leader epochs of its log.
    pub fn epochs(&self) -> &LeaderEpochs {
        self.log.epochs()
    }

    /// The committed ISR as a leader knows it; empty when it does not lead.
    pub fn isr(&self) -> Vec<NodeId> {
        match &self.role {
            Role::Leader(leader) => leader.isr().committed().iter().copied().collect(),
            Role::Idle | Role::Follower(_) | Role::Failed => Vec::new(),
        }
    }

    /// Whether a replica is, or may be by a change under way, in the ISR of this leader.
    pub fn may_be_in_sync(&self, node: NodeId) -> bool {
        match &self.role {
            Role::Leader(leader) => leader.isr().may_contain(node),
            Role::Idle | Role::Follower(_) | Role::Failed => false,
        }
    }

    /// How far the followers of this leader have come; empty when it does not lead.
    pub fn followers(&self) -> Vec<FollowerView> {
        let Role::Leader(leader) = &self.role else { return Vec::new() };
        let view = |(node, remote): (&NodeId, &RemoteReplica)| FollowerView {
            node: *node,
            log_end: remote.progress().map(|progress| progress.log_end),
            durable_end: remote.progress().map(|progress| progress.durable_end),
        };
        leader.remotes().iter().map(view).collect()
    }

    /// When [`crate::Event::Tick`] is due at the latest, which may be long ago; `None` while nothing waits for time. Ticks in
    /// between do no harm.
    pub fn next_tick(&self) -> Option<Time> {
        match &self.role {
            Role::Idle | Role::Failed => None,
            Role::Follower(follower) => follower.next_tick(),
            Role::Leader(leader) => leader.next_tick(&self.settings, self.log.offsets()),
        }
    }
}
