//! What threads do when they rest: a process may have something that each of them has to do by itself, and that nobody should
//! wait for, such as giving back memory that only the thread which took it can give back.
//!
//! At most once in a while, and only before a thread sleeps. One that goes to sleep for long is woken once more for it, not
//! again and again. Does nothing under a simulator, which does not get here.

use std::cell::Cell;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How often at most one thread does it.
const EVERY: Duration = Duration::from_secs(5);

static AT_REST: OnceLock<fn()> = OnceLock::new();

thread_local! {
    static LAST: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Has each thread that waits in this crate's calls do `act` now and then before it sleeps; there is no way back.
///
/// # Panics
/// When there is something already.
pub fn at_rest(act: fn()) {
    assert!(AT_REST.set(act).is_ok(), "threads at rest do one thing");
}

/// For a thread that is about to sleep elsewhere: does what is to be done at rest, unless it just has been.
pub fn rest() {
    if let Some(act) = AT_REST.get() {
        rest_with(*act, Instant::now());
    }
}

/// When it is due next, if not now.
fn rest_with(act: fn(), now: Instant) -> Option<Duration> {
    let since = LAST.get().map(|last| now.saturating_duration_since(last));
    match since.and_then(|since| EVERY.checked_sub(since)) {
        None => {
            act();
            LAST.set(Some(now));
            None
        }
        due => due,
    }
}

/// One wait of a thread.
#[derive(Default)]
pub(crate) struct Rest {
    is_done: bool,
}

impl Rest {
    /// Called before each sleep of the wait; for how long at most to sleep now, of the `left` that it may.
    pub(crate) fn nap(&mut self, left: Option<Duration>) -> Option<Duration> {
        let Some(act) = AT_REST.get().filter(|_| !self.is_done) else { return left };
        self.nap_with(*act, left)
    }

    fn nap_with(&mut self, act: fn(), left: Option<Duration>) -> Option<Duration> {
        match rest_with(act, Instant::now()) {
            // What is left passed meanwhile, a little of it: whoever waits looks at the time himself.
            None => {
                self.is_done = true;
                left
            }
            Some(due) => Some(left.map_or(due, |left| left.min(due))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_thread_rests_once_in_a_while_and_once_in_a_long_sleep() {
        static RESTS: AtomicU32 = AtomicU32::new(0);
        let act = || {
            RESTS.fetch_add(1, Ordering::Relaxed);
        };
        let rests = || RESTS.load(Ordering::Relaxed);
        let begin = Instant::now();
        assert_eq!(rest_with(act, begin), None);
        assert_eq!((rest_with(act, begin + EVERY / 2), rests()), (Some(EVERY / 2), 1));
        // It was at work since: before a short sleep there is no time, a long one is interrupted.
        let short = Duration::from_millis(1);
        assert_eq!((Rest::default().nap_with(act, Some(short)), rests()), (Some(short), 1));
        let mut wait = Rest::default();
        assert!(wait.nap_with(act, None).is_some_and(|nap| nap <= EVERY));
        LAST.set(begin.checked_sub(EVERY));
        assert_eq!((wait.nap_with(act, None), rests(), wait.is_done), (None, 2, true));
    }
}
