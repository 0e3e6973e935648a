//! The checkpoint of recovery points: up to where each log of a directory is known to be synced in its segments.
//!
//! Knows its file, not when a point may be believed or has to be lowered.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use vltava_model::{Offset, PartitionIndex, TopicId, TopicPartition};
use vltava_storage::Storage;
use vltava_storage::checkpoint::{CheckpointKind, read_checkpoint, write_checkpoint};

/// Its name.
pub(super) const FILE: &str = "recovery-point-offset-checkpoint";
const KIND: CheckpointKind = CheckpointKind(*b"rcvp");
const VERSION: u16 = 1;
const POINT_BYTES: usize = 28;

/// See the module.
pub(super) struct Points {
    pub(super) known: BTreeMap<TopicPartition, Offset>,
    /// Whether the file could be read: if so, a log that it lacks was never synced.
    pub(super) source: Source,
}

/// Where [`Points`] come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Read,
    Lost,
}

impl Points {
    /// What the file in the log directory `path` says.
    pub(super) fn read(storage: &dyn Storage, path: &Path) -> Self {
        let found = read_checkpoint(storage, &path.join(FILE), KIND);
        let (payload, source) = match found {
            Ok(Some(checkpoint)) if checkpoint.version == VERSION => (checkpoint.payload, Source::Read),
            // Not written yet: nothing was synced yet.
            Ok(None) => (Vec::new(), Source::Read),
            Ok(Some(_)) => (Vec::new(), Source::Lost),
            Err(error) => {
                tracing::warn!(%error, "recovery points can't be read: all logs are read whole");
                (Vec::new(), Source::Lost)
            }
        };
        Self { known: payload.chunks_exact(POINT_BYTES).filter_map(decode).collect(), source }
    }

    /// Those of a directory that is damaged: nobody knows what was synced.
    pub(super) fn lost() -> Self {
        Self { known: BTreeMap::new(), source: Source::Lost }
    }

    /// Makes the file in the log directory `path` say all that is known, durably.
    ///
    /// # Errors
    /// What the disk says; the file is as it was then.
    pub(super) fn write(&self, storage: &dyn Storage, path: &Path) -> io::Result<()> {
        let mut payload = Vec::with_capacity(self.known.len() * POINT_BYTES);
        for (partition, offset) in &self.known {
            payload.extend_from_slice(&partition.topic.to_bytes());
            payload.extend_from_slice(&partition.partition.get().to_be_bytes());
            payload.extend_from_slice(&offset.get().to_be_bytes());
        }
        write_checkpoint(storage, &path.join(FILE), KIND, VERSION, &payload)
    }

    /// Up to where a log is synced; `None` when nobody knows.
    pub(super) fn of(&self, partition: TopicPartition) -> Option<Offset> {
        match (self.known.get(&partition), self.source) {
            (Some(point), _) => Some(*point),
            (None, Source::Read) => Some(Offset::ZERO),
            (None, Source::Lost) => None,
        }
    }
}

fn decode(bytes: &[u8]) -> Option<(TopicPartition, Offset)> {
    let topic = TopicId::from_slice(bytes.get(..16)?)?;
    let partition = u32::from_be_bytes(bytes.get(16..20)?.try_into().ok()?);
    let offset = u64::from_be_bytes(bytes.get(20..28)?.try_into().ok()?);
    Some((TopicPartition::new(topic, PartitionIndex::new(partition)), Offset::new(offset)))
}
