//! The witness: a small preallocated file beside sled that knows what sled must contain.
//!
//! sled recovers from damage by forgetting a tail, silently. So each change is also written here, with a number, the
//! state after it and, where it is small, the change itself. The two files are synced side by side, which costs no more
//! time than sled alone, and a change is acknowledged when both are durable. On open, sled must stand where the witness
//! says. If it is exactly one change behind and the witness holds that change (a power cut between the two syncs), the
//! change is made again; if it is one ahead, that change was never acknowledged. Everything else is damage.
//!
//! Two slots take turns, so that a torn write spares the change before. A slot: `magic [8], length u32, CRC-32C u32`,
//! then `record length u16, record, changes present u8, changes`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::layout::Op;
use crate::files;
use crate::record::{Reader, StateRecord};

/// The file's name in the Raft directory.
pub(crate) const FILE: &str = "witness";
/// A slot; larger changes are written to sled first and here without the change itself.
pub(crate) const SLOT_BYTES: usize = 64 << 10;
const MAGIC: &[u8; 8] = b"VLWITN01";
const FRAME_BYTES: usize = 16;

/// What a slot says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Testimony {
    /// The state after the change.
    pub record: StateRecord,
    /// The change, unless it was too large.
    pub ops: Option<Vec<Op>>,
}

/// A slot's bytes, ready to be written.
pub(crate) struct Slot {
    bytes: Vec<u8>,
    offset: u64,
}

impl Slot {
    /// The slot for a change; `None` if the change is too large.
    pub(crate) fn with_ops(record: &StateRecord, ops: &[Op]) -> Option<Self> {
        let mut body = Self::body(record);
        body.push(1);
        body.extend_from_slice(&(ops.len() as u32).to_le_bytes());
        for op in ops {
            let (key, value) = match op {
                Op::Put(key, value) => (key, Some(value)),
                Op::Delete(key) => (key, None),
            };
            body.push(u8::from(value.is_some()));
            body.extend_from_slice(&(key.len() as u16).to_le_bytes());
            body.extend_from_slice(key);
            if let Some(value) = value {
                body.extend_from_slice(&(value.len() as u32).to_le_bytes());
                body.extend_from_slice(value);
            }
            if FRAME_BYTES + body.len() > SLOT_BYTES {
                return None;
            }
        }
        Some(Self::frame(record, body))
    }

    /// The slot for a state that sled has on stable storage already.
    pub(crate) fn without_ops(record: &StateRecord) -> Self {
        let mut body = Self::body(record);
        body.push(0);
        Self::frame(record, body)
    }

    fn body(record: &StateRecord) -> Vec<u8> {
        let record = record.encode();
        let mut body = (record.len() as u16).to_le_bytes().to_vec();
        body.extend_from_slice(&record);
        body
    }

    fn frame(record: &StateRecord, body: Vec<u8>) -> Self {
        let mut bytes = Vec::with_capacity(FRAME_BYTES + body.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
        bytes.extend_from_slice(&body);
        Self { bytes, offset: (record.change % 2) * SLOT_BYTES as u64 }
    }
}

/// What a whole slot holds.
fn body_of(slot: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader(slot);
    if &reader.array::<8>()? != MAGIC {
        return None;
    }
    let length = reader.u32()? as usize;
    let crc = reader.u32()?;
    let body = reader.slice(length)?;
    (crc32c::crc32c(body) == crc).then_some(body)
}

/// The version that the record of a whole slot of a later release states.
fn newer_version(slot: &[u8]) -> Option<u8> {
    let mut reader = Reader(body_of(slot)?);
    let record_length = usize::from(reader.u16()?);
    StateRecord::newer_version(reader.slice(record_length)?)
}

fn decode(slot: &[u8]) -> Option<Testimony> {
    let mut reader = Reader(body_of(slot)?);
    let record_length = usize::from(reader.u16()?);
    let record = StateRecord::decode(reader.slice(record_length)?)?;
    let ops = match reader.u8()? {
        0 => None,
        1 => {
            let count = reader.u32()?;
            Some((0..count).map(|_| decode_op(&mut reader)).collect::<Option<Vec<_>>>()?)
        }
        _ => return None,
    };
    reader.0.is_empty().then_some(Testimony { record, ops })
}

fn decode_op(reader: &mut Reader<'_>) -> Option<Op> {
    let tag = reader.u8()?;
    let key_length = usize::from(reader.u16()?);
    let key = reader.slice(key_length)?.to_vec();
    match tag {
        0 => Some(Op::Delete(key)),
        1 => {
            let length = reader.u32()? as usize;
            Some(Op::Put(key, reader.slice(length)?.to_vec()))
        }
        _ => None,
    }
}

/// Creates the witness of an empty log, durably.
pub(crate) fn create(directory: &Path) -> io::Result<()> {
    let mut bytes = vec![0; 2 * SLOT_BYTES];
    let slot = Slot::without_ops(&StateRecord::default());
    bytes[..slot.bytes.len()].copy_from_slice(&slot.bytes);
    files::replace_file(directory, FILE, &[&bytes])
}

/// The version that either slot states, if a later release wrote it.
pub(crate) fn written_by_later_release(directory: &Path) -> io::Result<Option<u8>> {
    let bytes = std::fs::read(directory.join(FILE))?;
    Ok(bytes.chunks(SLOT_BYTES).filter_map(newer_version).max())
}

/// What each slot says; `None` for one that is torn, damaged or was never written. An error for a file of another size.
pub(crate) fn read(directory: &Path) -> io::Result<[Option<Testimony>; 2]> {
    let bytes = std::fs::read(directory.join(FILE))?;
    if bytes.len() != 2 * SLOT_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the witness file has another size than it was given",
        ));
    }
    let (even, odd) = bytes.split_at(SLOT_BYTES);
    let place = |slot, parity| decode(slot).filter(|t: &Testimony| t.record.change % 2 == parity);
    Ok([place(even, 0), place(odd, 1)])
}

/// The newest of two slots.
pub(crate) fn newest(slots: [Option<Testimony>; 2]) -> Option<Testimony> {
    slots.into_iter().flatten().max_by_key(|testimony| testimony.record.change)
}

/// Writes slots on a thread of its own, so that they become durable while sled does.
#[derive(Debug)]
pub(crate) struct WitnessWriter {
    slots: SyncSender<Slot>,
    done: Receiver<io::Result<()>>,
}

impl WitnessWriter {
    /// Opens the file that [`create`] made.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(directory.join(FILE))?;
        let (slots, waiting) = sync_channel(1);
        let (finished, done) = sync_channel(1);
        thread::Builder::new().name("raft-witness".into()).spawn(move || {
            for slot in waiting {
                if finished.send(write(&file, &slot)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { slots, done })
    }

    /// Starts a write. Each start is followed by one [`WitnessWriter::finish`].
    pub(crate) fn start(&self, slot: Slot) -> io::Result<()> {
        self.slots.send(slot).map_err(|_| io::Error::other("the witness's thread is gone"))
    }

    /// Waits until the write that was started is durable.
    pub(crate) fn finish(&self) -> io::Result<()> {
        self.done.recv().unwrap_or_else(|_| Err(io::Error::other("the witness's thread is gone")))
    }
}

fn write(file: &File, slot: &Slot) -> io::Result<()> {
    file.write_all_at(&slot.bytes, slot.offset)?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(change: u64) -> StateRecord {
        StateRecord { change, ..StateRecord::default() }
    }

    fn ops() -> Vec<Op> {
        vec![Op::Put(b"key".to_vec(), vec![5; 300]), Op::Delete(b"other".to_vec()), Op::Put(vec![], vec![])]
    }

    #[test]
    fn the_newest_whole_slot_counts() {
        let dir = tempfile::tempdir().unwrap();
        create(dir.path()).unwrap();
        let writer = WitnessWriter::open(dir.path()).unwrap();
        for change in 1..=3 {
            writer.start(Slot::with_ops(&record(change), &ops()).unwrap()).unwrap();
            writer.finish().unwrap();
            let expected = Testimony { record: record(change), ops: Some(ops()) };
            assert_eq!(newest(read(dir.path()).unwrap()), Some(expected));
        }
        let path = dir.path().join(FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[SLOT_BYTES + 40] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(newest(read(dir.path()).unwrap()).unwrap().record, record(2));
        bytes.pop();
        std::fs::write(&path, &bytes).unwrap();
        assert!(read(dir.path()).is_err());
    }

    #[test]
    fn a_slot_of_a_later_release_is_told_from_a_damaged_one() {
        let dir = tempfile::tempdir().unwrap();
        create(dir.path()).unwrap();
        assert_eq!(written_by_later_release(dir.path()).unwrap(), None);
        let mut later = record(1).encode();
        later.truncate(later.len() - 4);
        later[0] = 2;
        let crc = crc32c::crc32c(&later);
        later.extend_from_slice(&crc.to_le_bytes());
        let mut body = (later.len() as u16).to_le_bytes().to_vec();
        body.extend_from_slice(&later);
        body.push(0);
        let slot = Slot::frame(&record(1), body);
        let path = dir.path().join(FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[SLOT_BYTES..][..slot.bytes.len()].copy_from_slice(&slot.bytes);
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(written_by_later_release(dir.path()).unwrap(), Some(2));
        assert_eq!(newest(read(dir.path()).unwrap()).unwrap().record, record(0), "it says nothing to us");
        bytes[SLOT_BYTES + FRAME_BYTES + 4] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(written_by_later_release(dir.path()).unwrap(), None);
    }

    #[test]
    fn a_slot_in_the_wrong_place_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let slot = Slot::without_ops(&record(4));
        let mut bytes = vec![0; 2 * SLOT_BYTES];
        bytes[SLOT_BYTES..][..slot.bytes.len()].copy_from_slice(&slot.bytes);
        std::fs::write(dir.path().join(FILE), &bytes).unwrap();
        assert_eq!(read(dir.path()).unwrap(), [None, None]);
    }

    #[test]
    fn a_change_that_does_not_fit_is_refused() {
        let large = [Op::Put(vec![1], vec![0; SLOT_BYTES - 100])];
        assert!(Slot::with_ops(&record(1), &large).is_some());
        let large = [Op::Put(vec![1], vec![0; SLOT_BYTES - 50])];
        assert!(Slot::with_ops(&record(1), &large).is_none());
    }
}
