//! Calls to the active controller, from whoever on this broker needs one.
//!
//! Holds the channel that the session found. A call without a controller waits a bounded time for one, then is refused
//! in a way that may be retried.

use std::time::Duration;

use tokio::sync::watch;
use tonic::Status;
use tonic::transport::Channel;
use vltava_model::{ErrorCode, NodeId};
use vltava_proto::status;
use vltava_proto::v1::admin_client::AdminClient;
use vltava_proto::v1::controller_client::ControllerClient;

use crate::channel::MAX_MESSAGE_BYTES;

/// How long a request waits for an active controller to appear.
const WAIT: Duration = Duration::from_secs(10);

/// An active controller and the way to it.
#[derive(Clone)]
pub struct Target {
    /// Its number.
    pub node: NodeId,
    /// The connection for requests; the session has one of its own.
    pub channel: Channel,
}

/// Shared access to the active controller.
pub struct ControllerLink {
    current: watch::Sender<Option<Target>>,
}

impl Default for ControllerLink {
    fn default() -> Self {
        Self { current: watch::Sender::new(None) }
    }
}

impl ControllerLink {
    /// Tells all waiting requests who the active controller is, or that there is none now.
    pub fn set(&self, target: Option<Target>) {
        self.current.send_replace(target);
    }

    /// The active controller's number, if known.
    pub fn node(&self) -> Option<NodeId> {
        self.current.borrow().as_ref().map(|target| target.node)
    }

    /// The active controller, waiting a bounded time for one.
    ///
    /// # Errors
    /// A retryable status when none appears.
    pub async fn target(&self) -> Result<Target, Status> {
        let mut current = self.current.subscribe();
        let found = tokio::time::timeout(WAIT, current.wait_for(Option::is_some)).await;
        match found {
            Ok(Ok(target)) => target.clone().ok_or_else(no_controller),
            Ok(Err(_)) | Err(_) => Err(no_controller()),
        }
    }

    /// A client of the active controller's admin service.
    ///
    /// # Errors
    /// As [`Self::target`].
    pub async fn admin(&self) -> Result<AdminClient<Channel>, Status> {
        let target = self.target().await?;
        Ok(AdminClient::new(target.channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES))
    }

    /// A client of the active controller's service for brokers.
    ///
    /// # Errors
    /// As [`Self::target`].
    pub async fn controller(&self) -> Result<ControllerClient<Channel>, Status> {
        let target = self.target().await?;
        Ok(ControllerClient::new(target.channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES))
    }
}

fn no_controller() -> Status {
    status::status(
        ErrorCode::BrokerNotAvailable,
        "no active controller was found within 10 s: see `vltava quorum describe`, then try again",
    )
}
