//! Whether a replica that lacks something comes nearer to having it, or stands still.
//!
//! Knows neither offsets nor members: its owner says when something moved and whether anything is lacking.

use std::time::Duration;

use crate::time::Time;

/// A replica that seems to stand still is looked at once more after this time. A leader that was itself kept from running
/// finds everybody's time up before it has read what they sent meanwhile.
const SECOND_LOOK: Duration = Duration::from_millis(200);

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pace {
    /// When it moved last, or began to lack something.
    moved_at: Time,
    /// When it was first seen to stand still since.
    suspected_at: Option<Time>,
}

impl Pace {
    /// It moves now.
    pub(crate) const fn new(now: Time) -> Self {
        Self { moved_at: now, suspected_at: None }
    }

    /// Looks whether it stands still, now that it lacks something or does not.
    pub(crate) fn look(&mut self, lacks: bool, stall_max: Duration, now: Time) {
        if !lacks || now.since(self.moved_at) <= stall_max {
            self.suspected_at = None;
        } else if self.suspected_at.is_none() {
            self.suspected_at = Some(now);
        }
    }

    /// Whether it stood still for too long, and did so at a second look too.
    pub(crate) fn has_stalled(&self, now: Time) -> bool {
        self.suspected_at.is_some_and(|at| now.since(at) >= SECOND_LOOK)
    }

    /// When it is to be looked at, if it does not move before and lacks something.
    pub(crate) fn next_look(&self, stall_max: Duration) -> Time {
        match self.suspected_at {
            Some(at) => at.after(SECOND_LOOK),
            // One step later than the last moment at which it is still in time.
            None => self.moved_at.after(stall_max).after(Duration::from_nanos(1)),
        }
    }
}
