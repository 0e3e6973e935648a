//! Flipped bits on disks: noticed, never served, never copied on, and repaired from a peer.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use vltava_tests::cluster::http_get;
use vltava_tests::{Cluster, ClusterOptions, Role, wait};

use crate::support::{RECOVERY, assert_replicas_agree, create, wait_in_sync};

const TOPIC: &str = "damage";

/// So many lines of a KiB make one sealed segment and an active one, more than a leader keeps in memory of each (8 MiB).
const LINES: usize = 23_000;
const CONFIGS: &[&str] = &["segment.bytes=12000000", "min.insync.replicas=2"];

/// Which part of a replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// The first segment.
    Sealed,
    /// The last one, in its first batches.
    Active,
    /// The checksums beside the first segment.
    Check,
}

/// A controller and three brokers, so that any two brokers may be away.
fn apart() -> Cluster {
    let nodes = vec![Role::Controller, Role::Broker, Role::Broker, Role::Broker];
    let extra = "leader.imbalance.check.interval.seconds = 600".to_owned();
    Cluster::with(ClusterOptions { nodes, extra, ..ClusterOptions::default() })
}

/// Creates the topic and fills it; gives what a consumer must see.
fn fill(cluster: &Cluster, replicas: u32, configs: &[&str]) -> String {
    create(cluster, TOPIC, 1, replicas, configs);
    wait_in_sync(cluster, TOPIC, 1, replicas as usize);
    let pad = "d".repeat(1000);
    let lines: String = (0..LINES).map(|line| format!("{line:020} {pad}\n")).collect();
    cluster.cli_with(&["produce", TOPIC, "--batch-size", "100000"], lines.as_bytes()).ok();
    lines
}

fn replica_dir(cluster: &Cluster, node: u32) -> PathBuf {
    let topic_id = cluster.describe(TOPIC).expect("the topic is there")["topic_id"].clone();
    let name = format!("{}-0", topic_id.as_str().expect("it has an id"));
    let dirs = cluster.log_dirs(node).into_iter().map(|dir| dir.join(&name));
    dirs.into_iter().find(|dir| dir.is_dir()).expect("the node has a replica")
}

fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let listed = fs::read_dir(dir).expect("the directory can be read");
    let mut found: Vec<PathBuf> = listed.flatten().map(|entry| entry.path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == suffix));
    found.sort();
    found
}

/// Flips one bit; gives the file and where, to flip it back.
fn flip(dir: &Path, place: Place) -> (PathBuf, u64) {
    let (logs, checks) = (files(dir, "log"), files(dir, "check"));
    assert!(logs.len() > 1, "{logs:?} are not a sealed segment and an active one");
    let (path, position) = match place {
        Place::Sealed => (&logs[0], 200_000),
        Place::Active => (&logs[logs.len() - 1], 100_000),
        Place::Check => (&checks[0], 150),
    };
    flip_bit(path, position);
    (path.clone(), position)
}

fn flip_bit(path: &Path, position: u64) {
    let file = File::options().read(true).write(true).open(path).expect("the file is there");
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).expect("the file is long enough");
    file.write_all_at(&[byte[0] ^ 0x10], position).expect("the file can be written");
}

/// Reads everything from the beginning; holds it against what was acknowledged.
fn assert_intact(cluster: &Cluster, lines: &str, when: &str) {
    let count = LINES.to_string();
    let args = ["consume", TOPIC, "--from-beginning", "--max-messages", &count, "--timeout-ms", "60000"];
    let ran = cluster.cli(&args);
    assert!(
        ran.out == lines,
        "{when}: read {} bytes of {}: {}\n{}",
        ran.out.len(),
        lines.len(),
        ran.err,
        cluster.logs()
    );
}

/// A figure of a node.
fn figure(cluster: &Cluster, node: u32, name: &str) -> Result<u64, String> {
    let body = http_get(cluster.node(node).http, "/metrics")?;
    let line = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value: f64 = line.ok_or("no such figure")?.trim().parse().map_err(|_| "no number")?;
    Ok(value as u64)
}

/// Waits until a node has begun a replica anew so often, everything is in sync, and nothing counts as damaged.
fn wait_repaired(cluster: &Cluster, node: u32, times: u64, replicas: usize) {
    let repaired = wait::until("a repair", RECOVERY, || {
        let begun = figure(cluster, node, "vltava_broker_begun_anew_total")?;
        let partition = cluster.describe(TOPIC)?["partitions"][0].clone();
        let is_whole = partition["isr"].as_array().is_some_and(|isr| isr.len() == replicas);
        if begun >= times && is_whole && partition["damaged"].is_null() {
            Ok(())
        } else {
            Err(format!("broker {node} began anew {begun} times: {partition}"))
        }
    });
    repaired.unwrap_or_else(|error| panic!("{error}\n{}", cluster.logs()));
    assert_eq!(figure(cluster, node, "vltava_broker_damaged_replicas"), Ok(0));
    assert!(!replica_dir(cluster, node).join("damaged").exists(), "the mark goes with the replica");
}

/// Moves the leadership to the first replica of the assignment, which `node` is.
fn prefer(cluster: &Cluster, node: u32) {
    let elect = ["topics", "elect-leaders", TOPIC, "--partition", "0"];
    let led = wait::until("the preferred leader", RECOVERY, || {
        // Refused while it leads already.
        let ran = cluster.cli(&elect);
        match cluster.describe(TOPIC)?["partitions"][0]["leader"].as_u64() {
            Some(leader) if leader == u64::from(node) => Ok(()),
            other => Err(format!("{other:?} leads: {}", ran.err)),
        }
    });
    led.unwrap_or_else(|error| panic!("{error}\n{}", cluster.logs()));
}

fn preferred(cluster: &Cluster) -> u32 {
    let described = cluster.describe(TOPIC).expect("the topic is there");
    let first = described["partitions"][0]["replicas"][0].as_u64().expect("it has replicas");
    u32::try_from(first).expect("a node's id")
}

/// Bits flip while a broker is away. It comes back as a follower that nobody reads from, and finds out when it leads.
#[test]
fn a_follower_that_was_damaged_while_it_was_stopped() {
    let mut cluster = apart();
    let lines = fill(&cluster, 3, CONFIGS);
    let victim = preferred(&cluster);
    for (times, place) in (1..).zip([Place::Sealed, Place::Active]) {
        assert_eq!(cluster.terminate(victim), Some(0), "{}", cluster.logs());
        flip(&replica_dir(&cluster, victim), place);
        cluster.spawn(victim);
        cluster.wait_ready();
        wait_in_sync(&cluster, TOPIC, 1, 3);
        prefer(&cluster, victim);
        assert_intact(&cluster, &lines, &format!("{place:?}"));
        // Each start counts from 0.
        wait_repaired(&cluster, victim, 1, 3);
        eprintln!("{place:?}: {times} repaired");
    }
    prefer(&cluster, victim);
    assert_intact(&cluster, &lines, "after the repairs");
    cluster.assert_healthy();
    assert_replicas_agree(&mut cluster, "damaged follower", TOPIC, 1);
}

/// Bits flip under a leader that runs; a consumer that reads from the beginning sees nothing of it.
#[test]
fn a_leader_that_is_damaged_while_it_runs() {
    let mut cluster = apart();
    let lines = fill(&cluster, 3, CONFIGS);
    for (times, place) in (1..).zip([Place::Active, Place::Sealed, Place::Check]) {
        let leader = preferred(&cluster);
        prefer(&cluster, leader);
        flip(&replica_dir(&cluster, leader), place);
        if place == Place::Check {
            // What it says is kept in memory while the process runs.
            cluster.restart(leader);
            cluster.wait_ready();
            wait_in_sync(&cluster, TOPIC, 1, 3);
            prefer(&cluster, leader);
        }
        assert_intact(&cluster, &lines, &format!("{place:?}"));
        wait_repaired(&cluster, leader, if place == Place::Check { 1 } else { times }, 3);
        let log = cluster.log(leader);
        assert!(log.contains("the replica is damaged"), "{log}");
    }
    assert_intact(&cluster, &lines, "after the repairs");
    cluster.assert_healthy();
    assert_replicas_agree(&mut cluster, "damaged leader", TOPIC, 1);
}

/// A leader finds its damage while it reads for a follower that has lost its disk: the third one has everything.
#[test]
fn a_leader_that_is_damaged_where_only_a_follower_reads() {
    let mut cluster = apart();
    let lines = fill(&cluster, 3, CONFIGS);
    let leader = preferred(&cluster);
    prefer(&cluster, leader);
    let other = [2, 3, 4].into_iter().find(|id| *id != leader).expect("there are three");
    cluster.kill(other);
    for dir in cluster.log_dirs(other) {
        fs::remove_dir_all(dir).expect("the disk can be emptied");
    }
    flip(&replica_dir(&cluster, leader), Place::Sealed);
    cluster.spawn(other);
    cluster.wait_ready();
    wait_repaired(&cluster, leader, 1, 3);
    assert_intact(&cluster, &lines, "after the repair");
    cluster.assert_healthy();
    assert_replicas_agree(&mut cluster, "damage under a follower", TOPIC, 1);
}

/// Each replica is damaged somewhere else, one after the other. In the end the last one is alone with its damage, until
/// another that has everything comes back.
#[test]
fn all_replicas_are_damaged_one_after_the_other() {
    let mut cluster = apart();
    let lines = fill(&cluster, 3, CONFIGS);
    let replicas: Vec<u32> = (partition(&cluster)["replicas"].as_array().expect("it has replicas").iter())
        .filter_map(|id| u32::try_from(id.as_u64()?).ok())
        .collect();
    let [first, second, third] = replicas[..] else { panic!("{replicas:?} are not three") };
    prefer(&cluster, first);
    flip(&replica_dir(&cluster, first), Place::Sealed);
    assert_intact(&cluster, &lines, "the first is damaged");
    wait_repaired(&cluster, first, 1, 3);

    cluster.kill(first);
    assert_eq!(cluster.leader(TOPIC, 0), second);
    flip(&replica_dir(&cluster, second), Place::Active);
    assert_intact(&cluster, &lines, "the second is damaged");
    wait_repaired(&cluster, second, 1, 2);

    cluster.kill(second);
    assert_eq!(cluster.leader(TOPIC, 0), third);
    flip(&replica_dir(&cluster, third), Place::Check);
    let seen = cluster.cli(&["consume", TOPIC, "--from-beginning", "--timeout-ms", "3000"]).out;
    assert!(lines.starts_with(&seen) && seen.len() < lines.len(), "{} bytes were shown", seen.len());
    cluster.wait_partition(TOPIC, 0, "no leader", |partition| partition["leader"].is_null().then_some(()));
    // It missed nothing that was acknowledged; the first one may have, as far as anybody knows.
    cluster.spawn(first);
    cluster.wait_ready();
    assert!(partition(&cluster)["leader"].is_null(), "{}", cluster.logs());
    cluster.spawn(second);
    cluster.wait_ready();
    assert_intact(&cluster, &lines, "the third is damaged");
    wait_repaired(&cluster, third, 1, 3);
    prefer(&cluster, first);
    assert_intact(&cluster, &lines, "all are back");
    cluster.assert_healthy();
    assert_replicas_agree(&mut cluster, "all damaged", TOPIC, 1);
}

/// The journal of a leader that was killed can't be read: nobody knows what it lacks, so all of it is copied anew.
#[test]
fn a_damaged_journal_is_noticed_and_its_replicas_copied_anew() {
    let mut cluster = apart();
    let lines = fill(&cluster, 3, CONFIGS);
    let victim = preferred(&cluster);
    cluster.kill(victim);
    let dir = cluster.log_dirs(victim)[0].join("journal");
    // Within the first group.
    flip_bit(&files(&dir, "journal")[0], 4096 + 100);
    cluster.spawn(victim);
    cluster.wait_ready();
    wait_repaired(&cluster, victim, 1, 3);
    assert!(cluster.log_dirs(victim)[0].join("journal.damaged").is_dir());
    prefer(&cluster, victim);
    assert_intact(&cluster, &lines, "after the repair");
    cluster.assert_healthy();
    assert_replicas_agree(&mut cluster, "damaged journal", TOPIC, 1);
}

fn partition(cluster: &Cluster) -> Value {
    cluster.describe(TOPIC).expect("the topic is there")["partitions"][0].clone()
}

/// The only replica is damaged: nobody is shown anything but an error, over restarts too, until somebody restores the file.
#[test]
fn the_only_replica_stays_offline_until_it_is_restored() {
    let nodes = vec![Role::Controller, Role::Broker, Role::Broker];
    let mut cluster = Cluster::with(ClusterOptions { nodes, ..ClusterOptions::default() });
    let lines = fill(&cluster, 2, &["segment.bytes=12000000", "min.insync.replicas=1"]);
    let holder = cluster.leader(TOPIC, 0);
    let other = if holder == 2 { 3 } else { 2 };
    // The other one lacks the last record.
    cluster.kill(other);
    cluster.wait_isr(TOPIC, 0, 1);
    cluster.cli_with(&["produce", TOPIC], b"one has this\n").ok();
    let (path, position) = flip(&replica_dir(&cluster, holder), Place::Sealed);
    let read = ["consume", TOPIC, "--from-beginning", "--timeout-ms", "3000"];
    let seen = cluster.cli(&read).out;
    assert!(lines.starts_with(&seen) && seen.len() < lines.len(), "{} bytes were shown", seen.len());
    cluster.wait_partition(TOPIC, 0, "no leader", |partition| partition["leader"].is_null().then_some(()));
    cluster.spawn(other);
    cluster.restart(holder);
    cluster.wait_ready();
    let now = partition(&cluster);
    let what = now["damaged"][0]["what"].as_str().unwrap_or_default().to_owned();
    assert_eq!(now["damaged"][0]["broker"], holder, "{now}");
    assert!(what.contains(&path.display().to_string()), "{now}");
    assert!(now["leader"].is_null() && now["isr"] == serde_json::json!([]), "{now}");
    wait::until("advice", RECOVERY, || match cluster.log(holder).contains("--election-type unclean") {
        true => Ok(()),
        false => Err("it is not in the log".to_owned()),
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", cluster.logs()));
    // The mark is removed, but not all of the damage: it is noticed.
    assert_eq!(cluster.terminate(holder), Some(0), "{}", cluster.logs());
    let mark = replica_dir(&cluster, holder).join("damaged");
    fs::remove_file(&mark).expect("the mark is there");
    cluster.spawn(holder);
    cluster.wait_ready();
    wait::until("the mark to be back", RECOVERY, || {
        if mark.exists() { Ok(()) } else { Err("it is not".to_owned()) }
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", cluster.logs()));
    assert!(partition(&cluster)["leader"].is_null());
    // Restored.
    assert_eq!(cluster.terminate(holder), Some(0), "{}", cluster.logs());
    flip_bit(&path, position);
    fs::remove_file(&mark).expect("the mark is there");
    cluster.spawn(holder);
    cluster.wait_ready();
    cluster.wait_isr(TOPIC, 0, 2);
    let seen = cluster.cli(&["consume", TOPIC, "--from-beginning", "--timeout-ms", "5000"]).out;
    assert!(seen == lines + "one has this\n", "{} bytes\n{}", seen.len(), cluster.logs());
    cluster.assert_healthy();
}
