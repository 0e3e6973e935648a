//! A broker that is lost for good, machine and disk: nobody waits for it, and the operator has it forgotten.

use super::wounds::{Harm, Side};
use super::{Fault, Field, Struck};
use crate::machine::Role;

/// See the module.
pub struct Leave;

impl Fault for Leave {
    fn strike(&mut self, field: &mut Field<'_>) -> Option<Struck> {
        // Of three replicas two are left, and have to be: no other disk may be harmed from now on.
        if !field.world.gone().is_empty() {
            return None;
        }
        let may = field.wounds.harmable(field.world, Side::Brokers);
        let host = field.victim(|machine| may.contains(&machine.id))?;
        let Role::Broker(node) = field.world.machine(host).role else { return None };
        field.world.leave(host);
        let task = field.operator.unregister(node);
        field.wounds.note(field.world, host, Harm::Gone(task));
        Some(Struck::one(host, ""))
    }

    fn heal(&mut self, _: &mut Field<'_>) {}
}
