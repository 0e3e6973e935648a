//! Queues from any number of threads to one.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::bell::Bell;
use crate::simulator::simulator;

/// The queue is empty and all its senders are gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Disconnected;

/// Why a message was not taken; it is given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused<T> {
    /// The queue is full.
    Full(T),
    /// The receiver is gone.
    Disconnected(T),
}

#[derive(Debug)]
struct Shared<T> {
    messages: Mutex<VecDeque<T>>,
    bell: Bell,
    capacity: usize,
    senders: AtomicUsize,
    /// Set under the lock, so that nothing is put into a queue that nobody will empty.
    abandoned: AtomicBool,
}

impl<T> Shared<T> {
    /// Held for a few instructions, and across no call that waits.
    fn messages(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A queue that rings `bell` for each message and takes no more than `capacity`.
pub fn bounded<T>(bell: &Bell, capacity: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        messages: Mutex::default(),
        bell: bell.clone(),
        capacity,
        senders: AtomicUsize::new(1),
        abandoned: AtomicBool::new(false),
    });
    (Sender { shared: shared.clone() }, Receiver { shared })
}

/// A queue that rings `bell` for each message; something else bounds it.
pub fn unbounded<T>(bell: &Bell) -> (Sender<T>, Receiver<T>) {
    bounded(bell, usize::MAX)
}

/// The way into a queue.
#[derive(Debug)]
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Sender<T> {
    /// Puts a message behind all others.
    ///
    /// # Errors
    /// [`Refused`], with the message.
    pub fn send(&self, message: T) -> Result<(), Refused<T>> {
        let mut messages = self.shared.messages();
        if self.shared.abandoned.load(Ordering::SeqCst) {
            return Err(Refused::Disconnected(message));
        }
        if messages.len() >= self.shared.capacity {
            return Err(Refused::Full(message));
        }
        messages.push_back(message);
        drop(messages);
        self.shared.bell.ring();
        Ok(())
    }

    /// How many messages wait.
    pub fn len(&self) -> usize {
        self.shared.messages().len()
    }

    /// Whether no message waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.senders.fetch_add(1, Ordering::SeqCst);
        Self { shared: self.shared.clone() }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.shared.senders.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.shared.bell.ring();
        }
    }
}

/// The end of a queue. Dropping it drops what waits.
#[derive(Debug)]
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
}

impl<T: Send> Receiver<T> {
    /// The oldest message, if there is one.
    ///
    /// # Errors
    /// When there is none and none will come.
    pub fn try_recv(&self) -> Result<Option<T>, Disconnected> {
        let mut messages = self.shared.messages();
        match messages.pop_front() {
            Some(message) => Ok(Some(message)),
            None if self.shared.senders.load(Ordering::SeqCst) == 0 => Err(Disconnected),
            None => Ok(None),
        }
    }

    /// Whether [`Self::try_recv`] has something to say: a message, or that none will come.
    pub fn is_ready(&self) -> bool {
        !self.shared.messages().is_empty() || self.shared.senders.load(Ordering::SeqCst) == 0
    }

    /// Waits for a message.
    ///
    /// # Errors
    /// When there is none and none will come.
    pub fn recv(&self) -> Result<T, Disconnected> {
        loop {
            self.shared.bell.wait(|| self.is_ready(), None);
            if let Some(message) = self.try_recv()? {
                return Ok(message);
            }
            if simulator().is_some() {
                // On the way out of a simulated process that was killed nothing is waited for.
                return Err(Disconnected);
            }
        }
    }

    /// Waits for a message up to `limit`; `None` when none came in time.
    ///
    /// # Errors
    /// When there is none and none will come.
    pub fn recv_timeout(&self, limit: Duration) -> Result<Option<T>, Disconnected> {
        self.shared.bell.wait(|| self.is_ready(), Some(limit));
        self.try_recv()
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut messages = self.shared.messages();
        self.shared.abandoned.store(true, Ordering::SeqCst);
        let left = std::mem::take(&mut *messages);
        drop(messages);
        // Outside of the lock: what a message does when it is dropped is its own business.
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(1);

    #[test]
    fn messages_come_in_order_up_to_the_capacity() {
        let (sender, receiver) = bounded(&Bell::new(), 2);
        assert_eq!(receiver.recv_timeout(SHORT), Ok(None));
        sender.send(1).unwrap();
        sender.clone().send(2).unwrap();
        assert_eq!(sender.send(3), Err(Refused::Full(3)));
        assert_eq!((sender.len(), receiver.try_recv()), (2, Ok(Some(1))));
        sender.send(3).unwrap();
        assert_eq!((receiver.recv(), receiver.recv_timeout(LONG)), (Ok(2), Ok(Some(3))));
    }

    #[test]
    fn each_end_sees_the_other_s_end() {
        let (sender, receiver) = unbounded(&Bell::new());
        let another = sender.clone();
        sender.send(1).unwrap();
        drop(sender);
        assert_eq!(receiver.recv(), Ok(1));
        assert_eq!(receiver.try_recv(), Ok(None));
        let waiting = crate::spawn("waits", move || assert_eq!(receiver.recv(), Err(Disconnected))).unwrap();
        drop(another);
        waiting.join().unwrap();

        let (sender, receiver) = unbounded(&Bell::new());
        let (told, tells) = unbounded(&Bell::new());
        sender.send(told).unwrap();
        drop(receiver);
        assert_eq!(tells.recv(), Err::<u8, _>(Disconnected), "what waits goes with the receiver");
        assert!(matches!(sender.send(unbounded(&Bell::new()).0), Err(Refused::Disconnected(_))));
    }

    #[test]
    fn one_bell_rings_for_two_queues() {
        let bell = Bell::new();
        let ((one, first), (two, second)) = (unbounded::<u8>(&bell), unbounded::<&str>(&bell));
        let either = || first.is_ready() || second.is_ready();
        assert!(!bell.wait(either, Some(SHORT)));
        let sending = crate::spawn("sends", move || {
            two.send("two").unwrap();
            drop(one);
        });
        assert!(bell.wait(|| second.is_ready(), Some(LONG)));
        assert_eq!(second.try_recv(), Ok(Some("two")));
        sending.unwrap().join().unwrap();
        assert!(bell.wait(either, Some(LONG)));
        assert_eq!(first.try_recv(), Err(Disconnected));
    }
}
