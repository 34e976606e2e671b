//! Watches: any number of them on one stream, with ids that the client or the stream chooses.
//!
//! A stream is polled by its connection, without a task or a queue of its own: it takes an event from a watch
//! only when the client takes it, and what a slow client leaves stays in the store's bounded queues, where it
//! is demoted to catching up. Watches of a stream take turns ([`session`]); what is said of progress travels
//! among a watch's events ([`progress`]), so that it is never ahead of them.

mod opening;
mod progress;
mod reply;
mod session;

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::server::{Grpc, StreamingService};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::caller::Host;
use crate::proto::etcdserverpb as pb;
use session::Session;

/// Answers `Watch/Watch`.
pub(super) async fn answer<B>(host: &Arc<Host>, request: http::Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    Grpc::new(ProstCodec::default())
        .max_decoding_message_size(host.options.message_bytes_max())
        .streaming(WatchService(host.clone()), request)
        .await
}

struct WatchService(Arc<Host>);

impl StreamingService<pb::WatchRequest> for WatchService {
    type Response = pb::WatchResponse;
    type ResponseStream = Session;
    type Future = BoxFuture<tonic::Response<Session>, Status>;

    fn call(&mut self, request: Request<Streaming<pb::WatchRequest>>) -> Self::Future {
        let session = Session::new(self.0.clone(), request);
        Box::pin(async move { Ok(tonic::Response::new(session)) })
    }
}
