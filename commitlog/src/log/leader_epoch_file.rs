//! The leader epochs of a log as a checkpoint, under Kafka's name `leader-epoch-checkpoint`.
//!
//! It is complete for all that lies below the recovery point; what lies above is learned from the batches again, as
//! everything is when the file is missing or damaged. Payload, big-endian: per epoch its number (4) and start (8).

use std::io;
use std::path::PathBuf;

use vltava_model::epochs::LeaderEpochs;
use vltava_model::{LeaderEpoch, Offset};

use super::home::Home;
use vltava_storage::checkpoint::{CheckpointError, CheckpointKind, read_checkpoint, write_checkpoint};

const NAME: &str = "leader-epoch-checkpoint";
const KIND: CheckpointKind = CheckpointKind(*b"EPOC");
const VERSION: u16 = 1;
const ENTRY_BYTES: usize = 12;

fn path(home: &Home) -> PathBuf {
    home.dir.join(NAME)
}

/// Replaces the file, durably.
pub(crate) fn write(home: &Home, epochs: &LeaderEpochs) -> io::Result<()> {
    let mut payload = Vec::with_capacity(epochs.entries().len() * ENTRY_BYTES);
    for (epoch, start) in epochs.entries() {
        payload.extend_from_slice(&epoch.get().to_be_bytes());
        payload.extend_from_slice(&start.get().to_be_bytes());
    }
    home.sync_name()?;
    write_checkpoint(&*home.storage, &path(home), KIND, VERSION, &payload)
}

/// Reads the file; `None` when it is missing or cannot be trusted.
pub(crate) fn read(home: &Home) -> io::Result<Option<LeaderEpochs>> {
    match read_checkpoint(&*home.storage, &path(home), KIND) {
        Ok(None) | Err(CheckpointError::Corrupt { .. }) => Ok(None),
        Ok(Some(checkpoint)) if checkpoint.version != VERSION => Ok(None),
        Ok(Some(checkpoint)) => Ok(decode(&checkpoint.payload)),
        Err(CheckpointError::Io { source, .. }) => Err(source),
    }
}

fn decode(payload: &[u8]) -> Option<LeaderEpochs> {
    let (chunks, rest) = payload.as_chunks::<ENTRY_BYTES>();
    let entries = chunks.iter().map(|chunk| {
        let [a, b, c, d, start @ ..] = *chunk;
        (LeaderEpoch::new(u32::from_be_bytes([a, b, c, d])), Offset::new(u64::from_be_bytes(start)))
    });
    rest.is_empty().then(|| LeaderEpochs::from_entries(entries.collect()).ok()).flatten()
}
