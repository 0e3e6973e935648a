//! The operator: does what `vltava quorum remove`, `vltava quorum add` and `vltava brokers unregister` do, until it is so.
//!
//! It works through the client library, over the same network as everybody. Why it is to be done is not known here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vltava_client::{Admin, Client, ClientError};
use vltava_model::{DirectoryId, ErrorCode};
use vltava_proto::v1::RemoveVoterRequest;

use crate::host::Program;
use crate::programs;

/// How long it waits before it looks again.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long one step may take.
const STEP_MAX: Duration = Duration::from_secs(20);

/// What is to be so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Goal {
    /// The node has no vote, for the time being.
    NoVote,
    /// The node votes, and not with that directory.
    Votes { not: Option<DirectoryId> },
    /// The broker is not registered.
    Forgotten,
    /// It is so.
    Done,
}

/// Something that it was told to do.
#[derive(Clone, Debug)]
pub struct Task {
    node: u32,
    goal: Arc<Mutex<Goal>>,
}

impl Task {
    /// Whether it is done.
    pub fn is_done(&self) -> bool {
        *self.goal() == Goal::Done
    }

    /// The vote that was taken is to be given back.
    pub fn give_back(&self) {
        *self.goal() = Goal::Votes { not: None };
    }

    fn goal(&self) -> MutexGuard<'_, Goal> {
        self.goal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module. Cloning it shares what it was told.
#[derive(Clone, Default)]
pub struct Operator {
    tasks: Arc<Mutex<Vec<Task>>>,
}

impl Operator {
    /// Has a controller that lost its directory vote under its new one.
    pub fn replace(&self, node: u32, lost: Option<DirectoryId>) -> Task {
        self.tell(node, Goal::Votes { not: lost })
    }

    /// Takes a controller's vote.
    pub fn remove(&self, node: u32) -> Task {
        self.tell(node, Goal::NoVote)
    }

    /// Has a broker forgotten that left for good.
    pub fn unregister(&self, node: u32) -> Task {
        self.tell(node, Goal::Forgotten)
    }

    fn tell(&self, node: u32, goal: Goal) -> Task {
        let task = Task { node, goal: Arc::new(Mutex::new(goal)) };
        self.tasks().push(task.clone());
        task
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<Task>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What runs on its machine.
    pub fn program(&self) -> Program {
        let operator = self.clone();
        Box::pin(async move {
            let client = match Client::connect(&programs::servers()) {
                Ok(client) => client,
                Err(error) => return tracing::error!(%error, "the operator has no address"),
            };
            let admin = Admin::new(client);
            loop {
                tokio::time::sleep(PATIENCE).await;
                operator.tasks().retain(|task| !task.is_done());
                let tasks = operator.tasks().clone();
                for task in tasks {
                    let goal = *task.goal();
                    match tokio::time::timeout(STEP_MAX, approach(&admin, task.node, goal)).await {
                        Ok(Ok(true)) if goal != Goal::NoVote => finish(&task, goal),
                        Ok(Ok(_)) => {}
                        // Between two leaders nothing can be decided: try again.
                        Ok(Err(error)) => tracing::debug!(%error, ?goal, node = task.node, "not yet"),
                        Err(_) => tracing::debug!(?goal, node = task.node, "no answer"),
                    }
                }
            }
        })
    }
}

/// It may have been told something else meanwhile.
fn finish(task: &Task, reached: Goal) {
    let mut goal = task.goal();
    if *goal == reached {
        *goal = Goal::Done;
    }
}

/// The next step; whether there was none left.
async fn approach(admin: &Admin, node: u32, goal: Goal) -> Result<bool, ClientError> {
    if goal == Goal::Forgotten {
        // While its session lasts, it is refused.
        return match admin.unregister_broker(node).await {
            Err(error) if error.code() != ErrorCode::BrokerIdNotRegistered => Err(error),
            _ => Ok(true),
        };
    }
    let Goal::Votes { not } = goal else {
        let Some(directory_id) = vote(admin, node, None).await? else { return Ok(goal == Goal::NoVote) };
        admin.remove_voter(RemoveVoterRequest { node_id: node, directory_id }).await?;
        return Ok(false);
    };
    let lost = not.map(|lost| lost.to_bytes());
    match vote(admin, node, lost).await? {
        Some(directory_id) if lost.is_some_and(|lost| lost == directory_id[..]) => {
            admin.remove_voter(RemoveVoterRequest { node_id: node, directory_id }).await?;
            Ok(false)
        }
        Some(_) => Ok(true),
        None => admin.add_voter(node, &programs::controller_address(node)).await.map(|_| false),
    }
}

/// The directory that a node votes with: `preferred` if that is among them.
async fn vote(
    admin: &Admin,
    node: u32,
    preferred: Option<[u8; 16]>,
) -> Result<Option<bytes::Bytes>, ClientError> {
    let voters = admin.describe_quorum().await?.voters.into_iter().filter(|voter| voter.id == node);
    let directories: Vec<bytes::Bytes> = voters.map(|voter| voter.directory_id).collect();
    let found = directories.iter().find(|id| preferred.is_some_and(|preferred| preferred == id[..]));
    Ok(found.or(directories.first()).cloned())
}
