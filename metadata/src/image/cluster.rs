//! The cluster's identity.

use vltava_model::ClusterId;
use vltava_proto::v1::ClusterRecord;

use super::convert::identity;
use crate::error::Fault;

/// Which cluster this is; nothing before the first record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterImage {
    id: Option<ClusterId>,
}

impl ClusterImage {
    /// The cluster's id.
    pub fn id(&self) -> Option<ClusterId> {
        self.id
    }

    pub(super) fn replay(&mut self, record: &ClusterRecord) -> Result<(), Fault> {
        let id = identity(&record.cluster_id, "cluster id", ClusterId::from_slice)?;
        match self.id {
            Some(known) => Err(Fault::Exists(format!("cluster id {known}"))),
            None => {
                self.id = Some(id);
                Ok(())
            }
        }
    }
}
