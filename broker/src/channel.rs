//! Connections to peers, with the settings that decide latency and how fast a silent peer is noticed.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

/// The largest message on internal services, in bytes: a batch of the largest size with room for its frame.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// Flow-control window of one stream, in bytes. HTTP/2's 64 KiB costs half of the throughput.
pub const STREAM_WINDOW: u32 = 8 * 1024 * 1024;

/// Flow-control window of one connection, in bytes.
pub const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// What a peer may send in one HTTP/2 frame, in bytes: each frame costs a call of the system at both ends.
pub const FRAME_BYTES: u32 = 64 * 1024;

/// How often an idle connection is probed, and how long the answer may take.
pub const KEEPALIVE: Duration = Duration::from_secs(5);

/// How often the connection to a leader is probed, and how long the answer may take: one that carries nothing in either
/// direction is given up after both, and made anew as soon as it can be.
const WATCH: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(2));

/// A channel to `HOST:PORT` that connects when first used.
///
/// # Errors
/// When the address is no address.
pub fn lazy(address: &str) -> Result<Channel, tonic::transport::Error> {
    probed(address, (KEEPALIVE, KEEPALIVE))
}

/// The same, for a peer whose silence costs others.
///
/// # Errors
/// When the address is no address.
pub fn watched(address: &str) -> Result<Channel, tonic::transport::Error> {
    probed(address, WATCH)
}

fn probed(address: &str, (every, answer): (Duration, Duration)) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    let endpoint = endpoint
        .connect_timeout(Duration::from_secs(1))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(every)
        .keep_alive_timeout(answer)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES);
    Ok(vltava_transport::connect_lazy(&endpoint))
}
