//! A coalescing set of numbered things that have news, and the one task that waits for it.
//!
//! Marking costs a short lock and wakes the owner at most once, however many threads mark. Its size is bounded by how
//! many numbers there are.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Slots of one replication stream that have something to send, or are to be ended.
#[derive(Default)]
pub struct WakeSet {
    marks: Mutex<Marks>,
    notify: Notify,
}

#[derive(Default)]
struct Marks {
    news: BTreeSet<u32>,
    ended: BTreeSet<u32>,
}

impl WakeSet {
    /// Says that `slot` has news.
    pub fn mark(&self, slot: u32) {
        if self.note(slot) {
            self.wake();
        }
    }

    /// Says that `slot` gets nothing any more, and that the follower is to be told.
    pub fn end(&self, slot: u32) {
        self.marks().ended.insert(slot);
        self.wake();
    }

    fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that `slot` has news, for a [`Self::wake`] that comes soon; says whether that was not known.
    pub fn note(&self, slot: u32) -> bool {
        self.marks().news.insert(slot)
    }

    /// Wakes the owner, to look at what was noted.
    pub fn wake(&self) {
        self.notify.notify_one();
    }

    /// Takes all slots that have news, without waiting.
    pub fn take(&self) -> BTreeSet<u32> {
        std::mem::take(&mut self.marks().news)
    }

    /// Takes all slots that are to be ended, without waiting.
    pub fn take_ended(&self) -> BTreeSet<u32> {
        std::mem::take(&mut self.marks().ended)
    }

    /// Waits until something is marked. Safe to drop at any await: marks stay until taken.
    pub async fn wait(&self) {
        loop {
            let notified = self.notify.notified();
            {
                let marks = self.marks();
                if !marks.news.is_empty() || !marks.ended.is_empty() {
                    return;
                }
            }
            notified.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn marks_coalesce_and_survive_a_dropped_wait() {
        let set = WakeSet::default();
        set.mark(3);
        set.mark(3);
        set.mark(1);
        drop(Box::pin(set.wait()));
        set.wait().await;
        assert_eq!(set.take().into_iter().collect::<Vec<_>>(), [1, 3]);
        assert!(set.take().is_empty());
        assert!(set.note(7) && !set.note(7));
        set.wake();
        set.wait().await;
        assert_eq!(set.take().into_iter().collect::<Vec<_>>(), [7]);
        set.end(2);
        set.wait().await;
        assert!(set.take().is_empty());
        assert_eq!(set.take_ended().into_iter().collect::<Vec<_>>(), [2]);
    }
}
