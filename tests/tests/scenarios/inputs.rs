//! Bad input: each gets a clear error that says what to do, and costs nobody else anything.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use bytes::Bytes;
use vltava_client::Compression;
use vltava_model::ErrorCode;
use vltava_model::batch::BatchBuilder;
use vltava_proto::v1::{FetchRequest, ProduceRequest, produce_request};
use vltava_tests::{Cluster, ClusterOptions, Role, wait};

use crate::api::{Api, append};
use crate::support::{RECOVERY, create, three, wait_in_sync};

const TOPIC: &str = "inputs";

fn single() -> Cluster {
    Cluster::with(ClusterOptions { nodes: vec![Role::Both], ..ClusterOptions::default() })
}

/// The command must fail with this code, and say all of this.
fn refused(cluster: &Cluster, args: &[&str], code: i32, words: &[&str]) {
    let ran = cluster.cli(args);
    assert_eq!(ran.code, Some(code), "{args:?} printed: {}{}", ran.out, ran.err);
    for word in words {
        assert!(ran.err.contains(word), "{args:?} does not say {word:?}: {}", ran.err);
    }
}

#[test]
fn wrong_commands_are_refused_with_advice() {
    let mut cluster = single();
    create(&cluster, TOPIC, 2, 1, &[]);
    let new = ["topics", "create", "new", "--partitions", "1", "--replication-factor"];
    let with =
        |more: &[&'static str]| -> Vec<&str> { new.iter().copied().chain(more.iter().copied()).collect() };
    refused(&cluster, &["topics", "list", "--ouput", "json"], 2, &["--output"]);
    refused(&cluster, &with(&["3"]), 1, &["INVALID_REPLICATION_FACTOR"]);
    refused(&cluster, &with(&["1", "--config", "retention.mss=1"]), 1, &["retention.mss", "retention.ms"]);
    refused(&cluster, &with(&["1", "--config", "retention.ms=soon"]), 1, &["retention.ms", "soon"]);
    for name in ["a/b", "..", "", "what?", &"x".repeat(250)] {
        let args = ["topics", "create", "--partitions", "1", "--replication-factor", "1", "--", name];
        refused(&cluster, &args, 1, &["INVALID_TOPIC"]);
    }
    refused(
        &cluster,
        &["topics", "create", TOPIC, "--partitions", "1", "--replication-factor", "1"],
        4,
        &[TOPIC],
    );
    refused(&cluster, &["topics", "describe", "nowhere"], 3, &["nowhere"]);
    refused(&cluster, &["produce", "nowhere"], 3, &["nowhere"]);
    refused(&cluster, &["consume", "nowhere", "--from-beginning"], 3, &["nowhere"]);
    refused(&cluster, &["consume", TOPIC, "--partition", "7", "--from-beginning"], 3, &["7"]);
    refused(
        &cluster,
        &["consume", TOPIC, "--partition", "0", "--offset", "5", "--timeout-ms", "5000"],
        1,
        &["OFFSET_OUT_OF_RANGE"],
    );
    refused(
        &cluster,
        &["configs", "alter", "--topic", TOPIC, "--add-config", "segment.byte=1"],
        1,
        &["segment.bytes"],
    );
    refused(&cluster, &["topics", "alter", TOPIC, "--partitions", "1"], 1, &["INVALID_PARTITIONS"]);
    refused(&cluster, &["quorum", "remove", "9"], 3, &["9"]);
    let large =
        cluster.cli_with(&["produce", TOPIC], format!("{}\nsmall\n", "x".repeat(3 * 1024 * 1024)).as_bytes());
    assert_ne!(large.code, Some(0));
    assert!(large.err.contains("MESSAGE_TOO_LARGE"), "{}", large.err);
    let nobody = vltava_tests::cli::run("127.0.0.1:1", &["topics", "list"], b"");
    assert_eq!(nobody.code, Some(5), "{}{}", nobody.out, nobody.err);
    assert!(nobody.err.contains("127.0.0.1:1"), "{}", nobody.err);
    cluster.assert_healthy();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("it can be made");
    for entry in fs::read_dir(from).expect("it can be read").flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).expect("it can be copied");
        }
    }
}

/// A start that must be refused: ends by itself, with a code of a server's, and says all of this.
fn refuses_to_start(cluster: &Cluster, id: u32, overrides: &[String], words: &[&str]) {
    let ran = cluster.try_server(id, overrides);
    let said = format!("{}{}", ran.out, ran.err);
    assert!(ran.code.is_some_and(|code| code != 0), "{overrides:?} ended with {:?}: {said}", ran.code);
    assert!(!said.contains("panicked"), "{said}");
    for word in words {
        assert!(said.contains(word), "{overrides:?} does not say {word:?}: {said}");
    }
}

#[test]
fn a_server_that_can_not_start_says_why() {
    let mut cluster = three("");
    create(&cluster, TOPIC, 1, 3, &[]);
    let spare = vltava_tests::turn::port;
    let voter =
        |id: u32| format!("advertised.listeners=CONTROLLER://127.0.0.1:{}", cluster.node(id).controller);
    let (first, third) = (voter(1), voter(3));
    // Ports and directories of its own, and the address that the quorum knows.
    let apart = |advertised: &str, dirs: &Path| {
        vec![
            format!(
                "listeners=GRPC://127.0.0.1:{},CONTROLLER://127.0.0.1:{},HTTP://127.0.0.1:{}",
                spare(),
                spare(),
                spare()
            ),
            format!("log.dirs={}", dirs.join("log").display()),
            format!("metadata.log.dir={}", dirs.join("metadata").display()),
            advertised.to_owned(),
        ]
    };
    let scratch = cluster.scratch().to_owned();
    let dir = |name: &str| scratch.join(name);
    refuses_to_start(&cluster, 1, &["node.idd=4".to_owned()], &["node.idd", "node.id"]);
    refuses_to_start(
        &cluster,
        1,
        &["broker.session.timeout.ms=soon".to_owned()],
        &["broker.session.timeout.ms", "soon"],
    );
    // In use by another process: each of the directories, and the ports.
    let mut own_logs = apart(&first, &dir("a"));
    own_logs[1] = format!("log.dirs={}", cluster.log_dirs(1)[0].display());
    refuses_to_start(&cluster, 1, &own_logs, &["in use"]);
    let mut own_metadata = apart(&first, &dir("b"));
    own_metadata[2] = format!("metadata.log.dir={}", cluster.data(1).join("metadata").display());
    refuses_to_start(&cluster, 1, &own_metadata, &["in use"]);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = taken.local_addr().expect("it is bound").port();
    let mut busy = apart(&first, &dir("c"));
    busy[0] = format!(
        "listeners=GRPC://127.0.0.1:{port},CONTROLLER://127.0.0.1:{},HTTP://127.0.0.1:{}",
        spare(),
        spare()
    );
    refuses_to_start(&cluster, 1, &busy, &[&port.to_string(), "in use"]);
    // Another node's directories.
    cluster.kill(2);
    cluster.kill(3);
    copy(&cluster.log_dirs(2)[0], &dir("d/log"));
    refuses_to_start(&cluster, 3, &apart(&third, &dir("d")), &["node"]);
    copy(&cluster.data(2).join("metadata"), &dir("e/metadata"));
    refuses_to_start(&cluster, 3, &apart(&third, &dir("e")), &["node"]);
    cluster.spawn(2);
    cluster.spawn(3);
    cluster.wait_ready();
    // Another cluster's directories.
    let mut other = single();
    other.kill(1);
    copy(&other.log_dirs(1)[0], &dir("f/log"));
    cluster.kill(1);
    refuses_to_start(&cluster, 1, &[format!("log.dirs={}", dir("f/log").display())], &["cluster"]);
    cluster.spawn(1);
    cluster.wait_ready();
    wait_in_sync(&cluster, TOPIC, 1, 3);
    cluster.assert_healthy();
}

/// A batch of one record.
pub fn encoded(value: &[u8]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(1, None, Some(value), &[]).expect("the record is small");
    builder.build()
}

fn append_batch(batch: Bytes) -> ProduceRequest {
    ProduceRequest { payload: Some(produce_request::Payload::Batch(batch)), ..append(TOPIC, 0, b"") }
}

#[test]
fn wrong_requests_are_refused_by_name_and_nothing_is_written() {
    let mut cluster = three("leader.imbalance.check.interval.seconds = 600");
    create(&cluster, TOPIC, 1, 3, &[]);
    wait_in_sync(&cluster, TOPIC, 1, 3);
    let leader = cluster.leader(TOPIC, 0);
    let api = Api::new(cluster.node(leader).grpc);
    let code = |request| api.append(request).map(|_| ()).map_err(|error| error.code());
    let fetch = |request: FetchRequest| {
        let request = FetchRequest { topic: TOPIC.to_owned(), ..request };
        api.fetch(request).map(|_| ()).map_err(|error| error.code())
    };
    let good = encoded(b"good");
    assert_eq!(code(append_batch(good.clone())), Ok(()));
    // Any flipped bit that the checksum covers, and any length that is wrong.
    for at in (16..good.len()).step_by(7) {
        let mut damaged = good.to_vec();
        damaged[at] ^= 0x10;
        let refused = code(append_batch(damaged.into()));
        assert!(refused.is_err(), "byte {at} was flipped, and it was written");
        assert_ne!(refused, Err(ErrorCode::UnknownServerError), "byte {at}");
    }
    let mut damaged = good.to_vec();
    damaged[good.len() - 1] ^= 1;
    assert_eq!(code(append_batch(damaged.into())), Err(ErrorCode::CorruptMessage));
    for cut in [0, 1, 12, 60, good.len() - 1] {
        assert!(code(append_batch(good.slice(..cut))).is_err(), "{cut} bytes of a batch were written");
    }
    assert!(
        code(append_batch([good.clone(), good.clone()].concat().into())).is_err(),
        "two batches in one request"
    );
    assert_eq!(code(append_batch(encoded(&vec![b'x'; 2 * 1024 * 1024]))), Err(ErrorCode::MessageTooLarge));
    assert_eq!(code(append(TOPIC, 9, b"x")), Err(ErrorCode::UnknownTopicOrPartition));
    assert_eq!(code(append("nowhere", 0, b"x")), Err(ErrorCode::UnknownTopicOrPartition));
    assert_eq!(
        code(ProduceRequest { payload: None, ..append(TOPIC, 0, b"") }),
        Err(ErrorCode::InvalidRequest)
    );
    let epoch = Some(1_000);
    assert_eq!(
        code(ProduceRequest { leader_epoch: epoch, ..append(TOPIC, 0, b"x") }),
        Err(ErrorCode::UnknownLeaderEpoch)
    );
    assert_eq!(
        fetch(FetchRequest { leader_epoch: epoch, ..FetchRequest::default() }),
        Err(ErrorCode::UnknownLeaderEpoch)
    );
    assert_eq!(
        fetch(FetchRequest { offset: 1_000, ..FetchRequest::default() }),
        Err(ErrorCode::OffsetOutOfRange)
    );
    assert_eq!(
        fetch(FetchRequest { offset: u64::MAX, ..FetchRequest::default() }),
        Err(ErrorCode::OffsetOutOfRange)
    );
    assert_eq!(
        fetch(FetchRequest { partition: 9, ..FetchRequest::default() }),
        Err(ErrorCode::UnknownTopicOrPartition)
    );
    // Another broker says who leads.
    let follower = cluster.ids().into_iter().find(|id| *id != leader).expect("there are followers");
    let refused =
        Api::new(cluster.node(follower).grpc).append(append(TOPIC, 0, b"x")).expect_err("it is no leader");
    assert_eq!(refused.code(), ErrorCode::NotLeaderOrFollower);
    assert_eq!(refused.detail().and_then(|detail| detail.leader_id), Some(leader), "{refused}");
    // A leader of later, and a client that still believes in the old epoch.
    cluster.kill(leader);
    let next = cluster.leader(TOPIC, 0);
    let old = ProduceRequest { leader_epoch: Some(0), ..append(TOPIC, 0, b"x") };
    let elected = Api::new(cluster.node(next).grpc);
    // It may be told later than the one that was asked who leads.
    let refused = wait::until("the new leader to know", RECOVERY, || match elected.append(old.clone()) {
        Err(error) if error.code() == ErrorCode::NotLeaderOrFollower => Err(error.to_string()),
        other => Ok(other.map(|_| ()).map_err(|error| error.code())),
    });
    assert_eq!(refused, Ok(Err(ErrorCode::FencedLeaderEpoch)));
    cluster.spawn(leader);
    cluster.wait_ready();
    let read = ["consume", TOPIC, "--from-beginning", "--max-messages", "2", "--timeout-ms", "1000"];
    assert_eq!(cluster.cli(&read).ok(), "good\n", "something that was refused was written");
    cluster.assert_healthy();
}
