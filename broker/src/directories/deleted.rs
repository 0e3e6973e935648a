//! Replicas that are deleted: what the journal and the recovery points are told of it, and their files.
//!
//! Knows not why they go.

use std::collections::BTreeMap;
use std::sync::Arc;

use vltava_commitlog::durability::{EntryBody, Journal, JournalEntry, SubmitError};
use vltava_metadata::Image;
use vltava_model::{DirectoryId, LeaderEpoch, NodeId, Offset, TopicPartition};
use vltava_threads::{Bell, lock, queue};

use super::points::Source;
use super::{Directories, Directory};

impl Directories {
    /// Deletes partitions' directories. The journal was told.
    pub fn delete(&self, partitions: &[TopicPartition]) {
        let mut doomed: BTreeMap<DirectoryId, Vec<TopicPartition>> = BTreeMap::new();
        for partition in partitions {
            if let Some(id) = lock(&self.placed).remove(*partition) {
                doomed.entry(id).or_default().push(*partition);
            }
        }
        for (id, partitions) in doomed {
            self.forget_claims(id, &partitions);
            for partition in partitions {
                let deleted = lock(&self.get(id).handle).delete_partition(partition);
                if let Err(error) = deleted {
                    tracing::error!(%partition, %error, "cannot delete a partition's directory");
                    self.fail(id, &error.to_string());
                }
            }
        }
    }

    /// Makes the recovery points say nothing of partitions any more, durably: what they claim of one that is deleted would be
    /// missed in a replica that is placed here later, which is empty.
    fn forget_claims(&self, id: DirectoryId, partitions: &[TopicPartition]) {
        let directory = self.get(id);
        let mut points = lock(&directory.points);
        let claims = partitions.iter().filter(|partition| points.known.remove(partition).is_some()).count();
        if claims == 0 || points.source == Source::Lost {
            return;
        }
        if let Err(error) = points.write(&*directory.storage, &directory.path) {
            tracing::warn!(directory = %directory.path.display(), %error, "cannot forget recovery points: if such a replica comes back now, it counts as damaged");
        }
    }

    /// Deletes what lies here but is not this broker's (any more) by the metadata that it has caught up with.
    pub async fn remove_strays(self: &Arc<Self>, image: &Image, node: NodeId) {
        let is_stray = |partition: &TopicPartition| {
            !image.partition(*partition).is_some_and(|known| known.has_replica(node))
        };
        let strays: Vec<_> = lock(&self.placed).iter().filter(|(partition, _)| is_stray(partition)).collect();
        // Claims that outlived their partitions.
        let claims = |directory: &Directory| -> Vec<_> {
            lock(&directory.points).known.keys().copied().filter(is_stray).collect()
        };
        let claims: Vec<_> = self.all.iter().map(|(id, directory)| (*id, claims(directory))).collect();
        if strays.is_empty() && claims.iter().all(|(_, claims)| claims.is_empty()) {
            return;
        }
        tracing::info!(
            partitions = strays.len(),
            "deleting partitions that were deleted or moved while this broker was away"
        );
        let this = self.clone();
        let deleting = vltava_threads::offload_waiting(move || {
            for (partition, id) in &strays {
                this.tell_journal_of_deletion(*partition, *id);
            }
            claims.iter().for_each(|(id, claims)| this.forget_claims(*id, claims));
            this.delete(&strays.iter().map(|(partition, _)| *partition).collect::<Vec<_>>());
        });
        if let Err(error) = deleting.await {
            std::panic::resume_unwind(error.into_panic());
        }
    }

    /// A replay must not bring a deleted partition back.
    pub fn tell_journal_of_deletion(&self, partition: TopicPartition, id: DirectoryId) {
        let Some(journal) = self.journal(id) else { return };
        // A failed journal takes its directory offline by itself.
        if let Err(error) = tell_of_deletion(&journal, partition) {
            tracing::warn!(%partition, %error, "the journal was not told of a deletion");
        }
    }

    /// A log that was deleted is there again: a replay must not delete what it gets from now on, all of which the journal may
    /// never see. Not waited for: before the replay is done the journal may have no room.
    pub(super) fn tell_journal_of_beginning(
        &self,
        partition: TopicPartition,
        id: DirectoryId,
        start: Offset,
    ) -> std::io::Result<()> {
        let journal =
            self.journal(id).ok_or_else(|| std::io::Error::other("the journal is not to be had"))?;
        let body = EntryBody::StartOffset { to: start };
        let entry = JournalEntry { partition, leader_epoch: LeaderEpoch::ZERO, body };
        // A failure takes the directory offline by itself.
        let told = journal.submit(vec![entry], Box::new(|_| ()));
        told.map_err(|refused| std::io::Error::other(refused.error))
    }
}

/// Why a journal does not say of a partition that it is deleted.
#[derive(Debug, thiserror::Error)]
pub(super) enum Untold {
    /// It takes nothing now.
    #[error(transparent)]
    Refused(#[from] SubmitError),
    /// It took it, and failed.
    #[error("the journal has failed")]
    Failed,
}

/// Tells a journal that a partition is deleted, and waits until that is durable.
pub(super) fn tell_of_deletion(journal: &Journal, partition: TopicPartition) -> Result<(), Untold> {
    let entry = JournalEntry { partition, leader_epoch: LeaderEpoch::ZERO, body: EntryBody::Delete };
    let (done, finished) = queue::bounded(&Bell::new(), 1);
    let told = journal.submit(vec![entry], Box::new(move |result| drop(done.send(result))));
    told.map_err(|refused| refused.error)?;
    match vltava_storage::calls::noted(|| finished.recv()) {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Untold::Failed),
    }
}
