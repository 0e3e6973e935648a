//! Bodies of gRPC messages in pieces that end where a message's prefix ends, and where the message does.
//!
//! A reader that learns how long a message is together with its first bytes has already put those somewhere, and moves them
//! when it makes room for the message. One that gets the prefix alone makes room first, once, and as much as is needed. No byte
//! is copied or changed here, so a body that holds something else comes through as it is.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tonic::codegen::{Service, http};
use tonic::server::NamedService;

/// What stands in front of each message: whether it is compressed (1), its length (4).
const PREFIX_BYTES: usize = 5;

/// See the module.
#[derive(Debug)]
pub struct Messages<B> {
    body: B,
    /// Received, and not yet passed on.
    rest: Bytes,
    at: At,
}

/// Where in the stream the next byte lies.
#[derive(Debug)]
enum At {
    Prefix { seen: [u8; PREFIX_BYTES], len: usize },
    Message { left: usize },
}

impl At {
    const START: Self = Self::Prefix { seen: [0; PREFIX_BYTES], len: 0 };

    /// How many of `bytes` come before the next end, and where that leaves the stream.
    fn pass(self, bytes: &[u8]) -> (usize, Self) {
        match self {
            Self::Prefix { mut seen, len } => {
                let many = bytes.len().min(PREFIX_BYTES - len);
                seen[len..len + many].copy_from_slice(&bytes[..many]);
                if len + many < PREFIX_BYTES {
                    return (many, Self::Prefix { seen, len: len + many });
                }
                let [_, length @ ..] = seen;
                match u32::from_be_bytes(length) as usize {
                    0 => (many, Self::START),
                    left => (many, Self::Message { left }),
                }
            }
            Self::Message { left } if bytes.len() < left => {
                (bytes.len(), Self::Message { left: left - bytes.len() })
            }
            Self::Message { left } => (left, Self::START),
        }
    }
}

impl<B> Messages<B> {
    /// The same bytes in such pieces.
    pub fn new(body: B) -> Self {
        Self { body, rest: Bytes::new(), at: At::START }
    }

    fn piece(&mut self) -> Bytes {
        let (many, at) = std::mem::replace(&mut self.at, At::START).pass(&self.rest);
        self.at = at;
        self.rest.split_to(many)
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Messages<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)).transpose()? {
                None => return Poll::Ready(None),
                Some(frame) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
            }
        }
        Poll::Ready(Some(Ok(Frame::data(self.piece()))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (of_body, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(of_body.lower() + rest);
        if let Some(upper) = of_body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

/// A server's service that gets the bodies of its requests as [`Messages`].
#[derive(Clone, Debug)]
pub struct WithRequests<S>(pub S);

impl<S: NamedService> NamedService for WithRequests<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<http::Request<B>> for WithRequests<S>
where
    S: Service<http::Request<Messages<B>>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> S::Future {
        self.0.call(request.map(Messages::new))
    }
}

/// A client's channel that gives the bodies of its responses as [`Messages`].
#[derive(Clone, Debug)]
pub struct WithResponses<S>(pub S);

impl<S, A, B> Service<http::Request<A>> for WithResponses<S>
where
    S: Service<http::Request<A>, Response = http::Response<B>>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Messages<B>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<A>) -> Self::Future {
        let response = self.0.call(request);
        Box::pin(async move { Ok(response.await?.map(Messages::new)) })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;

    use super::*;

    /// A body that comes in these pieces.
    struct Pieces(VecDeque<Frame<Bytes>>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(Ok))
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }
    }

    fn message(len: usize) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend((len as u32).to_be_bytes());
        bytes.extend((0..len).map(|n| n as u8));
        bytes
    }

    /// All pieces of data, and whether trailers came last.
    fn read(frames: impl IntoIterator<Item = Frame<Bytes>>) -> (Vec<Bytes>, bool) {
        let mut body = Messages::new(Pieces(frames.into_iter().collect()));
        let (mut pieces, mut trailers) = (Vec::new(), false);
        let mut context = Context::from_waker(std::task::Waker::noop());
        while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut context) {
            match frame.into_data() {
                Ok(data) => pieces.push(data),
                Err(_) => trailers = true,
            }
        }
        assert!(body.is_end_stream());
        (pieces, trailers)
    }

    #[test]
    fn pieces_end_behind_prefixes_and_messages_however_the_bytes_come() {
        let lengths = [300, 0, 1, 7, 0, 20_000, 4];
        let all: Vec<u8> = lengths.iter().flat_map(|len| message(*len)).collect();
        for size in [1, 2, 3, 5, 6, 64, 4096, all.len()] {
            let frames = all
                .chunks(size)
                .map(|piece| Frame::data(Bytes::copy_from_slice(piece)))
                .chain([Frame::data(Bytes::new()), Frame::trailers(http::HeaderMap::new())]);
            let (pieces, trailers) = read(frames);
            assert!(trailers);
            assert_eq!(pieces.concat(), all, "pieces of {size}");
            let mut ends = Vec::new();
            let mut end = 0;
            for piece in &pieces {
                end += piece.len();
                ends.push(end);
            }
            let mut wanted = 0;
            for len in lengths {
                for part in [PREFIX_BYTES, len] {
                    wanted += part;
                    assert!(ends.contains(&wanted), "an end at {wanted}, pieces of {size}");
                }
            }
        }
    }

    #[test]
    fn a_message_that_comes_at_once_is_passed_on_where_it_lies() {
        let bytes = Bytes::from(message(100));
        let (pieces, _) = read([Frame::data(bytes.clone())]);
        assert_eq!(pieces.len(), 2);
        assert_eq!(pieces[1].as_ptr(), bytes[PREFIX_BYTES..].as_ptr());
    }

    #[test]
    fn what_is_no_message_comes_through_as_it_is() {
        let text = Bytes::from_static(b"502 Bad Gateway: nobody is there");
        let (pieces, _) = read([Frame::data(text.clone())]);
        assert_eq!(pieces.concat(), text);
    }
}
