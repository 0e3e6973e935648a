//! A broker wants to stop: what it leads goes to other in-sync replicas, and it leaves every ISR.
//!
//! Where it is the last in-sync replica and another could still catch up, it goes on leading: the broker asks again with
//! every heartbeat, and has a deadline of its own. Where nobody could, it is let go: those partitions lose their leader
//! now, as they would when it stops.

use vltava_metadata::{BrokerState, PartitionImage, record};
use vltava_model::seeded::{SeededBug, seeded};
use vltava_model::{ErrorCode, NodeId};

use super::departure::{Fate, Held, depart, held_by};
use super::fence_broker::with_state;
use super::{Decision, Refusal, View};

/// Whether the broker may stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Farewell {
    /// It still leads where nobody else can yet.
    NotYet,
    /// It leads nothing and is in no ISR.
    MayStop,
}

/// Moves all that can be moved.
///
/// # Errors
/// When the broker is not registered.
pub fn decide(view: &View, node: NodeId) -> Result<Decision<Farewell>, Refusal> {
    let Some(broker) = view.image.broker(node) else {
        return Err(Refusal::new(
            ErrorCode::BrokerIdNotRegistered,
            format!("broker {node} is not registered"),
        ));
    };
    let waits = |held: &Held| {
        let image = held.image;
        image.leader == Some(node) && image.isr == [node] && others_may_lead(view, node, image)
    };
    let must_wait = held_by(*view, node).any(|held| waits(&held)) && !seeded(SeededBug::LetsLeadersStop);
    let response = match must_wait {
        true => Farewell::NotYet,
        false => Farewell::MayStop,
    };
    // The last in-sync replica stays until nothing is left to wait for, so that its partitions serve all the while.
    let fate = |held: &Held| match held.image.isr == [node] && response == Farewell::NotYet {
        true => Fate::Stays,
        false => Fate::Leaves,
    };
    let mut records = depart(*view, node, fate);
    if broker.state == BrokerState::Active {
        records.push(record::broker(&with_state(broker, BrokerState::ShuttingDown)));
    }
    Ok(Decision { records, response })
}

fn others_may_lead(view: &View, node: NodeId, image: &PartitionImage) -> bool {
    image.replicas.iter().any(|other| *other != node && view.may_lead(*other, image))
}
