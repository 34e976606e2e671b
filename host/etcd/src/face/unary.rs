//! A request of one message, come in one piece, and its answer of one message: what nearly every write is.
//!
//! tonic takes buffers of kilobytes and several boxes for each; here the message is decoded where it lies, and the
//! answer encoded at its length. What is not plain (in pieces, compressed, too large, damaged, more than one) is
//! left to tonic, as if nobody had looked at it ([`Again`]), so that there is one way to refuse it. Called by
//! `dispatch`.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use prost::Message;
use tonic::body::Body;
use tonic::{Code, Status};

use super::frames::{self, FRAME_HEADER_BYTES};

/// What was read.
pub(super) enum Asked<M, B: http_body::Body> {
    /// The message; nothing follows it.
    Plain(M),
    /// All that came, and what is still to come.
    Other(Again<B>),
}

/// A body of which a few frames were read, as it was before.
pub(super) struct Again<B: http_body::Body> {
    read: [Option<Result<Frame<B::Data>, B::Error>>; 2],
    rest: B,
}

impl<B: http_body::Body> Again<B> {
    /// A body that nobody has looked at.
    pub(super) fn new(body: B) -> Self {
        Self {
            read: [None, None],
            rest: body,
        }
    }
}

/// Reads a message of at most so many bytes, if it is plain.
pub(super) async fn read<M, B>(mut body: B, bytes_max: usize) -> Asked<M, B>
where
    M: Message + Default,
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let first = body.frame().await;
    let data = first.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
    let Some(message) = data.and_then(|data| plain(data, bytes_max)) else {
        return Asked::Other(Again {
            read: [first, None],
            rest: body,
        });
    };
    while !body.is_end_stream() {
        let next = body.frame().await;
        match &next {
            None => break,
            // Some clients end their stream by a frame of its own.
            Some(Ok(frame)) if frame.data_ref().is_some_and(Bytes::is_empty) => {}
            Some(_) => {
                return Asked::Other(Again {
                    read: [first, next],
                    rest: body,
                });
            }
        }
    }
    Asked::Plain(message)
}

fn plain<M: Message + Default>(data: &Bytes, bytes_max: usize) -> Option<M> {
    let mut message = data.clone();
    let is_compressed = message.try_get_u8().ok()? != 0;
    let length = message.try_get_u32().ok()? as usize;
    if is_compressed || length > bytes_max || length != data.len() - FRAME_HEADER_BYTES {
        return None;
    }
    M::decode(message).ok()
}

/// The answer on the wire.
pub(super) fn reply<M: Message>(answer: Result<tonic::Response<M>, Status>) -> Response<Body> {
    match answer {
        Ok(answer) => {
            let mut response = Response::new(body(answer.get_ref()));
            let kind = HeaderValue::from_static("application/grpc");
            response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
            response
        }
        Err(status) => status.into_http(),
    }
}

/// A message, and that all is well.
pub(super) fn body(message: &impl Message) -> Body {
    Body::new(Reply::Message(frames::whole(message)))
}

/// What is still to be sent.
enum Reply {
    Message(Bytes),
    Trailers,
    End,
}

impl http_body::Body for Reply {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let next = match &*self {
            Self::Message(_) => Self::Trailers,
            Self::Trailers | Self::End => Self::End,
        };
        Poll::Ready(match std::mem::replace(&mut *self, next) {
            Self::Message(message) => Some(Ok(Frame::data(message))),
            Self::Trailers => Some(Ok(Frame::trailers(ok()))),
            Self::End => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::End)
    }
}

/// The trailers of an answer that is whole.
pub(super) fn ok() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(Status::GRPC_STATUS, HeaderValue::from(Code::Ok as i32));
    trailers
}

impl<B> http_body::Body for Again<B>
where
    B: http_body::Body + Unpin,
    B::Data: Unpin,
    B::Error: Unpin,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let read = self.read.iter_mut().find_map(Option::take);
        match read {
            Some(frame) => Poll::Ready(Some(frame)),
            None => Pin::new(&mut self.rest).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.read.iter().all(Option::is_none) && self.rest.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::stream;
    use http_body_util::StreamBody;

    use super::*;
    use crate::proto::etcdserverpb::PutRequest;

    const BYTES_MAX: usize = 1000;

    fn put(value: usize) -> Bytes {
        frames::whole(&PutRequest {
            key: "k".into(),
            value: vec![7; value].into(),
            ..PutRequest::default()
        })
    }

    /// What is read of these pieces: the value's length, or all bytes that the next reader finds.
    async fn read_of(pieces: Vec<Bytes>) -> Result<usize, Vec<u8>> {
        let frames = pieces
            .into_iter()
            .map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
        let body = StreamBody::new(stream::iter(frames));
        match read::<PutRequest, _>(body, BYTES_MAX).await {
            Asked::Plain(message) => Ok(message.value.len()),
            Asked::Other(body) => Err(body.collect().await.unwrap().to_bytes().into()),
        }
    }

    #[tokio::test]
    async fn a_plain_message_is_read() {
        assert_eq!(read_of(vec![put(0)]).await, Ok(0));
        assert_eq!(read_of(vec![put(900)]).await, Ok(900));
        assert_eq!(read_of(vec![put(3), Bytes::new(), Bytes::new()]).await, Ok(3));
    }

    #[tokio::test]
    async fn whatever_else_comes_is_left_as_it_came() {
        let whole = put(100);
        let mut compressed = whole.to_vec();
        compressed[0] = 1;
        let mut damaged = whole.to_vec();
        damaged[FRAME_HEADER_BYTES] = 0xff;
        for pieces in [
            vec![],
            vec![Bytes::new()],
            vec![put(BYTES_MAX)],
            vec![compressed.into()],
            vec![damaged.into()],
            vec![whole.slice(..4), whole.slice(4..)],
            vec![whole.slice(..50), whole.slice(50..), Bytes::new()],
            vec![whole.clone(), whole.clone(), whole.slice(..9)],
            vec![whole.slice(..50)],
        ] {
            let sent = pieces.concat();
            assert_eq!(read_of(pieces).await, Err(sent));
        }
    }
}
