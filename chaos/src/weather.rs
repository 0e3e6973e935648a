//! What stood in the way of writing, and when: so that the time in which nobody could have written is not held against
//! the cluster.
//!
//! Knows which nodes are away and which directions are cut, as the faults have it; nothing of what the cluster makes of it.

use std::collections::BTreeSet;
use std::time::Duration;

use vltava_history::event::{At, PartitionRef};

use crate::net::Place;

/// Who is away and what is cut, at one time.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Weather {
    /// Nodes that are down, paused, or kept from working at their pace by a slow disk or line.
    pub away: BTreeSet<u32>,
    /// Directions that carry nothing.
    pub cuts: BTreeSet<(Place, Place)>,
}

/// A partition whose leader was hit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Victim {
    /// Which fault hit it: its place among all of them.
    pub fault: usize,
    /// Which partition.
    pub partition: PartitionRef,
    /// Who holds it.
    pub replicas: Vec<u32>,
    /// Who was in sync when it was hit, as far as could be seen.
    pub isr: Vec<u32>,
}

/// `min.insync.replicas` of the topics here.
const MIN_ISR: usize = 2;

impl Weather {
    fn hear(&self, one: Place, other: Place) -> bool {
        !self.cuts.contains(&(one, other)) && !self.cuts.contains(&(other, one))
    }

    /// Whether all of them are there and hear each other.
    fn together(&self, nodes: &[u32]) -> bool {
        nodes.iter().enumerate().all(|(at, node)| {
            let others = &nodes[at + 1..];
            let hears = |other: &u32| self.hear(Place::Node(*node), Place::Node(*other));
            !self.away.contains(node) && others.iter().all(hears)
        })
    }

    /// Whether records can be written to a partition: enough of its replicas, one of them in sync, a majority of the
    /// controllers and the clients reach each other.
    fn lets_write(&self, victim: &Victim, controllers: &[u32]) -> bool {
        let majorities = subsets(controllers, controllers.len() / 2 + 1);
        let groups = subsets(&victim.replicas, MIN_ISR);
        let eligible = |group: &[u32]| group.iter().any(|node| victim.isr.contains(node));
        let reached = |group: &[u32]| group.iter().all(|node| self.hear(Place::Node(*node), Place::Clients));
        groups.iter().filter(|group| eligible(group) && reached(group)).any(|group| {
            majorities.iter().any(|majority| self.together(&[group.as_slice(), majority].concat()))
        })
    }
}

/// All ways to choose `size` of a few.
fn subsets(of: &[u32], size: usize) -> Vec<Vec<u32>> {
    let chosen = |mask: u32| {
        let members = of.iter().enumerate().filter(move |(at, _)| mask & (1 << at) != 0);
        members.map(|(_, node)| *node).collect::<Vec<_>>()
    };
    (0..1_u32 << of.len()).filter(|mask| mask.count_ones() as usize == size).map(chosen).collect()
}

/// All weather of a run.
#[derive(Debug, Default)]
pub struct Almanac {
    controllers: Vec<u32>,
    changes: Vec<(At, Weather)>,
    victims: Vec<Victim>,
}

impl Almanac {
    /// One for a cluster with these controllers.
    pub fn new(controllers: Vec<u32>) -> Self {
        Self { controllers, ..Self::default() }
    }

    /// Notes how it is now; times come in order.
    pub fn note(&mut self, at: At, weather: Weather) {
        if self.changes.last().is_none_or(|(_, last)| *last != weather) {
            self.changes.push((at, weather));
        }
    }

    /// Notes who was hit.
    pub fn hit(&mut self, victims: impl IntoIterator<Item = Victim>) {
        self.victims.extend(victims);
    }

    /// How much of the time from `begin` on, `took` long, the partition could have been written to. All of it when nothing
    /// is known of the partition.
    pub fn writable_within(
        &self,
        fault: usize,
        partition: PartitionRef,
        begin: At,
        took: Duration,
    ) -> Duration {
        let victim =
            self.victims.iter().find(|victim| victim.fault == fault && victim.partition == partition);
        let Some(victim) = victim else { return took };
        let end = begin.plus(took);
        let mut writable = took;
        for (place, (from, weather)) in self.changes.iter().enumerate() {
            let until = self.changes.get(place + 1).map_or(end, |(next, _)| (*next).min(end));
            let from = (*from).max(begin);
            if from < until && !weather.lets_write(victim, &self.controllers) {
                writable = writable.saturating_sub(until.since(from));
            }
        }
        writable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> At {
        At::new(Duration::from_millis(millis))
    }

    fn victim() -> Victim {
        Victim { fault: 3, partition: PartitionRef::new(7), replicas: vec![4, 5, 6], isr: vec![4, 5] }
    }

    fn away(nodes: &[u32]) -> Weather {
        Weather { away: nodes.iter().copied().collect(), cuts: BTreeSet::new() }
    }

    fn cut(from: Place, to: Place) -> Weather {
        Weather { away: BTreeSet::from([4]), cuts: BTreeSet::from([(from, to)]) }
    }

    #[test]
    fn two_replicas_a_majority_and_the_clients_are_enough() {
        let lets = |weather: Weather| weather.lets_write(&victim(), &[1, 2, 3]);
        assert!(lets(away(&[4])), "5 and 6 are left, and 5 was in sync");
        assert!(lets(away(&[4, 1])), "two of three controllers are left");
        assert!(!lets(away(&[4, 1, 2])));
        assert!(!lets(away(&[4, 6])), "one replica is left");
        assert!(!lets(away(&[5, 4])), "6 alone, and not in sync");
        let node = Place::Node;
        assert!(!lets(cut(node(5), node(6))), "one direction is enough to part them");
        assert!(!lets(cut(Place::Clients, node(5))));
        assert!(lets(cut(Place::Clients, node(4))), "who is away need not be reached");
        assert!(lets(cut(node(1), node(5))), "2 and 3 are a majority that 5 hears");
        assert!(lets(cut(node(8), node(5))), "8 has no part in it");
    }

    #[test]
    fn nobody_in_sync_is_left_and_nothing_can_be_written() {
        let victim = Victim { isr: vec![4], ..victim() };
        assert!(!away(&[4]).lets_write(&victim, &[1, 2, 3]));
        assert!(away(&[]).lets_write(&victim, &[1, 2, 3]), "4 is back");
    }

    #[test]
    fn only_time_in_which_it_could_be_written_counts() {
        let mut almanac = Almanac::new(vec![1, 2, 3]);
        almanac.note(at(0), away(&[]));
        almanac.note(at(1_000), away(&[4]));
        almanac.note(at(2_000), away(&[4, 5]));
        almanac.note(at(2_500), away(&[4, 5]));
        almanac.note(at(5_000), away(&[5]));
        almanac.note(at(5_500), away(&[]));
        almanac.hit([victim()]);
        let within =
            |took| almanac.writable_within(3, PartitionRef::new(7), at(1_000), Duration::from_millis(took));
        assert_eq!(within(700), Duration::from_millis(700));
        assert_eq!(within(2_000), Duration::from_millis(1_000));
        assert_eq!(within(6_000), Duration::from_millis(3_000), "two of 4, 5, 6 are there again from 5 s on");
        let unknown = almanac.writable_within(2, PartitionRef::new(7), at(1_000), Duration::from_secs(6));
        assert_eq!(unknown, Duration::from_secs(6));
    }
}
