//! Reads of ranges, whose answers are written while they are read.
//!
//! The store tells how many bytes the keys take before it reads a value, so the message's length can go first
//! and its pages after it, one at a time and only as fast as the client takes them. An answer that fails on
//! its way ends in a reset of the stream: a message whose length was told cannot be taken back.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use capstan_store::{KeyRange, KeyValue, RangeRequest, RangeStream, Refusal};
use futures::stream::{self, Stream, StreamExt};
use http::{HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::sync::mpsc;
use tonic::Status;
use tonic::body::Body;
use tonic::codec::{Codec, Streaming};
use tonic_prost::ProstCodec;

use super::caller::Host;
use super::{check, frames, unary};
use crate::convert;
use crate::errors::{refused, status, status_of};
use crate::proto::etcdserverpb as pb;

/// So many keys are read at once.
const SMALL_KEYS_MAX: usize = 8;

type RangeCodec = ProstCodec<pb::RangeResponse, pb::RangeRequest>;

/// Answers `KV/Range`.
pub(super) async fn answer<B>(host: &Arc<Host>, request: Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    match read(host, request).await {
        Ok(body) => {
            let mut response = Response::new(body);
            let kind = HeaderValue::from_static("application/grpc");
            response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
            response
        }
        Err(status) => status.into_http(),
    }
}

async fn read<B>(host: &Arc<Host>, request: Request<B>) -> Result<Body, Status>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let (parts, body) = request.into_parts();
    let decoder = RangeCodec::default().decoder();
    let bytes_max = host.options.message_bytes_max();
    let mut messages = Streaming::new_request(decoder, body, None, Some(bytes_max));
    let message = messages.message().await?;
    let request = message.ok_or_else(|| Status::internal("Missing request message."))?;
    if host.store.raft_glance().is_learner && !request.serializable {
        return Err(refused(Refusal::NotSupportedForLearner));
    }
    check::range(&request).map_err(status_of)?;
    let caller = host.caller_of(&parts.headers, &parts.extensions).await?;
    let asked = convert::range_request(&request);
    if is_small(&asked) {
        let answer = host.store.range_as(caller, asked).await.map_err(status)?;
        let header = host.header(answer.revision);
        return Ok(unary::body(&convert::range_response(answer, header)));
    }
    let mut stream = host.store.range_stream_as(caller, asked).await.map_err(status)?;
    let (first, kvs_bytes) = begin(&mut stream).await?;
    let header = host.header(stream.revision);
    let frame = frames::frame(header, stream.more, stream.count, kvs_bytes).map_err(too_large)?;
    let mut out = BytesMut::from(&frame.head[..]);
    frames::encode_page(first, &mut out);
    let pages = pages(out, stream.pages, frame.tail);
    Ok(Body::new(StreamBody::new(pages.chain(stream::once(trailers())))))
}

/// Whether the answer is not worth more than one piece.
fn is_small(asked: &RangeRequest) -> bool {
    matches!(asked.range, KeyRange::Key(_)) || asked.count_only || (1..=SMALL_KEYS_MAX).contains(&asked.limit)
}

/// The first page, and the bytes of all; where the store does not know them, all pages are the first.
async fn begin(stream: &mut RangeStream) -> Result<(Vec<KeyValue>, u64), Status> {
    let mut first = match stream.pages.recv().await {
        Some(page) => page.map_err(status)?,
        None => Vec::new(),
    };
    if let Some(kvs_bytes) = stream.kvs_wire_bytes {
        return Ok((first, kvs_bytes));
    }
    while let Some(page) = stream.pages.recv().await {
        first.append(&mut page.map_err(status)?);
    }
    let kvs_bytes = frames::kvs_bytes(&first);
    Ok((first, kvs_bytes))
}

fn too_large(message_bytes: u64) -> Status {
    Status::resource_exhausted(format!(
        "grpc: trying to send message larger than max ({message_bytes} vs. {})",
        i32::MAX
    ))
}

enum Next {
    Page(
        BytesMut,
        mpsc::Receiver<capstan_store::Result<Vec<KeyValue>>>,
        Bytes,
    ),
    End,
}

/// The message: what is encoded already, then each further page, then the tail with the last.
fn pages(
    out: BytesMut,
    pages: mpsc::Receiver<capstan_store::Result<Vec<KeyValue>>>,
    tail: Bytes,
) -> impl Stream<Item = Result<Frame<Bytes>, Status>> + Send {
    stream::unfold(Next::Page(out, pages, tail), |next| async move {
        let Next::Page(mut out, mut pages, tail) = next else {
            return None;
        };
        match pages.recv().await {
            Some(Ok(page)) => {
                let ready = out.split().freeze();
                frames::encode_page(page, &mut out);
                Some((Ok(Frame::data(ready)), Next::Page(out, pages, tail)))
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "a range's answer is cut off");
                Some((Err(status(error)), Next::End))
            }
            None => {
                out.extend_from_slice(&tail);
                Some((Ok(Frame::data(out.freeze())), Next::End))
            }
        }
    })
}

async fn trailers() -> Result<Frame<Bytes>, Status> {
    Ok(Frame::trailers(unary::ok()))
}
