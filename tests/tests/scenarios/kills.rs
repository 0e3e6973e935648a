//! `kill -9` of anything, in a loop, under load: the reason for all the rest.

use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use vltava_tests::Cluster;
use vltava_tests::load::{Load, LoadOptions};

use crate::support::{assert_replicas_agree, conclude, create, number, progress, rng, three, wait_in_sync};

const TOPIC: &str = "kills";
const PARTITIONS: u32 = 4;
/// Acks that show that a cluster works.
const SOME: u64 = 200;

/// Whom to kill.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Leader,
    Follower,
    Controller,
    All,
    /// Two in a row, without waiting in between.
    Two,
}

fn victims(cluster: &Cluster, victim: Victim, rng: &mut StdRng) -> Vec<u32> {
    let partition = rng.random_range(0..PARTITIONS as usize);
    let leader = cluster.leader(TOPIC, partition);
    let others: Vec<u32> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    match victim {
        Victim::Leader => vec![leader],
        Victim::Follower => vec![*others.choose(rng).expect("there are followers")],
        Victim::Controller => vec![cluster.controller()],
        Victim::All => cluster.ids(),
        Victim::Two => vec![leader, *others.choose(rng).expect("there are followers")],
    }
}

/// Kills, sees that the rest goes on where it can, starts again.
fn round(cluster: &mut Cluster, load: &Load, victim: Victim, rng: &mut StdRng) -> usize {
    let victims = victims(cluster, victim, rng);
    let began = Instant::now();
    load.longest_gap();
    for &id in &victims {
        cluster.kill(id);
    }
    if victims.len() == 1 {
        progress(cluster, load, SOME);
    }
    let without = (began.elapsed(), load.longest_gap());
    for &id in &victims {
        cluster.spawn(id);
    }
    progress(cluster, load, SOME);
    let with = load.longest_gap();
    eprintln!(
        "  {victim:?} {victims:?}: {SOME} acks without them after {without:?}, longest gap with them {with:?}"
    );
    victims.len()
}

#[test]
fn nothing_acknowledged_is_lost_to_kill_9_in_a_loop() {
    let mut rng = rng("kill loop");
    // Small files, so that journals are recycled and segments begun while nodes die.
    let mut cluster = three("leader.imbalance.check.interval.seconds = 2\nlog.journal.file.bytes = \"1MiB\"");
    create(&cluster, TOPIC, PARTITIONS, 3, &["segment.bytes=262144"]);
    let size = [60, 300, 2_000].choose(&mut rng).copied().expect("there are sizes");
    let load = Load::start(&cluster.servers(), &LoadOptions { size, ..LoadOptions::new(TOPIC, PARTITIONS) });
    progress(&cluster, &load, SOME);
    let mut kills = 0;
    for round_number in 0..number("VLTAVA_ROUNDS", 2) {
        for victim in [Victim::Leader, Victim::Controller, Victim::Follower, Victim::All, Victim::Two] {
            kills += round(&mut cluster, &load, victim, &mut rng);
            // Every other time the next kill hits a cluster that has not healed yet.
            if rng.random_bool(0.5) {
                wait_in_sync(&cluster, TOPIC, PARTITIONS, 3);
            }
        }
        cluster.wait_ready();
        eprintln!("round {round_number}: {kills} kills, {} acks so far", load.acked());
    }
    wait_in_sync(&cluster, TOPIC, PARTITIONS, 3);
    conclude(&mut cluster, load, "kill loop", TOPIC, PARTITIONS);
    assert_replicas_agree(&mut cluster, "kill loop", TOPIC, PARTITIONS);
}

/// Kills and starts at random moments, also in the midst of starts and recoveries. Nothing is waited for until it is over.
#[test]
fn nothing_acknowledged_is_lost_in_a_storm_of_kills() {
    let mut rng = rng("storm");
    let mut cluster = three("leader.imbalance.check.interval.seconds = 1\nlog.journal.file.bytes = \"1MiB\"");
    create(&cluster, TOPIC, PARTITIONS, 3, &["segment.bytes=131072"]);
    let options = LoadOptions { size: 500, producers: 3, ..LoadOptions::new(TOPIC, PARTITIONS) };
    let load = Load::start(&cluster.servers(), &options);
    progress(&cluster, &load, SOME);
    let ids = cluster.ids();
    let mut kills = 0;
    for _ in 0..number("VLTAVA_ROUNDS", 2) * 20 {
        let id = *ids.choose(&mut rng).expect("there are nodes");
        if cluster.runs(id) {
            cluster.kill(id);
            kills += 1;
        } else {
            cluster.spawn(id);
        }
        // The moment of the next fault is part of the fault, not a wait for anything.
        std::thread::sleep(Duration::from_millis(rng.random_range(0..700)));
    }
    for id in ids {
        if !cluster.runs(id) {
            cluster.spawn(id);
        }
    }
    cluster.wait_ready();
    wait_in_sync(&cluster, TOPIC, PARTITIONS, 3);
    progress(&cluster, &load, SOME);
    eprintln!("storm: {kills} kills");
    conclude(&mut cluster, load, "storm", TOPIC, PARTITIONS);
    assert_replicas_agree(&mut cluster, "storm", TOPIC, PARTITIONS);
}

#[test]
fn a_whole_cluster_that_is_killed_at_once_comes_back_with_everything() {
    let mut rng = rng("all at once");
    let mut cluster = three("");
    create(&cluster, TOPIC, PARTITIONS, 3, &[]);
    let load = Load::start(&cluster.servers(), &LoadOptions::new(TOPIC, PARTITIONS));
    for _ in 0..number("VLTAVA_ROUNDS", 3) {
        progress(&cluster, &load, SOME);
        round(&mut cluster, &load, Victim::All, &mut rng);
    }
    wait_in_sync(&cluster, TOPIC, PARTITIONS, 3);
    conclude(&mut cluster, load, "all at once", TOPIC, PARTITIONS);
}

#[test]
fn a_killed_leader_is_replaced_within_a_moment() {
    let mut cluster = three("");
    create(&cluster, TOPIC, 1, 3, &[]);
    let load = Load::start(&cluster.servers(), &LoadOptions::new(TOPIC, 1));
    progress(&cluster, &load, SOME);
    // Kill the leader that is not the active controller, so that one failover is measured and not two.
    let controller = cluster.controller();
    let mut leader = cluster.leader(TOPIC, 0);
    if leader == controller {
        cluster.restart(leader);
        cluster.wait_ready();
        wait_in_sync(&cluster, TOPIC, 1, 3);
        leader = cluster.leader(TOPIC, 0);
    }
    progress(&cluster, &load, SOME);
    load.longest_gap();
    cluster.kill(leader);
    progress(&cluster, &load, SOME);
    let gap = load.longest_gap();
    eprintln!("a leader was killed: no acks for {gap:?} (controller {controller}, leader {leader})");
    // Closed connections tell of a dead process long before its session of three seconds is over. The bound is wide for
    // machines that are busy with other things.
    assert!(gap < Duration::from_secs(3), "{gap:?} without an ack\n{}", cluster.logs());
    cluster.wait_isr(TOPIC, 0, 2);
    cluster.spawn(leader);
    wait_in_sync(&cluster, TOPIC, 1, 3);
    conclude(&mut cluster, load, "failover", TOPIC, 1);
}
