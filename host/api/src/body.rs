//! The one body type of requests and responses, whether they came over TLS or from a client in process.
//!
//! A body is bytes that are there already, whole or in slices (lists), or a stream (watches, logs). Called by
//! every module that answers. Size limits are the reader's business: see [`Body::collect`].

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;

/// An error under a body: a broken connection, a failed upstream.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Of a body that is too long, so many times its limit is still read.
const DISCARD_FACTOR: usize = 8;

type Slices = Pin<Box<dyn Stream<Item = Result<Bytes, BoxError>> + Send>>;

/// A request's or response's body.
pub struct Body(Inner);

enum Inner {
    Full(Bytes),
    /// The slices that are left, and their bytes.
    Slices(VecDeque<Bytes>, usize),
    Stream(Slices),
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Inner::Full(bytes) => write!(f, "Body({} bytes)", bytes.len()),
            Inner::Slices(_, bytes) => write!(f, "Body({bytes} bytes in slices)"),
            Inner::Stream(_) => f.write_str("Body(stream)"),
        }
    }
}

impl Body {
    /// A body without bytes.
    pub fn empty() -> Self {
        Self(Inner::Full(Bytes::new()))
    }

    /// A body whose bytes are there in slices, none of them empty.
    pub fn slices(slices: impl Into<VecDeque<Bytes>>) -> Self {
        let slices = slices.into();
        let bytes = slices.iter().map(Bytes::len).sum();
        Self(Inner::Slices(slices, bytes))
    }

    /// Its bytes, where all of them are there already.
    pub(crate) fn ready_bytes(&self) -> Option<usize> {
        match &self.0 {
            Inner::Full(bytes) => Some(bytes.len()),
            Inner::Slices(_, bytes) => Some(*bytes),
            Inner::Stream(_) => None,
        }
    }

    /// Its bytes in one piece, where all of them are there already.
    pub(crate) fn ready(&self) -> Option<Bytes> {
        match &self.0 {
            Inner::Full(bytes) => Some(bytes.clone()),
            Inner::Slices(slices, bytes) => {
                let mut whole = BytesMut::with_capacity(*bytes);
                slices.iter().for_each(|slice| whole.extend_from_slice(slice));
                Some(whole.freeze())
            }
            Inner::Stream(_) => None,
        }
    }

    /// The same body, which drops `held` when it is dropped itself or at its end.
    pub(crate) fn hold(self, held: impl Send + 'static) -> Self {
        let slices: Slices = match self.0 {
            Inner::Full(bytes) if bytes.is_empty() => Box::pin(futures::stream::empty()),
            Inner::Full(bytes) => Box::pin(futures::stream::iter([Ok(bytes)])),
            Inner::Slices(slices, _) => Box::pin(futures::stream::iter(slices).map(Ok)),
            Inner::Stream(slices) => slices,
        };
        let state = (slices, held);
        Self::stream(futures::stream::unfold(state, |(mut slices, held)| async move {
            let slice = slices.next().await?;
            Some((slice, (slices, held)))
        }))
    }

    /// Its slices, where all of them are there already; itself otherwise.
    pub(crate) fn into_slices(self) -> Result<VecDeque<Bytes>, Self> {
        match self.0 {
            Inner::Full(bytes) => Ok([bytes].into()),
            Inner::Slices(slices, _) => Ok(slices),
            stream => Err(Self(stream)),
        }
    }

    /// A body that is produced while it is sent.
    pub fn stream(slices: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static) -> Self {
        Self(Inner::Stream(Box::pin(slices)))
    }

    /// Any other body; trailers are dropped.
    pub fn wrap<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if body.is_end_stream() {
            return Self::empty();
        }
        let frames = body.into_data_stream();
        Self::stream(frames.map(|slice| slice.map_err(Into::into)))
    }

    /// All bytes, or none where there are more than `limit_bytes`. What is over the limit is read and
    /// dropped, to a bound, so that the sender gets to see the answer.
    pub async fn collect(self, limit_bytes: usize) -> Result<Option<Bytes>, BoxError> {
        let mut slices = match self.0 {
            Inner::Full(bytes) => return Ok((bytes.len() <= limit_bytes).then_some(bytes)),
            Inner::Slices(_, bytes) if bytes > limit_bytes => return Ok(None),
            Inner::Slices(slices, _) => Box::pin(futures::stream::iter(slices).map(Ok)),
            Inner::Stream(slices) => slices,
        };
        let mut first: Option<Bytes> = None;
        let mut all = BytesMut::new();
        while let Some(slice) = slices.next().await {
            let slice = slice?;
            let read = all.len() + first.as_ref().map_or(0, Bytes::len) + slice.len();
            if read > limit_bytes {
                drop((first, all));
                discard(slices, limit_bytes.saturating_mul(DISCARD_FACTOR)).await;
                return Ok(None);
            }
            match first.take() {
                None if all.is_empty() => first = Some(slice),
                None => all.extend_from_slice(&slice),
                Some(held) => {
                    all.extend_from_slice(&held);
                    all.extend_from_slice(&slice);
                }
            }
        }
        Ok(Some(first.unwrap_or_else(|| all.freeze())))
    }
}

async fn discard(mut slices: Slices, limit_bytes: usize) {
    let mut read = 0;
    while let Some(Ok(slice)) = slices.next().await {
        read += slice.len();
        if read > limit_bytes {
            return;
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self(Inner::Full(bytes))
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Inner::Full(bytes.into()))
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self(Inner::Full(text.into()))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.get_mut().0 {
            Inner::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Inner::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Inner::Slices(slices, left) => Poll::Ready(slices.pop_front().map(|slice| {
                *left -= slice.len();
                Ok(Frame::data(slice))
            })),
            Inner::Stream(slices) => slices.as_mut().poll_next(context).map_ok(Frame::data),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Full(bytes) => bytes.is_empty(),
            Inner::Slices(slices, _) => slices.is_empty(),
            Inner::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Slices(_, bytes) => SizeHint::with_exact(*bytes as u64),
            Inner::Stream(_) => SizeHint::default(),
        }
    }
}
