//! What this program sees of the cluster: leaders, in-sync replicas, the controllers. Through the same network as clients,
//! so it may see nothing, or something old; it never waits long.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use vltava_client::{Admin, Client, ClientError};
use vltava_model::{PartitionIndex, TopicId};
use vltava_proto::v1::{DescribeQuorumResponse, RemoveVoterRequest};

/// How long any question may take.
const LIMIT: Duration = Duration::from_secs(3);
/// How long a change of the quorum may take.
const CHANGE_LIMIT: Duration = Duration::from_secs(20);

/// A partition as the newest metadata has it that was seen.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The topic's name.
    pub topic: String,
    /// The topic's id.
    pub id: TopicId,
    /// Which partition.
    pub index: PartitionIndex,
    /// Who leads it.
    pub leader: Option<u32>,
    /// Who holds it.
    pub replicas: Vec<u32>,
    /// Who is in sync.
    pub isr: Vec<u32>,
}

impl Seen {
    /// Whether every replica is in sync and one of them leads.
    pub fn is_whole(&self) -> bool {
        self.leader.is_some() && self.isr.len() == self.replicas.len()
    }
}

/// See the module. Cloning it shares what it knows.
#[derive(Clone)]
pub struct Eyes {
    runtime: Handle,
    client: Client,
    admin: Admin,
    /// The newest metadata seen so far, by how many records it is made of.
    newest: Arc<AtomicU64>,
}

impl Eyes {
    /// Eyes that look through these brokers.
    ///
    /// # Errors
    /// When an address is none.
    pub fn new(runtime: Handle, servers: &str) -> Result<Self, ClientError> {
        let _inside = runtime.enter();
        let client = Client::connect(servers)?;
        let newest = Arc::default();
        Ok(Self { admin: Admin::new(client.clone()), client, runtime: runtime.clone(), newest })
    }

    fn ask<T>(
        &self,
        limit: Duration,
        question: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, String> {
        match self.runtime.block_on(async { tokio::time::timeout(limit, question).await }) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {limit:?}")),
        }
    }

    /// All partitions: at least one.
    ///
    /// # Errors
    /// When no broker answers, or only such that know less than was seen before.
    pub fn partitions(&self) -> Result<Vec<Seen>, String> {
        let metadata = self.ask(LIMIT, self.client.refresh(&[]))?;
        let newest = self.newest.fetch_max(metadata.metadata_offset, Ordering::SeqCst);
        if metadata.metadata_offset < newest || metadata.topics.is_empty() {
            return Err(format!(
                "only metadata {} is to be had, {newest} was seen",
                metadata.metadata_offset
            ));
        }
        let mut found = Vec::new();
        for topic in metadata.topics.into_iter().filter(|topic| topic.error.is_none()) {
            let Some(id) = TopicId::from_slice(&topic.topic_id) else { continue };
            found.extend(topic.partitions.into_iter().map(|partition| Seen {
                topic: topic.name.clone(),
                id,
                index: PartitionIndex::new(partition.partition),
                leader: partition.leader,
                replicas: partition.replicas,
                isr: partition.isr,
            }));
        }
        Ok(found)
    }

    /// How many partitions each node leads, as far as can be seen.
    pub fn leaderships(&self) -> BTreeMap<u32, Vec<Seen>> {
        let mut by_leader: BTreeMap<u32, Vec<Seen>> = BTreeMap::new();
        for partition in self.partitions().unwrap_or_default() {
            if let Some(leader) = partition.leader {
                by_leader.entry(leader).or_default().push(partition);
            }
        }
        by_leader
    }

    /// The quorum.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn quorum(&self) -> Result<DescribeQuorumResponse, String> {
        self.ask(LIMIT, self.admin.describe_quorum())
    }

    /// Who is the active controller, if that can be seen.
    pub fn controller(&self) -> Option<u32> {
        self.quorum().ok()?.leader_id
    }

    /// Takes the vote from a controller's old disk.
    ///
    /// # Errors
    /// When it is refused, or nobody answers.
    pub fn remove_voter(&self, node: u32, directory: &[u8]) -> Result<(), String> {
        let request = RemoveVoterRequest { node_id: node, directory_id: directory.to_vec().into() };
        self.ask(CHANGE_LIMIT, self.admin.remove_voter(request)).map(drop)
    }

    /// Gives a controller a vote.
    ///
    /// # Errors
    /// When it is refused, or nobody answers.
    pub fn add_voter(&self, node: u32, address: &str) -> Result<(), String> {
        self.ask(CHANGE_LIMIT, self.admin.add_voter(node, address)).map(drop)
    }
}
