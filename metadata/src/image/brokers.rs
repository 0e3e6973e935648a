//! Brokers: who is registered, where, and what each may do.

use std::sync::Arc;

use imbl::OrdMap;
use vltava_model::{BrokerEpoch, DirectoryId, IncarnationId, NodeId};
use vltava_proto::v1::{self, BrokerRecord, BrokerRemovedRecord};

use super::convert::identity;
use crate::error::Fault;

/// What a broker may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum BrokerState {
    /// Registered, but may neither lead nor join an ISR.
    Fenced,
    /// May lead and follow.
    Active,
    /// Hands over what it leads; is given nothing new.
    ShuttingDown,
}

impl BrokerState {
    /// As records and replies carry it.
    pub fn to_proto(self) -> v1::BrokerState {
        match self {
            Self::Fenced => v1::BrokerState::Fenced,
            Self::Active => v1::BrokerState::Active,
            Self::ShuttingDown => v1::BrokerState::ShuttingDown,
        }
    }

    /// Reads what [`Self::to_proto`] wrote; `None` for what was never written.
    pub fn from_number(number: i32) -> Option<Self> {
        match v1::BrokerState::try_from(number).ok()? {
            v1::BrokerState::Unspecified => None,
            v1::BrokerState::Fenced => Some(Self::Fenced),
            v1::BrokerState::Active => Some(Self::Active),
            v1::BrokerState::ShuttingDown => Some(Self::ShuttingDown),
        }
    }
}

/// Where a listener of a broker is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// KAFKA, GRPC, CONTROLLER or HTTP.
    pub listener: String,
    /// A host name or address.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

/// A registered broker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrokerImage {
    /// `node.id`.
    pub node_id: NodeId,
    /// Names the registration.
    pub broker_epoch: BrokerEpoch,
    /// The process.
    pub incarnation: IncarnationId,
    /// Advertised endpoints.
    pub endpoints: Vec<Endpoint>,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// Directories that work.
    pub directories: Vec<DirectoryId>,
    /// What it may do.
    pub state: BrokerState,
}

impl BrokerImage {
    /// The endpoint of a listener by its name.
    pub fn endpoint(&self, listener: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.listener == listener)
    }

    /// Whether a replica that lies in `directory` (`None`: not yet known) lies on a directory that works.
    pub fn serves_directory(&self, directory: Option<DirectoryId>) -> bool {
        directory.is_none_or(|id| self.directories.contains(&id))
    }

    /// As a record.
    pub fn to_record(&self) -> BrokerRecord {
        BrokerRecord {
            node_id: self.node_id.get(),
            broker_epoch: self.broker_epoch.get(),
            incarnation_id: self.incarnation.to_bytes().to_vec().into(),
            endpoints: self.endpoints.iter().map(Endpoint::to_proto).collect(),
            rack: self.rack.clone(),
            directories: self.directories.iter().map(|id| id.to_bytes().to_vec().into()).collect(),
            state: self.state.to_proto().into(),
        }
    }

    /// Reads a record.
    ///
    /// # Errors
    /// When a field is malformed.
    pub fn from_record(record: &BrokerRecord) -> Result<Self, Fault> {
        let directories = record
            .directories
            .iter()
            .map(|bytes| identity(bytes, "directory id", DirectoryId::from_slice))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            node_id: NodeId::new(record.node_id),
            broker_epoch: BrokerEpoch::new(record.broker_epoch),
            incarnation: identity(&record.incarnation_id, "incarnation id", IncarnationId::from_slice)?,
            endpoints: record.endpoints.iter().map(Endpoint::from_proto).collect::<Result<_, _>>()?,
            rack: record.rack.clone(),
            directories,
            state: BrokerState::from_number(record.state).ok_or(Fault::Malformed("broker state"))?,
        })
    }
}

impl Endpoint {
    /// As messages carry it.
    pub fn to_proto(&self) -> v1::Endpoint {
        v1::Endpoint { listener: self.listener.clone(), host: self.host.clone(), port: self.port.into() }
    }

    /// Reads what [`Self::to_proto`] wrote.
    ///
    /// # Errors
    /// When the port is none or the names are empty.
    pub fn from_proto(endpoint: &v1::Endpoint) -> Result<Self, Fault> {
        let port = u16::try_from(endpoint.port).map_err(|_| Fault::Malformed("port of an endpoint"))?;
        if endpoint.listener.is_empty() || endpoint.host.is_empty() {
            return Err(Fault::Malformed("endpoint"));
        }
        Ok(Self { listener: endpoint.listener.clone(), host: endpoint.host.clone(), port })
    }
}

/// All registered brokers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokersImage {
    by_id: OrdMap<NodeId, Arc<BrokerImage>>,
}

impl BrokersImage {
    /// A broker by its number.
    pub fn get(&self, node: NodeId) -> Option<&Arc<BrokerImage>> {
        self.by_id.get(&node)
    }

    /// All, by number.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<BrokerImage>> {
        self.by_id.values()
    }

    /// How many are registered.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether none is registered.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(super) fn replay(&mut self, record: &BrokerRecord) -> Result<(), Fault> {
        let broker = BrokerImage::from_record(record)?;
        if let Some(known) = self.by_id.get(&broker.node_id) {
            if broker.broker_epoch < known.broker_epoch {
                return Err(Fault::Epoch {
                    what: "broker epoch",
                    of: format!("broker {}", broker.node_id),
                    before: known.broker_epoch.get(),
                    after: broker.broker_epoch.get(),
                });
            }
            if broker.broker_epoch == known.broker_epoch && broker.incarnation != known.incarnation {
                return Err(Fault::Exists(format!(
                    "broker epoch {} of broker {} for another process",
                    known.broker_epoch, broker.node_id
                )));
            }
        }
        self.by_id.insert(broker.node_id, Arc::new(broker));
        Ok(())
    }

    pub(super) fn replay_removed(&mut self, record: &BrokerRemovedRecord) -> Result<NodeId, Fault> {
        let node = NodeId::new(record.node_id);
        let epoch = BrokerEpoch::new(record.broker_epoch);
        match self.by_id.get(&node) {
            Some(known) if known.broker_epoch == epoch => {
                self.by_id.remove(&node);
                Ok(node)
            }
            _ => Err(Fault::Missing(format!("broker {node} of epoch {epoch}"))),
        }
    }
}
