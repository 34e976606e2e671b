//! One HTTP/2 connection to one address: made when first needed, and made again when it broke.
//!
//! It tells a request that surely was not sent ([`LinkError::NotSent`]) from one whose fate nobody knows
//! ([`LinkError::Broken`]): only the first may be tried again where it writes. While an address does not answer,
//! requests to it fail at once until the next attempt is due. Called by the remote store and by the transport
//! between members, as the service under tonic's clients.

mod address;
mod connect;

use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use tokio::sync::OwnedMutexGuard;
use tonic::body::Body;

pub(crate) use address::{Address, AddressError};

use crate::tls::ClientTls;

/// The pause after a first failed attempt to connect; doubled by each that follows.
const PAUSE_MIN: Duration = Duration::from_millis(20);

/// Why a request got no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum LinkError {
    /// Surely not delivered.
    #[error("cannot connect to {address}: {reason}")]
    NotSent {
        /// Where to.
        address: String,
        /// Why not.
        reason: String,
    },
    /// It may have been delivered.
    #[error("the connection to {address} broke: {reason}")]
    Broken {
        /// Where to.
        address: String,
        /// How.
        reason: String,
    },
}

impl LinkError {
    /// The link's own error behind a gRPC status, if that is what made it.
    pub(crate) fn of(status: &tonic::Status) -> Option<&Self> {
        let mut source = std::error::Error::source(status);
        while let Some(error) = source {
            if let Some(found) = error.downcast_ref::<Self>() {
                return Some(found);
            }
            source = error.source();
        }
        None
    }
}

/// How to connect.
#[derive(Debug, Clone)]
pub(crate) struct LinkOptions {
    /// How long a connection may take to be made.
    pub(crate) dial_timeout: Duration,
    /// How often a silent connection with calls on it is asked for a sign of life.
    pub(crate) keep_alive_interval: Duration,
    /// How long the sign may take.
    pub(crate) keep_alive_timeout: Duration,
    /// The longest pause between attempts to connect.
    pub(crate) pause_max: Duration,
    /// For `https`.
    pub(crate) tls: ClientTls,
}

type Sender = SendRequest<Body>;

struct Inner {
    address: Address,
    options: LinkOptions,
    live: RwLock<Option<Sender>>,
    dialing: Arc<tokio::sync::Mutex<Backoff>>,
}

#[derive(Default)]
struct Backoff {
    pause: Duration,
    not_before: Option<Instant>,
    reason: String,
}

/// The connection. Clones share it.
#[derive(Clone)]
pub(crate) struct Link(Arc<Inner>);

impl std::fmt::Debug for Link {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Link({})", self.0.address)
    }
}

impl Link {
    /// A link that connects when it is first used.
    pub(crate) fn new(address: Address, options: LinkOptions) -> Self {
        Self(Arc::new(Inner {
            address,
            options,
            live: RwLock::default(),
            dialing: Arc::default(),
        }))
    }

    /// Where it leads.
    pub(crate) fn address(&self) -> &Address {
        &self.0.address
    }

    /// Whether a connection stands.
    pub(crate) fn is_up(&self) -> bool {
        self.0.live().is_some()
    }

    /// Connects, if it is not connected.
    pub(crate) async fn connect(&self) -> Result<(), LinkError> {
        self.0.sender().await.map(|_| ())
    }
}

impl Inner {
    fn live(&self) -> Option<Sender> {
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        live.as_ref().filter(|sender| !sender.is_closed()).cloned()
    }

    async fn sender(self: &Arc<Self>) -> Result<Sender, LinkError> {
        if let Some(sender) = self.live() {
            return Ok(sender);
        }
        let backoff = self.dialing.clone().lock_owned().await;
        if let Some(sender) = self.live() {
            return Ok(sender);
        }
        if backoff.not_before.is_some_and(|at| Instant::now() < at) {
            return Err(self.not_sent(&backoff.reason));
        }
        // A task of its own: whoever waits for the connection may give up before it is made.
        let dialed = tokio::spawn(self.clone().dial(backoff)).await;
        dialed.unwrap_or_else(|error| Err(self.not_sent(&error.to_string())))
    }

    async fn dial(self: Arc<Self>, mut backoff: OwnedMutexGuard<Backoff>) -> Result<Sender, LinkError> {
        match connect::connect(&self.address, &self.options).await {
            Ok(sender) => {
                *backoff = Backoff::default();
                *self.live.write().unwrap_or_else(PoisonError::into_inner) = Some(sender.clone());
                Ok(sender)
            }
            Err(reason) => {
                backoff.pause = (backoff.pause * 2).clamp(PAUSE_MIN, self.options.pause_max);
                backoff.not_before = Some(Instant::now() + backoff.pause);
                backoff.reason = reason;
                Err(self.not_sent(&backoff.reason))
            }
        }
    }

    async fn send(
        self: &Arc<Self>,
        mut request: http::Request<Body>,
    ) -> Result<http::Response<Incoming>, LinkError> {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        match self.address.uri(path) {
            Ok(uri) => *request.uri_mut() = uri,
            Err(error) => return Err(self.not_sent(&error.to_string())),
        }
        // A connection may have ended while it was idle: what was not sent on it goes on a new one.
        for _ in 0..2 {
            let mut sender = self.sender().await?;
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(self.broken(&describe(error.error()))),
                },
            }
        }
        Err(self.not_sent("the connection closed"))
    }

    fn not_sent(&self, reason: &str) -> LinkError {
        LinkError::NotSent {
            address: self.address.to_string(),
            reason: reason.to_owned(),
        }
    }

    fn broken(&self, reason: &str) -> LinkError {
        LinkError::Broken {
            address: self.address.to_string(),
            reason: reason.to_owned(),
        }
    }
}

/// An error with what caused it.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

impl tower::Service<http::Request<Body>> for Link {
    type Response = http::Response<Incoming>;
    type Error = LinkError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let inner = self.0.clone();
        Box::pin(async move { inner.send(request).await })
    }
}
