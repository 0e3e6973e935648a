//! Tests of elections: each rule by itself, then a model of logs in which no clean leader may lack a committed record.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use vltava_model::{LeaderEpoch, PartitionEpoch};

use super::*;

fn nodes(ids: &[u32]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId::new).collect()
}

fn partition(isr: &[u32], elr: &[u32], leader: Option<u32>) -> PartitionImage {
    PartitionImage {
        replicas: nodes(&[1, 2, 3]),
        isr: nodes(isr),
        elr: nodes(elr),
        leader: leader.map(NodeId::new),
        directories: vec![None; 3],
        ..PartitionImage::default()
    }
}

const SAFE: Rules = Rules { min_insync_replicas: 2, unclean: Unclean::Forbidden };

fn alive(ids: &'static [u32]) -> impl Fn(NodeId) -> bool {
    move |node| ids.contains(&node.get())
}

#[test]
fn a_leader_in_the_isr_stays() {
    let before = partition(&[1, 2, 3], &[], Some(2));
    let after = PartitionChange::of(&before, SAFE, &alive(&[1])).without(NodeId::new(3)).build().unwrap();
    assert_eq!((after.leader, after.isr), (Some(NodeId::new(2)), nodes(&[1, 2])));
    assert_eq!((after.leader_epoch, after.partition_epoch), (LeaderEpoch::ZERO, PartitionEpoch::new(1)));
    assert!(PartitionChange::of(&before, SAFE, &alive(&[1])).build().is_none());
}

#[test]
fn the_first_replica_in_sync_takes_over() {
    let before = partition(&[3, 2, 1], &[], Some(1));
    let after = PartitionChange::of(&before, SAFE, &alive(&[2, 3])).without(NodeId::new(1)).build().unwrap();
    assert_eq!((after.leader, &after.isr), (Some(NodeId::new(2)), &nodes(&[3, 2])));
    assert_eq!((after.leader_epoch, after.partition_epoch), (LeaderEpoch::new(1), PartitionEpoch::new(1)));
    assert!(after.elr.is_empty(), "the ISR is large enough");
}

#[test]
fn who_leaves_a_small_isr_stays_eligible() {
    let may_lead = alive(&[2, 3]);
    let before = partition(&[1, 2], &[], Some(1));
    let one = PartitionChange::of(&before, SAFE, &may_lead).without(NodeId::new(1)).build().unwrap();
    assert_eq!((&one.isr, &one.elr, one.leader), (&nodes(&[2]), &nodes(&[1]), Some(NodeId::new(2))));
    let none = PartitionChange::of(&one, SAFE, &alive(&[3])).without(NodeId::new(2)).build().unwrap();
    assert_eq!((&none.isr, &none.elr, none.leader), (&nodes(&[]), &nodes(&[1, 2]), None));
    assert_eq!(none.last_known_elr, nodes(&[2]), "the last leader is remembered");
    assert_eq!(none.leader_epoch, LeaderEpoch::new(2));

    let back = PartitionChange::of(&none, SAFE, &alive(&[1, 3])).build().unwrap();
    assert_eq!((&back.isr, &back.elr, back.leader), (&nodes(&[1]), &nodes(&[2]), Some(NodeId::new(1))));
    assert_eq!(back.leader_recovery, LeaderRecovery::Recovered);
    let grown = PartitionChange::of(&back, SAFE, &alive(&[1, 3])).with_isr(nodes(&[1, 3])).build().unwrap();
    assert_eq!((&grown.elr, &grown.last_known_elr), (&nodes(&[]), &nodes(&[])));
}

#[test]
fn nobody_eligible_leads_past_an_isr_that_is_not_empty() {
    let before = partition(&[2], &[1], None);
    assert!(PartitionChange::of(&before, SAFE, &alive(&[1])).build().is_none());
}

#[test]
fn nobody_outside_leads_unless_it_may_be_unclean() {
    let before = partition(&[1], &[2], Some(1));
    let outsider = alive(&[3]);
    let after = PartitionChange::of(&before, SAFE, &outsider).without(NodeId::new(1)).build().unwrap();
    assert_eq!((after.leader, &after.elr), (None, &nodes(&[1, 2])));

    let unclean = Rules { unclean: Unclean::Allowed, ..SAFE };
    let after = PartitionChange::of(&after, unclean, &outsider).build().unwrap();
    assert_eq!((after.leader, &after.isr), (Some(NodeId::new(3)), &nodes(&[3])));
    assert_eq!(after.leader_recovery, LeaderRecovery::Recovering);
    assert!(after.elr.is_empty(), "nobody else is eligible beside an unclean leader");
}

#[test]
fn the_last_leader_returns_when_everybody_is_in_doubt() {
    let lost = Doubt::MayLackRecords;
    let nobody = alive(&[]);
    let before = partition(&[1, 2], &[], Some(1));
    let first = PartitionChange::of(&before, SAFE, &nobody).doubting(NodeId::new(2), lost).build().unwrap();
    let second = PartitionChange::of(&first, SAFE, &nobody).doubting(NodeId::new(1), lost).build().unwrap();
    assert_eq!((second.leader, &second.elr, &second.last_known_elr), (None, &nodes(&[]), &nodes(&[1, 2])));
    assert!(
        PartitionChange::of(&second, SAFE, &alive(&[2, 3])).build().is_none(),
        "it waits for the last leader"
    );
    let back = PartitionChange::of(&second, SAFE, &alive(&[1, 2])).build().unwrap();
    assert_eq!((back.leader, back.leader_recovery), (Some(NodeId::new(1)), LeaderRecovery::Recovering));

    let wiped = PartitionChange::of(&second, SAFE, &nobody).doubting(NodeId::new(1), Doubt::IsEmpty);
    let wiped = wiped.build().unwrap();
    assert_eq!(wiped.last_known_elr, nodes(&[2]), "an empty log is never the last resort");
    assert!(PartitionChange::of(&wiped, SAFE, &alive(&[1])).build().is_none());
}

#[test]
fn a_damaged_replica_counts_for_nothing_and_raises_the_epoch() {
    let may_lead = alive(&[1, 2, 3]);
    let before = partition(&[1, 2, 3], &[], Some(1));
    let leader = PartitionChange::of(&before, SAFE, &may_lead).damaged(NodeId::new(1), "a bit".into());
    let leader = leader.build().unwrap();
    assert_eq!((leader.leader, &leader.isr), (Some(NodeId::new(2)), &nodes(&[2, 3])));
    assert!(leader.is_damaged(NodeId::new(1)) && !leader.damaged[0].was_eligible, "it will begin anew");
    let follower = PartitionChange::of(&before, SAFE, &may_lead).damaged(NodeId::new(3), "a bit".into());
    let follower = follower.build().unwrap();
    assert_eq!((follower.leader, &follower.isr), (Some(NodeId::new(1)), &nodes(&[1, 2])));
    assert_eq!(follower.leader_epoch, LeaderEpoch::new(1), "the leader forgets what it was told of it");
    let again = PartitionChange::of(&follower, SAFE, &may_lead).damaged(NodeId::new(3), "a bit".into());
    assert_eq!(again.build().unwrap().leader_epoch, LeaderEpoch::new(2));
    let anew = PartitionChange::of(&follower, SAFE, &may_lead).doubting(NodeId::new(3), Doubt::IsEmpty);
    let anew = anew.build().unwrap();
    assert_eq!((&anew.damaged[..], &anew.emptied, &anew.isr), (&[][..], &nodes(&[3]), &nodes(&[1, 2])));
    let back = PartitionChange::of(&anew, SAFE, &may_lead).with_isr(nodes(&[1, 2, 3])).build().unwrap();
    assert!(back.emptied.is_empty());
}

#[test]
fn nobody_leads_cleanly_in_the_place_of_the_one_that_had_everything() {
    let alone = Rules { min_insync_replicas: 1, ..SAFE };
    let everybody = alive(&[1, 2, 3]);
    // 2 may lack records, and led before; 3 is behind.
    let mut before = partition(&[1], &[], Some(1));
    before.last_known_elr = nodes(&[2]);
    let offline = PartitionChange::of(&before, alone, &everybody).damaged(NodeId::new(1), "a bit".into());
    let offline = offline.build().unwrap();
    assert_eq!((offline.leader, &offline.isr, &offline.elr), (None, &nodes(&[]), &nodes(&[])));
    assert!(offline.damaged[0].was_eligible);
    assert!(PartitionChange::of(&offline, alone, &everybody).build().is_none());

    // The operator has restored it,
    let restored = PartitionChange::of(&offline, alone, &everybody).restored(NodeId::new(1)).build().unwrap();
    assert_eq!(
        (restored.leader, restored.leader_recovery),
        (Some(NodeId::new(1)), LeaderRecovery::Recovered)
    );
    // or gives its records up, after which it does not count any more.
    let unclean = Rules { unclean: Unclean::Allowed, ..alone };
    let given_up = PartitionChange::of(&offline, unclean, &everybody).build().unwrap();
    assert_eq!(
        (given_up.leader, given_up.leader_recovery),
        (Some(NodeId::new(2)), LeaderRecovery::Recovering)
    );
    let late = PartitionChange::of(&given_up, alone, &everybody).restored(NodeId::new(1)).build().unwrap();
    assert!(late.elr.is_empty() && late.isr == nodes(&[2]) && late.damaged.is_empty());

    // The last leader does not return past one that had more: somebody may restore that.
    let mut waiting = partition(&[], &[1], None);
    waiting.last_known_elr = nodes(&[2]);
    let found = PartitionChange::of(&waiting, SAFE, &everybody).damaged(NodeId::new(1), "a bit".into());
    assert_eq!(found.build().unwrap().leader, None);

    // A crash may have cost a damaged one what it had not synced.
    let crashed = PartitionChange::of(&offline, alone, &everybody);
    let crashed = crashed.doubting(NodeId::new(1), Doubt::MayLackRecords).build().unwrap();
    assert!(!crashed.damaged[0].was_eligible);
}

#[test]
fn an_unclean_election_loses_as_little_as_it_can() {
    let unclean = Rules { unclean: Unclean::Allowed, ..SAFE };
    let elected = |image: &PartitionImage, may_lead: &dyn Fn(NodeId) -> bool| {
        PartitionChange::of(image, unclean, may_lead).build().and_then(|after| after.leader).map(NodeId::get)
    };
    let mut image = partition(&[], &[3], None);
    assert_eq!(elected(&image, &alive(&[1, 2, 3])), Some(3), "it has everything, so nothing is lost");
    image.emptied = nodes(&[1]);
    assert_eq!(elected(&image, &alive(&[1, 2])), Some(2), "1 is known to be empty");
    assert_eq!(elected(&image, &alive(&[1])), Some(1), "better than nobody");
    image.emptied.clear();
    assert_eq!(elected(&image, &alive(&[1, 2])), Some(1));
    image.last_known_elr = nodes(&[3, 2]);
    assert_eq!(elected(&image, &alive(&[1, 2])), Some(2), "it was eligible once");
    image.damaged = vec![DamagedReplica { node: NodeId::new(2), what: "a bit".into(), was_eligible: false }];
    assert_eq!(elected(&image, &alive(&[1, 2])), Some(1), "what is damaged is never elected");
    assert_eq!(elected(&image, &alive(&[2])), None);
}

#[test]
fn the_preferred_replica_leads_when_it_is_in_sync() {
    let may_lead = alive(&[1, 2, 3]);
    let before = partition(&[2, 1], &[], Some(2));
    let after = PartitionChange::of(&before, SAFE, &may_lead).preferring_first().build().unwrap();
    assert_eq!((after.leader, after.isr), (Some(NodeId::new(1)), nodes(&[2, 1])));
    let lags = partition(&[2, 3], &[], Some(2));
    assert!(PartitionChange::of(&lags, SAFE, &may_lead).preferring_first().build().is_none());
    let fenced = alive(&[2, 3]);
    assert!(PartitionChange::of(&before, SAFE, &fenced).preferring_first().build().is_none());
}

/// One partition of three replicas with their logs; a record is a number that is never used twice.
struct Model {
    image: PartitionImage,
    rules: Rules,
    synced: bool,
    logs: Vec<Vec<u32>>,
    /// Brokers whose process runs.
    running: Vec<bool>,
    /// Brokers that the image shows as active.
    active: Vec<bool>,
    /// Brokers whose log is damaged, which the image shows.
    damaged: Vec<bool>,
    committed: Vec<u32>,
    next: u32,
}

impl Model {
    fn new(min_insync_replicas: u32, synced: bool) -> Self {
        Self {
            image: PartitionImage {
                replicas: nodes(&[0, 1, 2]),
                isr: nodes(&[0, 1, 2]),
                leader: Some(NodeId::new(0)),
                directories: vec![None; 3],
                ..PartitionImage::default()
            },
            rules: Rules { min_insync_replicas, unclean: Unclean::Forbidden },
            synced,
            logs: vec![Vec::new(); 3],
            running: vec![true; 3],
            active: vec![true; 3],
            damaged: vec![false; 3],
            committed: Vec::new(),
            next: 0,
        }
    }

    /// The leader, if its process runs and knows it.
    fn leader(&self) -> Option<usize> {
        let leader = self.image.leader?.get() as usize;
        (self.running[leader] && self.active[leader]).then_some(leader)
    }

    fn change(&mut self, change: impl FnOnce(PartitionChange) -> PartitionChange) {
        let active = self.active.clone();
        let may_lead = |node: NodeId| active[node.get() as usize];
        let Some(after) = change(PartitionChange::of(&self.image, self.rules, &may_lead)).build() else {
            return;
        };
        assert_eq!(after.contradiction(), None, "{after:?}");
        assert_eq!(after.partition_epoch, self.image.partition_epoch.next());
        let epochs = after.leader_epoch.get() - self.image.leader_epoch.get();
        let found_damaged = after.damaged.len() > self.image.damaged.len();
        let raised = after.leader != self.image.leader || found_damaged;
        assert_eq!(epochs, u32::from(raised), "one leader for each epoch");
        if let Some(leader) = after.leader {
            assert!(after.isr.contains(&leader));
        }
        let elected = after.leader != self.image.leader;
        let unclean = elected && after.leader_recovery == LeaderRecovery::Recovering;
        self.image = after;
        if let (true, Some(leader)) = (unclean, self.leader()) {
            assert!(!self.synced, "nobody is in doubt where everything is synced");
            // What the last resort lacks is lost, which was said aloud.
            let log = &self.logs[leader];
            let kept = self.committed.iter().zip(log).take_while(|(a, b)| a == b).count();
            self.committed.truncate(kept);
            self.image.leader_recovery = LeaderRecovery::Recovered;
        }
    }

    fn step(&mut self, random: &mut StdRng) {
        let node = random.random_range(0..3_usize);
        let id = NodeId::new(node as u32);
        let leader = self.leader();
        match random.random_range(0..12) {
            0 | 1 => {
                if let Some(leader) = leader {
                    self.logs[leader].push(self.next);
                    self.next += 1;
                }
            }
            2 | 3 => {
                if let Some(leader) = leader.filter(|_| self.running[node] && !self.damaged[node]) {
                    self.logs[node] = self.logs[leader].clone();
                }
            }
            4 => self.commit(),
            5 => {
                if leader.is_some_and(|leader| leader != node) {
                    self.change(|change| change.without(id));
                }
            }
            6 => self.expand(node, id),
            7 => {
                if self.running[node] && random.random_ratio(1, 2) {
                    self.crash(node, random);
                }
            }
            8 => self.fence(node, id),
            9 if random.random_ratio(1, 3) => self.damage(node, id),
            10 => self.mend(node, id),
            _ => self.restart(node, id),
        }
        self.check();
    }

    fn commit(&mut self) {
        let enough = self.rules.min_insync_replicas.min(3) as usize;
        let Some(leader) = self.leader().filter(|_| self.image.isr.len() >= enough) else { return };
        let log = &self.logs[leader];
        let members = self.image.isr.iter().map(|node| &self.logs[node.get() as usize]);
        let shared = |other: &Vec<u32>| log.iter().zip(other).take_while(|(a, b)| a == b).count();
        let end = members.map(shared).min().unwrap_or(0);
        if end > self.committed.len() {
            self.committed = log[..end].to_vec();
        }
    }

    /// The leader takes a replica into the ISR that has all that it has.
    fn expand(&mut self, node: usize, id: NodeId) {
        let Some(leader) = self.leader() else { return };
        if !self.active[node]
            || self.damaged[node]
            || self.logs[node] != self.logs[leader]
            || self.image.isr.contains(&id)
        {
            return;
        }
        let mut isr = self.image.isr.clone();
        isr.push(id);
        self.change(|change| change.with_isr(isr));
    }

    fn crash(&mut self, node: usize, random: &mut StdRng) {
        self.running[node] = false;
        if !self.synced {
            let kept = random.random_range(0..=self.logs[node].len());
            self.logs[node].truncate(kept);
        }
    }

    fn damage(&mut self, node: usize, id: NodeId) {
        if self.running[node] && !self.damaged[node] {
            self.damaged[node] = true;
            self.change(|change| change.damaged(id, "a bit".into()));
        }
    }

    /// A damaged replica begins anew where another leads; else somebody restores it.
    fn mend(&mut self, node: usize, id: NodeId) {
        if !self.damaged[node] {
            return;
        }
        self.damaged[node] = false;
        if self.image.leader.is_some() {
            self.logs[node].clear();
            self.change(|change| change.doubting(id, Doubt::IsEmpty));
        } else {
            self.change(|change| change.restored(id));
        }
    }

    fn fence(&mut self, node: usize, id: NodeId) {
        if self.active[node] {
            self.active[node] = false;
            self.change(|change| change.without(id));
        }
    }

    /// A new process registers; a fenced one that runs is let in again.
    fn restart(&mut self, node: usize, id: NodeId) {
        if !self.running[node] {
            self.active[node] = false;
            match self.synced {
                true => self.change(|change| change.without(id)),
                false => self.change(|change| change.doubting(id, Doubt::MayLackRecords)),
            }
            self.running[node] = true;
        } else if !self.active[node] {
            self.active[node] = true;
            if self.image.leader.is_none() {
                self.change(|change| change);
            }
        }
    }

    fn check(&self) {
        if let Some(leader) = self.leader() {
            let log = &self.logs[leader];
            assert!(log.starts_with(&self.committed), "leader {leader} of {:?} lost records", self.image);
        }
    }
}

#[test]
fn no_clean_leader_lacks_a_committed_record() {
    for seed in 0..3_000_u64 {
        let mut random = StdRng::seed_from_u64(seed);
        let min = *[1, 2, 3].choose(&mut random).unwrap();
        let mut model = Model::new(min, seed % 2 == 0);
        for _ in 0..120 {
            model.step(&mut random);
        }
        // Everybody comes back: somebody leads again.
        for node in [0, 1, 2, 0, 1, 2, 0, 1, 2] {
            model.mend(node, NodeId::new(node as u32));
            model.restart(node, NodeId::new(node as u32));
        }
        assert!(model.leader().is_some(), "seed {seed}: {:?}", model.image);
        model.check();
    }
}
