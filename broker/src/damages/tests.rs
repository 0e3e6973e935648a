//! Tests of what is known of damaged replicas: when it may be deleted, and what the controller is told until when.

use vltava_metadata::{DamagedReplica, record};
use vltava_model::{ClusterId, PartitionIndex, TopicId};

use super::*;

const ME: NodeId = NodeId::new(1);

fn of() -> TopicPartition {
    TopicPartition::new(TopicId::new(7), PartitionIndex::ZERO)
}

/// The partition in these epochs, led by `leader`, with or without this broker's replica among the damaged.
fn partition(
    leader: Option<u32>,
    leader_epoch: u32,
    partition_epoch: u32,
    is_damaged: bool,
) -> PartitionImage {
    let damaged = DamagedReplica { node: ME, what: "a bit".into(), was_eligible: false };
    let leader = leader.map(NodeId::new);
    PartitionImage {
        replicas: vec![ME, NodeId::new(2)],
        isr: leader.into_iter().collect(),
        leader,
        leader_epoch: LeaderEpoch::new(leader_epoch),
        partition_epoch: PartitionEpoch::new(partition_epoch),
        directories: vec![None; 2],
        damaged: if is_damaged { vec![damaged] } else { Vec::new() },
        ..PartitionImage::default()
    }
}

/// An image that went through these states; the first is in epochs 0.
fn image(states: &[PartitionImage]) -> Image {
    let mut image = Image::empty();
    let formed = [record::cluster(ClusterId::new(9)), record::feature("metadata.version", 1)];
    image.apply(image.offset(), &formed).unwrap();
    let first = [record::partition(of(), &states[0]), record::topic(of().topic, "t")];
    image.apply(image.offset(), &first).unwrap();
    for state in &states[1..] {
        image.apply(image.offset(), &[record::partition(of(), state)]).unwrap();
    }
    image
}

fn conditions(damages: &Damages, image: &Image) -> Vec<ReplicaCondition> {
    damages.pending(ME, image).iter().map(|report| report.condition).collect()
}

#[test]
fn nothing_is_deleted_before_a_newer_epoch_names_it_and_another_leads() {
    let damages = Damages::default();
    assert_eq!(damages.verdict(of(), ME, &partition(Some(2), 5, 9, false)), Verdict::Open);
    assert!(damages.found(of(), Some(LeaderEpoch::new(5)), Cause::Damage, "a bit"));
    assert!(!damages.found(of(), Some(LeaderEpoch::new(5)), Cause::Damage, "another bit"), "said once");
    assert_eq!(damages.what(of()).as_deref(), Some("a bit"));
    let cases = [
        (partition(Some(2), 5, 9, false), Verdict::Unrecorded),
        // An earlier damage, in the epoch in which this log was followed.
        (partition(Some(2), 5, 9, true), Verdict::Unrecorded),
        (partition(Some(2), 6, 10, false), Verdict::Unrecorded),
        (partition(None, 6, 10, true), Verdict::Leaderless),
        (partition(Some(2), 6, 10, true), Verdict::BeginAnew),
    ];
    for (state, expected) in cases {
        assert_eq!(damages.verdict(of(), ME, &state), expected, "{state:?}");
    }
    damages.begun_anew(of(), PartitionEpoch::new(10));
    assert_eq!(damages.verdict(of(), ME, &partition(Some(2), 6, 10, true)), Verdict::Open);
    assert_eq!((damages.what(of()), damages.count()), (None, 0));
}

#[test]
fn what_a_later_release_wrote_is_told_of_and_left_alone() {
    let damages = Damages::default();
    assert!(damages.found(of(), Some(LeaderEpoch::new(0)), Cause::NewerFormat, "version 2"));
    let recorded = partition(Some(2), 1, 1, true);
    let states = [partition(Some(1), 0, 0, false), recorded.clone()];
    assert_eq!(conditions(&damages, &image(&states[..1])), [ReplicaCondition::Damaged]);
    assert!(conditions(&damages, &image(&states)).is_empty());
    assert_eq!(damages.verdict(of(), ME, &recorded), Verdict::LeftAlone);
    assert_eq!(damages.what(of()).as_deref(), Some("version 2"));
}

#[test]
fn a_process_that_starts_takes_the_metadatas_word() {
    let damages = Damages::default();
    assert_eq!(damages.verdict(of(), ME, &partition(Some(2), 6, 10, true)), Verdict::BeginAnew);
    assert_eq!(damages.verdict(of(), ME, &partition(None, 6, 10, true)), Verdict::Leaderless);
}

#[test]
fn the_controller_is_told_until_metadata_say_so() {
    let first = partition(Some(1), 0, 0, false);
    let moved = partition(Some(2), 1, 1, false);
    let recorded = partition(Some(2), 2, 2, true);
    let cleared = partition(Some(2), 2, 3, false);
    let at =
        |count: usize| image(&[first.clone(), moved.clone(), recorded.clone(), cleared.clone()][..count]);
    let damages = Damages::default();
    damages.found(of(), Some(LeaderEpoch::new(1)), Cause::Damage, "a bit");
    assert!(conditions(&damages, &at(1)).is_empty(), "metadata that are behind say nothing");
    assert_eq!(conditions(&damages, &at(2)), [ReplicaCondition::Damaged]);
    assert!(conditions(&damages, &at(3)).is_empty());
    damages.begun_anew(of(), PartitionEpoch::new(2));
    assert!(conditions(&damages, &at(2)).is_empty(), "metadata that are behind end nothing");
    assert_eq!(conditions(&damages, &at(3)), [ReplicaCondition::BegunAnew]);
    // Damaged again before the controller knew of the beginning.
    damages.found(of(), Some(LeaderEpoch::new(2)), Cause::Damage, "another bit");
    assert_eq!(conditions(&damages, &at(3)), [ReplicaCondition::Damaged]);
    damages.restored(of(), PartitionEpoch::new(2));
    assert_eq!(conditions(&damages, &at(3)), [ReplicaCondition::Whole]);
    assert!(conditions(&damages, &at(4)).is_empty());
    assert!(lock(&damages.known).is_empty(), "it is over");
}
