//! A node's wall clock steps away, and back later.

use rand::RngExt;
use rand::rngs::StdRng;

use super::{Fallible, Fault, Field, Struck};
use crate::disk::pick;

/// See the module.
#[derive(Default)]
pub struct Step {
    node: Option<u32>,
}

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400 * SECOND;

/// From what a bad time server does to what a dead battery does.
const STEPS: [(i64, &str); 6] = [
    (SECOND / 2, "half a second"),
    (20 * SECOND, "20 s"),
    (600 * SECOND, "10 min"),
    (7_200 * SECOND, "2 h"),
    (30 * DAY, "30 days"),
    (3_650 * DAY, "10 years"),
];

impl Fault for Step {
    fn strike(&mut self, field: &mut Field, rng: &mut StdRng) -> Fallible<Option<Struck>> {
        if !field.cluster.has_clocks() {
            return Ok(None);
        }
        let stepped = &field.stepped_clocks;
        let nodes = field.cluster.nodes().iter().map(|node| node.id);
        let nodes: Vec<u32> = nodes.filter(|id| !stepped.contains(id)).collect();
        let (Some(&node), Some(&(step, words))) = (pick(&nodes, rng), pick(&STEPS, rng)) else {
            return Ok(None);
        };
        let (nanos, way) = if rng.random_bool(0.5) { (step, "on") } else { (-step, "back") };
        field.cluster.shift_clock(node, nanos)?;
        field.stepped_clocks.insert(node);
        self.node = Some(node);
        Ok(Some(Struck::new(vec![node], format!("{words} {way}"))))
    }

    fn heal(&mut self, field: &mut Field, _: &mut StdRng) -> Fallible<()> {
        if let Some(node) = self.node.take() {
            field.cluster.shift_clock(node, 0)?;
            field.stepped_clocks.remove(&node);
        }
        Ok(())
    }
}
