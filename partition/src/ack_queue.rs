//! Requests that wait until the log is committed (or on stable storage) up to their end.
//!
//! One small sorted queue, bounded; it does not know what it waits for.

use std::collections::{BTreeMap, BTreeSet};

use vltava_model::Offset;

use crate::event::Token;
use crate::time::Time;

/// A request that waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Waiting {
    /// Named by the answer.
    pub(crate) token: Token,
    /// Part of the answer.
    pub(crate) base_offset: Offset,
    /// Until when to wait.
    pub(crate) deadline: Time,
}

/// By end offset, then by arrival, so that answers come in the order of the log.
type Place = (Offset, u64);

#[derive(Debug, Default)]
pub(crate) struct AckQueue {
    by_end: BTreeMap<Place, Waiting>,
    by_deadline: BTreeSet<(Time, Place)>,
    arrivals: u64,
}

impl AckQueue {
    pub(crate) fn len(&self) -> usize {
        self.by_end.len()
    }

    /// Waits for `end`.
    pub(crate) fn push(&mut self, end: Offset, waiting: Waiting) {
        let place = (end, self.arrivals);
        self.arrivals += 1;
        self.by_end.insert(place, waiting);
        self.by_deadline.insert((waiting.deadline, place));
    }

    /// The next request whose end has been reached.
    pub(crate) fn pop_reached(&mut self, reached: Offset) -> Option<Waiting> {
        let ((end, _), _) = self.by_end.first_key_value()?;
        if *end > reached {
            return None;
        }
        self.pop_first()
    }

    /// The next request whose time is over.
    pub(crate) fn pop_expired(&mut self, now: Time) -> Option<Waiting> {
        let &(deadline, place) = self.by_deadline.first()?;
        if deadline > now {
            return None;
        }
        self.by_deadline.pop_first();
        self.by_end.remove(&place)
    }

    /// The next request, whatever it waits for.
    pub(crate) fn pop_first(&mut self) -> Option<Waiting> {
        let (place, waiting) = self.by_end.pop_first()?;
        self.by_deadline.remove(&(waiting.deadline, place));
        Some(waiting)
    }

    /// When the first request's time is over.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Time {
        Time::new(Duration::from_secs(seconds))
    }

    fn push(queue: &mut AckQueue, token: u64, end: u64, deadline: u64) {
        let waiting = Waiting { token: Token::new(token), base_offset: Offset::ZERO, deadline: at(deadline) };
        queue.push(Offset::new(end), waiting);
    }

    fn reached(queue: &mut AckQueue, end: u64) -> Vec<u64> {
        std::iter::from_fn(|| queue.pop_reached(Offset::new(end)))
            .map(|waiting| waiting.token.get())
            .collect()
    }

    #[test]
    fn completes_in_log_order_and_no_further_than_reached() {
        let mut queue = AckQueue::default();
        push(&mut queue, 1, 10, 9);
        push(&mut queue, 2, 20, 9);
        push(&mut queue, 3, 5, 9);
        push(&mut queue, 4, 10, 9);
        assert_eq!(reached(&mut queue, 4), []);
        assert_eq!(reached(&mut queue, 10), [3, 1, 4]);
        assert_eq!(queue.len(), 1);
        assert_eq!(reached(&mut queue, 99), [2]);
    }

    #[test]
    fn expires_by_deadline_not_by_offset() {
        let mut queue = AckQueue::default();
        push(&mut queue, 1, 10, 8);
        push(&mut queue, 2, 20, 3);
        assert_eq!(queue.next_deadline(), Some(at(3)));
        assert_eq!(queue.pop_expired(at(2)), None);
        assert_eq!(queue.pop_expired(at(3)).map(|waiting| waiting.token), Some(Token::new(2)));
        assert_eq!(queue.pop_expired(at(3)), None);
        assert_eq!(reached(&mut queue, 99), [1]);
        assert_eq!(queue.next_deadline(), None);
    }
}
