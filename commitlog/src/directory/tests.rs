//! A log directory through starts, crashes and mistakes.

use rand::SeedableRng;
use rand::rngs::StdRng;
use vltava_model::TopicId;

use super::*;
use vltava_storage::{CrashMode, Fault, FaultPoint, MemoryStorage};

const NODE: NodeId = NodeId::new(1);
const CLUSTER: ClusterId = ClusterId::new(77);

fn path() -> &'static Path {
    Path::new("/data/node1")
}

fn open(storage: &MemoryStorage) -> Result<LogDirectory, DirectoryError> {
    open_as(storage, NODE, Some(CLUSTER), 5)
}

fn open_as(
    storage: &MemoryStorage,
    node: NodeId,
    cluster: Option<ClusterId>,
    fresh: u128,
) -> Result<LogDirectory, DirectoryError> {
    LogDirectory::open(Arc::new(storage.clone()), path(), node, cluster, DirectoryId::new(fresh))
}

fn partition(topic: u128, index: u32) -> TopicPartition {
    TopicPartition::new(TopicId::new(topic), PartitionIndex::new(index))
}

#[test]
fn keeps_its_identity() {
    let storage = MemoryStorage::new();
    let first = open(&storage).unwrap();
    assert_eq!(
        first.identity(),
        Identity { directory: DirectoryId::new(5), node: NODE, cluster: Some(CLUSTER) }
    );
    assert_eq!(first.left_cleanly(), None);
    drop(first);
    let again = open_as(&storage, NODE, None, 6).unwrap();
    assert_eq!(again.identity().directory, DirectoryId::new(5));
    assert_eq!(again.identity().cluster, Some(CLUSTER));
}

#[test]
fn learns_its_cluster_once() {
    let storage = MemoryStorage::new();
    let mut directory = open_as(&storage, NODE, None, 5).unwrap();
    assert_eq!(directory.identity().cluster, None);
    directory.bind(CLUSTER).unwrap();
    directory.bind(CLUSTER).unwrap();
    assert!(matches!(directory.bind(ClusterId::new(1)), Err(DirectoryError::OtherCluster { .. })));
    drop(directory);
    assert_eq!(open_as(&storage, NODE, None, 6).unwrap().identity().cluster, Some(CLUSTER));
}

#[test]
fn refuses_what_is_not_its_own_and_says_what_to_do() {
    let storage = MemoryStorage::new();
    let directory = open(&storage).unwrap();
    directory.mark_clean(BrokerEpoch::new(9)).unwrap();
    let says = |opened: Result<LogDirectory, DirectoryError>, text: &str| {
        let error = opened.err().unwrap().to_string();
        assert!(error.contains(text), "{error}");
    };
    says(open(&storage), "in use by another process");
    drop(directory);
    says(open_as(&storage, NodeId::new(2), Some(CLUSTER), 5), "correct node.id");
    says(open_as(&storage, NODE, Some(ClusterId::new(1)), 5), "correct cluster.id");
    storage.flip_bit(&path().join("vltava.meta"), 20, 1);
    says(open(&storage), "vltava.meta is damaged");
    storage.flip_bit(&path().join("vltava.meta"), 20, 1);
    assert_eq!(
        open(&storage).unwrap().left_cleanly(),
        Some(BrokerEpoch::new(9)),
        "whoever was refused changed nothing"
    );
    storage.remove(&path().join("vltava.meta")).unwrap();
    storage.create_dir_all(&path().join(partition(1, 0).to_string())).unwrap();
    says(open(&storage), "no vltava.meta");
}

#[test]
fn a_real_lock_keeps_others_out() {
    let dir = tempfile::tempdir().unwrap();
    let storage = vltava_storage::RealStorage::shared();
    let open =
        || LogDirectory::open(Arc::clone(&storage), dir.path(), NODE, Some(CLUSTER), DirectoryId::new(1));
    let first = open().unwrap();
    assert!(matches!(open(), Err(DirectoryError::InUse { .. })));
    first.mark_clean(BrokerEpoch::new(4)).unwrap();
    drop(first);
    assert_eq!(open().unwrap().left_cleanly(), Some(BrokerEpoch::new(4)));
    assert_eq!(open().unwrap().left_cleanly(), None);
}

/// The mark says "clean" once: whatever becomes of the start that read it, the next one is told otherwise.
#[test]
fn the_mark_of_a_clean_shutdown_is_gone_before_anything_else() {
    let storage = MemoryStorage::recording();
    open(&storage).unwrap().mark_clean(BrokerEpoch::new(9)).unwrap();
    let marked = storage.operations();
    let directory = open(&storage).unwrap();
    assert_eq!(directory.left_cleanly(), Some(BrokerEpoch::new(9)));
    let opened = storage.operations();
    directory.create_partition(partition(1, 0)).unwrap();
    for operations in marked..=storage.operations() {
        for mode in CrashMode::ALL {
            for seed in 0..10 {
                let survivor = storage.at(operations).survivor(&mut StdRng::seed_from_u64(seed), mode);
                let clean = open(&survivor).unwrap().left_cleanly();
                if operations >= opened {
                    assert_eq!(clean, None, "after {operations} operations, {mode:?}, seed {seed}");
                } else {
                    assert!(survivor_is_untouched(&survivor), "work began before the mark was gone");
                }
            }
        }
    }
}

fn survivor_is_untouched(storage: &MemoryStorage) -> bool {
    !storage.exists(&path().join(partition(1, 0).to_string())).unwrap()
}

#[test]
fn a_mark_that_cannot_be_removed_stops_the_start() {
    for at in [FaultPoint::Name, FaultPoint::SyncDir] {
        let storage = MemoryStorage::new();
        open(&storage).unwrap().mark_clean(BrokerEpoch::new(9)).unwrap();
        let path = if at == FaultPoint::Name { "clean-shutdown" } else { "node1" };
        storage.inject(Fault { at, path: path.into(), after: 0, times: 9, error: io::ErrorKind::Other });
        assert!(matches!(open(&storage), Err(DirectoryError::Io { .. })), "{at:?}");
    }
}

#[test]
fn a_damaged_mark_proves_nothing_and_goes() {
    let storage = MemoryStorage::new();
    open(&storage).unwrap().mark_clean(BrokerEpoch::new(9)).unwrap();
    storage.flip_bit(&path().join("clean-shutdown"), 17, 3);
    let directory = open(&storage).unwrap();
    assert_eq!((directory.left_cleanly(), directory.last_end()), (None, LastEnd::Damaged));
    drop(directory);
    assert!(!storage.exists(&path().join("clean-shutdown")).unwrap());
    assert_eq!(open(&storage).unwrap().last_end(), LastEnd::Unknown);
}

#[test]
fn lists_its_partitions_and_nothing_else() {
    let storage = MemoryStorage::new();
    let directory = open(&storage).unwrap();
    for (topic, index) in [(2, 10), (2, 9), (1, 0)] {
        directory.create_partition(partition(topic, index)).unwrap();
        directory.create_partition(partition(topic, index)).unwrap();
    }
    let id = partition(1, 0).topic;
    for other in ["journal", "lost+found", "x-0", &format!("{id}-01"), &format!("{id}-+1"), &format!("{id}0")]
    {
        storage.create_dir_all(&path().join(other)).unwrap();
    }
    storage.create_dir_all(&path().join("ž".repeat(20))).unwrap();
    assert_eq!(directory.partitions().unwrap(), [partition(1, 0), partition(2, 9), partition(2, 10)]);
}

#[test]
fn a_deleted_partition_stays_deleted_through_any_crash() {
    let storage = MemoryStorage::recording();
    let directory = open(&storage).unwrap();
    let made = directory.create_partition(partition(1, 0)).unwrap();
    storage.create(&made.join("f")).unwrap().write_at(0, b"x").unwrap();
    storage.sync_dir(&made).unwrap();
    directory.delete_partition(partition(1, 0)).unwrap();
    directory.delete_partition(partition(1, 0)).unwrap();
    let deleted = storage.operations();
    for mode in CrashMode::ALL {
        for seed in 0..20 {
            let survivor = storage.at(deleted).survivor(&mut StdRng::seed_from_u64(seed), mode);
            let directory = open(&survivor).unwrap();
            assert_eq!(directory.partitions().unwrap(), []);
            let left = survivor.list(path()).unwrap();
            assert!(left.iter().all(|name| !name.ends_with(".deleted")), "{left:?}");
        }
    }
}

#[test]
fn the_first_failure_is_the_reason() {
    let storage = MemoryStorage::new();
    let directory = open(&storage).unwrap();
    assert_eq!(directory.offline(), None);
    assert!(directory.fail("the disk broke"));
    assert!(!directory.fail("everything else"));
    assert_eq!(directory.offline(), Some("the disk broke"));
    directory.mark_clean(BrokerEpoch::new(9)).unwrap();
    drop(directory);
    assert_eq!(open(&storage).unwrap().left_cleanly(), None);
}
