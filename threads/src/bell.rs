//! Where one thread waits for any of several queues. It sleeps at once: a thread that spins first, in the hope of the next
//! message, takes the processor from whoever is about to send it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::rest::Rest;
use crate::simulator::{Woken, simulator};

/// Wakes the thread that waits for it. Clones are the same bell.
#[derive(Clone, Debug, Default)]
pub struct Bell {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Whether somebody may be asleep: as long as nobody is, ringing costs one load.
    asleep: AtomicBool,
    sleeper: Mutex<Option<Thread>>,
}

impl Bell {
    /// A bell that nobody waits for.
    pub fn new() -> Self {
        Self::default()
    }

    /// Wakes the thread that waits, if one does. What it waits for must be there by now: written under a lock that its
    /// question takes, or by a sequentially consistent store.
    #[inline]
    pub fn ring(&self) {
        if self.shared.asleep.swap(false, Ordering::SeqCst) {
            let sleeper = self.sleeper().take();
            if let Some(sleeper) = sleeper {
                sleeper.unpark();
            }
        }
    }

    /// Waits until `ready` says yes, up to `limit` if there is one; says whether it does. For one thread at a time.
    pub fn wait(&self, ready: impl Fn() -> bool + Sync, limit: Option<Duration>) -> bool {
        if ready() {
            return true;
        }
        if let Some(simulator) = simulator() {
            return simulator.park(&ready, limit) == Woken::Ready;
        }
        let deadline = limit.map(|limit| Instant::now() + limit);
        let mut rest = Rest::default();
        loop {
            *self.sleeper() = Some(thread::current());
            self.shared.asleep.store(true, Ordering::SeqCst);
            // Asked again: whoever made it true before the line above did not see that anybody sleeps.
            let is_ready = ready();
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if is_ready || left.is_some_and(|left| left.is_zero()) {
                self.shared.asleep.store(false, Ordering::SeqCst);
                return is_ready;
            }
            match rest.nap(left) {
                None => thread::park(),
                Some(nap) => thread::park_timeout(nap),
            }
        }
    }

    fn sleeper(&self) -> MutexGuard<'_, Option<Thread>> {
        self.shared.sleeper.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_times_out_and_what_is_there_is_not_waited_for() {
        let bell = Bell::new();
        assert!(!bell.wait(|| false, Some(Duration::from_millis(1))));
        assert!(bell.wait(|| true, None));
        bell.ring();
        assert!(
            !bell.wait(|| false, Some(Duration::from_millis(1))),
            "a ring that nobody heard is no answer"
        );
    }

    /// No ring is lost, however the two meet: each side waits for the other a hundred thousand times.
    #[test]
    fn two_threads_wake_each_other() {
        const TURNS: u64 = 100_000;
        let (ping, pong) = (Bell::new(), Bell::new());
        let turn = Arc::new(Mutex::new(0_u64));
        let is = |turn: &Mutex<u64>, wanted: u64| *turn.lock().unwrap() >= wanted;
        let other = (ping.clone(), pong.clone(), turn.clone());
        let thread = crate::spawn("other", move || {
            let (ping, pong, turn) = other;
            for n in 0..TURNS {
                assert!(ping.wait(|| is(&turn, 2 * n + 1), Some(Duration::from_secs(20))), "turn {n}");
                *turn.lock().unwrap() += 1;
                pong.ring();
            }
        });
        for n in 0..TURNS {
            *turn.lock().unwrap() += 1;
            ping.ring();
            assert!(pong.wait(|| is(&turn, 2 * n + 2), Some(Duration::from_secs(20))), "turn {n}");
        }
        thread.unwrap().join().unwrap();
    }
}
