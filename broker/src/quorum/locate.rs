//! Finds the active controller by asking all known ones at once.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use vltava_model::NodeId;
use vltava_proto::v1::controller_client::ControllerClient;
use vltava_proto::v1::{IdentifyRequest, IdentifyResponse};

use crate::channel;

const ASK_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the others are waited for once one has answered. Those that are gone would cost a whole timeout, while the next
/// leader may be elected any moment.
const OTHERS: Duration = Duration::from_millis(200);

/// How many controller addresses are remembered beyond the configured ones.
const KNOWN_MAX: usize = 64;

/// The controller that its quorum believes to be active.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Its number.
    pub node: NodeId,
    /// `HOST:PORT` of its CONTROLLER listener.
    pub address: String,
    /// The term in which it was elected.
    pub term: u64,
}

/// Remembers where controllers are.
pub struct Locator {
    known: BTreeSet<String>,
}

impl Locator {
    /// Starts from the configured addresses.
    pub fn new(configured: &[String]) -> Self {
        Self { known: configured.iter().cloned().collect() }
    }

    /// Asks every known controller; the answer with the highest term wins. `None` when none knows a leader now.
    pub async fn locate(&mut self) -> Option<Located> {
        let mut asked = JoinSet::new();
        for address in self.known.clone() {
            asked.spawn(ask(address));
        }
        let mut best: Option<Located> = None;
        let mut until = Instant::now() + ASK_TIMEOUT;
        while let Ok(Some(answer)) = timeout_at(until, asked.join_next()).await {
            let Ok(Some(answer)) = answer else { continue };
            until = until.min(Instant::now() + OTHERS);
            self.remember(&answer);
            let Some(leader) = answer.leader_id.filter(|_| !answer.leader_address.is_empty()) else {
                continue;
            };
            if best.as_ref().is_none_or(|best| answer.term > best.term) {
                best = Some(Located {
                    node: NodeId::new(leader),
                    address: answer.leader_address,
                    term: answer.term,
                });
            }
            // A leader that names itself needs no second opinion: waiting for dead peers would cost a second.
            if answer.leader_id == Some(answer.node_id) {
                break;
            }
        }
        best
    }

    fn remember(&mut self, answer: &IdentifyResponse) {
        for voter in &answer.voters {
            if self.known.len() < KNOWN_MAX && !voter.address.is_empty() {
                self.known.insert(voter.address.clone());
            }
        }
    }
}

async fn ask(address: String) -> Option<IdentifyResponse> {
    let channel = channel::lazy(&address).ok()?;
    let call = async move { ControllerClient::new(channel).identify(IdentifyRequest::default()).await };
    match tokio::time::timeout(ASK_TIMEOUT, call).await {
        Ok(Ok(answer)) => Some(answer.into_inner()),
        Ok(Err(error)) => {
            tracing::debug!(address, %error, "controller did not answer");
            None
        }
        Err(_) => None,
    }
}
