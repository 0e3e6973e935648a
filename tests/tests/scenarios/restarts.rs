//! Nodes that end in order, whole clusters that start again, disks that were replaced.

use std::fs;
use std::time::Duration;

use vltava_tests::load::{Load, LoadOptions};
use vltava_tests::{Cluster, ClusterOptions, Role};

use crate::support::{assert_replicas_agree, conclude, create, progress, three, wait_in_sync};

const TOPIC: &str = "restarts";
const PARTITIONS: u32 = 4;
const SOME: u64 = 200;

fn under_load(extra: &str) -> (Cluster, Load) {
    let cluster = three(extra);
    create(&cluster, TOPIC, PARTITIONS, 3, &[]);
    let load = Load::start(&cluster.servers(), &LoadOptions::new(TOPIC, PARTITIONS));
    progress(&cluster, &load, SOME);
    (cluster, load)
}

#[test]
fn a_rolling_restart_hands_over_and_loses_nothing() {
    let (mut cluster, load) = under_load("");
    for id in cluster.ids() {
        load.longest_gap();
        let code = cluster.terminate(id);
        assert_eq!(code, Some(0), "node {id}\n{}", cluster.logs());
        let gap = load.longest_gap();
        progress(&cluster, &load, SOME);
        eprintln!("node {id} ended in order: no acks for {gap:?}");
        // Nothing had to be noticed or waited for: less than a session.
        assert!(gap < Duration::from_secs(3), "{gap:?} without an ack\n{}", cluster.logs());
        cluster.spawn(id);
        cluster.wait_ready();
        wait_in_sync(&cluster, TOPIC, PARTITIONS, 3);
    }
    conclude(&mut cluster, load, "rolling restart", TOPIC, PARTITIONS);
}

#[test]
fn a_cluster_that_was_ended_in_order_starts_again_with_everything() {
    let mut cluster = three("");
    create(&cluster, TOPIC, 1, 3, &[]);
    let lines: String = (0..5_000).map(|line| format!("line {line}\n")).collect();
    cluster.cli_with(&["produce", TOPIC], lines.as_bytes()).ok();
    for id in cluster.ids() {
        assert_eq!(cluster.terminate(id), Some(0), "node {id}\n{}", cluster.logs());
    }
    for id in cluster.ids() {
        cluster.spawn(id);
    }
    cluster.wait_ready();
    let read = cluster
        .cli(&["consume", TOPIC, "--from-beginning", "--max-messages", "5000", "--timeout-ms", "20000"])
        .ok();
    assert!(read == lines, "{} bytes of {}\n{}", read.len(), lines.len(), cluster.logs());
    wait_in_sync(&cluster, TOPIC, 1, 3);
    cluster.assert_healthy();
}

fn wipe(dirs: &[std::path::PathBuf]) {
    for dir in dirs {
        fs::remove_dir_all(dir).expect("the directory can be removed");
    }
}

/// Kills a broker and empties its log directories: it comes back with nothing, is given everything, and counts for
/// nothing until then.
#[test]
fn a_replaced_disk_of_a_leader_loses_nothing() {
    let (mut cluster, load) = under_load("leader.imbalance.check.interval.seconds = 2");
    for _ in 0..2 {
        let leader = cluster.leader(TOPIC, 0);
        cluster.kill(leader);
        wipe(&cluster.log_dirs(leader));
        cluster.spawn(leader);
        progress(&cluster, &load, SOME);
        cluster.wait_ready();
        wait_in_sync(&cluster, TOPIC, PARTITIONS, 3);
        eprintln!("broker {leader} came back without its disk; {} acks", load.acked());
    }
    conclude(&mut cluster, load, "replaced disk", TOPIC, PARTITIONS);
    assert_replicas_agree(&mut cluster, "replaced disk", TOPIC, PARTITIONS);
}

/// Records were deleted up to the midst of a batch. Who lost its disk gets the whole batch, since nobody can have half of one,
/// and everything behind it.
#[test]
fn a_replaced_disk_is_filled_from_a_log_that_begins_within_a_batch() {
    let mut cluster = three("");
    create(&cluster, TOPIC, 1, 3, &[]);
    let lines: String = (0..50).map(|line| format!("line {line}\n")).collect();
    // Each run of the command is one batch.
    for _ in 0..3 {
        cluster
            .cli_with(&["produce", TOPIC, "--partition", "0", "--linger-ms", "300"], lines.as_bytes())
            .ok();
    }
    wait_in_sync(&cluster, TOPIC, 1, 3);
    cluster.cli(&["topics", "delete-records", TOPIC, "--partition", "0", "--before-offset", "20"]).ok();
    let leader = cluster.leader(TOPIC, 0);
    let other = cluster.ids().into_iter().find(|id| *id != leader).expect("there are three");
    cluster.kill(other);
    wipe(&cluster.log_dirs(other));
    cluster.wait_isr(TOPIC, 0, 2);
    cluster.spawn(other);
    cluster.wait_ready();
    wait_in_sync(&cluster, TOPIC, 1, 3);
    assert_replicas_agree(&mut cluster, "log start within a batch", TOPIC, 1);
}

/// A broker whose disk was replaced comes back while the rest of the cluster is away: it must not lead with its empty log.
#[test]
fn an_empty_disk_never_leads_over_those_that_have_the_records() {
    let mut cluster = three("leader.imbalance.check.interval.seconds = 1");
    create(&cluster, TOPIC, 1, 3, &[]);
    let load = Load::start(&cluster.servers(), &LoadOptions { watch: false, ..LoadOptions::new(TOPIC, 1) });
    progress(&cluster, &load, SOME);
    let leader = cluster.leader(TOPIC, 0);
    for id in cluster.ids() {
        cluster.kill(id);
    }
    wipe(&cluster.log_dirs(leader));
    cluster.spawn(leader);
    let others: Vec<u32> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    // A quorum of controllers, and one broker with the records.
    cluster.spawn(others[0]);
    cluster.wait_ready();
    cluster.spawn(others[1]);
    cluster.wait_ready();
    wait_in_sync(&cluster, TOPIC, 1, 3);
    progress(&cluster, &load, SOME);
    conclude(&mut cluster, load, "empty disk", TOPIC, 1);
}

#[test]
fn brokers_and_controllers_apart_survive_the_same() {
    let nodes =
        vec![Role::Controller, Role::Controller, Role::Controller, Role::Broker, Role::Broker, Role::Broker];
    let mut cluster = Cluster::with(ClusterOptions { nodes, ..ClusterOptions::default() });
    create(&cluster, TOPIC, PARTITIONS, 3, &[]);
    let load = Load::start(&cluster.servers(), &LoadOptions::new(TOPIC, PARTITIONS));
    progress(&cluster, &load, SOME);
    let (leader, controller) = (cluster.leader(TOPIC, 0), cluster.controller());
    load.longest_gap();
    cluster.kill(controller);
    cluster.kill(leader);
    progress(&cluster, &load, SOME);
    eprintln!("active controller and leader were killed: no acks for {:?}", load.longest_gap());
    cluster.spawn(controller);
    cluster.spawn(leader);
    cluster.wait_ready();
    // Without any controller the brokers go on with what they know.
    for id in [1, 2, 3] {
        cluster.kill(id);
    }
    progress(&cluster, &load, SOME);
    for id in [1, 2, 3] {
        cluster.spawn(id);
    }
    cluster.wait_ready();
    wait_in_sync(&cluster, TOPIC, PARTITIONS, 3);
    progress(&cluster, &load, SOME);
    conclude(&mut cluster, load, "apart", TOPIC, PARTITIONS);
}

/// The last replica in sync comes back with an empty disk. The others lack records that it acknowledged alone, and it
/// lacks all: nobody may lead until an operator decides what to lose.
#[test]
fn the_last_replica_in_sync_does_not_lead_with_an_empty_disk() {
    let nodes = vec![Role::Controller, Role::Broker, Role::Broker];
    let mut cluster = Cluster::with(ClusterOptions { nodes, ..ClusterOptions::default() });
    create(&cluster, TOPIC, 1, 2, &["min.insync.replicas=1"]);
    cluster.cli_with(&["produce", TOPIC], b"both have this\n").ok();
    let leader = cluster.leader(TOPIC, 0);
    let other = if leader == 2 { 3 } else { 2 };
    cluster.kill(other);
    cluster.wait_isr(TOPIC, 0, 1);
    cluster.cli_with(&["produce", TOPIC], b"only one has this\n").ok();
    cluster.kill(leader);
    wipe(&cluster.log_dirs(leader));
    cluster.spawn(leader);
    cluster.spawn(other);
    cluster.wait_ready();
    let partition = cluster.describe(TOPIC).expect("it is there")["partitions"][0].clone();
    assert!(
        partition["leader"].is_null(),
        "{partition} has a leader that lacks a record\n{}",
        cluster.logs()
    );
    // The operator decides. Whoever is chosen, the two agree from then on.
    cluster.cli(&["topics", "elect-leaders", TOPIC, "--partition", "0", "--election-type", "unclean"]).ok();
    cluster.wait_isr(TOPIC, 0, 2);
    cluster.cli_with(&["produce", TOPIC], b"from now on\n").ok();
    let read = ["consume", TOPIC, "--from-beginning", "--timeout-ms", "1000"];
    let first = cluster.cli(&read).ok();
    assert!(first.ends_with("from now on\n"), "{first}");
    let elected = cluster.leader(TOPIC, 0);
    cluster.kill(elected);
    cluster.leader(TOPIC, 0);
    assert_eq!(cluster.cli(&read).ok(), first, "two replicas, two histories\n{}", cluster.logs());
    cluster.assert_healthy();
}
