//! Power that goes: a process dies, and what its disk had not synced is gone, or part of it.

use rand::RngExt;
use rand::rngs::StdRng;

use super::{Fallible, Fault, Field, Struck};
use crate::disk::Loss;

/// Whom the cut reaches.
#[derive(Clone, Copy, Debug)]
pub enum Reach {
    /// One node.
    One,
    /// Every node at the same moment.
    All,
}

/// See the module.
pub struct PowerCut {
    reach: Reach,
    nodes: Vec<u32>,
}

impl PowerCut {
    /// One that reaches so far.
    pub fn new(reach: Reach) -> Self {
        Self { reach, nodes: Vec::new() }
    }
}

impl Fault for PowerCut {
    fn strike(&mut self, field: &mut Field, rng: &mut StdRng) -> Fallible<Option<Struck>> {
        let loss = if rng.random_bool(0.5) { Loss::Everything } else { Loss::Torn };
        let reached: Vec<u32> = match self.reach {
            Reach::One => field.claim(None, "power cut", rng).into_iter().collect(),
            // Also those that another fault has for itself, whatever it made of them.
            Reach::All => field.cluster.nodes().iter().map(|node| node.id).collect(),
        };
        if reached.is_empty() {
            return Ok(None);
        }
        self.nodes = reached.iter().copied().filter(|node| field.cluster.runs(*node)).collect();
        // Who ended by itself just before was not ended by this.
        let ended = field.cluster.deaths()?;
        field.notice(ended);
        field.cluster.kill_at_once(&reached)?;
        let mut at_stake = 0;
        for node in reached {
            at_stake += field.cluster.node_mut(node).disk.cut(loss, rng)?;
        }
        let kept = match loss {
            Loss::Everything => "all lost",
            Loss::Torn => "torn",
        };
        Ok(Some(Struck::new(self.nodes.clone(), format!("{} KiB unsynced, {kept}", at_stake / 1024))))
    }

    fn heal(&mut self, field: &mut Field, _: &mut StdRng) -> Fallible<()> {
        for node in std::mem::take(&mut self.nodes) {
            field.cluster.start(node)?;
            if matches!(self.reach, Reach::One) {
                field.release(node);
            }
        }
        Ok(())
    }
}
