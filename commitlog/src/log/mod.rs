//! One partition's log on one disk.
//!
//! A [`Log`] has one writer, its owner; any number of [`LogReader`]s read it meanwhile. Appends are buffered writes: what
//! makes them durable is the journal, or syncing what [`Log::sync_point`] gives.
//!
//! Files of a log's directory, as Kafka names them: `<base>.log` the batches, `<base>.index` and `<base>.timeindex` sparse
//! indexes, `<offset>.snapshot` producer state, `leader-epoch-checkpoint`; and, Kafka has no such, `<base>.check` with
//! the checksums that a batch's own leaves out, and `log-state` with the log's start.
//!
//! - `log`, `append`, `cut`, `retention`: the writer.  - `reader`, `tail`: reading.  - `recovery`, `replay`, `scan`: opening.
//! - `segment`, `check`, `index`, `home`: files.  - `producers`, `producer_snapshot`: idempotence.
//! - `leader_epoch_file`, `state_file`, `kept_frames`: checkpoints.  - `cuts`: what recovery must know of truncations.  - `config`, `damage`, `error`: shared shapes.
//!
//! Knows nothing of replication: which offsets are committed, and who leads, is told by the owner.

mod append;
mod check;
mod config;
mod cut;
mod cuts;
mod damage;
mod error;
mod home;
mod index;
mod kept_frames;
mod leader_epoch_file;
#[expect(clippy::module_inception, reason = "the module is named after the type that it is about")]
mod log;
mod producer_snapshot;
mod producers;
mod reader;
mod recovery;
mod replay;
mod retention;
mod scan;
mod segment;
mod state_file;
mod tail;

pub use append::{Appended, AppendedRun};
pub use config::LogConfig;
pub use damage::Damage;
pub use error::{AppendError, LogError, NewerFormat};
pub use kept_frames::keep_frames;
pub use log::{Log, LogPlace, SyncPoint};
pub use producers::{ProducedBatch, ProducerCheck, ProducerState, Producers, REMEMBERED_BATCHES};
pub use reader::{FileRange, LogReader, ReadBatches, ReadError, TailBatches, TimestampHit};
pub use recovery::{RecoveryError, RecoveryInput, RecoveryReport, Scan};
pub use retention::{DeletedSegment, Expiry};
pub use tail::TailBudget;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
