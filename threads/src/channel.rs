//! Waiting for messages.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvError, RecvTimeoutError, Select, TryRecvError};

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
    loop {
        match receiver.try_recv() {
            Ok(message) => return Ok(message),
            Err(TryRecvError::Disconnected) => return Err(RecvError),
            Err(TryRecvError::Empty) => {}
        }
        if simulator.park(&|| is_ready(receiver), None) == Woken::Dead {
            return Err(RecvError);
        }
    }
}

/// Waits for a message up to `limit`.
///
/// # Errors
/// When none came in time, or the channel is empty and all senders are gone.
#[inline]
pub fn recv_timeout<T: Send>(receiver: &Receiver<T>, limit: Duration) -> Result<T, RecvTimeoutError> {
    let Some(simulator) = simulator() else { return receiver.recv_timeout(limit) };
    let mut woken = Woken::Ready;
    loop {
        match receiver.try_recv() {
            Ok(message) => return Ok(message),
            Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
            Err(TryRecvError::Empty) if woken != Woken::Ready => return Err(RecvTimeoutError::Timeout),
            Err(TryRecvError::Empty) => woken = simulator.park(&|| is_ready(receiver), Some(limit)),
        }
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
    let found = try_either(simulator, first, second);
    if !matches!(found, Selected::Neither) {
        return found;
    }
    match simulator.park(&|| is_ready(first) || is_ready(second), Some(limit)) {
        Woken::Dead => Selected::Second(Err(RecvError)),
        Woken::Ready | Woken::TimedOut => try_either(simulator, first, second),
    }
}

fn try_either<A, B>(simulator: &dyn Simulator, first: &Receiver<A>, second: &Receiver<B>) -> Selected<A, B> {
    let one = || tried(first.try_recv()).map(Selected::First);
    let other = || tried(second.try_recv()).map(Selected::Second);
    let found = if simulator.choose(2) == 0 { one().or_else(other) } else { other().or_else(one) };
    found.unwrap_or(Selected::Neither)
}

fn tried<T>(result: Result<T, TryRecvError>) -> Option<Result<T, RecvError>> {
    match result {
        Ok(message) => Some(Ok(message)),
        Err(TryRecvError::Disconnected) => Some(Err(RecvError)),
        Err(TryRecvError::Empty) => None,
    }
}

/// Whether a message is there, or none will ever come.
fn is_ready<T>(receiver: &Receiver<T>) -> bool {
    if !receiver.is_empty() {
        return true;
    }
    let mut select = Select::new();
    select.recv(receiver);
    select.try_ready().is_ok()
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

    #[test]
    fn an_empty_channel_is_ready_only_without_senders() {
        let (sender, receiver) = crossbeam_channel::unbounded();
        assert!(!is_ready(&receiver));
        sender.send(1).unwrap();
        assert!(is_ready(&receiver));
        receiver.recv().unwrap();
        drop(sender);
        assert!(is_ready(&receiver));
        assert!(!is_ready(&crossbeam_channel::never::<u8>()));
    }
}
