//! Which log the Raft directory holds, said once beside it: without it, a log whose files are all gone would look new.

use std::path::Path;

use vltava_storage::Storage;
use vltava_storage::checkpoint::{CheckpointError, CheckpointKind, read_checkpoint, write_checkpoint};

use crate::error::OpenError;
use crate::record::Reader;

/// The file's name in the Raft directory.
pub(crate) const FILE: &str = "wal.origin";
const KIND: CheckpointKind = CheckpointKind(*b"rwal");
const VERSION: u16 = 1;

/// What the file says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    /// There is none: no log was ever written to, or the file is lost.
    Absent,
    /// There is a log, and this is its random number.
    Known(u64),
    /// There is a log, but the file is damaged.
    Unreadable,
}

/// Reads it.
pub(super) fn read(storage: &dyn Storage, directory: &Path) -> Result<Origin, OpenError> {
    let path = directory.join(FILE);
    match read_checkpoint(storage, &path, KIND) {
        Ok(None) => Ok(Origin::Absent),
        Ok(Some(found)) if found.version == VERSION => {
            let mut reader = Reader(&found.payload);
            let log_id = reader.u64().filter(|_| reader.0.is_empty());
            Ok(log_id.map_or(Origin::Unreadable, Origin::Known))
        }
        Ok(Some(found)) => Err(OpenError::Newer { path, what: "version", number: found.version.into() }),
        Err(CheckpointError::Corrupt { .. }) => Ok(Origin::Unreadable),
        Err(CheckpointError::Io { path, source }) => Err(OpenError::io("read", &path)(source)),
    }
}

/// Writes it, durably.
pub(super) fn write(storage: &dyn Storage, directory: &Path, log_id: u64) -> Result<(), OpenError> {
    let path = directory.join(FILE);
    write_checkpoint(storage, &path, KIND, VERSION, &log_id.to_le_bytes())
        .map_err(OpenError::io("write", &path))
}
