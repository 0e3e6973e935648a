//! The controller quorum: voters that are lost, replaced, added and removed while records flow.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use vltava_client::{Admin, Client};
use vltava_proto::v1::{AlterConfigsRequest, ConfigResource, ConfigTarget};
use vltava_tests::load::{Load, LoadOptions};
use vltava_tests::{Cluster, ClusterOptions, Role, wait};

use crate::support::{RECOVERY, conclude, create, number, progress, three, wait_in_sync};

const TOPIC: &str = "quorum";
const SOME: u64 = 200;

fn describe(cluster: &Cluster) -> Result<Value, String> {
    let ran = cluster.cli(&["quorum", "describe", "--output", "json"]);
    if ran.code != Some(0) {
        return Err(ran.err);
    }
    serde_json::from_str(&ran.out).map_err(|error| error.to_string())
}

/// Waits until the quorum is as `look` wants it.
fn wait_quorum(cluster: &Cluster, what: &str, mut look: impl FnMut(&Value) -> bool) -> Value {
    let found = wait::until(what, RECOVERY, || {
        let quorum = describe(cluster)?;
        if look(&quorum) { Ok(quorum) } else { Err(quorum.to_string()) }
    });
    found.unwrap_or_else(|error| panic!("{error}\n{}", cluster.logs()))
}

fn voters(quorum: &Value) -> Vec<u64> {
    quorum["voters"].as_array().into_iter().flatten().filter_map(|voter| voter["id"].as_u64()).collect()
}

fn directory(quorum: &Value, id: u32) -> Option<String> {
    let voters = quorum["voters"].as_array()?;
    let voter = voters.iter().find(|voter| voter["id"] == id)?;
    voter["directory_id"].as_str().map(str::to_owned)
}

#[test]
fn five_controllers_lose_two_and_then_a_third() {
    let mut cluster =
        Cluster::with(ClusterOptions { nodes: vec![Role::Both; 5], ..ClusterOptions::default() });
    create(&cluster, TOPIC, 5, 3, &[]);
    let load = Load::start(&cluster.servers(), &LoadOptions::new(TOPIC, 5));
    progress(&cluster, &load, SOME);
    let active = cluster.controller();
    let other = cluster.ids().into_iter().find(|id| *id != active).expect("there are others");
    cluster.kill(active);
    cluster.kill(other);
    // Records may wait for a partition that lost two of its three replicas; the metadata may not.
    create(&cluster, "without-two", 1, 3, &[]);
    let next = cluster.controller();
    assert_ne!(next, active);
    cluster.kill(next);
    // Two of five decide nothing.
    let refused =
        cluster.cli(&["topics", "create", "without-three", "--partitions", "1", "--replication-factor", "1"]);
    assert_ne!(refused.code, Some(0), "two controllers of five decided: {}", refused.out);
    for id in [active, other, next] {
        cluster.spawn(id);
    }
    cluster.wait_ready();
    wait_in_sync(&cluster, TOPIC, 5, 3);
    progress(&cluster, &load, SOME);
    conclude(&mut cluster, load, "five controllers", TOPIC, 5);
}

#[test]
fn a_controller_is_added_and_another_removed_under_load() {
    let mut cluster = three("");
    create(&cluster, TOPIC, 3, 3, &[]);
    let load = Load::start(&cluster.servers(), &LoadOptions::new(TOPIC, 3));
    progress(&cluster, &load, SOME);
    let new = cluster.add_node(Role::Controller);
    cluster.spawn(new);
    let voter = format!("{new}@127.0.0.1:{}", cluster.node(new).controller);
    cluster.cli(&["quorum", "add", &voter]).ok();
    wait_quorum(&cluster, "four voters", |quorum| voters(quorum) == [1, 2, 3, 4]);
    progress(&cluster, &load, SOME);
    // The active one of all: it hands over by removing itself.
    let active = cluster.controller();
    cluster.cli(&["quorum", "remove", &active.to_string()]).ok();
    let rest: Vec<u64> = (1..=4).filter(|id| *id != u64::from(active)).collect();
    let quorum = wait_quorum(&cluster, "three voters and a leader among them", |quorum| {
        voters(quorum) == rest && quorum["leader_id"].as_u64().is_some_and(|leader| rest.contains(&leader))
    });
    assert!(directory(&quorum, active).is_none());
    // Without a vote it goes on as an observer, and its broker with it.
    cluster.wait_ready_node(active);
    progress(&cluster, &load, SOME);
    // The quorum is now one of three with the new one: it lives without one of the old ones.
    let old = cluster.ids().into_iter().find(|id| *id != active && *id != new).expect("one is left");
    cluster.kill(old);
    create(&cluster, "after", 1, 1, &[]);
    cluster.spawn(old);
    cluster.wait_ready_node(old);
    wait_in_sync(&cluster, TOPIC, 3, 3);
    progress(&cluster, &load, SOME);
    conclude(&mut cluster, load, "voters", TOPIC, 3);
}

/// A controller whose disk was replaced has forgotten its votes: it must not vote as the one that it was.
#[test]
fn a_controller_with_a_replaced_disk_votes_only_after_it_was_removed_and_added() {
    let nodes = vec![Role::Controller, Role::Controller, Role::Controller, Role::Broker];
    let mut cluster = Cluster::with(ClusterOptions { nodes, ..ClusterOptions::default() });
    create(&cluster, TOPIC, 1, 1, &[]);
    let before = describe(&cluster).expect("the quorum is there");
    let active = cluster.controller();
    let wiped = cluster.ids().into_iter().find(|id| *id != active && *id != 4).expect("there are others");
    let other =
        cluster.ids().into_iter().find(|id| ![active, wiped, 4].contains(id)).expect("there is a third");
    let old = directory(&before, wiped).expect("it is a voter");
    cluster.kill(wiped);
    fs::remove_dir_all(cluster.data(wiped).join("metadata")).expect("its disk can be emptied");
    cluster.spawn(wiped);
    let said = wait::until("it to say what to run", RECOVERY, || {
        let log = cluster.log(wiped);
        let line = log.lines().find(|line| line.contains("does not vote")).map(str::to_owned);
        line.ok_or_else(|| "it says nothing".to_owned())
    });
    let said = said.unwrap_or_else(|error| panic!("{error}\n{}", cluster.logs()));
    assert!(said.contains(&format!("vltava quorum remove {wiped} --directory-id {old}")), "{said}");
    // With one of the two others away, nothing can be decided: its vote does not count.
    cluster.kill(other);
    let refused = cluster.cli(&[
        "topics",
        "create",
        "without-a-quorum",
        "--partitions",
        "1",
        "--replication-factor",
        "1",
    ]);
    assert_ne!(refused.code, Some(0), "a wiped controller voted: {}\n{}", refused.out, cluster.logs());
    cluster.spawn(other);
    wait_quorum(&cluster, "a leader", |quorum| quorum["leader_id"].is_u64());
    // What it says to run is what helps.
    cluster.cli(&["quorum", "remove", &wiped.to_string(), "--directory-id", &old]).ok();
    let voter = format!("{wiped}@127.0.0.1:{}", cluster.node(wiped).controller);
    cluster.cli(&["quorum", "add", &voter]).ok();
    let after = wait_quorum(&cluster, "three voters", |quorum| voters(quorum) == [1, 2, 3]);
    assert_ne!(directory(&after, wiped), Some(old));
    cluster.kill(other);
    cluster.controller();
    create(&cluster, "with-its-vote", 1, 1, &[]);
    cluster.spawn(other);
    cluster.wait_ready();
    cluster.assert_healthy();
}

/// Many changes of metadata, then a restart: snapshots keep it short.
#[test]
fn metadata_survives_snapshots_and_restarts_of_all() {
    let mut cluster = three("metadata.log.max.records.between.snapshots = 100");
    for topic in 0..40 {
        create(&cluster, &format!("topic-{topic}"), 5, 3, &["retention.ms=12345678"]);
    }
    for topic in 0..20 {
        cluster.cli(&["topics", "delete", &format!("topic-{topic}")]).ok();
    }
    for id in cluster.ids() {
        cluster.kill(id);
    }
    for id in cluster.ids() {
        cluster.spawn(id);
    }
    cluster.wait_ready();
    let listed = cluster.cli(&["topics", "list", "--output", "json"]).json();
    let count = listed["topics"].as_array().map(Vec::len);
    assert_eq!(count, Some(20), "{listed}");
    let described = cluster.describe("topic-39").expect("it is there");
    assert_eq!(described["configs"]["retention.ms"], "12345678");
    assert_eq!(described["partition_count"], 5);
    cluster.assert_healthy();
}

/// How many topics' configuration is changed at the same time.
const CHANGED: u64 = 64;

/// A metadata log that has seen much is short all the same, and starts quickly. `VLTAVA_CHANGES=1000000` makes it a million.
#[test]
fn a_metadata_log_of_many_changes_starts_in_seconds() {
    let changes = number("VLTAVA_CHANGES", 6_000);
    let between = if changes < 100_000 { 1_000 } else { 10_000 };
    let mut cluster = three(&format!("metadata.log.max.records.between.snapshots = {between}"));
    for topic in 0..CHANGED {
        create(&cluster, &format!("changed-{topic}"), 1, 1, &[]);
    }
    let began = Instant::now();
    let rounds = changes.div_ceil(CHANGED);
    change_configs(&cluster.servers(), rounds);
    let took = began.elapsed();
    let metadata = |id| cluster.data(id).join("metadata");
    let bytes: u64 = cluster.ids().into_iter().map(|id| size_of(&metadata(id))).max().unwrap_or(0);
    for id in cluster.ids() {
        cluster.kill(id);
    }
    let began = Instant::now();
    for id in cluster.ids() {
        cluster.spawn(id);
    }
    cluster.wait_ready();
    let ready = began.elapsed();
    eprintln!(
        "{} changes in {took:.1?}, {bytes} bytes of metadata a node, all ready after {ready:.1?}",
        rounds * CHANGED
    );
    assert!(ready < Duration::from_secs(20), "ready after {ready:?}\n{}", cluster.logs());
    // A snapshot, the entries since, and files that are made ahead: nothing that grows with the past.
    assert!(bytes < 64 << 20, "{bytes} bytes of metadata");
    for topic in [0, CHANGED - 1] {
        let described = cluster.describe(&format!("changed-{topic}")).expect("it is there");
        assert_eq!(described["configs"]["retention.ms"], (1_000_000 + rounds - 1).to_string());
    }
    cluster.assert_healthy();
}

fn change_configs(servers: &str, rounds: u64) {
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    let client = runtime.block_on(async { Client::connect(servers) }).expect("the addresses are well formed");
    let tasks: Vec<_> =
        (0..CHANGED).map(|topic| runtime.spawn(change(Admin::new(client.clone()), topic, rounds))).collect();
    for task in tasks {
        runtime.block_on(task).expect("every change is recorded");
    }
}

async fn change(admin: Admin, topic: u64, rounds: u64) {
    for round in 0..rounds {
        let target =
            ConfigTarget { resource: ConfigResource::Topic.into(), name: format!("changed-{topic}") };
        let set = [("retention.ms".to_owned(), (1_000_000 + round).to_string())].into();
        let request = AlterConfigsRequest { target: Some(target), set, ..AlterConfigsRequest::default() };
        admin.alter_configs(request).await.expect("the change is recorded");
    }
}

fn size_of(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}
