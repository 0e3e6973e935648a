//! SIGSTOP and SIGCONT: a process that thinks no time has passed.

use rand::rngs::StdRng;

use super::{Fallible, Fault, Field, Struck};

/// See the module.
#[derive(Default)]
pub struct Pause {
    node: Option<u32>,
}

impl Fault for Pause {
    fn strike(&mut self, field: &mut Field, rng: &mut StdRng) -> Fallible<Option<Struck>> {
        let Some(node) = field.claim(None, "pause", rng) else { return Ok(None) };
        self.node = Some(node);
        field.cluster.pause(node)?;
        Ok(Some(Struck::new(vec![node], "")))
    }

    fn heal(&mut self, field: &mut Field, _: &mut StdRng) -> Fallible<()> {
        if let Some(node) = self.node.take() {
            // A power cut of all may have ended it meanwhile, and started it again.
            field.cluster.resume(node)?;
            field.release(node);
        }
        Ok(())
    }
}
