//! Vltava's Raft storage: openraft's log, vote and snapshots on disk. It knows no topics; commands and snapshots are bytes.
//!
//! Start at [`open`]: it gives the two halves that `openraft::Raft::new` wants, and what to watch and to wait for.
//!
//! | module | what lives there |
//! |---|---|
//! | `types` | openraft's type parameters; voters as (node, directory); positions and votes in words of our own |
//! | `codec` | the bytes of an entry |
//! | `meta_log` | [`MetaLog`]: what a durable log must do, without openraft and without disks |
//! | `wal_log` | [`WalLog`]: that in files of our own, behind `Storage` |
//! | `sled_log` | [`SledLog`]: that on sled, synced for real, checked by a chain of checksums and a witness file |
//! | `record` | the state of either of the two in one small record |
//! | `engine` | [`LogEngine`]: which of the two a directory holds, or gets |
//! | `memory_log` | [`MemoryLog`]: that in memory, for tests and simulations |
//! | `owner`, `tail`, `store` | [`LogStore`]: openraft's log storage; one thread owns the log, the newest entries are in memory |
//! | `state_machine` | [`StateMachine`]: what a user of this crate writes; [`MachineStore`]: openraft's view of it |
//! | `snapshot_store` | snapshot files |
//! | `failure` | [`Failure`]: how the process hears that it must stop |
//! | `config` | [`raft_config`]: openraft's settings |
//! | `inspect` | a stopped node's directory in words |
//!
//! A Raft directory holds `wal/` and `wal.origin`, or `log/` (sled) and `witness`; and `snapshots/` and `lock`.
//!
//! What holds: a vote or an entry is acknowledged when it is on stable storage, twice where that tells its loss from its
//! never having been; writes are done in the order in which openraft issued them; nothing is purged that no durable
//! snapshot covers; what was acknowledged is there on open, or open fails and says what to do.

mod codec;
mod config;
mod engine;
mod error;
mod failure;
mod files;
mod inspect;
mod memory_log;
mod meta_log;
mod open;
mod owner;
mod record;
mod sled_log;
mod snapshot_store;
mod state_machine;
mod store;
mod tail;
#[cfg(test)]
mod testing;
mod types;
mod wal_log;

pub use codec::{CodecError, decode_entry, encode_entry};
pub use config::{RaftOptions, RaftOptionsError, raft_config};
pub use engine::{LogEngine, LogEngineError};
pub use error::OpenError;
pub use failure::Failure;
pub use inspect::{Inspection, inspect};
pub use memory_log::MemoryLog;
pub use meta_log::{LogBounds, LogEntry, LogError, MAX_ENTRY_BYTES, MetaLog};
pub use open::{Opened, StoreOptions, open, open_with_log};
pub use sled_log::SledLog;
pub use snapshot_store::{SnapshotFile, SnapshotStore, StoredSnapshot};
pub use state_machine::{
    ApplyError, EncodeSnapshot, MachineStore, RestoreError, SnapshotBuilder, StateMachine,
};
pub use store::{LogCloser, LogStore, LogStoreOptions};
pub use types::{
    Applied, Command, Position, RaftEntry, RaftLogId, RaftMembership, RaftSnapshotMeta, RaftStorageError,
    RaftVote, TypeConfig, VoteRecord, VoterId, VoterIdError, VoterNode,
};
pub use wal_log::{WalLog, WalOptions};
