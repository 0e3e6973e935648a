//! Where connections come from and go to, so that a simulated network can stand in for TCP.
//!
//! Without one, [`connect_lazy`] is tonic's own after one relaxed atomic load, and a [`Connection`] is a TCP stream behind
//! one branch. Which services speak over a connection, and with which settings, is not known here.

mod dial;
mod listen;
mod messages;

pub use dial::{Dialing, Network, connect_lazy, install, knock};
pub use listen::{Accept, Connection, Incoming, Listener};
pub use messages::{Messages, WithRequests, WithResponses};

use tokio::io::{AsyncRead, AsyncWrite};

/// An ordered stream of bytes in both directions, as TCP gives one.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}
