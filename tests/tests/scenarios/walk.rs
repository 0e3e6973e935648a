//! The walk that the README promises: a topic, lines, a leader that is killed, nothing missing, nothing twice.

use std::io::Write;
use std::process::Stdio;

use vltava_tests::{Cluster, cli};

use crate::support::{number, three, wait_in_sync};

const TOPIC: &str = "my-replicated-topic";

fn lines(count: u64) -> String {
    (1..=count).map(|line| format!("{line}\n")).collect()
}

fn consume(cluster: &Cluster, count: u64) -> String {
    let count = count.to_string();
    cluster
        .cli(&["consume", TOPIC, "--from-beginning", "--max-messages", &count, "--timeout-ms", "20000"])
        .ok()
}

#[test]
fn the_walk_of_the_readme() {
    walk(number("VLTAVA_LINES", 100_000));
}

#[test]
#[ignore = "a million lines take a while in the dev profile; run with --ignored"]
fn the_walk_of_the_readme_with_a_million_lines() {
    walk(1_000_000);
}

fn walk(count: u64) {
    let mut cluster = three("leader.imbalance.check.interval.seconds = 1");
    let created =
        cluster.cli(&["topics", "create", TOPIC, "--partitions", "1", "--replication-factor", "3"]).ok();
    assert!(created.starts_with("Created topic my-replicated-topic: 1 partition, 3 replicas."), "{created}");
    let described = cluster.describe(TOPIC).expect("the topic is there");
    assert_eq!(described["partition_count"], 1);
    assert_eq!(described["replication_factor"], 3);
    wait_in_sync(&cluster, TOPIC, 1, 3);

    let hello = "my test message 1\nmy test message 2\n";
    cluster.cli_with(&["produce", TOPIC], hello.as_bytes()).ok();
    assert_eq!(consume(&cluster, 2), hello);

    let file = lines(count);
    cluster.cli_with(&["produce", TOPIC, "--batch-size", "262144"], file.as_bytes()).ok();
    assert_eq!(consume(&cluster, 2 + count), format!("{hello}{file}"));

    // The leader dies in the midst of a producer's lines.
    let more: Vec<String> = (0..400).map(|line| format!("line {line}\n")).collect();
    let mut producer =
        cli::command(&cluster.servers(), &["produce", TOPIC]).stdin(Stdio::piped()).spawn().expect("it runs");
    let mut stdin = producer.stdin.take().expect("it is piped");
    let (before, after) = more.split_at(200);
    for line in before {
        stdin.write_all(line.as_bytes()).expect("the producer reads");
    }
    let leader = cluster.leader(TOPIC, 0);
    cluster.kill(leader);
    for line in after {
        stdin.write_all(line.as_bytes()).expect("the producer reads");
    }
    drop(stdin);
    let produced = cli::Ran::from(producer.wait_with_output().expect("it ends"));
    produced.ok();

    let other = cluster.leader(TOPIC, 0);
    assert_ne!(other, leader);
    cluster.wait_isr(TOPIC, 0, 2);
    let all = format!("{hello}{file}{}", more.concat());
    let read = consume(&cluster, 2 + count + 400);
    assert!(read == all, "{} bytes were read, {} were written\n{}", read.len(), all.len(), cluster.logs());
    // And nothing behind it.
    let offset = (2 + count + 400).to_string();
    let behind = ["consume", TOPIC, "--partition", "0", "--offset", &offset, "--timeout-ms", "300"];
    assert_eq!(cluster.cli(&behind).ok(), "");

    cluster.spawn(leader);
    wait_in_sync(&cluster, TOPIC, 1, 3);
    cluster.wait_partition(TOPIC, 0, "the preferred replica to lead again", |partition| {
        (partition["leader"].as_u64() == Some(leader.into())).then_some(())
    });
    assert!(consume(&cluster, 2 + count + 400) == all, "another leader, other records");
    for id in cluster.ids() {
        assert_eq!(cluster.terminate(id), Some(0), "node {id} ends in order\n{}", cluster.logs());
    }
}
