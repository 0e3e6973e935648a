//! Links between one machine and some of the others that stall or are slow.

use rand::RngExt;

use super::{Fault, Field, Struck};
use crate::host::HostId;
use crate::net::{self, Traffic};

/// What is wrong with the links.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// Nothing passes.
    Both,
    /// Things pass in one direction only.
    OneWay,
    /// Everything takes long.
    Slow,
}

/// See the module.
pub struct Harm {
    cut: Cut,
    links: Vec<(HostId, HostId)>,
}

impl Harm {
    /// One that harms so.
    pub fn new(cut: Cut) -> Self {
        Self { cut, links: Vec::new() }
    }
}

impl Fault for Harm {
    fn strike(&mut self, field: &mut Field<'_>) -> Option<Struck> {
        let host = field.anybody()?;
        let some = field.random.random_range(1..=3u32);
        let outwards = field.random.random_bool(0.5);
        for other in field.others(host) {
            if field.random.random_range(0..3) >= some {
                continue;
            }
            match self.cut {
                Cut::OneWay if outwards => self.links.push((host, other)),
                Cut::OneWay => self.links.push((other, host)),
                Cut::Both | Cut::Slow => self.links.extend([(host, other), (other, host)]),
            }
        }
        let extra = field.random.random_range(20..1500);
        for (from, to) in &self.links {
            net::change_link(*from, *to, |link| match self.cut {
                Cut::Slow => link.extra = extra,
                Cut::Both | Cut::OneWay => link.traffic = Traffic::Stalls,
            });
        }
        Some(Struck::one(host, format!("{} links", self.links.len())))
    }

    fn heal(&mut self, _: &mut Field<'_>) {
        for (from, to) in &self.links {
            net::change_link(*from, *to, |link| {
                link.traffic = Traffic::Flows;
                link.extra = 0;
            });
        }
    }
}
