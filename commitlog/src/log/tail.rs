//! The newest batches of a log, in memory: what followers and consumers at the end ask for costs no disk access.
//!
//! Bounded twice: each log keeps so many bytes, and all logs of a process share one budget; when half of it is taken, logs make
//! do with less, so that each gets some. An idle log holds nothing once its owner has trimmed it. A copy only: losing it loses nothing. Knows nothing of segments.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use vltava_model::Offset;

/// The memory that the tails of all logs share. Clones share one budget.
#[derive(Clone, Debug)]
pub struct TailBudget {
    total: usize,
    left: Arc<AtomicUsize>,
}

/// By so much less one log keeps when many do.
const SCARCE_DIVISOR: usize = 8;

impl TailBudget {
    /// A budget of `bytes`.
    pub fn new(bytes: usize) -> Self {
        Self { total: bytes, left: Arc::new(AtomicUsize::new(bytes)) }
    }

    /// How many bytes are not in use.
    pub fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    /// What one log may keep of the `bytes_max` that it may at most.
    fn share(&self, bytes_max: usize) -> usize {
        if self.left() >= self.total / 2 { bytes_max } else { bytes_max / SCARCE_DIVISOR }
    }

    fn take(&self, bytes: usize) -> bool {
        let take = |left: usize| left.checked_sub(bytes);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

struct Entry {
    base: Offset,
    end: Offset,
    bytes: Bytes,
}

/// The newest batches of one log, without a gap up to its end.
pub(crate) struct Tail {
    budget: TailBudget,
    bytes_max: usize,
    bytes: usize,
    entries: VecDeque<Entry>,
}

impl Tail {
    pub(crate) fn new(budget: TailBudget, bytes_max: usize) -> Self {
        Self { budget, bytes_max, bytes: 0, entries: VecDeque::new() }
    }

    pub(crate) fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
        self.make_room(0, bytes_max);
    }

    /// Takes the batch just appended. If there is no room even without the older ones, nothing is kept.
    pub(crate) fn push(&mut self, base: Offset, end: Offset, bytes: Bytes) {
        if self.entries.back().is_some_and(|last| last.end != base) {
            self.clear();
        }
        let share = self.budget.share(self.bytes_max);
        self.make_room(bytes.len(), share);
        while !self.budget.take(bytes.len()) {
            if !self.drop_oldest() {
                return;
            }
        }
        // The newest one is kept even so.
        if self.bytes + bytes.len() > share.max(self.bytes_max.min(bytes.len())) {
            self.budget.give_back(bytes.len());
            return;
        }
        self.bytes += bytes.len();
        self.entries.push_back(Entry { base, end, bytes });
    }

    fn make_room(&mut self, bytes: usize, max: usize) {
        while self.bytes + bytes > max && self.drop_oldest() {}
    }

    fn drop_oldest(&mut self) -> bool {
        let Some(entry) = self.entries.pop_front() else { return false };
        self.forget(&entry);
        true
    }

    fn forget(&mut self, entry: &Entry) {
        self.bytes -= entry.bytes.len();
        self.budget.give_back(entry.bytes.len());
    }

    pub(crate) fn clear(&mut self) {
        while self.drop_oldest() {}
        self.entries.shrink_to_fit();
    }

    /// The log now ends at `end`.
    pub(crate) fn truncate_to(&mut self, end: Offset) {
        while let Some(entry) = self.entries.pop_back_if(|last| last.end > end) {
            self.forget(&entry);
        }
    }

    /// The batches from the one that holds `from`, at most `bytes_max` but at least one, none beyond `limit`, with the
    /// first one's base and the last one's end. `None` when the tail does not reach back to `from`.
    pub(crate) fn read(
        &self,
        from: Offset,
        bytes_max: usize,
        limit: Offset,
    ) -> Option<(Vec<Bytes>, Offset, Offset)> {
        if self.entries.front()?.base > from {
            return None;
        }
        let at = self.entries.partition_point(|entry| entry.end <= from);
        let (mut len, mut many) = (0, 0);
        for entry in self.entries.range(at..) {
            if entry.end > limit || (many > 0 && len + entry.bytes.len() > bytes_max) {
                break;
            }
            len += entry.bytes.len();
            many += 1;
        }
        let last = self.entries.range(at..at + many).next_back()?;
        let batches = self.entries.range(at..at + many).map(|entry| entry.bytes.clone()).collect();
        Some((batches, self.entries[at].base, last.end))
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> Offset {
        Offset::new(offset)
    }

    fn push(tail: &mut Tail, base: u64, len: usize) {
        tail.push(at(base), at(base + 10), Bytes::from(vec![base as u8; len]));
    }

    #[test]
    fn keeps_the_newest_within_its_bounds_and_gives_memory_back() {
        let budget = TailBudget::new(1000);
        let mut tail = Tail::new(budget.clone(), 250);
        for base in (0..100).step_by(10) {
            push(&mut tail, base, 100);
        }
        assert_eq!(budget.left(), 800);
        assert!(tail.read(at(79), 1000, at(100)).is_none());
        let (bytes, first, end) = tail.read(at(85), 1000, at(100)).unwrap();
        assert_eq!((bytes.concat().len(), first, end), (200, at(80), at(100)));
        assert_eq!(tail.read(at(85), 1, at(100)).unwrap().2, at(90));
        assert_eq!(tail.read(at(85), 1000, at(99)).unwrap().2, at(90));
        assert!(tail.read(at(100), 1000, at(100)).is_none());
        push(&mut tail, 100, 251);
        assert_eq!(budget.left(), 1000, "what is too large is not kept, nor what would leave a gap");
        push(&mut tail, 110, 10);
        tail.truncate_to(at(115));
        assert!(tail.read(at(110), 1, at(200)).is_none());
        push(&mut tail, 110, 10);
        drop(tail);
        assert_eq!(budget.left(), 1000);
    }

    #[test]
    fn where_many_keep_much_each_keeps_less() {
        let budget = TailBudget::new(1000);
        let mut hot: Vec<Tail> = (0..4).map(|_| Tail::new(budget.clone(), 400)).collect();
        for base in (0..100).step_by(10) {
            hot.iter_mut().for_each(|tail| push(tail, base, 50));
        }
        // All have what they may when memory is scarce, and there is some for another.
        assert!(hot.iter().all(|tail| tail.read(at(95), 1, at(100)).is_some()));
        assert!(budget.left() >= 400, "{} are left", budget.left());
        let mut late = Tail::new(budget.clone(), 400);
        push(&mut late, 0, 50);
        assert!(late.read(at(0), 1, at(10)).is_some());
    }

    #[test]
    fn a_spent_budget_keeps_nothing() {
        let budget = TailBudget::new(100);
        let (mut one, mut two) = (Tail::new(budget.clone(), 100), Tail::new(budget.clone(), 100));
        push(&mut one, 0, 80);
        push(&mut two, 0, 40);
        assert!(two.read(at(0), 1, at(10)).is_none());
        push(&mut one, 10, 80);
        assert!(one.read(at(0), 1, at(20)).is_none());
        assert!(one.read(at(10), 1, at(20)).is_some());
    }
}
