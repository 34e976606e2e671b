//! Streaming to and from pods: exec, attach and port forwarding, as kubelets speak it.
//!
//! `handshake` agrees with the client on WebSocket or SPDY; both carry streams (`channel`), which `remote` and
//! `forward` connect with the runtime. A session ends with its client, its command or its container; each of
//! its queues is bounded, so that a slow side slows the other. Called by the kubelet's HTTP handler.

mod channel;
mod forward;
mod handshake;
mod remote;
mod spdy;
mod websocket;

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use capstan_runtime::{Session, Streams};
use http::{HeaderMap, Response, StatusCode};
use tokio::io::{DuplexStream, duplex};

pub(crate) use self::forward::Target;
pub(crate) use self::remote::Purpose;

/// Bytes that wait in each direction of an upgraded connection.
const CONNECTION_BYTES: usize = 64 << 10;

/// The connection behind an answer of 101, among the answer's extensions; to be taken once.
#[derive(Clone)]
pub struct Upgraded(Arc<Mutex<Option<DuplexStream>>>);

impl Upgraded {
    fn new(stream: DuplexStream) -> Self {
        Self(Arc::new(Mutex::new(Some(stream))))
    }

    /// The connection.
    #[must_use]
    pub fn take(&self) -> Option<DuplexStream> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl std::fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Upgraded")
    }
}

/// An answer: 101 with an [`Upgraded`] connection, or a refusal.
type Answer = Response<String>;

/// Which streams of a container are wanted.
pub(crate) fn streams(query: &HashMap<String, String>) -> Result<Streams, handshake::Refusal> {
    remote::streams(query).map_err(|message| handshake::refusal(StatusCode::BAD_REQUEST, message))
}

/// Serves exec or attach; `begin` makes the session once the client is agreed with.
pub(crate) async fn remote<F>(headers: &HeaderMap, streams: Streams, purpose: Purpose, begin: F) -> Answer
where
    F: Future<Output = capstan_runtime::Result<Session>>,
{
    let (agreed, answer) = match handshake::negotiate(headers, &remote::OFFER) {
        Ok(agreed) => agreed,
        Err(refusal) => return *refusal,
    };
    let session = match begin.await {
        Ok(session) => session,
        Err(error) => Session {
            stdin: None,
            stdout: None,
            stderr: None,
            resize: None,
            exit: Box::pin(async { Err(error) }),
        },
    };
    upgraded(answer, |io| remote::serve(io, agreed, streams, purpose, session))
}

/// Serves port forwarding; `ports` is what the query says.
pub(crate) fn port_forward(headers: &HeaderMap, ports: Option<&str>, target: Target) -> Answer {
    let offer = match ports {
        Some(_) => &forward::OFFER_CHANNELS,
        None => &forward::OFFER,
    };
    let (agreed, answer) = match handshake::negotiate(headers, offer) {
        Ok(agreed) => agreed,
        Err(refusal) => return *refusal,
    };
    let ports = match ports {
        None => Ok(Vec::new()),
        some => forward::ports(some),
    };
    match ports {
        Ok(ports) => upgraded(answer, |io| forward::serve(io, agreed, ports, target)),
        Err(message) => *handshake::refusal(StatusCode::BAD_REQUEST, message),
    }
}

fn upgraded<F>(answer: Response<()>, serve: impl FnOnce(DuplexStream) -> F) -> Answer
where
    F: Future<Output = ()> + Send + 'static,
{
    let (ours, theirs) = duplex(CONNECTION_BYTES);
    tokio::spawn(serve(ours));
    let mut answer = answer.map(|()| String::new());
    answer.extensions_mut().insert(Upgraded::new(theirs));
    answer
}
