//! Connections that this process opens.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::codegen::{Service, http::Uri};
use tonic::transport::{Channel, Endpoint};

use crate::ByteStream;

/// A connection in the making.
pub type Dialing = Pin<Box<dyn Future<Output = io::Result<Box<dyn ByteStream>>> + Send>>;

/// Stands in for TCP.
pub trait Network: Send + Sync {
    /// Connects to `HOST:PORT`; called on the runtime of the process that dials.
    fn dial(&self, address: &str) -> Dialing;
}

static REPLACED: AtomicBool = AtomicBool::new(false);
static NETWORK: OnceLock<Box<dyn Network>> = OnceLock::new();

/// Has all connections of this process made by `network`; there is no way back.
///
/// # Panics
/// When one was installed already.
pub fn install(network: Box<dyn Network>) {
    assert!(NETWORK.set(network).is_ok(), "a process has one network");
    REPLACED.store(true, Ordering::Release);
}

/// A channel that connects when it is first used: by TCP, unless a network was installed.
pub fn connect_lazy(endpoint: &Endpoint) -> Channel {
    if !REPLACED.load(Ordering::Relaxed) {
        return endpoint.connect_lazy();
    }
    endpoint.connect_with_connector_lazy(Connector)
}

/// Connects to `host` at `port` and lets go at once: whether anybody listens there.
///
/// # Errors
/// As the system has it: [`io::ErrorKind::ConnectionRefused`] when nobody does.
pub async fn knock(host: &str, port: u16) -> io::Result<()> {
    match NETWORK.get() {
        Some(network) => network.dial(&format!("{host}:{port}")).await.map(drop),
        None => TcpStream::connect((host, port)).await.map(drop),
    }
}

/// Asks the installed network for each connection.
struct Connector;

impl Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn ByteStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        let dialing = match (NETWORK.get(), address.authority()) {
            (Some(network), Some(authority)) => Ok(network.dial(authority.as_str())),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("'{address}' names no host"))),
        };
        Box::pin(async move { Ok(TokioIo::new(dialing?.await?)) })
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_knock_says_whether_anybody_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        knock("127.0.0.1", port).await.unwrap();
        drop(listener);
        let refused = knock("127.0.0.1", port).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}
