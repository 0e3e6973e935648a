//! The first records of a new cluster's log.

use vltava_metadata::record;
use vltava_model::{ClusterId, ErrorCode, MetadataOffset};

use super::{Decision, Refusal, View};

/// The feature that says which records may be written.
pub const METADATA_VERSION: &str = "metadata.version";
/// The level that this version writes, and the highest that it reads.
pub const METADATA_VERSION_LEVEL: u32 = 1;

/// Gives a cluster its identity.
///
/// # Errors
/// When the log is not empty.
pub fn decide(view: &View, cluster: ClusterId) -> Result<Decision<ClusterId>, Refusal> {
    if view.image.offset() != MetadataOffset::ZERO {
        return Err(Refusal::new(ErrorCode::InvalidRequest, "the cluster is formed already"));
    }
    let records = vec![record::cluster(cluster), record::feature(METADATA_VERSION, METADATA_VERSION_LEVEL)];
    Ok(Decision { records, response: cluster })
}
