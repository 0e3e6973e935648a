//! Each rule holds where it should and is told when it is broken, one at a time.

use vltava_model::{PartitionIndex, TopicId};

use super::*;
use crate::host::HostId;

const OF: TopicPartition = TopicPartition { topic: TopicId::new(7), partition: PartitionIndex::new(0) };

fn view(role: Role, high_watermark: u64, log_end: u64, durable_end: u64) -> View {
    View {
        role,
        log_start: Offset::ZERO,
        high_watermark: Offset::new(high_watermark),
        log_end: Offset::new(log_end),
        durable_end: Offset::new(durable_end),
    }
}

fn leads(epoch: u32, start: u64) -> Role {
    Role::Leads { epoch: LeaderEpoch::new(epoch), start: Offset::new(start) }
}

fn image(leader: u32, epoch: u32, isr: &[u32]) -> PartitionImage {
    PartitionImage {
        replicas: [1, 2, 3].map(NodeId::new).to_vec(),
        isr: isr.iter().copied().map(NodeId::new).collect(),
        leader: Some(NodeId::new(leader)),
        leader_epoch: LeaderEpoch::new(epoch),
        ..PartitionImage::default()
    }
}

/// Broker 1 leads in epoch 1 with ten records, all of them committed, and 2 and 3 are in sync.
struct Cluster {
    replicas: Replicas,
    image: PartitionImage,
    starts: u32,
}

impl Cluster {
    fn new() -> Self {
        let mut cluster =
            Self { replicas: Replicas::new(Shown::default()), image: image(1, 1, &[1, 2, 3]), starts: 1 };
        for node in [2, 3] {
            cluster.see(node, view(Role::Follows, 8, 10, 10)).unwrap();
        }
        cluster.see(1, view(leads(1, 0), 10, 10, 10)).unwrap();
        cluster
    }

    fn see(&mut self, node: u32, view: View) -> Verdict {
        let life = Life { host: HostId(node.into()), start: self.starts };
        let (node, image) = (NodeId::new(node), Some(&self.image));
        self.replicas.see(&Look { life, trust: Trust::Whole, node, of: OF, view, image, min_isr: 2 })
    }

    fn elect(&mut self, leader: u32, epoch: u32, isr: &[u32]) {
        self.image = image(leader, epoch, isr);
    }
}

fn told(verdict: Verdict, rule: &str) {
    let violation = verdict.unwrap_err();
    assert!(violation.starts_with(rule), "{violation}");
}

#[test]
fn a_watermark_above_the_storage_of_a_member_is_told() {
    let mut cluster = Cluster::new();
    cluster.see(1, view(leads(1, 0), 10, 15, 15)).unwrap();
    cluster.see(2, view(Role::Follows, 8, 15, 12)).unwrap();
    cluster.see(3, view(Role::Follows, 8, 15, 15)).unwrap();
    told(cluster.see(1, view(leads(1, 0), 13, 15, 15)), "I2, I5");
    cluster.see(1, view(leads(1, 0), 15, 15, 15)).unwrap_err();
    cluster.elect(1, 1, &[1, 3]);
    cluster.see(1, view(leads(1, 0), 15, 16, 15)).unwrap();
}

#[test]
fn a_watermark_above_the_leader_s_own_storage_or_that_of_too_few_is_told() {
    let mut cluster = Cluster::new();
    cluster.see(1, view(leads(1, 0), 10, 15, 12)).unwrap();
    for node in [2, 3] {
        cluster.see(node, view(Role::Follows, 8, 15, 15)).unwrap();
    }
    told(cluster.see(1, view(leads(1, 0), 13, 15, 12)), "I2, I5");
    let mut cluster = Cluster::new();
    cluster.elect(1, 1, &[1]);
    told(cluster.see(1, view(leads(1, 0), 12, 12, 12)), "I10");
}

#[test]
fn what_goes_back_within_a_process_is_told() {
    told(Cluster::new().see(2, view(Role::Follows, 7, 10, 10)), "I4, I6");
    told(Cluster::new().see(1, view(leads(1, 0), 9, 10, 10)), "I4, I6");
    told(Cluster::new().see(2, view(Role::Follows, 8, 10, 11)), "I4");
    let mut cluster = Cluster::new();
    cluster.see(1, view(leads(1, 0), 10, 12, 12)).unwrap();
    told(cluster.see(1, view(leads(1, 0), 10, 11, 11)), "I1");
    cluster.see(2, view(Role::Follows, 8, 9, 9)).unwrap();
}

#[test]
fn what_was_durable_and_is_gone_after_a_crash_is_told() {
    let mut cluster = Cluster::new();
    cluster.starts = 2;
    told(cluster.see(1, view(Role::Follows, 0, 9, 9)), "I10");
    let mut cluster = Cluster::new();
    cluster.starts = 2;
    cluster.see(2, view(Role::Follows, 0, 8, 8)).unwrap();
    told(cluster.see(3, view(Role::Follows, 0, 7, 7)), "I10");
    let mut cluster = Cluster::new();
    cluster.starts = 2;
    cluster.image.emptied = vec![NodeId::new(3)];
    cluster.see(3, view(Role::Follows, 0, 0, 0)).unwrap();
}

#[test]
fn a_leader_without_what_was_committed_or_told_to_clients_is_told() {
    let mut cluster = Cluster::new();
    cluster.elect(2, 2, &[2, 3]);
    cluster.see(2, view(leads(2, 10), 8, 10, 10)).unwrap();
    told(cluster.see(2, view(leads(2, 8), 9, 10, 10)), "I4");
    let mut cluster = Cluster::new();
    cluster.elect(2, 2, &[2, 3]);
    told(cluster.see(2, view(leads(2, 9), 8, 9, 9)), "P1");
    let mut cluster = Cluster::new();
    cluster.replicas.shown.show(OF, Offset::new(11));
    cluster.elect(2, 2, &[2, 3]);
    told(cluster.see(2, view(leads(2, 10), 10, 10, 10)), "P1");
    let mut zombie = Cluster::new();
    zombie.elect(2, 2, &[2, 3]);
    zombie.replicas.shown.show(OF, Offset::new(11));
    zombie.see(1, view(leads(1, 0), 10, 11, 11)).unwrap();
}

#[test]
fn what_was_committed_before_need_not_be_counted_again_and_what_comes_after_is() {
    let mut cluster = Cluster::new();
    cluster.see(2, view(Role::Follows, 10, 10, 10)).unwrap();
    cluster.starts = 2;
    cluster.image.emptied = vec![NodeId::new(1), NodeId::new(3)];
    for given_up in [1, 3] {
        cluster.see(given_up, view(Role::Follows, 0, 0, 0)).unwrap();
    }
    cluster.elect(2, 2, &[2]);
    cluster.see(2, view(leads(2, 10), 10, 12, 12)).unwrap();
    told(cluster.see(2, view(leads(2, 10), 12, 12, 12)), "I10");
}

#[test]
fn who_joins_with_less_than_is_committed_is_told() {
    let mut cluster = Cluster::new();
    cluster.see(3, view(Role::Follows, 8, 10, 9)).unwrap();
    let joins =
        |cluster: &Cluster, isr: &[u32]| cluster.replicas.joins(OF, &image(1, 1, &[1, 2]), &image(1, 1, isr));
    told(joins(&cluster, &[1, 2, 3]), "I9");
    joins(&cluster, &[1, 2]).unwrap();
    cluster.see(3, view(Role::Follows, 8, 10, 10)).unwrap();
    joins(&cluster, &[1, 2, 3]).unwrap();
}
