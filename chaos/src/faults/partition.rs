//! Directions of the network that carry nothing for a while.

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::{Fallible, Fault, Field, Struck};
use crate::cluster::Role;
use crate::net::Place;

/// How the network is cut.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    /// Nodes fall into two groups; clients reach one of them or both.
    Split,
    /// A broker that leads something is alone, or alone with the clients.
    Leader,
    /// Packets of one node to some others are lost, and not those that come back; or the other way round.
    OneWay,
    /// Two groups that only one node can still reach both of.
    Bridge,
}

/// See the module.
pub struct Partition {
    cut: Cut,
    cuts: Vec<(Place, Place)>,
}

impl Partition {
    /// One that cuts like this.
    pub fn new(cut: Cut) -> Self {
        Self { cut, cuts: Vec::new() }
    }
}

fn between(left: &[Place], right: &[Place]) -> Vec<(Place, Place)> {
    left.iter().flat_map(|a| right.iter().flat_map(move |b| [(*a, *b), (*b, *a)])).collect()
}

fn names(places: &[Place]) -> String {
    places.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn node_ids(places: &[Place]) -> Vec<u32> {
    let nodes = places.iter().filter_map(|place| match place {
        Place::Node(id) => Some(*id),
        Place::Clients => None,
    });
    nodes.collect()
}

fn split(all: &[Place], rng: &mut StdRng) -> (Vec<(Place, Place)>, Struck) {
    let small = rng.random_range(1..=all.len() / 2);
    let (left, right) = all.split_at(small);
    let mut right = right.to_vec();
    let detail = format!("{} from {}", names(left), names(&right));
    if rng.random_bool(0.5) {
        right.push(Place::Clients);
    }
    (between(left, &right), Struck::new(node_ids(left), detail))
}

fn one_way(all: &[Place], rng: &mut StdRng) -> (Vec<(Place, Place)>, Struck) {
    let (one, others) = (all[0], &all[1..]);
    let some = rng.random_range(1..=others.len());
    let others = &others[..some];
    if rng.random_bool(0.5) {
        let cuts = others.iter().map(|other| (one, *other)).collect();
        (cuts, Struck::new(node_ids(&[one]), format!("{one} to {}", names(others))))
    } else {
        let cuts = others.iter().map(|other| (*other, one)).collect();
        (cuts, Struck::new(node_ids(&[one]), format!("{} to {one}", names(others))))
    }
}

fn bridge(all: &[Place]) -> (Vec<(Place, Place)>, Struck) {
    let (middle, rest) = (all[0], &all[1..]);
    let (left, right) = rest.split_at(rest.len() / 2);
    let detail = format!("{} from {}, {middle} reaches both", names(left), names(right));
    (between(left, right), Struck::new(node_ids(left), detail))
}

impl Partition {
    fn leader(field: &Field, all: &[Place], rng: &mut StdRng) -> Option<(Vec<(Place, Place)>, Struck)> {
        let (leader, leads) = field.leader(rng)?;
        let one = Place::Node(leader);
        let mut others: Vec<Place> = all.iter().copied().filter(|place| *place != one).collect();
        let from = *["all", "all nodes", "the controllers", "the brokers"].choose(rng)?;
        let role = match from {
            "the controllers" => Some(Role::Controller),
            "the brokers" => Some(Role::Broker),
            _ => None,
        };
        if let Some(role) = role {
            let of_role = field.cluster.ids(role);
            others.retain(|place| node_ids(&[*place]).iter().any(|id| of_role.contains(id)));
        }
        if from == "all" {
            others.push(Place::Clients);
        }
        let detail = format!("from {from}; it leads {} partitions", leads.len());
        Some((between(&[one], &others), Struck::new(vec![leader], detail)))
    }
}

impl Fault for Partition {
    fn strike(&mut self, field: &mut Field, rng: &mut StdRng) -> Fallible<Option<Struck>> {
        let mut all: Vec<Place> = field.cluster.nodes().iter().map(|node| Place::Node(node.id)).collect();
        all.shuffle(rng);
        let chosen = match self.cut {
            Cut::Split => Some(split(&all, rng)),
            Cut::OneWay => Some(one_way(&all, rng)),
            Cut::Bridge => Some(bridge(&all)),
            Cut::Leader => Self::leader(field, &all, rng),
        };
        let Some((cuts, struck)) = chosen else { return Ok(None) };
        for (from, to) in &cuts {
            field.cluster.net.cut(*from, *to)?;
        }
        self.cuts = cuts;
        Ok(Some(struck))
    }

    fn heal(&mut self, field: &mut Field, _: &mut StdRng) -> Fallible<()> {
        for (from, to) in std::mem::take(&mut self.cuts) {
            field.cluster.net.mend(from, to)?;
        }
        Ok(())
    }
}
