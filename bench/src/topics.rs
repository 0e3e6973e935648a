//! Topics: made, waited for, and their ends held against what was acknowledged.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use vltava_client::{Admin, Client};
use vltava_model::NodeId;
use vltava_proto::v1::{
    ListOffsetsRequest, NewTopic, OffsetQuery, ReplicaAssignment, TopicMetadata, offset_query,
};

use crate::Fallible;
use crate::cluster::PATIENCE;

/// A topic as all rows use it: three replicas of which two must be in sync.
pub fn replicated(name: &str, partitions: u32) -> NewTopic {
    NewTopic {
        name: name.to_owned(),
        partition_count: partitions,
        replication_factor: 3,
        configs: HashMap::from([("min.insync.replicas".to_owned(), "2".to_owned())]),
        assignments: Vec::new(),
    }
}

/// The same with one partition, led by `leader`.
pub fn led_by(name: &str, leader: u32, all: &[u32]) -> NewTopic {
    let others = all.iter().copied().filter(|id| *id != leader);
    let brokers = std::iter::once(leader).chain(others).collect();
    NewTopic {
        partition_count: 0,
        replication_factor: 0,
        assignments: vec![ReplicaAssignment { brokers }],
        ..replicated(name, 1)
    }
}

/// Creates a topic and waits until all of it serves with all replicas in sync.
///
/// # Errors
/// When that fails or takes too long.
pub fn create(runtime: &Runtime, servers: &str, topic: NewTopic) -> Fallible<()> {
    runtime.block_on(async {
        let client = Client::connect(servers)?;
        let name = topic.name.clone();
        Admin::new(client.clone()).create_topic(topic).await?;
        all_in_sync(&client, &name).await?;
        all_ends(&client, &name).await?;
        Ok(())
    })
}

/// Waits until every replica of a topic is in sync.
///
/// # Errors
/// When that takes too long.
pub async fn all_in_sync(client: &Client, topic: &str) -> Fallible<()> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        // A cluster in trouble may not answer; the next attempt asks again.
        if let Ok(metadata) = client.refresh_topic(topic).await
            && metadata.partitions.iter().all(|partition| partition.isr.len() == partition.replicas.len())
        {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err(format!("not all replicas of {topic} are in sync after {PATIENCE:?}").into())
}

/// The latest offset of each partition, asked of the leaders until all have answered.
///
/// # Errors
/// When that takes too long.
pub async fn all_ends(client: &Client, topic: &str) -> Fallible<BTreeMap<u32, u64>> {
    let deadline = Instant::now() + PATIENCE;
    let (mut ends, mut count) = (BTreeMap::new(), None);
    while Instant::now() < deadline {
        if let Ok(metadata) = client.refresh_topic(topic).await {
            count = Some(metadata.partitions.len());
            for (leader, partitions) in missing(&metadata, &ends) {
                ask(client, topic, leader, partitions, &mut ends).await;
            }
        }
        if count == Some(ends.len()) {
            return Ok(ends);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Err(format!("{} of {count:?} partitions of {topic} serve after {PATIENCE:?}", ends.len()).into())
}

fn missing(metadata: &TopicMetadata, ends: &BTreeMap<u32, u64>) -> BTreeMap<u32, Vec<u32>> {
    let mut by_leader: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for partition in metadata.partitions.iter().filter(|known| !ends.contains_key(&known.partition)) {
        if let Some(leader) = partition.leader {
            by_leader.entry(leader).or_default().push(partition.partition);
        }
    }
    by_leader
}

/// Asks one leader; who does not answer is asked again by the caller.
async fn ask(client: &Client, topic: &str, leader: u32, partitions: Vec<u32>, ends: &mut BTreeMap<u32, u64>) {
    let address = client.broker_address(NodeId::new(leader));
    let Some(Ok(mut log)) = address.map(|address| client.log(&address)) else { return };
    let at = Some(offset_query::At::Latest(true));
    let queries = partitions.into_iter().map(|partition| OffsetQuery { partition, at }).collect();
    let request = ListOffsetsRequest { topic: topic.to_owned(), partitions: queries, ..Default::default() };
    let Ok(Ok(answer)) = tokio::time::timeout(Duration::from_secs(5), log.list_offsets(request)).await else {
        return;
    };
    for answer in answer.into_inner().partitions {
        if let (None, Some(offset)) = (answer.error, answer.offset) {
            ends.insert(answer.partition, offset);
        }
    }
}

/// Holds that a topic has exactly as many records as were acknowledged.
///
/// # Errors
/// When it has not.
pub fn verify(runtime: &Runtime, servers: &str, topic: &str, acked: u64) -> Fallible<()> {
    let ends = runtime.block_on(async { all_ends(&Client::connect(servers)?, topic).await })?;
    match ends.values().sum::<u64>() {
        found if found == acked => Ok(()),
        found => Err(format!("{topic} has {found} records, {acked} were acknowledged").into()),
    }
}
