//! Topics that come and go, and records that are deleted: by hand, by size, by age.

use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::time::Instant;
use vltava_client::{
    Client, ClientError, Consumer, ConsumerOptions, Producer, ProducerOptions, Record, StartAt,
};
use vltava_model::{ErrorCode, Offset, TopicId};
use vltava_proto::v1::log_client::LogClient;
use vltava_proto::v1::{
    DeleteRecordsRequest, FetchRequest, ListOffsetsRequest, OffsetQuery, ProduceRequest,
    admin_client::AdminClient,
};
use vltava_tests::load::{Load, LoadOptions};
use vltava_tests::{Cluster, cli, wait};

use crate::api::{Api, append};
use crate::support::{RECOVERY, conclude, create, progress, three, wait_in_sync};

const TOPIC: &str = "topics";

fn partition_dirs(cluster: &Cluster) -> usize {
    let dirs = cluster.ids().into_iter().flat_map(|id| cluster.log_dirs(id));
    let names = dirs.filter_map(|dir| std::fs::read_dir(dir).ok()).flatten().flatten();
    names
        .filter(|entry| {
            entry.path().is_dir() && entry.file_name() != "journal" && entry.file_name() != "__metadata"
        })
        .count()
}

fn start_of(cluster: &Cluster, topic: &str) -> u64 {
    let described = cluster.describe(topic).expect("it is there");
    described["partitions"][0]["log_start_offset"].as_u64().expect("it has a log start")
}

#[test]
fn a_topic_that_is_made_anew_has_nothing_of_the_old_one() {
    let mut cluster = three("");
    for round in 0..3 {
        create(&cluster, TOPIC, 2, 3, &[]);
        let lines: String = (0..500).map(|line| format!("round {round} line {line}\n")).collect();
        cluster.cli_with(&["produce", TOPIC, "--partition", "1"], lines.as_bytes()).ok();
        let args = ["consume", TOPIC, "--from-beginning", "--max-messages", "500", "--timeout-ms", "10000"];
        let read = cluster.cli(&args).ok();
        assert!(read == lines, "round {round}: {read}\n{}", cluster.logs());
        // The middle one is deleted while a node is away, which learns of it later.
        if round == 1 {
            cluster.kill(3);
        }
        cluster.cli(&["topics", "delete", TOPIC]).ok();
        if round == 1 {
            create(&cluster, TOPIC, 2, 2, &[]);
            cluster.spawn(3);
            cluster.wait_ready();
            cluster.cli(&["topics", "delete", TOPIC]).ok();
        }
        let gone = cluster.cli(&["topics", "describe", TOPIC]);
        assert_eq!(gone.code, Some(3), "{}{}", gone.out, gone.err);
    }
    let gone =
        wait::until("the deleted partitions' files to go", RECOVERY, || match partition_dirs(&cluster) {
            0 => Ok(()),
            left => Err(format!("{left} are left")),
        });
    gone.unwrap_or_else(|error| panic!("{error}\n{}", cluster.logs()));
    cluster.assert_healthy();
}

fn id_of(cluster: &Cluster, topic: &str) -> TopicId {
    let described = cluster.describe(topic).expect("it is there");
    described["topic_id"].as_str().and_then(|id| id.parse().ok()).expect("it has an id")
}

async fn send(producer: &Producer, record: Record) -> Result<Offset, ClientError> {
    let written = producer.send(record).await?.await?;
    Ok(written.offset.expect("it is told where"))
}

/// Reads until so many records were read, or something is the matter.
async fn read(consumer: &mut Consumer, count: usize) -> Result<Vec<String>, ClientError> {
    let deadline = Instant::now() + RECOVERY;
    let mut read = Vec::new();
    while read.len() < count && Instant::now() < deadline {
        for record in consumer.poll(Duration::from_millis(100)).await? {
            read.push(String::from_utf8_lossy(&record.value.unwrap_or_default()).into_owned());
        }
    }
    Ok(read)
}

/// Clients know topics by name. One that knew the old topic must not go on in the new one as if it were the same.
#[test]
fn clients_of_a_topic_do_not_go_on_in_another_one_of_its_name() {
    let mut cluster = three("");
    create(&cluster, TOPIC, 1, 3, &[]);
    let old = id_of(&cluster, TOPIC);
    let runtime = Runtime::new().expect("a runtime starts");
    let servers = cluster.servers();
    let client = || Client::connect(&servers).expect("they are addresses");
    let (producer, mut consumer) = runtime.block_on(async {
        let producer = Producer::new(client(), ProducerOptions::default());
        let mut consumer = Consumer::new(client(), ConsumerOptions::default());
        for number in 0..20 {
            let record = Record::new(TOPIC).partition(0).value(format!("old {number}"));
            send(&producer, record).await.expect("the old topic takes it");
        }
        consumer.assign(TOPIC, 0, StartAt::Earliest).await.expect("it is there");
        assert_eq!(read(&mut consumer, 20).await.expect("it can be read").len(), 20);
        assert_eq!(consumer.topic_id(TOPIC, 0), Some(old));
        (producer, consumer)
    });
    cluster.cli(&["topics", "delete", TOPIC]).ok();
    create(&cluster, TOPIC, 1, 3, &[]);
    let new = id_of(&cluster, TOPIC);
    // So many that every position in the old one is one in the new one, too.
    let lines: String = (0..40).map(|line| format!("new {line}\n")).collect();
    cluster.cli_with(&["produce", TOPIC], lines.as_bytes()).ok();
    runtime.block_on(async {
        let record = || Record::new(TOPIC).partition(0);
        let refused = send(&producer, record().value("for the old one")).await.expect_err("it is gone");
        assert_eq!(refused.code(), ErrorCode::UnknownTopicId, "{refused}");
        assert!(refused.message().contains("deleted and created anew"), "{refused}");
        // From here on the client knows of the new one.
        let refused = send(&producer, record().topic_id(old).value("for the old one")).await;
        assert_eq!(refused.map_err(|error| error.code()), Err(ErrorCode::UnknownTopicId));
        let written = send(&producer, record().value("for the new one")).await;
        assert_eq!(written.expect("the new one takes it"), Offset::new(40));
        producer.flush().await;

        let stopped = read(&mut consumer, 1).await.expect_err("the position is one of the old topic");
        // Or that it was deleted, when that was noticed before the new one was there.
        let gone = [ErrorCode::UnknownTopicId, ErrorCode::UnknownTopicOrPartition];
        assert!(gone.contains(&stopped.code()), "{stopped}");
        assert_eq!(consumer.position(TOPIC, 0), None);
        let kept = consumer.assign_in(TOPIC, old, 0, StartAt::Offset(Offset::new(20))).await;
        assert_eq!(kept.map_err(|error| error.code()), Err(ErrorCode::UnknownTopicId));
        consumer.assign_in(TOPIC, new, 0, StartAt::Earliest).await.expect("it is there");
        let all = read(&mut consumer, 41).await.expect("it can be read");
        assert_eq!((all.len(), all[0].as_str(), all[40].as_str()), (41, "new 0", "for the new one"));
    });
    requests_with_an_id_reach_no_other_topic(&cluster, old, new);
    cluster.assert_healthy();
}

/// What another language's client may count on.
fn requests_with_an_id_reach_no_other_topic(cluster: &Cluster, old: TopicId, new: TopicId) {
    let api = Api::new(cluster.node(cluster.leader(TOPIC, 0)).grpc);
    let outcomes = |id: TopicId, name: &str| {
        let (topic_id, topic) = (bytes::Bytes::from(id.to_bytes().to_vec()), name.to_owned());
        let produce = ProduceRequest { topic_id: topic_id.clone(), ..append(name, 0, b"by id") };
        let fetch =
            FetchRequest { topic_id: topic_id.clone(), topic: topic.clone(), ..FetchRequest::default() };
        let partitions = vec![OffsetQuery::default()];
        let list = ListOffsetsRequest { topic: topic.clone(), partitions, topic_id: topic_id.clone() };
        let delete = DeleteRecordsRequest {
            topic,
            topic_id,
            before_offset: Some(0),
            ..DeleteRecordsRequest::default()
        };
        let mut log = LogClient::new(api.channel());
        let listed = api.call(log.list_offsets(list)).expect("it answers").partitions.remove(0);
        let code = |error: ClientError| error.code();
        [
            api.append(produce).map(drop).map_err(code),
            api.fetch(fetch).map(drop).map_err(code),
            listed.error.map_or(Ok(()), |error| Err(code(error.into()))),
            api.call(AdminClient::new(api.channel()).delete_records(delete)).map(drop).map_err(code),
        ]
    };
    assert_eq!(outcomes(old, TOPIC), [Err(ErrorCode::UnknownTopicId); 4]);
    assert_eq!(outcomes(new, "another"), [Err(ErrorCode::InconsistentTopicId); 4]);
    assert_eq!(outcomes(new, TOPIC), [Ok(()); 4]);
    assert_eq!(outcomes(new, ""), [Ok(()); 4]);
}

#[test]
fn deleted_records_stay_deleted_on_every_replica() {
    let mut cluster = three("leader.imbalance.check.interval.seconds = 600");
    create(&cluster, TOPIC, 1, 3, &[]);
    wait_in_sync(&cluster, TOPIC, 1, 3);
    let lines: String = (0..100).map(|line| format!("{line}\n")).collect();
    // Batches of few records, so that the cut lies between batches and within one.
    cluster.cli_with(&["produce", TOPIC, "--batch-size", "200"], lines.as_bytes()).ok();
    cluster.cli(&["topics", "delete-records", TOPIC, "--partition", "0", "--before-offset", "42"]).ok();
    let rest: String = (42..100).map(|line| format!("{line}\n")).collect();
    let args = ["consume", TOPIC, "--from-beginning", "--max-messages", "58", "--timeout-ms", "10000"];
    assert_eq!(cluster.cli(&args).ok(), rest);
    let api = Api::new(cluster.node(cluster.leader(TOPIC, 0)).grpc);
    let below = api.fetch(FetchRequest { topic: TOPIC.to_owned(), offset: 41, ..FetchRequest::default() });
    assert_eq!(below.map_err(|error| error.code()), Err(ErrorCode::OffsetOutOfRange));
    let beyond = ["topics", "delete-records", TOPIC, "--partition", "0", "--before-offset", "1000"];
    assert_ne!(cluster.cli(&beyond).code, Some(0), "what is not there can't be deleted");
    // Another leader, and after a crash of all: they are still gone.
    let leader = cluster.leader(TOPIC, 0);
    cluster.kill(leader);
    assert_eq!(cluster.cli(&args).ok(), rest);
    assert_eq!(start_of(&cluster, TOPIC), 42);
    for id in cluster.ids() {
        cluster.restart(id);
    }
    cluster.wait_ready();
    assert_eq!(cluster.cli(&args).ok(), rest);
    assert_eq!(start_of(&cluster, TOPIC), 42);
    cluster.assert_healthy();
}

#[test]
fn retention_by_size_and_by_age_deletes_whole_segments_and_keeps_the_rest() {
    let mut cluster = three("log.retention.check.interval.ms = 200\nlog.segment.delete.delay.ms = 100");
    create(&cluster, "by-size", 1, 3, &["segment.bytes=65536", "retention.bytes=131072"]);
    create(&cluster, "by-age", 1, 3, &["segment.bytes=65536", "retention.ms=500"]);
    let line = format!("{}\n", "r".repeat(999));
    for topic in ["by-size", "by-age"] {
        cluster.cli_with(&["produce", topic], line.repeat(1000).as_bytes()).ok();
    }
    for topic in ["by-size", "by-age"] {
        let begun = wait::until("old segments to be deleted", RECOVERY, || match start_of(&cluster, topic) {
            0 => Err(format!("{topic} still begins at 0")),
            start => Ok(start),
        });
        let start = begun.unwrap_or_else(|error| panic!("{error}\n{}", cluster.logs()));
        assert!(start <= 1000, "{topic} begins at {start}");
    }
    // By size: what is kept is not less than the bound, and can be read on every node.
    let start = start_of(&cluster, "by-size");
    assert!(start <= 1000 - 131, "retention.bytes keeps at least 131,072 bytes, and it begins at {start}");
    let rest = (1000 - start).to_string();
    let args = ["consume", "by-size", "--from-beginning", "--max-messages", &rest, "--timeout-ms", "10000"];
    let read = cluster.cli(&args).ok();
    assert!(read.lines().count() as u64 >= 131, "{} lines", read.lines().count());
    // A partition of which everything is old goes on at the offset where it was.
    let end = cluster.cli_with(&["produce", "by-age"], b"after\n");
    end.ok();
    let described = cluster.describe("by-age").expect("it is there");
    assert_eq!(described["partitions"][0]["high_watermark"], 1001, "{described}");
    cluster.assert_healthy();
}

/// Partitions are added and leaders moved while records flow.
#[test]
fn partitions_are_added_and_leaders_moved_under_load() {
    let mut cluster = three("leader.imbalance.check.interval.seconds = 600");
    create(&cluster, TOPIC, 3, 3, &[]);
    wait_in_sync(&cluster, TOPIC, 3, 3);
    let load = Load::start(&cluster.servers(), &LoadOptions::new(TOPIC, 3));
    progress(&cluster, &load, 200);
    let leader = cluster.leader(TOPIC, 0);
    cluster.restart(leader);
    cluster.wait_ready();
    wait_in_sync(&cluster, TOPIC, 3, 3);
    load.longest_gap();
    cluster.cli(&["topics", "elect-leaders"]).ok();
    assert_eq!(cluster.leader(TOPIC, 0), leader, "the preferred replica leads");
    cluster.cli(&["topics", "alter", TOPIC, "--partitions", "6"]).ok();
    progress(&cluster, &load, 200);
    let gap = load.longest_gap();
    eprintln!("leaders were moved and partitions added: longest gap {gap:?}");
    assert!(gap < Duration::from_secs(5), "{gap:?}");
    wait_in_sync(&cluster, TOPIC, 6, 3);
    conclude(&mut cluster, load, "moved leaders", TOPIC, 3);
}

/// Deleting many partitions that are being written must end writers with an error that says why, free the space, and cost
/// another topic's writers nothing.
#[test]
fn topics_are_deleted_while_they_are_written() {
    const DOOMED: [&str; 2] = ["doomed-a", "doomed-b"];
    let mut cluster = three("");
    create(&cluster, TOPIC, 3, 3, &[]);
    let load = Load::start(&cluster.servers(), &LoadOptions::new(TOPIC, 3));
    progress(&cluster, &load, 200);
    for round in 0..2 {
        for doomed in DOOMED {
            create(&cluster, doomed, 24, 3, &[]);
        }
        std::thread::scope(|scope| {
            let writers = DOOMED.map(|doomed| {
                let args = ["perf", "produce", doomed, "--records", "100000000", "--rate", "4000"];
                let servers = cluster.servers();
                scope.spawn(move || cli::run(&servers, &args, b""))
            });
            for doomed in DOOMED {
                let written = |describe: &serde_json::Value| {
                    let partitions = describe["partitions"].as_array().into_iter().flatten();
                    let ends = partitions.filter_map(|partition| partition["high_watermark"].as_u64());
                    ends.filter(|end| *end > 0).count()
                };
                let busy = wait::until("most of its partitions to be written", RECOVERY, || {
                    match cluster.describe(doomed) {
                        Ok(described) if written(&described) >= 12 => Ok(()),
                        Ok(described) => Err(format!("{} are", written(&described))),
                        Err(error) => Err(error),
                    }
                });
                busy.unwrap_or_else(|error| panic!("round {round}: {error}\n{}", cluster.logs()));
                cluster.cli(&["topics", "delete", doomed]).ok();
            }
            for writer in writers {
                let ended = writer.join().expect("the command line ran");
                // It ends by itself, long before the time that a record may take is over.
                assert!(ended.code.is_some_and(|code| code != 0), "{ended:?}");
                assert!(ended.err.contains("doomed"), "which topic is gone? {}", ended.err);
            }
        });
        progress(&cluster, &load, 200);
    }
    let gone =
        wait::until("the deleted partitions' files to go", RECOVERY, || match partition_dirs(&cluster) {
            9 => Ok(()),
            left => Err(format!("{left} are left, 9 were to stay")),
        });
    gone.unwrap_or_else(|error| panic!("{error}\n{}", cluster.logs()));
    conclude(&mut cluster, load, "deleted under load", TOPIC, 3);
}
