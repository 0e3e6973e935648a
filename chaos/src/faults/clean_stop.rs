//! SIGTERM: leaderships are handed over, and the process ends in order; killed when it takes longer than the fault lasts.

use rand::rngs::StdRng;

use super::{Fallible, Fault, Field, Struck};

/// See the module.
#[derive(Default)]
pub struct CleanStop {
    node: Option<u32>,
}

impl Fault for CleanStop {
    fn strike(&mut self, field: &mut Field, rng: &mut StdRng) -> Fallible<Option<Struck>> {
        let Some(node) = field.claim(None, "clean stop", rng) else { return Ok(None) };
        self.node = Some(node);
        field.dying.insert(node, "it was told to end".to_owned());
        field.cluster.ask_to_end(node)?;
        Ok(Some(Struck::new(vec![node], "")))
    }

    fn heal(&mut self, field: &mut Field, _: &mut StdRng) -> Fallible<()> {
        if let Some(node) = self.node.take() {
            field.cluster.kill(node)?;
            field.dying.remove(&node);
            field.cluster.start(node)?;
            field.release(node);
        }
        Ok(())
    }
}
