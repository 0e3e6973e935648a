//! One partition's next state: who is in the ISR, who stays eligible outside it, who leads (KIP-966).
//!
//! Pure, and blind to why a replica leaves: the caller says whom it wants in the ISR and whose log it doubts. It must not
//! know brokers, sessions or configs.
//!
//! The rules, in the order in which they apply:
//! - A leader that stays in the ISR stays the leader. Whoever must not lead any more is taken out of the ISR first.
//! - Else the first replica, in the order of the assignment, that is in the ISR and may lead.
//! - Else, with an empty ISR, the first eligible replica (ELR) that may lead; it becomes the ISR.
//! - Else, with nobody eligible at all, the last leader if it may lead: all that could have had more said that it may have
//!   lost some, so waiting gains nothing. It recovers. But where one that was eligible is damaged, an operator may still
//!   restore it: then nobody is elected so.
//! - Else, only if an unclean election is allowed, any replica that may lead: one that was eligible before others, one that is
//!   known to have begun anew last. It recovers, and nobody else is eligible.
//!
//! A damaged replica is neither in the ISR nor in the ELR, and is never elected. When one is found, the leader epoch is raised
//! even if the leader stays: what that leader was told of the replica's log must not count any more, since its broker will
//! begin anew. As long as nobody leads it stays known as one that was eligible, so that it counts again if it is restored.
//!
//! The ELR holds those that left the ISR while it was smaller than `min.insync.replicas`: no record was committed without
//! them, because a leader moves its high watermark only with an ISR of at least that size. An ISR that is large enough
//! empties it.

use std::sync::Arc;

use vltava_metadata::{DamagedReplica, LeaderRecovery, PartitionImage};
use vltava_model::NodeId;
use vltava_model::seeded::{SeededBug, seeded};

/// Whether a replica that lacks committed records may lead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unclean {
    /// Never.
    Forbidden,
    /// When nobody else can.
    Allowed,
}

/// Why a replica that leaves the ISR or ELR may not be eligible.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Doubt {
    /// Its process died without closing its log, and its topic does not sync what it acknowledges.
    MayLackRecords,
    /// Its directory is gone, or was deleted since it was damaged: it begins anew.
    IsEmpty,
    /// Bytes of it are not what was written.
    IsDamaged,
}

/// What a partition's topic says about its elections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// `min.insync.replicas`.
    pub min_insync_replicas: u32,
    /// `unclean.leader.election.enable`.
    pub unclean: Unclean,
}

/// Builds a partition's next state.
pub struct PartitionChange<'a> {
    before: &'a PartitionImage,
    rules: Rules,
    may_lead: &'a dyn Fn(NodeId) -> bool,
    isr: Vec<NodeId>,
    doubted: Option<(NodeId, Doubt)>,
    damaged: Vec<DamagedReplica>,
    restored: Option<NodeId>,
    prefer: Option<NodeId>,
    recovery: LeaderRecovery,
}

/// Who leads next.
enum Elected {
    Nobody,
    Clean(NodeId),
    Unclean(NodeId),
}

impl<'a> PartitionChange<'a> {
    /// Begins with the state as it is. `may_lead` says whether a replica may be elected: its broker lives, is not shutting
    /// down, and the directory works.
    pub fn of(before: &'a PartitionImage, rules: Rules, may_lead: &'a dyn Fn(NodeId) -> bool) -> Self {
        Self {
            before,
            rules,
            may_lead,
            isr: before.isr.clone(),
            doubted: None,
            damaged: before.damaged.clone(),
            restored: None,
            prefer: None,
            recovery: before.leader_recovery,
        }
    }

    /// Sets the ISR that is wanted.
    #[must_use]
    pub fn with_isr(mut self, isr: Vec<NodeId>) -> Self {
        self.isr = isr;
        self
    }

    /// Takes a replica out of the ISR.
    #[must_use]
    pub fn without(mut self, node: NodeId) -> Self {
        self.isr.retain(|member| *member != node);
        self
    }

    /// Takes a replica out of the ISR whose log is in doubt.
    #[must_use]
    pub fn doubting(mut self, node: NodeId, doubt: Doubt) -> Self {
        self.doubted = Some((node, doubt));
        self.without(node)
    }

    /// Takes a damaged replica out of the ISR and ELR, and raises the leader epoch.
    #[must_use]
    pub fn damaged(mut self, node: NodeId, what: Arc<str>) -> Self {
        let before = self.before;
        let known = before.damaged.iter().any(|damaged| damaged.node == node && damaged.was_eligible);
        let was_eligible = known || before.isr.contains(&node) || before.elr.contains(&node);
        self.damaged.retain(|damaged| damaged.node != node);
        self.damaged.push(DamagedReplica { node, what, was_eligible });
        self.doubting(node, Doubt::IsDamaged)
    }

    /// A damaged replica was restored to what it was: eligible if it was, and nobody has led since.
    #[must_use]
    pub fn restored(mut self, node: NodeId) -> Self {
        let was_eligible = |damaged: &DamagedReplica| damaged.node == node && damaged.was_eligible;
        self.restored = self.damaged.iter().any(was_eligible).then_some(node);
        self.damaged.retain(|damaged| damaged.node != node);
        self
    }

    /// Elects the first replica of the assignment if it is in the ISR, even if another leads.
    #[must_use]
    pub fn preferring_first(mut self) -> Self {
        self.prefer = self.before.preferred_leader();
        self
    }

    /// Sets how far the leader has recovered.
    #[must_use]
    pub fn with_recovery(mut self, recovery: LeaderRecovery) -> Self {
        self.recovery = recovery;
        self
    }

    /// The next state, epochs raised; `None` when it is the same.
    pub fn build(self) -> Option<PartitionImage> {
        let mut after = self.before.clone();
        after.isr.clone_from(&self.isr);
        after.leader_recovery = self.recovery;
        after.damaged.clone_from(&self.damaged);
        match self.doubted {
            Some((node, Doubt::IsEmpty)) => {
                after.damaged.retain(|damaged| damaged.node != node);
                after.emptied.retain(|emptied| *emptied != node);
                after.emptied.push(node);
            }
            Some((node, Doubt::MayLackRecords)) => {
                let of_node = after.damaged.iter_mut().filter(|damaged| damaged.node == node);
                of_node.for_each(|damaged| damaged.was_eligible = false);
            }
            Some((_, Doubt::IsDamaged)) | None => {}
        }
        self.keep_eligible(&mut after);
        let elected = self.elect(&after);
        match elected {
            Elected::Nobody => after.leader = None,
            Elected::Clean(leader) => after.leader = Some(leader),
            Elected::Unclean(leader) => {
                after.leader = Some(leader);
                after.leader_recovery = LeaderRecovery::Recovering;
            }
        }
        if let Some(leader) = after.leader
            && !after.isr.contains(&leader)
        {
            after.isr = vec![leader];
            self.keep_eligible(&mut after);
        }
        if matches!(elected, Elected::Unclean(_)) {
            after.last_known_elr.append(&mut after.elr);
        }
        self.remember_last_leader(&mut after);
        let PartitionImage { isr, emptied, .. } = &mut after;
        emptied.retain(|node| !isr.contains(node));
        if after.leader.is_some() {
            // They will begin anew.
            after.damaged.iter_mut().for_each(|damaged| damaged.was_eligible = false);
        }
        let found_damaged = matches!(self.doubted, Some((_, Doubt::IsDamaged)));
        if after == *self.before && !found_damaged {
            return None;
        }
        let is_other = after.leader != self.before.leader || found_damaged;
        if is_other && !seeded(SeededBug::KeepsLeaderEpoch) {
            after.leader_epoch = after.leader_epoch.next();
        }
        after.partition_epoch = after.partition_epoch.next();
        Some(after)
    }

    fn elect(&self, after: &PartitionImage) -> Elected {
        let in_order = || self.before.replicas.iter().copied();
        let may_lead = |node: &NodeId| (self.may_lead)(*node) && !after.is_damaged(*node);
        if let Some(first) = self.prefer.filter(|node| after.isr.contains(node)).filter(may_lead) {
            return Elected::Clean(first);
        }
        if let Some(leader) = self.before.leader.filter(|leader| after.isr.contains(leader)) {
            return Elected::Clean(leader);
        }
        if let Some(member) = in_order().filter(|node| after.isr.contains(node)).find(may_lead) {
            return Elected::Clean(member);
        }
        if !after.isr.is_empty() {
            return Elected::Nobody;
        }
        if let Some(eligible) = in_order().filter(|node| after.elr.contains(node)).find(may_lead) {
            return Elected::Clean(eligible);
        }
        let last_leader = self.last_leader(after).filter(|node| after.has_replica(*node)).filter(may_lead);
        let may_be_restored = after.damaged.iter().any(|damaged| damaged.was_eligible);
        if after.elr.is_empty()
            && !may_be_restored
            && let Some(leader) = last_leader
        {
            return Elected::Unclean(leader);
        }
        if seeded(SeededBug::ElectsOutOfSync) {
            return in_order().find(may_lead).map_or(Elected::Nobody, Elected::Clean);
        }
        match self.rules.unclean {
            Unclean::Forbidden => Elected::Nobody,
            Unclean::Allowed => {
                // Who is in the ISR or ELR and may lead has been elected by now.
                let lacks =
                    |node: &NodeId| (after.emptied.contains(node), !after.last_known_elr.contains(node));
                let least = in_order().filter(may_lead).min_by_key(lacks);
                least.map_or(Elected::Nobody, Elected::Unclean)
            }
        }
    }

    /// Brings ELR and last known ELR in line with the ISR.
    fn keep_eligible(&self, after: &mut PartitionImage) {
        let replica_count = u32::try_from(after.replicas.len()).expect("replicas are distinct u32 numbers");
        let enough = self.rules.min_insync_replicas.min(replica_count).max(1);
        if u32::try_from(after.isr.len()).is_ok_and(|size| size >= enough) {
            after.elr.clear();
            after.last_known_elr.clear();
            return;
        }
        let doubt =
            |node: NodeId| self.doubted.filter(|(doubted, _)| *doubted == node).map(|(_, doubt)| doubt);
        let before = self.before;
        let was_eligible = |node: &NodeId| {
            before.isr.contains(node) || before.elr.contains(node) || self.restored == Some(*node)
        };
        let outside = |node: &NodeId| !after.isr.contains(node);
        let elr: Vec<_> = (before.replicas.iter().copied())
            .filter(was_eligible)
            .filter(outside)
            .filter(|node| doubt(*node).is_none())
            .collect();
        let given_up = before.replicas.iter().copied().filter(was_eligible);
        let mut last_known: Vec<NodeId> = Vec::new();
        for node in before.last_known_elr.iter().copied().chain(given_up) {
            let stays = outside(&node) && !elr.contains(&node) && doubt(node) != Some(Doubt::IsEmpty);
            if stays && !last_known.contains(&node) {
                last_known.push(node);
            }
        }
        after.elr = elr;
        after.last_known_elr = last_known;
    }

    /// Who led last, unless its log is empty now.
    fn last_leader(&self, after: &PartitionImage) -> Option<NodeId> {
        let last = match self.before.leader {
            Some(leader) => Some(leader),
            None => self.before.last_known_elr.first().copied(),
        };
        last.filter(|node| !self.doubted.is_some_and(|doubted| doubted == (*node, Doubt::IsEmpty)))
            .filter(|node| after.has_replica(*node))
    }

    /// Without a leader, the last one heads the last known ELR, even while it is still eligible.
    fn remember_last_leader(&self, after: &mut PartitionImage) {
        if after.leader.is_none()
            && let Some(last) = self.last_leader(after)
        {
            after.last_known_elr.retain(|node| *node != last);
            after.last_known_elr.insert(0, last);
        }
    }
}

#[cfg(test)]
mod tests;
