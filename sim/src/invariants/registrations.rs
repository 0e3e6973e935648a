//! I31: a process has one broker epoch, and a broker epoch one process; the epochs of a broker only rise, and it serves only
//! once it has seen its own registration in the metadata.

use std::collections::BTreeMap;

use vltava_broker::state::BrokerState;
use vltava_metadata::{Delta, Image};
use vltava_model::{BrokerEpoch, IncarnationId, NodeId};

use super::{Life, Verdict};

/// See the module.
#[derive(Default)]
pub struct Registrations {
    processes: BTreeMap<(NodeId, BrokerEpoch), IncarnationId>,
    epochs: BTreeMap<(NodeId, IncarnationId), BrokerEpoch>,
    lives: BTreeMap<Life, BrokerEpoch>,
}

impl Registrations {
    /// What changed from one committed state to a later one.
    pub fn step(&mut self, delta: &Delta) -> Verdict {
        for (node, change) in delta.brokers() {
            if let (Some(before), Some(after)) = (change.before(), change.after())
                && after.broker_epoch < before.broker_epoch
            {
                let (from, to) = (before.broker_epoch, after.broker_epoch);
                return Err(format!("I31: the epoch of broker {node} went back from {from} to {to}"));
            }
            if let Some(broker) = change.after() {
                self.belongs(*node, broker.broker_epoch, broker.incarnation)?;
            }
        }
        Ok(())
    }

    /// What a broker says of itself; `image` is what it shows.
    pub fn look(&mut self, life: Life, broker: &BrokerState, image: &Image) -> Verdict {
        let epoch = broker.broker_epoch();
        if epoch == BrokerEpoch::default() {
            return Ok(());
        }
        let node = broker.node_id;
        self.process(life, node, epoch, broker.incarnation)?;
        let known = image.broker(node).map(|broker| broker.broker_epoch);
        if broker.is_active() && known < Some(epoch) {
            return Err(format!(
                "I28, I31: broker {node} serves under epoch {epoch}, its metadata say {known:?}"
            ));
        }
        Ok(())
    }

    fn process(&mut self, life: Life, node: NodeId, epoch: BrokerEpoch, process: IncarnationId) -> Verdict {
        match self.lives.insert(life, epoch) {
            Some(known) if known == epoch => Ok(()),
            None => self.belongs(node, epoch, process),
            Some(known) => Err(format!("I31: the process of broker {node} had epoch {known}, now {epoch}")),
        }
    }

    fn belongs(&mut self, node: NodeId, epoch: BrokerEpoch, process: IncarnationId) -> Verdict {
        let known = *self.processes.entry((node, epoch)).or_insert(process);
        if known != process {
            return Err(format!("I31: epoch {epoch} of broker {node} belongs to two processes"));
        }
        let known = *self.epochs.entry((node, process)).or_insert(epoch);
        if known != epoch {
            return Err(format!("I31: a process of broker {node} has epochs {known} and {epoch}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::HostId;

    #[test]
    fn a_process_with_two_epochs_and_an_epoch_with_two_processes_are_told() {
        let mut registrations = Registrations::default();
        let (node, one, other) = (NodeId::new(11), IncarnationId::new(1), IncarnationId::new(2));
        let (low, high) = (BrokerEpoch::new(5), BrokerEpoch::new(6));
        let life = |start| Life { host: HostId(4), start };
        registrations.process(life(1), node, low, one).unwrap();
        registrations.process(life(1), node, low, one).unwrap();
        registrations.belongs(node, high, other).unwrap();
        for verdict in [
            registrations.process(life(1), node, high, one),
            registrations.process(life(2), node, low, other),
            registrations.belongs(node, BrokerEpoch::new(7), one),
        ] {
            assert!(verdict.unwrap_err().contains("I31"));
        }
    }
}
