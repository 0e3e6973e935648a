//! Where the replicas of new partitions go. Pure: the brokers, what they carry already and a random source are arguments.
//!
//! Each partition's replicas lie on distinct brokers, in as many racks as there are; within that, a topic's replicas and
//! leaders are spread evenly over the brokers, and what the cluster carries already breaks ties. Brokers that cannot serve
//! now are used only where too few others are, and never lead. Ties are broken at random, anew for each round over the
//! brokers, so that no two brokers share all their partitions.

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use vltava_model::NodeId;

/// A broker that may be given replicas.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// `node.id`.
    pub node: NodeId,
    /// `broker.rack`; brokers without one share a rack without a name.
    pub rack: Option<String>,
    /// Whether it can serve now.
    pub standing: Standing,
    /// How many replicas it carries already.
    pub replicas: usize,
    /// How many partitions it leads already.
    pub leaders: usize,
}

/// Whether a broker can serve.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Standing {
    /// It may lead and follow.
    Active,
    /// It is registered, but fenced or shutting down.
    Away,
}

/// Why replicas cannot be placed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PlacementError {
    /// A partition has at least one replica.
    #[error("the replication factor must be at least 1")]
    NoReplicas,
    /// More replicas than brokers.
    #[error("the replication factor is {wanted}, but only {registered} brokers are registered")]
    TooFewBrokers {
        /// Replicas of each partition.
        wanted: usize,
        /// Brokers.
        registered: usize,
    },
    /// Nobody could lead.
    #[error("no broker is active")]
    NobodyActive,
}

/// What one broker was given in this run.
#[derive(Clone)]
struct Load {
    rack: usize,
    topic_replicas: usize,
    topic_leaders: usize,
    rank: usize,
}

/// Places the replicas of new partitions, one topic after another.
pub struct Placement {
    candidates: Vec<Candidate>,
    loads: Vec<Load>,
    racks: usize,
    random: StdRng,
}

impl Placement {
    /// Begins with what the cluster carries.
    pub fn new(candidates: Vec<Candidate>, random: StdRng) -> Self {
        let mut names: Vec<_> = candidates.iter().map(|candidate| &candidate.rack).collect();
        names.sort();
        names.dedup();
        let rack = |candidate: &Candidate| {
            names.binary_search(&&candidate.rack).expect("every candidate's rack was collected")
        };
        let load = |candidate| Load { rack: rack(candidate), topic_replicas: 0, topic_leaders: 0, rank: 0 };
        let loads = candidates.iter().map(load).collect();
        Self { loads, racks: names.len(), candidates, random }
    }

    /// Begins another topic: evenness counts from here. Partitions that the topic has already are given as `existing`.
    pub fn begin_topic<'a>(&mut self, existing: impl IntoIterator<Item = &'a [NodeId]>) {
        for load in &mut self.loads {
            load.topic_replicas = 0;
            load.topic_leaders = 0;
        }
        for replicas in existing {
            for (position, node) in replicas.iter().enumerate() {
                if let Some(at) = self.candidates.iter().position(|candidate| candidate.node == *node) {
                    self.loads[at].topic_replicas += 1;
                    self.loads[at].topic_leaders += usize::from(position == 0);
                }
            }
        }
    }

    /// Places `partitions` partitions of the topic, each with the preferred leader first.
    ///
    /// # Errors
    /// When there are not enough brokers.
    pub fn place(
        &mut self,
        partitions: u32,
        replication_factor: u32,
    ) -> Result<Vec<Vec<NodeId>>, PlacementError> {
        let wanted = usize::try_from(replication_factor).unwrap_or(usize::MAX);
        let registered = self.candidates.len();
        if wanted == 0 {
            return Err(PlacementError::NoReplicas);
        }
        if wanted > registered {
            return Err(PlacementError::TooFewBrokers { wanted, registered });
        }
        if self.candidates.iter().all(|candidate| candidate.standing == Standing::Away) {
            return Err(PlacementError::NobodyActive);
        }
        let round = u32::try_from(registered).unwrap_or(u32::MAX);
        let mut placed = Vec::new();
        for partition in 0..partitions {
            if partition % round == 0 {
                self.shuffle_ranks();
            }
            placed.push(self.place_one(wanted));
        }
        Ok(placed)
    }

    fn shuffle_ranks(&mut self) {
        let mut ranks: Vec<usize> = (0..self.loads.len()).collect();
        ranks.shuffle(&mut self.random);
        for (load, rank) in self.loads.iter_mut().zip(ranks) {
            load.rank = rank;
        }
    }

    fn place_one(&mut self, wanted: usize) -> Vec<NodeId> {
        let leader = self.best(|at| {
            let (candidate, load) = (&self.candidates[at], &self.loads[at]);
            (candidate.standing, load.topic_leaders, load.topic_replicas, candidate.leaders, load.rank)
        });
        let mut chosen = vec![leader];
        let mut in_rack = vec![0_usize; self.racks];
        in_rack[self.loads[leader].rack] += 1;
        while chosen.len() < wanted {
            let follower = self.best(|at| {
                let (candidate, load) = (&self.candidates[at], &self.loads[at]);
                let taken = chosen.contains(&at);
                let spread = (taken, in_rack[load.rack], candidate.standing);
                (spread, load.topic_replicas, candidate.replicas, load.rank)
            });
            in_rack[self.loads[follower].rack] += 1;
            chosen.push(follower);
        }
        self.loads[leader].topic_leaders += 1;
        self.candidates[leader].leaders += 1;
        for at in &chosen {
            self.loads[*at].topic_replicas += 1;
            self.candidates[*at].replicas += 1;
        }
        chosen.into_iter().map(|at| self.candidates[at].node).collect()
    }

    /// The position with the smallest key; ranks make keys distinct.
    fn best<K: Ord>(&self, key: impl Fn(usize) -> K) -> usize {
        (0..self.candidates.len()).min_by_key(|at| key(*at)).expect("place() checked that there are brokers")
    }
}

#[cfg(test)]
mod tests;
