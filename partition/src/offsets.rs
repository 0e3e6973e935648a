//! The offsets of one replica, in one picture:
//!
//! ```text
//!   log_start ≤ high_watermark ≤ log_end
//!               durable_end    ≤ log_end
//! ```
//!
//! Everything below the high watermark is committed; everything below the durable end is on stable storage here.

use vltava_model::Offset;

use crate::event::LocalLog;

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offsets {
    pub(crate) log_start: Offset,
    pub(crate) high_watermark: Offset,
    pub(crate) durable_end: Offset,
    pub(crate) log_end: Offset,
}

impl Offsets {
    /// As a log was opened. A remembered high watermark beyond the log's end is cut back to it.
    pub fn of(log: &LocalLog) -> Self {
        Self {
            log_start: log.log_start,
            high_watermark: log.high_watermark.clamp(log.log_start, log.log_end),
            durable_end: log.durable_end.min(log.log_end),
            log_end: log.log_end,
        }
    }

    /// The first offset.
    pub fn log_start(&self) -> Offset {
        self.log_start
    }

    /// The first offset that is not committed.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Up to where the log is on stable storage.
    pub fn durable_end(&self) -> Offset {
        self.durable_end
    }

    /// Where the log ends.
    pub fn log_end(&self) -> Offset {
        self.log_end
    }

    /// Asserts the picture.
    pub(crate) fn check(&self) {
        assert!(self.log_start <= self.high_watermark, "log start is past the high watermark: {self:?}");
        assert!(self.high_watermark <= self.log_end, "the high watermark is past the log end: {self:?}");
        assert!(self.durable_end <= self.log_end, "the durable end is past the log end: {self:?}");
    }

    /// The log was cut.
    pub(crate) fn truncate(&mut self, to: Offset) {
        self.log_end = self.log_end.min(to);
        self.durable_end = self.durable_end.min(to);
        self.high_watermark = self.high_watermark.min(to);
    }

    /// The log begins and ends here.
    pub(crate) fn restart_at(&mut self, offset: Offset) {
        *self = Self { log_start: offset, high_watermark: offset, durable_end: offset, log_end: offset };
    }

    /// The log begins later.
    pub(crate) fn advance_start(&mut self, to: Offset) {
        self.log_start = self.log_start.max(to);
        self.high_watermark = self.high_watermark.max(to);
    }
}
