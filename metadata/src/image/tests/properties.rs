//! Properties over random valid logs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use prost::Message;
use vltava_model::{NodeId, TopicPartition};
use vltava_proto::v1::MetadataRecord;

use super::generate::{NODES, Source, records};
use crate::delta::Delta;
use crate::image::{ConfigTarget, Image, PartitionImage};

fn same_every_run() -> Config {
    Config { cases: 60, rng_seed: RngSeed::Fixed(0x5eed), failure_persistence: None, ..Config::default() }
}

/// A log in entries, as the generator makes it for the image that it leads to.
fn log(seed: u64, entries: usize) -> Vec<Vec<MetadataRecord>> {
    let mut source = Source(seed);
    let mut image = Image::empty();
    let mut log = Vec::new();
    while log.len() < entries {
        let mut entry = Vec::new();
        for _ in 0..=source.below(3) {
            let more = records(&image, &mut source);
            image.apply(image.offset(), &more).unwrap();
            entry.extend(more);
        }
        log.push(entry);
    }
    log
}

/// What one broker holds, kept by local changes alone.
#[derive(Default, PartialEq, Debug)]
struct Mirror {
    held: BTreeMap<TopicPartition, Arc<PartitionImage>>,
}

impl Mirror {
    fn follow(&mut self, delta: &Delta, node: NodeId) {
        let changes = delta.local_changes(node);
        for topic in &changes.deleted {
            assert_eq!(delta.before().topic(topic.id).map(|it| &it.name), Some(&topic.name));
            for of in &topic.partitions {
                assert!(self.held.remove(of).is_some(), "{of} was not held");
            }
        }
        for closed in &changes.closed {
            assert_eq!(self.held.remove(&closed.partition), Some(closed.before.clone()));
        }
        for (local, leads) in
            changes.followers.iter().map(|it| (it, false)).chain(changes.leaders.iter().map(|it| (it, true)))
        {
            assert_eq!(local.after.leader == Some(node), leads);
            let before = self.held.insert(local.partition, local.after.clone());
            assert_eq!(before, local.before, "{}", local.partition);
        }
        for id in &changes.reconfigured {
            let topic = delta.after().topic(*id).unwrap();
            assert!(topic.partitions().any(|(_, it)| it.has_replica(node)));
        }
    }

    fn of(image: &Image, node: NodeId) -> Self {
        let held = image.partitions().filter(|(_, it)| it.has_replica(node));
        Self { held: held.map(|(of, it)| (of, it.clone())).collect() }
    }
}

/// Compares a delta with two images, thing by thing.
fn check_delta(delta: &Delta) {
    let (before, after) = (delta.before(), delta.after());
    let of =
        |image: &Image| -> BTreeMap<_, _> { image.partitions().map(|(of, it)| (of, it.clone())).collect() };
    let (old, new) = (of(before), of(after));
    for key in old.keys().chain(new.keys()) {
        let change = delta.partitions().get(key);
        assert_eq!(change.is_some(), old.get(key) != new.get(key), "{key}");
        if let Some(change) = change {
            assert_eq!((change.before(), change.after()), (old.get(key), new.get(key)));
        }
    }
    assert!(delta.partitions().keys().all(|key| old.contains_key(key) || new.contains_key(key)));
    for topic in before.topics().chain(after.topics()) {
        let lives = before.topic(topic.id).is_some() && after.topic(topic.id).is_some();
        assert_eq!(delta.topics().contains_key(&topic.id), !lives);
    }
    for node in (0..NODES as u32).map(NodeId::new) {
        assert_eq!(delta.brokers().contains_key(&node), before.broker(node) != after.broker(node));
        let target = ConfigTarget::Broker(node);
        assert_eq!(delta.configs().contains(&target), configs(before, &target) != configs(after, &target));
    }
    for target in before.configs().targets().chain(after.configs().targets()) {
        assert_eq!(delta.configs().contains(target), configs(before, target) != configs(after, target));
    }
}

fn configs(image: &Image, target: &ConfigTarget) -> Vec<(String, String)> {
    image.configs().of(target).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Compares the sets that are kept with the partitions.
fn check_index(image: &Image) {
    let filtered = |keep: &dyn Fn(&PartitionImage) -> bool| -> BTreeSet<TopicPartition> {
        image.partitions().filter(|(_, it)| keep(it)).map(|(of, _)| of).collect()
    };
    for node in (0..NODES as u32).map(NodeId::new) {
        let held = filtered(&|it| it.has_replica(node));
        assert_eq!(image.replica_count(node), held.len());
        assert_eq!(image.partitions_on(node).collect::<BTreeSet<_>>(), held);
        let led = filtered(&|it| it.leader == Some(node));
        assert_eq!(image.leader_count(node), led.len());
        assert_eq!(image.partitions_led_by(node).collect::<BTreeSet<_>>(), led);
    }
    assert_eq!(image.leaderless_partitions().collect::<BTreeSet<_>>(), filtered(&|it| it.leader.is_none()));
    let displaced = filtered(&|it| it.leader.is_some() && it.leader != it.replicas.first().copied());
    assert_eq!(image.displaced_partitions().collect::<BTreeSet<_>>(), displaced);
    assert_eq!(image.partition_count(), image.partitions().count());
    for topic in image.topics() {
        assert_eq!(image.topic_named(&topic.name), Some(topic));
    }
}

proptest! {
    #![proptest_config(same_every_run())]

    #[test]
    fn deltas_and_indexes_tell_what_changed(seed: u64) {
        let mut image = Image::empty();
        let mut mirrors: Vec<_> = (0..NODES as u32).map(|node| (NodeId::new(node), Mirror::default())).collect();
        for entry in log(seed, 60) {
            let before = image.clone();
            let delta = image.apply(image.offset(), &entry).unwrap();
            prop_assert_eq!(delta.before(), &before);
            prop_assert_eq!(delta.after(), &image);
            prop_assert_eq!(&delta, &Delta::between(before, image.clone()));
            check_delta(&delta);
            check_index(&image);
            for (node, mirror) in &mut mirrors {
                mirror.follow(&delta, *node);
                prop_assert_eq!(&*mirror, &Mirror::of(&image, *node));
            }
        }
    }

    #[test]
    fn a_snapshot_and_the_tail_are_the_whole_log(seed: u64, cut in 0..60_usize) {
        let entries = log(seed, 60);
        let mut whole = Image::empty();
        let mut at_cut = Image::empty();
        for (i, entry) in entries.iter().enumerate() {
            if i == cut {
                at_cut = whole.clone();
            }
            whole.apply(whole.offset(), entry).unwrap();
        }
        let snapshot = at_cut.to_snapshot();
        let mut rebuilt = Image::from_snapshot(&snapshot).unwrap();
        prop_assert_eq!(&rebuilt, &at_cut);
        prop_assert_eq!(rebuilt.to_snapshot().encode_to_vec(), snapshot.encode_to_vec());
        rebuilt.apply(rebuilt.offset(), &entries[cut..].concat()).unwrap();
        prop_assert_eq!(&rebuilt, &whole);
        prop_assert_eq!(rebuilt.to_snapshot().encode_to_vec(), whole.to_snapshot().encode_to_vec());
    }

    #[test]
    fn a_snapshot_over_a_state_removes_what_it_lacks(seed: u64, cut in 0..60_usize) {
        let entries = log(seed, 60);
        let mut behind = Image::empty();
        for entry in &entries[..cut] {
            behind.apply(behind.offset(), entry).unwrap();
        }
        let mut whole = behind.clone();
        for entry in &entries[cut..] {
            whole.apply(whole.offset(), entry).unwrap();
        }
        let mut mirrors: Vec<_> =
            (0..NODES as u32).map(NodeId::new).map(|node| (node, Mirror::of(&behind, node))).collect();
        let delta = behind.load_snapshot(&whole.to_snapshot()).unwrap();
        prop_assert_eq!(&behind, &whole);
        check_delta(&delta);
        check_index(&behind);
        for (node, mirror) in &mut mirrors {
            mirror.follow(&delta, *node);
            prop_assert_eq!(&*mirror, &Mirror::of(&whole, *node));
        }
    }

    #[test]
    fn any_bytes_are_refused_or_replayed(entry: Vec<u8>, seed: u64) {
        let mut image = Image::empty();
        for entry in log(seed, 5) {
            image.apply(image.offset(), &entry).unwrap();
        }
        if let Ok(record) = MetadataRecord::decode(&entry[..]) {
            let before = image.clone();
            if image.apply(image.offset(), &[record]).is_err() {
                prop_assert_eq!(image, before);
            }
        }
    }
}
