//! Connections that others open to this process.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::Stream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::ByteStream;

/// A source of connections that is not a TCP socket.
pub trait Accept: Send {
    /// The next connection. An error concerns only the one that failed.
    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Box<dyn ByteStream>>>;
}

/// Where connections come in.
pub enum Listener {
    /// A socket.
    Tcp(TcpListener),
    /// Anything else.
    Other(Box<dyn Accept>),
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(listener) => f.debug_tuple("Tcp").field(listener).finish(),
            Self::Other(_) => f.write_str("Other"),
        }
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl Listener {
    /// The connections as they come in. On a socket they send without delay: tonic does not see to it itself on
    /// connections that it is handed, and answers would wait 40 ms for an acknowledgement.
    pub fn incoming(self) -> Incoming {
        Incoming(self)
    }
}

/// The connections of a [`Listener`]; it does not end.
#[derive(Debug)]
pub struct Incoming(Listener);

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Connection>>> {
        match &mut self.0 {
            Listener::Tcp(listener) => listener.poll_accept(context).map_ok(|(connection, _)| {
                if let Err(error) = connection.set_nodelay(true) {
                    tracing::debug!(%error, "cannot set TCP_NODELAY");
                }
                Connection::Tcp(connection)
            }),
            Listener::Other(listener) => listener.poll_accept(context).map_ok(Connection::Other),
        }
        .map(Some)
    }
}

/// One connection that came in.
pub enum Connection {
    /// Over TCP.
    Tcp(TcpStream),
    /// From another source.
    Other(Box<dyn ByteStream>),
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Other(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Other(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Other(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Other(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Self::Other(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Other(stream) => stream.is_write_vectored(),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        match self {
            Self::Tcp(stream) => stream.connect_info(),
            Self::Other(_) => TcpConnectInfo { local_addr: None, remote_addr: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_stream::StreamExt;

    use super::*;

    /// Gives away one end of a pipe.
    struct Once(Option<tokio::io::DuplexStream>);

    impl Accept for Once {
        fn poll_accept(&mut self, _: &mut Context<'_>) -> Poll<io::Result<Box<dyn ByteStream>>> {
            match self.0.take() {
                Some(stream) => Poll::Ready(Ok(Box::new(stream))),
                None => Poll::Pending,
            }
        }
    }

    async fn echo(listener: Listener) {
        let mut connection = listener.incoming().next().await.unwrap().unwrap();
        let mut bytes = [0; 3];
        connection.read_exact(&mut bytes).await.unwrap();
        connection.write_all(&bytes).await.unwrap();
        connection.shutdown().await.unwrap();
    }

    async fn ask(mut stream: impl ByteStream) {
        stream.write_all(b"abc").await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"abc");
    }

    #[tokio::test]
    async fn both_kinds_of_connection_carry_bytes() {
        let (here, there) = tokio::io::duplex(16);
        tokio::join!(echo(Listener::Other(Box::new(Once(Some(there))))), ask(here));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let dialing = async { ask(TcpStream::connect(address).await.unwrap()).await };
        tokio::join!(echo(listener.into()), dialing);
    }
}
