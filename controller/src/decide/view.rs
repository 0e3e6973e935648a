//! What a decision may look at.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use vltava_metadata::{BrokerState, Image, PartitionImage};
use vltava_model::configs::ClusterConfig;
use vltava_model::{BrokerEpoch, ErrorCode, NodeId};

use super::Refusal;
use crate::liveness::Liveness;

/// What the config file and the code say about decisions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The defaults of topics and of the cluster that the config file sets, by the names that they have on brokers.
    pub file: BTreeMap<String, String>,
    /// How many partitions one request may create.
    pub max_partitions_per_request: u32,
    /// How many leaderships one round of rebalancing may move.
    pub max_leader_moves: usize,
    /// How many producer ids a broker is given at once.
    pub producer_id_block: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            file: BTreeMap::new(),
            max_partitions_per_request: 10_000,
            max_leader_moves: 1_000,
            producer_id_block: 1_000,
        }
    }
}

impl Settings {
    /// A value of the config file.
    pub(super) fn in_file(&self, name: &str) -> Option<&str> {
        self.file.get(name).map(String::as_str)
    }
}

/// What a decision may look at: it knows nothing else.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The committed state and what was decided in this round before.
    pub image: &'a Image,
    /// The config file.
    pub settings: &'a Settings,
    /// Who is alive.
    pub liveness: &'a Liveness,
    /// The time of the liveness table.
    pub now: Duration,
    /// Fresh randomness, another for each decision.
    pub seed: [u8; 32],
}

impl View<'_> {
    /// A random source for this decision.
    pub(super) fn random(&self) -> StdRng {
        StdRng::from_seed(self.seed)
    }

    /// The cluster's configs. A value that this version does not understand leaves the defaults.
    pub(super) fn cluster_config(&self) -> ClusterConfig {
        self.image.cluster_config(&|name| self.settings.in_file(name)).unwrap_or_default()
    }

    /// Whether a broker's replica of a partition may be elected or join an ISR.
    pub(super) fn may_lead(&self, node: NodeId, partition: &PartitionImage) -> bool {
        self.image.broker(node).is_some_and(|broker| {
            broker.state == BrokerState::Active && broker.serves_directory(partition.directory_of(node))
        })
    }

    /// Refuses a request of a broker that is not registered under this epoch (any more).
    pub(super) fn check_epoch(&self, node: NodeId, epoch: BrokerEpoch) -> Result<(), Refusal> {
        match self.image.broker(node) {
            Some(broker) if broker.broker_epoch == epoch => Ok(()),
            Some(broker) => Err(Refusal::new(
                ErrorCode::StaleBrokerEpoch,
                format!("broker {node} is registered with epoch {}, not {epoch}", broker.broker_epoch),
            )),
            None => Err(Refusal::new(
                ErrorCode::StaleBrokerEpoch,
                format!("broker {node} is not registered (any more)"),
            )),
        }
    }
}
