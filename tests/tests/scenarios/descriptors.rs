//! Nodes that may have far fewer files open than their partitions have.

use std::net::TcpStream;

use vltava_tests::cluster::http_get;
use vltava_tests::load::{Load, LoadOptions};
use vltava_tests::{Cluster, ClusterOptions, wait};

use crate::support::{RECOVERY, conclude, create, progress};

const TOPIC: &str = "descriptors";
const PARTITIONS: u32 = 100;
const OPEN_FILES: u32 = 240;
/// More connections than such a node takes, and no more than the system lets wait.
const CROWD: usize = 100;

/// A figure of a node.
fn figure(cluster: &Cluster, id: u32, name: &str) -> Result<f64, String> {
    let page = http_get(cluster.node(id).http, "/metrics")?;
    let line =
        page.lines().find(|line| line.starts_with(name) && line.as_bytes().get(name.len()) == Some(&b' '));
    let value = line.and_then(|line| line.rsplit(' ').next()).ok_or_else(|| format!("no {name}"))?;
    value.parse().map_err(|_| format!("{name} is {value}"))
}

fn assert_nothing_failed(cluster: &mut Cluster) {
    cluster.assert_healthy();
    for id in cluster.ids() {
        let of = |name| figure(cluster, id, name).unwrap_or_else(|error| panic!("node {id}: {error}"));
        assert_eq!(of("vltava_broker_failed_directories"), 0.0, "{}", cluster.logs());
        assert_eq!(of("vltava_broker_damaged_replicas"), 0.0, "{}", cluster.logs());
        assert!(of("process_open_fds") <= f64::from(OPEN_FILES));
        // One more for each thread that opens one at this moment.
        assert!(of("vltava_files_open") <= of("vltava_files_max") + 8.0);
    }
}

/// Each node has 200 files to write and 240 descriptors for everything, some 80 of them for files of logs. Then clients take all the connections that there
/// are, and more; then all nodes are killed.
#[test]
fn more_partitions_are_written_than_files_can_be_open() {
    let options = ClusterOptions { open_files: Some(OPEN_FILES), ..ClusterOptions::default() };
    let mut cluster = Cluster::with(options);
    create(&cluster, TOPIC, PARTITIONS, 3, &[]);
    wait::until("all partitions to have their replicas", RECOVERY, || all_in_sync(&cluster)).unwrap();
    let load = Load::start(&cluster.servers(), &LoadOptions::new(TOPIC, PARTITIONS));
    progress(&cluster, &load, 5 * u64::from(PARTITIONS));
    for id in cluster.ids() {
        let closed = wait::until("files to be closed", RECOVERY, || {
            match figure(&cluster, id, "vltava_files_closed_total")? {
                0.0 => Err("none was".to_owned()),
                closed => Ok(closed),
            }
        });
        eprintln!("node {id} closed {} files", closed.unwrap_or_else(|error| panic!("{error}")));
    }
    assert_nothing_failed(&mut cluster);

    let crowd: Vec<TcpStream> = cluster
        .ids()
        .into_iter()
        .flat_map(|id| {
            let port = cluster.node(id).grpc;
            (0..CROWD).map(move |_| TcpStream::connect(("127.0.0.1", port)).expect("the system takes it"))
        })
        .collect();
    progress(&cluster, &load, 5 * u64::from(PARTITIONS));
    assert_nothing_failed(&mut cluster);
    drop(crowd);
    progress(&cluster, &load, u64::from(PARTITIONS));

    for id in cluster.ids() {
        cluster.kill(id);
    }
    for id in cluster.ids() {
        cluster.spawn(id);
    }
    cluster.wait_ready();
    progress(&cluster, &load, u64::from(PARTITIONS));
    assert_nothing_failed(&mut cluster);
    conclude(&mut cluster, load, "few descriptors", TOPIC, PARTITIONS);
}

fn all_in_sync(cluster: &Cluster) -> Result<(), String> {
    let described = cluster.describe(TOPIC)?;
    let partitions = described["partitions"].as_array().ok_or("no partitions")?;
    let whole =
        partitions.iter().filter(|partition| partition["isr"].as_array().is_some_and(|isr| isr.len() == 3));
    match whole.count() {
        count if count == PARTITIONS as usize => Ok(()),
        count => Err(format!("{count} of {PARTITIONS} are in sync")),
    }
}
