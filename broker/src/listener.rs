//! The gRPC listener: all services of a broker on one port, with reflection and the standard health service.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tonic::transport::Server;
use tonic_health::pb::health_server::{Health, HealthServer};
use vltava_proto::v1::admin_server::AdminServer;
use vltava_proto::v1::log_server::LogServer;
use vltava_proto::v1::replica_server::ReplicaServer;
use vltava_transport::{Listener, WithRequests};

use crate::api::admin::AdminService;
use crate::api::log::{LogService, ReplicaService};
use crate::channel::{CONNECTION_WINDOW, FRAME_BYTES, KEEPALIVE, MAX_MESSAGE_BYTES, STREAM_WINDOW};
use crate::state::BrokerState;

/// Streams that one connection may have open.
const STREAMS_MAX: u32 = 10_000;

/// Room beside the largest batch in a client's message, in bytes.
const MESSAGE_SLACK: usize = 1024 * 1024;

/// Serves until `stop` is done.
///
/// # Errors
/// When the transport fails.
pub async fn serve(
    state: Arc<BrokerState>,
    listener: Listener,
    health: HealthServer<impl Health>,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let connections_max = state.options.connections_max;
    let client_limit = (4 * state.options.max_batch_bytes).max(16 * 1024 * 1024) + MESSAGE_SLACK;
    let log = LogServer::new(LogService::new(state.clone()))
        .max_decoding_message_size(client_limit)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let replica = ReplicaServer::new(ReplicaService::new(state.clone()))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let admin = AdminServer::new(AdminService::new(state)).max_encoding_message_size(MAX_MESSAGE_BYTES);
    let descriptors = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(vltava_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    // Some tools speak only the older of the two.
    let reflection = descriptors().build_v1().expect("the descriptors are compiled into this binary");
    let older_reflection =
        descriptors().build_v1alpha().expect("the descriptors are compiled into this binary");
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .tcp_keepalive(Some(Duration::from_secs(30)))
        .add_service(health)
        .add_service(reflection)
        .add_service(older_reflection)
        .add_service(WithRequests(log))
        .add_service(WithRequests(replica))
        .add_service(admin)
        .serve_with_incoming_shutdown(listener.incoming(connections_max), stop)
        .await
}
