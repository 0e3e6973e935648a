//! Recent records, for brokers that follow the metadata log. Each broker's session asks for what comes after what it sent;
//! one that is too far behind is told to send a snapshot. It keeps no list of who follows, and knows no network.

use std::collections::VecDeque;
use std::sync::Mutex;

use vltava_model::MetadataOffset;
use vltava_proto::v1::{FeedRecords, MetadataRecord};

/// Records of one entry.
#[derive(Debug)]
struct Batch {
    base: u64,
    records: Vec<MetadataRecord>,
    bytes: usize,
}

impl Batch {
    fn end(&self) -> u64 {
        self.base + self.records.len() as u64
    }
}

#[derive(Debug)]
struct Recent {
    batches: VecDeque<Batch>,
    bytes: usize,
    /// Where the next batch begins.
    end: u64,
}

/// The newest records, without a gap up to the newest one.
#[derive(Debug)]
pub(crate) struct Feed {
    max_bytes: usize,
    recent: Mutex<Recent>,
}

/// What a follower gets next.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    /// It has everything.
    Nothing,
    /// These.
    Records(FeedRecords),
    /// What it needs is gone: the whole state.
    Snapshot,
    /// It has records that this node never applied: it followed another cluster.
    Ahead,
}

impl Feed {
    /// Keeps about `max_bytes` of records, and always the newest entry.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, recent: Mutex::new(Recent { batches: VecDeque::new(), bytes: 0, end: 0 }) }
    }

    /// Adds the records of one entry, whose encoded size is `bytes`.
    pub(crate) fn push(&self, base: MetadataOffset, records: Vec<MetadataRecord>, bytes: usize) {
        let mut recent = self.lock();
        assert_eq!(base.get(), recent.end, "entries are applied without a gap");
        let batch = Batch { base: base.get(), records, bytes };
        recent.end = batch.end();
        recent.bytes += bytes;
        recent.batches.push_back(batch);
        while recent.bytes > self.max_bytes && recent.batches.len() > 1 {
            let oldest = recent.batches.pop_front().map_or(0, |batch| batch.bytes);
            recent.bytes -= oldest;
        }
    }

    /// Forgets everything: the state was replaced by a snapshot that ends at `end`.
    pub(crate) fn reset(&self, end: MetadataOffset) {
        *self.lock() = Recent { batches: VecDeque::new(), bytes: 0, end: end.get() };
    }

    /// What comes after `from`, about `max_bytes` of it.
    pub(crate) fn next(&self, from: MetadataOffset, max_bytes: usize) -> Next {
        let recent = self.lock();
        let from = from.get();
        if from == recent.end {
            return Next::Nothing;
        }
        if from > recent.end {
            return Next::Ahead;
        }
        if recent.batches.front().is_none_or(|first| from < first.base) {
            return Next::Snapshot;
        }
        let start = recent.batches.partition_point(|batch| batch.end() <= from);
        let mut records = Vec::new();
        let mut bytes = 0;
        for batch in recent.batches.iter().skip(start) {
            if bytes > 0 && bytes + batch.bytes > max_bytes {
                break;
            }
            // A follower may have stopped within an entry that it got as a part of a snapshot of another node.
            let skip = usize::try_from(from.saturating_sub(batch.base)).unwrap_or(usize::MAX);
            records.extend(batch.records.iter().skip(skip).cloned());
            bytes += batch.bytes;
        }
        Next::Records(FeedRecords { base_offset: from, records })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vltava_metadata::record;

    fn at(offset: u64) -> MetadataOffset {
        MetadataOffset::new(offset)
    }

    fn records(from: u32, count: u32) -> Vec<MetadataRecord> {
        (from..from + count).map(|level| record::feature("f", level + 1)).collect()
    }

    fn feed() -> Feed {
        let feed = Feed::new(300);
        feed.push(at(0), records(0, 2), 100);
        feed.push(at(2), records(2, 3), 100);
        feed.push(at(5), records(5, 1), 100);
        feed
    }

    #[test]
    fn a_follower_gets_what_it_lacks_in_bounded_pieces() {
        let feed = feed();
        assert_eq!(feed.next(at(6), 1000), Next::Nothing);
        assert_eq!(feed.next(at(7), 1000), Next::Ahead);
        let all = FeedRecords { base_offset: 0, records: records(0, 6) };
        assert_eq!(feed.next(at(0), 1000), Next::Records(all));
        let some = FeedRecords { base_offset: 0, records: records(0, 2) };
        assert_eq!(feed.next(at(0), 150), Next::Records(some.clone()));
        assert_eq!(feed.next(at(0), 1), Next::Records(some), "at least one entry");
        let within = FeedRecords { base_offset: 3, records: records(3, 3) };
        assert_eq!(feed.next(at(3), 1000), Next::Records(within));
    }

    #[test]
    fn what_is_too_old_needs_a_snapshot() {
        let feed = feed();
        feed.push(at(6), records(6, 1), 100);
        assert_eq!(feed.next(at(1), 1000), Next::Snapshot);
        assert!(matches!(feed.next(at(2), 1000), Next::Records(_)));
        feed.reset(at(50));
        assert_eq!(feed.next(at(6), 1000), Next::Snapshot);
        assert_eq!(feed.next(at(50), 1000), Next::Nothing);
        feed.push(at(50), records(0, 1), 1_000_000);
        assert!(matches!(feed.next(at(50), 1), Next::Records(_)), "the newest entry is always kept");
    }
}
