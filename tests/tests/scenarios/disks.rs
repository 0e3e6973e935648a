//! Disks that fail and disks that are full.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use vltava_model::ErrorClass;
use vltava_proto::v1::FetchRequest;
use vltava_tests::load::{Load, LoadOptions};
use vltava_tests::{Cluster, ClusterOptions, Role, wait};

use crate::api::{Api, append};
use crate::support::{RECOVERY, conclude, create, progress, wait_in_sync};

const TOPIC: &str = "disks";
const SOME: u64 = 200;

/// How long writes may be held up where enough replicas are well, on a slow and busy machine; far below
/// `replica.lag.time.max.ms`.
const WITHIN: Duration = Duration::from_secs(4);

/// Files that even root can't write to, not even through what is open already; undone when dropped.
struct Immutable(PathBuf);

impl Immutable {
    /// `None` where the file system or the user can't do that.
    fn make(path: &Path) -> Option<Self> {
        let made = Command::new("chattr").args(["-R", "+i"]).arg(path).output().ok()?;
        let immutable = Self(path.to_owned());
        made.status.success().then_some(immutable)
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        // Where it was never made, this changes nothing.
        let _ = Command::new("chattr").args(["-R", "-i"]).arg(&self.0).output();
    }
}

/// One of a broker's two directories fails every write: what lies there moves to other brokers, what lies in the other
/// one is served on, and the process lives.
#[test]
fn one_log_directory_fails_while_the_other_serves() {
    let partitions = 6;
    let mut cluster = Cluster::with(ClusterOptions { log_dirs: 2, ..ClusterOptions::default() });
    create(&cluster, TOPIC, partitions, 3, &[]);
    wait_in_sync(&cluster, TOPIC, partitions, 3);
    let load = Load::start(&cluster.servers(), &LoadOptions::new(TOPIC, partitions));
    progress(&cluster, &load, SOME);
    let controller = cluster.controller();
    let victim = cluster.ids().into_iter().find(|id| *id != controller).expect("there are others");
    let Some(failing) = Immutable::make(&cluster.log_dirs(victim)[1]) else {
        eprintln!("SKIPPED: this user or file system has no immutable files");
        return;
    };
    progress(&cluster, &load, SOME);
    // What lay in the failed directory leaves the ISR; what lies in the other one stays.
    let in_sync = |cluster: &Cluster| -> Result<usize, String> {
        let described = cluster.describe(TOPIC)?;
        let partitions = described["partitions"].as_array().ok_or("no partitions")?;
        let has = |partition: &&serde_json::Value| {
            partition["isr"].as_array().is_some_and(|isr| isr.iter().any(|id| *id == victim))
        };
        Ok(partitions.iter().filter(has).count())
    };
    let left = wait::until("half of the partitions to leave", RECOVERY, || match in_sync(&cluster)? {
        3 => Ok(()),
        other => Err(format!("node {victim} is in the ISR of {other} of {partitions}")),
    });
    left.unwrap_or_else(|error| panic!("{error}\n{}", cluster.logs()));
    load.longest_gap();
    progress(&cluster, &load, SOME * 5);
    eprintln!("with a failed directory: longest gap {:?}", load.longest_gap());
    assert_eq!(in_sync(&cluster), Ok(3), "{}", cluster.logs());
    cluster.assert_healthy();
    // The disk is repaired, the process started again: everything comes back.
    drop(failing);
    cluster.restart(victim);
    cluster.wait_ready();
    wait_in_sync(&cluster, TOPIC, partitions, 3);
    conclude(&mut cluster, load, "failed directory", TOPIC, partitions);
}

/// All of a broker's directories fail: it ends, says why, and its partitions go on elsewhere.
#[test]
fn a_broker_whose_only_log_directory_fails_leaves() {
    let nodes = vec![Role::Controller, Role::Broker, Role::Broker, Role::Broker];
    let mut cluster = Cluster::with(ClusterOptions { nodes, ..ClusterOptions::default() });
    create(&cluster, TOPIC, 2, 3, &[]);
    let load = Load::start(&cluster.servers(), &LoadOptions::new(TOPIC, 2));
    progress(&cluster, &load, SOME);
    let leader = cluster.leader(TOPIC, 0);
    let Some(failing) = Immutable::make(&cluster.log_dirs(leader)[0]) else {
        eprintln!("SKIPPED: this user or file system has no immutable files");
        return;
    };
    let code = cluster.wait_end(leader);
    assert_eq!(code, Some(73), "{}", cluster.logs());
    assert!(cluster.log(leader).contains("every log directory has failed"), "{}", cluster.logs());
    progress(&cluster, &load, SOME);
    drop(failing);
    cluster.spawn(leader);
    cluster.wait_ready();
    wait_in_sync(&cluster, TOPIC, 2, 3);
    conclude(&mut cluster, load, "only directory", TOPIC, 2);
}

/// A file system of its own that is small; unmounted when dropped.
struct Small(PathBuf);

impl Small {
    fn mount(path: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(path).expect("a directory can be made");
        let size = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "vltava-test"])
            .arg(path)
            .output()
            .ok()?;
        mounted.status.success().then(|| Self(path.to_owned()))
    }

    /// Takes all the room that is left.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let file = File::create(&path).expect("a file can be made");
        let mut taken = 0;
        // Others write at the same time: take what there is until there is none.
        while let Ok(stat) = statvfs(&self.0)
            && stat.f_bavail > 0
        {
            let room = stat.f_bavail * stat.f_bsize;
            match fallocate(&file, FallocateFlags::empty(), taken, room) {
                Ok(()) => taken += room,
                Err(_) => std::thread::yield_now(),
            }
        }
        path
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// A full disk: produce is refused in a way that says "try again", reads go on, and all is well when there is room.
#[test]
fn a_full_disk_refuses_writes_serves_reads_and_recovers() {
    let options = ClusterOptions {
        nodes: vec![Role::Both],
        extra: "log.journal.file.bytes = \"1MiB\"\nlog.dir.free.bytes.min = \"4MiB\"".to_owned(),
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::prepare(options);
    let Some(small) = Small::mount(&cluster.log_dirs(1)[0], "64m") else {
        eprintln!("SKIPPED: this user can't mount a tmpfs");
        return;
    };
    cluster.spawn(1);
    cluster.wait_ready();
    create(&cluster, TOPIC, 1, 1, &[]);
    let load = Load::start(&cluster.servers(), &LoadOptions::new(TOPIC, 1));
    progress(&cluster, &load, SOME);
    let filler = small.fill();
    let api = Api::new(cluster.node(1).grpc);
    let refused = wait::until("a refusal", RECOVERY, || match api.append(append(TOPIC, 0, &[b'x'; 1000])) {
        Ok(_) => Err("it is still written".to_owned()),
        Err(error) => Ok(error),
    });
    let refused = refused.unwrap_or_else(|error| panic!("{error}\n{}", cluster.logs()));
    eprintln!("a full disk says {refused}");
    assert_ne!(refused.class(), ErrorClass::GiveUp, "{refused}");
    let read = api.fetch(FetchRequest { topic: TOPIC.to_owned(), ..FetchRequest::default() });
    assert!(
        read.is_ok_and(|read| !read.records.is_empty()),
        "a full disk must serve reads\n{}",
        cluster.logs()
    );
    fs::remove_file(filler).expect("it can be removed");
    progress(&cluster, &load, SOME);
    let ledger = load.finish();
    cluster.assert_healthy();
    let read = vltava_tests::load::read_back(
        &cluster.servers(),
        TOPIC,
        1,
        &ledger.attempts,
        Duration::from_secs(60),
    );
    let mut read = read.unwrap_or_else(|error| panic!("{error}\n{}", cluster.logs()));
    // The appends of this test's own are no test's records.
    if let Some(records) = read.get_mut(&0) {
        assert!(records.iter().filter(|(_, id)| id.is_none()).count() < 10_000);
        let lost = records.iter().filter_map(|(offset, id)| Some((*id.as_ref()?, *offset)));
        let there: std::collections::HashMap<_, _> = lost.collect();
        for attempt in &ledger.attempts {
            if let vltava_tests::history::Outcome::Acked { offset } = attempt.outcome {
                let at = there.get(&attempt.id).copied();
                assert!(at.is_some() && offset.is_none_or(|told| at == Some(told)), "{} is lost", attempt.id);
            }
        }
    }
    // And after a crash on the disk that was full.
    cluster.restart(1);
    cluster.wait_ready();
    drop(cluster);
    drop(small);
}

/// The disk of a follower is full, then that of a leader: nobody waits for the one, and the other lets another lead. With room
/// again both are in sync.
#[test]
fn a_full_disk_among_others_holds_nobody_up() {
    let options = ClusterOptions {
        nodes: vec![Role::Controller, Role::Broker, Role::Broker, Role::Broker],
        extra: "log.journal.file.bytes = \"1MiB\"\nlog.dir.free.bytes.min = \"4MiB\"".to_owned(),
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::prepare(options);
    let mut disks = BTreeMap::new();
    for id in cluster.ids() {
        let Some(small) = Small::mount(&cluster.log_dirs(id)[0], "96m") else {
            eprintln!("SKIPPED: this user can't mount a tmpfs");
            return;
        };
        disks.insert(id, small);
        cluster.spawn(id);
    }
    cluster.wait_ready();
    create(&cluster, TOPIC, 1, 3, &["min.insync.replicas=2"]);
    wait_in_sync(&cluster, TOPIC, 1, 3);
    let load = Load::start(&cluster.servers(), &LoadOptions::new(TOPIC, 1));
    progress(&cluster, &load, SOME);
    let leader = cluster.leader(TOPIC, 0);
    let follower = cluster.ids().into_iter().skip(1).find(|id| *id != leader).expect("there are three");
    for (victim, what) in [(follower, "following"), (leader, "leading")] {
        load.longest_gap();
        let filler = disks[&victim].fill();
        cluster.wait_isr(TOPIC, 0, 2);
        progress(&cluster, &load, SOME * 5);
        let gap = load.longest_gap();
        eprintln!("with the full disk of a replica that was {what}: longest gap {gap:?}");
        assert!(gap < WITHIN, "{gap:?} without an ack\n{}", cluster.logs());
        assert!(cluster.log(victim).contains(&format!("{what} is suspended")), "{}", cluster.logs());
        assert_ne!(cluster.leader(TOPIC, 0), victim, "{}", cluster.logs());
        fs::remove_file(filler).expect("it can be removed");
        wait_in_sync(&cluster, TOPIC, 1, 3);
        progress(&cluster, &load, SOME);
    }
    conclude(&mut cluster, load, "full disks", TOPIC, 1);
    drop(cluster);
    drop(disks);
}
