//! The leader epochs of a log as a checkpoint, under Kafka's name `leader-epoch-checkpoint`.
//!
//! It is complete for all that lies below the recovery point; what lies above is learned from the batches again, as
//! everything is when the file is missing or damaged. Payload, big-endian: per epoch its number (4) and
//! start (8); since version 2 then whose log it is: topic id (16) and partition (4).

use std::io;
use std::path::PathBuf;

use vltava_model::epochs::LeaderEpochs;
use vltava_model::{LeaderEpoch, Offset};

use super::home::{Home, IDENTITY_BYTES};
use vltava_storage::checkpoint::{
    Checkpoint, CheckpointError, CheckpointKind, read_checkpoint, write_checkpoint,
};

const NAME: &str = "leader-epoch-checkpoint";
const KIND: CheckpointKind = CheckpointKind(*b"EPOC");
const VERSION: u16 = 2;
/// Does not say whose it is.
const VERSION_WITHOUT_IDENTITY: u16 = 1;
const ENTRY_BYTES: usize = 12;

fn path(home: &Home) -> PathBuf {
    home.dir.join(NAME)
}

/// Replaces the file, durably.
pub(crate) fn write(home: &Home, epochs: &LeaderEpochs) -> io::Result<()> {
    let mut payload = Vec::with_capacity(epochs.entries().len() * ENTRY_BYTES + IDENTITY_BYTES);
    for (epoch, start) in epochs.entries() {
        payload.extend_from_slice(&epoch.get().to_be_bytes());
        payload.extend_from_slice(&start.get().to_be_bytes());
    }
    payload.extend_from_slice(&home.identity());
    home.sync_name()?;
    write_checkpoint(&*home.storage, &path(home), KIND, VERSION, &payload)
}

/// Reads the file; `None` when it is missing or cannot be trusted.
pub(crate) fn read(home: &Home) -> io::Result<Option<LeaderEpochs>> {
    match read_checkpoint(&*home.storage, &path(home), KIND) {
        Ok(None) | Err(CheckpointError::Corrupt { .. }) => Ok(None),
        Ok(Some(Checkpoint { version: VERSION_WITHOUT_IDENTITY, payload })) => Ok(decode(&payload)),
        Ok(Some(Checkpoint { version: VERSION, payload })) => {
            let whole = payload.split_last_chunk::<IDENTITY_BYTES>();
            Ok(whole.filter(|(_, whose)| **whose == home.identity()).and_then(|(epochs, _)| decode(epochs)))
        }
        Ok(Some(_)) => Ok(None),
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
