//! The CONTROLLER listener: all services of a controller on one port, with reflection and the standard health service.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio_stream::StreamExt;
use tonic::transport::Server;
use tonic::transport::server::{Connected, TcpConnectInfo};
use tonic_health::pb::health_server::{Health, HealthServer};
use vltava_proto::v1::admin_server::AdminServer;
use vltava_proto::v1::controller_server::ControllerServer;
use vltava_proto::v1::raft_server::RaftServer;
use vltava_transport::{Connection, Listener};

use crate::raft::network::{KEEPALIVE, MAX_MESSAGE_BYTES};
use crate::services::admin::AdminService;
use crate::services::controller::ControllerService;
use crate::services::raft::Server as RaftService;

/// Streams that one connection may have open.
const STREAMS_MAX: u32 = 1_000;

/// Connections that may be open at once: brokers, other controllers, and people.
const CONNECTIONS_MAX: usize = 4_096;
/// The largest request of an administrator, in bytes.
const ADMIN_BYTES: usize = 16 << 20;

/// A connection that ends at once when it is cut: a stream that a peer keeps open does not hold up a stop.
struct Cuttable {
    connection: Connection,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Cuttable {
    fn new(connection: Connection, mut cut: watch::Receiver<bool>) -> Self {
        let cut = async move {
            // Whoever could cut it is gone: so is the listener.
            let _ = cut.wait_for(|cut| *cut).await;
        };
        Self { connection, cut: Box::pin(cut) }
    }

    fn poll_cut(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(context) {
            Poll::Ready(()) => {
                self.cut = Box::pin(std::future::ready(()));
                Err(io::ErrorKind::ConnectionAborted.into())
            }
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Cuttable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_cut(context)?;
        Pin::new(&mut self.connection).poll_read(context, buffer)
    }
}

impl AsyncWrite for Cuttable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }
}

impl Connected for Cuttable {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.connection.connect_info()
    }
}

/// What the listener serves.
pub(crate) struct Services<H> {
    pub raft: RaftService,
    pub controller: ControllerService,
    pub admin: AdminService,
    pub health: H,
}

/// Serves until `stop` is done.
///
/// # Errors
/// When the transport fails.
pub(crate) async fn serve<H: Health>(
    services: Services<HealthServer<H>>,
    listener: Listener,
    stop: impl Future<Output = ()>,
    cut: watch::Receiver<bool>,
) -> Result<(), tonic::transport::Error> {
    let raft = RaftServer::new(services.raft)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    // A snapshot of the metadata is one message to a broker.
    let controller = ControllerServer::new(services.controller)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let admin = AdminServer::new(services.admin)
        .max_decoding_message_size(ADMIN_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(vltava_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the descriptors are compiled into this binary");
    let incoming = listener
        .incoming(CONNECTIONS_MAX)
        .map(move |connection| Ok::<_, io::Error>(Cuttable::new(connection?, cut.clone())));
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(8 << 20)
        .max_concurrent_streams(STREAMS_MAX)
        .tcp_keepalive(Some(Duration::from_secs(30)))
        .add_service(services.health)
        .add_service(reflection)
        .add_service(raft)
        .add_service(controller)
        .add_service(admin)
        .serve_with_incoming_shutdown(incoming, stop)
        .await
}
