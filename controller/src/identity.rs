//! Who the metadata directory is: a random id, written once and durably, that makes this disk a voter of its own.
//!
//! A wiped disk comes back with another id, and so never votes as the one that it was. The file also remembers whether the
//! directory has taken part in Raft: a directory that has, and whose log is gone, must not start as if it were new.
//!
//! `identity` is text: one `name=value` a line, the last one the CRC-32C of all before it. Knows no Raft and no network.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vltava_model::{DirectoryId, NodeId};
use vltava_storage::{Storage, read_file, replace_file};

const FILE: &str = "identity";
const HEAD: &str = "vltava metadata directory, version 1";
/// A longer file is none of ours.
const BYTES_MAX: u64 = 4096;
const HEAD_OF_ANY: &str = "vltava metadata directory, version ";

/// Why a metadata directory's identity is not to be trusted.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The operating system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Its words.
        source: io::Error,
    },
    /// The file is not what was written.
    #[error(
        "{} is damaged: {what}. This controller can not know who it was. Run `vltava quorum remove` for this node on \
         another controller, delete the directory, start this node, then run `vltava quorum add`",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// A later release wrote it.
    #[error("{} has format version {version}, which this release does not know: start a newer one", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// The version that it states.
        version: u32,
    },
    /// The directory is another node's.
    #[error(
        "{} belongs to node {found}, but this is node {node}: correct `node.id` or `metadata.log.dir`",
        path.display()
    )]
    ForeignNode {
        /// The file.
        path: PathBuf,
        /// Whose directory it is.
        found: NodeId,
        /// Who wants to use it.
        node: NodeId,
    },
}

/// A directory's identity.
#[derive(Clone)]
pub struct Identity {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    /// The node that it belongs to.
    pub node: NodeId,
    /// The random id.
    pub directory: DirectoryId,
    /// Whether a vote or an entry may ever have been written beside it.
    pub used: bool,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("path", &self.path)
            .field("node", &self.node)
            .field("directory", &self.directory)
            .field("used", &self.used)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads the identity of `directory`; `None` when it has none yet. The directory must be there.
    pub fn read(
        storage: Arc<dyn Storage>,
        directory: &Path,
        node: NodeId,
    ) -> Result<Option<Self>, IdentityError> {
        let path = directory.join(FILE);
        let bytes = match read_file(&*storage, &path, BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(IdentityError::Io { path, source }),
        };
        let text = std::str::from_utf8(&bytes).map_err(|_| Unreadable::Damaged("it is no text"));
        let (found, directory, used) = text.and_then(parse).map_err(|why| match why {
            Unreadable::Damaged(what) => IdentityError::Damaged { path: path.clone(), what },
            Unreadable::TooNew(version) => IdentityError::TooNew { path: path.clone(), version },
        })?;
        if found != node {
            return Err(IdentityError::ForeignNode { path, found, node });
        }
        Ok(Some(Self { storage, path, node, directory, used }))
    }

    /// Gives `directory` an identity, durably.
    pub fn create(
        storage: Arc<dyn Storage>,
        directory: &Path,
        node: NodeId,
        id: DirectoryId,
    ) -> Result<Self, IdentityError> {
        let identity = Self { storage, path: directory.join(FILE), node, directory: id, used: false };
        identity.write()?;
        Ok(identity)
    }

    /// Remembers, durably, that the directory takes part in Raft from now on.
    pub fn mark_used(&mut self) -> Result<(), IdentityError> {
        if !self.used {
            Self { used: true, ..self.clone() }.write()?;
            self.used = true;
        }
        Ok(())
    }

    fn write(&self) -> Result<(), IdentityError> {
        let io = |source| IdentityError::Io { path: self.path.clone(), source };
        let body =
            format!("{HEAD}\nnode.id={}\ndirectory.id={}\nused={}\n", self.node, self.directory, self.used);
        let text = format!("{body}crc32c={:08x}\n", crc32c::crc32c(body.as_bytes()));
        replace_file(&*self.storage, &self.path, &[text.as_bytes()]).map_err(io)
    }
}

/// Why a text is no identity for this release.
enum Unreadable {
    Damaged(&'static str),
    TooNew(u32),
}

impl From<&'static str> for Unreadable {
    fn from(what: &'static str) -> Self {
        Self::Damaged(what)
    }
}

/// Whose directory it is, its id, and whether it was used.
fn parse(text: &str) -> Result<(NodeId, DirectoryId, bool), Unreadable> {
    let (body, crc) = text.rsplit_once("crc32c=").ok_or("its checksum is missing")?;
    if crc.trim_end_matches('\n') != format!("{:08x}", crc32c::crc32c(body.as_bytes())) {
        return Err("its checksum is wrong".into());
    }
    let mut lines = body.lines();
    let head = lines.next().unwrap_or_default();
    if head != HEAD {
        let version = head.strip_prefix(HEAD_OF_ANY).and_then(|version| version.parse().ok());
        return Err(version.map_or("it is no identity".into(), Unreadable::TooNew));
    }
    let mut value = |name: &str| {
        lines.next().and_then(|line| line.strip_prefix(name)).and_then(|rest| rest.strip_prefix('='))
    };
    let node = value("node.id").and_then(|id| id.parse().ok()).ok_or("it has no node id")?;
    let directory = value("directory.id").and_then(|id| id.parse().ok()).ok_or("it has no directory id")?;
    let used =
        value("used").and_then(|used| used.parse().ok()).ok_or("it does not say whether it was used")?;
    Ok((NodeId::new(node), directory, used))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use vltava_storage::RealStorage;

    use super::*;

    const NODE: NodeId = NodeId::new(3);
    const ID: DirectoryId = DirectoryId::new(0xabc);

    fn read(directory: &Path, node: NodeId) -> Result<Option<Identity>, IdentityError> {
        Identity::read(RealStorage::shared(), directory, node)
    }

    fn create(directory: &Path) -> Identity {
        Identity::create(RealStorage::shared(), directory, NODE, ID).unwrap()
    }

    #[test]
    fn an_identity_survives_and_remembers_its_use() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path(), NODE).unwrap().is_none());
        let mut made = create(dir.path());
        let found = read(dir.path(), NODE).unwrap().unwrap();
        assert_eq!((found.node, found.directory, found.used), (NODE, ID, false));
        made.mark_used().unwrap();
        let found = read(dir.path(), NODE).unwrap().unwrap();
        assert!(found.used && found.directory == ID);
    }

    #[test]
    fn an_identity_of_a_later_release_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let body = format!("{HEAD_OF_ANY}2\nsomething new\n");
        let text = format!("{body}crc32c={:08x}\n", crc32c::crc32c(body.as_bytes()));
        fs::write(dir.path().join(FILE), &text).unwrap();
        let refused = read(dir.path(), NODE).unwrap_err();
        assert!(matches!(refused, IdentityError::TooNew { version: 2, .. }), "{refused}");
        assert_eq!(fs::read_to_string(dir.path().join(FILE)).unwrap(), text);
    }

    #[test]
    fn another_node_and_every_flipped_bit_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        create(dir.path());
        let other = read(dir.path(), NodeId::new(4)).unwrap_err();
        assert!(matches!(other, IdentityError::ForeignNode { found: NODE, .. }), "{other}");
        let path = dir.path().join(FILE);
        let whole = fs::read(&path).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut changed = whole.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &changed).unwrap();
            let read = read(dir.path(), NODE);
            // The last byte is the line's end.
            assert!(bit / 8 == whole.len() - 1 || read.is_err(), "bit {bit}: {read:?}");
        }
        for length in 0..whole.len() - 1 {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(read(dir.path(), NODE).is_err(), "cut to {length}");
        }
    }
}
