//! What must agree with the batches of a log: epochs, producers, and what indexes find.

use vltava_commitlog::log::{Log, Producers};
use vltava_model::Offset;
use vltava_model::batch::Batch;

use super::history::Content;
use super::process::{NOW_MS, Unread, scanned_epochs};

fn wrong<T>(what: String) -> Result<T, Unread> {
    Err(Unread::Wrong(what))
}

/// The epochs are those that a scan of the batches gives, but for one at the log's end in which nothing was written yet.
pub fn epochs(log: &Log, content: &Content) -> Result<(), Unread> {
    let Some(scanned) = scanned_epochs(content) else {
        return wrong("the epochs of its batches go back".to_owned());
    };
    let known = log.epochs();
    let mut written = known.clone();
    written.truncate_to(log.log_end());
    let begins_below =
        content.batches.is_empty() && known.entries().first().is_some_and(|(_, at)| at.get() < content.start);
    if (!content.batches.is_empty() && written != scanned) || begins_below {
        return wrong(format!("its epochs are {known:?}, its batches say {scanned:?}"));
    }
    Ok(())
}

/// Of every producer at least what a scan of the batches gives is known, and no batch that is not there.
pub fn producers(log: &Log, content: &Content) -> Result<(), Unread> {
    let mut scanned = Producers::new();
    content.batches.iter().for_each(|batch| scanned.update(batch.header(), NOW_MS));
    let end = log.log_end();
    for (id, known) in log.producers().iter() {
        if known.batches.iter().any(|batch| batch.last_offset >= end) {
            return wrong(format!("producer {id:?} has batches behind the end {end}: {known:?}"));
        }
    }
    for (id, state) in scanned.iter() {
        let known = log.producers().iter().find(|(known, _)| *known == id).map(|(_, known)| known);
        let agrees = known.is_some_and(|known| {
            let mut pairs = known.batches.iter().rev().zip(state.batches.iter().rev());
            known.epoch == state.epoch
                && known.batches.len() >= state.batches.len()
                && pairs.all(|(a, b)| a == b)
        });
        if !agrees {
            return wrong(format!("of producer {id:?} it knows {known:?}, its batches say {state:?}"));
        }
    }
    Ok(())
}

/// Every offset and every timestamp finds what a look at all batches finds.
pub fn lookups(log: &Log, content: &Content) -> Result<(), Unread> {
    let (reader, end) = (log.reader(), log.log_end());
    for batch in &content.batches {
        let header = batch.header();
        for offset in [header.base_offset.get().max(content.start), header.last_offset().get()] {
            let read = reader.read(Offset::new(offset), 1, end);
            let read = read.map_err(|error| Unread::Damaged(error.to_string()))?;
            if read.bytes != *batch.bytes() || read.first != header.base_offset {
                return wrong(format!("offset {offset} finds what begins at {}", read.first));
            }
        }
    }
    let stamps = |batch: &Batch| -> Vec<(u64, i64)> {
        let base = batch.header().base_offset.get();
        // All records of a batch of ours have one timestamp.
        (base..batch.header().end_offset().get())
            .map(|offset| (offset, batch.header().max_timestamp))
            .collect()
    };
    let all: Vec<(u64, i64)> = content.batches.iter().flat_map(stamps).collect();
    for wanted in (0..100).step_by(9) {
        let naive = all.iter().find(|(offset, stamp)| *offset >= content.start && *stamp >= wanted);
        let hit = reader.offset_for_timestamp(wanted, end);
        let hit = hit.map_err(|error| Unread::Damaged(error.to_string()))?;
        if hit.map(|hit| hit.offset.get()) != naive.map(|(offset, _)| *offset) {
            return wrong(format!("timestamp {wanted} is found at {hit:?} instead of {naive:?}"));
        }
    }
    Ok(())
}
