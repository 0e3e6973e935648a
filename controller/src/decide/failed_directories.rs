//! Some of a broker's directories failed: what lies in them leads nothing and is in no ISR, the rest serves on.

use std::collections::BTreeSet;

use vltava_metadata::{BrokerImage, record};
use vltava_model::{DirectoryId, NodeId};

use super::departure::{Fate, Held, depart};
use super::topic_rules::CrashSafety;
use super::{Decision, View};
use crate::elections::Doubt;

/// Takes failed directories out of a broker's registration; those that are not in it (any more) are ignored.
pub fn decide(view: &View, node: NodeId, failed: &[DirectoryId]) -> Decision<()> {
    let Some(broker) = view.image.broker(node) else {
        return Decision::unchanged(());
    };
    let failed: BTreeSet<_> = failed.iter().copied().filter(|id| broker.directories.contains(id)).collect();
    if failed.is_empty() {
        return Decision::unchanged(());
    }
    // A failed write may have taken back what the disk seemed to hold, unless every acknowledged record was synced.
    let fate = |held: &Held| match held.image.directory_of(node) {
        Some(directory) if failed.contains(&directory) => match held.rules.crash {
            CrashSafety::Synced => Fate::Leaves,
            CrashSafety::Relaxed => Fate::Doubted(Doubt::MayLackRecords),
        },
        _ => Fate::Stays,
    };
    let mut records = depart(*view, node, fate);
    let mut rest = BrokerImage::clone(broker);
    rest.directories.retain(|id| !failed.contains(id));
    records.push(record::broker(&rest));
    Decision { records, response: () }
}
