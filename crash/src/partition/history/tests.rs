//! The judge itself: it must let through what is legal and nothing else.

use vltava_model::batch::{BatchBuilder, Compression};
use vltava_model::{LeaderEpoch, Offset, PartitionIndex, TopicId};

use super::*;

fn batch(base: u64, epoch: u32) -> Batch {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(1, None, Some(b"v"), &[]).unwrap();
    let batch = Batch::parse(builder.build()).unwrap();
    batch.with_position(Offset::new(base), LeaderEpoch::new(epoch))
}

fn content(epochs: &[u32]) -> Content {
    let batches = epochs.iter().enumerate().map(|(base, epoch)| batch(base as u64, *epoch)).collect();
    Content { batches, start: 0, floor: 0 }
}

/// Grows to two batches, of which the first is acknowledged, is cut to one, and grows in another epoch.
fn history() -> History {
    let partition = TopicPartition::new(TopicId::new(1), PartitionIndex::new(0));
    let mut history = History::new(partition, content(&[]), 0);
    history.begin(content(&[1]), Change::Grew, 10);
    history.done(12);
    history.ack().give(15);
    history.begin(content(&[1, 1]), Change::Grew, 20);
    history.done(22);
    history.begin(content(&[1]), Change::Shrank, 30);
    history.done(35);
    history.begin(content(&[1, 2]), Change::Grew, 40);
    history.done(42);
    history
}

fn is_lost(operations: usize, found: &[u32]) -> bool {
    matches!(history().judge(operations, &content(found)), Outcome::Lost(_))
}

#[test]
fn what_was_acknowledged_must_be_there_and_what_was_begun_may() {
    assert!(!is_lost(5, &[]) && is_lost(5, &[1]));
    assert!(!is_lost(14, &[]) && !is_lost(14, &[1]));
    assert!(is_lost(15, &[]) && !is_lost(15, &[1]) && is_lost(15, &[1, 1]));
    assert!(!is_lost(20, &[1, 1]) && is_lost(20, &[2]));
    assert!(!is_lost(30, &[1, 1]) && !is_lost(30, &[1]));
}

#[test]
fn what_was_cut_must_not_come_back() {
    assert!(is_lost(35, &[1, 1]) && !is_lost(35, &[1]));
    assert!(is_lost(42, &[1, 1]) && !is_lost(42, &[1, 2]) && !is_lost(42, &[1]));
}

#[test]
fn a_start_moves_when_it_is_said_and_not_before() {
    let mut history = history();
    history.begin(content(&[1, 2]).from(1), Change::Grew, 50);
    let lost = |history: &History, operations, start| {
        let found = content(&[1, 2]).from(start);
        matches!(history.judge(operations, &found), Outcome::Lost(_))
    };
    assert!(lost(&history, 45, 1) && !lost(&history, 45, 0));
    assert!(!lost(&history, 55, 1) && !lost(&history, 55, 0));
    history.done(60);
    assert!(!lost(&history, 60, 1) && lost(&history, 60, 0));
}
