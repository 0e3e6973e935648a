//! The session with the active controller: registration, heartbeats, and the metadata feed, on one stream.
//!
//! When the stream ends the broker looks for the active controller again and resumes with the same incarnation, which
//! keeps its broker epoch. Messages of a controller with an older term than one seen before are refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use vltava_model::{BrokerEpoch, ClusterId, ErrorCode, MetadataOffset};
use vltava_proto::status;
use vltava_proto::v1::controller_client::ControllerClient;
use vltava_proto::v1::{
    BrokerMessage, BrokerState as WireState, ControllerMessage, Heartbeat, RegisterBroker, Registered,
    broker_message, controller_message,
};
use vltava_storage::calls::{Finding, Standstill};

use super::link::Target;
use super::locate::{Located, Locator};
use super::reconcile::FeedEvent;
use crate::channel::{self, MAX_MESSAGE_BYTES};
use crate::options::FatalReason;
use crate::state::BrokerState;

const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_millis(500);

/// How long opening a session may take.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a broker without a session looks whether its disks answer.
const LOOK: Duration = Duration::from_millis(100);

/// What the rest of the broker wants of its session, and what it learns from it.
pub struct SessionControl {
    /// Set when the broker wants to stop.
    pub wants_shutdown: watch::Receiver<bool>,
    /// Told when the controller allows it.
    pub may_shut_down: watch::Sender<bool>,
}

/// Runs sessions until the task is aborted.
pub async fn run(state: Arc<BrokerState>, feed: mpsc::Sender<FeedEvent>, mut control: SessionControl) {
    let mut locator = Locator::new(&state.options.controllers);
    let mut backoff = BACKOFF_MIN;
    let max_term = AtomicU64::new(0);
    let mut reported = None;
    let mut standstill = Standstill::new(state.options.replica_stall_max);
    loop {
        wait_while_it_stands(&state, &mut standstill).await;
        if let Some(located) =
            locator.locate().await.filter(|found| found.term >= max_term.load(Ordering::Relaxed))
        {
            let started = Instant::now();
            let ended = session(&state, &located, &feed, &mut control, &max_term, &mut standstill).await;
            state.link.set(None);
            match ended {
                Ok(()) => return,
                Err(status) => {
                    let reason = (located.node, status.message().to_owned());
                    // The end of a session is news; the same refusal again is not.
                    if started.elapsed() > OPEN_TIMEOUT || reported.as_ref() != Some(&reason) {
                        report(&located, &status);
                        reported = Some(reason);
                    }
                    if is_foreign(&status) {
                        // No later attempt can end better, and nobody may take this for a broker that will serve soon.
                        let why = status::detail_of(&status).message;
                        let reason = FatalReason::ForeignData;
                        (state.options.fatal)(
                            reason,
                            format!("{why}: correct `log.dirs` or `controller.quorum.voters`"),
                        );
                        return;
                    }
                }
            }
            if started.elapsed() > BACKOFF_MAX {
                backoff = BACKOFF_MIN;
            }
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// Without a session the controller fences this broker, and others lead: as long as one of its shards waits for a disk in vain.
async fn wait_while_it_stands(state: &BrokerState, standstill: &mut Standstill) {
    let mut told = false;
    while standstill.look(state.shard_calls.longest()) == Finding::Stands {
        if !told {
            let waited = state.shard_calls.longest().unwrap_or_default();
            tracing::error!(
                ?waited,
                "a disk does not answer: this broker leads and follows nothing until it does"
            );
            told = true;
        }
        tokio::time::sleep(LOOK).await;
    }
    if told {
        tracing::info!("the disk answers again");
    }
}

/// Whether the controllers belong to another cluster than this broker's directories.
fn is_foreign(status: &Status) -> bool {
    status::code_of(&status::detail_of(status)) == ErrorCode::InconsistentClusterId
}

fn report(located: &Located, status: &Status) {
    let detail = status::detail_of(status);
    match status::code_of(&detail) {
        ErrorCode::NotController | ErrorCode::NetworkException => {
            tracing::info!(controller = %located.node, reason = %detail.message, "session ended, looking for the active controller");
        }
        _ => {
            tracing::warn!(controller = %located.node, error = %detail.name, reason = %detail.message, "session refused or lost");
        }
    }
}

async fn session(
    state: &Arc<BrokerState>,
    located: &Located,
    feed: &mpsc::Sender<FeedEvent>,
    control: &mut SessionControl,
    max_term: &AtomicU64,
    standstill: &mut Standstill,
) -> Result<(), Status> {
    let lazy = || channel::lazy(&located.address).map_err(|error| Status::unavailable(error.to_string()));
    let mut client = ControllerClient::new(lazy()?)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let (out, outbound) = mpsc::channel(8);
    send(&out, broker_message::Message::Register(registration(state)))?;
    let opening = async {
        let mut inbound = client.session(ReceiverStream::new(outbound)).await?.into_inner();
        let first = next(&mut inbound, max_term).await?;
        match first {
            controller_message::Message::Registered(registered) => Ok((inbound, registered)),
            controller_message::Message::Error(error) => Err(status::from_detail(error)),
            _ => Err(Status::internal("the controller did not answer the registration")),
        }
    };
    let (mut inbound, registered) = tokio::time::timeout(OPEN_TIMEOUT, opening)
        .await
        .map_err(|_| Status::deadline_exceeded("the controller did not answer the registration"))??;
    accept(state, &registered).await?;
    tracing::info!(controller = %located.node, broker_epoch = registered.broker_epoch, "registered");
    let target_high = MetadataOffset::new(registered.high_watermark);
    forward(feed, FeedEvent::Registered { high_watermark: target_high })?;
    state.link.set(Some(Target { node: located.node, channel: lazy()? }));

    let mut beat =
        tokio::time::interval(Duration::from_millis(registered.heartbeat_interval_ms.max(10).into()));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let silence = Duration::from_millis(registered.session_timeout_ms.max(100).into());
    let mut heard = Instant::now();
    let mut published = state.metadata_published();
    let mut failures = state.directories.failures();
    loop {
        tokio::select! {
            message = next(&mut inbound, max_term) => {
                heard = Instant::now();
                take(state, feed, control, message?)?;
            }
            _ = beat.tick() => {
                if standstill.look(state.shard_calls.longest()) == Finding::Stands {
                    return Err(Status::unavailable("a disk does not answer this broker"));
                }
                if heard.elapsed() > silence {
                    return Err(Status::unavailable("the controller has been silent for a whole session"));
                }
                send(&out, heartbeat(state, control))?;
            }
            // News that the controller waits for goes out at once.
            changed = published.changed(), if !state.is_active() => {
                if changed.is_ok() && *published.borrow_and_update() >= target_high {
                    send(&out, heartbeat(state, control))?;
                }
            }
            changed = control.wants_shutdown.changed() => {
                if changed.is_ok() {
                    send(&out, heartbeat(state, control))?;
                }
            }
            changed = failures.changed() => {
                if changed.is_ok() {
                    send(&out, heartbeat(state, control))?;
                }
            }
        }
    }
}

async fn next(
    inbound: &mut Streaming<ControllerMessage>,
    max_term: &AtomicU64,
) -> Result<controller_message::Message, Status> {
    let message =
        inbound.message().await?.ok_or_else(|| Status::unavailable("the controller closed the session"))?;
    let term = message.stamp.as_ref().map_or(0, |stamp| stamp.term);
    if max_term.fetch_max(term, Ordering::Relaxed) > term {
        return Err(status::status(ErrorCode::NotController, "a controller of an older term speaks"));
    }
    message.message.ok_or_else(|| Status::internal("the controller sent a message of an unknown kind"))
}

fn send(out: &mpsc::Sender<BrokerMessage>, message: broker_message::Message) -> Result<(), Status> {
    out.try_send(BrokerMessage { message: Some(message) })
        .map_err(|_| Status::unavailable("the connection to the controller takes no more"))
}

fn forward(feed: &mpsc::Sender<FeedEvent>, event: FeedEvent) -> Result<(), Status> {
    feed.try_send(event)
        .map_err(|_| Status::resource_exhausted("this broker can't keep up with the metadata"))
}

fn registration(state: &BrokerState) -> RegisterBroker {
    let endpoint = |advertised: &crate::options::AdvertisedEndpoint| vltava_proto::v1::Endpoint {
        listener: advertised.listener.clone(),
        host: advertised.host.clone(),
        port: advertised.port.into(),
    };
    RegisterBroker {
        cluster_id: state.known_cluster_id().map(|id| id.to_bytes().to_vec().into()).unwrap_or_default(),
        node_id: state.node_id.get(),
        incarnation_id: state.incarnation.to_bytes().to_vec().into(),
        endpoints: state.options.advertised.iter().map(endpoint).collect(),
        rack: state.options.rack.clone(),
        directories: state.working_directories().iter().map(|id| id.to_bytes().to_vec().into()).collect(),
        previous_broker_epoch: state.clean_epoch.map(BrokerEpoch::get),
        metadata_offset: state.fed_offset().get(),
        features: [("metadata.version".to_owned(), 1)].into(),
    }
}

fn heartbeat(state: &BrokerState, control: &SessionControl) -> broker_message::Message {
    broker_message::Message::Heartbeat(Heartbeat {
        metadata_offset: state.image().offset().get(),
        wants_shutdown: *control.wants_shutdown.borrow(),
        failed_directories: state
            .failed_directories()
            .iter()
            .map(|id| id.to_bytes().to_vec().into())
            .collect(),
    })
}

async fn accept(state: &BrokerState, registered: &Registered) -> Result<(), Status> {
    let cluster = ClusterId::from_slice(&registered.cluster_id)
        .ok_or_else(|| Status::internal("the controller's cluster id is not 16 bytes long"))?;
    state
        .registered(cluster, BrokerEpoch::new(registered.broker_epoch))
        .await
        .map_err(|error| status::status(ErrorCode::InconsistentClusterId, error))
}

fn take(
    state: &BrokerState,
    feed: &mpsc::Sender<FeedEvent>,
    control: &SessionControl,
    message: controller_message::Message,
) -> Result<(), Status> {
    match message {
        controller_message::Message::Records(records) => {
            let base = MetadataOffset::new(records.base_offset);
            let end = MetadataOffset::new(records.base_offset + records.records.len() as u64);
            forward(feed, FeedEvent::Records { base, records: records.records })?;
            state.fed(end);
            Ok(())
        }
        controller_message::Message::Snapshot(snapshot) => {
            let end = MetadataOffset::new(snapshot.offset);
            forward(feed, FeedEvent::Snapshot(snapshot))?;
            state.fed(end);
            Ok(())
        }
        controller_message::Message::Heartbeat(reply) => {
            state.set_active(reply.state() == WireState::Active);
            if reply.may_shut_down {
                control.may_shut_down.send_replace(true);
            }
            Ok(())
        }
        controller_message::Message::Error(error) => Err(status::from_detail(error)),
        controller_message::Message::Registered(_) => {
            Err(Status::internal("a second answer to the registration"))
        }
    }
}
