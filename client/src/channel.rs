//! Connections, with the settings that decide throughput and how fast a silent server is noticed.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use crate::error::ClientError;
use vltava_model::ErrorCode;

/// The largest message that this client takes, in bytes.
pub(crate) const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

const STREAM_WINDOW: u32 = 8 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// What the server may send in one HTTP/2 frame: each costs a call of the system at both ends.
const FRAME_BYTES: u32 = 64 * 1024;
const KEEPALIVE: Duration = Duration::from_secs(5);

/// A channel to `HOST:PORT` that connects when first used.
pub(crate) fn lazy(address: &str) -> Result<Channel, ClientError> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| {
        ClientError::new(ErrorCode::InvalidRequest, format!("'{address}' is not HOST:PORT: {error}"))
    })?;
    let endpoint = endpoint
        .connect_timeout(Duration::from_secs(2))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES);
    Ok(vltava_transport::connect_lazy(&endpoint))
}
