//! Whose a log directory is: the file `vltava.meta`.
//!
//! Payload of version 1, big-endian: directory id (16), node id (4), whether a cluster is known (1), cluster id (16,
//! zero when none is). Knows nothing of what else the directory holds.

use std::io;
use std::path::{Path, PathBuf};

use vltava_model::{ClusterId, DirectoryId, NodeId};

use vltava_storage::Storage;
use vltava_storage::checkpoint::{CheckpointError, CheckpointKind, read_checkpoint, write_checkpoint};

const META: &str = "vltava.meta";
const KIND: CheckpointKind = CheckpointKind(*b"meta");
const VERSION: u16 = 1;
const PAYLOAD_BYTES: usize = 37;

/// Whose a log directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The directory itself; a wiped one comes back under another.
    pub directory: DirectoryId,
    /// The node.
    pub node: NodeId,
    /// The cluster; `None` until the node has joined one.
    pub cluster: Option<ClusterId>,
}

/// Why a log directory cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Another process has it.
    #[error(
        "{} is in use by another process: stop that one, or give this node a directory of its own in log.dirs",
        path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// It belongs to another node.
    #[error(
        "{} belongs to node {found}, this is node {expected}: correct node.id or log.dirs",
        path.display()
    )]
    OtherNode {
        /// The directory.
        path: PathBuf,
        /// This node.
        expected: NodeId,
        /// The node that the directory belongs to.
        found: NodeId,
    },
    /// It belongs to another cluster.
    #[error(
        "{} belongs to cluster {found}, this node joins cluster {expected}: correct cluster.id, \
         controller.quorum.voters or log.dirs; a directory whose data is not needed may be emptied",
        path.display()
    )]
    OtherCluster {
        /// The directory.
        path: PathBuf,
        /// The cluster that is joined.
        expected: ClusterId,
        /// The cluster that the directory belongs to.
        found: ClusterId,
    },
    /// It holds partitions or a journal, but nothing says whose.
    #[error(
        "{} holds data ({entry}) but no vltava.meta, so nothing says whose it is: restore that file, or empty the \
         directory and let the data be replicated anew",
        path.display()
    )]
    Anonymous {
        /// The directory.
        path: PathBuf,
        /// Something that it holds.
        entry: String,
    },
    /// Its identity cannot be read.
    #[error("{reason}: restore the file, or empty the directory and let its data be replicated anew")]
    Damaged {
        /// Which file, and what is wrong.
        reason: String,
    },
    /// A later release wrote it.
    #[error(
        "{} has format version {version}, which this release does not know: start a newer one",
        path.display()
    )]
    UnsupportedVersion {
        /// The file.
        path: PathBuf,
        /// The version that it states.
        version: u16,
    },
    /// The disk refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which path.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
}

/// Reads the identity of `dir` and checks it; a directory that holds nothing gets one, durably.
pub(super) fn establish(
    storage: &dyn Storage,
    dir: &Path,
    node: NodeId,
    cluster: Option<ClusterId>,
    fresh: DirectoryId,
) -> Result<Identity, DirectoryError> {
    let Some(identity) = read(storage, dir)? else {
        refuse_data(storage, dir)?;
        let identity = Identity { directory: fresh, node, cluster };
        return write(storage, dir, identity).map(|()| identity);
    };
    if identity.node != node {
        return Err(DirectoryError::OtherNode { path: dir.into(), expected: node, found: identity.node });
    }
    match cluster {
        Some(cluster) => bind(storage, dir, identity, cluster),
        None => Ok(identity),
    }
}

/// Sets the cluster of a directory that has none yet; one that has must have this one.
pub(super) fn bind(
    storage: &dyn Storage,
    dir: &Path,
    identity: Identity,
    cluster: ClusterId,
) -> Result<Identity, DirectoryError> {
    match identity.cluster {
        Some(found) if found == cluster => Ok(identity),
        Some(found) => Err(DirectoryError::OtherCluster { path: dir.into(), expected: cluster, found }),
        None => {
            let bound = Identity { cluster: Some(cluster), ..identity };
            write(storage, dir, bound).map(|()| bound)
        }
    }
}

/// A directory without identity may hold nothing of ours: an empty identity would count as a disk that was lost.
fn refuse_data(storage: &dyn Storage, dir: &Path) -> Result<(), DirectoryError> {
    let names = storage.list(dir).map_err(|source| DirectoryError::Io {
        action: "list",
        path: dir.to_owned(),
        source,
    })?;
    let data = |name: &&String| *name == super::JOURNAL || super::parse_partition(name).is_some();
    match names.iter().find(data) {
        Some(entry) => Err(DirectoryError::Anonymous { path: dir.into(), entry: entry.clone() }),
        None => Ok(()),
    }
}

fn read(storage: &dyn Storage, dir: &Path) -> Result<Option<Identity>, DirectoryError> {
    let path = dir.join(META);
    let checkpoint = match read_checkpoint(storage, &path, KIND) {
        Ok(None) => return Ok(None),
        Ok(Some(checkpoint)) => checkpoint,
        Err(CheckpointError::Io { path, source }) => {
            return Err(DirectoryError::Io { action: "read", path, source });
        }
        Err(error @ CheckpointError::Corrupt { .. }) => {
            return Err(DirectoryError::Damaged { reason: error.to_string() });
        }
    };
    if checkpoint.version != VERSION {
        return Err(DirectoryError::UnsupportedVersion { path, version: checkpoint.version });
    }
    decode(&checkpoint.payload)
        .map(Some)
        .ok_or_else(|| DirectoryError::Damaged { reason: format!("{} is malformed", path.display()) })
}

fn write(storage: &dyn Storage, dir: &Path, identity: Identity) -> Result<(), DirectoryError> {
    let path = dir.join(META);
    write_checkpoint(storage, &path, KIND, VERSION, &encode(identity)).map_err(|source| DirectoryError::Io {
        action: "write",
        path,
        source,
    })
}

fn encode(identity: Identity) -> [u8; PAYLOAD_BYTES] {
    let mut bytes = [0; PAYLOAD_BYTES];
    bytes[..16].copy_from_slice(&identity.directory.to_bytes());
    bytes[16..20].copy_from_slice(&identity.node.get().to_be_bytes());
    if let Some(cluster) = identity.cluster {
        bytes[20] = 1;
        bytes[21..].copy_from_slice(&cluster.to_bytes());
    }
    bytes
}

fn decode(bytes: &[u8]) -> Option<Identity> {
    if bytes.len() != PAYLOAD_BYTES {
        return None;
    }
    let cluster = ClusterId::from_slice(&bytes[21..])?;
    Some(Identity {
        directory: DirectoryId::from_slice(&bytes[..16])?,
        node: NodeId::new(u32::from_be_bytes(bytes[16..20].try_into().ok()?)),
        cluster: match bytes[20] {
            0 => None,
            1 => Some(cluster),
            _ => return None,
        },
    })
}
