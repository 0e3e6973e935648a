//! Which producer ids were given out.

use vltava_model::ProducerId;
use vltava_proto::v1::ProducerIdsRecord;

use crate::error::Fault;

/// The first producer id that nobody has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerIdsImage {
    last: Option<ProducerIdsRecord>,
}

impl ProducerIdsImage {
    /// The first producer id that nobody was given.
    pub fn next(&self) -> ProducerId {
        self.last.as_ref().map_or(ProducerId::ZERO, |record| ProducerId::new(record.next_producer_id))
    }

    /// The last record, for snapshots.
    pub(crate) fn last(&self) -> Option<&ProducerIdsRecord> {
        self.last.as_ref()
    }

    pub(super) fn replay(&mut self, record: &ProducerIdsRecord) -> Result<(), Fault> {
        let (before, after) = (self.next().get(), record.next_producer_id);
        if after <= before {
            return Err(Fault::Epoch { what: "next producer id", of: "the cluster".into(), before, after });
        }
        self.last = Some(*record);
        Ok(())
    }
}
