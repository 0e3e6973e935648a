//! A condition variable that a simulator can look at.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::lock::lock;
use crate::simulator::simulator;

/// Tells threads that something behind a mutex has changed. It may tell them for nothing, as every condition variable.
#[derive(Debug, Default)]
pub struct Changed {
    condvar: Condvar,
    /// How often it was told.
    times: AtomicU64,
}

impl Changed {
    /// Wakes all that wait.
    pub fn notify_all(&self) {
        self.times.fetch_add(1, Ordering::Relaxed);
        self.condvar.notify_all();
    }

    /// Waits for a change, up to `limit` if there is one; `guard`, of `mutex`, is given up meanwhile.
    pub fn wait<'a, T: Send>(
        &self,
        mutex: &'a Mutex<T>,
        guard: MutexGuard<'a, T>,
        limit: Option<Duration>,
    ) -> MutexGuard<'a, T> {
        let Some(simulator) = simulator() else {
            return match limit {
                None => self.condvar.wait(guard).unwrap_or_else(PoisonError::into_inner),
                Some(limit) => {
                    self.condvar.wait_timeout(guard, limit).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        };
        let seen = self.times.load(Ordering::Relaxed);
        drop(guard);
        simulator.park(&|| self.times.load(Ordering::Relaxed) != seen, limit);
        lock(mutex)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_change_wakes_and_silence_times_out() {
        let shared = Arc::new((Mutex::new(false), Changed::default()));
        let (mutex, changed) = &*shared;
        drop(changed.wait(mutex, lock(mutex), Some(Duration::from_millis(1))));
        let other = shared.clone();
        let thread = crate::spawn("changes", move || {
            *lock(&other.0) = true;
            other.1.notify_all();
        });
        let mut guard = lock(mutex);
        while !*guard {
            guard = changed.wait(mutex, guard, None);
        }
        thread.unwrap().join().unwrap();
    }
}
