//! Single connections that break or are stuck, while others between the same machines go on.

use rand::RngExt;

use super::{Fault, Field, Struck};
use crate::net;

/// Some connections of a machine break.
pub struct Reset;

impl Fault for Reset {
    fn strike(&mut self, field: &mut Field<'_>) -> Option<Struck> {
        let host = field.anybody()?;
        let permille = field.random.random_range(100..=1000);
        for other in field.others(host) {
            net::reset_connections(host, other, permille);
        }
        Some(Struck::one(host, format!("{permille} of 1000")))
    }

    fn heal(&mut self, _: &mut Field<'_>) {}
}

/// What is sent on some connections of a machine is held, and in the end delivered, or lost with its connection.
#[derive(Default)]
pub struct Stick {
    conns: Vec<u64>,
}

impl Fault for Stick {
    fn strike(&mut self, field: &mut Field<'_>) -> Option<Struck> {
        let host = field.anybody()?;
        let permille = field.random.random_range(100..=1000);
        for other in field.others(host) {
            self.conns.extend(net::stick_connections(host, other, permille));
        }
        (!self.conns.is_empty()).then(|| Struck::one(host, format!("{} connections", self.conns.len())))
    }

    fn heal(&mut self, field: &mut Field<'_>) {
        net::unstick_connections(&self.conns, field.random.random_bool(0.5));
    }
}
