//! What goes out on a stream, and when.

use vltava_commitlog::log::{Log, LogConfig, LogPlace, RecoveryInput, TailBudget};
use vltava_model::batch::{Batch, BatchBuilder, Compression};
use vltava_storage::{FilePool, MemoryStorage};

use super::*;
use crate::shard::shared::Standing;

const EPOCH: LeaderEpoch = LeaderEpoch::new(1);

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A partition that is led here, with one record that is not committed yet.
fn led() -> (Log, Arc<PartitionShared>) {
    let partition = TopicPartition::new(TopicId::new(7), PartitionIndex::new(0));
    let place = LogPlace {
        files: FilePool::new(Arc::new(MemoryStorage::new()), 100, std::thread::sleep),
        dir: "/data/t-0".into(),
        partition,
        topic_name: "t".to_owned(),
        tail_budget: TailBudget::new(1 << 20),
    };
    let mut log = Log::open(place, LogConfig::default(), RecoveryInput::default()).unwrap();
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(1, None, Some(b"v"), &[]).unwrap();
    let batch = Batch::parse(builder.build()).unwrap().with_position(Offset::ZERO, EPOCH);
    log.append(&batch, 1).unwrap();
    let shared = Arc::new(PartitionShared::new(partition, "t".into(), Box::new(|_, _, _, _| ())));
    shared.set_standing(Standing::Leading { epoch: EPOCH, epoch_start: Offset::ZERO, reader: log.reader() });
    shared.set_offsets(Offset::ZERO, Offset::ZERO, log.log_end());
    (log, shared)
}

async fn next(responses: &mut mpsc::Receiver<Result<LeaderMessage, Status>>) -> Option<LeaderMessage> {
    let message =
        tokio::time::timeout(PATIENCE, responses.recv()).await.expect("something comes, or the end");
    message.map(|message| message.expect("the stream is in order"))
}

/// A stream to a follower of that partition, in slot 3, which has everything but the watermark.
struct Streamed {
    log: Log,
    shared: Arc<PartitionShared>,
    wake: Arc<WakeSet>,
    responses: mpsc::Receiver<Result<LeaderMessage, Status>>,
    joins: mpsc::Sender<ToSender>,
    sending: JoinHandle<()>,
}

fn subscription(log: &Log, shared: &Arc<PartitionShared>) -> Subscription {
    Subscription {
        shared: shared.clone(),
        reader: log.reader(),
        epoch: EPOCH,
        next: Offset::ZERO,
        sent_watermark: Offset::ZERO,
        sent_log_start: Offset::ZERO,
        shipped: Instant::now(),
    }
}

async fn streamed() -> Streamed {
    let (log, shared) = led();
    let (out, mut responses) = mpsc::channel(OUT_QUEUE);
    let (joins, joined) = mpsc::channel(JOIN_QUEUE);
    let wake = Arc::new(WakeSet::default());
    let credit = Arc::new(Credit { bytes: AtomicU64::new(1 << 20), granted: Notify::new() });
    let sender = Sender::new(wake.clone(), credit, out);
    let sending = tokio::spawn(sender.run(joined));
    assert!(joins.send(ToSender::Join(3, subscription(&log, &shared))).await.is_ok());
    wake.mark(3);
    let data = next(&mut responses).await.unwrap();
    assert_eq!((data.data.len(), data.data[0].slot, data.data[0].high_watermark), (1, 3, 0));
    Streamed { log, shared, wake, responses, joins, sending }
}

#[tokio::test]
async fn a_watermark_is_told_without_more_data_and_without_a_wake() {
    let Streamed { log, shared, mut responses, joins, sending, .. } = streamed().await;
    // As a shard shows it, which does not wake the stream for a watermark.
    shared.set_offsets(Offset::ZERO, log.log_end(), log.log_end());
    let told = next(&mut responses).await.unwrap();
    assert!(told.data.is_empty());
    let marks: Vec<_> = told.watermarks.iter().map(|mark| (mark.slot, mark.high_watermark)).collect();
    assert_eq!(marks, [(3, log.log_end().get())]);

    drop(joins);
    assert!(next(&mut responses).await.is_none(), "it is told once");
    sending.await.unwrap();
}

/// Else a follower that has not heard of the next leader takes it for committed what it alone has.
#[tokio::test]
async fn a_watermark_from_after_this_broker_led_is_not_told() {
    let Streamed { log, shared, mut responses, joins, sending, .. } = streamed().await;
    shared.set_standing(Standing::Offline);
    shared.set_offsets(Offset::ZERO, log.log_end(), log.log_end());
    let told = next(&mut responses).await.unwrap();
    assert!(told.data.is_empty() && told.watermarks.is_empty(), "{told:?}");
    let [FollowReply { slot: 3, outcome: Some(follow_reply::Outcome::Error(detail)) }] = &told.replies[..]
    else {
        panic!("the subscription is not ended: {told:?}");
    };
    assert_eq!(status::code_of(detail), ErrorCode::NotLeaderOrFollower);
    drop(joins);
    assert!(next(&mut responses).await.is_none());
    sending.await.unwrap();
}

/// Else a follower whose subscription was replaced or dropped would wait for ever on a stream that works.
#[tokio::test]
async fn a_subscription_that_the_shard_ends_is_told_to_have_ended() {
    let is_ended = |message: &LeaderMessage, of: u32| {
        let [FollowReply { slot, outcome: Some(follow_reply::Outcome::Error(detail)) }] =
            &message.replies[..]
        else {
            panic!("no subscription is ended: {message:?}");
        };
        assert_eq!((*slot, status::code_of(detail)), (of, ErrorCode::NotLeaderOrFollower));
    };
    let Streamed { log, shared, wake, mut responses, joins, sending } = streamed().await;
    wake.end(3);
    is_ended(&next(&mut responses).await.unwrap(), 3);
    // The shard may be quicker than the stream's reader, which tells the sender of a new one.
    wake.end(4);
    assert!(joins.send(ToSender::Join(4, subscription(&log, &shared))).await.is_ok());
    is_ended(&next(&mut responses).await.unwrap(), 4);
    wake.mark(4);
    drop(joins);
    assert!(next(&mut responses).await.is_none(), "nothing is sent for it");
    sending.await.unwrap();
}
