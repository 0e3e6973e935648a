//! Kafka's rules for sequence numbers, case by case.

use vltava_model::batch::{Batch, BatchBuilder, Compression};

use super::*;

fn header(id: u64, epoch: u16, sequence: u32, records: u32, base: u64) -> BatchHeader {
    let stamp = ProducerStamp {
        id: ProducerId::new(id),
        epoch: ProducerEpoch::new(epoch),
        base_sequence: Sequence::new(sequence),
    };
    let mut builder = BatchBuilder::new(Compression::None).producer(stamp);
    for _ in 0..records {
        builder.append(1, None, None, &[]).unwrap();
    }
    let batch = Batch::parse(builder.build()).unwrap();
    *batch.with_position(Offset::new(base), vltava_model::LeaderEpoch::new(0)).header()
}

#[test]
fn the_last_five_batches_are_duplicates_and_all_else_is_out_of_order() {
    let mut producers = Producers::new();
    for n in 0..8 {
        let header = header(1, 0, n * 10, 10, u64::from(n) * 100);
        assert_eq!(producers.check(&header), ProducerCheck::Append);
        producers.update(&header, 5);
    }
    for n in 3..8u32 {
        let (base, last) = (Offset::new(u64::from(n) * 100), Offset::new(u64::from(n) * 100 + 9));
        let expected = ProducerCheck::Duplicate { base_offset: base, last_offset: last, timestamp_ms: 1 };
        assert_eq!(producers.check(&header(1, 0, n * 10, 10, 0)), expected);
    }
    let out_of_order = ProducerCheck::OutOfOrder { expected: Some(Sequence::new(80)) };
    assert_eq!(producers.check(&header(1, 0, 20, 10, 0)), out_of_order);
    assert_eq!(producers.check(&header(1, 0, 90, 1, 0)), out_of_order);
    assert_eq!(producers.check(&header(1, 0, 70, 11, 0)), out_of_order);
    assert_eq!(producers.check(&header(1, 0, 75, 5, 0)), out_of_order);
}

#[test]
fn epochs_fence_and_begin_at_zero() {
    let mut producers = Producers::new();
    assert_eq!(
        producers.check(&header(1, 3, 17, 1, 0)),
        ProducerCheck::Append,
        "an unknown producer may go on"
    );
    producers.update(&header(1, 3, 17, 1, 0), 5);
    assert_eq!(
        producers.check(&header(1, 2, 18, 1, 0)),
        ProducerCheck::Fenced { current: ProducerEpoch::new(3) }
    );
    assert_eq!(producers.check(&header(1, 4, 18, 1, 0)), ProducerCheck::OutOfOrder { expected: None });
    assert_eq!(producers.check(&header(1, 4, 0, 1, 0)), ProducerCheck::Append);
    producers.update(&header(1, 4, 0, 1, 1), 5);
    assert_eq!(producers.check(&header(1, 4, 1, 1, 0)), ProducerCheck::Append);
    assert_eq!(
        producers.check(&header(1, 3, 18, 1, 0)),
        ProducerCheck::Fenced { current: ProducerEpoch::new(4) }
    );
}

#[test]
fn sequences_wrap_at_two_to_the_31() {
    let mut producers = Producers::new();
    let top = i32::MAX as u32;
    producers.update(&header(1, 0, top - 4, 5, 0), 5);
    assert_eq!(producers.check(&header(1, 0, 0, 3, 0)), ProducerCheck::Append);
    producers.update(&header(1, 0, 0, 3, 5), 5);
    assert!(matches!(producers.check(&header(1, 0, top - 4, 5, 0)), ProducerCheck::Duplicate { .. }));
    let mut producers = Producers::new();
    let across = header(1, 0, top - 1, 5, 0);
    producers.update(&across, 5);
    assert_eq!(producers.check(&header(1, 0, 3, 1, 0)), ProducerCheck::Append);
    assert!(matches!(producers.check(&across), ProducerCheck::Duplicate { .. }));
}

#[test]
fn batches_without_a_producer_pass_and_producers_expire_by_the_time_given() {
    let mut producers = Producers::new();
    producers.update(&header(1, 0, 0, 1, 0), 100);
    producers.update(&header(2, 0, 0, 1, 0), 200);
    producers.expire(100);
    assert_eq!(producers.iter().map(|(id, _)| id).collect::<Vec<_>>(), [ProducerId::new(2)]);
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(1, None, None, &[]).unwrap();
    let batch = Batch::parse(builder.build()).unwrap();
    assert_eq!(producers.check(batch.header()), ProducerCheck::Append);
}
