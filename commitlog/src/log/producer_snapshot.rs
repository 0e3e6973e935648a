//! Producer state as a file, `<offset>.snapshot`: the state after all batches below that offset.
//!
//! A copy of what the log says: a damaged or missing one costs a longer scan, nothing else, so it is written without
//! syncing. Layout, big-endian: magic, version, offset (8), number of producers; per producer id (8), epoch (2), time of
//! the last append (8), number of batches (1), per batch base and last sequence (4 each), base and last offset (8 each),
//! timestamp (8); crc32c of all before, continued from the partition's identity.

use std::io::{self, IoSlice};

use vltava_model::fields::Fields;
use vltava_model::{Offset, ProducerEpoch, ProducerId, Sequence};

use super::check::CheckSeed;
use super::home::{FileKind, Home};
use super::producers::{ProducedBatch, ProducerState, Producers, REMEMBERED_BATCHES};

const MAGIC: &[u8; 4] = b"VPRD";
const VERSION: u32 = 1;

fn encode(seed: CheckSeed, offset: Offset, producers: &Producers) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(24 + producers.len() * 64);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&offset.get().to_be_bytes());
    bytes.extend_from_slice(&(producers.len() as u32).to_be_bytes());
    for (id, state) in producers.iter() {
        bytes.extend_from_slice(&id.get().to_be_bytes());
        bytes.extend_from_slice(&state.epoch.get().to_be_bytes());
        bytes.extend_from_slice(&state.last_append_ms.to_be_bytes());
        bytes.push(state.batches.len() as u8);
        for batch in &state.batches {
            bytes.extend_from_slice(&batch.base_sequence.get().to_be_bytes());
            bytes.extend_from_slice(&batch.last_sequence.get().to_be_bytes());
            bytes.extend_from_slice(&batch.base_offset.get().to_be_bytes());
            bytes.extend_from_slice(&batch.last_offset.get().to_be_bytes());
            bytes.extend_from_slice(&batch.timestamp_ms.to_be_bytes());
        }
    }
    let sum = seed.sum(&bytes);
    bytes.extend_from_slice(&sum.to_be_bytes());
    bytes
}

fn decode(seed: CheckSeed, offset: Offset, bytes: &[u8]) -> Option<Producers> {
    let (body, sum) = bytes.split_last_chunk::<4>()?;
    if seed.sum(body).to_be_bytes() != *sum {
        return None;
    }
    let mut fields = Fields(body);
    if fields.take()? != *MAGIC || fields.u32()? != VERSION || fields.u64()? != offset.get() {
        return None;
    }
    let mut producers = Producers::new();
    for _ in 0..fields.u32()? {
        let id = ProducerId::new(fields.u64()?);
        let epoch = ProducerEpoch::new(fields.u16()?);
        let last_append_ms = fields.i64()?;
        let [many] = fields.take()?;
        if usize::from(many) > REMEMBERED_BATCHES {
            return None;
        }
        let mut state = ProducerState { epoch, batches: Default::default(), last_append_ms };
        for _ in 0..many {
            state.batches.push_back(ProducedBatch {
                base_sequence: Sequence::new(fields.u32()?),
                last_sequence: Sequence::new(fields.u32()?),
                base_offset: Offset::new(fields.u64()?),
                last_offset: Offset::new(fields.u64()?),
                timestamp_ms: fields.i64()?,
            });
        }
        producers.restore(id, state);
    }
    fields.0.is_empty().then_some(producers)
}

/// Writes the state after all batches below `offset`, without syncing it.
pub(crate) fn write(home: &Home, offset: Offset, producers: &Producers) -> io::Result<()> {
    let bytes = encode(CheckSeed::new(home.partition, offset), offset, producers);
    let file = home.storage.create(&home.path(offset, FileKind::Snapshot))?;
    file.write_all_at(0, &[IoSlice::new(&bytes)])?;
    file.set_len(bytes.len() as u64)
}

/// Reads a snapshot; `None` when it is missing or damaged.
pub(crate) fn read(home: &Home, offset: Offset) -> io::Result<Option<Producers>> {
    let file = match home.storage.open(&home.path(offset, FileKind::Snapshot)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = vec![0; usize::try_from(file.len()?).map_err(|_| io::ErrorKind::InvalidData)?];
    let read = file.read_at(0, &mut bytes)?;
    Ok(decode(CheckSeed::new(home.partition, offset), offset, &bytes[..read]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use vltava_model::{PartitionIndex, TopicId, TopicPartition};

    #[test]
    fn a_snapshot_reads_back_and_every_flipped_bit_or_cut_is_noticed() {
        let seed =
            CheckSeed::new(TopicPartition::new(TopicId::new(1), PartitionIndex::new(2)), Offset::new(9));
        let mut producers = Producers::new();
        for id in 0..3u64 {
            let batch = ProducedBatch {
                base_sequence: Sequence::new(4),
                last_sequence: Sequence::new(5),
                base_offset: Offset::new(6),
                last_offset: Offset::new(7),
                timestamp_ms: -1,
            };
            let batches = (0..id + 1).map(|_| batch).collect();
            let state = ProducerState { epoch: ProducerEpoch::new(3), batches, last_append_ms: 12 };
            producers.restore(ProducerId::new(id), state);
        }
        let bytes = encode(seed, Offset::new(9), &producers);
        assert_eq!(decode(seed, Offset::new(9), &bytes), Some(producers));
        assert_eq!(decode(seed, Offset::new(8), &bytes), None);
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(seed, Offset::new(9), &bad), None);
        }
        for len in 0..bytes.len() {
            assert_eq!(decode(seed, Offset::new(9), &bytes[..len]), None);
        }
    }
}
