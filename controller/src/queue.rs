//! The single writer of the metadata log.
//!
//! All that wants to change something waits in one bounded queue. While this controller is active, one task takes what
//! waits, decides one after the other on the applied image plus this round's records, proposes the round as one entry (or a
//! few, when it is large), and answers only when its records are applied. What the requests mean it does not know.
//!
//! | answer | what is known |
//! |---|---|
//! | [`QueueError::Full`], [`QueueError::NotActive`], [`QueueError::Refused`] | nothing was changed |
//! | [`QueueError::OutcomeUnknown`] | it may have been done, or may be done yet |

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use vltava_model::{ErrorCode, MetadataOffset, NodeId};
use vltava_proto::status;
use vltava_proto::v1::ErrorDetail;

use crate::decide::{Decision, Refusal, View};
use crate::raft::leadership::{Leadership, Situation};
use crate::tenure::CurrentTenure;

/// Why a request got no decision.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum QueueError {
    /// Too much waits already.
    #[error("the controller's queue is full")]
    Full,
    /// This controller is not the active one.
    #[error("this controller is not active")]
    NotActive {
        /// The active one, where it is known.
        leader: Option<NodeId>,
    },
    /// It was proposed, but not seen to be applied: in time, or before this controller lost its place.
    #[error("whether the request took effect is unknown")]
    OutcomeUnknown,
    /// The decision was no.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl QueueError {
    /// As statuses and responses carry it.
    pub fn detail(&self) -> ErrorDetail {
        match self {
            Self::Full => {
                status::detail(ErrorCode::ThrottlingQuotaExceeded, format!("{self}: try again after a pause"))
            }
            Self::NotActive { leader } => not_active(*leader),
            Self::OutcomeUnknown => status::detail(
                ErrorCode::RequestTimedOut,
                format!("{self}: see what is there, then try again"),
            ),
            Self::Refused(refusal) => refusal.detail(),
        }
    }
}

/// NOT_CONTROLLER, with whom to ask instead.
pub(crate) fn not_active(leader: Option<NodeId>) -> ErrorDetail {
    let text = match leader {
        Some(leader) => format!("this controller is not active; controller {leader} is"),
        None => "no controller is active now; try again after a pause".to_owned(),
    };
    let leader_id = leader.map(NodeId::get);
    ErrorDetail { leader_id, ..status::detail(ErrorCode::NotController, text) }
}

/// A decision that was made and applied.
#[derive(Clone, PartialEq, Debug)]
pub struct Committed<T> {
    /// Its response.
    pub response: T,
    /// The metadata offset from which on it holds.
    pub offset: MetadataOffset,
}

/// What a job leaves to be done when its records are applied, or are known not to be, or are not known to be.
pub(crate) type Finish = Box<dyn FnOnce(Result<(), QueueError>) + Send>;

/// A job that was decided.
pub(crate) struct Decided {
    pub records: Vec<vltava_proto::v1::MetadataRecord>,
    pub finish: Finish,
}

/// Something to be decided.
pub(crate) trait Job: Send {
    /// Decides. A refusal is a decision without records.
    fn decide(self: Box<Self>, view: &View) -> Decided;
    /// Gives it back undone.
    fn refuse(self: Box<Self>, why: QueueError);
    /// Whether whoever asked is still there.
    fn is_wanted(&self) -> bool;
}

struct Asked<F, T> {
    decide: F,
    answer: oneshot::Sender<Result<Committed<T>, QueueError>>,
}

impl<F, T> Job for Asked<F, T>
where
    F: FnOnce(&View) -> Result<Decision<T>, Refusal> + Send,
    T: Send + 'static,
{
    fn decide(self: Box<Self>, view: &View) -> Decided {
        let Self { decide, answer } = *self;
        let (records, result) = match decide(view) {
            Ok(decision) => {
                let offset = decision.offset_after(view);
                (decision.records, Ok(Committed { response: decision.response, offset }))
            }
            // A refusal too may rest on what this round decided before.
            Err(refusal) => (Vec::new(), Err(QueueError::Refused(refusal))),
        };
        let finish = Box::new(move |applied: Result<(), QueueError>| {
            // Whoever asked may be gone; what was done stays done.
            let _ = answer.send(applied.and(result));
        });
        Decided { records, finish }
    }

    fn refuse(self: Box<Self>, why: QueueError) {
        let _ = self.answer.send(Err(why));
    }

    fn is_wanted(&self) -> bool {
        !self.answer.is_closed()
    }
}

/// The way into the queue. Clones share it.
#[derive(Clone)]
pub struct Queue {
    jobs: mpsc::Sender<Box<dyn Job>>,
    tenure: CurrentTenure,
    situation: watch::Receiver<Situation>,
    me: NodeId,
    timeout: Duration,
}

impl Queue {
    pub(crate) fn new(
        jobs: mpsc::Sender<Box<dyn Job>>,
        tenure: CurrentTenure,
        situation: watch::Receiver<Situation>,
        me: NodeId,
        timeout: Duration,
    ) -> Self {
        Self { jobs, tenure, situation, me, timeout }
    }

    /// Has something decided, and waits until it is applied.
    ///
    /// # Errors
    /// See [`QueueError`].
    pub async fn decide<T: Send + 'static>(
        &self,
        decide: impl FnOnce(&View) -> Result<Decision<T>, Refusal> + Send + 'static,
    ) -> Result<Committed<T>, QueueError> {
        if self.tenure.borrow().is_none() {
            return Err(self.not_active());
        }
        let (answer, answered) = oneshot::channel();
        self.jobs.try_send(Box::new(Asked { decide, answer })).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => QueueError::Full,
            mpsc::error::TrySendError::Closed(_) => QueueError::NotActive { leader: None },
        })?;
        match tokio::time::timeout(self.timeout, answered).await {
            Ok(Ok(result)) => result,
            // Late, or the writer ended with the job in its hands.
            Ok(Err(_)) | Err(_) => Err(QueueError::OutcomeUnknown),
        }
    }

    /// How many requests wait.
    pub fn depth(&self) -> usize {
        self.jobs.max_capacity() - self.jobs.capacity()
    }

    /// Whom to ask instead, when this controller is not the active one.
    pub(crate) fn not_active(&self) -> QueueError {
        let situation = self.situation.borrow();
        let leader = match &situation.leadership {
            // It leads, and is not ready yet.
            Leadership::Leading => Some(self.me),
            _ => situation.leader(self.me),
        };
        QueueError::NotActive { leader }
    }

    /// The time in office that runs now.
    pub(crate) fn tenure(&self) -> CurrentTenure {
        self.tenure.clone()
    }

    /// The current tenure, or whom to ask instead.
    pub(crate) fn active(&self) -> Result<Arc<crate::tenure::Tenure>, QueueError> {
        self.tenure.borrow().clone().ok_or_else(|| self.not_active())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenure::Tenure;

    fn queue(
        capacity: usize,
        tenure: Option<Arc<Tenure>>,
        leadership: Leadership,
    ) -> (Queue, mpsc::Receiver<Box<dyn Job>>) {
        let (jobs, waiting) = mpsc::channel(capacity);
        let tenure = watch::channel(tenure).1;
        let situation = watch::channel(Situation { term: 3, leadership }).1;
        (Queue::new(jobs, tenure, situation, NodeId::new(1), Duration::from_millis(20)), waiting)
    }

    fn tenure() -> Option<Arc<Tenure>> {
        let image = vltava_metadata::Image::empty();
        Some(Arc::new(Tenure::begin(3, crate::liveness::Patience::default(), &image)))
    }

    async fn ask(queue: &Queue) -> Result<Committed<()>, QueueError> {
        queue.decide(|_| Ok(Decision::unchanged(()))).await
    }

    #[tokio::test]
    async fn who_is_not_active_says_who_is() {
        let leader = NodeId::new(2);
        let (follower, _waiting) = queue(1, None, Leadership::Following { leader, address: String::new() });
        let refused = ask(&follower).await.unwrap_err();
        assert_eq!(refused, QueueError::NotActive { leader: Some(leader) });
        assert_eq!((refused.detail().code, refused.detail().leader_id), (41, Some(2)));
        let (lost, _waiting) = queue(1, None, Leadership::Unknown);
        assert_eq!(ask(&lost).await, Err(QueueError::NotActive { leader: None }));
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_a_slow_one_leaves_it_open() {
        let (queue, mut waiting) = queue(1, tenure(), Leadership::Leading);
        assert_eq!(ask(&queue).await, Err(QueueError::OutcomeUnknown), "nobody works");
        assert_eq!(queue.depth(), 1);
        assert_eq!(ask(&queue).await, Err(QueueError::Full));
        let job = waiting.recv().await.unwrap();
        assert!(!job.is_wanted(), "whoever asked has given up");
    }
}
