//! Too few replicas, and replicas that have a lot to catch up with.

use std::time::{Duration, Instant};

use vltava_model::ErrorCode;
use vltava_tests::load::{Load, LoadOptions};

use crate::api::{Api, append};
use crate::support::{conclude, create, number, progress, three, wait_in_sync};

const TOPIC: &str = "replicas";
const SOME: u64 = 200;

/// Two brokers of three are away. Their controllers too, so the third one is told of nothing: it may not acknowledge what
/// it alone has.
#[test]
fn one_broker_of_three_acknowledges_nothing_and_goes_on_when_another_is_back() {
    let mut cluster = three("");
    create(&cluster, TOPIC, 1, 3, &["min.insync.replicas=2"]);
    let load = Load::start(&cluster.servers(), &LoadOptions::new(TOPIC, 1));
    progress(&cluster, &load, SOME);
    let leader = cluster.leader(TOPIC, 0);
    let others: Vec<u32> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    for &id in &others {
        cluster.kill(id);
    }
    assert!(
        load.progress(SOME, Duration::from_secs(5)).is_err(),
        "one replica of two that must be in sync acknowledged"
    );
    cluster.spawn(others[0]);
    progress(&cluster, &load, SOME);
    cluster.spawn(others[1]);
    wait_in_sync(&cluster, TOPIC, 1, 3);
    conclude(&mut cluster, load, "one of three", TOPIC, 1);
}

/// The same with controllers that live: the ISR shrinks to one, and the refusal has a name.
#[test]
fn too_few_in_sync_replicas_refuse_by_name_and_recover() {
    use vltava_tests::{Cluster, ClusterOptions, Role};
    let nodes = vec![Role::Controller, Role::Broker, Role::Broker, Role::Broker];
    let mut cluster = Cluster::with(ClusterOptions { nodes, ..ClusterOptions::default() });
    create(&cluster, TOPIC, 1, 3, &["min.insync.replicas=2"]);
    let load = Load::start(&cluster.servers(), &LoadOptions::new(TOPIC, 1));
    progress(&cluster, &load, SOME);
    let leader = cluster.leader(TOPIC, 0);
    let others: Vec<u32> = [2, 3, 4].into_iter().filter(|id| *id != leader).collect();
    cluster.kill(others[0]);
    cluster.wait_isr(TOPIC, 0, 2);
    progress(&cluster, &load, SOME);
    cluster.kill(others[1]);
    cluster.wait_isr(TOPIC, 0, 1);
    let api = Api::new(cluster.node(leader).grpc);
    let refused = api.append(append(TOPIC, 0, b"too few"));
    assert_eq!(refused.map_err(|error| error.code()), Err(ErrorCode::NotEnoughReplicas));
    let before = load.acked();
    // Who asks for less gets it; the load, which asks for all, got nothing meanwhile.
    cluster.spawn(others[1]);
    progress(&cluster, &load, SOME);
    assert!(load.acked() > before);
    cluster.spawn(others[0]);
    wait_in_sync(&cluster, TOPIC, 1, 3);
    conclude(&mut cluster, load, "too few", TOPIC, 1);
}

/// A follower that was away is given all that it missed at full speed, while acks go on.
#[test]
fn a_follower_catches_up_with_much_while_acks_go_on() {
    let megabytes = number("VLTAVA_CATCH_UP_MB", 200);
    let mut cluster = three("leader.imbalance.check.interval.seconds = 600");
    create(&cluster, TOPIC, 1, 3, &[]);
    create(&cluster, "much", 1, 3, &["segment.bytes=33554432"]);
    wait_in_sync(&cluster, TOPIC, 1, 3);
    wait_in_sync(&cluster, "much", 1, 3);
    let (leader, controller) = (cluster.leader("much", 0), cluster.controller());
    let away = cluster
        .ids()
        .into_iter()
        .find(|id| *id != leader && *id != controller)
        .expect("there is a third node");
    cluster.kill(away);
    cluster.wait_isr("much", 0, 2);
    let line = format!("{}\n", "m".repeat(1023));
    let began = Instant::now();
    let input = line.repeat(usize::try_from(megabytes).expect("it fits") * 1024);
    cluster.cli_with(&["produce", "much", "--batch-size", "1000000"], input.as_bytes()).ok();
    eprintln!("{megabytes} MB were produced in {:?}", began.elapsed());
    let load = Load::start(&cluster.servers(), &LoadOptions::new(TOPIC, 1));
    progress(&cluster, &load, SOME);
    load.longest_gap();
    let (began, before) = (Instant::now(), load.acked());
    cluster.spawn(away);
    wait_in_sync(&cluster, "much", 1, 3);
    let (took, gap, acked) = (began.elapsed(), load.longest_gap(), load.acked() - before);
    eprintln!("{megabytes} MB were caught up with in {took:?}; {acked} acks meanwhile, longest gap {gap:?}");
    assert!(acked > 0 && gap < Duration::from_secs(5), "acks stalled for {gap:?}\n{}", cluster.logs());
    wait_in_sync(&cluster, TOPIC, 1, 3);
    // It has everything: let it lead, alone in the end.
    cluster.kill(leader);
    let count = (megabytes * 1024).to_string();
    let read = cluster
        .cli(&["consume", "much", "--from-beginning", "--max-messages", &count, "--timeout-ms", "30000"])
        .ok();
    assert!(read == input, "{} bytes of {} were read\n{}", read.len(), input.len(), cluster.logs());
    cluster.spawn(leader);
    wait_in_sync(&cluster, TOPIC, 1, 3);
    conclude(&mut cluster, load, "catching up", TOPIC, 1);
}
