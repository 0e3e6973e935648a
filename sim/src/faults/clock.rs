//! A wall clock jumps, and stays so.

use rand::RngExt;

use super::{Fault, Field, Struck};

/// See the module.
pub struct Step;

const DAY_MS: i64 = 86_400_000;

impl Fault for Step {
    fn strike(&mut self, field: &mut Field<'_>) -> Option<Struck> {
        let host = field.anybody()?;
        let offset = field.random.random_range(-3650 * DAY_MS..3650 * DAY_MS);
        field.world.machine(host).set_wall_offset(offset);
        Some(Struck::one(host, format!("{} days", offset / DAY_MS)))
    }

    fn heal(&mut self, _: &mut Field<'_>) {}
}
