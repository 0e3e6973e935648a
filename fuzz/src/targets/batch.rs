//! Record batches as a client or a disk may give them: header, checksum, decompression, records.
//!
//! Input: a byte (odd: the checksum is put right), then batches.

use bytes::Bytes;
use vltava_model::batch::{Batch, BatchBuilder, BatchHeader, Compression, ProducerStamp, RecordHeader};
use vltava_model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

use crate::seal;

/// What records may decompress to here: far less than what may be allocated.
const DECOMPRESSED_MAX: usize = 256 << 10;

pub(super) fn run(input: &[u8]) {
    let Some((&how, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if how % 2 == 1 {
        seal::batches(&mut bytes);
    }
    let bytes = Bytes::from(bytes);
    if let Ok(Some(header)) = BatchHeader::peek(&bytes) {
        assert!(header.last_offset() >= header.base_offset && header.end_offset() > header.last_offset());
    }
    if let Ok(batch) = Batch::parse(bytes.clone()) {
        look_at(batch);
    }
    if let Ok(batches) = Batch::split(bytes.clone(), 1 << 20) {
        let whole: usize = batches.iter().map(|batch| batch.bytes().len()).sum();
        assert_eq!(whole, bytes.len(), "a split leaves nothing out");
        batches.into_iter().for_each(look_at);
    }
}

fn look_at(batch: Batch) {
    let valid = batch.validate_records_within(DECOMPRESSED_MAX);
    let records = batch.records_within(DECOMPRESSED_MAX).map(|records| records.collect::<Vec<_>>());
    if valid.is_ok() {
        let records = records.expect("records that were found valid can be read");
        assert_eq!(records.len(), batch.header().record_count as usize);
        let offsets: Vec<u64> =
            records.iter().map(|record| record.as_ref().expect("so can each").offset.get()).collect();
        assert!(offsets.windows(2).all(|pair| pair[0] + 1 == pair[1]), "they count up without a gap");
    }
    let header = *batch.header();
    let moved = batch.with_position(Offset::new(7), LeaderEpoch::new(3));
    assert_eq!(Batch::parse(moved.bytes().clone()).map(|batch| *batch.header()), Ok(*moved.header()));
    assert_eq!(moved.header().crc, header.crc, "the position lies outside the checksum");
    let stamped = moved.with_append_time(1_234_567);
    assert_eq!(Batch::parse(stamped.bytes().clone()).map(|batch| *batch.header()), Ok(*stamped.header()));
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    Compression::ALL
        .into_iter()
        .map(|compression| [&[1][..], &small_batch(compression, 3), &small_batch(compression, 1)].concat())
        .collect()
}

/// A batch of an idempotent producer.
pub(super) fn small_batch(compression: Compression, records: u64) -> Bytes {
    let stamp = ProducerStamp {
        id: ProducerId::new(9),
        epoch: ProducerEpoch::new(1),
        base_sequence: Sequence::new(0),
    };
    let mut builder = BatchBuilder::new(compression).producer(stamp);
    let headers =
        [RecordHeader::new("trace", Some(Bytes::from_static(b"abc"))), RecordHeader::new("none", None)];
    for at in 0..records {
        let value = format!("value {at} value value");
        let key: Option<&[u8]> = (at % 2 == 0).then_some(b"key");
        let appended = builder.append(1_000 + at as i64, key, Some(value.as_bytes()), &headers);
        appended.expect("a small record fits");
    }
    builder.build()
}
