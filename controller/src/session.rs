//! A broker's session: registration, heartbeats, and the feed of metadata, on one stream.
//!
//! A session belongs to one tenure and ends with it, at once, so that brokers look for the next active controller. When its
//! stream closes, the broker has a short grace to come back before it is fenced. Sessions decide nothing: what changes the
//! metadata goes through the queue.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tonic::{Status, Streaming};
use vltava_metadata::BrokerState;
use vltava_model::{BrokerEpoch, ErrorCode, IncarnationId, MetadataOffset, NodeId};
use vltava_proto::status;
use vltava_proto::v1::{
    BrokerMessage, ControllerMessage, ErrorDetail, Heartbeat, HeartbeatReply, RegisterBroker, Registered,
    broker_message, controller_message,
};

use crate::decide;
use crate::decide::heartbeat::Sender;
use crate::decide::register_broker::Registration;
use crate::decide::shut_down_broker::Farewell;
use crate::feed::{Feed, Next};
use crate::liveness::SessionId;
use crate::machine::Published;
use crate::queue::{Queue, QueueError};
use crate::raft::local::Local;
use crate::tenure::Tenure;

/// How long the first message may take.
const FIRST: Duration = Duration::from_secs(5);
/// How many messages may wait for a slow broker.
pub(crate) const OUTBOUND: usize = 16;
/// How many bytes of records one message of the feed holds, unless a single entry is larger.
const FEED_MESSAGE_BYTES: usize = 1 << 20;

/// What sessions share.
pub(crate) struct Sessions {
    pub local: Arc<Local>,
    pub published: Published,
    pub feed: Arc<Feed>,
    pub queue: Queue,
    pub heartbeat_interval: Duration,
    pub session_timeout: Duration,
}

/// What the stream to a broker carries.
pub(crate) type Outbound = mpsc::Sender<Result<ControllerMessage, Status>>;

/// Why a session ends.
enum End {
    /// The broker or its connection is gone.
    Gone,
    /// It is told so.
    Told(ErrorDetail),
}

impl From<QueueError> for End {
    fn from(error: QueueError) -> Self {
        Self::Told(error.detail())
    }
}

/// A registered session.
struct Session {
    tenure: Arc<Tenure>,
    id: SessionId,
    sender: Sender,
    out: Outbound,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.tenure.disconnected(self.sender.node, self.id);
    }
}

impl Sessions {
    /// Serves one stream to its end.
    pub(crate) async fn serve(self: Arc<Self>, mut inbound: Streaming<BrokerMessage>, out: Outbound) {
        let end = self.session(&mut inbound, &out).await;
        if let Err(End::Told(detail)) = end {
            let term = self.queue.active().map_or(0, |tenure| tenure.term);
            tracing::info!(error = %detail.name, reason = %detail.message, "a broker's session is refused or ended");
            let message = self.message(term, controller_message::Message::Error(detail));
            let _ = timeout(self.session_timeout, out.send(Ok(message))).await;
        }
    }

    fn message(&self, term: u64, message: controller_message::Message) -> ControllerMessage {
        ControllerMessage { stamp: Some(self.local.stamp(term)), message: Some(message) }
    }

    async fn session(&self, inbound: &mut Streaming<BrokerMessage>, out: &Outbound) -> Result<(), End> {
        let first = timeout(FIRST, inbound.message()).await;
        let Ok(Ok(Some(BrokerMessage { message: Some(broker_message::Message::Register(register)) }))) =
            first
        else {
            let text = "a session begins with a registration";
            return Err(End::Told(status::detail(ErrorCode::InvalidRequest, text)));
        };
        let mut tenures = self.queue.tenure();
        let tenure = self.queue.active()?;
        let fed = MetadataOffset::new(register.metadata_offset);
        let session = self.register(tenure.clone(), register, out).await?;
        let (heard, newest) = watch::channel(None);
        tokio::select! {
            // Whoever holds the tenure's channel replaced it: the place is lost.
            _ = tenures.wait_for(|now| !now.as_ref().is_some_and(|now| Arc::ptr_eq(now, &tenure))) => {
                Err(self.queue.not_active().into())
            }
            end = self.listen(inbound, &session, heard) => end,
            end = self.reply(&session, newest) => end,
            end = self.push(fed, &session) => end,
        }
    }

    async fn register(
        &self,
        tenure: Arc<Tenure>,
        register: RegisterBroker,
        out: &Outbound,
    ) -> Result<Session, End> {
        let node = NodeId::new(register.node_id);
        let incarnation = IncarnationId::from_slice(&register.incarnation_id).ok_or_else(|| {
            End::Told(status::detail(ErrorCode::InvalidRequest, "an incarnation id is 16 bytes"))
        })?;
        // It counts as alive from now on, so that no fencing that waits in the queue overtakes it.
        let id = {
            let mut liveness = tenure.liveness();
            match liveness.connected_process(node, tenure.now()) {
                Some(other) if other != incarnation => {
                    let text = format!(
                        "another process is broker {node} and has an open session: give each broker its own node.id"
                    );
                    return Err(End::Told(status::detail(ErrorCode::DuplicateBrokerRegistration, text)));
                }
                _ => liveness.connected(node, incarnation, tenure.now()),
            }
        };
        let sender = Sender { node, broker_epoch: BrokerEpoch::ZERO, caught_up_at: MetadataOffset::ZERO };
        // From here on, however this ends, the table hears of it.
        let mut session = Session { tenure, id, sender, out: out.clone() };
        let committed =
            self.queue.decide(move |view| decide::register_broker::decide(view, &register)).await?;
        let Registration { broker_epoch, cluster, caught_up_at, .. } = committed.response;
        session.sender = Sender { node, broker_epoch, caught_up_at };
        tracing::info!(broker = %node, epoch = %broker_epoch, "a broker is registered");
        let millis = |duration: Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
        let registered = Registered {
            broker_epoch: broker_epoch.get(),
            cluster_id: cluster.to_bytes().to_vec().into(),
            high_watermark: caught_up_at.get(),
            heartbeat_interval_ms: millis(self.heartbeat_interval),
            session_timeout_ms: millis(self.session_timeout),
        };
        self.send(&session, controller_message::Message::Registered(registered)).await?;
        Ok(session)
    }

    /// Sends; a broker that takes nothing for a whole session is given up.
    async fn send(&self, session: &Session, message: controller_message::Message) -> Result<(), End> {
        let message = self.message(session.tenure.term, message);
        match timeout(self.session_timeout, session.out.send(Ok(message))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Gone),
        }
    }

    /// Reads signs of life. They count when they arrive, however long their answers take.
    async fn listen(
        &self,
        inbound: &mut Streaming<BrokerMessage>,
        session: &Session,
        newest: watch::Sender<Option<Heartbeat>>,
    ) -> Result<(), End> {
        loop {
            let Ok(Some(message)) = inbound.message().await else { return Err(End::Gone) };
            let Some(broker_message::Message::Heartbeat(heartbeat)) = message.message else {
                let text = "a registered session carries heartbeats only";
                return Err(End::Told(status::detail(ErrorCode::InvalidRequest, text)));
            };
            let node = session.sender.node;
            if !session.tenure.liveness().heartbeat(node, session.id, session.tenure.now()) {
                let text =
                    format!("the session of broker {node} is over: it was fenced or has a newer session");
                return Err(End::Told(status::detail(ErrorCode::StaleBrokerEpoch, text)));
            }
            newest.send_replace(Some(heartbeat));
        }
    }

    /// Answers heartbeats, the newest one only: each repeats what the one before asked for.
    async fn reply(
        &self,
        session: &Session,
        mut newest: watch::Receiver<Option<Heartbeat>>,
    ) -> Result<(), End> {
        loop {
            if newest.changed().await.is_err() {
                return Err(End::Gone);
            }
            let Some(heartbeat) = newest.borrow_and_update().clone() else { continue };
            let reply = self.answer(&session.sender, heartbeat).await?;
            self.send(session, controller_message::Message::Heartbeat(reply)).await?;
        }
    }

    async fn answer(&self, sender: &Sender, heartbeat: Heartbeat) -> Result<HeartbeatReply, End> {
        let sender = *sender;
        let image = self.published.image();
        let known = image.broker(sender.node).filter(|broker| broker.broker_epoch == sender.broker_epoch);
        let quiet = known.is_some_and(|broker| {
            let failed = heartbeat.failed_directories.iter();
            let mut news =
                failed.filter(|id| broker.directories.iter().any(|known| known.to_bytes() == ***id));
            broker.state == BrokerState::Active && !heartbeat.wants_shutdown && news.next().is_none()
        });
        let (state, farewell) = if quiet {
            (BrokerState::Active, Farewell::NotYet)
        } else {
            match self.queue.decide(move |view| decide::heartbeat::decide(view, &sender, &heartbeat)).await {
                Ok(decided) => (decided.response.state, decided.response.farewell),
                // The broker lives and asks again: that the queue is slow must not end its session.
                Err(QueueError::Full | QueueError::OutcomeUnknown) => {
                    (known.map_or(BrokerState::Fenced, |broker| broker.state), Farewell::NotYet)
                }
                Err(error) => return Err(error.into()),
            }
        };
        Ok(HeartbeatReply {
            state: state.to_proto().into(),
            may_shut_down: farewell == Farewell::MayStop,
            high_watermark: self.published.image().offset().get(),
        })
    }

    /// Pushes what is committed, as it is committed.
    async fn push(&self, from: MetadataOffset, session: &Session) -> Result<(), End> {
        let mut next = from;
        let mut offsets = self.published.offsets();
        loop {
            offsets.borrow_and_update();
            let message = match self.feed.next(next, FEED_MESSAGE_BYTES) {
                Next::Nothing => {
                    if offsets.changed().await.is_err() {
                        return Err(End::Gone);
                    }
                    continue;
                }
                Next::Records(records) => {
                    next = MetadataOffset::new(records.base_offset + records.records.len() as u64);
                    controller_message::Message::Records(records)
                }
                Next::Snapshot => {
                    let image = self.published.image();
                    next = image.offset();
                    controller_message::Message::Snapshot(image.to_snapshot())
                }
                Next::Ahead => {
                    let text = format!(
                        "the broker has metadata up to {next}, more than this cluster: it followed another one"
                    );
                    return Err(End::Told(status::detail(ErrorCode::InconsistentClusterId, text)));
                }
            };
            self.send(session, message).await?;
        }
    }
}
