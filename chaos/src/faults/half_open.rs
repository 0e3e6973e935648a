//! Connections whose other end is gone without a word: a node is unplugged, dies and starts again, and nothing of that
//! reaches its peers, who go on with what they believe to be open.

use rand::rngs::StdRng;

use super::{Fallible, Fault, Field, Struck};
use crate::net::Place;

/// See the module.
#[derive(Default)]
pub struct HalfOpen {
    node: Option<u32>,
    cuts: Vec<(Place, Place)>,
}

impl Fault for HalfOpen {
    fn strike(&mut self, field: &mut Field, rng: &mut StdRng) -> Fallible<Option<Struck>> {
        let Some(node) = field.claim(None, "half-open", rng) else { return Ok(None) };
        self.node = Some(node);
        let here = Place::Node(node);
        let nodes = field.cluster.nodes().iter().map(|other| Place::Node(other.id));
        let others: Vec<Place> = nodes.filter(|other| *other != here).chain([Place::Clients]).collect();
        for other in others {
            self.cuts.extend([(here, other), (other, here)]);
        }
        for (from, to) in &self.cuts {
            field.cluster.net.cut(*from, *to)?;
        }
        field.cluster.kill(node)?;
        field.cluster.start(node)?;
        Ok(Some(Struck::new(vec![node], "")))
    }

    fn heal(&mut self, field: &mut Field, _: &mut StdRng) -> Fallible<()> {
        for (from, to) in std::mem::take(&mut self.cuts) {
            field.cluster.net.mend(from, to)?;
        }
        if let Some(node) = self.node.take() {
            field.release(node);
        }
        Ok(())
    }
}
