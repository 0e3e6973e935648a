//! What a process holds of the network: connections and listeners, in the forms that `vltava_transport` wants.

use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use vltava_transport::{Accept, ByteStream, Dialing, Network};

use super::{Backlog, Conn, ConnId, End, Net, Side, Stage, WINDOW, What, net};
use crate::host::{self, HostId};

/// Has all connections of this process go over the simulated network.
pub fn install() {
    vltava_transport::install(Box::new(Simulated));
}

struct Simulated;

impl Network for Simulated {
    fn dial(&self, address: &str) -> Dialing {
        let address = address.to_owned();
        Box::pin(async move {
            let parts = address.rsplit_once(':');
            let target = parts.and_then(|(name, port)| Some((host::find(name)?, port.parse().ok()?)));
            let Some((target, port)) = target else {
                return Err(io::Error::new(ErrorKind::NotFound, format!("no machine is at {address}")));
            };
            let stream = SimStream { conn: open(host::current(), target, port), side: 0 };
            poll_fn(|context| stream.poll_opened(context)).await?;
            Ok(Box::new(stream) as Box<dyn ByteStream>)
        })
    }
}

fn open(from: HostId, to: HostId, port: u16) -> ConnId {
    let mut net = net();
    net.last_conn += 1;
    let id = net.last_conn;
    net.conns.insert(id, Conn { port, mute: false, ends: [End::new(from), End::new(to)] });
    net.send(id, 0, What::Dial);
    id
}

/// One end of a connection.
struct SimStream {
    conn: ConnId,
    side: Side,
}

impl SimStream {
    /// Looks at this end, and drops the wakers that `act` gives back only when the network's lock is free.
    fn with<R>(&self, act: impl FnOnce(&mut Net, ConnId, Side) -> (R, Option<Waker>)) -> R {
        let (result, waker) = act(&mut net(), self.conn, self.side);
        drop(waker);
        result
    }

    fn poll_opened(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|net, conn, side| {
            let end = net.end(conn, side);
            match end.stage {
                Stage::Opening => (Poll::Pending, end.reader.replace(context.waker().clone())),
                Stage::Broken(kind) => (Poll::Ready(Err(kind.into())), None),
                Stage::Open | Stage::Dropped => (Poll::Ready(Ok(())), None),
            }
        })
    }

    /// Takes as much of `len` bytes as the window has room for; `copy` gives that many.
    fn poll_send(
        &self,
        context: &mut Context<'_>,
        len: usize,
        copy: impl FnOnce(usize) -> Bytes,
    ) -> Poll<io::Result<usize>> {
        self.with(|net, conn, side| {
            let end = net.end(conn, side);
            if let Stage::Broken(kind) = end.stage {
                return (Poll::Ready(Err(kind.into())), None);
            }
            if end.shut {
                return (Poll::Ready(Err(ErrorKind::BrokenPipe.into())), None);
            }
            let room = WINDOW.saturating_sub(end.outstanding).min(len);
            if room == 0 && len > 0 {
                return (Poll::Pending, end.writer.replace(context.waker().clone()));
            }
            end.outstanding += room;
            if room > 0 {
                net.send(conn, side, What::Bytes(copy(room)));
            }
            (Poll::Ready(Ok(room)), None)
        })
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (poll, writer) = self.with(|net, conn, side| {
            let end = net.end(conn, side);
            let read = end.take(buffer);
            if read == 0 && buffer.remaining() > 0 {
                return match end.stage {
                    Stage::Broken(kind) => ((Poll::Ready(Err(kind.into())), None), None),
                    _ if end.finished => ((Poll::Ready(Ok(())), None), None),
                    _ => ((Poll::Pending, None), end.reader.replace(context.waker().clone())),
                };
            }
            let other = net.end(conn, 1 - side);
            other.outstanding = other.outstanding.saturating_sub(read);
            ((Poll::Ready(Ok(())), other.writer.take()), None)
        });
        if let Some(writer) = writer {
            writer.wake();
        }
        poll
    }
}

impl End {
    /// Moves what has arrived into `buffer`; says how much.
    fn take(&mut self, buffer: &mut ReadBuf<'_>) -> usize {
        let mut read = 0;
        while buffer.remaining() > 0
            && let Some(front) = self.arrived.front_mut()
        {
            let taken = front.len().min(buffer.remaining());
            buffer.put_slice(&front[..taken]);
            front.advance(taken);
            read += taken;
            if front.is_empty() {
                self.arrived.pop_front();
            }
        }
        read
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(context, bytes.len(), |room| Bytes::copy_from_slice(&bytes[..room]))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let len = parts.iter().map(|part| part.len()).sum();
        self.poll_send(context, len, |room| {
            let mut bytes = BytesMut::with_capacity(room);
            for part in parts {
                bytes.extend_from_slice(&part[..part.len().min(room - bytes.len())]);
            }
            bytes.freeze()
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|net, conn, side| {
            let end = net.end(conn, side);
            if !end.shut && end.stage == Stage::Open {
                end.shut = true;
                net.send(conn, side, What::Finish);
            }
            (Poll::Ready(Ok(())), None)
        })
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        let wakers = {
            let mut net = net();
            // A process that was killed has left before it is dropped.
            if !net.conns.contains_key(&self.conn) {
                return;
            }
            let end = net.end(self.conn, self.side);
            let (stage, shut, unread) = (end.stage, end.shut, !end.arrived.is_empty());
            end.stage = Stage::Dropped;
            end.arrived.clear();
            let wakers = (end.reader.take(), end.writer.take());
            match stage {
                Stage::Open if unread => net.send(self.conn, self.side, What::Reset),
                Stage::Open if !shut => net.send(self.conn, self.side, What::Finish),
                Stage::Open | Stage::Opening | Stage::Broken(_) | Stage::Dropped => {}
            }
            net.tidy(self.conn);
            wakers
        };
        drop(wakers);
    }
}

/// A listener of the process that runs now.
pub struct SimListener {
    host: HostId,
    port: u16,
}

impl SimListener {
    /// Listens on a port of the machine whose process runs now.
    ///
    /// # Panics
    /// When somebody does so already.
    pub fn bind(port: u16) -> Self {
        let host = host::current();
        let before = net().listeners.insert((host, port), Backlog::default());
        assert!(before.is_none(), "two listeners on port {port} of {host}");
        Self { host, port }
    }
}

impl Accept for SimListener {
    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Box<dyn ByteStream>>> {
        let mut net = net();
        let Some(backlog) = net.listeners.get_mut(&(self.host, self.port)) else {
            return Poll::Ready(Err(ErrorKind::NotConnected.into()));
        };
        let Some(conn) = backlog.waiting.pop_front() else {
            let before = backlog.waker.replace(context.waker().clone());
            drop(net);
            drop(before);
            return Poll::Pending;
        };
        Poll::Ready(Ok(Box::new(SimStream { conn, side: 1 })))
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        let backlog = net().listeners.remove(&(self.host, self.port));
        for conn in backlog.into_iter().flat_map(|backlog| backlog.waiting) {
            drop(SimStream { conn, side: 1 });
        }
    }
}
