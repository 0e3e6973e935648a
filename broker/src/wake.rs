//! A coalescing set of numbered things that have news, and the one task that waits for it.
//!
//! Marking costs a short lock and wakes the owner at most once, however many threads mark. Its size is bounded by how
//! many numbers there are.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// Slots of one replication stream that have something to send.
#[derive(Default)]
pub struct WakeSet {
    marked: Mutex<BTreeSet<u32>>,
    notify: Notify,
}

impl WakeSet {
    /// Says that `slot` has news.
    pub fn mark(&self, slot: u32) {
        if self.note(slot) {
            self.wake();
        }
    }

    /// Notes that `slot` has news, for a [`Self::wake`] that comes soon; says whether that was not known.
    pub fn note(&self, slot: u32) -> bool {
        self.marked.lock().unwrap_or_else(PoisonError::into_inner).insert(slot)
    }

    /// Wakes the owner, to look at what was noted.
    pub fn wake(&self) {
        self.notify.notify_one();
    }

    /// Takes all marked slots without waiting.
    pub fn take(&self) -> BTreeSet<u32> {
        std::mem::take(&mut *self.marked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until something is marked. Safe to drop at any await: marks stay until taken.
    pub async fn wait(&self) {
        loop {
            let notified = self.notify.notified();
            if !self.marked.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
                return;
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
    }
}
