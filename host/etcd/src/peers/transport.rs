//! The sending side: links to peers, kept and made again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use capstan_store::{Peer, PeerCall, PeerCallKind, PeerChunks, PeerError, PeerTransport};
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status};

use super::{CLUSTER_ID, KIND, MESSAGE_BYTES_MAX};
use crate::link::{Address, Link, LinkError, LinkOptions};
use crate::proto::peer::peer_client::PeerClient;
use crate::proto::peer::{PeerChunk, PeerMessage};
use crate::tls::ClientTls;

/// How long a connection may take to be made.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// A silent connection with a message on it is asked for a sign of life so often, and given up after so long.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest pause between attempts to connect: a peer that is back is found within it.
const DIAL_PAUSE_MAX: Duration = Duration::from_millis(500);
/// Chunks of a stream that wait to be sent.
const CHUNKS_MAX: usize = 2;
/// URLs that are remembered; members that were removed leave theirs behind.
const URLS_MAX: usize = 256;

/// Sends messages to peers at their URLs.
#[derive(Debug)]
pub(crate) struct GrpcPeers {
    options: LinkOptions,
    routes: Mutex<HashMap<String, Route>>,
}

/// The connections to one URL.
#[derive(Debug, Clone)]
struct Route {
    messages: Link,
    streams: Link,
}

impl GrpcPeers {
    /// A transport; `tls` says who this member is to its peers.
    pub(crate) fn new(tls: ClientTls) -> Self {
        Self {
            options: LinkOptions {
                dial_timeout: DIAL_TIMEOUT,
                keep_alive_interval: KEEP_ALIVE_INTERVAL,
                keep_alive_timeout: KEEP_ALIVE_TIMEOUT,
                pause_max: DIAL_PAUSE_MAX,
                tls,
            },
            routes: Mutex::default(),
        }
    }

    /// The ways to a peer, those that stand first.
    fn routes(&self, to: &Peer) -> Result<Vec<Route>, PeerError> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        if routes.len() > URLS_MAX {
            routes.clear();
        }
        let mut found = Vec::new();
        for url in &to.peer_urls {
            if !routes.contains_key(url) {
                let address =
                    Address::parse(url).map_err(|error| PeerError::Unreachable(error.to_string()))?;
                let link = || Link::new(address.clone(), self.options.clone());
                let route = Route {
                    messages: link(),
                    streams: link(),
                };
                routes.insert(url.clone(), route);
            }
            found.extend(routes.get(url).cloned());
        }
        found.sort_by_key(|route| !route.messages.is_up());
        Ok(found)
    }
}

/// Connects to the first that can be reached.
async fn reach(links: Vec<Link>, by: Instant) -> Result<Link, PeerError> {
    let mut error = PeerError::Unreachable("the member has no peer URL".into());
    for link in links {
        match timeout_at(by, link.connect()).await {
            Ok(Ok(())) => return Ok(link),
            Ok(Err(failed)) => error = PeerError::Unreachable(failed.to_string()),
            Err(_) => {
                let told = format!("no connection to {} in time", link.address());
                return Err(PeerError::Unreachable(told));
            }
        }
    }
    Err(error)
}

/// Chunks as they travel. One that could not be read ends the stream without its last word, and so breaks it
/// off.
fn framed(mut chunks: PeerChunks) -> ReceiverStream<PeerChunk> {
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    tokio::spawn(async move {
        while let Some(chunk) = chunks.next().await {
            let body = match chunk {
                Ok(body) => body,
                Err(error) => return tracing::warn!(%error, "a stream to a member is broken off"),
            };
            let chunk = PeerChunk { body, is_last: false };
            if sender.send(chunk).await.is_err() {
                return;
            }
        }
        let body = Bytes::new();
        let _ = sender.send(PeerChunk { body, is_last: true }).await;
    });
    ReceiverStream::new(receiver)
}

fn request<T>(to: &Peer, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Ok(id) = format!("{:x}", to.cluster_id).parse() {
        request.metadata_mut().insert(CLUSTER_ID, id);
    }
    request
}

fn failure(status: &Status) -> PeerError {
    match LinkError::of(status) {
        Some(error @ LinkError::NotSent { .. }) => return PeerError::Unreachable(error.to_string()),
        Some(error @ LinkError::Broken { .. }) => return PeerError::Failed(error.to_string()),
        None => {}
    }
    match status.code() {
        // How the service says that it turned a message away, and whoever is no member of ours.
        Code::FailedPrecondition | Code::Unimplemented => PeerError::Unreachable(status.message().to_owned()),
        _ => PeerError::Failed(status.message().to_owned()),
    }
}

#[async_trait]
impl PeerTransport for GrpcPeers {
    async fn call(&self, to: &Peer, call: PeerCall) -> Result<Bytes, PeerError> {
        let by = Instant::now() + call.deadline;
        let links = self.routes(to)?.into_iter().map(|route| route.messages);
        let link = reach(links.collect(), by).await?;
        let message = PeerMessage {
            kind: call.kind.number().into(),
            body: call.body,
        };
        let mut client = PeerClient::new(link)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
            .max_decoding_message_size(MESSAGE_BYTES_MAX);
        match timeout_at(by, client.call(request(to, message))).await {
            Ok(Ok(answer)) => Ok(answer.into_inner().body),
            Ok(Err(status)) => Err(failure(&status)),
            Err(_) => Err(PeerError::Failed(format!("no answer in {:?}", call.deadline))),
        }
    }

    async fn send_stream(
        &self,
        to: &Peer,
        kind: PeerCallKind,
        chunks: PeerChunks,
    ) -> Result<Bytes, PeerError> {
        let links = self.routes(to)?.into_iter().map(|route| route.streams);
        let link = reach(links.collect(), Instant::now() + DIAL_TIMEOUT).await?;
        let mut request = request(to, framed(chunks));
        request
            .metadata_mut()
            .insert(KIND, MetadataValue::from(u32::from(kind.number())));
        let mut client = PeerClient::new(link).max_encoding_message_size(MESSAGE_BYTES_MAX);
        match client.stream(request).await {
            Ok(answer) => Ok(answer.into_inner().body),
            Err(status) => Err(failure(&status)),
        }
    }
}
