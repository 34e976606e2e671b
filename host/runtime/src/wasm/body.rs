//! A response's body, which ends its guest's call when the client goes away before the end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio_util::sync::DropGuard;
use wasmtime_wasi_http::Error;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

/// A guest's body, or one of the host's own.
pub(crate) struct Body {
    inner: HyperOutgoingBody,
    /// Cancels the guest's call when dropped; disarmed at the end of the body.
    guard: Option<DropGuard>,
}

impl Body {
    pub(crate) fn plain(inner: HyperOutgoingBody) -> Self {
        Self { inner, guard: None }
    }

    pub(crate) fn guarded(inner: HyperOutgoingBody, guard: DropGuard) -> Self {
        let mut body = Self {
            inner,
            guard: Some(guard),
        };
        body.disarm_at_end();
        body
    }

    fn disarm_at_end(&mut self) {
        if http_body::Body::is_end_stream(&self.inner) {
            self.disarm();
        }
    }

    fn disarm(&mut self) {
        if let Some(guard) = self.guard.take() {
            guard.disarm();
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        match &frame {
            Some(Ok(_)) => self.disarm_at_end(),
            // The guest may still finish its call, after the body or after it failed by itself.
            Some(Err(_)) | None => self.disarm(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
