//! The replicated state machine as its author writes it, and openraft's state machine on top.
//!
//! The state lives in memory. At start it is rebuilt from the newest snapshot and the log, so data and applied position
//! cannot part: both are in the snapshot file, or both are replayed. An error here is final: a machine that skipped an
//! entry must never serve or lead again.

use std::io::{self, Cursor};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use openraft::storage::{RaftSnapshotBuilder, RaftStateMachine};
use openraft::{AnyError, EntryPayload, ErrorSubject, ErrorVerb, OptionalSend, Snapshot, StorageIOError};

use crate::failure::FailureReporter;
use crate::snapshot_store::{SnapshotStore, StoredSnapshot};
use crate::types::{
    Applied, Position, RaftEntry, RaftLogId, RaftMembership, RaftSnapshotMeta, RaftStorageError, TypeConfig,
};

/// A committed command could not be applied. The process must stop: its state is no longer what the log says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ApplyError(pub String);

/// A snapshot could not be read by the state machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RestoreError(pub String);

/// Turns a frozen state into bytes, later and on another thread.
pub type EncodeSnapshot = Box<dyn FnOnce() -> Vec<u8> + Send>;

/// What the log's commands change. Everything it does must depend on nothing but the calls that it got.
pub trait StateMachine: Send + Sync + 'static {
    /// Applies the command of the entry `log_index`; what it returns goes to the proposer, if it is on this node.
    /// A command that is refused is no error: say so in the outcome, and change nothing.
    fn apply(&mut self, log_index: u64, command: &[u8]) -> Result<Bytes, ApplyError>;

    /// Freezes the state. Called between two entries and must be cheap; the encoding happens elsewhere. Equal states
    /// must give equal bytes.
    fn snapshot(&self) -> EncodeSnapshot;

    /// Replaces the whole state by the snapshot's: what the snapshot lacks is gone. `log_index` is the last entry that
    /// it covers.
    fn restore(&mut self, log_index: u64, snapshot: &[u8]) -> Result<(), RestoreError>;

    /// Learns of the voters and learners as of the entry `log_index`. Called instead of `apply` for such an entry, and
    /// after `restore`.
    fn membership(&mut self, log_index: u64, membership: &RaftMembership);

    /// Learns that the entry `log_index`, which carries nothing, was applied.
    fn blank(&mut self, log_index: u64) {
        let _ = log_index;
    }
}

/// openraft's view of a [`StateMachine`] and its snapshots.
#[derive(Debug)]
pub struct MachineStore<M> {
    machine: M,
    applied: Option<RaftLogId>,
    membership: RaftMembership,
    snapshots: Arc<SnapshotStore>,
    failure: FailureReporter,
}

impl<M: StateMachine> MachineStore<M> {
    /// The machine as the newest snapshot leaves it; openraft replays what the log has beyond.
    pub(crate) fn start(
        mut machine: M,
        snapshots: Arc<SnapshotStore>,
        newest: Option<StoredSnapshot>,
        failure: FailureReporter,
    ) -> Result<Self, RestoreError> {
        let mut applied = None;
        let mut membership = RaftMembership::default();
        if let Some(StoredSnapshot { meta, data }) = newest
            && let Some(last) = meta.last_log_id
        {
            machine.restore(last.index, &data)?;
            machine.membership(last.index, &meta.last_membership);
            applied = Some(last);
            membership = meta.last_membership;
        }
        Ok(Self { machine, applied, membership, snapshots, failure })
    }

    #[expect(clippy::result_large_err, reason = "openraft's traits want their error by value")]
    fn apply_one(&mut self, entry: RaftEntry) -> Result<Applied, RaftStorageError> {
        let index = entry.log_id.index;
        // Also the first entry after a snapshot, and the first of all unless tests begin elsewhere.
        if self.applied.is_some_and(|applied| applied.index + 1 != index) {
            let applied = self.applied.map(Position::from);
            let error =
                io::Error::other(format!("entry {index} does not follow the applied one, {applied:?}"));
            return Err(self.fatal(ErrorSubject::Apply(entry.log_id), ErrorVerb::Write, &error));
        }
        let outcome = match entry.payload {
            EntryPayload::Normal(command) => self
                .machine
                .apply(index, &command.0)
                .map_err(|error| self.fatal(ErrorSubject::Apply(entry.log_id), ErrorVerb::Write, &error))?,
            EntryPayload::Membership(membership) => {
                self.membership = RaftMembership::new(Some(entry.log_id), membership);
                self.machine.membership(index, &self.membership);
                Bytes::new()
            }
            EntryPayload::Blank => {
                self.machine.blank(index);
                Bytes::new()
            }
        };
        self.applied = Some(entry.log_id);
        Ok(Applied { index, outcome })
    }

    fn fatal<E: std::error::Error + 'static>(
        &self,
        subject: ErrorSubject<crate::VoterId>,
        verb: ErrorVerb,
        error: &E,
    ) -> RaftStorageError {
        fatal(&self.failure, subject, verb, error)
    }
}

impl<M: StateMachine> RaftStateMachine<TypeConfig> for MachineStore<M> {
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<RaftLogId>, RaftMembership), RaftStorageError> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Applied>, RaftStorageError>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut applied = Vec::new();
        for entry in entries {
            applied.push(self.apply_one(entry)?);
        }
        Ok(applied)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder {
            encode: Mutex::new(Some(self.machine.snapshot())),
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
            snapshots: self.snapshots.clone(),
            failure: self.failure.clone(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, RaftStorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &RaftSnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), RaftStorageError> {
        let subject = || ErrorSubject::Snapshot(Some(meta.signature()));
        let Some(last) = meta.last_log_id.filter(|last| Some(*last) >= self.applied) else {
            let applied = self.applied.map(Position::from);
            let error =
                io::Error::other(format!("snapshot {meta} would take back what was applied, {applied:?}"));
            return Err(self.fatal(subject(), ErrorVerb::Write, &error));
        };
        let data = snapshot.into_inner();
        // Before it is kept: a snapshot that this machine cannot read must not wait for it at the next start.
        let restored = self.machine.restore(last.index, &data);
        restored.map_err(|error| self.fatal(subject(), ErrorVerb::Read, &error))?;
        self.machine.membership(last.index, &meta.last_membership);
        self.applied = Some(last);
        self.membership = meta.last_membership.clone();
        save(self.snapshots.clone(), meta.clone(), data, &self.failure).await?;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, RaftStorageError> {
        let snapshots = self.snapshots.clone();
        let found = blocking(move || snapshots.newest()).await;
        let found =
            found.map_err(|error| self.fatal(ErrorSubject::Snapshot(None), ErrorVerb::Read, &error))?;
        Ok(found
            .map(|StoredSnapshot { meta, data }| Snapshot { meta, snapshot: Box::new(Cursor::new(data)) }))
    }
}

/// One snapshot in the making: the state as it was when openraft asked for it.
pub struct SnapshotBuilder {
    /// Behind a lock only because openraft asks for `Sync`, which a boxed closure is not.
    encode: Mutex<Option<EncodeSnapshot>>,
    last_log_id: Option<RaftLogId>,
    last_membership: RaftMembership,
    snapshots: Arc<SnapshotStore>,
    failure: FailureReporter,
}

impl std::fmt::Debug for SnapshotBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotBuilder").field("last_log_id", &self.last_log_id).finish_non_exhaustive()
    }
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, RaftStorageError> {
        let slot = self.encode.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
        let Some(encode) = slot.take() else {
            let error = io::Error::other("one builder builds one snapshot");
            return Err(fatal(&self.failure, ErrorSubject::Snapshot(None), ErrorVerb::Write, &error));
        };
        let encoded = blocking(move || Ok(encode())).await;
        let data = encoded
            .map_err(|error| fatal(&self.failure, ErrorSubject::Snapshot(None), ErrorVerb::Write, &error))?;
        // Equal states give equal ids, on every node.
        let place =
            self.last_log_id.map_or_else(|| "empty".into(), |id| format!("{}-{}", id.leader_id, id.index));
        let meta = RaftSnapshotMeta {
            last_log_id: self.last_log_id,
            last_membership: self.last_membership.clone(),
            snapshot_id: format!("{place}-{:08x}", crc32c::crc32c(&data)),
        };
        let data = save(self.snapshots.clone(), meta.clone(), data, &self.failure).await?;
        Ok(Snapshot { meta, snapshot: Box::new(Cursor::new(data)) })
    }
}

/// Makes a snapshot durable off the runtime's workers; gives its bytes back.
async fn save(
    snapshots: Arc<SnapshotStore>,
    meta: RaftSnapshotMeta,
    data: Vec<u8>,
    failure: &FailureReporter,
) -> Result<Vec<u8>, RaftStorageError> {
    let signature = meta.signature();
    let saved = blocking(move || snapshots.save(&meta, &data).map(|()| data)).await;
    saved.map_err(|error| fatal(failure, ErrorSubject::Snapshot(Some(signature)), ErrorVerb::Write, &error))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    vltava_threads::offload(work).await.unwrap_or_else(|panic| Err(io::Error::other(panic)))
}

fn fatal<E: std::error::Error + 'static>(
    failure: &FailureReporter,
    subject: ErrorSubject<crate::VoterId>,
    verb: ErrorVerb,
    error: &E,
) -> RaftStorageError {
    failure.report(&format!("Raft state machine, {verb:?} {subject:?}: {error}"));
    StorageIOError::new(subject, verb, AnyError::new(error)).into()
}

#[cfg(test)]
mod tests;
