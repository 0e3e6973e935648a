//! What lies on the disks of a cluster's stopped nodes.

use std::path::PathBuf;

use vltava_history::replicas;

use crate::cluster::Cluster;

/// Holds that all nodes that have a replica have the same batches from the latest log start on; returns how many records
/// they agree on. The nodes must have ended in order.
///
/// # Errors
/// The first difference, or what can't be read.
pub fn compare(cluster: &Cluster, topic_id: &str, partition: u32) -> Result<u64, String> {
    let dirs_of = |id| cluster.log_dirs(id).into_iter().map(move |dir| (id, dir));
    let dirs: Vec<(u32, PathBuf)> = cluster.ids().into_iter().flat_map(dirs_of).collect();
    replicas::compare(&dirs, &format!("{topic_id}-{partition}")).map(|agreed| agreed.records)
}
