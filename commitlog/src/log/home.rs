//! Where one log lives: its storage, its directory, whose records it holds, and how its files are named.
//!
//! Knows nothing of what is in the files.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vltava_model::{Offset, TopicPartition};

use super::log::LogPlace;
use vltava_storage::{FilePool, Storage};

/// The kinds of file that a segment has, by their suffix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FileKind {
    Log,
    Check,
    OffsetIndex,
    TimeIndex,
    Snapshot,
}

impl FileKind {
    pub(crate) const SEGMENT: [Self; 4] = [Self::Log, Self::Check, Self::OffsetIndex, Self::TimeIndex];

    pub(crate) const fn suffix(self) -> &'static str {
        match self {
            Self::Log => ".log",
            Self::Check => ".check",
            Self::OffsetIndex => ".index",
            Self::TimeIndex => ".timeindex",
            Self::Snapshot => ".snapshot",
        }
    }

    /// Reads a name such as `00000000000000000042.log`.
    pub(crate) fn parse(name: &str) -> Option<(Offset, Self)> {
        let (digits, suffix) = name.split_at_checked(20)?;
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let offset = digits.parse().ok().map(Offset::new).filter(|offset| *offset <= Offset::MAX)?;
        let kinds = [Self::Log, Self::Check, Self::OffsetIndex, Self::TimeIndex, Self::Snapshot];
        kinds.into_iter().find(|kind| kind.suffix() == suffix).map(|kind| (offset, kind))
    }
}

/// The length of [`Home::identity`].
pub(crate) const IDENTITY_BYTES: usize = 20;

/// The place of one log.
pub(crate) struct Home {
    /// For names and small files.
    pub storage: Arc<dyn Storage>,
    /// For segments.
    pub files: FilePool,
    pub dir: PathBuf,
    pub partition: TopicPartition,
    pub topic_name: Arc<str>,
    pub index_interval_bytes: u32,
    /// Whether the directory's own name is known to be durable.
    name_synced: AtomicBool,
}

impl Home {
    pub(crate) fn new(place: LogPlace, index_interval_bytes: u32) -> Self {
        let LogPlace { files, dir, partition, topic_name, tail_budget: _ } = place;
        let topic_name = topic_name.into();
        Self {
            storage: files.storage(),
            files,
            dir,
            partition,
            topic_name,
            index_interval_bytes,
            name_synced: AtomicBool::new(false),
        }
    }

    /// Makes the directory's own name durable, without which nothing within is.
    pub(crate) fn sync_name(&self) -> io::Result<()> {
        if !self.name_synced.load(Ordering::Acquire) {
            if let Some(parent) = self.dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                self.storage.sync_dir(parent)?;
            }
            self.name_synced.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Whose records these are, as it stands in checkpoints: another log's in their place is noticed.
    pub(crate) fn identity(&self) -> [u8; IDENTITY_BYTES] {
        let mut bytes = [0u8; IDENTITY_BYTES];
        bytes[..16].copy_from_slice(&self.partition.topic.to_bytes());
        bytes[16..].copy_from_slice(&self.partition.partition.get().to_be_bytes());
        bytes
    }

    pub(crate) fn path(&self, base: Offset, kind: FileKind) -> PathBuf {
        self.dir.join(format!("{:020}{}", base.get(), kind.suffix()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kafkas() {
        assert_eq!(FileKind::parse("00000000000000000042.log"), Some((Offset::new(42), FileKind::Log)));
        assert_eq!(
            FileKind::parse("00000000000000000042.timeindex"),
            Some((Offset::new(42), FileKind::TimeIndex))
        );
        for bad in [
            "42.log",
            "0000000000000000004x.log",
            "99999999999999999999.log",
            "00000000000000000042",
            "é.log",
        ] {
            assert_eq!(FileKind::parse(bad), None, "{bad}");
        }
    }
}
