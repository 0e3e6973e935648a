//! Tests of what a shard leaves on disk at each moment, through power cuts. They are the shard's thread themselves.

use rand::SeedableRng;
use rand::rngs::StdRng;
use vltava_commitlog::durability::{Journal, RecoveredBody};
use vltava_commitlog::log::{Log, Scan};
use vltava_metadata::PartitionImage;
use vltava_model::batch::{Batch, BatchBuilder, Compression};
use vltava_model::{BrokerEpoch, ClusterId, LeaderEpoch, PartitionEpoch, PartitionIndex, TopicId};
use vltava_partition::{ReplicaIdentity, StreamNumber};
use vltava_storage::{CrashMode, FilePool, MemoryStorage};

use super::*;
use crate::broker::new_state;
use crate::directories::{Directories, OpenInput};
use crate::options::BrokerOptions;
use crate::shard::command::{Produce, Subscribe, SubscribeOutcome};
use crate::shard::shared::PartitionShared;

const DIR: &str = "/data";

const ME: NodeId = NodeId::new(1);

const LEADER: NodeId = NodeId::new(2);

fn partition() -> TopicPartition {
    TopicPartition::new(TopicId::new(7), PartitionIndex::new(0))
}

/// A record, as a client sends it.
fn batch() -> Batch {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(1_000, None, Some(b"v"), &[]).unwrap();
    Batch::parse(builder.build()).unwrap()
}

fn files(storage: &MemoryStorage) -> FilePool {
    FilePool::new(Arc::new(storage.clone()), 100, std::thread::sleep)
}

fn open(storage: &MemoryStorage) -> Directories {
    let input = OpenInput {
        files: files(storage),
        paths: &[DIR.into()],
        node: ME,
        cluster: Some(ClusterId::new(5)),
        journal_file_bytes: 1 << 16,
        min_free_bytes: 0,
    };
    Directories::open(&input).unwrap()
}

fn options(storage: &MemoryStorage) -> BrokerOptions {
    BrokerOptions {
        node_id: ME,
        cluster_id: None,
        rack: None,
        files: files(storage),
        connections_max: 100,
        log_dirs: vec![DIR.into()],
        advertised: Vec::new(),
        controllers: Vec::new(),
        shards: 1,
        shard_queue: 64,
        max_batch_bytes: 1 << 20,
        replica_lag_max: Duration::from_secs(30),
        replica_stall_max: Duration::from_secs(2),
        replica_window_bytes: 1 << 20,
        retention_interval: Duration::from_secs(300),
        min_free_bytes: 0,
        shutdown_timeout: Duration::from_secs(1),
        static_configs: BTreeMap::new(),
        journal_file_bytes: 1 << 16,
        fatal: Arc::new(|reason, what| panic!("{reason:?}: {what}")),
    }
}

/// A shard with one replica, which follows.
struct Follower {
    storage: MemoryStorage,
    worker: Worker,
    config: TopicConfig,
    epoch: u32,
    shared: Arc<PartitionShared>,
    // Kept: what they stand for must not look as if it had ended.
    _proposed: tokio::sync::mpsc::UnboundedReceiver<crate::quorum::isr::Proposal>,
    runtime: tokio::runtime::Runtime,
}

impl Follower {
    /// Its topic syncs when so many records have come; 1 journals each.
    fn new(flush_messages: u64) -> Self {
        let storage = MemoryStorage::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let entered = runtime.enter();
        let directories = Arc::new(open(&storage));
        directories.replay_done();
        let state = Arc::new(new_state(options(&storage), directories).unwrap());
        state.followers.attach(state.clone());
        drop(entered);
        let bell = Bell::new();
        let (sender, commands) = queue::bounded(&bell, 64);
        let (proposals, proposed) = tokio::sync::mpsc::unbounded_channel();
        let shard = ShardHandle::new(sender);
        let worker = Worker::new(state, shard, proposals, (bell, commands), Instant::now());
        Self {
            storage,
            worker,
            config: TopicConfig { flush_messages, ..TopicConfig::default() },
            epoch: 0,
            shared: Arc::new(PartitionShared::new(partition(), "t".into(), Box::new(|_, _, _, _| ()))),
            _proposed: proposed,
            runtime,
        }
    }

    fn take(&mut self, command: Command) {
        let _entered = self.runtime.enter();
        assert!(matches!(self.worker.take(command), Flow::On));
    }

    /// Metadata say that it follows in an epoch.
    fn assign(&mut self, epoch: u32) {
        self.assign_led_by(LEADER, vec![LEADER, ME], epoch);
    }

    fn assign_led_by(&mut self, leader: NodeId, isr: Vec<NodeId>, epoch: u32) {
        self.epoch = epoch;
        let image = PartitionImage {
            replicas: vec![LEADER, ME],
            isr,
            leader: Some(leader),
            leader_epoch: LeaderEpoch::new(epoch),
            partition_epoch: PartitionEpoch::new(epoch),
            ..PartitionImage::default()
        };
        let directory = self.worker.state.directories.place(partition(), None);
        let assign = Assign {
            partition: partition(),
            topic_name: "t".into(),
            image: Arc::new(image),
            eligible: Vec::new(),
            config: Arc::new(self.config),
            shared: self.shared.clone(),
            directory,
        };
        let (done, _) = tokio::sync::oneshot::channel();
        self.take(Command::Assign { partitions: vec![assign], done });
    }

    fn answer(&mut self, answer: LeaderAnswer) {
        let epoch = LeaderEpoch::new(self.epoch);
        self.take(Command::LeaderAnswer { partition: partition(), epoch, answer });
    }

    fn agree(&mut self) {
        self.answer(LeaderAnswer::Watermark { high_watermark: Offset::ZERO, log_start: Offset::ZERO });
    }

    /// The leader's log is the same up to `end` only, where it has had `epoch` so far.
    fn diverge(&mut self, epoch: u32, end: u64) {
        self.answer(LeaderAnswer::Diverging { epoch: LeaderEpoch::new(epoch), end: Offset::new(end) });
        assert_eq!(self.shared.log_end(), Offset::new(end));
        self.agree();
    }

    /// Records of an epoch come from the leader.
    fn get(&mut self, offsets: std::ops::Range<u64>, epoch: u32) {
        for offset in offsets.clone() {
            let batch = batch().with_position(Offset::new(offset), LeaderEpoch::new(epoch));
            let (start, current) = (Offset::ZERO, LeaderEpoch::new(self.epoch));
            let _entered = self.runtime.enter();
            self.worker.with(partition(), |host, turn| {
                host.leader_data(turn, current, vec![batch], start, start);
            });
        }
        assert_eq!(self.shared.log_end(), Offset::new(offsets.end));
    }

    fn wait_until_durable(&mut self, end: u64) {
        let _entered = self.runtime.enter();
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.shared.durable_end() < Offset::new(end) {
            assert!(Instant::now() < deadline, "durable up to {} only", self.shared.durable_end());
            assert!(matches!(self.worker.turn(), Flow::On));
        }
    }

    fn maintain(&mut self) {
        self.take(Command::Maintain { now_ms: 5, retention: false });
    }

    fn survivor(&self, mode: CrashMode) -> MemoryStorage {
        self.storage.survivor(&mut StdRng::seed_from_u64(1), mode)
    }

    /// The log as it is after a power cut at this moment.
    fn after_power_cut(&self) -> Log {
        self.after(CrashMode::LoseUnsynced)
    }

    fn after(&self, mode: CrashMode) -> Log {
        let directories = open(&self.survivor(mode));
        let id = directories.place(partition(), None).unwrap();
        directories.open_log(id, partition(), "t", (LogConfig::default(), Scan::Needed), 5).unwrap()
    }
}

#[test]
fn what_follows_on_a_cut_is_journaled_in_the_epoch_of_the_cut_whoever_wrote_it() {
    let mut follower = Follower::new(1);
    follower.assign(1);
    follower.agree();
    follower.get(0..5, 1);
    follower.wait_until_durable(5);
    follower.assign(3);
    follower.diverge(1, 3);
    follower.get(3..6, 2);
    follower.wait_until_durable(6);
    assert_eq!(follower.after_power_cut().log_end(), Offset::new(6));
    let disk = follower.survivor(CrashMode::LoseUnsynced);
    let mut journal = Journal::recover(&disk, &std::path::Path::new(DIR).join("journal")).unwrap();
    let frames = journal.take(partition());
    let appends = frames.iter().filter(|frame| matches!(frame.body, RecoveredBody::Append { .. }));
    // Were those of the last three of epoch 2, the note of the cut would void them once its frame is gone.
    let epochs: Vec<u32> = appends.map(|frame| frame.leader_epoch.get()).collect();
    assert_eq!(epochs, [1, 1, 1, 3, 3, 3]);
}

#[test]
fn a_log_that_begins_anew_elsewhere_begins_there_after_a_power_cut_as_soon_as_it_counts() {
    let mut follower = Follower::new(1);
    follower.assign(1);
    follower.agree();
    follower.get(0..5, 1);
    follower.wait_until_durable(5);
    follower.assign(3);
    follower.answer(LeaderAnswer::StartAt(Offset::new(90)));
    assert_eq!(follower.shared.durable_end(), Offset::new(90));
    let log = follower.after_power_cut();
    assert_eq!((log.log_start(), log.log_end()), (Offset::new(90), Offset::new(90)));
}

#[test]
fn a_cut_of_a_topic_left_to_the_page_cache_is_remembered_until_recovery_points_know_it() {
    let mut follower = Follower::new(2);
    follower.assign(1);
    follower.agree();
    follower.get(0..10, 1);
    follower.wait_until_durable(2);
    follower.maintain();
    follower.wait_until_durable(10);
    follower.maintain();
    follower.assign(3);
    follower.diverge(1, 4);
    for end in [6, 8] {
        follower.get(end - 2..end, 2);
        follower.wait_until_durable(end);
    }
    assert_eq!(follower.after(CrashMode::Kill).log_end(), Offset::new(8));
}

#[test]
fn a_topic_that_is_journaled_from_now_on_has_what_came_before() {
    let mut follower = Follower::new(1_000);
    follower.assign(1);
    follower.agree();
    follower.get(0..5, 1);
    follower.config.flush_messages = 1;
    follower.assign(1);
    follower.get(5..6, 1);
    follower.wait_until_durable(6);
    assert_eq!(follower.after_power_cut().log_end(), Offset::new(6));
}

#[test]
fn a_shard_on_which_nothing_waits_for_time_looks_seldom_until_something_happens() {
    let mut follower = Follower::new(1);
    follower.assign(1);
    assert!(follower.worker.tick() < TICK_CALM, "a subscription is tried again when it is not answered");
    follower.agree();
    assert_eq!(follower.worker.tick(), TICK_CALM);
    let later = Instant::now() + TICK_CALM;
    follower.worker.next_tick = later;
    assert!(follower.worker.shard.send(Command::Maintain { now_ms: 5, retention: false }).is_ok());
    assert!(matches!(follower.worker.turn(), Flow::On));
    assert!(follower.worker.next_tick < later);
}

#[test]
fn a_log_that_got_nothing_for_a_while_keeps_no_batches_in_memory() {
    let mut alone = Follower::new(1);
    let left = |alone: &Follower| alone.worker.state.directories.tail_bytes_left();
    let all = left(&alone);
    alone.assign_led_by(ME, vec![ME], 1);
    alone.maintain();
    let (reply, _) = tokio::sync::oneshot::channel();
    let deadline = Instant::now() + Duration::from_secs(20);
    let (partition, batch, acks) = (partition(), batch(), vltava_partition::Acks::Leader);
    alone.take(Command::Produce(Box::new(Produce {
        partition,
        batch,
        acks,
        deadline,
        expected_epoch: None,
        reply,
    })));
    alone.wait_until_durable(1);
    assert!(left(&alone) < all);
    alone.maintain();
    assert!(left(&alone) < all, "it may get more soon");
    alone.maintain();
    assert_eq!(left(&alone), all);
}

#[test]
fn a_follower_that_subscribes_on_another_stream_is_told_that_the_subscription_before_ended() {
    let mut alone = Follower::new(1);
    alone.assign_led_by(ME, vec![ME], 1);
    let wakes: Vec<_> = (0..3).map(|_| Arc::new(WakeSet::default())).collect();
    let ended = || wakes.iter().map(|wake| wake.take_ended().len()).collect::<Vec<_>>();
    let (broker_epoch, directory) = (BrokerEpoch::new(9), DirectoryId::new(9));
    // The first one, the third, and the second one late.
    for (stream, accepted, told) in [(0, true, [0, 0, 0]), (2, true, [1, 0, 0]), (1, false, [0, 0, 0])] {
        let (reply, mut answered) = tokio::sync::oneshot::channel();
        alone.take(Command::Subscribe(Box::new(Subscribe {
            partition: partition(),
            follower: ReplicaIdentity { node: LEADER, broker_epoch, directory },
            stream: StreamNumber::new(stream),
            epoch: LeaderEpoch::new(1),
            log_start: Offset::ZERO,
            log_end: Offset::ZERO,
            durable_end: Offset::ZERO,
            last_epoch: None,
            slot: 7,
            wake: wakes[stream as usize].clone(),
            reply,
        })));
        let is_accepted = matches!(answered.try_recv(), Ok(SubscribeOutcome::Accepted { .. }));
        assert_eq!((is_accepted, ended()), (accepted, told.to_vec()), "stream {stream}");
    }
}
