//! The metadata directory at start: the Raft store in it, and who it is. The two must not contradict each other.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use openraft::Vote;
use openraft::storage::RaftLogStorage;
use rand::RngExt;
use vltava_model::{DirectoryId, NodeId};
use vltava_raft_store::{LogEngine, OpenError, Opened, StoreOptions};
use vltava_storage::Storage;

use crate::feed::Feed;
use crate::identity::{Identity, IdentityError};
use crate::machine::{Machine, Published};
use crate::options::FatalHook;

/// Why a controller does not start. Nothing was changed that another start could not go on from.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The metadata directory does not open.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The metadata directory is not this node's, or does not know whose it is.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The Raft log and the identity contradict each other.
    #[error(
        "{} is damaged: {what}. This controller must not vote again as the one it was. With a quorum of other controllers \
         alive: run `vltava quorum remove` for this node on one of them, delete the directory, start this node, then run \
         `vltava quorum add`",
        directory.display()
    )]
    Damaged {
        /// `metadata.log.dir`.
        directory: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// The operating system said no.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// Its words.
        source: io::Error,
    },
    /// The settings contradict each other.
    #[error("the controller's settings can not work: {0}")]
    Settings(String),
    /// Raft did not start.
    #[error("Raft did not start: {0}")]
    Raft(String),
}

/// What was opened from the metadata directory.
pub(crate) struct Home {
    pub opened: Opened<Machine>,
    pub identity: Identity,
    pub published: Published,
    pub feed: Arc<Feed>,
}

/// Which directory is opened, and how.
pub(crate) struct Place {
    pub storage: Arc<dyn Storage>,
    pub directory: PathBuf,
    pub engine: Option<LogEngine>,
    pub node: NodeId,
}

/// Opens the Raft directory and finds out who it is.
pub(crate) async fn open(place: Place, feed_bytes: usize) -> Result<Home, StartError> {
    let Place { storage, directory, engine, node } = place;
    let published = Published::default();
    let feed = Arc::new(Feed::new(feed_bytes));
    let machine = Machine::new(published.clone(), feed.clone());
    let (disk, path) = (storage.clone(), directory.clone());
    let log_id = rand::rng().random();
    let opening = vltava_threads::offload(move || {
        // The store creates the directory, and its name durably: a power cut must not take both. Its lock comes first: two
        // processes must not both choose an identity.
        let options = StoreOptions { engine, ..StoreOptions::new(disk.clone(), &path, log_id) };
        let opened = vltava_raft_store::open(&options, machine)?;
        let identity = Identity::read(disk, &path, node)?;
        Ok::<_, StartError>((opened, identity))
    });
    let (mut opened, identity) = opening.await.map_err(|error| StartError::Raft(error.to_string()))??;
    let empty = is_empty(&mut opened).await.map_err(StartError::Raft)?;
    let damaged = |what| StartError::Damaged { directory: directory.clone(), what };
    let identity = match identity {
        Some(identity) if identity.used && empty => {
            return Err(damaged("it took part in the quorum, but its Raft log is gone"));
        }
        Some(identity) => identity,
        None if !empty => return Err(damaged("it has a Raft log, but its identity file is gone")),
        None => {
            let id = DirectoryId::new(rand::rng().random());
            Identity::create(storage, &directory, node, id)?
        }
    };
    if empty {
        // The directory is marked as used before the first true vote or entry is written. A crash between the two must not look
        // like a log that is gone: so no log of a directory that may be used is empty. As a vote this one means none.
        opened.log.save_vote(&Vote::default()).await.map_err(|error| StartError::Raft(error.to_string()))?;
    }
    Ok(Home { opened, identity, published, feed })
}

async fn is_empty(opened: &mut Opened<Machine>) -> Result<bool, String> {
    let state = opened.log.get_log_state().await.map_err(|error| error.to_string())?;
    let vote = opened.log.read_vote().await.map_err(|error| error.to_string())?;
    Ok(state.last_log_id.is_none() && vote.is_none())
}

/// What is called before anything is written to a new Raft log: it remembers that the directory is used from then on.
pub(crate) fn before_first_write(
    identity: Arc<Mutex<Identity>>,
    fatal: FatalHook,
) -> impl Fn() -> bool + Send {
    move || {
        let mut identity = identity.lock().unwrap_or_else(PoisonError::into_inner);
        match identity.mark_used() {
            Ok(()) => true,
            Err(error) => {
                fatal(format!("the metadata directory can not be written: {error}"));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use vltava_storage::{CrashMode, MemoryStorage};

    use super::*;

    async fn start(storage: &MemoryStorage) -> Result<Home, StartError> {
        let place = Place {
            storage: Arc::new(storage.clone()),
            directory: PathBuf::from("/metadata"),
            engine: Some("wal".parse().unwrap()),
            node: NodeId::new(1),
        };
        open(place, 1 << 16).await
    }

    /// Power fails after the directory was marked as used and before the first vote or entry is there: nothing was promised yet.
    #[tokio::test]
    async fn a_crash_before_the_first_write_does_not_look_like_a_log_that_is_gone() {
        let storage = MemoryStorage::new();
        let mut home = start(&storage).await.unwrap_or_else(|error| panic!("{error}"));
        home.identity.mark_used().unwrap();
        let left = storage.survivor(&mut StdRng::seed_from_u64(1), CrashMode::LoseUnsynced);
        let again = start(&left).await.unwrap_or_else(|error| panic!("{error}"));
        assert!(again.identity.used);
        let lost = storage.survivor(&mut StdRng::seed_from_u64(1), CrashMode::LoseUnsynced);
        for name in lost.list("/metadata".as_ref()).unwrap() {
            if name.starts_with("wal") {
                let path = PathBuf::from("/metadata").join(name);
                lost.remove_dir_all(&path).or_else(|_| lost.remove(&path)).unwrap();
            }
        }
        assert!(start(&lost).await.is_err(), "a log that is gone is told");
    }
}
