//! Batches as a whole: known bytes, what is written is read, and whatever was damaged is refused.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{ProducerEpoch, ProducerId, Sequence};

/// Three records, put together by hand from Kafka's format.
const GOLDEN: &[&[u8]] = &[
    &[0, 0, 0, 0, 0, 0, 0, 0],                               // base offset 0
    &[0, 0, 0, 86],                                          // 86 bytes follow
    &[0xff, 0xff, 0xff, 0xff],                               // no leader epoch
    &[2],                                                    // magic
    &[0x45, 0x21, 0x18, 0x14],                               // CRC-32C of the rest
    &[0, 0],                                                 // not compressed, create time
    &[0, 0, 0, 2],                                           // last offset delta
    &[0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x00],       // base timestamp 1,700,000,000,000
    &[0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x69, 0x2c],       // max timestamp, 300 ms later
    &[0, 0, 0, 0, 0, 0, 0x10, 0x92],                         // producer id 4242
    &[0, 7],                                                 // producer epoch
    &[0, 0, 0, 99],                                          // base sequence
    &[0, 0, 0, 3],                                           // record count
    &[0x28, 0, 0, 0],                                        // 20 bytes: attributes, timestamp +0, offset +0
    &[0x04, b'k', b'1', 0x0a, b'h', b'e', b'l', b'l', b'o'], // key of 2, value of 5
    &[0x04, 0x02, b'h', 0x02, b'x', 0x02, b'h', 0x01],       // two headers: h = x, h = null
    &[0x0c, 0, 0x09, 0x02, 0x01, 0x00, 0x00], // 6 bytes: timestamp -5, offset +1, null, empty, no headers
    &[0x10, 0, 0xd8, 0x04, 0x04, 0x02, b'k', 0x01, 0x00], // 8 bytes: timestamp +300, offset +2, k, null, no headers
];

const BASE_MS: i64 = 1_700_000_000_000;

fn stamp() -> ProducerStamp {
    ProducerStamp {
        id: ProducerId::new(4242),
        epoch: ProducerEpoch::new(7),
        base_sequence: Sequence::new(99),
    }
}

fn golden_records() -> Vec<Record> {
    let bytes = Bytes::from_static;
    let record = |offset, timestamp_ms, key: Option<&'static str>, value: Option<&'static str>| Record {
        offset: Offset::new(offset),
        timestamp_ms,
        key: key.map(|text| bytes(text.as_bytes())),
        value: value.map(|text| bytes(text.as_bytes())),
        headers: Vec::new(),
    };
    let mut first = record(0, BASE_MS, Some("k1"), Some("hello"));
    first.headers = vec![RecordHeader::new("h", Some(bytes(b"x"))), RecordHeader::new("h", None)];
    vec![first, record(1, BASE_MS - 5, None, Some("")), record(2, BASE_MS + 300, Some("k"), None)]
}

fn build(compression: Compression, records: &[Record]) -> Bytes {
    let mut builder = BatchBuilder::new(compression).producer(stamp());
    for record in records {
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        builder.append(record.timestamp_ms, key, value, &record.headers).unwrap();
    }
    builder.build()
}

fn read(batch: &Batch) -> Result<Vec<Record>, BatchError> {
    batch.records()?.collect()
}

/// Lets changed bytes pass for whole: sets length and checksum anew.
fn reseal(mut bytes: Vec<u8>) -> Bytes {
    let length = (bytes.len() - PREFIX_BYTES) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[header::CRC_COVERS_FROM..]);
    bytes[header::CRC_AT..][..4].copy_from_slice(&crc.to_be_bytes());
    Bytes::from(bytes)
}

/// A batch with this body behind the header of the golden one.
fn with_body(compression: Compression, record_count: u32, body: &[u8]) -> Result<Batch, BatchError> {
    let mut bytes = GOLDEN.concat()[..HEADER_BYTES].to_vec();
    bytes[header::ATTRIBUTES_AT + 1] = compression.number();
    bytes[23..27].copy_from_slice(&(record_count.max(1) - 1).to_be_bytes());
    bytes[57..61].copy_from_slice(&record_count.to_be_bytes());
    bytes.extend_from_slice(body);
    Batch::parse(reseal(bytes))
}

/// The golden batch with some bytes replaced, and whole again.
fn patched(at: usize, bytes: &[u8]) -> Result<Batch, BatchError> {
    let mut batch = GOLDEN.concat();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    Batch::parse(reseal(batch))
}

#[test]
fn a_batch_has_kafkas_bytes() {
    assert_eq!(build(Compression::None, &golden_records()), GOLDEN.concat());
    let batch = Batch::parse(GOLDEN.concat().into()).unwrap();
    let header = batch.header();
    assert_eq!(header.length, 98);
    assert_eq!(header.leader_epoch, None);
    assert_eq!(header.producer, Some(stamp()));
    assert_eq!(stamp().last_sequence(header.record_count), Sequence::new(101));
    assert_eq!((header.base_timestamp, header.max_timestamp), (BASE_MS, BASE_MS + 300));
    assert_eq!((header.last_offset(), header.end_offset()), (Offset::new(2), Offset::new(3)));
    assert_eq!(read(&batch).unwrap(), golden_records());
    let summary = batch.validate_records().unwrap();
    assert_eq!((summary.oldest_timestamp, summary.newest_timestamp), (BASE_MS - 5, BASE_MS + 300));
    assert!(summary.has_null_key);
}

/// The golden records as Kafka's Java client 4.1 writes them, in the order of [`Compression::ALL`].
#[rustfmt::skip]
const FROM_KAFKA: [&str; 5] = [
    "000000000000000000000056ffffffff02452118140000000000020000018bcfe568000000018bcfe5692c0000000000 \
     0010920007000000630000000328000000046b310a68656c6c6f04026802780268010c0009020100001000d80404026b \
     0100",
    "00000000000000000000006affffffff02c01ea63e0001000000020000018bcfe568000000018bcfe5692c0000000000 \
     001092000700000063000000031f8b08000000000000ffd360606060c936e4ca48cdc9c96761ca60aa60ca60e461e064 \
     6264601060b8c1c2c294cdc800000451408225000000",
    "00000000000000000000006cffffffff02741d67840002000000020000018bcfe568000000018bcfe5692c0000000000 \
     0010920007000000630000000382534e4150505900000000010000000100000027259028000000046b310a68656c6c6f \
     04026802780268010c0009020100001000d80404026b0100",
    "000000000000000000000065ffffffff02ea7ea7670003000000020000018bcfe568000000018bcfe5692c0000000000 \
     0010920007000000630000000304224d186040822500008028000000046b310a68656c6c6f04026802780268010c0009 \
     020100001000d80404026b010000000000",
    "000000000000000000000062ffffffff02fe1a6e200004000000020000018bcfe568000000018bcfe5692c0000000000 \
     0010920007000000630000000328b52ffd005828010028000000046b310a68656c6c6f04026802780268010c00090201 \
     00001000d80404026b0100010000",
];

fn unhex(text: &str) -> Bytes {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

#[test]
fn batches_of_kafkas_own_client_are_read() {
    assert_eq!(unhex(FROM_KAFKA[0]), GOLDEN.concat());
    for (compression, bytes) in Compression::ALL.into_iter().zip(FROM_KAFKA) {
        let batch = Batch::parse(unhex(bytes)).unwrap();
        assert_eq!(batch.header().compression, compression);
        assert_eq!(batch.header().producer, Some(stamp()));
        assert_eq!(read(&batch).unwrap(), golden_records());
        assert!(batch.validate_records().is_ok());
    }
}

#[test]
fn a_header_comes_only_when_it_is_whole() {
    let bytes = GOLDEN.concat();
    for end in 0..HEADER_BYTES {
        assert_eq!(BatchHeader::peek(&bytes[..end]), Ok(None));
    }
    assert!(BatchHeader::peek(&bytes[..HEADER_BYTES]).unwrap().is_some());
}

#[test]
fn every_truncation_is_an_error() {
    for compression in Compression::ALL {
        let bytes = build(compression, &golden_records());
        for end in 0..bytes.len() {
            let cut = bytes.slice(..end);
            assert!(matches!(Batch::parse(cut.clone()), Err(BatchError::Truncated { .. })), "{end}");
            assert_eq!(Batch::split(cut, 1 << 20).is_ok(), end == 0, "{end}");
            // Bytes that were lost before the checksum was made.
            if end > HEADER_BYTES
                && let Ok(batch) = Batch::parse(reseal(bytes[..end].to_vec()))
            {
                assert!(read(&batch).is_err(), "{end} of a {compression} batch");
                assert!(batch.validate_records().is_err(), "{end} of a {compression} batch");
            }
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    for compression in Compression::ALL {
        let bytes = build(compression, &golden_records());
        let whole = Batch::parse(bytes.clone()).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let parsed = Batch::parse(flipped.into());
            match bit / 8 {
                // Outside the checksum: another position of the same records, or none at all.
                0..8 | 12..16 => {
                    if let Ok(moved) = parsed {
                        assert_ne!(moved.header(), whole.header());
                        assert_eq!(moved.bytes()[16..], bytes[16..]);
                    }
                }
                _ => assert!(parsed.is_err(), "bit {bit} of a {compression} batch"),
            }
        }
    }
}

#[test]
fn headers_that_no_writer_writes_are_refused() {
    let malformed: &[(usize, &[u8])] = &[
        (0, &[0x80]),                                           // negative base offset
        (0, &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), // the offsets overflow
        (23, &[0x80, 0, 0, 0]),                                 // negative last offset delta
        (23, &[0, 0, 0, 1]),                                    // fewer offsets than records
        (51, &[0xff, 0xff]),                                    // producer id without epoch
        (53, &[0xff, 0xff, 0xff, 0xff]),                        // producer id without sequence
        (57, &[0xff, 0xff, 0xff, 0xff]),                        // negative count
    ];
    for (at, bytes) in malformed {
        assert!(matches!(patched(*at, bytes), Err(BatchError::Malformed(_))), "{at}");
    }
    let mut epoch = GOLDEN.concat();
    epoch[15] = 0xfe;
    assert!(matches!(Batch::parse(epoch.into()), Err(BatchError::Malformed(_))));
    assert_eq!(patched(16, &[1]), Err(BatchError::Magic(1)));
    assert_eq!(patched(22, &[5]), Err(BatchError::UnknownCompression(5)));
    for length in [[0xff; 4], [0, 0, 0, 0], [0, 0, 0, 48]] {
        let mut bytes = GOLDEN.concat();
        bytes[8..12].copy_from_slice(&length);
        assert!(matches!(Batch::parse(bytes.into()), Err(BatchError::Malformed(_))));
    }
    let mut longer = GOLDEN.concat();
    longer.push(0);
    assert_eq!(Batch::parse(longer.into()), Err(BatchError::TrailingBytes { extra: 1 }));
    assert!(Batch::parse(Bytes::from(vec![0; 100])).is_err());
}

#[test]
fn a_count_that_the_bytes_cannot_hold_is_refused() {
    assert!(matches!(with_body(Compression::None, u32::MAX >> 1, &[0; 70]), Err(BatchError::Malformed(_))));
    // Compressed, it is found out as soon as the records end.
    let batch = build(Compression::Gzip, &golden_records());
    let batch = with_body(Compression::Gzip, u32::MAX >> 1, &batch[HEADER_BYTES..]).unwrap();
    assert_eq!(batch.records().unwrap().count(), 4);
    assert!(batch.validate_records().is_err());
}

#[test]
fn batches_are_split_where_they_end() {
    let one = build(Compression::None, &golden_records());
    let two = build(Compression::Zstd, &golden_records());
    let both = Bytes::from([&one[..], &two[..]].concat());
    let batches = Batch::split(both.clone(), two.len()).unwrap();
    assert_eq!(batches.iter().map(Batch::bytes).collect::<Vec<_>>(), [&one, &two]);
    assert_eq!(batches[0].bytes().as_ptr(), both.as_ptr(), "split without copying");
    assert!(matches!(Batch::split(both.clone(), two.len() - 1), Err(BatchError::TooLarge { .. })));
    assert!(matches!(Batch::split(both.slice(..both.len() - 1), 200), Err(BatchError::Truncated { .. })));
    assert_eq!(Batch::split(Bytes::new(), 98), Ok(Vec::new()));
    // What is reserved for the smallest batches stays in proportion to their bytes.
    assert!(size_of::<Batch>() <= 2 * (HEADER_BYTES + MIN_RECORD_BYTES));
}

#[test]
fn a_position_is_set_outside_the_checksum() {
    let bytes = build(Compression::None, &golden_records());
    let shared = Batch::parse(bytes.clone()).unwrap();
    let moved = shared.clone().with_position(Offset::new(1 << 40), LeaderEpoch::new(9));
    assert_eq!(bytes, GOLDEN.concat(), "other holders of the bytes see no change");
    assert_eq!(moved.header().base_offset, Offset::new(1 << 40));
    assert_eq!(moved.header().leader_epoch, Some(LeaderEpoch::new(9)));
    assert_eq!(Batch::parse(moved.bytes().clone()).as_ref(), Ok(&moved));
    assert_eq!(read(&moved).unwrap()[2].offset, Offset::new((1 << 40) + 2));
    let alone = Batch::parse(Bytes::from(GOLDEN.concat())).unwrap();
    let address = alone.bytes().as_ptr();
    assert_eq!(alone.with_position(Offset::new(5), LeaderEpoch::ZERO).bytes().as_ptr(), address);
}

#[test]
#[should_panic(expected = "would pass the largest offset")]
fn a_position_past_the_largest_offset_is_our_own_fault() {
    let batch = Batch::parse(GOLDEN.concat().into()).unwrap();
    drop(batch.with_position(Offset::MAX, LeaderEpoch::ZERO));
}

#[test]
fn a_batch_is_numbered_anew() {
    for compression in Compression::ALL {
        let bytes = build(compression, &golden_records());
        let before = Batch::parse(bytes.clone()).unwrap();
        let other = ProducerStamp { id: ProducerId::new(5), base_sequence: Sequence::ZERO, ..stamp() };
        let numbered = before.clone().with_producer(other);
        assert_eq!(bytes, *before.bytes(), "other holders of the bytes see no change");
        assert_eq!(Batch::parse(numbered.bytes().clone()).as_ref(), Ok(&numbered));
        assert_eq!(numbered.header().producer, Some(other));
        assert_eq!(read(&numbered), read(&before));
        assert_eq!(numbered.with_producer(stamp()), before);
    }
}

#[test]
fn the_append_time_replaces_every_timestamp() {
    for compression in Compression::ALL {
        let batch = Batch::parse(build(compression, &golden_records())).unwrap().with_append_time(77);
        assert_eq!(Batch::parse(batch.bytes().clone()).as_ref(), Ok(&batch));
        assert_eq!(batch.header().compression, compression);
        assert!(read(&batch).unwrap().iter().all(|record| record.timestamp_ms == 77));
        assert_eq!(batch.validate_records().unwrap().newest_timestamp, 77);
    }
}

#[test]
fn what_a_client_may_not_send_is_refused() {
    let refused = |batch: Result<Batch, BatchError>, reason: &str| {
        let error = batch.unwrap().validate_records().unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(error.code(), crate::ErrorCode::InvalidRecord);
    };
    refused(patched(22, &[1 << 5]), "control");
    refused(
        patched(43, &[0xff]).and(patched(22, &[1 << 4])).and_then(|batch| {
            let mut bytes = batch.into_bytes().to_vec();
            bytes[43] = 0xff;
            Batch::parse(reseal(bytes))
        }),
        "no producer id",
    );
    refused(patched(26, &[3]), "does not match the last offset delta");
    refused(with_body(Compression::None, 0, &[]), "no records");
    refused(
        with_body(Compression::None, 1, &[&GOLDEN[13..16].concat()[..], &[0]].concat()),
        "follow the last",
    );
    // The second record's offset delta: the same as the first one's, and past the last.
    refused(patched(85, &[0x00]), "count up");
    refused(patched(93, &[0x06]), "count up");
    // A record's length: one more and one less than its parts, and more than there is.
    refused(patched(82, &[0x0e]), "do not fill");
    refused(patched(82, &[0x0a]), "do not fill");
    refused(patched(89, &[0x12]), "larger than what is left");
    refused(patched(82, &[0x01]), "negative");
    // A header without a key.
    refused(patched(75, &[0x01]), "key is null");
}

#[test]
fn reading_stops_at_the_first_bad_record() {
    let batch = patched(85, &[0x00]).unwrap();
    let records: Vec<_> = batch.records().unwrap().collect();
    assert_eq!(records.len(), 2);
    assert!(records[0].is_ok() && records[1].is_err());
}

#[test]
fn too_many_headers_are_neither_written_nor_read() {
    let headers = vec![RecordHeader::new("", None); MAX_RECORD_HEADERS + 1];
    let mut builder = BatchBuilder::new(Compression::None);
    assert!(builder.append(0, None, None, &headers).is_err());
    assert!(builder.is_empty());
    builder.append(0, None, None, &headers[1..]).unwrap();
    let bytes = builder.build();
    let batch = Batch::parse(bytes.clone()).unwrap();
    assert_eq!(read(&batch).unwrap()[0].headers.len(), MAX_RECORD_HEADERS);
    let mut bytes = bytes.to_vec();
    let mut count = Vec::new();
    varint::put(&mut count, MAX_RECORD_HEADERS as i64);
    let at = bytes.windows(count.len()).position(|window| window == count).unwrap();
    let mut more = Vec::new();
    varint::put(&mut more, MAX_RECORD_HEADERS as i64 + 1);
    bytes[at..at + more.len()].copy_from_slice(&more);
    let error = read(&Batch::parse(reseal(bytes)).unwrap()).unwrap_err();
    assert!(error.to_string().contains("more than 10,000 headers"), "{error}");
}

#[test]
fn what_cannot_be_appended_leaves_the_batch_as_it_was() {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(i64::MAX, None, Some(b"a"), &[]).unwrap();
    assert!(builder.append(-2, None, Some(b"b"), &[]).is_err());
    builder.append(0, None, Some(b"c"), &[]).unwrap();
    let records = read(&Batch::parse(builder.build()).unwrap()).unwrap();
    assert_eq!(records.iter().map(|record| record.timestamp_ms).collect::<Vec<_>>(), [i64::MAX, 0]);
    // A delta that takes a timestamp out of its 64 bits.
    let batch = patched(27, &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).unwrap();
    assert!(read(&batch).is_err());
}

#[test]
#[should_panic(expected = "without records")]
fn an_empty_batch_is_not_built() {
    drop(BatchBuilder::new(Compression::None).build());
}

#[test]
fn header_keys_that_are_not_text_are_still_read() {
    let batch = patched(76, &[0xff]).unwrap();
    assert_eq!(read(&batch).unwrap()[0].headers[0].key, "\u{fffd}");
}

fn record() -> impl Strategy<Value = Record> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    let header = (".{0,5}", prop::option::of(bytes())).prop_map(|(key, value)| RecordHeader { key, value });
    let timestamp = prop_oneof![Just(-1), 0i64..1 << 42, -(1i64 << 62)..1 << 62];
    (timestamp, prop::option::of(bytes()), prop::option::of(bytes()), prop::collection::vec(header, 0..4))
        .prop_map(|(timestamp_ms, key, value, headers)| Record {
            offset: Offset::ZERO,
            timestamp_ms,
            key,
            value,
            headers,
        })
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    prop::collection::vec(record(), 1..20).prop_map(|mut records| {
        for (i, record) in records.iter_mut().enumerate() {
            record.offset = Offset::new(i as u64);
        }
        records
    })
}

fn compression() -> impl Strategy<Value = Compression> {
    prop::sample::select(&Compression::ALL[..])
}

proptest! {
    #![proptest_config(crate::testing::same_every_run())]

    #[test]
    fn what_is_written_is_read(records in records(), compression in compression()) {
        let bytes = build(compression, &records);
        let batch = Batch::parse(bytes.clone()).unwrap();
        prop_assert_eq!(&read(&batch).unwrap(), &records);
        let summary = batch.validate_records().unwrap();
        prop_assert_eq!(summary.newest_timestamp, batch.header().max_timestamp);
        prop_assert_eq!(batch.header().record_count as usize, records.len());
        let estimates = records.iter().map(|record| {
            record_len_bound(record.key.as_deref(), record.value.as_deref(), &record.headers)
        });
        prop_assert!(summary.decompressed_bytes <= estimates.sum());
        // The header's writer and reader agree.
        let mut again = [0; HEADER_BYTES];
        batch.header().write(&mut again);
        prop_assert_eq!(&again[..], &bytes[..HEADER_BYTES]);
    }

    #[test]
    fn the_estimate_is_exact_without_compression(records in records()) {
        let mut builder = BatchBuilder::new(Compression::None);
        for record in &records {
            builder.append(record.timestamp_ms, None, record.value.as_deref(), &record.headers).unwrap();
        }
        let estimate = builder.encoded_len_estimate();
        prop_assert_eq!(builder.build().len(), estimate);
    }

    #[test]
    fn any_bytes_are_survived(bytes: Vec<u8>) {
        let _ = BatchHeader::peek(&bytes);
        let _ = Batch::split(bytes.clone().into(), 1 << 20);
        let _ = Batch::parse(bytes.into());
    }

    /// Bodies of any bytes under a valid checksum: an attacker computes checksums too.
    #[test]
    fn any_body_is_survived(
        compression in compression(), count in 0u32..50, body in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        if let Ok(batch) = with_body(compression, count, &body) {
            let _ = batch.validate_records();
            let _ = read(&batch);
        }
    }

    /// Nearly right bodies under a valid checksum: what passes validation is read without error.
    #[test]
    fn what_passes_validation_is_readable(
        records in records(), compression in compression(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = build(compression, &records).to_vec();
        for (index, value) in changes {
            let at = header::ATTRIBUTES_AT + index.index(bytes.len() - header::ATTRIBUTES_AT);
            bytes[at] = value;
        }
        if let Ok(batch) = Batch::parse(reseal(bytes)) {
            let valid = batch.validate_records();
            let read = read(&batch);
            if valid.is_ok() {
                let read = read.unwrap();
                for (i, record) in read.iter().enumerate() {
                    prop_assert_eq!(record.offset.get(), batch.header().base_offset.get() + i as u64);
                }
                prop_assert_eq!(read.len(), batch.header().record_count as usize);
            }
        }
    }
}
