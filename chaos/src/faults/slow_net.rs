//! A node behind a narrow line: everything takes its time, in both directions.

use rand::RngExt;
use rand::rngs::StdRng;

use super::{Fallible, Fault, Field, Struck};
use crate::disk::pick;
use crate::net::Pace;

/// See the module.
#[derive(Default)]
pub struct SlowNet {
    node: Option<u32>,
}

impl Fault for SlowNet {
    fn strike(&mut self, field: &mut Field, rng: &mut StdRng) -> Fallible<Option<Struck>> {
        let slow = &field.slow_links;
        let nodes: Vec<u32> =
            field.cluster.nodes().iter().map(|node| node.id).filter(|id| !slow.contains(id)).collect();
        let Some(&node) = pick(&nodes, rng) else { return Ok(None) };
        let pace =
            Pace { bytes_per_second: rng.random_range(20_000..400_000), delay_ms: rng.random_range(20..300) };
        field.cluster.net.wires().pace(node, Some(pace))?;
        field.slow_links.insert(node);
        self.node = Some(node);
        Ok(Some(Struck::new(vec![node], format!("{} bytes/s", pace.bytes_per_second))))
    }

    fn heal(&mut self, field: &mut Field, _: &mut StdRng) -> Fallible<()> {
        if let Some(node) = self.node.take() {
            field.cluster.net.wires().pace(node, None)?;
            field.slow_links.remove(&node);
        }
        Ok(())
    }
}
