//! Bytes of records into ids. Knows no record.

use vltava_model::{DirectoryId, NodeId};

use crate::error::Fault;

/// Reads a 16-byte identity by `read`; `what` names it in the error.
pub(super) fn identity<T>(
    bytes: &[u8],
    what: &'static str,
    read: fn(&[u8]) -> Option<T>,
) -> Result<T, Fault> {
    read(bytes).ok_or(Fault::Malformed(what))
}

/// Reads node ids.
pub(super) fn nodes(ids: &[u32]) -> Vec<NodeId> {
    ids.iter().map(|id| NodeId::new(*id)).collect()
}

/// Writes node ids.
pub(super) fn raw_nodes(ids: &[NodeId]) -> Vec<u32> {
    ids.iter().map(|id| id.get()).collect()
}

/// Reads a replica's directory; 16 zero bytes mean that none was chosen yet.
pub(super) fn directory(bytes: &[u8]) -> Result<Option<DirectoryId>, Fault> {
    let id = identity(bytes, "directory id", DirectoryId::from_slice)?;
    Ok(Some(id).filter(|id| *id != DirectoryId::default()))
}
