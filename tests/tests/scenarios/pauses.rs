//! SIGSTOP: a process that neither answers nor dies, and wakes up in a world that went on without it.

use std::time::{Duration, Instant};

use vltava_tests::load::{Load, LoadOptions};

use crate::support::{assert_replicas_agree, conclude, create, progress, three, wait_in_sync};

const TOPIC: &str = "pauses";
const SOME: u64 = 200;

#[test]
fn a_stopped_leader_is_replaced_and_acknowledges_nothing_when_it_wakes_up() {
    let mut cluster = three("leader.imbalance.check.interval.seconds = 600");
    create(&cluster, TOPIC, 1, 3, &[]);
    let load = Load::start(&cluster.servers(), &LoadOptions::new(TOPIC, 1));
    for _ in 0..2 {
        progress(&cluster, &load, SOME);
        let leader = cluster.leader(TOPIC, 0);
        load.longest_gap();
        cluster.pause(leader);
        progress(&cluster, &load, SOME);
        eprintln!("leader {leader} was stopped: no acks for {:?}", load.longest_gap());
        // Appends of producers that still believe in it lie in its socket: it must not acknowledge them as leader.
        cluster.resume(leader);
        let other = cluster.wait_partition(TOPIC, 0, "another leader", |partition| {
            partition["leader"].as_u64().filter(|id| *id != u64::from(leader))
        });
        wait_in_sync(&cluster, TOPIC, 1, 3);
        progress(&cluster, &load, SOME);
        eprintln!("leader {leader} woke up beside {other}");
    }
    conclude(&mut cluster, load, "stopped leader", TOPIC, 1);
    assert_replicas_agree(&mut cluster, "stopped leader", TOPIC, 1);
}

#[test]
fn a_stopped_follower_leaves_the_isr_and_comes_back() {
    let mut cluster = three("leader.imbalance.check.interval.seconds = 600");
    create(&cluster, TOPIC, 1, 3, &[]);
    let load = Load::start(&cluster.servers(), &LoadOptions::new(TOPIC, 1));
    progress(&cluster, &load, SOME);
    let (leader, controller) = (cluster.leader(TOPIC, 0), cluster.controller());
    let follower = cluster
        .ids()
        .into_iter()
        .find(|id| *id != leader && *id != controller)
        .expect("there is a third node");
    load.longest_gap();
    let began = Instant::now();
    cluster.pause(follower);
    cluster.wait_isr(TOPIC, 0, 2);
    let out = began.elapsed();
    progress(&cluster, &load, SOME);
    let gap = load.longest_gap();
    eprintln!("a follower was stopped: out of the ISR after {out:?}, no acks for {gap:?}");
    // Losing a follower must not stall acks longer than losing a leader: a session of three seconds, and something for
    // a busy machine.
    assert!(gap < Duration::from_secs(8), "{gap:?} without an ack\n{}", cluster.logs());
    cluster.resume(follower);
    wait_in_sync(&cluster, TOPIC, 1, 3);
    progress(&cluster, &load, SOME);
    conclude(&mut cluster, load, "stopped follower", TOPIC, 1);
}

#[test]
fn a_stopped_active_controller_is_replaced_and_decides_nothing_when_it_wakes_up() {
    let mut cluster = three("leader.imbalance.check.interval.seconds = 600");
    create(&cluster, TOPIC, 3, 3, &[]);
    let load = Load::start(&cluster.servers(), &LoadOptions::new(TOPIC, 3));
    progress(&cluster, &load, SOME);
    let old = cluster.controller();
    load.longest_gap();
    cluster.pause(old);
    progress(&cluster, &load, SOME);
    eprintln!("active controller {old} was stopped: no acks for {:?}", load.longest_gap());
    cluster.resume(old);
    wait_in_sync(&cluster, TOPIC, 3, 3);
    progress(&cluster, &load, SOME);
    create(&cluster, "after", 1, 3, &[]);
    conclude(&mut cluster, load, "stopped controller", TOPIC, 3);
}
