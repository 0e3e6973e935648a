//! `kill -9`, and a start some time later.

use rand::rngs::StdRng;

use super::{Fallible, Fault, Field, Struck};

/// Who is hunted.
#[derive(Clone, Copy, Debug)]
pub enum Prey {
    /// Any node.
    Anyone,
    /// A broker that leads something.
    Leader,
    /// The active controller.
    ActiveController,
}

/// See the module.
pub struct Kill {
    prey: Prey,
    node: Option<u32>,
}

impl Kill {
    /// One that hunts `prey`.
    pub fn new(prey: Prey) -> Self {
        Self { prey, node: None }
    }
}

impl Fault for Kill {
    fn strike(&mut self, field: &mut Field, rng: &mut StdRng) -> Fallible<Option<Struck>> {
        let (node, detail) = match self.prey {
            Prey::Anyone => (field.claim(None, "kill", rng), String::new()),
            Prey::Leader => {
                let Some((leader, leads)) = field.leader(rng) else { return Ok(None) };
                (field.claim_node(leader, "kill"), format!("it leads {} partitions", leads.len()))
            }
            Prey::ActiveController => {
                let Some(active) = field.eyes.controller() else { return Ok(None) };
                (field.claim_node(active, "kill"), "the active controller".to_owned())
            }
        };
        let Some(node) = node else { return Ok(None) };
        self.node = Some(node);
        field.cluster.kill(node)?;
        Ok(Some(Struck::new(vec![node], detail)))
    }

    fn heal(&mut self, field: &mut Field, _: &mut StdRng) -> Fallible<()> {
        if let Some(node) = self.node.take() {
            field.cluster.start(node)?;
            field.release(node);
        }
        Ok(())
    }
}
