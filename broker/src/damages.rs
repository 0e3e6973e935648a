//! What is known of this broker's damaged replicas: from when damage is found until the controller knows that the replica has
//! begun anew.
//!
//! A damaged replica is not served. The controller is told, and takes it out of the ISR and ELR. Once it has recorded that,
//! and another replica leads, the files are deleted, the log begins empty, and the controller is told of that too. Until
//! then metadata keep the replica out of every ISR, so that a crash at any point repeats a step at the most.
//!
//! A replica that a later release wrote goes the same way as far as the controller is concerned, but this process leaves its
//! files as they are.
//!
//! Shards find and repair, a task tells the controller; both meet here. Knows neither files nor connections.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use vltava_metadata::{Image, PartitionImage};
use vltava_model::{LeaderEpoch, NodeId, PartitionEpoch, TopicPartition};
use vltava_proto::v1::ReplicaCondition;
use vltava_threads::lock;

/// Why a replica can't be served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// Its bytes are not what was written.
    Damage,
    /// A later release wrote some of it.
    NewerFormat,
}

/// How far the repair of a replica has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// It is not served. The controller has recorded it when it names the replica in a leader epoch above `above`: the newest
    /// one in which this process may have told a leader how much it had.
    Found { above: Option<LeaderEpoch>, cause: Cause },
    /// It began anew when the partition was in this partition epoch.
    BegunAnew { seen: PartitionEpoch },
    /// All of it was read and found right when the partition was in this partition epoch.
    Restored { seen: PartitionEpoch },
}

struct Finding {
    what: Arc<str>,
    stage: Stage,
    advised: bool,
}

/// What may be done with a replica now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Nothing is known against it.
    Open,
    /// It is damaged, and others have what it had: it may be deleted.
    BeginAnew,
    /// It is damaged; the controller has not recorded it yet.
    Unrecorded,
    /// It is damaged, and nobody leads: it may be the only one that has everything.
    Leaderless,
    /// A later release wrote it: it is neither served nor touched.
    LeftAlone,
}

/// What the controller is to be told of one replica.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Which.
    pub partition: TopicPartition,
    /// The leader epoch that this broker knows.
    pub leader_epoch: LeaderEpoch,
    /// How it is.
    pub condition: ReplicaCondition,
    /// What was found.
    pub what: Arc<str>,
}

/// See the module.
#[derive(Default)]
pub struct Damages {
    known: Mutex<BTreeMap<TopicPartition, Finding>>,
    news: Notify,
}

impl Damages {
    /// Notes damage. `above` is the newest leader epoch in which this process may have told a leader how much the replica
    /// had; `None` when it was never opened. False when it was known.
    pub fn found(
        &self,
        partition: TopicPartition,
        above: Option<LeaderEpoch>,
        cause: Cause,
        what: &str,
    ) -> bool {
        let mut known = lock(&self.known);
        let is_known = matches!(known.get(&partition), Some(Finding { stage: Stage::Found { .. }, .. }));
        if !is_known {
            let finding = Finding { what: what.into(), stage: Stage::Found { above, cause }, advised: false };
            known.insert(partition, finding);
        }
        drop(known);
        self.news.notify_one();
        !is_known
    }

    /// What may be done with `node`'s replica, by committed metadata.
    pub fn verdict(&self, partition: TopicPartition, node: NodeId, image: &PartitionImage) -> Verdict {
        let recorded = match lock(&self.known).get(&partition).map(|finding| finding.stage) {
            Some(Stage::Found { cause: Cause::NewerFormat, .. }) => return Verdict::LeftAlone,
            Some(Stage::Found { above, cause: Cause::Damage }) => {
                image.is_damaged(node) && above.is_none_or(|above| image.leader_epoch > above)
            }
            // Metadata will say so as well.
            Some(Stage::BegunAnew { .. } | Stage::Restored { .. }) => return Verdict::Open,
            None if image.is_damaged(node) => true,
            None => return Verdict::Open,
        };
        match image.leader {
            _ if !recorded => Verdict::Unrecorded,
            Some(leader) if leader != node => Verdict::BeginAnew,
            Some(_) | None => Verdict::Leaderless,
        }
    }

    /// The replica begins with an empty log; metadata were in this partition epoch.
    pub fn begun_anew(&self, partition: TopicPartition, seen: PartitionEpoch) {
        self.advance(partition, Stage::BegunAnew { seen });
    }

    /// All of the replica was found right; metadata were in this partition epoch.
    pub fn restored(&self, partition: TopicPartition, seen: PartitionEpoch) {
        self.advance(partition, Stage::Restored { seen });
    }

    fn advance(&self, partition: TopicPartition, stage: Stage) {
        let mut known = lock(&self.known);
        let what = known.remove(&partition).map_or_else(|| "".into(), |finding| finding.what);
        known.insert(partition, Finding { what, stage, advised: false });
        drop(known);
        self.news.notify_one();
    }

    /// The replica is held here no more.
    pub fn forget(&self, partition: TopicPartition) {
        lock(&self.known).remove(&partition);
    }

    /// What was found in a replica that is not served for it.
    pub fn what(&self, partition: TopicPartition) -> Option<Arc<str>> {
        let known = lock(&self.known);
        let finding = known.get(&partition)?;
        matches!(finding.stage, Stage::Found { .. }).then(|| finding.what.clone())
    }

    /// Whether an operator is to be told what to do, which is said once.
    pub fn advise_once(&self, partition: TopicPartition) -> Option<Arc<str>> {
        let mut known = lock(&self.known);
        let finding = known.get_mut(&partition)?;
        (!std::mem::replace(&mut finding.advised, true)).then(|| finding.what.clone())
    }

    /// How many replicas are not served.
    pub fn count(&self) -> usize {
        let known = lock(&self.known);
        known.values().filter(|finding| matches!(finding.stage, Stage::Found { .. })).count()
    }

    /// What the controller has not recorded yet, by committed metadata; forgets what is over.
    pub fn pending(&self, node: NodeId, image: &Image) -> Vec<Report> {
        let mut reports = Vec::new();
        lock(&self.known).retain(|of, finding| {
            let Some(partition) = image.partition(*of) else { return true };
            let is_damaged = partition.is_damaged(node);
            let condition = match finding.stage {
                Stage::Found { above, .. } => {
                    // Metadata that are older than the damage say nothing of it.
                    let is_behind = above.is_some_and(|above| partition.leader_epoch < above);
                    let recorded = is_damaged && above.is_none_or(|above| partition.leader_epoch > above);
                    (!is_behind && !recorded).then_some(ReplicaCondition::Damaged)
                }
                Stage::BegunAnew { seen } | Stage::Restored { seen } if partition.partition_epoch < seen => {
                    None
                }
                Stage::BegunAnew { .. } | Stage::Restored { .. } if !is_damaged => return false,
                Stage::BegunAnew { .. } => Some(ReplicaCondition::BegunAnew),
                Stage::Restored { .. } => Some(ReplicaCondition::Whole),
            };
            reports.extend(condition.map(|condition| Report {
                partition: *of,
                leader_epoch: partition.leader_epoch,
                condition,
                what: finding.what.clone(),
            }));
            true
        });
        reports
    }

    /// Waits for the next news since the last time.
    pub async fn news(&self) {
        self.news.notified().await;
    }
}

#[cfg(test)]
mod tests;
