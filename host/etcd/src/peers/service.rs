//! The receiving side: hands messages to the member, and says what was turned away unread.

use bytes::Bytes;
use capstan_store::{PeerCallKind, PeerChunks, PeerError, PeerHandler};
use futures::StreamExt;
use futures::stream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::{CLUSTER_ID, KIND, MESSAGE_BYTES_MAX};
use crate::proto::peer::peer_server::{Peer, PeerServer};
use crate::proto::peer::{PeerAnswer, PeerChunk, PeerMessage};

/// The service that members call, for a member.
pub(crate) fn service(handler: PeerHandler) -> PeerServer<impl Peer> {
    PeerServer::new(Service { handler })
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
}

struct Service {
    handler: PeerHandler,
}

fn turned_away(reason: &str) -> Status {
    Status::failed_precondition(reason)
}

fn status(error: PeerError) -> Status {
    match error {
        PeerError::Unreachable(reason) => turned_away(&reason),
        PeerError::Failed(reason) => Status::aborted(reason),
    }
}

fn cluster_id(metadata: &MetadataMap) -> Result<u64, Status> {
    let text = metadata.get(CLUSTER_ID).and_then(|id| id.to_str().ok());
    text.and_then(|id| u64::from_str_radix(id, 16).ok())
        .ok_or_else(|| turned_away("the message does not say from which cluster it comes"))
}

fn kind(number: Option<u32>) -> Result<PeerCallKind, Status> {
    number
        .and_then(|number| u8::try_from(number).ok())
        .and_then(PeerCallKind::of_number)
        .ok_or_else(|| turned_away("a message of an unknown kind"))
}

/// The chunks' bodies, with an error where they end without their last word.
fn bodies(chunks: Streaming<PeerChunk>) -> PeerChunks {
    let broken_off = || PeerError::Failed("the sender broke off".into());
    stream::unfold(Some(chunks), move |chunks| async move {
        let mut chunks = chunks?;
        match chunks.message().await {
            Ok(Some(PeerChunk { is_last: true, .. })) => None,
            Ok(Some(PeerChunk { body, .. })) => Some((Ok(body), Some(chunks))),
            Ok(None) => Some((Err(broken_off()), None)),
            Err(status) => Some((Err(PeerError::Failed(status.message().to_owned())), None)),
        }
    })
    .boxed()
}

#[tonic::async_trait]
impl Peer for Service {
    async fn call(&self, request: Request<PeerMessage>) -> Result<Response<PeerAnswer>, Status> {
        let from = cluster_id(request.metadata())?;
        let message = request.into_inner();
        let kind = kind(Some(message.kind))?;
        answer(self.handler.handle(from, kind, message.body).await)
    }

    async fn stream(&self, request: Request<Streaming<PeerChunk>>) -> Result<Response<PeerAnswer>, Status> {
        let from = cluster_id(request.metadata())?;
        let number = request.metadata().get(KIND).and_then(|kind| kind.to_str().ok());
        let kind = kind(number.and_then(|number| number.parse().ok()))?;
        let chunks = bodies(request.into_inner());
        answer(self.handler.handle_stream(from, kind, chunks).await)
    }
}

fn answer(answer: Result<Bytes, PeerError>) -> Result<Response<PeerAnswer>, Status> {
    answer
        .map(|body| Response::new(PeerAnswer { body }))
        .map_err(status)
}
