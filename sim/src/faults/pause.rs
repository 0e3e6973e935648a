//! SIGSTOP and SIGCONT: a process that thinks no time has passed.

use super::{Fault, Field, Struck};

/// See the module.
pub struct Pause;

impl Fault for Pause {
    fn strike(&mut self, field: &mut Field<'_>) -> Option<Struck> {
        let host = field.anybody()?;
        field.world.machine(host).pause(field.length);
        Some(Struck::one(host, ""))
    }

    fn heal(&mut self, _: &mut Field<'_>) {}
}
