//! Deleting old segments: by age, by size, and below the log's start.
//!
//! Whole segments from the oldest on, none that reaches above the high watermark. A record's own timestamp is believed
//! only within bounds: never older than the time of its append, never further ahead than a topic allows, so that
//! neither old nor absurd timestamps empty or pin a log. Knows nothing of compaction.

use std::sync::Arc;

use vltava_model::Offset;

use super::config::{LogConfig, millis};
use super::error::LogError;
use super::log::Log;
use super::segment::{Segment, remove_files};

/// Why a segment was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// All its records are older than `retention.ms`.
    Time,
    /// The log without it still has `retention.bytes`.
    Size,
    /// It lies below the log's start.
    LogStart,
}

/// A segment that was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeletedSegment {
    /// Its base offset.
    pub base: Offset,
    /// The offset after its last record.
    pub end: Offset,
    /// Its size.
    pub bytes: u64,
    /// Why it was deleted.
    pub expiry: Expiry,
}

impl Log {
    /// Deletes the segments that have expired, durably; the log's start moves up with them. Waits for the readers at work.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn retention(
        &mut self,
        now_ms: i64,
        high_watermark: Offset,
    ) -> Result<Vec<DeletedSegment>, LogError> {
        self.change(|log| log.delete_expired(now_ms, high_watermark))
    }

    fn delete_expired(
        &mut self,
        now_ms: i64,
        high_watermark: Offset,
    ) -> Result<Vec<DeletedSegment>, LogError> {
        let deleted = self.expired(now_ms, high_watermark)?;
        if deleted.is_empty() {
            return Ok(deleted);
        }
        if deleted.len() == self.shared.view.load().segments.len() {
            // The active segment has expired too: the log goes on in an empty one.
            self.roll()?;
        }
        let view = self.shared.view.load_full();
        let (gone, kept) = view.segments.split_at(deleted.len());
        self.set_log_start(kept[0].base().max(self.state.log_start), kept.to_vec())?;
        self.wait_for_readers();
        for segment in gone {
            remove_files(&self.home, segment.base())?;
        }
        self.home.storage.sync_dir(&self.home.dir)?;
        Ok(deleted)
    }

    fn expired(&self, now_ms: i64, high_watermark: Offset) -> Result<Vec<DeletedSegment>, LogError> {
        let view = self.shared.view.load_full();
        let mut surplus = match self.config.retention_bytes {
            Some(keep) => self.size_bytes()?.saturating_sub(keep),
            None => 0,
        };
        let mut deleted = Vec::new();
        for (at, segment) in view.segments.iter().enumerate() {
            // Where it ends, without opening it.
            let end = match view.segments.get(at + 1) {
                Some(next) => next.base(),
                None => segment.extent()?.end,
            };
            if end > high_watermark || end == segment.base() {
                break;
            }
            let is_active = at + 1 == view.segments.len();
            let bytes = u64::from(segment.extent()?.bytes);
            let expiry = if end <= view.log_start {
                Expiry::LogStart
            } else if bytes <= surplus && !is_active {
                Expiry::Size
            } else if is_expired(segment, &self.config, now_ms)? {
                Expiry::Time
            } else {
                break;
            };
            surplus = surplus.saturating_sub(bytes);
            deleted.push(DeletedSegment { base: segment.base(), end, bytes, expiry });
        }
        Ok(deleted)
    }
}

fn is_expired(segment: &Arc<Segment>, config: &LogConfig, now_ms: i64) -> Result<bool, LogError> {
    let Some(retention) = config.retention_ms else { return Ok(false) };
    let appended_ms = segment.extent()?.last_append_ms;
    let believable_ms = appended_ms.saturating_add(millis(config.timestamp_ahead_max));
    let newest_ms = segment.max_timestamp()?.min(believable_ms).max(appended_ms);
    Ok(newest_ms < now_ms.saturating_sub(millis(retention)))
}
