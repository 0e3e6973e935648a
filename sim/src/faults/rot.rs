//! Bits that turn over in what was synced, under a process that runs or while its machine is off.

use std::path::Path;

use rand::RngExt;

use super::wounds::Side;
use super::{Fault, Field, Struck};
use crate::machine::End;

/// See the module.
pub struct Flip {
    side: Side,
}

impl Flip {
    /// One on that side.
    pub fn new(side: Side) -> Self {
        Self { side }
    }
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log")
}

impl Fault for Flip {
    fn strike(&mut self, field: &mut Field<'_>) -> Option<Struck> {
        let side = self.side;
        let may = field.wounds.harmable(field.world, side);
        let host = field.victim(|machine| {
            // Without the old directory's id nobody could replace a controller's.
            may.contains(&machine.id) && (side == Side::Brokers || machine.directory().is_some())
        })?;
        if field.wounds.is_replacing(host) {
            return None;
        }
        let segments_only = field.random.random_bool(0.5);
        let disk = field.world.machine(host).disk.clone();
        let rot = disk.rot(field.random, &|path| !segments_only || is_segment(path))?;
        let restart = field.random.random_bool(0.5);
        let detail = format!("byte {} of {}, restart: {restart}", rot.at, rot.path.display());
        field.wounds.add_rot(field.world, host, rot);
        if restart {
            field.world.end(host, End::Kill, Some(field.length));
        }
        Some(Struck::one(host, detail))
    }

    fn heal(&mut self, _: &mut Field<'_>) {}
}
