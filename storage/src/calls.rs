//! Which thread waits for a disk, and since when: a call that hangs does not return to say so, but another thread can see it.
//!
//! A thread is attended by a [`Watch`] of its own. On other threads nothing is noted. Knows nothing of what is called.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

thread_local! {
    static WATCH: RefCell<Option<Arc<Watch>>> = const { RefCell::new(None) };
}

/// Sees how long the call takes that a thread is at.
#[derive(Debug)]
pub struct Watch {
    origin: Instant,
    /// One more than the microseconds from the origin to when the call began; 0 while there is none.
    since: AtomicU64,
}

impl Default for Watch {
    fn default() -> Self {
        Self { origin: Instant::now(), since: AtomicU64::new(0) }
    }
}

impl Watch {
    /// Notes the calls of the thread that calls this, from now on until it ends.
    pub fn attend(self: &Arc<Self>) {
        WATCH.with(|watch| *watch.borrow_mut() = Some(self.clone()));
    }

    /// How long the thread has been at the call that it is at, if it is at one.
    pub fn waits(&self) -> Option<Duration> {
        let began = Duration::from_micros(self.since.load(Ordering::Relaxed).checked_sub(1)?);
        Some(self.origin.elapsed().saturating_sub(began))
    }
}

/// Makes a call that waits for a disk, directly or for a thread that does. A call within counts as part of it.
pub fn noted<R>(call: impl FnOnce() -> R) -> R {
    let _noted = Noted::begin();
    call()
}

/// Forgets the call when it is over, also by a panic.
struct Noted;

impl Noted {
    fn begin() -> Option<Self> {
        WATCH.with_borrow(|watch| {
            let watch = watch.as_ref()?;
            if watch.since.load(Ordering::Relaxed) != 0 {
                return None;
            }
            let now = u64::try_from(watch.origin.elapsed().as_micros()).unwrap_or(u64::MAX - 1);
            watch.since.store(now + 1, Ordering::Relaxed);
            Some(Self)
        })
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        WATCH.with_borrow(|watch| watch.iter().for_each(|watch| watch.since.store(0, Ordering::Relaxed)));
    }
}

/// What a look found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finding {
    /// All move, as far as can be said.
    Moves,
    /// One stands still.
    Stands,
}

/// Says whether threads move, look by look. Pure.
///
/// It takes a second look: a process that was stopped finds every call that was under way too long, and has only not heard yet
/// that it is over.
#[derive(Debug)]
pub struct Standstill {
    limit: Duration,
    overdue: bool,
}

impl Standstill {
    /// A call that takes longer than `limit` hangs.
    pub fn new(limit: Duration) -> Self {
        Self { limit, overdue: false }
    }

    /// Takes a look, when the longest call under way has taken so long.
    pub fn look(&mut self, longest: Option<Duration>) -> Finding {
        let is_overdue = longest.is_some_and(|longest| longest > self.limit);
        let was_overdue = std::mem::replace(&mut self.overdue, is_overdue);
        if was_overdue && is_overdue { Finding::Stands } else { Finding::Moves }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn one_stands_still_when_a_second_look_finds_it_too() {
        let ms = |ms| Some(Duration::from_millis(ms));
        let mut standstill = Standstill::new(Duration::from_secs(2));
        let looks = [
            (None, Finding::Moves),
            (ms(2_000), Finding::Moves),
            (ms(2_500), Finding::Moves),
            (ms(0), Finding::Moves),
            (ms(9_000), Finding::Moves),
            (ms(9_500), Finding::Stands),
            (ms(60_000), Finding::Stands),
            (None, Finding::Moves),
            (ms(2_001), Finding::Moves),
        ];
        for (at, (longest, finding)) in looks.into_iter().enumerate() {
            assert_eq!(standstill.look(longest), finding, "look {at}");
        }
    }

    #[test]
    fn only_an_attended_thread_is_seen_and_only_while_it_waits() {
        let watch = Arc::new(Watch::default());
        noted(|| assert_eq!(watch.waits(), None, "nobody attends to this thread"));
        let (hang_up, hangs) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let attended = watch.clone();
        let thread = std::thread::spawn(move || {
            attended.attend();
            noted(|| {
                // Within another one: it is over when that is.
                noted(|| ());
                tell.send(attended.waits().is_some()).unwrap();
                let _ = hangs.recv();
            });
            attended.waits()
        });
        assert_eq!(told.recv(), Ok(true));
        let seen = watch.waits().expect("it hangs");
        let deadline = Instant::now() + Duration::from_secs(20);
        while watch.waits().is_some_and(|now| now < seen + Duration::from_millis(20)) {
            assert!(Instant::now() < deadline, "its time does not pass");
            std::thread::yield_now();
        }
        drop(hang_up);
        assert_eq!(thread.join().unwrap(), None);
    }
}
