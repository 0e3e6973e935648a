//! What a broker's heartbeat brings about. One thing at a time: heartbeats come often, and repeat what they ask for.

use vltava_metadata::BrokerState;
use vltava_model::{BrokerEpoch, DirectoryId, ErrorCode, MetadataOffset, NodeId};
use vltava_proto::v1::Heartbeat;

use super::shut_down_broker::Farewell;
use super::{Decision, Refusal, View, failed_directories, shut_down_broker, unfence_broker};

/// Who sends it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sender {
    /// `node.id`.
    pub node: NodeId,
    /// The registration of its session.
    pub broker_epoch: BrokerEpoch,
    /// What its registration named: it has caught up when it has applied this many records.
    pub caught_up_at: MetadataOffset,
}

/// What to answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// What the broker may do.
    pub state: BrokerState,
    /// Whether it may stop.
    pub farewell: Farewell,
}

/// Acts on a heartbeat. Most change nothing.
///
/// # Errors
/// STALE_BROKER_EPOCH when the session's registration is gone: the session must end.
pub fn decide(view: &View, sender: &Sender, heartbeat: &Heartbeat) -> Result<Decision<Outcome>, Refusal> {
    view.check_epoch(sender.node, sender.broker_epoch)?;
    let node = sender.node;
    let broker = view.image.broker(node).expect("its epoch was checked");
    let failed = directories(&heartbeat.failed_directories)?;
    let lost = failed_directories::decide(view, node, &failed);
    if !lost.records.is_empty() {
        let response = Outcome { state: broker.state, farewell: Farewell::NotYet };
        return Ok(Decision { records: lost.records, response });
    }
    if heartbeat.wants_shutdown {
        let moves = shut_down_broker::decide(view, node)?;
        let state = match broker.state {
            BrokerState::Fenced => BrokerState::Fenced,
            BrokerState::Active | BrokerState::ShuttingDown => BrokerState::ShuttingDown,
        };
        let response = Outcome { state, farewell: moves.response };
        return Ok(Decision { records: moves.records, response });
    }
    let caught_up = MetadataOffset::new(heartbeat.metadata_offset) >= sender.caught_up_at;
    if broker.state == BrokerState::Fenced && caught_up {
        let unfenced = unfence_broker::decide(view, node);
        let response = Outcome { state: BrokerState::Active, farewell: Farewell::NotYet };
        return Ok(Decision { records: unfenced.records, response });
    }
    Ok(Decision::unchanged(Outcome { state: broker.state, farewell: Farewell::NotYet }))
}

fn directories(raw: &[bytes::Bytes]) -> Result<Vec<DirectoryId>, Refusal> {
    let read = |bytes: &bytes::Bytes| {
        DirectoryId::from_slice(bytes)
            .ok_or_else(|| Refusal::new(ErrorCode::InvalidRequest, "a directory id is 16 bytes"))
    };
    raw.iter().map(read).collect()
}
