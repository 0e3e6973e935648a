//! One direction between two machines: how long things take, and whether they pass at all.

use std::collections::VecDeque;

use rand::RngExt;

use super::{ConnId, Event, Habits};
use crate::clock::Millis;
use crate::random::Random;

/// Whether things pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Traffic {
    /// They do.
    Flows,
    /// They wait, as under packet loss: the sender's system sends them again until it can.
    Stalls,
}

/// One direction between two machines.
pub struct Link {
    /// How long anything takes at least.
    latency: Millis,
    /// By how much it may be later.
    jitter: Millis,
    /// Added to all, while a fault lasts.
    pub extra: Millis,
    /// Whether things pass.
    pub traffic: Traffic,
    held: VecDeque<Event>,
}

impl Link {
    pub(super) fn new(random: &mut Random, habits: Habits) -> Self {
        let latency = random.random_range(habits.latency_min..=habits.latency_max);
        let jitter = random.random_range(0..=habits.latency_max);
        Self { latency, jitter, extra: 0, traffic: Traffic::Flows, held: VecDeque::new() }
    }

    /// Holds an event while nothing passes; gives it back else.
    pub(super) fn hold(&mut self, event: Event) -> Option<Event> {
        match self.traffic {
            Traffic::Stalls => {
                self.held.push_back(event);
                None
            }
            Traffic::Flows => Some(event),
        }
    }

    /// Holds what was sent before all that is held already, while nothing passes; gives it back else.
    pub(super) fn hold_first(&mut self, events: Vec<Event>) -> Vec<Event> {
        match self.traffic {
            Traffic::Stalls => {
                events.into_iter().rev().for_each(|event| self.held.push_front(event));
                Vec::new()
            }
            Traffic::Flows => events,
        }
    }

    /// How long the next event takes.
    pub(super) fn delay(&mut self, random: &mut Random) -> Millis {
        // Mostly quick, sometimes not.
        let slow = random.random_range(0..8) == 0;
        let jitter = if slow { random.random_range(0..=self.jitter) } else { 0 };
        self.latency + self.extra + jitter
    }

    /// What was held and may go now.
    pub(super) fn release(&mut self) -> Vec<Event> {
        match self.traffic {
            Traffic::Flows => self.held.drain(..).collect(),
            Traffic::Stalls => Vec::new(),
        }
    }

    pub(super) fn forget(&mut self, conn: ConnId) {
        self.held.retain(|event| event.conn != conn);
    }
}
