//! Waiting for messages.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvError, RecvTimeoutError, TryRecvError};

use crate::simulator::{Simulator, Woken, simulator};

/// What [`select`] came back with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Selected<A, B> {
    /// The first channel has a message, or all its senders are gone.
    First(Result<A, RecvError>),
    /// The second channel has a message, or all its senders are gone.
    Second(Result<B, RecvError>),
    /// Neither, in time.
    Neither,
}

/// Waits for a message.
///
/// # Errors
/// When the channel is empty and all senders are gone.
#[inline]
pub fn recv<T: Send>(receiver: &Receiver<T>) -> Result<T, RecvError> {
    let Some(simulator) = simulator() else { return receiver.recv() };
    simulated(simulator, None, || tried(receiver)).unwrap_or(Err(RecvError))
}

/// Waits for a message up to `limit`.
///
/// # Errors
/// When none came in time, or the channel is empty and all senders are gone.
#[inline]
pub fn recv_timeout<T: Send>(receiver: &Receiver<T>, limit: Duration) -> Result<T, RecvTimeoutError> {
    let Some(simulator) = simulator() else { return receiver.recv_timeout(limit) };
    match simulated(simulator, Some(limit), || tried(receiver)) {
        Some(received) => received.map_err(|RecvError| RecvTimeoutError::Disconnected),
        None => Err(RecvTimeoutError::Timeout),
    }
}

/// Waits for a message of either channel up to `limit`; when both have one, chance decides.
#[inline]
pub fn select<A: Send, B: Send>(
    first: &Receiver<A>,
    second: &Receiver<B>,
    limit: Duration,
) -> Selected<A, B> {
    let Some(simulator) = simulator() else {
        return crossbeam_channel::select! {
            recv(first) -> message => Selected::First(message),
            recv(second) -> message => Selected::Second(message),
            default(limit) => Selected::Neither,
        };
    };
    let one = || tried(first).map(Selected::First);
    let other = || tried(second).map(Selected::Second);
    let one_first = simulator.choose(2) == 0;
    let either = || if one_first { one().or_else(other) } else { other().or_else(one) };
    simulated(simulator, Some(limit), either).unwrap_or(Selected::Neither)
}

/// Waits until `attempt` gives something; `None` when it did not in time, or the thread is on its way out. It is the
/// question itself that takes the message: to ask a channel whether its senders are gone is slow without taking.
fn simulated<R: Send>(
    simulator: &dyn Simulator,
    limit: Option<Duration>,
    attempt: impl Fn() -> Option<R> + Sync,
) -> Option<R> {
    let taken = Mutex::new(None);
    let ready = || {
        let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.is_none() {
            *taken = attempt();
        }
        taken.is_some()
    };
    // Why it goes on is seen by what was taken.
    let _: Woken = simulator.park(&ready, limit);
    taken.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// A message, or the news that none will come; `None` when there is none yet.
fn tried<T>(receiver: &Receiver<T>) -> Option<Result<T, RecvError>> {
    match receiver.try_recv() {
        Ok(message) => Some(Ok(message)),
        Err(TryRecvError::Disconnected) => Some(Err(RecvError)),
        Err(TryRecvError::Empty) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(1);

    #[test]
    fn the_plain_calls_are_behind_it() {
        let (one, first) = crossbeam_channel::unbounded::<u8>();
        let (two, second) = crossbeam_channel::unbounded::<&str>();
        assert_eq!(recv_timeout(&first, SHORT), Err(RecvTimeoutError::Timeout));
        assert_eq!(select(&first, &second, SHORT), Selected::Neither);
        one.send(1).unwrap();
        assert_eq!(select(&first, &second, LONG), Selected::First(Ok(1)));
        two.send("two").unwrap();
        assert_eq!(select(&first, &second, LONG), Selected::Second(Ok("two")));
        one.send(3).unwrap();
        assert_eq!(recv(&first), Ok(3));
        drop(one);
        assert_eq!(recv(&first), Err(RecvError));
        assert_eq!(recv_timeout(&first, LONG), Err(RecvTimeoutError::Disconnected));
        assert_eq!(select(&first, &second, LONG), Selected::First(Err(RecvError)));
    }

    /// Asks once, and lets the limit pass.
    struct Impatient;

    impl Simulator for Impatient {
        fn spawn(
            &self,
            _: &str,
            _: Box<dyn FnOnce() + Send>,
        ) -> std::io::Result<std::thread::JoinHandle<()>> {
            Err(std::io::ErrorKind::Unsupported.into())
        }

        fn park(&self, ready: &(dyn Fn() -> bool + Sync), _: Option<Duration>) -> Woken {
            if ready() { Woken::Ready } else { Woken::TimedOut }
        }

        fn choose(&self, _: usize) -> usize {
            0
        }
    }

    #[test]
    fn a_simulator_s_question_takes_a_message_once() {
        let (sender, receiver) = crossbeam_channel::unbounded();
        let ask = || simulated(&Impatient, None, || tried(&receiver));
        assert_eq!(ask(), None);
        sender.send(1).unwrap();
        sender.send(2).unwrap();
        assert_eq!(ask(), Some(Ok(1)));
        assert_eq!(receiver.len(), 1);
        drop(sender);
        assert_eq!(ask(), Some(Ok(2)));
        assert_eq!(ask(), Some(Err(RecvError)));
    }
}
