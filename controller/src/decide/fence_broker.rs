//! A broker's session is lost: it leads nothing and is in no ISR until it is back.

use std::sync::Arc;

use vltava_metadata::{BrokerImage, BrokerState, record};
use vltava_model::NodeId;

use super::departure::{Fate, depart};
use super::{Decision, View};

/// Fences a broker; nothing to do when it is fenced already, or not registered.
pub fn decide(view: &View, node: NodeId) -> Decision<()> {
    let Some(broker) = view.image.broker(node).filter(|broker| broker.state != BrokerState::Fenced) else {
        return Decision::unchanged(());
    };
    let mut records = depart(*view, node, |_| Fate::Leaves);
    records.push(record::broker(&with_state(broker, BrokerState::Fenced)));
    Decision { records, response: () }
}

/// The same broker in another state.
pub(super) fn with_state(broker: &Arc<BrokerImage>, state: BrokerState) -> BrokerImage {
    BrokerImage { state, ..BrokerImage::clone(broker) }
}
