//! What a simulator does for the threads of this process, and its one registration.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Why a thread that waited runs again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Woken {
    /// What it waited for is there.
    Ready,
    /// The limit has passed.
    TimedOut,
    /// Its process was killed, and it is on its way out: it must not wait for anything any more.
    Dead,
}

/// Stands in for the operating system's scheduler.
pub trait Simulator: Send + Sync {
    /// Starts a thread that belongs to the caller's simulated process. It first runs when the simulator says so.
    ///
    /// # Errors
    /// What the operating system says.
    fn spawn(&self, name: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<std::thread::JoinHandle<()>>;

    /// Holds the calling thread until `ready` says yes or `limit` has passed in simulated time. `ready` is asked on any
    /// thread, at any time until this returns; its answer depends on what simulated threads did only.
    ///
    /// When the thread's simulated process is killed this does not return but unwinds, unless the thread unwinds
    /// already: then it is [`Woken::Dead`] at once.
    fn park(&self, ready: &(dyn Fn() -> bool + Sync), limit: Option<Duration>) -> Woken;
}

static SIMULATED: AtomicBool = AtomicBool::new(false);
static SIMULATOR: OnceLock<Box<dyn Simulator>> = OnceLock::new();

/// Registers the simulator of this process, before any thread is spawned; there is no way back.
///
/// # Panics
/// When there is one already.
pub fn install(simulator: Box<dyn Simulator>) {
    assert!(SIMULATOR.set(simulator).is_ok(), "a process has one simulator");
    SIMULATED.store(true, Ordering::Release);
}

/// The simulator, if this process has one.
#[inline]
pub fn simulator() -> Option<&'static dyn Simulator> {
    if !SIMULATED.load(Ordering::Relaxed) {
        return None;
    }
    SIMULATOR.get().map(|simulator| &**simulator)
}
