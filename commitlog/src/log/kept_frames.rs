//! The journal's frames of a log that could not be opened, kept beside it as a checkpoint named `kept-frames`: the journal
//! uses its files again, and the log may be restored later.
//!
//! Payload, big-endian, for each frame: kind (1: 1 append, 2 synced, 3 truncate, 4 start offset, 5 delete, 6 empty), leader
//! epoch (4), base offset (8, append only), end offset or where to (8), length n of the batches (4), batches (n). Knows nothing of
//! what frames mean.

use std::io;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut, Bytes};
use vltava_model::{LeaderEpoch, Offset};
use vltava_storage::Storage;
use vltava_storage::checkpoint::{
    CheckpointError, CheckpointKind, PAYLOAD_BYTES_MAX, read_checkpoint, remove_checkpoint, write_checkpoint,
};

use super::damage::Damage;
use super::error::too_new;
use super::home::Home;
use super::recovery::RecoveryError;
use crate::durability::{RecoveredBody, RecoveredFrame};

const NAME: &str = "kept-frames";
const KIND: CheckpointKind = CheckpointKind(*b"FRMS");
const VERSION: u16 = 1;

/// The length of a frame without its batches.
const FRAME_BYTES: usize = 25;

/// Keeps the frames of a log that could not be opened, durably, behind those kept before.
///
/// # Errors
/// What the disk says; OutOfMemory when there are more than a checkpoint holds.
pub fn keep_frames(storage: &dyn Storage, dir: &Path, frames: &[RecoveredFrame]) -> io::Result<()> {
    let path = dir.join(NAME);
    let mut payload = match read_checkpoint(storage, &path, KIND) {
        Ok(Some(kept)) if kept.version == VERSION => kept.payload,
        Ok(Some(kept)) => return Err(too_new(&path, kept.version.into())),
        Ok(None) => Vec::new(),
        Err(CheckpointError::Io { source, .. }) => return Err(source),
        Err(error @ CheckpointError::Corrupt { .. }) => {
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
    };
    frames.iter().for_each(|frame| encode(frame, &mut payload));
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    write_checkpoint(storage, &path, KIND, VERSION, &payload)
}

/// The frames that were kept.
pub(crate) fn load(home: &Home) -> Result<Vec<RecoveredFrame>, RecoveryError> {
    let path = path(home);
    let damaged = |reason| Damage { file: path.clone(), position: 0, offset: Offset::ZERO, reason };
    let kept = match read_checkpoint(&*home.storage, &path, KIND) {
        Ok(None) => return Ok(Vec::new()),
        Ok(Some(kept)) => kept,
        Err(CheckpointError::Corrupt { reason, .. }) => return Err(damaged(reason).into()),
        Err(CheckpointError::Io { source, .. }) => return Err(source.into()),
    };
    if kept.version > VERSION {
        return Err(too_new(&path, kept.version.into()).into());
    }
    let mut rest = Bytes::from(kept.payload);
    let mut frames = Vec::new();
    while rest.has_remaining() {
        frames.push(decode(&mut rest).ok_or_else(|| damaged("its content is impossible"))?);
    }
    Ok(frames)
}

/// Forgets what was kept, durably: the segments hold it, synced.
pub(crate) fn forget(home: &Home) -> io::Result<()> {
    remove_checkpoint(&*home.storage, &path(home)).map(drop)
}

fn path(home: &Home) -> PathBuf {
    home.dir.join(NAME)
}

fn encode(frame: &RecoveredFrame, out: &mut Vec<u8>) {
    let none = (Offset::ZERO, &Bytes::new());
    let (kind, (base, batches), to) = match &frame.body {
        RecoveredBody::Append { base_offset, end_offset, bytes } => (1, (*base_offset, bytes), *end_offset),
        RecoveredBody::Synced { end_offset } => (2, none, *end_offset),
        RecoveredBody::Truncate { to } => (3, none, *to),
        RecoveredBody::StartOffset { to } => (4, none, *to),
        RecoveredBody::Delete => (5, none, Offset::ZERO),
        RecoveredBody::Empty => (6, none, Offset::ZERO),
    };
    out.put_u8(kind);
    out.put_u32(frame.leader_epoch.get());
    out.put_u64(base.get());
    out.put_u64(to.get());
    // A frame fits a journal file, which is smaller.
    out.put_u32(u32::try_from(batches.len()).unwrap_or(u32::MAX));
    out.put_slice(batches);
}

fn decode(rest: &mut Bytes) -> Option<RecoveredFrame> {
    if rest.len() < FRAME_BYTES {
        return None;
    }
    let kind = rest.get_u8();
    let leader_epoch = LeaderEpoch::new(rest.get_u32());
    let (base_offset, to) = (Offset::new(rest.get_u64()), Offset::new(rest.get_u64()));
    let length = rest.get_u32() as usize;
    if length > rest.len() || base_offset > Offset::MAX || to > Offset::MAX {
        return None;
    }
    let bytes = rest.split_to(length);
    let body = match kind {
        1 => RecoveredBody::Append { base_offset, end_offset: to, bytes },
        2 => RecoveredBody::Synced { end_offset: to },
        3 => RecoveredBody::Truncate { to },
        4 => RecoveredBody::StartOffset { to },
        5 => RecoveredBody::Delete,
        6 => RecoveredBody::Empty,
        _ => return None,
    };
    Some(RecoveredFrame { leader_epoch, body })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::log::testing::{batch_at, place};
    use crate::log::{Log, LogConfig, RecoveryInput, Scan};
    use vltava_storage::MemoryStorage;

    fn append(base: u64) -> RecoveredFrame {
        let body = RecoveredBody::Append {
            base_offset: Offset::new(base),
            end_offset: Offset::new(base + 3),
            bytes: batch_at(base, 1, 3).into_bytes(),
        };
        RecoveredFrame { leader_epoch: LeaderEpoch::new(1), body }
    }

    #[test]
    fn frames_read_back() {
        let to = Offset::new(7);
        let bodies = [
            RecoveredBody::Synced { end_offset: to },
            RecoveredBody::Truncate { to },
            RecoveredBody::StartOffset { to },
            RecoveredBody::Delete,
            RecoveredBody::Empty,
        ];
        let frame = |body| RecoveredFrame { leader_epoch: LeaderEpoch::new(9), body };
        for frame in bodies.map(frame).into_iter().chain([append(5)]) {
            let mut bytes = Vec::new();
            encode(&frame, &mut bytes);
            assert_eq!(decode(&mut Bytes::from(bytes.clone())), Some(frame));
            for length in 0..bytes.len() {
                assert_eq!(decode(&mut Bytes::copy_from_slice(&bytes[..length])), None);
            }
        }
        assert_eq!(decode(&mut Bytes::from_static(&[9; FRAME_BYTES])), None);
    }

    /// A log with a damaged sealed part that was never synced to its end: what only the journal had is there when it is
    /// restored, though the journal has forgotten it.
    #[test]
    fn a_log_that_was_damaged_when_it_was_opened_is_restored_with_what_the_journal_had() {
        let storage = MemoryStorage::new();
        let config = || LogConfig { segment_bytes: 200, ..LogConfig::default() };
        let dir = place(Arc::new(storage.clone())).dir;
        let open = |input| Log::open(place(Arc::new(storage.clone())), config(), input);
        let mut log = open(RecoveryInput::default()).unwrap();
        for base in [0, 3, 6] {
            log.append(&batch_at(base, 1, 3), 5).unwrap();
        }
        let point = Some(log.close_clean().unwrap());
        let first = dir.join("00000000000000000000.log");
        storage.flip_bit(&first, 70, 0);
        let unclean =
            |frames, scan| RecoveryInput { recovery_point: point, frames, clean: false, scan, now_ms: 5 };
        let frames = vec![append(9), append(12)];
        assert!(matches!(open(unclean(frames.clone(), Scan::All)), Err(RecoveryError::Corrupt(_))));
        keep_frames(&storage, &dir, &frames[..1]).unwrap();
        keep_frames(&storage, &dir, &frames[1..]).unwrap();
        assert!(matches!(open(unclean(Vec::new(), Scan::All)), Err(RecoveryError::Corrupt(_))));

        storage.flip_bit(&first, 70, 0);
        let mut log = open(unclean(Vec::new(), Scan::All)).unwrap();
        assert_eq!(log.log_end(), Offset::new(15));
        assert!(log.reader().read(Offset::new(12), 1, log.log_end()).is_ok());
        assert!(storage.exists(&dir.join(NAME)).unwrap(), "not synced yet");
        let point = log.sync_point().unwrap();
        log.synced(&point).unwrap();
        assert!(!storage.exists(&dir.join(NAME)).unwrap());
    }
}
