//! Writes that wait for their acknowledgement, sorted by the offset that must be reached.

use std::collections::VecDeque;

use vltava_model::Offset;

use crate::event::{Time, Token};

/// A write that waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waiting {
    /// Whose.
    pub token: Token,
    /// Its first offset.
    pub base: Offset,
    /// One past its last offset.
    pub end: Offset,
    /// Until when it waits.
    pub deadline: Time,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct AckQueue {
    waiting: VecDeque<Waiting>,
}

impl AckQueue {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds a write; mostly at the end, but a batch that was sent again may be older than others.
    pub fn add(&mut self, write: Waiting) {
        let place = self.waiting.partition_point(|other| other.end <= write.end);
        self.waiting.insert(place, write);
    }

    /// Takes the writes that end at or below `reached`, in order.
    pub fn complete_up_to(&mut self, reached: Offset) -> impl Iterator<Item = Waiting> + '_ {
        let count = self.waiting.partition_point(|write| write.end <= reached);
        self.waiting.drain(..count)
    }

    /// Takes the writes whose time is over.
    pub fn expire(&mut self, now: Time) -> Vec<Waiting> {
        let (over, waiting) = self.waiting.drain(..).partition(|write| write.deadline <= now);
        self.waiting = waiting;
        Vec::from_iter::<VecDeque<Waiting>>(over)
    }

    /// Takes all writes.
    pub fn fail_all(&mut self) -> impl Iterator<Item = Waiting> + '_ {
        self.waiting.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(token: u64, end: u64, deadline: u64) -> Waiting {
        Waiting {
            token: Token(token),
            base: Offset::new(end - 1),
            end: Offset::new(end),
            deadline: Time::from_millis(deadline),
        }
    }

    #[test]
    fn it_completes_in_order_whatever_the_order_of_arrival() {
        let mut queue = AckQueue::default();
        for (token, end) in [(1, 5), (2, 9), (3, 7), (4, 7)] {
            queue.add(write(token, end, 100));
        }
        let done: Vec<u64> = queue.complete_up_to(Offset::new(8)).map(|write| write.token.0).collect();
        assert_eq!(done, [1, 3, 4]);
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn only_those_whose_time_is_over_expire() {
        let mut queue = AckQueue::default();
        queue.add(write(1, 1, 10));
        queue.add(write(2, 2, 20));
        queue.add(write(3, 3, 5));
        let over: Vec<u64> = queue.expire(Time::from_millis(10)).iter().map(|write| write.token.0).collect();
        assert_eq!(over, [1, 3]);
        assert_eq!(queue.len(), 1);
    }
}
