//! Asks other controllers who they are. One connection for each address, kept; separate from Raft's own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Request, Status};
use vltava_proto::v1::controller_client::ControllerClient;
use vltava_proto::v1::{IdentifyRequest, IdentifyResponse, ObserveRequest};

use super::local::Local;
use super::network;

/// How many addresses are remembered; more are asked over connections that are not kept.
const KEPT: usize = 64;

/// Asks controllers who they are.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    local: Arc<Local>,
    channels: Arc<Mutex<BTreeMap<String, Channel>>>,
}

impl Peers {
    pub(crate) fn new(local: Arc<Local>) -> Self {
        Self { local, channels: Arc::default() }
    }

    /// Who is at `address`.
    ///
    /// # Errors
    /// The call's status; `Unavailable` for an address that is none.
    pub(crate) async fn identify(&self, address: &str, limit: Duration) -> Result<IdentifyResponse, Status> {
        let mut client = ControllerClient::new(self.channel(address)?);
        let request = IdentifyRequest {
            node_id: Some(self.local.voter.node),
            directory_id: self.local.directory().to_bytes().to_vec().into(),
            cluster_id: self.local.cluster_bytes(),
        };
        let mut request = Request::new(request);
        request.set_timeout(limit);
        match tokio::time::timeout(limit, client.identify(request)).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => Err(Status::deadline_exceeded("no answer in time")),
        }
    }

    /// Asks the active controller at `address` to let this one follow.
    ///
    /// # Errors
    /// The call's status.
    pub(crate) async fn observe(&self, address: &str, limit: Duration) -> Result<(), Status> {
        let mut client = ControllerClient::new(self.channel(address)?);
        let request = ObserveRequest {
            node_id: self.local.voter.node,
            directory_id: self.local.directory().to_bytes().to_vec().into(),
            cluster_id: self.local.cluster_bytes(),
            address: self.local.address.clone(),
        };
        match tokio::time::timeout(limit, client.observe(request)).await {
            Ok(answer) => answer.map(drop),
            Err(_) => Err(Status::deadline_exceeded("no answer in time")),
        }
    }

    /// Asks several at once; the answers come in the order of the addresses, `None` where there was none.
    pub(crate) async fn identify_all(
        &self,
        addresses: Vec<String>,
        limit: Duration,
    ) -> Vec<Option<IdentifyResponse>> {
        let mut asked = JoinSet::new();
        let mut answers = vec![None; addresses.len()];
        for (i, address) in addresses.into_iter().enumerate() {
            let peers = self.clone();
            asked.spawn(async move { (i, peers.identify(&address, limit).await) });
        }
        while let Some(answer) = asked.join_next().await {
            if let Ok((i, Ok(answer))) = answer {
                answers[i] = Some(answer);
            }
        }
        answers
    }

    fn channel(&self, address: &str) -> Result<Channel, Status> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        let made = network::channel(address)
            .map_err(|error| Status::unavailable(format!("`{address}` is no address: {error}")))?;
        if channels.len() < KEPT {
            channels.insert(address.to_owned(), made.clone());
        }
        Ok(made)
    }
}
