//! Connections that others open to this process.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
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
    ///
    /// At most `connections_max` are open at once: others wait in the system's queue until one is closed.
    pub fn incoming(self, connections_max: usize) -> Incoming {
        let places = Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS)));
        Incoming { listener: self, places, next: Next::Unasked, pause: None, failures: 0 }
    }
}

/// How long no connection is taken after the system could not give one.
const PAUSE: Duration = Duration::from_millis(50);

/// A warning once in so many failures that follow each other.
const FAILURES_A_WARNING: u64 = 200;

/// The connections of a [`Listener`]. It neither ends nor gives an error: a connection that is gone before it was taken is
/// nobody's, and where the process has no descriptor or memory left for one, it waits a while and asks again.
pub struct Incoming {
    listener: Listener,
    places: Arc<Semaphore>,
    next: Next,
    pause: Option<Pin<Box<Sleep>>>,
    /// Since the last connection.
    failures: u64,
}

/// The place of the next connection.
enum Next {
    Unasked,
    Asked(Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send>>),
    Had(OwnedSemaphorePermit),
}

impl Incoming {
    /// Waits until one more connection may be open.
    fn poll_place(&mut self, context: &mut Context<'_>) -> Poll<OwnedSemaphorePermit> {
        loop {
            match std::mem::replace(&mut self.next, Next::Unasked) {
                Next::Had(place) => return Poll::Ready(place),
                Next::Asked(mut asked) => match asked.as_mut().poll(context) {
                    Poll::Ready(Some(place)) => return Poll::Ready(place),
                    // Nobody closes it.
                    Poll::Ready(None) => return Poll::Pending,
                    Poll::Pending => {
                        self.next = Next::Asked(asked);
                        return Poll::Pending;
                    }
                },
                Next::Unasked => match self.places.clone().try_acquire_owned() {
                    Ok(place) => return Poll::Ready(place),
                    Err(_) => {
                        tracing::warn!(
                            "as many connections are open as may be: further ones wait until others are closed"
                        );
                        let places = self.places.clone();
                        self.next = Next::Asked(Box::pin(async { places.acquire_owned().await.ok() }));
                    }
                },
            }
        }
    }

    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        match &mut self.listener {
            Listener::Tcp(listener) => listener.poll_accept(context).map_ok(|(connection, _)| {
                if let Err(error) = connection.set_nodelay(true) {
                    tracing::debug!(%error, "cannot set TCP_NODELAY");
                }
                Bytes::Tcp(connection)
            }),
            Listener::Other(listener) => listener.poll_accept(context).map_ok(Bytes::Other),
        }
    }

    /// After an error: at once the next connection, or a while later.
    fn failed(&mut self, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
        if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted) {
            return;
        }
        if self.failures.is_multiple_of(FAILURES_A_WARNING) {
            tracing::warn!(%error, "cannot take a connection: trying again");
        }
        self.failures += 1;
        self.pause = Some(Box::pin(tokio::time::sleep(PAUSE)));
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Connection>>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            let place = ready!(self.poll_place(context));
            match self.poll_accept(context) {
                Poll::Ready(Ok(bytes)) => {
                    self.failures = 0;
                    return Poll::Ready(Some(Ok(Connection { bytes, _place: place })));
                }
                Poll::Ready(Err(error)) => {
                    self.next = Next::Had(place);
                    self.failed(&error);
                }
                Poll::Pending => {
                    self.next = Next::Had(place);
                    return Poll::Pending;
                }
            }
        }
    }
}

/// One connection that came in; dropping it makes room for another.
pub struct Connection {
    bytes: Bytes,
    _place: OwnedSemaphorePermit,
}

enum Bytes {
    Tcp(TcpStream),
    Other(Box<dyn ByteStream>),
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().bytes {
            Bytes::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Bytes::Other(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().bytes {
            Bytes::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Bytes::Other(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().bytes {
            Bytes::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Bytes::Other(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().bytes {
            Bytes::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Bytes::Other(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().bytes {
            Bytes::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Bytes::Other(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.bytes {
            Bytes::Tcp(stream) => stream.is_write_vectored(),
            Bytes::Other(stream) => stream.is_write_vectored(),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        match &self.bytes {
            Bytes::Tcp(stream) => stream.connect_info(),
            Bytes::Other(_) => TcpConnectInfo { local_addr: None, remote_addr: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_stream::StreamExt;

    use super::*;

    /// A process without descriptors, so many times; then connections.
    struct Exhausted {
        times: u32,
        asked: Arc<std::sync::atomic::AtomicU32>,
    }

    impl Accept for Exhausted {
        fn poll_accept(&mut self, _: &mut Context<'_>) -> Poll<io::Result<Box<dyn ByteStream>>> {
            self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if self.times > 0 {
                self.times -= 1;
                // EMFILE.
                return Poll::Ready(Err(io::Error::from_raw_os_error(24)));
            }
            Poll::Ready(Ok(Box::new(tokio::io::duplex(1).0)))
        }
    }

    #[tokio::test]
    async fn a_process_without_descriptors_asks_again_later_and_does_not_spin() {
        let asked = Arc::default();
        let exhausted = Exhausted { times: 5, asked: Arc::clone(&asked) };
        let began = tokio::time::Instant::now();
        let mut incoming = Listener::Other(Box::new(exhausted)).incoming(10);
        assert!(incoming.next().await.unwrap().is_ok());
        assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 6);
        assert!(began.elapsed() >= 5 * PAUSE);
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_wait_until_one_is_closed() {
        let exhausted = Exhausted { times: 0, asked: Arc::default() };
        let mut incoming = Listener::Other(Box::new(exhausted)).incoming(2);
        let first = incoming.next().await.unwrap().unwrap();
        let _second = incoming.next().await.unwrap().unwrap();
        let mut third = std::pin::pin!(incoming.next());
        let waits =
            std::future::poll_fn(|context| Poll::Ready(third.as_mut().poll(context).is_pending())).await;
        assert!(waits, "a third connection was taken");
        drop(first);
        assert!(third.await.unwrap().is_ok());
    }

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
        let mut connection = listener.incoming(1).next().await.unwrap().unwrap();
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
