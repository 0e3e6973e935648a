//! Threads with names, and waiting for their end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::simulator::{Woken, simulator};

/// The thread ended by a panic, or its process was killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Panicked;

/// A thread that can be waited for. Dropping it lets the thread run on.
#[derive(Debug)]
pub struct JoinHandle {
    thread: std::thread::JoinHandle<()>,
    /// Only under simulation, where the end must be seen while no other thread runs.
    ended: Option<Arc<AtomicBool>>,
}

/// Sets a mark when it is dropped, by a panic as well.
struct Mark(Arc<AtomicBool>);

impl Drop for Mark {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Starts a thread.
///
/// # Errors
/// When the operating system has no room for another.
pub fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle> {
    match simulator() {
        None => {
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(body)?;
            Ok(JoinHandle { thread, ended: None })
        }
        Some(simulator) => {
            let ended = Arc::new(AtomicBool::new(false));
            let mark = Mark(ended.clone());
            let body = move || {
                let _mark = mark;
                body();
            };
            let thread = simulator.spawn(name, Box::new(body))?;
            Ok(JoinHandle { thread, ended: Some(ended) })
        }
    }
}

impl JoinHandle {
    /// Whether the caller is that thread.
    pub fn is_current(&self) -> bool {
        self.thread.thread().id() == std::thread::current().id()
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// [`Panicked`].
    pub fn join(self) -> Result<(), Panicked> {
        if let (Some(simulator), Some(ended)) = (simulator(), &self.ended)
            && simulator.park(&|| ended.load(Ordering::Acquire), None) == Woken::Dead
        {
            return Err(Panicked);
        }
        self.thread.join().map_err(|_| Panicked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_thread_is_told_and_so_is_a_panic() {
        let name = |expected: &'static str| move || assert_eq!(std::thread::current().name(), Some(expected));
        let fine = spawn("fine", name("fine")).unwrap();
        assert!(!fine.is_current());
        assert_eq!(fine.join(), Ok(()));
        assert_eq!(spawn("wrong", name("another")).unwrap().join(), Err(Panicked));
    }
}
