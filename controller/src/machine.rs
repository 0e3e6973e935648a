//! The replicated state machine: committed entries become the image that everybody reads. It decides nothing.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use prost::Message;
use tokio::sync::watch;
use vltava_metadata::Image;
use vltava_model::MetadataOffset;
use vltava_proto::v1::{MetadataEntry, MetadataSnapshot};
use vltava_raft_store::{ApplyError, EncodeSnapshot, RaftMembership, RestoreError, StateMachine};

use crate::feed::Feed;

/// The committed and applied state of this node. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Published {
    image: Arc<ArcSwap<Image>>,
    offset: watch::Sender<MetadataOffset>,
}

impl Published {
    /// The newest image.
    pub fn image(&self) -> Arc<Image> {
        self.image.load_full()
    }

    /// The offset of the newest image, as it grows. The image is there before its offset is.
    pub fn offsets(&self) -> watch::Receiver<MetadataOffset> {
        self.offset.subscribe()
    }

    fn publish(&self, image: Image) {
        let offset = image.offset();
        self.image.store(Arc::new(image));
        self.offset.send_replace(offset);
    }
}

/// What became of a proposed entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// Its records are facts.
    Applied,
    /// It was decided on an older state, by a controller that meanwhile lost its place. It changed nothing, anywhere.
    Stale,
}

impl Outcome {
    fn to_bytes(self) -> Bytes {
        Bytes::from_static(match self {
            Self::Applied => b"",
            Self::Stale => b"stale",
        })
    }

    /// Reads what the state machine answered.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        if bytes.is_empty() { Self::Applied } else { Self::Stale }
    }
}

/// Applies entries and tells the feed.
#[derive(Debug)]
pub(crate) struct Machine {
    image: Image,
    published: Published,
    feed: Arc<Feed>,
}

impl Machine {
    pub(crate) fn new(published: Published, feed: Arc<Feed>) -> Self {
        Self { image: Image::empty(), published, feed }
    }
}

impl StateMachine for Machine {
    fn apply(&mut self, log_index: u64, command: &[u8]) -> Result<Bytes, ApplyError> {
        let fail = |why: String| ApplyError(format!("metadata entry {log_index}: {why}"));
        let entry = MetadataEntry::decode(command).map_err(|error| fail(error.to_string()))?;
        let base = MetadataOffset::new(entry.base_offset);
        if base < self.image.offset() {
            // A proposer that lost and regained its place between deciding and proposing. Every node sees the same.
            tracing::warn!(log_index, %base, expected = %self.image.offset(), "a stale metadata entry is refused");
            return Ok(Outcome::Stale.to_bytes());
        }
        self.image = self.image.replayed(base, &entry.records).map_err(|error| fail(error.to_string()))?;
        self.feed.push(base, entry.records, command.len());
        self.published.publish(self.image.clone());
        Ok(Outcome::Applied.to_bytes())
    }

    fn snapshot(&self) -> EncodeSnapshot {
        let image = self.image.clone();
        Box::new(move || image.to_snapshot().encode_to_vec())
    }

    fn restore(&mut self, log_index: u64, snapshot: &[u8]) -> Result<(), RestoreError> {
        let fail = |why: String| RestoreError(format!("metadata snapshot at entry {log_index}: {why}"));
        let snapshot = MetadataSnapshot::decode(snapshot).map_err(|error| fail(error.to_string()))?;
        self.image = Image::from_snapshot(&snapshot).map_err(|error| fail(error.to_string()))?;
        self.feed.reset(self.image.offset());
        self.published.publish(self.image.clone());
        Ok(())
    }

    fn membership(&mut self, _log_index: u64, _membership: &RaftMembership) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use vltava_metadata::record;

    fn machine() -> (Machine, Published) {
        let published = Published::default();
        (Machine::new(published.clone(), Arc::new(Feed::new(1 << 20))), published)
    }

    fn entry(base: u64, level: u32) -> Vec<u8> {
        MetadataEntry { base_offset: base, records: vec![record::feature("f", level)] }.encode_to_vec()
    }

    #[test]
    fn entries_are_applied_and_published_in_order() {
        let (mut machine, published) = machine();
        assert_eq!(Outcome::from_bytes(&machine.apply(1, &entry(0, 1)).unwrap()), Outcome::Applied);
        assert_eq!(Outcome::from_bytes(&machine.apply(2, &entry(1, 2)).unwrap()), Outcome::Applied);
        assert_eq!(published.image().features().level("f"), Some(2));
        assert_eq!(*published.offsets().borrow(), MetadataOffset::new(2));
    }

    #[test]
    fn a_stale_entry_changes_nothing_and_a_gap_is_fatal() {
        let (mut machine, published) = machine();
        machine.apply(1, &entry(0, 1)).unwrap();
        assert_eq!(Outcome::from_bytes(&machine.apply(2, &entry(0, 9)).unwrap()), Outcome::Stale);
        assert_eq!(published.image().features().level("f"), Some(1));
        assert!(machine.apply(3, &entry(2, 9)).is_err(), "records are missing");
        assert!(machine.apply(3, b"\xff\xff").is_err(), "garbage");
        assert_eq!(published.image().offset(), MetadataOffset::new(1));
    }

    #[test]
    fn a_snapshot_replaces_everything() {
        let (mut source, _) = machine();
        source.apply(1, &entry(0, 7)).unwrap();
        let bytes = source.snapshot()();
        let (mut target, published) = machine();
        target.restore(1, &bytes).unwrap();
        assert_eq!(published.image().features().level("f"), Some(7));
        assert_eq!(target.snapshot()(), bytes, "equal states give equal bytes");
        assert!(target.restore(1, b"\xff").is_err());
    }
}
