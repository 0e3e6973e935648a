//! What the segments cannot say about their log, as a checkpoint named `log-state`: where the log begins, and whether
//! it was being emptied.
//!
//! A log that never moved its start has no such file. Payload, big-endian: log start (8), phase (1), the note of
//! the last cuts; since version 2 whose log it is: topic id (16) and partition (4).

use std::io;
use std::path::PathBuf;

use vltava_model::Offset;

use super::cuts::{CUTS_BYTES, Cuts};
use super::damage::Damage;
use super::error::too_new;
use super::home::{Home, IDENTITY_BYTES};
use super::recovery::RecoveryError;
use vltava_storage::checkpoint::{CheckpointError, CheckpointKind, read_checkpoint, write_checkpoint};

const NAME: &str = "log-state";
const KIND: CheckpointKind = CheckpointKind(*b"LOGS");
const VERSION: u16 = 2;
/// Does not say whose it is; read still, since logs that were written before are to stay.
const VERSION_WITHOUT_IDENTITY: u16 = 1;

/// Whether the segments on disk are the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Phase {
    /// They are.
    #[default]
    Normal,
    /// All of them are to be removed: the log is to begin anew at its start.
    Emptying,
}

/// The content of the file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct LogState {
    pub log_start: Offset,
    /// Where the log was cut when it was last emptied, until that is forgotten.
    pub cuts: Cuts,
    pub phase: Phase,
}

fn path(home: &Home) -> PathBuf {
    home.dir.join(NAME)
}

/// Replaces the file, durably.
pub(crate) fn write(home: &Home, state: &LogState) -> io::Result<()> {
    let mut payload = Vec::with_capacity(9 + CUTS_BYTES + IDENTITY_BYTES);
    payload.extend_from_slice(&state.log_start.get().to_be_bytes());
    payload.push(match state.phase {
        Phase::Normal => 0,
        Phase::Emptying => 1,
    });
    payload.extend_from_slice(&state.cuts.encode());
    payload.extend_from_slice(&home.identity());
    home.sync_name()?;
    write_checkpoint(&*home.storage, &path(home), KIND, VERSION, &payload)
}

/// Reads the file; a log without one begins at 0.
pub(crate) fn read(home: &Home) -> Result<Option<LogState>, RecoveryError> {
    let damaged = |reason| Damage { file: path(home), position: 0, offset: Offset::ZERO, reason };
    let checkpoint = match read_checkpoint(&*home.storage, &path(home), KIND) {
        Ok(None) => return Ok(None),
        Ok(Some(checkpoint)) => checkpoint,
        Err(CheckpointError::Corrupt { reason, .. }) => return Err(damaged(reason).into()),
        Err(CheckpointError::Io { source, .. }) => return Err(source.into()),
    };
    if checkpoint.version > VERSION {
        return Err(too_new(&path(home), checkpoint.version.into()).into());
    }
    let impossible = || damaged("its content is impossible");
    let payload = match checkpoint.version {
        VERSION_WITHOUT_IDENTITY => &checkpoint.payload[..],
        VERSION => {
            let whole = checkpoint.payload.split_last_chunk::<IDENTITY_BYTES>();
            let (payload, whose) = whole.ok_or_else(impossible)?;
            if *whose != home.identity() {
                return Err(damaged("it is another log's").into());
            }
            payload
        }
        _ => return Err(damaged("its version is not known").into()),
    };
    decode(payload).map(Some).ok_or_else(|| impossible().into())
}

fn decode(payload: &[u8]) -> Option<LogState> {
    let (log_start, rest) = payload.split_first_chunk::<8>()?;
    let log_start = Offset::new(u64::from_be_bytes(*log_start));
    let phase = match rest.first()? {
        0 => Phase::Normal,
        1 => Phase::Emptying,
        _ => return None,
    };
    let cuts = Cuts::decode(rest[1..].try_into().ok()?);
    (log_start <= Offset::MAX).then_some(LogState { log_start, cuts, phase })
}
