//! What has to be on stable storage before a log that was just opened counts, and who sees to it.
//!
//! Knows nothing of who serves the log.

use vltava_commitlog::log::{Log, LogError, NewerFormat};
use vltava_model::{DirectoryId, Offset, TopicPartition};

use super::{Directories, OpenLogError};

/// Whether a log's appends go to the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Journaling {
    /// All of them.
    Each,
    /// None (`flush.messages` above 1): nothing tells a replay of old frames what came after them.
    None,
}

impl Directories {
    /// Sees to it that all of a log that was just opened is on stable storage: only that counts. Gives its recovery point,
    /// which is to be saved, where it has moved.
    ///
    /// Where the journal has all that may not be durable in the segments, as after a process was killed, it keeps that until
    /// the segments are synced at leisure, and nothing is waited for: a node with thousands of logs serves all the sooner.
    ///
    /// # Errors
    /// [`OpenLogError`].
    pub fn secure(
        &self,
        id: DirectoryId,
        partition: TopicPartition,
        log: &mut Log,
        journaling: Journaling,
    ) -> Result<Option<Offset>, OpenLogError> {
        let is_behind = log.recovery_point() < log.log_end();
        if !is_behind && log.recovery_report().rewritten_bytes == 0 && !log.has_kept_frames() {
            return Ok(None);
        }
        let point = log.sync_point().map_err(broken)?;
        if journaling == Journaling::Each && log.is_kept_by_journal() {
            let journal =
                self.journal(id).ok_or_else(|| std::io::Error::other("the journal is not to be had"))?;
            journal.sync_later(partition, point.up_to, point.files);
            return Ok(None);
        }
        for file in &point.files {
            file.sync_data()?;
        }
        log.synced(&point).map_err(broken)?;
        Ok(Some(log.recovery_point()))
    }
}

fn broken(error: LogError) -> OpenLogError {
    match error {
        LogError::Corrupt(damage) => OpenLogError::Damaged(damage.to_string()),
        LogError::Io(error) if NewerFormat::of(&error).is_some() => OpenLogError::Newer(error.to_string()),
        LogError::Io(error) => OpenLogError::Io(error),
        LogError::FailedBefore => OpenLogError::Io(std::io::Error::other(error)),
    }
}
