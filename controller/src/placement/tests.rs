//! Placement against a naive checker of what it promises (I35).

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use rand::SeedableRng;

use super::*;

fn candidate(node: u32, rack: Option<u32>, standing: Standing) -> Candidate {
    let rack = rack.map(|rack| format!("rack-{rack}"));
    Candidate { node: NodeId::new(node), rack, standing, replicas: 0, leaders: 0 }
}

fn plain(count: u32) -> Vec<Candidate> {
    (0..count).map(|node| candidate(node, None, Standing::Active)).collect()
}

fn random(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// How often each broker is counted; those that are never, too.
fn count<'a>(brokers: &[Candidate], nodes: impl Iterator<Item = &'a NodeId>) -> BTreeMap<NodeId, usize> {
    let mut counts: BTreeMap<_, _> = brokers.iter().map(|broker| (broker.node, 0)).collect();
    nodes.for_each(|node| *counts.get_mut(node).unwrap() += 1);
    counts
}

fn spread(counts: &BTreeMap<NodeId, usize>) -> usize {
    counts.values().max().unwrap() - counts.values().min().unwrap()
}

fn check_each(brokers: &[Candidate], placed: &[Vec<NodeId>], factor: usize) {
    let by_node: BTreeMap<_, _> = brokers.iter().map(|broker| (broker.node, broker)).collect();
    let racks: BTreeSet<_> = brokers.iter().map(|broker| &broker.rack).collect();
    for replicas in placed {
        let distinct: BTreeSet<_> = replicas.iter().collect();
        assert_eq!((distinct.len(), replicas.len()), (factor, factor));
        let used: BTreeSet<_> = replicas.iter().map(|node| &by_node[node].rack).collect();
        assert_eq!(used.len(), factor.min(racks.len()), "as many racks as there are");
        assert_eq!(by_node[&replicas[0]].standing, Standing::Active);
    }
}

fn same_every_run() -> Config {
    Config { cases: 200, rng_seed: RngSeed::Fixed(0x5eed), failure_persistence: None, ..Config::default() }
}

proptest! {
    #![proptest_config(same_every_run())]

    #[test]
    fn without_racks_everything_is_even(seed: u64, brokers in 1..12_u32, factor in 1..5_u32, partitions in 1..60_u32) {
        prop_assume!(factor <= brokers);
        let brokers = plain(brokers);
        let mut placement = Placement::new(brokers.clone(), random(seed));
        placement.begin_topic([]);
        let placed = placement.place(partitions, factor).unwrap();
        prop_assert_eq!(placed.len(), partitions as usize);
        check_each(&brokers, &placed, factor as usize);
        let leaders = count(&brokers, placed.iter().map(|replicas| &replicas[0]));
        prop_assert!(spread(&leaders) <= 1, "leaders {leaders:?}");
        let replicas = count(&brokers, placed.iter().flatten());
        prop_assert!(spread(&replicas) <= 2, "replicas {replicas:?}");
        let mut again = Placement::new(brokers, random(seed));
        again.begin_topic([]);
        prop_assert_eq!(again.place(partitions, factor).unwrap(), placed, "one seed, one placement");
    }

    #[test]
    fn replicas_lie_in_all_racks_and_leaders_are_alive(
        seed: u64,
        layout in proptest::collection::vec((0..4_u32, 0..4_u32), 1..10),
        factor in 1..5_u32,
        partitions in 1..40_u32,
    ) {
        let brokers: Vec<_> = (0..)
            .zip(&layout)
            .map(|(node, (rack, away))| {
                let standing = if *away == 0 { Standing::Away } else { Standing::Active };
                candidate(node, (*rack > 0).then_some(*rack), standing)
            })
            .collect();
        let mut placement = Placement::new(brokers.clone(), random(seed));
        placement.begin_topic([]);
        match placement.place(partitions, factor) {
            Ok(placed) => check_each(&brokers, &placed, factor as usize),
            Err(PlacementError::TooFewBrokers { .. }) => prop_assert!(factor as usize > brokers.len()),
            Err(PlacementError::NobodyActive) => {
                prop_assert!(brokers.iter().all(|broker| broker.standing == Standing::Away));
            }
            Err(PlacementError::NoReplicas) => prop_assert!(false),
        }
    }

    #[test]
    fn equal_racks_are_even(seed: u64, racks in 1..5_u32, each in 1..4_u32, partitions in 1..60_u32) {
        let brokers: Vec<_> =
            (0..racks * each).map(|node| candidate(node, Some(node % racks), Standing::Active)).collect();
        let factor = racks.min(3);
        let mut placement = Placement::new(brokers.clone(), random(seed));
        placement.begin_topic([]);
        let placed = placement.place(partitions, factor).unwrap();
        check_each(&brokers, &placed, factor as usize);
        let leaders = count(&brokers, placed.iter().map(|replicas| &replicas[0]));
        prop_assert!(spread(&leaders) <= 1, "leaders {leaders:?}");
        let replicas = count(&brokers, placed.iter().flatten());
        prop_assert!(spread(&replicas) <= 2, "replicas {replicas:?}");
    }
}

#[test]
fn many_small_topics_are_even_over_the_cluster() {
    let brokers = plain(5);
    let mut placement = Placement::new(brokers.clone(), random(3));
    let mut placed = Vec::new();
    for _ in 0..100 {
        placement.begin_topic([]);
        placed.extend(placement.place(1, 3).unwrap());
    }
    assert!(spread(&count(&brokers, placed.iter().map(|replicas| &replicas[0]))) <= 1);
    assert!(spread(&count(&brokers, placed.iter().flatten())) <= 2);
}

#[test]
fn more_partitions_go_on_where_the_topic_stopped() {
    let brokers = plain(3);
    let existing = [vec![NodeId::new(0)], vec![NodeId::new(1)]];
    let mut placement = Placement::new(brokers, random(1));
    placement.begin_topic(existing.iter().map(|replicas| &replicas[..]));
    assert_eq!(placement.place(1, 1).unwrap(), [[NodeId::new(2)]]);
}

#[test]
fn a_broker_that_is_away_only_fills_up() {
    let mut brokers = plain(4);
    brokers[0].standing = Standing::Away;
    let mut placement = Placement::new(brokers.clone(), random(1));
    placement.begin_topic([]);
    let three = placement.place(12, 3).unwrap();
    assert!(three.iter().flatten().all(|node| *node != NodeId::new(0)), "three others are there");
    assert!(placement.place(12, 4).unwrap().iter().all(|replicas| replicas[0] != NodeId::new(0)));
    assert_eq!(placement.place(1, 5), Err(PlacementError::TooFewBrokers { wanted: 5, registered: 4 }));
    assert_eq!(placement.place(1, 0), Err(PlacementError::NoReplicas));
}

#[test]
fn no_two_brokers_share_all_their_partitions() {
    let mut placement = Placement::new(plain(6), random(1));
    placement.begin_topic([]);
    let placed = placement.place(120, 2).unwrap();
    let beside_first: BTreeSet<_> =
        placed.iter().filter(|replicas| replicas.contains(&NodeId::new(0))).flatten().collect();
    assert_eq!(beside_first.len(), 6);
}
