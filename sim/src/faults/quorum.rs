//! A controller's vote is taken, and given back later, while all its processes go on.

use super::operator::Task;
use super::wounds::{Harm, Side};
use super::{Fault, Field, Struck};
use crate::machine::Role;

/// See the module.
#[derive(Default)]
pub struct TakeVote {
    task: Option<Task>,
}

impl Fault for TakeVote {
    fn strike(&mut self, field: &mut Field<'_>) -> Option<Struck> {
        // Two votes are left: neither of them may be lost.
        if !field.wounds.is_free(Side::Controllers) {
            return None;
        }
        let host = field.victim(|machine| Side::of(machine) == Some(Side::Controllers))?;
        let Role::Controller(node) = field.world.machine(host).role else { return None };
        let task = field.operator.remove(node);
        field.wounds.note(field.world, host, Harm::Vote(task.clone()));
        self.task = Some(task);
        Some(Struck::one(host, ""))
    }

    fn heal(&mut self, _: &mut Field<'_>) {
        if let Some(task) = &self.task {
            task.give_back();
        }
    }
}
