//! Replicas that are damaged: the marks that keep them so over restarts, what the journal has of them, and how one begins anew.
//!
//! Knows not who finds damage, nor who decides what becomes of it.

use std::path::PathBuf;

use vltava_commitlog::directory::LogDirectory;
use vltava_commitlog::durability::{RecoverError, RecoveredBody, RecoveredFrame};
use vltava_commitlog::log::keep_frames;
use vltava_model::{DirectoryId, Offset, TopicPartition};
use vltava_threads::lock;

use super::Directories;
use super::deleted::tell_of_deletion;

/// Why a damaged replica was not deleted. Nothing is lost by that: it may be tried again.
#[derive(Debug, thiserror::Error)]
pub enum BeginAnewError {
    /// The journal takes nothing now, or has failed.
    #[error("the journal is not to be had")]
    Journal,
    /// The disk refused.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Directories {
    /// Keeps what the journal has of a replica that can't be opened, for when it can: the journal forgets it. Where that can't be
    /// kept, the recovery point says that it has to be there, so that its absence will be noticed.
    pub(super) fn keep_frames(
        &self,
        id: DirectoryId,
        partition: TopicPartition,
        frames: &[RecoveredFrame],
    ) -> std::io::Result<()> {
        use std::io::ErrorKind::{InvalidData, OutOfMemory, StorageFull};
        if frames.is_empty() {
            return Ok(());
        }
        let directory = self.get(id);
        let dir = lock(&directory.handle).partition_path(partition);
        match keep_frames(&*directory.storage, &dir, frames) {
            Err(error) if matches!(error.kind(), InvalidData | OutOfMemory | StorageFull) => {
                tracing::warn!(%partition, %error, "cannot keep what the journal has of a damaged replica");
                let known = lock(&directory.points).known.get(&partition).copied();
                let end = end_of(frames).filter(|end| Some(*end) > known);
                self.save_points(&end.map(|end| (id, partition, end)).into_iter().collect::<Vec<_>>());
                Ok(())
            }
            kept => kept,
        }
    }

    /// What a partition was marked with as damaged, if it was.
    ///
    /// # Errors
    /// What the disk says.
    pub fn damage_mark(&self, id: DirectoryId, partition: TopicPartition) -> std::io::Result<Option<String>> {
        lock(&self.get(id).handle).damage_of(partition)
    }

    /// Where that mark is.
    pub fn damage_mark_path(&self, id: DirectoryId, partition: TopicPartition) -> PathBuf {
        lock(&self.get(id).handle).damage_mark(partition)
    }

    /// Marks a partition as damaged, durably.
    ///
    /// # Errors
    /// What the disk says.
    pub fn mark_damaged(
        &self,
        id: DirectoryId,
        partition: TopicPartition,
        what: &str,
    ) -> std::io::Result<()> {
        lock(&self.get(id).handle).mark_damaged(partition, what)
    }

    /// Deletes a damaged replica with all that the journal and the recovery points say of it, durably, so that it can be
    /// opened empty. Nothing of it may be under way.
    ///
    /// # Errors
    /// [`BeginAnewError`].
    pub fn begin_anew(&self, id: DirectoryId, partition: TopicPartition) -> Result<(), BeginAnewError> {
        let journal = self.journal(id).ok_or(BeginAnewError::Journal)?;
        tell_of_deletion(&journal, partition).map_err(|_| BeginAnewError::Journal)?;
        lock(&self.frames).remove(&partition);
        self.forget_synced(partition);
        let directory = self.get(id);
        lock(&directory.handle).delete_partition(partition)?;
        // A claim about the log that is gone would make the next start miss what it was about.
        let mut points = lock(&directory.points);
        if let Some(claim) = points.known.remove(&partition)
            && let Err(error) = points.write(&*directory.storage, &directory.path)
        {
            // The file still makes it.
            points.known.insert(partition, claim);
            return Err(error.into());
        }
        drop(points);
        Ok(self.tell_journal_of_beginning(partition, id, Offset::ZERO)?)
    }
}

/// What a journal that can't be read held is not known: no log in its directory can be trusted to have everything. The marks
/// come first, so that a crash can't make such a log look whole.
pub(super) fn give_up_journal(handle: &LogDirectory, error: &RecoverError) -> std::io::Result<()> {
    let partitions = handle.partitions()?;
    tracing::error!(directory = %handle.path().display(), %error, partitions = partitions.len(), "the journal is damaged: what only it held is missing in the directory's replicas, which count as damaged");
    for partition in partitions {
        handle
            .mark_damaged(partition, &format!("it may lack records that only the journal held: {error}"))?;
    }
    handle.set_journal_aside()
}

/// Up to where a log reaches by what the journal holds of it.
fn end_of(frames: &[RecoveredFrame]) -> Option<Offset> {
    let mut reached = None;
    for frame in frames {
        reached = match frame.body {
            RecoveredBody::Append { end_offset, .. } | RecoveredBody::Synced { end_offset } => {
                Some(end_offset)
            }
            RecoveredBody::Truncate { to } => reached.map(|end: Offset| end.min(to)),
            RecoveredBody::StartOffset { .. } => reached,
            RecoveredBody::Delete | RecoveredBody::Empty => None,
        };
    }
    reached
}
